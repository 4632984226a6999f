"""The routing netlink messages that change or ask for the node's links.

The numbers are those of linux/rtnetlink.h, linux/if_link.h and linux/neighbour.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from danmpy.kernel.hostlinks import (
    OWN_GROUP,
    CreateLink,
    IPAddress,
    VxlanAttributes,
)
from danmpy.kernel.rtnl import CHANGE, CREATE, NLM_F_DUMP, NLM_F_REQUEST, attribute, encode

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_GETADDR: Final = 22
RTM_NEWNEIGH: Final = 28
RTM_DELNEIGH: Final = 29
RTM_GETNEIGH: Final = 30
RTM_NEWLINKPROP: Final = 108
RTM_DELLINKPROP: Final = 109

RTEXT_FILTER_SKIP_STATS: Final = 8
IFF_UP: Final = 1

DOOMED_GROUP: Final = OWN_GROUP + 1
"""The link group of what is just being removed."""

IN6_ADDR_GEN_MODE_NONE: Final = 1
_IFLA_AF_SPEC: Final = 26
_IFLA_INET_CONF: Final = 1
_IFLA_INET6_ADDR_GEN_MODE: Final = 8
_RP_FILTER: Final = 8
_ARP_IGNORE: Final = 19
"""linux/ip.h: IPV4_DEVCONF_RP_FILTER and IPV4_DEVCONF_ARP_IGNORE."""

NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800
NUD_NOARP_PERMANENT: Final = 0x40 | 0x80
NTF_SELF: Final = 0x02
ZERO_MAC: Final = "00:00:00:00:00:00"

_Attributes = list[tuple[str, Any]]


def create_link(change: CreateLink, parent: int, master: int) -> bytes:
    """Make a link, down, in our group; `parent` and `master` are indices, 0 for none."""
    data: _Attributes = []
    if change.vlan_id is not None:
        data = [("IFLA_VLAN_ID", change.vlan_id)]
    if change.vxlan is not None:
        data = _vxlan_data(change.vxlan, parent)
    info: _Attributes = [("IFLA_INFO_KIND", change.kind)]
    if data:
        info.append(("IFLA_INFO_DATA", {"attrs": data}))
    attributes: _Attributes = [
        ("IFLA_IFNAME", change.name),
        ("IFLA_MTU", change.mtu),
        ("IFLA_GROUP", OWN_GROUP),
        ("IFLA_LINKINFO", {"attrs": info}),
    ]
    if parent and change.vxlan is None:
        attributes.append(("IFLA_LINK", parent))
    if master:
        attributes.append(("IFLA_MASTER", master))
    return encode(ifinfmsg, RTM_NEWLINK, CREATE, attributes)


def _vxlan_data(vxlan: VxlanAttributes, parent: int) -> _Attributes:
    return [
        ("IFLA_VXLAN_ID", vxlan.vni),
        ("IFLA_VXLAN_LINK", parent),
        ("IFLA_VXLAN_PORT", vxlan.port),
        *_changeable(vxlan, ()),
    ]


def _changeable(vxlan: VxlanAttributes, unset: Iterable[IPAddress]) -> _Attributes:
    data: _Attributes = [("IFLA_VXLAN_LEARNING", int(vxlan.learning))]
    for name, address in (("LOCAL", vxlan.local), ("GROUP", vxlan.group)):
        if address is not None:
            data.append(_address(name, address))
    return data + [_address("GROUP", address) for address in unset]


def _address(name: str, address: IPAddress) -> tuple[str, str]:
    suffix = "" if address.version == 4 else "6"
    return (f"IFLA_VXLAN_{name}{suffix}", str(address))


def change_vxlan(index: int, vxlan: VxlanAttributes, parent: int) -> bytes:
    """Set local address, group and learning of a VXLAN link.

    A group is taken away by setting the unspecified address; the parent is repeated because a
    group goes nowhere without one (drivers/net/vxlan, vxlan_config_validate).
    """
    unset: list[IPAddress] = []
    if vxlan.group is None:
        unset = [ip_address("0.0.0.0" if vxlan.family == 4 else "::")]  # noqa: S104 - no bind
    data = [("IFLA_VXLAN_LINK", parent), *_changeable(vxlan, unset)]
    info = [("IFLA_INFO_KIND", "vxlan"), ("IFLA_INFO_DATA", {"attrs": data})]
    return encode(ifinfmsg, RTM_NEWLINK, CHANGE, [("IFLA_LINKINFO", {"attrs": info})], index=index)


def mark_link(name: str, alias: str) -> bytes:
    """Give a new link its alias and keep the node itself off the tenants' wire.

    Without a link-local address the node answers no IPv6 there (ip link, addrgenmode none). With
    Linux's defaults it would answer ARP for every address that it has anywhere, and take packets
    for them (Documentation/networking/ip-sysctl.rst, arp_ignore and rp_filter).
    """
    inet = attribute(_IFLA_INET_CONF, _u32(_ARP_IGNORE, 1) + _u32(_RP_FILTER, 1))
    inet6 = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    families = attribute(socket.AF_INET, inet) + attribute(socket.AF_INET6, inet6)
    attributes = [("IFLA_IFNAME", name), ("IFLA_IFALIAS", alias)]
    request = encode(ifinfmsg, RTM_NEWLINK, CHANGE, attributes)
    # pyroute2 knows how to read these settings, but not how to write them.
    whole = request + bytes(-len(request) % 4) + attribute(_IFLA_AF_SPEC, families)
    return struct.pack("=I", len(whole)) + whole[4:]


def _u32(number: int, value: int) -> bytes:
    return attribute(number, struct.pack("=I", value))


def set_link(
    index: int,
    *,
    name: str | None = None,
    up: bool | None = None,
    **values: str | int | None,
) -> bytes:
    """Change what is given: `name`, `up`, and mtu, ifalias or master (an index) in `values`."""
    named = {"IFLA_IFNAME": name, **{f"IFLA_{key.upper()}": value for key, value in values.items()}}
    attributes: _Attributes = [(key, value) for key, value in named.items() if value is not None]
    flags = {} if up is None else {"flags": IFF_UP if up else 0, "change": IFF_UP}
    return encode(ifinfmsg, RTM_NEWLINK, CHANGE, attributes, index=index, **flags)


def change_altnames(index: int, kind: int, names: Iterable[str]) -> bytes:
    """Add or remove alternative names: `kind` is RTM_NEWLINKPROP or RTM_DELLINKPROP."""
    inner = [("IFLA_ALT_IFNAME", name) for name in sorted(names)]
    flags = CREATE if kind == RTM_NEWLINKPROP else CHANGE
    return encode(ifinfmsg, kind, flags, [("IFLA_PROP_LIST", {"attrs": inner})], index=index)


def change_flooding(index: int, kind: int, remote: IPAddress) -> bytes:
    """Add or remove one all-zero FDB entry: `kind` is RTM_NEWNEIGH or RTM_DELNEIGH."""
    flags = CHANGE | (NLM_F_CREATE | NLM_F_APPEND if kind == RTM_NEWNEIGH else 0)
    attributes = [("NDA_LLADDR", ZERO_MAC), ("NDA_DST", str(remote))]
    return encode(
        ndmsg,
        kind,
        flags,
        attributes,
        family=socket.AF_BRIDGE,
        ifindex=index,
        state=NUD_NOARP_PERMANENT,
        flags=NTF_SELF,
    )


def remove_link(index: int) -> bytes:
    """Remove the link at `index`."""
    return encode(ifinfmsg, RTM_DELLINK, CHANGE, (), index=index)


def doom_link(index: int) -> bytes:
    """Put a link into the group of what is removed next."""
    return encode(ifinfmsg, RTM_NEWLINK, CHANGE, [("IFLA_GROUP", DOOMED_GROUP)], index=index)


def remove_doomed() -> bytes:
    """Remove all links of that group at once."""
    return encode(ifinfmsg, RTM_DELLINK, CHANGE, [("IFLA_GROUP", DOOMED_GROUP)])


def read_link(name: str) -> bytes:
    """Ask for one link by its name or an alternative name."""
    which = "IFLA_IFNAME" if len(name.encode()) <= 15 else "IFLA_ALT_IFNAME"
    attributes = [(which, name), ("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
    return encode(ifinfmsg, RTM_GETLINK, NLM_F_REQUEST, attributes)


def read_link_at(index: int) -> bytes:
    """Ask for one link by its index."""
    attributes = [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
    return encode(ifinfmsg, RTM_GETLINK, NLM_F_REQUEST, attributes, index=index)


def dump_links() -> bytes:
    """Ask for all links."""
    attributes = [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
    return encode(ifinfmsg, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, attributes)


def dump_addresses() -> bytes:
    """Ask for all addresses."""
    return encode(ifaddrmsg, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, ())


def dump_fdb() -> bytes:
    """Ask for all forwarding entries, those of VXLAN links among them."""
    return encode(ndmsg, RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, (), family=socket.AF_BRIDGE)

"""The kernel's answers about links, addresses and forwarding entries, to values.

A look reads every link of the node, and a link message has some fifty attributes of which a dozen
matter here: so only those are unpacked, instead of building pyroute2's tree for all of them.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Final

from danmpy.kernel.hostlinks import IPAddress, IPInterface, LinkFacts, VxlanAttributes
from danmpy.kernel.rtnl import attributes_of

NLMSG_HEADER_SIZE: Final = 16

_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINK: Final = 5
_IFLA_MASTER: Final = 10
_IFLA_LINKINFO: Final = 18
_IFLA_IFALIAS: Final = 20
_IFLA_GROUP: Final = 27
_IFLA_LINK_NETNSID: Final = 37
_IFLA_PROP_LIST: Final = 52
_IFLA_ALT_IFNAME: Final = 53
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_VLAN_ID: Final = 1
_IFLA_VLAN_PROTOCOL: Final = 5
_IFLA_VXLAN_ID: Final = 1
_IFLA_VXLAN_GROUP: Final = (2, 16)
_IFLA_VXLAN_LINK: Final = 3
_IFLA_VXLAN_LOCAL: Final = (4, 17)
_IFLA_VXLAN_LEARNING: Final = 7
_IFLA_VXLAN_PORT: Final = 15
"""linux/if_link.h; pairs are the IPv4 and the IPv6 attribute."""

_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_FLAGS: Final = 8
_IFA_F_UNUSABLE: Final = 0x08 | 0x20 | 0x40
"""linux/if_addr.h: IFA_F_DADFAILED, IFA_F_DEPRECATED and IFA_F_TENTATIVE."""

_NDA_DST: Final = 1
_NDA_LLADDR: Final = 2
_ZERO_MAC: Final = bytes(6)

_RT_SCOPE_UNIVERSE: Final = 0
_IFF_UP: Final = 1
_ETH_P_8021Q: Final = 0x8100
_IFINFO: Final = struct.Struct("=BxHiII")
_IFADDR: Final = struct.Struct("=BBBBI")
_NDMSG: Final = struct.Struct("=BxxxiHBB")
_ATTRIBUTE: Final = struct.Struct("=HH")
_U32: Final = struct.Struct("=I")

_Attributes = dict[int, bytes]


def link_facts(message: bytes) -> LinkFacts:
    """One link (RTM_NEWLINK), still without addresses and flooding entries."""
    _, _, index, flags, _ = _IFINFO.unpack_from(message, NLMSG_HEADER_SIZE)
    found = attributes_of(message, NLMSG_HEADER_SIZE + _IFINFO.size)
    info = attributes_of(found.get(_IFLA_LINKINFO, b""), 0)
    kind = _text(info, _IFLA_INFO_KIND)
    data = attributes_of(info.get(_IFLA_INFO_DATA, b""), 0) if kind in {"vlan", "vxlan"} else {}
    parent = _number(found, _IFLA_LINK)
    if _IFLA_LINK_NETNSID in found:
        parent = 0  # an index of another namespace
    vxlan = None
    if kind == "vxlan":
        vxlan = _vxlan(data)
        parent = _number(data, _IFLA_VXLAN_LINK)
    return LinkFacts(
        index=index,
        name=_text(found, _IFLA_IFNAME),
        kind=kind,
        alias=_text(found, _IFLA_IFALIAS),
        altnames=frozenset(_alternative_names(found.get(_IFLA_PROP_LIST, b""))),
        mtu=_number(found, _IFLA_MTU),
        up=bool(flags & _IFF_UP),
        group=_number(found, _IFLA_GROUP),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        parent=parent,
        master=_number(found, _IFLA_MASTER),
        vlan_id=_vlan_id(data) if kind == "vlan" else None,
        vxlan=vxlan,
    )


def index_of(message: bytes) -> int:
    """The index in a link message."""
    index: int = _IFINFO.unpack_from(message, NLMSG_HEADER_SIZE)[2]
    return index


def usable_address(message: bytes) -> tuple[int, IPInterface] | None:
    """Link index and address (RTM_NEWADDR) of global scope that can be used now."""
    family, length, flags, scope, index = _IFADDR.unpack_from(message, NLMSG_HEADER_SIZE)
    found = attributes_of(message, NLMSG_HEADER_SIZE + _IFADDR.size)
    if _IFA_FLAGS in found:
        flags = _number(found, _IFA_FLAGS)
    if scope != _RT_SCOPE_UNIVERSE or flags & _IFA_F_UNUSABLE:
        return None
    # On a point-to-point link IFA_ADDRESS is the other end.
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    if packed is None or family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    if family == socket.AF_INET:
        return index, IPv4Interface((packed, length))
    return index, IPv6Interface((packed, length))


def zero_entry(message: bytes) -> tuple[int, IPAddress] | None:
    """Link index and remote of an all-zero forwarding entry (RTM_NEWNEIGH), None for all others."""
    found = attributes_of(message, NLMSG_HEADER_SIZE + _NDMSG.size)
    if found.get(_NDA_LLADDR) != _ZERO_MAC:
        return None
    remote = _ip(found.get(_NDA_DST, b""))
    if remote is None or remote.is_unspecified:
        return None
    return _NDMSG.unpack_from(message, NLMSG_HEADER_SIZE)[1], remote


def _vxlan(data: _Attributes) -> VxlanAttributes:
    return VxlanAttributes(
        vni=_number(data, _IFLA_VXLAN_ID),
        port=int.from_bytes(data.get(_IFLA_VXLAN_PORT, b""), "big"),
        local=_first_address(data, _IFLA_VXLAN_LOCAL),
        group=_first_address(data, _IFLA_VXLAN_GROUP),
        learning=any(data.get(_IFLA_VXLAN_LEARNING, b"")),
    )


def _first_address(data: _Attributes, numbers: tuple[int, int]) -> IPAddress | None:
    for number in numbers:
        address = _ip(data.get(number, b""))
        if address is not None and not address.is_unspecified:
            return address
    return None


def _vlan_id(data: _Attributes) -> int | None:
    """The VID of an 802.1Q link; an 802.1ad one is another wire."""
    protocol = data.get(_IFLA_VLAN_PROTOCOL)
    if protocol is not None and int.from_bytes(protocol, "big") != _ETH_P_8021Q:
        return None
    return struct.unpack_from("=H", data[_IFLA_VLAN_ID])[0] if _IFLA_VLAN_ID in data else None


def _ip(packed: bytes) -> IPAddress | None:
    if len(packed) == 4:
        return IPv4Address(packed)
    return IPv6Address(packed) if len(packed) == 16 else None


def _number(found: _Attributes, number: int) -> int:
    value = found.get(number)
    return _U32.unpack_from(value)[0] if value else 0


def _text(found: _Attributes, number: int) -> str:
    return _decode(found.get(number, b""))


def _decode(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")


def _alternative_names(names: bytes) -> Iterator[str]:
    """The names in a property list. They are attributes of one number: no mapping holds them."""
    offset = 0
    while offset + 4 <= len(names):
        length, _ = _ATTRIBUTE.unpack_from(names, offset)
        yield _decode(names[offset + 4 : offset + length])
        offset += (max(length, 4) + 3) & ~3

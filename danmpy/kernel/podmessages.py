"""The routing netlink messages about a pod: values to requests, the kernel's answers to values."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv6Address
from typing import Final

from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from danmpy.api.limits import IFNAME_MAX_BYTES
from danmpy.kernel.podlinks import POD_GROUP, PodLink, PodLinkFacts, PodRoute, PodRule
from danmpy.kernel.rtnl import (
    CHANGE,
    CREATE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    attribute,
    attributes_of,
    decode,
    pack,
)

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33
RTM_GETRULE: Final = 34
RTN_UNICAST: Final = 1
RTPROT_STATIC: Final = 4
RT_SCOPE_LINK: Final = 253
RTEXT_FILTER_SKIP_STATS: Final = 8
RT_SCOPE_NOWHERE: Final = 255
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE = 1, 4, 5, 6, 15
"""linux/rtnetlink.h; the statistics are two thirds of a link message."""

IP6_RT_PRIO_USER: Final = 1024
"""linux/ipv6_route.h: the metric of an IPv6 route for which none was asked."""

FR_ACT_TO_TBL: Final = 1
FRA_SRC, FRA_TABLE = 2, 15
"""linux/fib_rules.h."""

IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD: Final = 0x02
"""linux/if_addr.h: skip duplicate address detection; leases already decide who has the address."""

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK = 18, 20, 27, 28, 29
IFLA_ALT_IFNAME: Final = 53
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE, VETH_INFO_PEER = 1, 1, 1
MACVLAN_MODE_BRIDGE: Final = 4
IPVLAN_MODE_L2: Final = 0
"""linux/if_link.h, linux/veth.h."""

DOOMED_GROUP: Final = POD_GROUP + 1
"""The link group of what is just being removed."""

IFF_UP: Final = 1

_IFINFOMSG: Final = struct.Struct("=BxHiII")
_IFADDRMSG: Final = struct.Struct("=BBBBI")
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_FIB_RULE_HDR: Final = struct.Struct("=BBBBBBBBI")
_HEADER_SIZE: Final = 16


def read_link(name: str) -> bytes:
    """Ask for one link by name; only alternative names are longer than names can be."""
    mask = _number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    which = IFLA_IFNAME if len(name.encode()) <= IFNAME_MAX_BYTES else IFLA_ALT_IFNAME
    return pack(RTM_GETLINK, NLM_F_REQUEST, _link_header(), _text(which, name), mask)


def read_all(kind: int, family: int = socket.AF_UNSPEC) -> bytes:
    """Ask for everything of one kind."""
    if kind == RTM_GETLINK:
        header = _link_header()
    elif kind == RTM_GETADDR:
        header = _IFADDRMSG.pack(family, 0, 0, 0, 0)
    else:
        header = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    return pack(kind, NLM_F_REQUEST | NLM_F_DUMP, header)


def make_link(link: PodLink, parent_index: int, netns_fd: int) -> tuple[bytes, ...]:
    """Make `link` in the namespace `netns_fd`, asked in the node's own; the first one is it."""
    ours = [
        _text(IFLA_IFNAME, link.name),
        _number(IFLA_NET_NS_FD, netns_fd),
        _number(IFLA_GROUP, POD_GROUP),
    ]
    if link.mac and link.kind != "ipvlan":
        ours.append(attribute(IFLA_ADDRESS, bytes.fromhex(link.mac.replace(":", ""))))
    if link.mtu:
        ours.append(_number(IFLA_MTU, link.mtu))
    if link.kind == "veth":
        return _make_veth(link, parent_index, ours)
    if link.kind == "macvlan":
        mode = _number(IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE)
    else:
        mode = attribute(IFLA_IPVLAN_MODE, struct.pack("=H", IPVLAN_MODE_L2))
    ours += [_number(IFLA_LINK, parent_index), _kind(link.kind, mode)]
    return (pack(RTM_NEWLINK, CREATE, _link_header(), *ours),)


def _make_veth(link: PodLink, bridge_index: int, pod_end: list[bytes]) -> tuple[bytes, ...]:
    ours = [_text(IFLA_IFNAME, link.host_name), _number(IFLA_MASTER, bridge_index)]
    if link.mtu:
        ours.append(_number(IFLA_MTU, link.mtu))
    ours.append(_kind("veth", attribute(VETH_INFO_PEER, _link_header() + b"".join(pod_end))))
    mark = [_text(IFLA_IFNAME, link.host_name), _text(IFLA_IFALIAS, link.host_alias)]
    return (
        pack(RTM_NEWLINK, CREATE, _link_header(up=True), *ours),
        pack(RTM_NEWLINK, CHANGE, _link_header(up=True), *mark),
    )


def _kind(kind: str, data: bytes) -> bytes:
    info = _text(IFLA_INFO_KIND, kind) + attribute(IFLA_INFO_DATA, data)
    return attribute(IFLA_LINKINFO, info)


def bring_up(index: int, alias: str) -> bytes:
    """Set the link up and mark it."""
    header = _link_header(index, up=True)
    return pack(RTM_NEWLINK, CHANGE, header, _text(IFLA_IFALIAS, alias))


def remove_links(indices: tuple[int, ...]) -> tuple[bytes, ...]:
    """Remove links of one namespace.

    Removing a link waits for an RCU grace period, 15 ms and more with the kernel's big lock held;
    links of one group go together and wait once (rtnl_group_dellink in net/core/rtnetlink.c).
    """
    if len(indices) == 1:
        return (pack(RTM_DELLINK, CHANGE, _link_header(indices[0])),)
    group = _number(IFLA_GROUP, DOOMED_GROUP)
    return (
        *(pack(RTM_NEWLINK, CHANGE, _link_header(index), group) for index in indices),
        pack(RTM_DELLINK, CHANGE, _link_header(), group),
    )


def remove_named(name: str) -> bytes:
    """Remove one link by name."""
    return pack(RTM_DELLINK, CHANGE, _link_header(), _text(IFLA_IFNAME, name))


def add_address(index: int, address: str) -> bytes:
    """Give the link an address such as ``10.0.0.5/24``."""
    host, _, length = address.partition("/")
    family, packed = _packed(host)
    attributes = [attribute(IFA_LOCAL, packed), attribute(IFA_ADDRESS, packed)]
    if family == socket.AF_INET6:
        attributes.append(_number(IFA_FLAGS, IFA_F_NODAD))
    header = _IFADDRMSG.pack(family, int(length), 0, 0, index)
    return pack(RTM_NEWADDR, CREATE, header, *attributes)


def add_route(index: int, route: PodRoute) -> bytes:
    """Add a route over the link."""
    scope = 0 if route.gateway else RT_SCOPE_LINK
    rest = (RTPROT_STATIC, scope, RTN_UNICAST, 0)
    return pack(RTM_NEWROUTE, CREATE, *_route(index, route, rest))


def remove_route(index: int, route: PodRoute) -> bytes:
    """Remove a route over the link, whoever made it."""
    return pack(RTM_DELROUTE, CHANGE, *_route(index, route, (0, RT_SCOPE_NOWHERE, 0, 0)))


def _route(index: int, route: PodRoute, rest: tuple[int, int, int, int]) -> tuple[bytes, ...]:
    """Header (`rest`: protocol, scope, type, flags) and attributes of a route message."""
    host, _, text = route.destination.partition("/")
    family, packed = _packed(host)
    length = int(text)
    attributes = [_number(RTA_OIF, index), _number(RTA_TABLE, route.table)]
    if length:
        attributes.append(attribute(RTA_DST, packed))
    if route.gateway:
        attributes.append(attribute(RTA_GATEWAY, _packed(route.gateway)[1]))
    if route.metric:
        attributes.append(_number(RTA_PRIORITY, route.metric))
    return (_RTMSG.pack(family, length, 0, 0, 0, *rest), *attributes)


def add_rule(rule: PodRule) -> bytes:
    """Add a policy rule; the kernel puts it before the main table's."""
    return _rule(rule, RTM_NEWRULE, CREATE)


def remove_rule(rule: PodRule) -> bytes:
    """Remove a policy rule."""
    return _rule(rule, RTM_DELRULE, CHANGE)


def _rule(rule: PodRule, kind: int, flags: int) -> bytes:
    family, packed = _packed(rule.source)
    header = _FIB_RULE_HDR.pack(family, 0, 8 * len(packed), 0, 0, 0, 0, FR_ACT_TO_TBL, 0)
    source = attribute(FRA_SRC, packed)
    return pack(kind, flags, header, source, _number(FRA_TABLE, rule.table))


def _link_header(index: int = 0, *, up: bool = False) -> bytes:
    flag = IFF_UP if up else 0
    return _IFINFOMSG.pack(0, 0, index, flag, flag)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _packed(text: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return family, socket.inet_pton(family, text)


def link_facts(message: bytes) -> PodLinkFacts:
    """A link message as a value."""
    _, _, index, flags, _ = _IFINFOMSG.unpack_from(message, _HEADER_SIZE)
    found = attributes_of(message, _HEADER_SIZE + _IFINFOMSG.size)
    info = attributes_of(found.get(IFLA_LINKINFO, b""), 0)
    return PodLinkFacts(
        name=_read_text(found.get(IFLA_IFNAME, b"")),
        index=index,
        kind=_read_text(info.get(IFLA_INFO_KIND, b"")),
        alias=_read_text(found.get(IFLA_IFALIAS, b"")),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=_read_number(found.get(IFLA_MTU)),
        up=bool(flags & IFF_UP),
        group=_read_number(found.get(IFLA_GROUP)),
    )


def _read_text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")


def _read_number(value: bytes | None) -> int:
    return int(struct.unpack("=I", value)[0]) if value else 0


def address_facts(data: bytes) -> tuple[int, str]:
    """Link index and address with prefix length."""
    message = decode(ifaddrmsg, data)
    local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return message["index"], f"{_canonical(local)}/{message['prefixlen']}"


def route_facts(data: bytes, family: int) -> tuple[int, PodRoute]:
    """Link index (0: none) and route."""
    message = decode(rtmsg, data)
    destination = message.get_attr("RTA_DST")
    if destination is None:
        destination = "0.0.0.0" if family == socket.AF_INET else "::"  # noqa: S104 - a route, not a bind
    gateway = message.get_attr("RTA_GATEWAY")
    metric = message.get_attr("RTA_PRIORITY") or 0
    if family == socket.AF_INET6 and metric == IP6_RT_PRIO_USER:
        metric = 0
    return message.get_attr("RTA_OIF") or 0, PodRoute(
        destination=f"{_canonical(destination)}/{message['dst_len']}",
        gateway=_canonical(gateway) if gateway else None,
        table=message.get_attr("RTA_TABLE") or message["table"],
        metric=metric,
    )


def rule_facts(data: bytes) -> PodRule | None:
    """A rule that goes by one source address; None for the others."""
    message = decode(fibmsg, data)
    source = message.get_attr("FRA_SRC")
    if not source:
        return None
    table = message.get_attr("FRA_TABLE") or message["table"]
    return PodRule(source=_canonical(source), table=table)


def _canonical(text: str) -> str:
    """IPv6 addresses that embed an IPv4 one in the form of `ipaddress`, which ours have."""
    return str(IPv6Address(text)) if ":" in text and "." in text else text

"""The routing netlink messages about a pod: values to requests, the kernel's answers to values."""

from __future__ import annotations

import socket
from typing import Any, Final

from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from danmpy.kernel.podlinks import POD_GROUP, PodLink, PodLinkFacts, PodRoute, PodRule
from danmpy.kernel.rtnl import CHANGE, CREATE, NLM_F_REQUEST, encode

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26
RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33
RTM_GETRULE: Final = 34
RTN_UNICAST: Final = 1
RTPROT_STATIC: Final = 4
RT_SCOPE_LINK: Final = 253
RTEXT_FILTER_SKIP_STATS: Final = 8
"""linux/rtnetlink.h; the statistics are two thirds of a link message."""

FR_ACT_TO_TBL: Final = 1
"""linux/fib_rules.h."""

IFA_F_NODAD: Final = 0x02
"""linux/if_addr.h: skip duplicate address detection; leases already decide who has the address."""

DOOMED_GROUP: Final = POD_GROUP + 1
"""The link group of what is just being removed."""

IFF_UP: Final = 1
MACVLAN_MODE: Final = "bridge"
IPVLAN_MODE_L2: Final = 0

_Attributes = list[tuple[str, Any]]


def read_link(name: str) -> bytes:
    """Ask for one link by name."""
    attributes = [("IFLA_IFNAME", name), ("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
    return encode(ifinfmsg, RTM_GETLINK, NLM_F_REQUEST, attributes)


def make_link(link: PodLink, parent_index: int, netns_fd: int) -> tuple[bytes, ...]:
    """Make `link` in the namespace `netns_fd`, asked in the node's own; the first one is it."""
    ours: _Attributes = [
        ("IFLA_IFNAME", link.name),
        ("IFLA_NET_NS_FD", netns_fd),
        ("IFLA_GROUP", POD_GROUP),
    ]
    if link.mac and link.kind != "ipvlan":
        ours.append(("IFLA_ADDRESS", link.mac))
    if link.mtu:
        ours.append(("IFLA_MTU", link.mtu))
    if link.kind == "veth":
        return _make_veth(link, parent_index, ours)
    data = (
        ("IFLA_MACVLAN_MODE", MACVLAN_MODE)
        if link.kind == "macvlan"
        else ("IFLA_IPVLAN_MODE", IPVLAN_MODE_L2)
    )
    attributes = [*ours, ("IFLA_LINK", parent_index), _kind(link.kind, [data])]
    return (encode(ifinfmsg, RTM_NEWLINK, CREATE, attributes),)


def _make_veth(link: PodLink, bridge_index: int, pod_end: _Attributes) -> tuple[bytes, ...]:
    attributes: _Attributes = [("IFLA_IFNAME", link.host_name), ("IFLA_MASTER", bridge_index)]
    if link.mtu:
        attributes.append(("IFLA_MTU", link.mtu))
    attributes.append(_kind("veth", [("VETH_INFO_PEER", {"attrs": pod_end})]))
    up = {"flags": IFF_UP, "change": IFF_UP}
    alias = [("IFLA_IFNAME", link.host_name), ("IFLA_IFALIAS", link.host_alias)]
    return (
        encode(ifinfmsg, RTM_NEWLINK, CREATE, attributes, **up),
        encode(ifinfmsg, RTM_NEWLINK, CHANGE, alias, **up),
    )


def _kind(kind: str, data: _Attributes) -> tuple[str, Any]:
    inner = [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": data})]
    return ("IFLA_LINKINFO", {"attrs": inner})


def bring_up(index: int, alias: str) -> bytes:
    """Set the link up and mark it."""
    attributes = [("IFLA_IFALIAS", alias)]
    return encode(
        ifinfmsg, RTM_NEWLINK, CHANGE, attributes, index=index, flags=IFF_UP, change=IFF_UP
    )


def remove_links(indices: tuple[int, ...]) -> tuple[bytes, ...]:
    """Remove links of one namespace.

    Removing a link waits for an RCU grace period, 15 ms and more with the kernel's big lock held;
    links of one group go together and wait once (rtnl_group_dellink in net/core/rtnetlink.c).
    """
    if len(indices) == 1:
        return (encode(ifinfmsg, RTM_DELLINK, CHANGE, (), index=indices[0]),)
    group = [("IFLA_GROUP", DOOMED_GROUP)]
    return (
        *(encode(ifinfmsg, RTM_NEWLINK, CHANGE, group, index=index) for index in indices),
        encode(ifinfmsg, RTM_DELLINK, CHANGE, group),
    )


def remove_named(name: str) -> bytes:
    """Remove one link by name."""
    return encode(ifinfmsg, RTM_DELLINK, CHANGE, [("IFLA_IFNAME", name)])


def add_address(index: int, address: str) -> bytes:
    """Give the link an address such as ``10.0.0.5/24``."""
    host, _, length = address.partition("/")
    attributes: _Attributes = [("IFA_LOCAL", host), ("IFA_ADDRESS", host)]
    family = family_of(host)
    if family == socket.AF_INET6:
        attributes.append(("IFA_FLAGS", IFA_F_NODAD))
    return encode(
        ifaddrmsg,
        RTM_NEWADDR,
        CREATE,
        attributes,
        family=family,
        prefixlen=int(length),
        index=index,
    )


def add_route(index: int, route: PodRoute) -> bytes:
    """Add a route over the link."""
    host, _, length = route.destination.partition("/")
    attributes: _Attributes = [("RTA_OIF", index), ("RTA_TABLE", route.table)]
    if int(length):
        attributes.append(("RTA_DST", host))
    if route.gateway:
        attributes.append(("RTA_GATEWAY", route.gateway))
    return encode(
        rtmsg,
        RTM_NEWROUTE,
        CREATE,
        attributes,
        family=family_of(host),
        dst_len=int(length),
        proto=RTPROT_STATIC,
        type=RTN_UNICAST,
        scope=0 if route.gateway else RT_SCOPE_LINK,
    )


def add_rule(rule: PodRule) -> bytes:
    """Add a policy rule; the kernel puts it before the main table's."""
    return _rule(rule, RTM_NEWRULE, CREATE)


def remove_rule(rule: PodRule) -> bytes:
    """Remove a policy rule."""
    return _rule(rule, RTM_DELRULE, CHANGE)


def _rule(rule: PodRule, kind: int, flags: int) -> bytes:
    family = family_of(rule.source)
    return encode(
        fibmsg,
        kind,
        flags,
        [("FRA_SRC", rule.source), ("FRA_TABLE", rule.table)],
        family=family,
        src_len=128 if family == socket.AF_INET6 else 32,
        action=FR_ACT_TO_TBL,
    )


def family_of(text: str) -> int:
    """AF_INET6 for text with a colon, else AF_INET."""
    return socket.AF_INET6 if ":" in text else socket.AF_INET


def link_facts(message: Any) -> PodLinkFacts:
    """A link message as a value."""
    info = message.get_attr("IFLA_LINKINFO")
    return PodLinkFacts(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
        alias=message.get_attr("IFLA_IFALIAS") or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & IFF_UP),
        group=message.get_attr("IFLA_GROUP") or 0,
    )


def address_facts(message: Any) -> tuple[int, str]:
    """Link index and address with prefix length."""
    local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return message["index"], f"{local}/{message['prefixlen']}"


def route_facts(message: Any, family: int) -> tuple[int, PodRoute]:
    """Link index (0: none) and route."""
    destination = message.get_attr("RTA_DST")
    if destination is None:
        destination = "0.0.0.0" if family == socket.AF_INET else "::"  # noqa: S104 - a route, not a bind
    return message.get_attr("RTA_OIF") or 0, PodRoute(
        destination=f"{destination}/{message['dst_len']}",
        gateway=message.get_attr("RTA_GATEWAY"),
        table=message.get_attr("RTA_TABLE") or message["table"],
    )


def rule_facts(message: Any) -> PodRule | None:
    """A rule that goes by one source address; None for the others."""
    source = message.get_attr("FRA_SRC")
    if not source:
        return None
    return PodRule(source=source, table=message.get_attr("FRA_TABLE") or message["table"])

"""A pod's network namespace seen through netlink: links, addresses, routes and rules of one pod.

Links are made by a request in the node's own namespace that names the pod's namespace as target, so
that an interface never exists under its final name outside the pod (rtnetlink(7), IFLA_NET_NS_FD).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address, IPv6Interface
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from danmpy.errors import ConflictError, HostError, NotReadyError
from danmpy.kernel.netns import NetnsId, inside, netns_id, open_netns
from danmpy.kernel.podlinks import (
    PodFacts,
    PodLink,
    PodLinkConfig,
    PodLinkFacts,
    PodRoute,
    PodRule,
)

IFA_F_NODAD = 0x02
"""linux/if_addr.h: skip duplicate address detection; leases already decide who has the address."""

NA_OVERRIDE = 0x20000000
"""RFC 4861, section 4.4: the O flag of a neighbour advertisement."""

TARGET_LINK_LAYER_ADDRESS = b"\x02\x01"
"""RFC 4861, section 4.6.1: option type 2, length 1 (8 bytes)."""

RT_SCOPE_LINK = 253
MACVLAN_MODE = "bridge"
IPVLAN_MODE_L2 = 0
IFF_UP = 1


_thread = threading.local()


def _host() -> Any:
    """This thread's netlink socket in the node's namespace."""
    ipr = getattr(_thread, "ipr", None)
    if ipr is None:
        ipr = IPRoute()
        _thread.ipr = ipr
    return ipr


def _refused(what: str, subject: str, error: NetlinkError) -> HostError:
    words = os.strerror(error.code)
    hint = "see the kernel log of this node"
    if error.code == errno.EOPNOTSUPP:
        hint = "this kernel lacks the link kind; load its module (modprobe ipvlan, macvlan)"
    elif error.code == errno.EBUSY:
        hint = "the parent device is already used by a bridge or by another kind of child"
    return HostError(f"cannot {what}: {words}", hint=hint, subject=subject)


def read_host_links(names: frozenset[str]) -> dict[str, tuple[int, str, int]]:
    """Index, MAC and MTU of those of the node's links called `names` that exist."""
    found: dict[str, tuple[int, str, int]] = {}
    for name in names:
        try:
            answer = _host().link("get", ifname=name)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                continue
            raise _refused(f"read link {name}", name, error) from error
        for message in answer:
            found[name] = (
                message["index"],
                message.get_attr("IFLA_ADDRESS") or "",
                message.get_attr("IFLA_MTU") or 0,
            )
    return found


def remove_host_link(name: str) -> None:
    """Remove one of the node's links; absent is success."""
    try:
        _host().link("del", ifname=name)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise _refused(f"remove link {name}", name, error) from error


class PodNet:
    """The namespace of one pod.

    Its netlink socket stays in the pod's namespace while the thread is at home; only what has no
    netlink (sysctls, neighbour advertisements) makes the thread go inside for a moment. So nothing
    else that the thread does meanwhile, such as opening a connection to the database, can happen in
    the pod's network by mistake.
    """

    def __init__(self, fd: int, ipr: Any) -> None:
        self._fd = fd
        self._ipr = ipr
        self._indices: dict[str, int] = {}

    @property
    def identity(self) -> NetnsId:
        """Device and inode of the namespace."""
        return netns_id(self._fd)

    def read_links(self) -> dict[str, PodLinkFacts]:
        """Every link of the pod by name."""
        facts = [_link_facts(message) for message in self._ipr.link("dump")]
        self._indices = {link.name: link.index for link in facts}
        return {link.name: link for link in facts}

    def add_link(self, link: PodLink, parent_index: int) -> PodLinkFacts:
        """Make `link` in the pod under its final name, still down.

        Raises:
            ConflictError: the pod already has a link of that name.
            NotReadyError: the parent vanished meanwhile.
            HostError: the kernel refused.
        """
        request: dict[str, Any] = {"ifname": link.name, "net_ns_fd": self._fd}
        if link.mac:
            request["address"] = link.mac
        if link.mtu:
            request["mtu"] = link.mtu
        try:
            if link.kind == "veth":
                host_end = {"ifname": link.host_name, "kind": "veth", "master": parent_index}
                if link.mtu:
                    host_end["mtu"] = link.mtu
                _host().link("add", peer=request, state="up", **host_end)
                if link.host_alias:
                    _host().link("set", ifname=link.host_name, ifalias=link.host_alias, state="up")
            elif link.kind == "macvlan":
                _host().link(
                    "add", kind="macvlan", link=parent_index, macvlan_mode=MACVLAN_MODE, **request
                )
            else:
                _host().link(
                    "add", kind="ipvlan", link=parent_index, ipvlan_mode=IPVLAN_MODE_L2, **request
                )
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                raise ConflictError(
                    f"the pod already has an interface called {link.name}",
                    hint="choose another name, or let the runtime make a new sandbox",
                    subject=link.name,
                ) from error
            if error.code == errno.ENODEV:
                raise NotReadyError(
                    f"device {link.parent} vanished while {link.name} was made",
                    hint="the netwatcher makes it again; try again",
                    subject=link.name,
                ) from error
            raise _refused(
                f"make {link.kind} {link.name} on {link.parent}", link.name, error
            ) from error
        facts = _link_facts(self._ipr.link("get", ifname=link.name)[0])
        self._indices[link.name] = facts.index
        return facts

    def configure(self, name: str, config: PodLinkConfig) -> None:
        """Set everything that `config` says on the link `name` and bring it up.

        The IPv6 sysctls are written while the link is down: a router advertisement that arrived
        before them would leave an address that nobody leased (DANM #271).
        """
        index = self._index(name)
        with inside(self._fd):
            _set_sysctls(name, ipv6=config.ipv6)
        try:
            for address in config.addresses:
                self._add_address(index, address)
            self._ipr.link("set", index=index, state="up", ifalias=config.alias)
            self._add_policy(index, config)
        except NetlinkError as error:
            raise _refused(f"configure {name}", name, error) from error

    def add_policy(self, name: str, config: PodLinkConfig) -> None:
        """Add only the routes and rules of `config` to a link that somebody else made.

        Raises:
            HostError: the kernel refused.
        """
        try:
            self._add_policy(self._index(name), config)
        except NetlinkError as error:
            raise _refused(f"add routes to {name}", name, error) from error

    def _add_policy(self, index: int, config: PodLinkConfig) -> None:
        for route in config.routes:
            self._add_route(index, route)
        for rule in config.rules:
            self._add_rule(rule)

    def announce(self, name: str, mac: str, addresses: tuple[str, ...]) -> None:
        """Tell the segment who has the IPv6 addresses now; the kernel did so for IPv4.

        An unsolicited neighbour advertisement with the override flag (RFC 4861, section 7.2.6), one
        an address, best effort. A packet socket would do as well, but closing one waits for an RCU
        grace period: several milliseconds of every pod's start.
        """
        targets = [IPv6Interface(address).ip for address in addresses if ":" in address]
        if not targets:
            return
        hardware = bytes.fromhex(mac.replace(":", ""))
        with inside(self._fd), suppress(OSError):
            _advertise(self._index(name), hardware, targets)

    def remove_link(self, name: str) -> None:
        """Remove a link of the pod; absent is success."""
        try:
            self._ipr.link("del", ifname=name)
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise _refused(f"remove {name}", name, error) from error

    def remove_rules(self, rules: tuple[PodRule, ...]) -> None:
        """Remove policy rules, which outlive the link that they were made for."""
        for rule in rules:
            try:
                self._ipr.rule("del", **_rule_request(rule))
            except NetlinkError as error:
                if error.code not in (errno.ENOENT, errno.ESRCH, errno.EAFNOSUPPORT):
                    raise _refused(f"remove rule from {rule.source}", rule.source, error) from error

    def read(self) -> PodFacts:
        """Everything that CHECK compares, in five dumps."""
        links = self.read_links()
        names = {link.index: link.name for link in links.values()}
        addresses: dict[str, set[str]] = {name: set() for name in links}
        for message in self._ipr.addr("dump"):
            name = names.get(message["index"])
            local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if name and local:
                addresses[name].add(f"{local}/{message['prefixlen']}")
        routes: dict[str, set[PodRoute]] = {name: set() for name in links}
        rules: set[PodRule] = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in self._ipr.route("dump", family=family):
                name = names.get(message.get_attr("RTA_OIF") or 0)
                if name:
                    routes[name].add(_route_facts(message, family))
            rules |= {
                PodRule(source=source, table=message.get_attr("FRA_TABLE") or message["table"])
                for message in self._ipr.rule("dump", family=family)
                if (source := message.get_attr("FRA_SRC"))
            }
        return PodFacts(
            links=links,
            addresses={name: frozenset(items) for name, items in addresses.items()},
            routes={name: frozenset(items) for name, items in routes.items()},
            rules=frozenset(rules),
        )

    def _index(self, name: str) -> int:
        if name not in self._indices:
            self.read_links()
        if name not in self._indices:
            raise HostError(
                f"the pod has no interface {name}", hint="let the runtime try again", subject=name
            )
        return self._indices[name]

    def _add_address(self, index: int, address: str) -> None:
        host, _, length = address.partition("/")
        flags = IFA_F_NODAD if ":" in host else 0
        self._ipr.addr("add", index=index, address=host, prefixlen=int(length), flags=flags)

    def _add_route(self, index: int, route: PodRoute) -> None:
        request: dict[str, Any] = {"dst": route.destination, "oif": index, "table": route.table}
        if route.gateway:
            request["gateway"] = route.gateway
        else:
            request["scope"] = RT_SCOPE_LINK
        if ":" in route.destination:
            request["family"] = socket.AF_INET6
        self._ipr.route("add", **request)

    def _add_rule(self, rule: PodRule) -> None:
        try:
            self._ipr.rule("add", **_rule_request(rule))
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise


_IPV6_SYSCTLS = (
    ("autoconf", "0"),
    ("accept_ra", "0"),
    ("accept_dad", "0"),
    ("ndisc_notify", "1"),
    ("disable_ipv6", "0"),
)


@contextmanager
def enter_pod(path: str) -> Iterator[PodNet]:
    """Open the namespace at `path` for the time of the block.

    Raises:
        WireError: code 8, the namespace is gone or is none.
    """
    fd = open_netns(path)
    try:
        with inside(fd):
            ipr = IPRoute()
        try:
            yield PodNet(fd, ipr)
        finally:
            ipr.close()
    finally:
        os.close(fd)


def _set_sysctls(name: str, *, ipv6: bool) -> None:
    """Write the link's sysctls (kernel: Documentation/networking/ip-sysctl.rst).

    arp_notify=1 lets the kernel send the gratuitous ARP when the link comes up.
    accept_dad=0 spares the link-local address the one to two seconds of duplicate address
    detection; the address is derived from a MAC that is unique on the segment.
    """
    (Path("/proc/sys/net/ipv4/conf") / name / "arp_notify").write_text("1")
    folder = Path("/proc/sys/net/ipv6/conf") / name
    if not folder.exists():
        if ipv6:
            raise HostError(
                "this kernel has no IPv6", hint="boot without ipv6.disable=1", subject=name
            )
        return
    if not ipv6:
        (folder / "disable_ipv6").write_text("1")
        return
    for key, value in _IPV6_SYSCTLS:
        (folder / key).write_text(value)


def _rule_request(rule: PodRule) -> dict[str, Any]:
    version6 = ":" in rule.source
    return {
        "src": rule.source,
        "src_len": 128 if version6 else 32,
        "table": rule.table,
        "family": socket.AF_INET6 if version6 else socket.AF_INET,
    }


def _link_facts(message: Any) -> PodLinkFacts:
    info = message.get_attr("IFLA_LINKINFO")
    return PodLinkFacts(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
        alias=message.get_attr("IFLA_IFALIAS") or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & IFF_UP),
    )


def _route_facts(message: Any, family: int) -> PodRoute:
    destination = message.get_attr("RTA_DST")
    if destination is None:
        destination = "0.0.0.0" if family == socket.AF_INET else "::"  # noqa: S104 - a route, not a bind
    return PodRoute(
        destination=f"{destination}/{message['dst_len']}",
        gateway=message.get_attr("RTA_GATEWAY"),
        table=message.get_attr("RTA_TABLE") or message["table"],
    )


def _advertise(index: int, mac: bytes, addresses: list[IPv6Address]) -> None:
    """Send an unsolicited neighbour advertisement for each address; the kernel adds checksums."""
    for address in addresses:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            raw.bind((str(address), 0, 0, index))
            body = struct.pack("!BBHI", 136, 0, 0, NA_OVERRIDE) + address.packed
            raw.sendto(body + TARGET_LINK_LAYER_ADDRESS + mac, ("ff02::1", 0, 0, index))

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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Interface
from pathlib import Path
from typing import Final

from danmpy.api.limits import IFNAME_MAX_BYTES
from danmpy.errors import ConflictError, DanmpyError, HostError, NotReadyError
from danmpy.kernel import podmessages
from danmpy.kernel.netns import inside, open_netns
from danmpy.kernel.podlinks import (
    HostLinkFacts,
    PodFacts,
    PodLink,
    PodLinkConfig,
    PodLinkFacts,
    PodRoute,
    PodRule,
)
from danmpy.kernel.rtnl import Reply, RtnlSocket

NA_OVERRIDE: Final = 0x20000000
"""RFC 4861, section 4.4: the O flag of a neighbour advertisement."""

TARGET_LINK_LAYER_ADDRESS: Final = b"\x02\x01"
"""RFC 4861, section 4.6.1: option type 2, length 1 (8 bytes)."""

_GONE: Final = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EAFNOSUPPORT})

_HINTS: Final[Mapping[int, str]] = {
    errno.EOPNOTSUPP: "this kernel lacks the link kind; load its module (modprobe ipvlan, macvlan)",
    errno.EBUSY: "the parent is used by a bridge or by another kind of child, or another link on"
    " it has this MAC",
    errno.EADDRINUSE: "another link on the same parent has this MAC",
    errno.ENETUNREACH: "the gateway must be in a subnet of the interface",
    errno.EHOSTUNREACH: "the gateway must be in a subnet of the interface",
    errno.EINVAL: "the network's Options do not suit this kernel or the parent device",
}

_thread = threading.local()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One message, and what to say when it is refused."""

    body: bytes
    what: str
    subject: str


def _host() -> RtnlSocket:
    """This thread's netlink socket in the node's namespace."""
    rtnl: RtnlSocket | None = getattr(_thread, "rtnl", None)
    if rtnl is None:
        rtnl = _thread.rtnl = RtnlSocket()
    return rtnl


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """A broken socket in our words; this thread's own one is opened anew next time."""
    try:
        yield
    except OSError as error:
        rtnl: RtnlSocket | None = getattr(_thread, "rtnl", None)
        if rtnl is not None:
            rtnl.close()
            _thread.rtnl = None
        raise HostError(
            f"cannot {what}: {error.strerror or error}", hint="see the kernel log of this node"
        ) from error


def _refused(what: str, subject: str, reply: Reply) -> HostError:
    hint = _HINTS.get(reply.error, "see the kernel log of this node")
    return HostError(f"cannot {what}: {reply.refusal}", hint=hint, subject=subject)


def read_host_links(names: Collection[str]) -> dict[str, HostLinkFacts]:
    """Those of the node's links that `names`, also alternative ones, are names of.

    Raises:
        HostError: the kernel refused.
    """
    wanted = sorted(names)
    with _translated("read the node's links"):
        replies = _host().ask([podmessages.read_link(name) for name in wanted])
    found: dict[str, HostLinkFacts] = {}
    for name, reply in zip(wanted, replies, strict=True):
        if reply.error == errno.ENODEV:
            continue
        if reply.error and len(name.encode()) > IFNAME_MAX_BYTES:
            continue  # before Linux 5.5 there are no alternative names
        if reply.error:
            raise _refused(f"read link {name}", name, reply)
        facts = podmessages.link_facts(reply.message)
        found[name] = HostLinkFacts(
            ifindex=facts.index,
            mac=facts.mac,
            mtu=facts.mtu,
            kind=facts.kind,
            alias=facts.alias,
            group=facts.group,
        )
    return found


def remove_host_links(names: Sequence[str]) -> None:
    """Remove some of the node's links; absent is success.

    Raises:
        HostError: the kernel refused; the others are removed all the same.
    """
    with _translated("remove links of the node"):
        replies = _host().ask([podmessages.remove_named(name) for name in names])
    for name, reply in zip(names, replies, strict=True):
        if reply.error not in {0, errno.ENODEV}:
            raise _refused(f"remove link {name}", name, reply)


class PodNet:
    """The namespace of one pod.

    Its netlink socket stays in the pod's namespace while the thread is at home; only what has no
    netlink (sysctls, neighbour advertisements) makes the thread go inside for a moment. So nothing
    else that the thread does meanwhile, such as opening a connection to the database, can happen in
    the pod's network by mistake.
    """

    def __init__(self, fd: int, rtnl: RtnlSocket) -> None:
        self._fd = fd
        self._rtnl = rtnl
        self._links: dict[str, PodLinkFacts] = {}

    @property
    def cookie(self) -> int:
        """Tells this namespace from every other one since boot; 0 where the kernel has none.

        The inode does not: it is given again when a namespace is gone (proc_alloc_inum).
        """
        return self._rtnl.cookie

    def read_links(self) -> dict[str, PodLinkFacts]:
        """Every link of the pod by name."""
        with _translated("read the pod's links"):
            messages = self._dump(podmessages.RTM_GETLINK)
        facts = map(podmessages.link_facts, messages)
        self._links = {link.name: link for link in facts}
        return dict(self._links)

    def add_links(self, links: Sequence[tuple[PodLink, int]]) -> tuple[PodLinkFacts, ...]:
        """Make links in the pod under their final names, still down; each with its parent's index.

        Raises:
            ConflictError: the pod already has a link of that name.
            NotReadyError: the parent vanished meanwhile.
            HostError: the kernel refused. Some of the links may have been made.
        """
        requests: list[bytes] = []
        owners: list[PodLink] = []
        for link, parent_index in links:
            bodies = podmessages.make_link(link, parent_index, self._fd)
            requests += bodies
            owners += [link] * len(bodies)
        with _translated("make links"):
            replies = _host().ask(requests)
        for link, reply in zip(owners, replies, strict=True):
            if reply.error:
                raise _not_made(link, reply)
        with _translated("read the pod's links"):
            replies = self._rtnl.ask([podmessages.read_link(link.name) for link, _ in links])
        made: list[PodLinkFacts] = []
        for (link, _), reply in zip(links, replies, strict=True):
            if reply.error:
                raise _refused(f"find {link.name} after it was made", link.name, reply)
            made.append(podmessages.link_facts(reply.message))
        self._links.update((facts.name, facts) for facts in made)
        return tuple(made)

    def configure_all(self, configs: Mapping[str, PodLinkConfig]) -> None:
        """Set everything that `configs` says on the links of these names, and bring them up.

        The IPv6 sysctls are written while the links are down: a router advertisement that arrived
        before them would leave an address that nobody leased (DANM #271).

        Raises:
            HostError: the kernel refused, with the setting and the kernel's words.
        """
        indices = {name: self._index(name) for name in configs}
        with inside(self._fd):
            for name, config in configs.items():
                _set_sysctls(name, ipv6=config.ipv6)
        requests: list[_Request] = []
        for name, config in configs.items():
            requests += _settings(name, indices[name], config)
        self._apply(requests)

    def adopt(self, name: str, config: PodLinkConfig, *, settle_ipv6: bool) -> None:
        """Add the routes and rules of `config` to a link that somebody else made and set up.

        A route that is there already just so is left as it is. With `settle_ipv6` the link's IPv6
        sysctls are set too, and IPv6 is taken away from a link that is to have none.

        Raises:
            HostError: the kernel refused.
        """
        index = self._index(name)
        if settle_ipv6:
            with inside(self._fd):
                _set_sysctls(name, ipv6=config.ipv6)
        if not config.routes and not config.rules:
            return
        there = self.read().routes[name]
        missing = [route for route in config.routes if route not in there]
        self._apply(_policy(name, index, missing, config.rules))

    def announce(self, addresses: Mapping[str, tuple[str, ...]]) -> None:
        """Tell the segments who has the IPv6 addresses now; the kernel did so for IPv4.

        An unsolicited neighbour advertisement with the override flag (RFC 4861, section 7.2.6), one
        an address, best effort. A packet socket would do as well, but closing one waits for an RCU
        grace period: several milliseconds of every pod's start.
        """
        targets = [
            (self._links[name], IPv6Interface(address).ip)
            for name, items in addresses.items()
            for address in items
            if ":" in address
        ]
        if not targets:
            return
        with inside(self._fd), suppress(OSError):
            for link, address in targets:
                _advertise(link.index, bytes.fromhex(link.mac.replace(":", "")), address)

    def remove_links(self, names: Collection[str], alias: str = "") -> None:
        """Remove the links called `names`, and those that carry `alias` under another name; absent
        is success.

        Raises:
            HostError: the kernel refused.
        """
        doomed = tuple(
            link.index
            for link in self.read_links().values()
            if link.name in names or (alias and link.alias == alias)
        )
        if not doomed:
            return
        with _translated("remove the pod's links"):
            replies = self._rtnl.ask(podmessages.remove_links(doomed))
        for reply in replies:
            if reply.error and reply.error not in _GONE:
                raise _refused("remove the pod's links", ", ".join(sorted(names)), reply)

    def remove_rules(self, rules: Sequence[PodRule]) -> None:
        """Remove policy rules, which outlive the link that they were made for; absent is success.

        Raises:
            HostError: the kernel refused.
        """
        with _translated("remove policy rules"):
            replies = self._rtnl.ask([podmessages.remove_rule(rule) for rule in rules])
        for rule, reply in zip(rules, replies, strict=True):
            if reply.error and reply.error not in _GONE:
                raise _refused(f"remove the rule from {rule.source}", rule.source, reply)

    def change_routes(
        self, gone: Sequence[tuple[str, PodRoute]], new: Sequence[tuple[str, PodRoute]]
    ) -> None:
        """Remove routes, then add others; each with the name of its link.

        One that is gone already is a success, since the kernel may have taken it meanwhile.

        Raises:
            HostError: the kernel refused.
        """
        requests = [podmessages.remove_route(self._index(name), route) for name, route in gone]
        with _translated("remove routes of the pod"):
            replies = self._rtnl.ask(requests)
        for (name, route), reply in zip(gone, replies, strict=True):
            if reply.error and reply.error not in _GONE:
                what = f"remove the route to {route.destination} over {name}"
                raise _refused(what, name, reply)
        for name, route in new:
            self._apply(_policy(name, self._index(name), [route], ()))

    def read(self) -> PodFacts:
        """Everything that CHECK compares, in six dumps.

        Raises:
            HostError: the kernel refused.
        """
        links = self.read_links()
        names = {link.index: link.name for link in links.values()}
        addresses: dict[str, set[str]] = {name: set() for name in links}
        routes: dict[str, set[PodRoute]] = {name: set() for name in links}
        rules: set[PodRule] = set()
        with _translated("read the pod's addresses and routes"):
            for message in self._dump(podmessages.RTM_GETADDR):
                index, address = podmessages.address_facts(message)
                if index in names:
                    addresses[names[index]].add(address)
            for family in (socket.AF_INET, socket.AF_INET6):
                for message in self._dump(podmessages.RTM_GETROUTE, family):
                    index, route = podmessages.route_facts(message, family)
                    if index in names:
                        routes[names[index]].add(route)
                found = self._dump(podmessages.RTM_GETRULE, family)
                rules |= {rule for rule in map(podmessages.rule_facts, found) if rule}
        return PodFacts(
            links=links,
            addresses={name: frozenset(items) for name, items in addresses.items()},
            routes={name: frozenset(items) for name, items in routes.items()},
            rules=frozenset(rules),
        )

    def _dump(self, kind: int, family: int = socket.AF_UNSPEC) -> list[bytes]:
        try:
            return self._rtnl.dump_bytes(podmessages.read_all(kind, family))
        except OSError as error:
            if error.errno in {errno.EAFNOSUPPORT, errno.EOPNOTSUPP}:
                return []  # a kernel without IPv6, or without policy routing
            raise

    def _index(self, name: str) -> int:
        if name not in self._links:
            self.read_links()
        if name not in self._links:
            raise HostError(
                f"the pod has no interface {name}", hint="let the runtime try again", subject=name
            )
        return self._links[name].index

    def _apply(self, requests: Sequence[_Request]) -> None:
        with _translated("configure the pod's links"):
            replies = self._rtnl.ask([request.body for request in requests])
        for request, reply in zip(requests, replies, strict=True):
            if reply.error:
                raise _refused(request.what, request.subject, reply)


@contextmanager
def enter_pod(path: str) -> Iterator[PodNet]:
    """Open the namespace at `path` for the time of the block.

    Raises:
        WireError: code 8, the namespace is gone or is none.
        HostError: this process cannot look into it.
    """
    fd = open_netns(path)
    try:
        with inside(fd), _translated("open a netlink socket in the pod"):
            rtnl = RtnlSocket()
        try:
            yield PodNet(fd, rtnl)
        finally:
            rtnl.close()
    finally:
        os.close(fd)


def _not_made(link: PodLink, reply: Reply) -> DanmpyError:
    if reply.error == errno.EEXIST:
        return ConflictError(
            f"the pod already has an interface called {link.name}",
            hint="choose another name, or let the runtime make a new sandbox",
            subject=link.name,
        )
    if reply.error == errno.ENODEV:
        return NotReadyError(
            f"device {link.parent} vanished while {link.name} was made",
            hint="the netwatcher makes it again; try again",
            subject=link.name,
        )
    return _refused(f"make {link.kind} {link.name} on {link.parent}", link.name, reply)


def _settings(name: str, index: int, config: PodLinkConfig) -> list[_Request]:
    """Addresses, then up, then what needs the link up."""
    requests = [
        _Request(
            body=podmessages.add_address(index, address),
            what=f"add address {address} to {name}",
            subject=name,
        )
        for address in config.addresses
    ]
    up = podmessages.bring_up(index, config.alias)
    requests.append(_Request(body=up, what=f"bring {name} up", subject=name))
    return requests + _policy(name, index, config.routes, config.rules)


def _policy(
    name: str, index: int, routes: Sequence[PodRoute], rules: Sequence[PodRule]
) -> list[_Request]:
    requests = [
        _Request(
            body=podmessages.add_route(index, route),
            what=f"route {route.destination} via {route.gateway or 'the link'} over {name}"
            f" in table {route.table}",
            subject=name,
        )
        for route in routes
    ]
    return requests + [
        _Request(
            body=podmessages.add_rule(rule),
            what=f"add the rule from {rule.source} into table {rule.table}",
            subject=name,
        )
        for rule in rules
    ]


_IPV6_SYSCTLS: Final = (
    ("autoconf", b"0"),
    ("accept_ra", b"0"),
    ("accept_dad", b"0"),
    ("ndisc_notify", b"1"),
    ("disable_ipv6", b"0"),
)


def _set_sysctls(name: str, *, ipv6: bool) -> None:
    """Write the link's sysctls (kernel: Documentation/networking/ip-sysctl.rst).

    arp_notify=1 lets the kernel send the gratuitous ARP when the link comes up.
    accept_dad=0 spares the link-local address the one to two seconds of duplicate address
    detection; the address is derived from a MAC that is unique on the segment.
    """
    folder = f"ipv6/conf/{name}"
    try:
        _write(f"ipv4/conf/{name}/arp_notify", b"1")
        if not Path(_SYSCTLS, folder).is_dir():
            if ipv6:
                raise HostError(
                    "this kernel has no IPv6", hint="boot without ipv6.disable=1", subject=name
                )
            return
        for key, value in _IPV6_SYSCTLS if ipv6 else (("disable_ipv6", b"1"),):
            _write(f"{folder}/{key}", value)
    except OSError as error:
        raise HostError(
            f"cannot set {error.filename} of the pod: {error.strerror}",
            hint=f"{_SYSCTLS} must be writable for the node daemon; in a container that is not "
            f"privileged, mount the host's as {_SYSCTLS_OF_HOST}",
            subject=name,
        ) from error


_SYSCTLS: Final = "/proc/sys/net"

_SYSCTLS_OF_HOST: Final = "/host/proc/sys/net"
"""Where the DaemonSet mounts the host's. A container may only read its own /proc/sys unless it is
privileged; both show the namespace of the thread that looks."""


def _write(sysctl: str, value: bytes) -> None:
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        fd = os.open(f"{_SYSCTLS}/{sysctl}", flags)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        fd = os.open(f"{_SYSCTLS_OF_HOST}/{sysctl}", flags)
    try:
        os.write(fd, value)
    finally:
        os.close(fd)


def _advertise(index: int, mac: bytes, address: IPv6Address) -> None:
    """Send one unsolicited neighbour advertisement; the kernel adds the checksum."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        raw.bind((str(address), 0, 0, index))
        body = struct.pack("!BBHI", 136, 0, 0, NA_OVERRIDE) + address.packed
        raw.sendto(body + TARGET_LINK_LAYER_ADDRESS + mac, ("ff02::1", 0, 0, index))

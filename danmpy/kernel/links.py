"""The node's links through netlink: reading all of them, changing one, hearing of changes.

Every change is a few requests on one socket; nothing forks.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, assert_never

import structlog

from danmpy.errors import HostError
from danmpy.kernel import linkanswers as answers
from danmpy.kernel import linkmessages as messages
from danmpy.kernel.hostlinks import (
    ChangeAltnames,
    ChangeFlooding,
    ChangeLink,
    CreateLink,
    HostFacts,
    IPAddress,
    IPInterface,
    LinkChange,
    LinkFacts,
    LinkKindError,
    RemoveLink,
    VxlanAttributes,
)
from danmpy.kernel.rtnl import BATCH, Reply, RtnlSocket

_log = structlog.get_logger(__name__)

_MODULES: Final[Mapping[str, str]] = {"vlan": "8021q"}
"""Kinds whose module has another name (the kernel asks for ``rtnl-link-KIND`` itself)."""

_HINTS: Final[Mapping[int, str]] = {
    errno.EADDRINUSE: "another program or VXLAN link holds that UDP port",
    errno.EBUSY: "the device is in use in a way that excludes this; see `ip -d link`",
    errno.EEXIST: "a link with that name, VLAN id or VNI is there; see `ip -d link`",
    errno.EINVAL: "the values do not suit this kernel or the parent device",
    errno.ENETDOWN: "the parent device is down",
    errno.ENOBUFS: "with multicast flooding a node joins 20 groups unless "
    "sysctl net.ipv4.igmp_max_memberships says more: raise it, or use unicast flooding",
    errno.ENODEV: "a device vanished meanwhile; the next look tries again",
    errno.EPERM: "run the daemon as root, or with CAP_NET_ADMIN in the host's namespace",
    errno.ERANGE: "the id or the MTU is beyond what the parent device takes",
}

_MONITOR_GROUPS: Final = 0x1 | 0x10 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR (linux/rtnetlink.h)."""

_RECEIVE_BYTES: Final = 64 * 1024
_SO_RCVBUF_BYTES: Final = 1024 * 1024


class HostLinks:
    """All links of the namespace in which it was made. Threads may share it.

    Raises:
        HostError: the kernel gives us no netlink socket.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        with _translated("open a netlink socket"):
            self._rtnl = RtnlSocket()

    def close(self) -> None:
        """Give the socket back."""
        with self._lock:
            self._rtnl.close()

    def read(self) -> HostFacts:
        """Every link with its usable addresses and flooding entries, in three dumps.

        Raises:
            HostError: the kernel refused.
        """
        with self._lock, _translated("read the links of this node"):
            links = self._rtnl.dump_bytes(messages.dump_links())
            addresses = self._rtnl.dump_bytes(messages.dump_addresses())
            entries = self._rtnl.dump_bytes(messages.dump_fdb())
        on_link: dict[int, list[IPInterface]] = defaultdict(list)
        for index, address in filter(None, map(answers.usable_address, addresses)):
            on_link[index].append(address)
        flooding: dict[int, set[IPAddress]] = defaultdict(set)
        for index, remote in filter(None, map(answers.zero_entry, entries)):
            flooding[index].add(remote)
        return HostFacts(
            links=tuple(
                _complete(facts, on_link, flooding) for facts in map(answers.link_facts, links)
            )
        )

    def apply(self, change: LinkChange) -> None:
        """Make one change, whole.

        Raises:
            LinkKindError: this kernel has no links of that kind.
            HostError: the kernel refused, in its own words.
        """
        with self._lock, _translated(f"change {change.name}"):
            match change:
                case CreateLink():
                    self._create(change)
                case ChangeLink():
                    self._change(change)
                case ChangeAltnames():
                    self._change_altnames(change)
                case ChangeFlooding():
                    self._change_flooding(change)
                case RemoveLink():
                    self._remove(change)
                case _:
                    assert_never(change)

    def remove_links(self, changes: Sequence[RemoveLink]) -> None:
        """Remove many links in one go; absent is success.

        Each removal waits for an RCU grace period, some 20 ms; links of one group go together and
        wait once (net/core/rtnetlink.c, rtnl_group_dellink).

        Raises:
            HostError: some are still there; each can be tried by itself.
        """
        with self._lock, _translated("remove links"):
            indexed = [change for change in changes if change.index]
            for start in range(0, len(indexed), BATCH - 1):
                self._remove_together(indexed[start : start + BATCH - 1])
            for change in changes:
                if not change.index:
                    self._remove(change)

    def _remove_together(self, changes: Sequence[RemoveLink]) -> None:
        """In one system call: a daemon that is killed must leave none in the group, because the
        next removal would take it along though it may be wanted again by then."""
        doomed = [messages.doom_link(change.index) for change in changes]
        *replies, removed = self._rtnl.ask([*doomed, messages.remove_doomed()])
        if any(not reply.error for reply in replies):
            _require(removed, "remove links", "")
        for change, reply in zip(changes, replies, strict=True):
            if reply.error != errno.ENODEV:
                _require(reply, f"remove {change.name}", change.name)

    def _create(self, change: CreateLink) -> None:
        """Make the link and mark it; one that cannot be marked is taken away again."""
        what = f"make {change.kind} {change.name}"
        on = f" on {change.parent}" if change.parent else ""
        parent = self._index(change.parent, what) if change.parent else 0
        master = self._index(change.master, what) if change.master else 0
        reply = self._ask(messages.create_link(change, parent, master))
        if reply.error == errno.EOPNOTSUPP:
            module = _MODULES.get(change.kind, change.kind)
            raise LinkKindError(
                f"cannot {what}{on}: {reply.refusal}",
                hint=f"this kernel has no {change.kind} links: modprobe {module}, or use a kernel "
                "that has them",
                subject=change.name,
            )
        _require(reply, what + on, change.name)
        reply = self._ask(messages.mark_link(change.name, change.alias))
        if reply.error:
            index = self._find(change.name)
            if index:
                self._ask(messages.remove_link(index))
            _require(reply, f"mark {change.name}", change.name)

    def _change(self, change: ChangeLink) -> None:
        index = self._target(change)
        if change.rename is not None:
            self._rename(index, change.name, change.rename)
        master = self._index(change.master, f"change {change.name}") if change.master else None
        if change.vxlan is not None:
            self._change_vxlan(index, change.name, change.vxlan)
        wanted = messages.set_link(
            index,
            up=change.up,
            mtu=change.mtu,
            ifalias=change.alias,
            master=0 if change.master == "" else master,
        )
        _require(self._ask(wanted), f"change {change.name}", change.name)

    def _rename(self, index: int, name: str, new: str) -> None:
        """Before Linux 6.2 only a link that is down can be renamed (net/core/dev.c)."""
        reply = self._ask(messages.set_link(index, name=new))
        if reply.error == errno.EBUSY:
            self._ask(messages.set_link(index, up=False))
            reply = self._ask(messages.set_link(index, name=new))
            self._ask(messages.set_link(index, up=True))
        _require(reply, f"rename {name} to {new}", name)

    def _change_vxlan(self, index: int, name: str, vxlan: VxlanAttributes) -> None:
        """Change tunnel settings; groups are joined only when a link goes up (vxlan_open)."""
        facts = self._facts(index)
        request = messages.change_vxlan(index, vxlan, facts.parent)
        regroup = facts.up and facts.vxlan is not None and facts.vxlan.group != vxlan.group
        if regroup:
            self._ask(messages.set_link(index, up=False))
        reply = self._ask(request)
        risen = self._ask(messages.set_link(index, up=True)) if regroup else Reply()
        for each in (reply, risen):
            _require(each, f"change the tunnels of {name}", name)

    def _change_altnames(self, change: ChangeAltnames) -> None:
        index = self._target(change)
        what = f"change the alternative names of {change.name}"
        # The kernel stops at the first name that it has not, so each goes by itself.
        for name in sorted(change.remove):
            reply = self._ask(messages.change_altnames(index, messages.RTM_DELLINKPROP, [name]))
            if reply.error not in {errno.ENOENT, errno.EINVAL}:
                _require(reply, what, change.name)
        if change.add:
            reply = self._ask(messages.change_altnames(index, messages.RTM_NEWLINKPROP, change.add))
            _require(reply, what, change.name)

    def _change_flooding(self, change: ChangeFlooding) -> None:
        index = self._target(change)
        removed = [
            messages.change_flooding(index, messages.RTM_DELNEIGH, remote)
            for remote in change.remove
        ]
        added = [
            messages.change_flooding(index, messages.RTM_NEWNEIGH, remote) for remote in change.add
        ]
        what = f"change the flooding of {change.name}"
        for reply in self._rtnl.ask(removed):
            if reply.error != errno.ENOENT:
                _require(reply, what, change.name)
        for reply in self._rtnl.ask(added):
            if reply.error != errno.EEXIST:
                _require(reply, what, change.name)

    def _remove(self, change: RemoveLink) -> None:
        index = change.index or self._find(change.name)
        if not index:
            return
        reply = self._ask(messages.remove_link(index))
        if reply.error != errno.ENODEV:
            _require(reply, f"remove {change.name}", change.name)

    def _target(self, change: ChangeLink | ChangeAltnames | ChangeFlooding) -> int:
        return change.index or self._index(change.name, f"change {change.name}")

    def _index(self, name: str, what: str) -> int:
        index = self._find(name)
        if not index:
            raise HostError(
                f"cannot {what}: there is no device {name}",
                hint="it vanished meanwhile; the next look tries again",
                subject=name,
            )
        return index

    def _find(self, name: str) -> int:
        """The index of the link of that name or alternative name, 0 for none."""
        reply = self._ask(messages.read_link(name))
        if reply.error == errno.ENODEV:
            return 0
        _require(reply, f"find {name}", name)
        return answers.index_of(reply.message)

    def _facts(self, index: int) -> LinkFacts:
        reply = self._ask(messages.read_link_at(index))
        _require(reply, f"read link {index}", str(index))
        return answers.link_facts(reply.message)

    def _ask(self, request: bytes) -> Reply:
        return self._rtnl.ask([request])[0]


class LinkMonitor:
    """Calls `on_change` whenever links or addresses of its namespace change, until closed.

    What changed is not told: whoever listens looks at everything again. When the kernel had more
    to say than fitted (ENOBUFS), that too is a reason to look.

    Raises:
        HostError: the kernel gives us no netlink socket.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        with _translated("listen to the kernel's link events"):
            self._events = _open_events()
        self._wake, self._alarm = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="link-monitor", daemon=True)

    def start(self) -> None:
        """Begin to listen; what changed since it was made is reported too."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Does it listen?"""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop listening."""
        self._alarm.send(b"x")
        if self._thread.ident is not None:
            self._thread.join()
        for each in (self._wake, self._alarm, self._events):
            each.close()

    def _run(self) -> None:
        poll = select.poll()  # select(2) ends at file descriptor 1023
        poll.register(self._events, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._wake.fileno() in ready:
                return
            self._drain()
            self._on_change()

    def _drain(self) -> None:
        """Take everything that is there: many events are one reason."""
        while True:
            try:
                self._events.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    _log.warning("link events", error=str(error))
                    return


def _open_events() -> socket.socket:
    events = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    try:
        events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SO_RCVBUF_BYTES)
        events.bind((0, _MONITOR_GROUPS))
    except OSError:
        events.close()
        raise
    return events


def _complete(
    facts: LinkFacts,
    addresses: Mapping[int, Sequence[IPInterface]],
    flooding: Mapping[int, set[IPAddress]],
) -> LinkFacts:
    group = facts.vxlan.group if facts.vxlan else None
    return replace(
        facts,
        addresses=tuple(addresses.get(facts.index, ())),
        flooding=frozenset(flooding.get(facts.index, set()) - {group}),
    )


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(
            f"cannot {what}: {error.strerror or error}", hint="see the kernel log of this node"
        ) from error


def _require(reply: Reply, what: str, subject: str) -> None:
    if reply.error:
        hint = _HINTS.get(reply.error, f"errno {errno.errorcode.get(reply.error, reply.error)}")
        raise HostError(f"cannot {what}: {reply.refusal}", hint=hint, subject=subject)

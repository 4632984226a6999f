"""A host made of values: links that behave as the kernel's do, as far as the netwatcher can see.

What it promises is written down in tests/kernel/test_links.py, which runs the same tests on this
and on the real kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any, assert_never

from danmpy.errors import HostError
from danmpy.kernel.hostlinks import (
    OWN_GROUP,
    ChangeAltnames,
    ChangeFlooding,
    ChangeLink,
    CreateLink,
    HostFacts,
    LinkChange,
    LinkFacts,
    LinkKindError,
    RemoveLink,
)

ALL_KINDS = frozenset({"vlan", "vxlan", "bridge"})


class FakeHost:
    """Links in memory; `applied` remembers every change that succeeded, in order.

    `kinds` are those that this kernel knows. `broken` may raise for a change, as a kernel that
    refuses would; `unreadable` is raised by `read`.
    """

    def __init__(self, kinds: Iterable[str] = ALL_KINDS) -> None:
        self.kinds = frozenset(kinds)
        self.applied: list[LinkChange] = []
        self.broken: Callable[[LinkChange], None] = lambda change: None
        self.unreadable: HostError | None = None
        self._links: dict[int, LinkFacts] = {}
        self._indices = itertools.count(1)
        self.put("lo", up=True, mtu=65536)

    # The port.

    def read(self) -> HostFacts:
        if self.unreadable is not None:
            raise self.unreadable
        return HostFacts(links=tuple(self._links.values()))

    def apply(self, change: LinkChange) -> None:
        self.broken(change)
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
                link = self._links.get(change.index) if change.index else self._named(change.name)
                if link is not None:
                    self._delete(link)
            case _:
                assert_never(change)
        self.applied.append(change)

    def remove_links(self, changes: Sequence[RemoveLink]) -> None:
        for change in changes:
            self.apply(change)

    # By hand: what a person does with ip(8), without our rules.

    def put(self, name: str, /, *, addresses: Iterable[str] = (), **values: Any) -> LinkFacts:
        """Add a link as it is; `values` are fields of LinkFacts."""
        values.setdefault("index", next(self._indices))
        facts = LinkFacts(name=name, addresses=tuple(map(ip_interface, addresses)), **values)
        self._links[facts.index] = facts
        return facts

    def alter(self, name: str, /, **values: Any) -> LinkFacts:
        """Change fields of a link as they are."""
        link = self._need(name)
        self._links[link.index] = replace(link, **values)
        self._follow(self._links[link.index])
        return self._links[link.index]

    def drop(self, name: str) -> None:
        """Delete a link, with what stands on it."""
        self._delete(self._need(name))

    def link(self, name: str) -> LinkFacts:
        """The link of that name, which must be there."""
        return self._need(name)

    # The kernel.

    def _named(self, name: str) -> LinkFacts | None:
        return self._facts().named(name)

    def _facts(self) -> HostFacts:
        return HostFacts(links=tuple(self._links.values()))

    def _need(self, name: str, index: int = 0) -> LinkFacts:
        link = self._links.get(index) if index else self._named(name)
        if link is None:
            raise _refusal("No such device", name)
        return link

    def _create(self, change: CreateLink) -> None:
        if change.kind not in self.kinds:
            raise LinkKindError("Unknown device type", hint="modprobe", subject=change.name)
        parent = self._need(change.parent) if change.parent else None
        master = self._need(change.master) if change.master else None
        if self._named(change.name) is not None:
            raise _refusal("File exists", change.name)
        made = LinkFacts(
            index=0,
            name=change.name,
            kind=change.kind,
            alias=change.alias,
            mtu=change.mtu,
            group=OWN_GROUP,
            parent=parent.index if parent else 0,
            master=master.index if master else 0,
            vlan_id=change.vlan_id,
            vxlan=change.vxlan,
        )
        if any(_same_wire(made, other) for other in self._links.values()):
            raise _refusal("File exists", change.name)
        self._check_mtu(made)
        made = replace(made, index=next(self._indices))
        self._links[made.index] = made

    def _change(self, change: ChangeLink) -> None:
        link = self._need(change.name, change.index)
        changed = link
        if change.rename is not None:
            other = self._named(change.rename)
            if other is not None:
                raise _refusal("File exists", change.rename)
            changed = replace(changed, name=change.rename)
        if change.mtu is not None:
            changed = replace(changed, mtu=change.mtu)
        if change.alias is not None:
            changed = replace(changed, alias=change.alias)
        if change.master is not None:
            index = self._need(change.master).index if change.master else 0
            changed = replace(changed, master=index)
        if change.vxlan is not None:
            assert link.vxlan is not None
            settled = (link.vxlan.vni, link.vxlan.port, link.vxlan.family)
            if settled != (change.vxlan.vni, change.vxlan.port, change.vxlan.family):
                raise _refusal("Invalid argument", change.name)
            changed = replace(changed, vxlan=change.vxlan)
        if change.up is not None:
            if change.up and changed.kind == "vlan" and not self._links[changed.parent].up:
                raise _refusal("Network is down", change.name)
            changed = replace(changed, up=change.up)
        if change.mtu is not None:
            self._check_mtu(changed)
        self._links[changed.index] = changed
        self._follow(changed)

    def _check_mtu(self, link: LinkFacts) -> None:
        parent = self._links.get(link.parent)
        if parent is None:
            return
        spare = 0
        if link.vxlan is not None:
            spare = 50 if link.vxlan.family == 4 else 70
        if link.mtu > parent.mtu - spare:
            raise _refusal("Invalid argument", link.name)

    def _follow(self, parent: LinkFacts) -> None:
        """VLANs never have more than their parent and go down with it."""
        for link in tuple(self._links.values()):
            if link.kind == "vlan" and link.parent == parent.index:
                self._links[link.index] = replace(
                    link, mtu=min(link.mtu, parent.mtu), up=link.up and parent.up
                )

    def _change_altnames(self, change: ChangeAltnames) -> None:
        link = self._need(change.name, change.index)
        left = link.altnames - change.remove
        for name in change.add - left:
            other = self._named(name)
            if other is not None and not (other.index == link.index and name in change.remove):
                raise _refusal("File exists", name)
        self._links[link.index] = replace(link, altnames=left | change.add)

    def _change_flooding(self, change: ChangeFlooding) -> None:
        link = self._need(change.name, change.index)
        if link.vxlan is None:
            raise _refusal("Operation not supported", link.name)
        flooding = (link.flooding - change.remove) | change.add
        self._links[link.index] = replace(link, flooding=flooding)

    def _delete(self, link: LinkFacts) -> None:
        self._links.pop(link.index, None)
        for other in tuple(self._links.values()):
            if other.parent == link.index:
                self._delete(other)
            elif other.master == link.index:
                self._links[other.index] = replace(other, master=0)


def _same_wire(one: LinkFacts, other: LinkFacts) -> bool:
    if one.vlan_id is not None and other.vlan_id is not None:
        return (one.parent, one.vlan_id) == (other.parent, other.vlan_id)
    if one.vxlan is None or other.vxlan is None:
        return False
    return (one.vxlan.vni, one.vxlan.port, one.vxlan.family) == (
        other.vxlan.vni,
        other.vxlan.port,
        other.vxlan.family,
    )


def _refusal(words: str, subject: str) -> HostError:
    return HostError(words, hint="as the kernel would say", subject=subject)

"""From the wanted devices and the links that are there to ordered steps. Pure.

The plan may be cut off after any step: planning again from there reaches the same goal. It changes
only links that are ours; of all others it does no more than set the parent of a device up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from danmpy.kernel.hostlinks import (
    ChangeAltnames,
    ChangeFlooding,
    ChangeLink,
    CreateLink,
    HostFacts,
    LinkFacts,
    RemoveLink,
)
from danmpy.netwatcher.devices import wire_of
from danmpy.netwatcher.marks import is_danm_name, is_ours, mark_of, marks_in_use
from danmpy.netwatcher.values import Desired, DeviceKind, DeviceSpec, Step

_ABSENT: Final = "it is not there"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sorted:
    """The links of ours, by what becomes of them.

    `kept` are links that stay though no device of now is theirs: their networks have a problem, or
    it is not known that nobody wants them (`orphans`); `kept` has the indices of the former.
    """

    matched: dict[str, LinkFacts]
    names: dict[int, str]
    remade: dict[str, str]
    doomed: tuple[tuple[LinkFacts, str], ...]
    orphans: tuple[LinkFacts, ...]
    kept: frozenset[int]

    @property
    def gone(self) -> frozenset[int]:
        """The indices of all links that the plan removes."""
        return frozenset(link.index for link, _ in self.doomed) | frozenset(
            self.matched[mark].index for mark in self.remade
        )

    @property
    def names_of_orphans(self) -> frozenset[str]:
        """Names that stay where they are."""
        return frozenset(name for link in self.orphans for name in (link.name, *link.altnames))

    def is_in(self, link: LinkFacts, bridge: str) -> bool:
        """Is `link` a port of the wanted `bridge`, or of none when none is wanted?

        A bridge that is kept keeps its port: pods are still connected by it.
        """
        if not link.master or link.master in self.gone:
            return not bridge
        if link.master in self.kept and not bridge:
            return True
        return self.names.get(link.master) == bridge

    def standing(self, device: DeviceSpec) -> LinkFacts | None:
        """The link of `device` that stays and is changed where needed."""
        return None if device.mark in self.remade else self.matched.get(device.mark)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ours:
    """The links of ours, by mark, and by name those that have none yet."""

    links: tuple[LinkFacts, ...]
    by_mark: dict[str, list[LinkFacts]]
    half_made: dict[str, LinkFacts]


def plan_devices(desired: Desired, host: HostFacts, *, prune: bool = True) -> tuple[Step, ...]:
    """The steps from `host` to `desired`, in an order that the kernel takes.

    What must go comes first, because names, VNIs and VLAN ids are free only then. Without `prune`,
    links of ours that nobody is known to want stay, unless they stand in the way of a wanted one.
    """
    links = _sort_links(desired, host, prune=prune)
    return (
        *_removals(links, desired),
        *_parents_up(desired, host),
        *_altname_removals(links, desired),
        *_renames(links, desired, host),
        *_creations(links, desired),
        *(step for device in desired.devices for step in _settings(device, links)),
    )


def kept_orphans(desired: Desired, host: HostFacts) -> tuple[str, ...]:
    """The names of links of ours that a plan without pruning leaves though nobody asks for them."""
    return tuple(sorted(link.name for link in _sort_links(desired, host, prune=False).orphans))


def kept_in_use(desired: Desired, host: HostFacts, in_use: frozenset[str]) -> tuple[str, ...]:
    """The names of links of ours that stay for the pods on them, though no network has them."""
    stray = set(marks_in_use(host, in_use)) - {device.mark for device in desired.devices}
    return tuple(sorted(link.name for link in host.links if mark_of(link) in stray))


def _sort_links(desired: Desired, host: HostFacts, *, prune: bool) -> _Sorted:
    ours = _ours(host)
    matched: dict[str, LinkFacts] = {}
    names: dict[int, str] = {}
    for device in desired.devices:
        link = _find(device, ours, host)
        if link is not None:
            matched[device.mark] = link
            names[link.index] = device.name
    remade = {
        device.mark: why
        for device in desired.devices
        if (link := matched.get(device.mark)) and (why := _unchangeable(device, link, host))
    }
    taken = {link.index for link in matched.values()}
    wanted = _Wanted.of(desired, host)
    kept: set[int] = set()
    doomed: list[tuple[LinkFacts, str]] = []
    orphans: list[LinkFacts] = []
    for link in ours.links:
        mark = mark_of(link)
        if link.index in taken:
            continue
        if mark in desired.marks and mark not in matched:
            kept.add(link.index)
        elif prune or mark in matched or wanted.meets(link):
            doomed.append((link, "no network wants it" if mark else "it was left half made"))
        else:
            orphans.append(link)
    return _Sorted(
        matched=matched,
        names=names,
        remade=remade,
        doomed=tuple(doomed),
        orphans=tuple(orphans),
        kept=frozenset(kept),
    )


def _ours(host: HostFacts) -> _Ours:
    links = tuple(link for link in host.links if is_ours(link))
    by_mark: dict[str, list[LinkFacts]] = defaultdict(list)
    half_made: dict[str, LinkFacts] = {}
    for link in links:
        if mark := mark_of(link):
            by_mark[mark].append(link)
        else:
            half_made[link.name] = link
    return _Ours(links=links, by_mark=by_mark, half_made=half_made)


def _find(device: DeviceSpec, ours: _Ours, host: HostFacts) -> LinkFacts | None:
    """The link of `device`: the best one with its mark, else one half made under its name."""
    marked = ours.by_mark.get(device.mark, ())
    if len(marked) > 1:
        # A person copied the mark.
        return min(
            marked,
            key=lambda link: (
                bool(_unchangeable(device, link, host)),
                link.name != device.name,
                link.index,
            ),
        )
    return marked[0] if marked else ours.half_made.get(device.name)


def _unchangeable(device: DeviceSpec, link: LinkFacts, host: HostFacts) -> str:
    """Why `link` must be made anew to become `device`; "" when changing it is enough."""
    parent = host.named(device.parent)
    differences = [
        ("kind", link.kind, str(device.kind)),
        ("VLAN id", link.vlan_id, device.vlan_id),
        ("parent", link.parent, parent.index if parent else 0),
    ]
    seen, wanted = link.vxlan, device.vxlan
    if seen is not None and wanted is not None:
        differences += [
            ("VNI", seen.vni, wanted.vni),
            ("UDP port", seen.port, wanted.port),
            ("IP version of the tunnels", seen.family, wanted.family),
        ]
    return ", ".join(
        f"its {what} is wrong and is for life"
        for what, is_now, should_be in differences
        if is_now != should_be
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What the wanted devices occupy, each of which the kernel gives to one link only."""

    names: frozenset[str]
    wires: frozenset[tuple[object, ...] | None]

    @classmethod
    def of(cls, desired: Desired, host: HostFacts) -> _Wanted:
        """Names and wires of all wanted devices."""
        return cls(
            names=frozenset(device.name for device in desired.devices),
            wires=frozenset(_wire(device, host) for device in desired.devices) - {None},
        )

    def meets(self, link: LinkFacts) -> bool:
        """Is `link` in the way of a wanted device?"""
        return not self.names.isdisjoint({link.name, *link.altnames}) or (
            wire_of(link) in self.wires
        )


def _wire(device: DeviceSpec, host: HostFacts) -> tuple[object, ...] | None:
    parent = host.named(device.parent)
    facts = LinkFacts(
        index=-1,
        name=device.name,
        parent=parent.index if parent else -1,
        vlan_id=device.vlan_id,
        vxlan=device.vxlan,
    )
    return wire_of(facts)


def _removals(links: _Sorted, desired: Desired) -> Iterable[Step]:
    for link, why in links.doomed:
        yield Step(
            device=link.name, reason=why, change=RemoveLink(name=link.name, index=link.index)
        )
    for device in desired.devices:
        if device.mark in links.remade:
            link = links.matched[device.mark]
            yield Step(
                device=device.name,
                reason=links.remade[device.mark],
                change=RemoveLink(name=link.name, index=link.index),
            )


def _parents_up(desired: Desired, host: HostFacts) -> Iterable[Step]:
    for name in sorted(desired.parents):
        parent = host.named(name)
        if parent is not None and not parent.up and not is_ours(parent):
            yield Step(
                device=name,
                reason="networks on it need it up",
                change=ChangeLink(name=name, index=parent.index, up=True),
            )


def _altname_removals(links: _Sorted, desired: Desired) -> Iterable[Step]:
    own_names = {device.name for device in desired.devices}
    for device in desired.devices:
        link = links.standing(device)
        if link is None:
            continue
        others = link.altnames - device.altnames
        stale = frozenset(name for name in others if is_danm_name(name) or name in own_names)
        if stale:
            yield Step(
                device=device.name,
                reason="no network is called so any more",
                change=ChangeAltnames(name=link.name, index=link.index, remove=stale),
            )


def _renames(links: _Sorted, desired: Desired, host: HostFacts) -> Iterable[Step]:
    """Give names back. Where two of ours have each other's, one goes out of the way first."""
    pending = [
        (device, link)
        for device in desired.devices
        if (link := links.standing(device)) is not None and link.name != device.name
    ]
    gone = links.gone
    used = {link.name for link in host.links if link.index not in gone}
    while pending:
        ready = [(device, link) for device, link in pending if device.name not in used]
        if ready:
            device, link = ready[0]
            pending.remove(ready[0])
            name = device.name
        else:
            device, link = pending[0]
            name = f"dm-tmp-{link.index}"
            if name in used:
                return  # a stranger would have to be moved; the next look tries again
            pending[0] = (device, replace(link, name=name))
        used = (used - {link.name}) | {name}
        yield Step(
            device=device.name,
            reason=f"it was renamed to {link.name}",
            change=ChangeLink(name=link.name, index=link.index, rename=name),
        )


def _creations(links: _Sorted, desired: Desired) -> Iterable[Step]:
    for device in desired.devices:
        if links.standing(device) is not None:
            continue
        users = ", ".join(str(key) for key in device.networks)
        yield Step(
            device=device.name,
            reason=links.remade.get(device.mark) or f"{_ABSENT}; wanted by {users}",
            change=CreateLink(
                name=device.name,
                kind=str(device.kind),
                alias=device.mark,
                mtu=device.mtu,
                parent=device.parent,
                master=device.master,
                vlan_id=device.vlan_id,
                vxlan=device.vxlan,
            ),
        )


def _settings(device: DeviceSpec, links: _Sorted) -> Iterable[Step]:
    link = links.standing(device)
    change, why = _change(device, link, links)
    add = device.flooding - (link.flooding if link else frozenset())
    remove = (link.flooding if link else frozenset()) - device.flooding
    index = link.index if link else 0
    if add or remove:
        yield Step(
            device=device.name,
            reason="the other ends of its tunnels",
            change=ChangeFlooding(name=device.name, index=index, add=add, remove=remove),
        )
    if change is not None:
        yield Step(device=device.name, reason=why, change=change)
    missing = device.altnames - (link.altnames if link else frozenset()) - links.names_of_orphans
    if missing:
        yield Step(
            device=device.name,
            reason="names that DANM's users know",
            change=ChangeAltnames(name=device.name, index=index, add=missing),
        )


def _change(
    device: DeviceSpec, link: LinkFacts | None, links: _Sorted
) -> tuple[ChangeLink | None, str]:
    if link is None:
        return ChangeLink(name=device.name, up=True), "it is born down"
    wrong: list[str] = []
    change = ChangeLink(name=device.name, index=link.index)
    if link.alias != device.mark:
        wrong.append("mark")
        change = replace(change, alias=device.mark)
    if not links.is_in(link, device.master):
        wrong.append("bridge")
        change = replace(change, master=device.master)
    if link.mtu != device.mtu:
        wrong.append(f"MTU {link.mtu}")
        change = replace(change, mtu=device.mtu)
    if device.kind is DeviceKind.VXLAN and link.vxlan != device.vxlan:
        wrong.append("tunnel settings")
        change = replace(change, vxlan=device.vxlan)
    if not link.up:
        wrong.append("state down")
        change = replace(change, up=True)
    return (change, f"wrong: {', '.join(wrong)}") if wrong else (None, "")

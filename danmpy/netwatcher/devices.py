"""Which links this node should have for its networks, and which networks cannot have theirs. Pure.

Decided again from everything at every look. What one network, or one parent, lacks is a condition
on the networks that it concerns, and all the others go on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from danmpy.api.limits import IPV6_MTU_MIN
from danmpy.api.nad_configs import link_plugin
from danmpy.api.specs import NetworkKey, NetworkKind, NetworkSpec, SegmentKey, SegmentKind
from danmpy.kernel.hostlinks import HostFacts, LinkFacts, VxlanAttributes
from danmpy.netwatcher.marks import (
    bridge_mark,
    bridge_name,
    danm_name,
    is_ours,
    mark_of,
    marks_in_use,
    segment_mark,
    segment_names,
)
from danmpy.netwatcher.refusals import Refusals
from danmpy.netwatcher.underlay import (
    Flood,
    family_of,
    flood_of,
    group_of,
    local_vtep,
    overhead_of,
)
from danmpy.netwatcher.values import Desired, DeviceKind, DeviceSpec, Flooding, WatchContext

_EXCLUSIVE: Final = frozenset({"bridge", "ipvlan", "macvlan"})
"""Backends that take a device's only receive hook (net/core/dev.c, netdev_rx_handler_register)."""

_BRIDGE_MTU: Final = 1500
_NO_FLOOD: Final = Flood()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wire:
    """A segment whose parent is there: what its device will be, but for its name."""

    segment: SegmentKey
    parent: LinkFacts
    networks: tuple[NetworkSpec, ...]
    ceiling: int
    vxlan: VxlanAttributes | None = None
    flood: Flood = _NO_FLOOD
    name: str = ""

    @property
    def mark(self) -> str:
        return segment_mark(self.segment)

    @property
    def identity(self) -> tuple[object, ...]:
        """What the kernel keeps unique: VID and parent; VNI, port and family, whatever the parent.

        (drivers/net/vxlan, vxlan_config_validate: -EEXIST)
        """
        if self.vxlan is None:
            return (SegmentKind.VLAN, self.parent.index, self.segment.id)
        return (SegmentKind.VXLAN, self.vxlan.vni, self.vxlan.port, self.vxlan.family)


def desired_devices(
    networks: Mapping[NetworkKey, NetworkSpec],
    context: WatchContext,
    *,
    claims: frozenset[SegmentKey | NetworkKey] = frozenset(),
) -> Desired:
    """Everything that this node should have for `networks`, seen with the host as it is now.

    `claims` are networks that cannot be served now, and their segments as far as those are known:
    what exists for them is kept as it is.
    """
    survey = _Survey(networks, context, claims)
    survey.sort_networks()
    survey.resolve_segments()
    survey.settle_wires()
    survey.settle_names()
    survey.build()
    return survey.desired()


def uses_own_bridge(network: NetworkSpec, conf_names: frozenset[str]) -> bool:
    """Is its NetworkType ``bridge`` our backend, and not the CNI plugin of that name?"""
    return network.backend == "bridge" and network.network_id not in conf_names


def wire_of(link: LinkFacts) -> tuple[object, ...] | None:
    """What `link` occupies in the kernel, in the terms of the devices that we want."""
    if link.vlan_id is not None:
        return (SegmentKind.VLAN, link.parent, link.vlan_id)
    if link.vxlan is not None:
        return (SegmentKind.VXLAN, link.vxlan.vni, link.vxlan.port, link.vxlan.family)
    return None


class _Survey:
    """One decision in the making."""

    def __init__(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        context: WatchContext,
        claims: frozenset[SegmentKey | NetworkKey],
    ) -> None:
        self._networks = [networks[key] for key in sorted(networks)]
        self._context = context
        self._host = context.host
        self._by_mark = {mark_of(link): link for link in reversed(context.host.links)}
        self._wires_there = _wires_of(context.host)
        self._marks = {bridge_mark(claim) for claim in claims}
        self._marks |= {segment_mark(claim) for claim in claims if isinstance(claim, SegmentKey)}
        self._marks |= set(marks_in_use(context.host, context.in_use))
        self._of_segment: dict[SegmentKey, list[NetworkSpec]] = defaultdict(list)
        self._plain_bridges: list[NetworkSpec] = []
        self._wires: list[_Wire] = []
        self._bridges: list[DeviceSpec] = []
        self._devices: list[DeviceSpec] = []
        self._parents: dict[str, list[NetworkKey]] = defaultdict(list)
        self._refusals = Refusals()
        self._device_of: dict[NetworkKey, str] = {}

    def desired(self) -> Desired:
        """The finished decision."""
        return Desired(
            devices=(*self._bridges, *self._devices),
            parents={name: tuple(keys) for name, keys in self._parents.items()},
            marks=frozenset(self._marks),
            conditions=self._refusals.conditions,
            device_of={
                key: device
                for key, device in self._device_of.items()
                if not self._refusals.is_refused(key)
            },
            segment_of={
                network.key: segment
                for segment, users in self._of_segment.items()
                for network in users
            },
        )

    # Step 1: which networks need what.

    def sort_networks(self) -> None:
        """Tell networks on a segment from those on a NIC, on their own bridge, or on nothing."""
        direct: dict[str, list[NetworkSpec]] = defaultdict(list)
        for network in self._networks:
            if network.device_pool or network.backend == "sriov":
                self._device_of[network.key] = ""  # the virtual function carries the VLAN itself
            elif network.segment is not None:
                self._of_segment[network.segment].append(network)
                self._marks.add(segment_mark(network.segment))
                if self._on_bridge(network):
                    self._marks.add(bridge_mark(network.segment))
            elif self._on_bridge(network):
                self._plain_bridges.append(network)
                self._marks.add(bridge_mark(network.key))
            elif not network.is_dynamic:
                self._device_of[network.key] = ""
            elif network.host_device:
                direct[network.host_device].append(network)
            else:
                self._refusals.no_host_device(network)
        for name in sorted(direct):
            self._attach_directly(name, direct[name])

    def _on_bridge(self, network: NetworkSpec) -> bool:
        return uses_own_bridge(network, self._context.conf_names)

    def _attach_directly(self, name: str, users: list[NetworkSpec]) -> None:
        parent = self._host.named(name)
        if parent is None:
            self._refusals.missing_parent(name, users)
            return
        master = self._host.at(parent.master)
        if master is not None:
            self._refusals.enslaved_parent(name, master.name, users)
            return
        fitting = self._fitting(users, parent.mtu, f"{name} carries {parent.mtu} bytes")
        for network in self._compatible(fitting, name, None):
            self._device_of[network.key] = parent.name
            self._parents[parent.name].append(network.key)

    # Step 2: the parents and tunnel ends of segments.

    def resolve_segments(self) -> None:
        """Find each segment's parent and, for a VXLAN, this node's end of its tunnels."""
        seen: dict[tuple[int, str, int], SegmentKey] = {}
        standing = {it for it in self._of_segment if segment_mark(it) in self._by_mark}
        for segment in sorted(self._of_segment, key=lambda it: (it not in standing, it)):
            users = self._of_segment[segment]
            parent = self._host.named(segment.parent)
            if parent is None:
                self._refusals.missing_parent(segment.parent, users)
                continue
            if is_ours(parent) and self._refusals.not_on_ours(segment, users):
                continue
            # A parent has several names; one wire under two names is still one wire.
            same = seen.setdefault((parent.index, segment.kind, segment.id), segment)
            if same != segment:
                self._refusals.one_device(segment, same, users)
            elif segment.kind is SegmentKind.VLAN:
                self._add_wire(
                    _Wire(segment=segment, parent=parent, networks=(), ceiling=parent.mtu)
                )
            else:
                self._resolve_vxlan(segment, parent)

    def _resolve_vxlan(self, segment: SegmentKey, parent: LinkFacts) -> None:
        users = self._of_segment[segment]
        link = self._by_mark.get(segment_mark(segment))
        local = local_vtep(parent, segment, self._context, link)
        if local is None:
            lost = family_of(link) if parent.addresses else 0
            self._refusals.no_vtep(segment.parent, users, lost=lost)
            return
        multicast = self._context.flooding is Flooding.MULTICAST
        vxlan = VxlanAttributes(
            vni=segment.id,
            port=self._context.port,
            local=local,
            group=group_of(segment.id, local.version) if multicast else None,
        )
        flood = flood_of(segment, local, users, self._context)
        own = {address.ip for address in parent.addresses}
        self._add_wire(
            _Wire(
                segment=segment,
                parent=parent,
                networks=(),
                ceiling=parent.mtu - overhead_of(local.version),
                vxlan=vxlan,
                flood=replace(flood, remotes=flood.remotes - own),
            )
        )

    def _add_wire(self, wire: _Wire) -> None:
        users = self._of_segment[wire.segment]
        lost = wire.parent.mtu - wire.ceiling
        less = f" less {lost} for VXLAN" if lost else ""
        carries = f"{wire.segment.parent} carries {wire.parent.mtu} bytes{less}"
        fitting = self._fitting(users, wire.ceiling, carries)
        link = self._by_mark.get(wire.mark)
        if link is not None and wire_of(link) != wire.identity:
            link = None  # it is made anew, and then nothing tells any more who stood there
        there = self._compatible(fitting, str(wire.segment), link, wire.segment)
        if there:
            self._wires.append(replace(wire, networks=tuple(there)))

    # Step 3: two that would be one wire for the kernel; strangers that already are it.

    def settle_wires(self) -> None:
        """Let one segment have each wire: a stranger's stays his, ours stays where it stands."""
        by_identity: dict[tuple[object, ...], list[_Wire]] = defaultdict(list)
        for wire in self._wires:
            by_identity[wire.identity].append(wire)
        settled: list[_Wire] = []
        for identity, rivals in by_identity.items():
            marks = {wire.mark for wire in rivals}
            others = [
                link
                for link in self._wires_there.get(identity, ())
                if not is_ours(link) or (mark_of(link) in self._marks - marks)
            ]
            if others:
                for wire in rivals:
                    self._refuse_wire(wire, f"link {others[0].name}")
                continue
            winner = min(rivals, key=lambda wire: (not self._stands(wire), wire.segment))
            settled.append(winner)
            for wire in rivals:
                if wire is not winner:
                    self._refuse_wire(wire, f"segment {winner.segment}")
        self._wires = sorted(settled, key=lambda wire: wire.segment)

    def _stands(self, wire: _Wire) -> bool:
        return wire.mark in map(mark_of, self._wires_there.get(wire.identity, ()))

    def _refuse_wire(self, wire: _Wire, holder: str) -> None:
        self._refusals.wire_taken(wire.segment, wire.vxlan, holder, wire.networks)

    # Step 4: names.

    def settle_names(self) -> None:
        """Name every device; a wanted name that a link keeps which we may not move is refused."""
        for network in self._plain_bridges:
            mtu = network.mtu or _BRIDGE_MTU
            self._add_bridge(network.key, [network], mtu)
        rivals: dict[str, list[_Wire]] = defaultdict(list)
        for wire in self._wires:
            rivals[segment_names(wire.segment)[0]].append(wire)
        wires = [self._with_name(wire, rivals) for wire in self._wires]
        while True:
            kept = self._marks - {wire.mark for wire in wires} - self._bridge_marks(wires)
            fit = [wire for wire in wires if not self._is_held(wire, kept)]
            if len(fit) == len(wires):
                break
            for wire in wires:
                if wire not in fit:
                    self._refusals.name_taken(wire.name, self._host, wire.networks)
            wires = fit
        self._wires = wires

    def _with_name(self, wire: _Wire, rivals_for: Mapping[str, list[_Wire]]) -> _Wire:
        """Choose a name; one that the device already has, rightly, is never changed."""
        names = segment_names(wire.segment)
        link = self._by_mark.get(wire.mark)
        if link is not None and link.name in names:
            return replace(wire, name=link.name)
        rivals = rivals_for[names[0]]
        standing = any(
            (there := self._by_mark.get(other.mark)) is not None and there.name == names[0]
            for other in rivals
            if other is not wire
        )
        first = min(rivals, key=lambda other: other.segment) is wire
        return replace(wire, name=names[0] if first and not standing else names[-1])

    def _bridge_marks(self, wires: Iterable[_Wire]) -> set[str]:
        marks = {bridge.mark for bridge in self._bridges}
        return marks | {bridge_mark(wire.segment) for wire in wires if self._has_bridge(wire)}

    def _is_held(self, wire: _Wire, kept: set[str]) -> bool:
        link = self._host.named(wire.name)
        return link is not None and not self._may_move(link, kept)

    def _may_move(self, link: LinkFacts, kept: set[str]) -> bool:
        """May the plan take a name away from `link`? From ours, unless we leave it as it is."""
        return is_ours(link) and mark_of(link) not in kept

    # Step 5: the devices.

    def build(self) -> None:
        """Make the device values of all wires that are left."""
        altnames = self._altnames()
        for wire in self._wires:
            self._parents[wire.parent.name] += [network.key for network in wire.networks]
            mtu = self._mtu(wire)
            bridge = self._segment_bridge(wire, mtu)
            on_bridge = [network for network in wire.networks if self._on_bridge(network)]
            others = [network for network in wire.networks if not self._on_bridge(network)]
            if bridge is None:
                if not others:
                    continue
                on_bridge = []
            for network in others:
                self._device_of[network.key] = wire.name
            self._devices.append(
                DeviceSpec(
                    name=wire.name,
                    kind=DeviceKind(wire.segment.kind),
                    mark=wire.mark,
                    mtu=mtu,
                    networks=tuple(sorted(network.key for network in (*others, *on_bridge))),
                    parent=wire.parent.name,
                    master=bridge or "",
                    vlan_id=wire.segment.id if wire.vxlan is None else None,
                    vxlan=wire.vxlan,
                    altnames=altnames[wire.segment],
                    flooding=wire.flood.remotes,
                )
            )
            self._report_peers(wire)

    def _mtu(self, wire: _Wire) -> int:
        asked = [network.mtu for network in wire.networks if network.mtu is not None]
        if len(asked) < len(wire.networks):
            return wire.ceiling
        return max(asked)

    def _has_bridge(self, wire: _Wire) -> bool:
        return any(self._on_bridge(network) for network in wire.networks)

    def _segment_bridge(self, wire: _Wire, mtu: int) -> str | None:
        if not self._has_bridge(wire):
            return ""
        users = [network for network in wire.networks if self._on_bridge(network)]
        return self._add_bridge(wire.segment, users, mtu)

    def _add_bridge(
        self, owner: SegmentKey | NetworkKey, users: Sequence[NetworkSpec], mtu: int
    ) -> str | None:
        name = bridge_name(owner)
        link = self._host.named(name)
        if link is not None and not is_ours(link):
            self._refusals.name_taken(name, self._host, users)
            return None
        keys = tuple(network.key for network in users)
        self._bridges.append(
            DeviceSpec(
                name=name,
                kind=DeviceKind.BRIDGE,
                mark=bridge_mark(owner),
                mtu=mtu,
                networks=keys,
            )
        )
        self._device_of.update(dict.fromkeys(keys, name))
        return name

    def _altnames(self) -> dict[SegmentKey, frozenset[str]]:
        """DANM's names, where one segment alone wants them and no other link has them."""
        wanted = {
            wire.segment: {danm_name(network, wire.segment) for network in wire.networks} - {""}
            for wire in self._wires
        }
        times = Counter(name for names in wanted.values() for name in names)
        own = {wire.name for wire in self._wires} | {bridge.name for bridge in self._bridges}
        marks = {wire.mark for wire in self._wires} | {bridge.mark for bridge in self._bridges}
        kept = self._marks - marks

        def is_free(name: str) -> bool:
            link = self._host.named(name)
            alone = times[name] == 1 and name not in own
            return alone and (link is None or self._may_move(link, kept))

        return {
            segment: frozenset(name for name in names if is_free(name))
            for segment, names in wanted.items()
        }

    def _report_peers(self, wire: _Wire) -> None:
        if wire.flood.missing and wire.vxlan is not None:
            self._refusals.missing_peers(
                wire.segment.parent, wire.vxlan.family, wire.flood.missing, wire.networks
            )

    # Which networks can share.

    def _fitting(
        self, users: Iterable[NetworkSpec], ceiling: int, carries: str
    ) -> list[NetworkSpec]:
        fitting = []
        for network in users:
            needed = max(network.mtu or 0, IPV6_MTU_MIN if network.v6 else 0)
            if needed <= ceiling:
                fitting.append(network)
            else:
                self._refusals.mtu_too_big(network, needed, ceiling, carries)
        return fitting

    def _compatible(
        self,
        users: list[NetworkSpec],
        where: str,
        link: LinkFacts | None,
        segment: SegmentKey | None = None,
    ) -> list[NetworkSpec]:
        """Those of `users` that can share one device; who stands there already goes first."""
        kinds = {network.key: self._hook(network) for network in users}
        rivals = [network for network in users if kinds[network.key]]
        if len({kinds[network.key] for network in rivals}) <= 1:
            return users
        is_port = link is not None and segment is not None and self._is_port(link, segment)

        def rank(network: NetworkSpec) -> tuple[bool, bool, NetworkKey]:
            against = link is not None and is_port != (kinds[network.key] == "bridge")
            return (network.key not in self._context.standing, against, network.key)

        winner = min(rivals, key=rank)
        hook = kinds[winner.key]
        losers = [network for network in rivals if kinds[network.key] != hook]
        for network in losers:
            hooks = (kinds[network.key], hook)
            self._refusals.backend_conflict(network, where, hooks, winner.key)
        return [network for network in users if network not in losers]

    def _is_port(self, link: LinkFacts, segment: SegmentKey) -> bool:
        """Is `link` in the segment's own bridge, which may still lack its mark?"""
        master = self._host.at(link.master)
        if master is None or not is_ours(master):
            return False
        half_made = not mark_of(master) and master.name == bridge_name(segment)
        return half_made or mark_of(master) == bridge_mark(segment)

    def _hook(self, network: NetworkSpec) -> str:
        if network.backend == "bridge" and not self._on_bridge(network):
            return ""
        nad = network.key.kind is NetworkKind.NAD
        plugin = link_plugin(network.conf) if nad else network.backend
        return plugin if plugin in _EXCLUSIVE else ""


def _wires_of(host: HostFacts) -> dict[tuple[object, ...], list[LinkFacts]]:
    found: dict[tuple[object, ...], list[LinkFacts]] = defaultdict(list)
    for link in host.links:
        wire = wire_of(link)
        if wire is not None:
            found[wire].append(link)
    return found

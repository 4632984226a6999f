"""Which device and which VLAN id or VNI a TenantNetwork gets from the TenantConfigs. Pure.

A TenantConfig offers *profiles*: a NIC or a device pool, bare or with a range of ids. A *holding*
is what one TenantNetwork has got. It keeps it until it is gone, becomes another object, or asks for
another device: a range that shrank or a TenantConfig that was applied again takes nothing away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Final

from danmpy.api.limits import DYNAMIC_TYPES
from danmpy.api.specs import (
    Condition,
    ConditionStatus,
    HostDeviceProfile,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    SegmentKey,
    SegmentKind,
    TenantConfigSpec,
)
from danmpy.errors import DanmpyError, ExhaustedError, IntentError
from danmpy.ipam.wires import with_kept_back

SEGMENT_ASSIGNED: Final = "SegmentAssigned"
"""The condition type of every problem here; its reasons are the first words in `_ProblemError`."""

ABSENCE_GRACE: Final = 30_000_000
"""Microseconds. A holding younger than this is not ended because its network was not seen: the node
that made it may have read of the network before we did."""

_OWN_CONFIGURATION: Final = DYNAMIC_TYPES | {"bridge"}
"""Backends that need no NetworkID, because no file of that name is read for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignments:
    """All networks that can be used, resolved, and the reasons for those that cannot.

    `networks` holds every network given, TenantNetworks with their device, segment and NetworkID
    filled in. A network with a problem is in `problems` and not in `networks`. `kept` are the
    segments that networks have whose manifests are refused now, or that have a problem: what exists
    for them stays.
    """

    networks: Mapping[NetworkKey, NetworkSpec] = field(default_factory=dict)
    problems: Mapping[NetworkKey, Condition] = field(default_factory=dict)
    kept: frozenset[SegmentKey] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What one TenantNetwork has: a device and, unless the device is bare, an id on it.

    `network` is the text of its key; `since` is in microseconds.
    """

    network: str
    uid: str
    device: str
    kind: SegmentKind | None
    id: int
    since: int

    @property
    def segment(self) -> SegmentKey | None:
        """The wire; None on a bare device."""
        if self.kind is None:
            return None
        return SegmentKey(parent=self.device, kind=self.kind, id=self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What people wrote; see `SegmentStore.assign` for the meaning of the last three."""

    networks: Mapping[NetworkKey, NetworkSpec]
    tenant_configs: Sequence[TenantConfigSpec]
    keep: frozenset[NetworkKey] = frozenset()
    claims: frozenset[SegmentKey] = frozenset()
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the database knows: holdings by network, and segments that cool down."""

    holdings: Mapping[str, Holding]
    resting: frozenset[SegmentKey] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The answer, and what has to be written for it: first `ended`, then `begun`."""

    assignments: Assignments
    ended: tuple[Holding, ...] = ()
    begun: tuple[Holding, ...] = ()


class _ProblemError(Exception):
    """A network cannot be used, for `reason` in one word and an error with words and hint."""

    def __init__(self, reason: str, error: DanmpyError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


def choose(wanted: Wanted, stored: Stored, now: int) -> Choice:
    """Device and segment of every TenantNetwork; other networks pass through as they are.

    A TenantNetwork never gets a wire that a ClusterNetwork or DanmNet names. One of those that
    names a wire which a TenantNetwork has already gets a problem instead, and the tenant stays
    alone. Two ClusterNetworks or DanmNets may name the same segment: both were set by hand, and
    DANM's own examples share wires between namespaces in this way.
    """
    return _Chooser(wanted, stored, now).run()


def is_offered(segment: SegmentKey | None, configs: Iterable[TenantConfigSpec]) -> bool:
    """May a TenantNetwork have got the wire of `segment` out of `configs`?"""
    if segment is None:
        return False
    profiles = (profile for config in configs for profile in config.host_devices)
    return any(_count(profile, [_wire(segment)]) for profile in profiles)


class _Chooser:
    """The work of one `choose`."""

    def __init__(self, wanted: Wanted, stored: Stored, now: int) -> None:
        self._wanted = wanted
        self._now = now
        self._configs = sorted(wanted.tenant_configs, key=lambda config: config.name)
        self._profiles = tuple(p for config in self._configs for p in config.host_devices)
        self._network_ids = _union(config.network_ids for config in self._configs)
        self._holdings = dict(stored.holdings)
        self._resting = set(map(_wire, stored.resting))
        self._by_hand = set(map(_wire, wanted.claims))
        self._held: set[SegmentKey] = set()
        self._free: dict[HostDeviceProfile, Iterator[int]] = {}
        self._ended: list[Holding] = []
        self._begun: list[Holding] = []
        self._networks: dict[NetworkKey, NetworkSpec] = {}
        self._problems: dict[NetworkKey, Condition] = {}

    def run(self) -> Choice:
        tenants: list[NetworkKey] = []
        others: list[NetworkKey] = []
        for key in sorted(self._wanted.networks):
            (tenants if key.kind is NetworkKind.TENANT else others).append(key)
        specs = self._wanted.networks
        self._by_hand.update(
            _wire(segment) for key in others if (segment := specs[key].segment) is not None
        )
        self._end_absent()
        self._held.update(
            _wire(segment)
            for held in self._holdings.values()
            if (segment := held.segment) is not None
        )
        for key in tenants:
            self._settle(key, self._tenant)
        for key in others:
            self._settle(key, self._other)
        return Choice(
            assignments=Assignments(
                networks=with_kept_back(self._networks),
                problems=self._problems,
                kept=self._kept(),
            ),
            ended=tuple(self._ended),
            begun=tuple(self._begun),
        )

    def _kept(self) -> frozenset[SegmentKey]:
        unserved = (*self._wanted.keep, *self._problems)
        holdings = (self._holdings.get(str(key)) for key in unserved)
        segments = (holding.segment for holding in holdings if holding is not None)
        return frozenset(segment for segment in segments if segment is not None)

    def _settle(self, key: NetworkKey, resolve: Callable[[NetworkSpec], NetworkSpec]) -> None:
        try:
            self._networks[key] = resolve(self._wanted.networks[key])
        except _ProblemError as problem:
            self._problems[key] = Condition(
                type=SEGMENT_ASSIGNED,
                status=ConditionStatus.FALSE,
                reason=problem.reason,
                message=f"{problem.error.message} ({problem.error.hint})",
            )

    def _end_absent(self) -> None:
        """End the holdings of networks that are gone, are other objects now, or need none."""
        present = {str(key): spec for key, spec in self._wanted.networks.items()}
        kept = {str(key) for key in self._wanted.keep}
        for name, holding in list(self._holdings.items()):
            if name in kept:
                continue
            spec = present.get(name)
            if spec is None:
                young = self._now - holding.since < ABSENCE_GRACE
                over = self._wanted.complete and not young
            else:
                over = spec.uid != holding.uid or not spec.is_dynamic
            if over:
                self._end(holding)

    def _end(self, holding: Holding) -> None:
        del self._holdings[holding.network]
        self._ended.append(holding)
        if holding.segment is not None:
            self._held.discard(_wire(holding.segment))
            self._resting.add(_wire(holding.segment))

    def _tenant(self, spec: NetworkSpec) -> NetworkSpec:
        network_id = self._network_ids.get(spec.backend.lower(), spec.network_id)
        if not spec.is_dynamic:
            if not network_id and spec.backend not in _OWN_CONFIGURATION:
                raise _ProblemError("NetworkIdMissing", _network_id_missing(spec))
            # No TenantConfig gave this device to the tenant, and these backends need none.
            bare = spec.with_assignment(host_device="", segment=None)
            return replace(bare, network_id=network_id)
        holding = self._holding(spec)
        # A device pool is no link of the host; its name stays in `device_pool`.
        device = "" if "/" in holding.device else holding.device
        placed = spec.with_assignment(host_device=device, segment=holding.segment)
        return replace(placed, network_id=network_id)

    def _holding(self, spec: NetworkSpec) -> Holding:
        """What it has already, if that is what it asks for; else something new."""
        name = str(spec.key)
        asked = spec.device_pool or spec.host_device
        held = self._holdings.get(name)
        if held is not None and (held.device == asked or (not asked and "/" not in held.device)):
            return held
        profile, number = self._room(spec, self._candidates(spec, asked))
        if held is not None:
            self._end(held)
        begun = Holding(
            network=name,
            uid=spec.uid,
            device=profile.name,
            kind=profile.kind,
            id=number,
            since=self._now,
        )
        self._holdings[name] = begun
        if begun.segment is not None:
            self._held.add(_wire(begun.segment))
        self._begun.append(begun)
        return begun

    def _candidates(self, spec: NetworkSpec, asked: str) -> list[HostDeviceProfile]:
        if not self._configs:
            raise _ProblemError("NoTenantConfig", _no_tenant_config(spec))
        if asked:
            found = [profile for profile in self._profiles if profile.name == asked]
        else:
            found = [profile for profile in self._profiles if not profile.is_pool]
        if not found:
            raise _ProblemError("DeviceNotAllowed", _not_allowed(spec, asked, self._profiles))
        return found

    def _room(
        self, spec: NetworkSpec, candidates: Sequence[HostDeviceProfile]
    ) -> tuple[HostDeviceProfile, int]:
        """The first profile that has room, and its lowest free id (0 on a bare device)."""
        for profile in candidates:
            if profile not in self._free:
                self._free[profile] = self._free_ids(profile)
            number = next(self._free[profile], None)
            if number is not None:
                return profile, number
        raise _ProblemError("RangeFull", self._full(spec, candidates))

    def _free_ids(self, profile: HostDeviceProfile) -> Iterator[int]:
        """Ids nobody has, ascending. Nothing becomes free during one choice: each is asked once."""
        if profile.kind is None:
            yield from repeat(0)
            return
        for first, last in sorted(profile.ids):
            for number in range(first, last + 1):
                wire = _wire(SegmentKey(parent=profile.name, kind=profile.kind, id=number))
                taken = wire in self._held or wire in self._by_hand
                if not taken and wire not in self._resting:
                    yield number

    def _full(self, spec: NetworkSpec, candidates: Sequence[HostDeviceProfile]) -> ExhaustedError:
        parts = []
        for profile in candidates:
            held = _count(profile, self._held)
            by_hand = _count(profile, self._by_hand - self._held)
            resting = _count(profile, self._resting - self._by_hand - self._held)
            size = sum(last - first + 1 for first, last in profile.ids)
            parts.append(
                f"{_range_text(profile)}: {held} of {size} assigned, "
                f"{by_hand} set by hand, {resting} cooling down"
            )
        return ExhaustedError(
            f"no {' or '.join(sorted({str(p.kind) for p in candidates}))} id is free; "
            + "; ".join(parts),
            hint="widen vniRange in the TenantConfig, or delete networks that nobody uses",
            subject=str(spec.key),
        )

    def _other(self, spec: NetworkSpec) -> NetworkSpec:
        if spec.segment is None or _wire(spec.segment) not in self._held:
            return spec
        owner, held = next(
            (item.network, segment)
            for item in self._holdings.values()
            if (segment := item.segment) is not None and _wire(segment) == _wire(spec.segment)
        )
        raise _ProblemError(
            "SegmentTaken",
            IntentError(
                f"{held.kind} {held.id} on {held.parent} is assigned to {owner}",
                hint="use an id outside of the ranges of the TenantConfigs, or delete that network",
                subject=str(spec.key),
            ),
        )


def _wire(segment: SegmentKey) -> SegmentKey:
    """What two tenants must never share: of a VXLAN the VNI alone, whatever the parent.

    A node has one socket for all its tunnels of a port, and takes a frame for the device with its
    VNI whichever NIC it came in by (drivers/net/vxlan, vxlan_rcv). So one VNI on two parents is one
    wire as soon as two nodes have it on different ones.
    """
    return replace(segment, parent="") if segment.kind is SegmentKind.VXLAN else segment


def _union(mappings: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """All of them; of equal keys the first counts."""
    result: dict[str, str] = {}
    for mapping in mappings:
        for key, value in mapping.items():
            result.setdefault(key.lower(), value)
    return result


def _count(profile: HostDeviceProfile, wires: Iterable[SegmentKey]) -> int:
    parents = {profile.name, ""}
    return sum(
        1
        for wire in wires
        if wire.parent in parents
        and wire.kind is profile.kind
        and any(first <= wire.id <= last for first, last in profile.ids)
    )


def _range_text(profile: HostDeviceProfile) -> str:
    ids = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in profile.ids)
    return f"{profile.kind} {ids} on {profile.name}"


def _network_id_missing(spec: NetworkSpec) -> IntentError:
    return IntentError(
        f"NetworkType {spec.backend} needs a NetworkID, and no TenantConfig maps one to it",
        hint=f"set NetworkID, or networkIds.{spec.backend} in a TenantConfig",
        subject=str(spec.key),
    )


def _no_tenant_config(spec: NetworkSpec) -> IntentError:
    return IntentError(
        "there is no TenantConfig, so no device may be used",
        hint="an administrator has to create a TenantConfig with hostDevices",
        subject=str(spec.key),
    )


def _not_allowed(
    spec: NetworkSpec, asked: str, profiles: Sequence[HostDeviceProfile]
) -> IntentError:
    names = sorted({profile.name for profile in profiles})
    listed = ", ".join(names) if names else "none"
    if asked:
        message = f"device {asked} is in no TenantConfig"
        hint = f"the TenantConfigs offer: {listed}"
    else:
        message = "no TenantConfig offers a network interface"
        hint = f"name one of the device pools in device_pool (offered: {listed})"
    return IntentError(message, hint=hint, subject=str(spec.key))

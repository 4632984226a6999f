"""Which device and which VLAN id or VNI a TenantNetwork gets from the TenantConfigs. Pure.

A TenantConfig offers *profiles*: a NIC or a device pool, bare or with a range of ids. A *holding*
is what one TenantNetwork has got. It keeps it until it is gone, becomes another object, or asks for
another device: a range that shrank or a TenantConfig that was applied again takes nothing away.

Several TenantConfigs count in order of their names, and the entries of each in the order in which
they stand there: the first with room gives the id, and of two mappings for one NetworkType the
first counts. A namespace that some of them name in `namespaces` uses only those.

That one wire is never given twice is decided here, over all holdings at once; the unique index of
the database decides it for each parent alone, and knows nothing of a VNI that is one wire on two
parents. That is enough, because whoever writes has chosen again behind a lock.
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
from danmpy.clock import to_rfc3339
from danmpy.errors import DanmpyError, ExhaustedError, IntentError, NotReadyError
from danmpy.ipam.offers import (
    Offer,
    no_tenant_config,
    not_allowed,
    offer_to,
    range_text,
    wire_of,
    within,
)
from danmpy.ipam.wires import with_kept_back

SEGMENT_ASSIGNED: Final = "SegmentAssigned"
"""The condition type of every problem here; its reasons are the first words in `_ProblemError`."""

RANGE_FULL: Final = "RangeFull"
ASSIGNMENT_PENDING: Final = "AssignmentPending"
"""The reason of a network that needs a segment and has none recorded, where nobody may choose."""

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
class Remains:
    """Nodes that have a device for a segment: the first by name, and whether there are others."""

    first: str
    others: bool = False

    def __str__(self) -> str:
        return f"{self.first} and others" if self.others else self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the database knows.

    `holdings` are by network; `resting` tells until when segments cool down (microseconds);
    `reported` which nodes have a device for a segment, whoever holds it; `cooldown` for how long
    rests what is released now.
    """

    holdings: Mapping[str, Holding]
    resting: Mapping[SegmentKey, int] = field(default_factory=dict)
    reported: Mapping[SegmentKey, Remains] = field(default_factory=dict)
    cooldown: int = 0


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
    DANM's own examples share wires between namespaces in this way. A NetworkAttachmentDefinition is
    like one of them, but has to keep off the wire of a ClusterNetwork whose AllowedTenants leave
    out its namespace, and admits nobody whom those leave out.
    """
    return _Chooser(wanted, stored, now).run()


def recall(wanted: Wanted, stored: Stored) -> Assignments:
    """What is recorded for `wanted`: nothing is begun, ended or chosen.

    A TenantNetwork that needs a segment and has none of its own UID, or one on another device than
    it asks for, has the problem `ASSIGNMENT_PENDING`.
    """
    return _Recaller(wanted, stored, 0).run().assignments


def is_offered(segment: SegmentKey | None, configs: Iterable[TenantConfigSpec]) -> bool:
    """May a TenantNetwork have got the wire of `segment` out of `configs`?"""
    if segment is None:
        return False
    profiles = (profile for config in configs for profile in config.host_devices)
    return any(within(profile, [wire_of(segment)]) for profile in profiles)


class _Chooser:
    """The work of one `choose`."""

    def __init__(self, wanted: Wanted, stored: Stored, now: int) -> None:
        self._wanted = wanted
        self._now = now
        self._offers: dict[str, Offer] = {}
        self._holdings = dict(stored.holdings)
        self._cooldown = stored.cooldown
        self._resting: dict[SegmentKey, int] = {}
        for segment, until in stored.resting.items():
            self._let_rest(segment, until)
        self._reported: dict[SegmentKey, Remains] = {}
        for segment, remains in sorted(stored.reported.items()):
            self._reported.setdefault(wire_of(segment), remains)
        self._by_hand = set(map(wire_of, wanted.claims))
        self._limited: dict[SegmentKey, list[NetworkSpec]] = {}
        """Networks for some tenants only, by the wires that they name."""
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
            wire_of(segment) for key in others if (segment := specs[key].segment) is not None
        )
        for key in others:
            if specs[key].allowed_tenants and (segment := specs[key].segment) is not None:
                self._limited.setdefault(wire_of(segment), []).append(specs[key])
        self._end_absent()
        self._held.update(
            wire_of(segment)
            for held in self._holdings.values()
            if (segment := held.segment) is not None
        )
        # First those that wish for one id: the others take the lowest, which may be that one.
        for key in sorted(tenants, key=lambda key: specs[key].segment is None):
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
        kept = {str(key): None for key in self._wanted.keep}
        unserved = kept | {str(key): self._wanted.networks[key].uid for key in self._problems}
        return frozenset(
            segment
            for name, uid in unserved.items()
            if (holding := self._holdings.get(name)) is not None
            and uid in {None, holding.uid}
            and (segment := holding.segment) is not None
        )

    def _offer(self, spec: NetworkSpec) -> Offer:
        """What the TenantConfigs that count for its namespace offer, put together."""
        namespace = spec.key.namespace
        if namespace not in self._offers:
            self._offers[namespace] = offer_to(namespace, self._wanted.tenant_configs)
        return self._offers[namespace]

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
            self._held.discard(wire_of(holding.segment))
            self._let_rest(holding.segment, max(self._now, holding.since) + self._cooldown)

    def _let_rest(self, segment: SegmentKey, until: int) -> None:
        wire = wire_of(segment)
        self._resting[wire] = max(until, self._resting.get(wire, until))

    def _tenant(self, spec: NetworkSpec) -> NetworkSpec:
        network_id = self._offer(spec).network_ids.get(spec.backend.lower(), spec.network_id)
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
        if held is not None and _fits(held, asked):
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
            self._held.add(wire_of(begun.segment))
        self._begun.append(begun)
        return begun

    def _candidates(self, spec: NetworkSpec, asked: str) -> list[HostDeviceProfile]:
        offer = self._offer(spec)
        if not offer.configs:
            others = bool(self._wanted.tenant_configs)
            raise _ProblemError("NoTenantConfig", no_tenant_config(spec, others=others))
        if asked:
            found = [profile for profile in offer.profiles if profile.name == asked]
        else:
            found = [profile for profile in offer.profiles if not profile.is_pool]
        if not found:
            raise _ProblemError("DeviceNotAllowed", not_allowed(spec, asked, offer))
        return found

    def _room(
        self, spec: NetworkSpec, candidates: Sequence[HostDeviceProfile]
    ) -> tuple[HostDeviceProfile, int]:
        """The first profile that has room, and its lowest free id (0 on a bare device).

        The id that a running DANM had given comes before all, if it is free: pods that DANM has
        attached are still on it.
        """
        wish = spec.segment
        if wish is not None:
            for profile in candidates:
                offered = profile.name == wish.parent and within(profile, [wire_of(wish)])
                if offered and self._is_free(wish):
                    return profile, wish.id
        for profile in candidates:
            if profile not in self._free:
                self._free[profile] = self._free_ids(profile)
            number = next(self._free[profile], None)
            if number is not None:
                return profile, number
        raise _ProblemError(RANGE_FULL, self._full(spec, candidates))

    def _free_ids(self, profile: HostDeviceProfile) -> Iterator[int]:
        """Ids nobody has, ascending. Nothing becomes free during one choice: each is asked once."""
        if profile.kind is None:
            yield from repeat(0)
            return
        for first, last in sorted(profile.ids):
            for number in range(first, last + 1):
                if self._is_free(SegmentKey(parent=profile.name, kind=profile.kind, id=number)):
                    yield number

    def _is_free(self, segment: SegmentKey) -> bool:
        wire = wire_of(segment)
        taken = wire in self._held or wire in self._by_hand
        return not taken and wire not in self._resting and wire not in self._reported

    def _full(self, spec: NetworkSpec, candidates: Sequence[HostDeviceProfile]) -> ExhaustedError:
        parts = [self._use_of(profile) for profile in candidates]
        return ExhaustedError(
            f"no {' or '.join(sorted({str(p.kind) for p in candidates}))} id is free; "
            + "; ".join(parts),
            hint="widen vniRange in the TenantConfig, or delete networks that nobody uses",
            subject=str(spec.key),
        )

    def _use_of(self, profile: HostDeviceProfile) -> str:
        """Where the ids of a full profile are, and what those that nobody has are waiting for."""
        size = sum(last - first + 1 for first, last in profile.ids)
        held = within(profile, self._held)
        by_hand = within(profile, self._by_hand) - held
        resting = within(profile, self._resting) - held - by_hand
        remaining = within(profile, self._reported) - held - by_hand - resting
        text = (
            f"{range_text(profile)}: {len(held)} of {size} assigned, "
            f"{len(by_hand)} set by hand, {len(resting)} cooling down"
        )
        # A moment and not seconds left: the text of a condition changes only when its matter does.
        if resting:
            soonest = min(self._resting[wire] for wire in resting)
            text += f" (the first until {to_rfc3339(soonest)})"
        if remaining:
            first = min(remaining)
            text += (
                f", {len(remaining)} released but still on nodes "
                f"({first.kind} {first.id} on {self._reported[first]})"
            )
        return text

    def _other(self, spec: NetworkSpec) -> NetworkSpec:
        if spec.segment is None:
            return spec
        if wire_of(spec.segment) not in self._held:
            return self._welcome(spec, spec.segment)
        owner, held = next(
            (item.network, segment)
            for item in self._holdings.values()
            if (segment := item.segment) is not None and wire_of(segment) == wire_of(spec.segment)
        )
        raise _ProblemError(
            "SegmentTaken",
            IntentError(
                f"{held.kind} {held.id} on {held.parent} is assigned to {owner}",
                hint="use an id outside of the ranges of the TenantConfigs, or delete that network",
                subject=str(spec.key),
            ),
        )

    def _welcome(self, spec: NetworkSpec, segment: SegmentKey) -> NetworkSpec:
        """A NetworkAttachmentDefinition, which a tenant writes, is no way onto the wire of a
        ClusterNetwork that does not admit the tenant: neither for its own namespace nor for pods of
        others, which may use it.
        """
        limits = self._limited.get(wire_of(segment), ())
        if spec.key.kind is not NetworkKind.NAD:
            return spec
        for other in limits:
            admitted = other.allowed_tenants or frozenset()
            if spec.key.namespace not in admitted:
                raise _ProblemError(
                    "SegmentTaken",
                    IntentError(
                        f"{segment.kind} {segment.id} on {segment.parent} is that of {other.key}, "
                        f"and namespace {spec.key.namespace} is not among its AllowedTenants",
                        hint="use another id, or ask its owner to add the namespace",
                        subject=str(spec.key),
                    ),
                )
            spec = replace(spec, allowed_tenants=(spec.allowed_tenants or admitted) & admitted)
        return spec


class _Recaller(_Chooser):
    """As the chooser, but what is recorded stands, and nothing else is given."""

    def _end_absent(self) -> None:
        """Nothing is ended."""

    def _holding(self, spec: NetworkSpec) -> Holding:
        """What is recorded for this very object on the device that it asks for."""
        held = self._holdings.get(str(spec.key))
        asked = spec.device_pool or spec.host_device
        if held is None or held.uid != spec.uid:
            raise _ProblemError(ASSIGNMENT_PENDING, _pending(spec, "no device is assigned yet"))
        if not _fits(held, asked):
            words = f"it asks for {asked or 'a NIC'}, and {held.device} is still assigned"
            raise _ProblemError(ASSIGNMENT_PENDING, _pending(spec, words))
        return held


def _fits(held: Holding, asked: str) -> bool:
    """Is that what a network asks for, which names a device, or none and so any NIC?"""
    return held.device == asked or (not asked and "/" not in held.device)


def _network_id_missing(spec: NetworkSpec) -> IntentError:
    return IntentError(
        f"NetworkType {spec.backend} needs a NetworkID, and no TenantConfig maps one to it",
        hint=f"set NetworkID, or networkIds.{spec.backend} in a TenantConfig",
        subject=str(spec.key),
    )


def _pending(spec: NetworkSpec, words: str) -> NotReadyError:
    return NotReadyError(
        words, hint="the controller assigns one; is it running?", subject=str(spec.key)
    )

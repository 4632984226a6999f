"""Admission of TenantNetworks, ClusterNetworks and DanmNets. Pure, but for what it asks its ports.

All rules of one object are `api.rules`; where a network comes to lie is decided by `ipam.profiles`,
which is asked what it would do. Rules that depend on who comes first (a range that is full) are the
controller's: here they are a warning at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from danmpy.api.drafts import OPTIONS
from danmpy.api.findings import Finding
from danmpy.api.limits import NETWORK_ID_MAX
from danmpy.api.profile_rules import quotas_for, serving
from danmpy.api.rules import bitmaps_of, judge_network, judge_update, keeps_what_danm_wrote
from danmpy.api.specs import (
    Condition,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    SegmentKey,
    TenantConfigSpec,
)
from danmpy.api.words import counted
from danmpy.controller.admission_leases import judge_leases, judge_tenants, narrows
from danmpy.controller.lookups import newest_configs
from danmpy.controller.ports import AdmissionPorts, Holders
from danmpy.controller.reviews import Object, Operation, Review, Verdict, told_finding
from danmpy.errors import StoreError
from danmpy.intent.values import NO_TENANT_CONFIG
from danmpy.ipam.profiles import Assignments, Stored, Wanted, choose, is_offered
from danmpy.ipam.values import Lease

IGNORED_BITMAP: Final = "DANM's bitmap is ignored, allocations are kept in the database"

_PLACE: Final = ("host_device", "device_pool", "vlan", "vxlan")
_FIELD_OF: Final[Mapping[str, str]] = {
    "NetworkIdMissing": "spec.NetworkID",
    NO_TENANT_CONFIG: "spec",
}
"""Reasons of `ipam.profiles` that are about another field than the device."""


def judge_network_review(review: Review, ports: AdmissionPorts) -> Verdict:
    """What is to be said of this change of a network.

    Raises:
        StoreError: it depends on what is held, and the database cannot be asked.
    """
    kind = NetworkKind(review.kind)
    namespace = "" if kind is NetworkKind.CLUSTER else review.namespace
    key = NetworkKey(kind=kind, namespace=namespace, name=review.name)
    match review.operation:
        case Operation.DELETE:
            return _judge_delete(key, review.old, ports)
        case Operation.UPDATE if review.new is not None and review.old is not None:
            return _judge_change(key, review.old, review.new, ports)
        case Operation.CREATE if review.new is not None:
            return _judge_new(key, review.new, ports)
        case _:
            return Verdict()


def _judge_new(key: NetworkKey, manifest: Object, ports: AdmissionPorts) -> Verdict:
    findings = judge_network(key, "", manifest).findings
    # Placed also when something else is wrong with it: everything is told at once.
    placed = judge_network(key, "", _only_place(key.kind, manifest)).network
    if placed is None:
        return Verdict(invalid=findings)
    if key.kind is NetworkKind.TENANT:
        verdict = _judge_tenant_place(placed, ports)
    else:
        verdict = judge_segment(placed, ports)
    conflicts = (*verdict.conflicts, *_judge_quota(key, ports))
    change = _Change(key=key, old=None, new=judge_network(key, "", manifest).network)
    if change.new is not None:
        conflicts += tuple(judge_leases(None, change.new, (), _leases_beside(change, ports)))
    return replace(verdict, invalid=findings + verdict.invalid, conflicts=conflicts)


def _judge_quota(key: NetworkKey, ports: AdmissionPorts) -> Iterator[Finding]:
    """How many networks the namespace may have. Two that come in the same moment may both pass:
    who is asked does not know of the other yet."""
    intent = ports.wishes.read()
    others = {
        other
        for other in (*intent.networks, *intent.rejected)
        if key.namespace
        and other.namespace == key.namespace
        and other.kind is not NetworkKind.NAD
        and other != key
    }
    known = intent.tenant_configs
    if not _is_full(known, key, len(others)):
        return
    newest = newest_configs(ports.lookups, known)
    if _is_full(newest, key, len(others)):
        limit = quotas_for(newest, key.namespace).networks
        yield Finding(
            path="metadata.namespace",
            code="QuotaExceeded",
            message=f"namespace {key.namespace} may have {limit} networks (quotas.networks), and "
            f"has {len(others)}",
            hint="delete a network, or raise the quota in the TenantConfigs of the namespace",
        )


def _is_full(configs: Sequence[TenantConfigSpec], key: NetworkKey, count: int) -> bool:
    limit = quotas_for(configs, key.namespace).networks
    return bool(key.namespace) and limit is not None and count >= limit


def _judge_change(key: NetworkKey, old: Object, new: Object, ports: AdmissionPorts) -> Verdict:
    if old.get("spec") == new.get("spec"):
        # Labels, finalizers: also of an object that breaks a rule which came after it.
        return Verdict()
    judged = judge_network(key, "", new, stored=keeps_what_danm_wrote(old, new))
    always = judge_update(key.kind, old, new, in_use=False)
    while_used = judge_update(key.kind, old, new, in_use=True)
    verdict = Verdict(invalid=judged.findings + always)
    before = judge_network(key, "", old, stored=True).network
    change = _Change(key=key, old=before, new=judged.network)
    if len(while_used) > len(always) or change.narrows:
        used = tuple(found for found in while_used if found not in always)
        conflicts = tuple(_judge_in_use(change, used, ports))
        verdict = replace(verdict, conflicts=conflicts)
    if key.kind is not NetworkKind.TENANT:
        placed = judge_network(key, "", _only_place(key.kind, new)).network
        was = judge_network(key, "", _only_place(key.kind, old)).network
        if placed and placed.segment != (was and was.segment):
            moved = judge_segment(placed, ports)
            conflicts = verdict.conflicts + moved.conflicts
            verdict = replace(verdict, conflicts=conflicts, warnings=moved.warnings)
    ignored = (f"{field}: {IGNORED_BITMAP}" for field in bitmaps_of(new))
    return verdict.with_warnings(ignored) if verdict.allowed else verdict


def _judge_delete(key: NetworkKey, old: Object | None, ports: AdmissionPorts) -> Verdict:
    metadata = old.get("metadata") if old is not None else None
    if isinstance(metadata, Mapping) and metadata.get("deletionTimestamp"):
        return Verdict()  # it is going already, and waits for its pods
    holders = ports.facts.holders(key)
    if holders.count == 0:
        attached = ports.facts.attached(key)
        if attached == 0:
            return Verdict()
        message = _reported(attached)
    else:
        message = f"it is in use: {_held(holders)}"
    hint = "delete the pods that are attached first"
    found = Finding(path="metadata.name", code="NetworkInUse", message=message, hint=hint)
    return Verdict(conflicts=(found,))


# Where a network comes to lie


def _judge_tenant_place(spec: NetworkSpec, ports: AdmissionPorts) -> Verdict:
    """What the TenantConfigs of its namespace allow. The cache's say no is asked for once more:
    the TenantConfig may have been created in the same moment."""
    known = ports.wishes.read().tenant_configs
    configs = serving(known, spec.key.namespace)
    invalid = tuple(_tenant_problems(spec, configs, ports))
    if invalid:
        configs = serving(newest_configs(ports.lookups, known), spec.key.namespace)
        invalid = tuple(_tenant_problems(spec, configs, ports))
    if invalid:
        return Verdict(invalid=invalid)
    return Verdict(warnings=tuple(_full_range(spec, configs, ports)))


def _tenant_problems(
    spec: NetworkSpec, configs: Sequence[TenantConfigSpec], ports: AdmissionPorts
) -> Iterator[Finding]:
    """What would be wrong in a cluster without any other network: that no order can change."""
    assignments = _choose(spec, configs, Stored(holdings={}))
    if problem := assignments.problems.get(spec.key):
        device = f"{OPTIONS}.{'device_pool' if spec.device_pool else 'host_device'}"
        problem = ports.wishes.read().with_refused_config(problem)
        yield _finding(_FIELD_OF.get(problem.reason, device), problem)
        return
    placed = assignments.networks[spec.key]
    if placed.segment is not None and len(placed.network_id) > NETWORK_ID_MAX:
        yield Finding(  # rule 23, which for a TenantNetwork counts once it is placed
            path="spec.NetworkID",
            code="NetworkIdTooLong",
            message=f"NetworkID {placed.network_id} is longer than {NETWORK_ID_MAX} characters,"
            f" and the network comes to lie on a {placed.segment.kind}",
            hint=f"use at most {NETWORK_ID_MAX} characters",
        )


def _full_range(
    spec: NetworkSpec, configs: Sequence[TenantConfigSpec], ports: AdmissionPorts
) -> Iterator[str]:
    segment = _choose(spec, configs, Stored(holdings={})).networks[spec.key].segment
    intent = ports.wishes.read()
    if segment is None or _size(segment, configs) > len(intent.networks):
        return  # not all ids can be in use, and to ask for each would be for nothing
    try:
        holdings = {holding.network: holding for holding in ports.facts.assigned()}
    except StoreError:
        return  # whether it gets an id is seen when it is assigned
    segments = (other.segment for other in intent.networks.values())
    claims = intent.claims | {segment for segment in segments if segment is not None}
    assignments = _choose(spec, configs, Stored(holdings=holdings), claims)
    if problem := assignments.problems.get(spec.key):
        yield f"it is accepted and has to wait: {problem.message}"


def _size(segment: SegmentKey, configs: Sequence[TenantConfigSpec]) -> int:
    """How many ids the profile has that `segment` is from."""
    return max(
        sum(last - first + 1 for first, last in profile.ids)
        for config in configs
        for profile in config.host_devices
        if (profile.name, profile.kind) == (segment.parent, segment.kind)
    )


def judge_segment(spec: NetworkSpec, ports: AdmissionPorts, *, field: str = "") -> Verdict:
    """The wire that a network names which is no TenantNetwork: no tenant may have it. `field` is
    where it is named.

    Raises:
        StoreError: the database cannot be asked.
    """
    if spec.segment is None:
        return Verdict()
    field = field or f"{OPTIONS}.{spec.segment.kind}"
    owners = ports.facts.owners(spec.segment.kind, spec.segment.id)
    holdings = {holding.network: holding for holding in owners}
    networks = {**_cluster_networks(spec, ports), spec.key: spec}
    wanted = Wanted(networks=networks, tenant_configs=(), complete=False)
    assignments = choose(wanted, Stored(holdings=holdings), 0).assignments
    if problem := assignments.problems.get(spec.key):
        return Verdict(conflicts=(_finding(field, problem),))
    if is_offered(spec.segment, ports.wishes.read().tenant_configs):
        found = Finding(
            path=field,
            code="SegmentOffered",
            message=f"{spec.segment.kind} {spec.segment.id} on {spec.segment.parent} is in the "
            "vniRange of a TenantConfig: no tenant gets it now",
            hint="use an id outside of the ranges",
        )
        return Verdict(warnings=(told_finding(found),))
    return Verdict()


def _cluster_networks(spec: NetworkSpec, ports: AdmissionPorts) -> dict[NetworkKey, NetworkSpec]:
    """Those that may have a say about the wire of a NetworkAttachmentDefinition."""
    if spec.key.kind is not NetworkKind.NAD:
        return {}
    networks = ports.wishes.read().networks
    return {key: each for key, each in networks.items() if key.kind is NetworkKind.CLUSTER}


def _choose(
    spec: NetworkSpec,
    configs: Sequence[TenantConfigSpec],
    stored: Stored,
    claims: frozenset[SegmentKey] = frozenset(),
) -> Assignments:
    # Not complete: what other networks have is not ended because they are not asked about.
    wanted = Wanted(
        networks={spec.key: spec}, tenant_configs=configs, claims=claims, complete=False
    )
    return choose(wanted, stored, 0).assignments


def _only_place(kind: NetworkKind, manifest: Object) -> dict[str, Any]:
    """`manifest` with nothing but where it wants to lie."""
    spec = manifest.get("spec")
    spec = spec if isinstance(spec, Mapping) else {}
    options = spec.get("Options")
    options = options if isinstance(options, Mapping) else {}
    fields = _PLACE[:2] if kind is NetworkKind.TENANT else _PLACE
    kept = {field: options[field] for field in fields if field in options}
    names = {field: spec[field] for field in ("NetworkID", "NetworkType") if field in spec}
    if kind is not NetworkKind.TENANT:
        names["NetworkID"] = "id"  # a missing or long one is told by the rules
    return {"spec": {**names, "Options": kept}}


def _finding(path: str, problem: Condition) -> Finding:
    """`problem` about a field; its message ends with the hint already."""
    return Finding(path=path, code=problem.reason, message=problem.message, hint="")


# What pods hold


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """A network before and after; None where the rules do not accept it."""

    key: NetworkKey
    old: NetworkSpec | None
    new: NetworkSpec | None

    @property
    def narrows(self) -> bool:
        """May somebody who holds something be left without it?"""
        return self.new is not None and narrows(self.old, self.new)


def _judge_in_use(
    change: _Change, frozen: Sequence[Finding], ports: AdmissionPorts
) -> Iterator[Finding]:
    """`frozen` are the findings that count when somebody is attached."""
    holders = ports.facts.holders(change.key)
    if frozen:
        if holders.count:
            who = _held(holders)
        elif attached := ports.facts.attached(change.key):
            who = _reported(attached)
        else:
            who = ""
        for found in frozen if who else ():
            yield replace(found, message=f"{found.message}, and {who}")
    if change.new is None or not change.narrows:
        return
    leases = ports.facts.open_leases(change.key) if holders.count else ()
    yield from judge_leases(change.old, change.new, leases, _leases_beside(change, ports))
    yield from judge_tenants(change.new, leases)


def _leases_beside(change: _Change, ports: AdmissionPorts) -> Sequence[Lease]:
    """What is held on the other networks of its wire."""
    keys = _neighbours(change, ports)
    return [lease for key in keys for lease in ports.facts.open_leases(key)]


def _neighbours(change: _Change, ports: AdmissionPorts) -> Iterator[NetworkKey]:
    """Networks on the same wire: what one keeps back, the others must not have given away."""
    if change.new is None or change.new.segment is None:
        return
    for key, other in ports.wishes.read().networks.items():
        if key != change.key and other.segment == change.new.segment:
            yield key


def _held(holders: Holders) -> str:
    held = f"{counted(holders.count, 'address')} held"
    lease = holders.example
    if lease is None:
        return held
    return f"{held}{', one of them' if holders.count > 1 else ''} by {lease.holder}"


def _reported(attached: int) -> str:
    return f"nodes report {counted(attached, 'interface')} of pods on it"

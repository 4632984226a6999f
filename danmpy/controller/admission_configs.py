"""Admission of TenantConfigs. Pure, but for what it asks its ports.

A TenantConfig that goes or shrinks takes nothing from a TenantNetwork: it keeps what it has. That
is why going below what is assigned is refused: the TenantConfigs would no longer say who may be
where.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from danmpy.api.findings import Finding
from danmpy.api.profile_rules import allocs_of, judge_tenant_config, overlaps, serving
from danmpy.api.specs import HostDeviceProfile, NetworkKey, NetworkKind, TenantConfigSpec
from danmpy.clock import to_rfc3339
from danmpy.controller.admission_networks import IGNORED_BITMAP
from danmpy.controller.lookups import newest_configs, newest_network
from danmpy.controller.ports import AdmissionPorts
from danmpy.controller.reviews import Object, Operation, Review, Verdict
from danmpy.errors import ClusterError
from danmpy.ipam.profiles import ABSENCE_GRACE, Holding

_TOLD_MAX: Final = 5
"""Assignments that are named; of a range in use there may be thousands."""

_KUBERNETES: Final = frozenset({"apiVersion", "kind", "metadata", "status"})


def judge_config_review(review: Review, ports: AdmissionPorts) -> Verdict:
    """What is to be said of this change of a TenantConfig.

    Raises:
        StoreError: it depends on what is assigned, and the database cannot be asked.
    """
    before = _accepted(review.name, review.old)
    if review.operation is Operation.DELETE:
        return _Neighbourhood(review.name, ports).judge(before, None)
    if review.new is None:
        return Verdict()
    if review.old is not None and _written(review.old) == _written(review.new):
        return Verdict()
    allocs = allocs_of(review.new)
    known = allocs_of(review.old) if review.old is not None else {}
    # By their values: a device that comes before others shifts them in the list.
    stored = all(alloc in known.values() for alloc in allocs.values())
    verdict = judge_tenant_config(review.name, review.new, stored=stored)
    if verdict.config is None:
        return Verdict(invalid=verdict.findings)
    answer = _Neighbourhood(review.name, ports).judge(before, verdict.config)
    ignored = (f"{field}: {IGNORED_BITMAP}" for field in allocs)
    return answer.with_warnings(ignored) if answer.allowed else answer


class _Neighbourhood:
    """One TenantConfig among the others, which a cache that is late may not know yet."""

    def __init__(self, name: str, ports: AdmissionPorts) -> None:
        self._name = name
        self._ports = ports

    def judge(self, before: TenantConfigSpec | None, after: TenantConfigSpec | None) -> Verdict:
        # A new one takes what others serve, when it names namespaces: those are then its own.
        takes = before is not None or (after is not None and after.namespaces is not None)
        holdings = self._ports.facts.assigned() if takes else ()
        known = self._ports.wishes.read().tenant_configs
        conflicts = tuple(self._conflicts(before, after, known, holdings))
        if conflicts:
            newest = newest_configs(self._ports.lookups, known)
            conflicts = tuple(self._conflicts(before, after, newest, holdings))
        return Verdict(conflicts=conflicts)

    def _conflicts(
        self,
        before: TenantConfigSpec | None,
        after: TenantConfigSpec | None,
        known: Sequence[TenantConfigSpec],
        holdings: Sequence[Holding],
    ) -> Iterator[Finding]:
        others = [config for config in known if config.name != self._name]
        if after is not None:
            yield from overlaps(others, after)
        then = [*others, before] if before is not None else others
        now = [*others, after] if after is not None else others
        losing = [h for h in holdings if _covers(then, h) > _covers(now, h)]
        yield from self._told(before, after, losing)

    def _told(
        self,
        before: TenantConfigSpec | None,
        after: TenantConfigSpec | None,
        losing: Sequence[Holding],
    ) -> Iterator[Finding]:
        """What the networks of `losing` would be left with."""
        for holding in sorted(losing, key=lambda each: each.network)[:_TOLD_MAX]:
            what = f"{holding.kind} {holding.id} on {holding.device}"
            what = what if holding.kind else holding.device
            message = f"{what} is assigned to {holding.network}"
            hint = "keep it on offer, or delete that network first"
            if self._is_gone(holding):
                until = to_rfc3339(holding.since + ABSENCE_GRACE)
                message = f"{what} was assigned to {holding.network}, which is gone, and it rests"
                hint = f"try again after {until}, when the controller has given it back"
            yield Finding(
                path=_path(before, after, holding), code="ProfileInUse", message=message, hint=hint
            )
        if len(losing) > _TOLD_MAX:
            yield Finding(
                path="hostDevices",
                code="ProfileInUse",
                message=f"{len(losing) - _TOLD_MAX} more assignments would no longer be on offer",
                hint="keep them on offer, or delete those networks first",
            )

    def _is_gone(self, holding: Holding) -> bool:
        """Is there no such network any more? The API server is asked before that is said."""
        kind, namespace, name = holding.network.split("/")
        key = NetworkKey(kind=NetworkKind(kind), namespace=namespace, name=name)
        intent = self._ports.wishes.read()
        if key in intent.networks or key in intent.rejected:
            return False
        try:
            return newest_network(self._ports.lookups, key) is None
        except ClusterError:
            return False


def _covers(configs: Sequence[TenantConfigSpec], holding: Holding) -> bool:
    """Do the TenantConfigs that count for its namespace offer what this network has?"""
    _, namespace, _ = holding.network.split("/")
    return any(
        _has(profile, holding)
        for config in serving(configs, namespace)
        for profile in config.host_devices
    )


def _has(profile: HostDeviceProfile, holding: Holding) -> bool:
    if profile.name != holding.device or profile.kind is not holding.kind:
        return False
    return profile.kind is None or any(low <= holding.id <= high for low, high in profile.ids)


def _path(before: TenantConfigSpec | None, after: TenantConfigSpec | None, holding: Holding) -> str:
    """The field that leaves it out: a range, else the list of devices."""
    if before is None:
        return "namespaces"  # a new one has taken the namespace from who serves it
    for index, profile in enumerate(after.host_devices if after is not None else ()):
        if (profile.name, profile.kind) == (holding.device, holding.kind):
            # Still in the range: then it is the namespace that is served no longer.
            return "namespaces" if _has(profile, holding) else f"hostDevices[{index}].vniRange"
    return "hostDevices"


def _accepted(name: str, manifest: Object | None) -> TenantConfigSpec | None:
    return judge_tenant_config(name, manifest, stored=True).config if manifest is not None else None


def _written(manifest: Object) -> dict[str, object]:
    """What a person wrote: all but what is Kubernetes'. There is no spec."""
    return {field: value for field, value in manifest.items() if field not in _KUBERNETES}

"""All wishes together, as trusted values, and what was refused with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from danmpy.api.specs import (
    Condition,
    IpamClaimSpec,
    NetworkKey,
    NetworkSpec,
    NodeSpec,
    PodSpec,
    SegmentKey,
    TenantConfigSpec,
)

NO_TENANT_CONFIG: Final = "NoTenantConfig"
"""The reason of `ipam.profiles` for a TenantNetwork that no TenantConfig counts for."""

_CONFIG: Final = "TenantConfig/"

PodKey = tuple[str, str]
"""Namespace and name of a pod."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """One thing that is wrong with what a person wrote.

    `where` is ``file:line`` (or an API path), `subject` the object
    (``TenantNetwork/blue/internal``) or the file, `code` the rule that was broken in one word
    (``SubnetInvalid``).
    """

    where: str
    subject: str
    code: str
    message: str
    hint: str

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.subject}: {self.message} ({self.hint}) [{self.code}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """Everything that people want, at one moment.

    `networks` are accepted; a network whose manifest breaks a rule is in `rejected` instead, with
    all its problems. `claims` are the segments that rejected manifests name, as far as that can be
    read: what exists for them on a host is kept until a person has corrected the manifest.
    `ipam_claims`, by namespace and name, are those of a folder; in a cluster each is asked for.
    `complete` is False when a part could not be read at all and no earlier reading of it is known:
    then absence proves nothing, and nothing may be removed for being absent.
    """

    networks: Mapping[NetworkKey, NetworkSpec] = field(default_factory=dict)
    rejected: Mapping[NetworkKey, tuple[Problem, ...]] = field(default_factory=dict)
    claims: frozenset[SegmentKey] = frozenset()
    tenant_configs: tuple[TenantConfigSpec, ...] = ()
    pods: Mapping[PodKey, PodSpec] = field(default_factory=dict)
    ipam_claims: Mapping[PodKey, IpamClaimSpec] = field(default_factory=dict)
    nodes: tuple[NodeSpec, ...] = ()
    problems: tuple[Problem, ...] = ()
    complete: bool = True

    @property
    def refused_configs(self) -> tuple[Problem, ...]:
        """What is wrong with the TenantConfigs that do not count."""
        accepted = {f"{_CONFIG}{config.name}" for config in self.tenant_configs}
        return tuple(
            problem
            for problem in self.problems
            if problem.subject.startswith(_CONFIG) and problem.subject not in accepted
        )

    def with_refused_config(self, problem: Condition) -> Condition:
        """`problem` of a TenantNetwork, in words that name the TenantConfig whose refusal it is."""
        refused = self.refused_configs
        if problem.reason != NO_TENANT_CONFIG or not refused:
            return problem
        first = refused[0]
        words = f"{first.subject} is refused: {first.message} ({first.hint})"
        return replace(problem, message=f"no TenantConfig serves the namespace now, and {words}")

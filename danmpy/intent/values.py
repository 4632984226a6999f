"""All wishes together, as trusted values, and what was refused with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from danmpy.api.specs import (
    NetworkKey,
    NetworkSpec,
    NodeSpec,
    PodSpec,
    SegmentKey,
    TenantConfigSpec,
)

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
    `complete` is False when a part could not be read at all and no earlier reading of it is known:
    then absence proves nothing, and nothing may be removed for being absent.
    """

    networks: Mapping[NetworkKey, NetworkSpec] = field(default_factory=dict)
    rejected: Mapping[NetworkKey, tuple[Problem, ...]] = field(default_factory=dict)
    claims: frozenset[SegmentKey] = frozenset()
    tenant_configs: tuple[TenantConfigSpec, ...] = ()
    pods: Mapping[PodKey, PodSpec] = field(default_factory=dict)
    nodes: tuple[NodeSpec, ...] = ()
    problems: tuple[Problem, ...] = ()
    complete: bool = True

"""What refused manifests said while they were right."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import TypeVar

from danmpy.api.specs import NetworkKey, NodeSpec, SegmentKey, TenantConfigSpec
from danmpy.intent.values import Intent

_Named = TypeVar("_Named", NodeSpec, TenantConfigSpec)


class Memory:
    """Kept by a source over all its readings.

    A slip of the pen in a manifest that is in use must not take a segment, a tunnel end or the
    profiles away: nobody asked for that.
    """

    def __init__(self) -> None:
        self._segments: Mapping[NetworkKey, SegmentKey] = {}
        self._nodes: tuple[NodeSpec, ...] = ()
        self._configs: tuple[TenantConfigSpec, ...] = ()

    def completed(self, intent: Intent) -> Intent:
        """`intent` with what its refused manifests said in an earlier one; call it for each."""
        segments = {k: n.segment for k, n in intent.networks.items() if n.segment is not None}
        kept = {k: self._segments[k] for k in intent.rejected if k in self._segments}
        self._segments = {**segments, **kept}
        refused = {problem.subject for problem in intent.problems}
        nodes = _with_refused(intent.nodes, self._nodes, "Node", refused)
        configs = _with_refused(intent.tenant_configs, self._configs, "TenantConfig", refused)
        self._nodes, self._configs = nodes, configs
        return replace(
            intent,
            claims=intent.claims | frozenset(kept.values()),
            nodes=nodes,
            tenant_configs=configs,
        )


def _with_refused(
    now: tuple[_Named, ...], before: tuple[_Named, ...], kind: str, refused: Container[str]
) -> tuple[_Named, ...]:
    """`now`, and those of `before` whose manifests are there and refused."""
    names = {one.name for one in now}
    return now + tuple(
        one for one in before if one.name not in names and f"{kind}/{one.name}" in refused
    )

"""Where this node's tunnels end, for the other nodes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from danmpy.api.nodes import OBSERVED_VTEPS
from danmpy.api.specs import IPAddress, SegmentKind
from danmpy.netwatcher.values import LookReport

Vteps = Mapping[str, tuple[IPAddress, ...]]
"""Parent device to this node's addresses on it."""

_NONE: Final[Vteps] = {}


def vteps_of(report: LookReport, before: Vteps = _NONE) -> Vteps:
    """What to publish after `report`, when `before` was published last.

    A parent whose address is away for a moment keeps what was published, as its tunnels do; one
    that no VXLAN network names any more is left out.
    """
    wanted = {
        network.segment.parent
        for network in report.networks.values()
        if network.segment is not None and network.segment.kind is SegmentKind.VXLAN
    }
    found = {parent: report.vteps.get(parent) or before.get(parent, ()) for parent in wanted}
    return {parent: found[parent] for parent in sorted(found) if found[parent]}


def render_vteps(vteps: Vteps) -> str:
    """The value of the annotation (`api.nodes.parse_vteps` reads it)."""
    return json.dumps({parent: [str(each) for each in vteps[parent]] for parent in sorted(vteps)})


def vteps_patch(vteps: Vteps) -> dict[str, Any]:
    """The merge patch of the Node; without anything to publish the annotation goes."""
    value = render_vteps(vteps) if vteps else None
    return {"metadata": {"annotations": {OBSERVED_VTEPS: value}}}

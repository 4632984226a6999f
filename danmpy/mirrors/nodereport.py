"""What this node tells the controller about each network: device, failure, attached interfaces.

Decides only; the rows are kept by `ipam.nodereports`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from danmpy.api.specs import ConditionStatus, NetworkKey, NetworkKind, NetworkSpec
from danmpy.attach.journal import AttachmentRecord, Phase
from danmpy.ipam.nodereports import NodeNetwork
from danmpy.kernel.hostlinks import RemoveLink
from danmpy.netwatcher.values import DEVICE_READY, LookReport

Rows = Mapping[str, NodeNetwork]
"""Network (as a key prints) to what is told about it."""

_NAD: Final = f"{NetworkKind.NAD}/"

UNWANTED: Final = "NotWanted"
"""Reason of a row whose network is not among the accepted ones any more."""


def attached_on(records: Iterable[AttachmentRecord]) -> Mapping[str, int]:
    """How many interfaces there are on each network, those that are just being made or taken away
    among them; one whose links are gone is only a lease, which the database knows."""
    return Counter(
        link.network
        for record in records
        if record.phase is not Phase.DETACHED
        for link in record.all_links
    )


def rows_of(report: LookReport, attached: Mapping[str, int], before: Rows) -> Rows:
    """The rows after `report`, when `before` were the last ones.

    A network that is not wanted any more keeps its row while pods are on it, and while its device
    is still there: its segment must not be given to another one meanwhile. One that waits for its
    first segment has none: nothing of that is this node's matter.
    """
    rows = {
        str(key): _row(key, report, attached.get(str(key), 0), before)
        for key in sorted(report.networks)
        if _is_told(report.networks[key])
    }
    devices = frozenset(_standing(report))
    held = {str(key) for key in report.conditions}
    held |= {str(key) for key in report.intent.rejected} if report.intent else set()
    rows |= dict(_hidden(rows, before, devices))
    for name, row in before.items():
        there = bool(row.device) and (row.device in devices or name in held)
        if name not in rows and (there or name in attached):
            rows[name] = _unwanted(row, attached.get(name, 0))
    for name, count in attached.items():
        if name not in rows and not name.startswith(_NAD):
            rows[name] = _unwanted(_blank(name), count)
    return rows


def _hidden(rows: Rows, before: Rows, devices: frozenset[str]) -> Iterator[tuple[str, NodeNetwork]]:
    """Rows of devices that still stand while their network has gone to another segment, or is
    another one of that name: without them the segment would be given away."""
    for name, row in before.items():
        now = rows.get(name)
        if now is not None and row.segment != now.segment and row.device in devices:
            other = f"{name}#{row.segment}"
            yield other, replace(_unwanted(row, 0), network=other)


def _is_told(network: NetworkSpec) -> bool:
    """Nobody asks the nodes about the NetworkAttachmentDefinitions of other plugins."""
    return network.key.kind is not NetworkKind.NAD or network.segment is not None


def _row(key: NetworkKey, report: LookReport, attached: int, before: Rows) -> NodeNetwork:
    segment = str(report.networks[key].segment or "")
    known = before.get(str(key))
    had = known.device if known is not None and known.segment == segment else ""
    wrong = next(
        (
            condition
            for condition in report.conditions.get(key, ())
            if condition.type == DEVICE_READY and condition.status is not ConditionStatus.TRUE
        ),
        None,
    )
    return NodeNetwork(
        network=str(key),
        segment=segment,
        device=report.device_of.get(key, had),
        ready=key in report.device_of,
        reason=wrong.reason if wrong else "",
        message=wrong.message if wrong else "",
        attached=attached,
    )


def _standing(report: LookReport) -> Iterator[str]:
    """Devices that nothing wants and that are there all the same."""
    yield from report.kept_orphans
    yield from report.kept_in_use
    for failure in report.failures:
        if isinstance(failure.step.change, RemoveLink):
            yield failure.step.device


def _unwanted(row: NodeNetwork, attached: int) -> NodeNetwork:
    return replace(
        row,
        ready=False,
        reason=UNWANTED,
        message="the network is not wanted any more, or refused; what is there stays meanwhile",
        attached=attached,
    )


def _blank(network: str) -> NodeNetwork:
    return NodeNetwork(
        network=network, segment="", device="", ready=False, reason="", message="", attached=0
    )

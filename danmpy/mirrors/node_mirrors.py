"""Keeps what is told about this node itself: rows for the controller, tunnel ends for the nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from danmpy.kube.resources import NODES
from danmpy.mirrors.attachments import Records
from danmpy.mirrors.nodereport import Rows, attached_on, rows_of
from danmpy.mirrors.ports import API_SERVER, DATABASE, Cluster, Reports
from danmpy.mirrors.vteps import Vteps, vteps_of, vteps_patch
from danmpy.netwatcher.values import LookReport

REST_S: Final = 1.0
"""Seconds between two looks at the rows: ten pods a second must not be ten transactions."""

LOST_S: Final = 60.0
"""Seconds after which tunnel ends that the Node does not show are published again: a Node that is
registered anew has lost its annotations."""


class ReportMirror:
    """This node's rows in the database, after each look and when attachments changed."""

    name = "node report"
    place = DATABASE

    def __init__(
        self,
        reports: Reports,
        records: Records,
        report: Callable[[], LookReport],
        node_name: str,
    ) -> None:
        self._reports = reports
        self._records = records
        self._report = report
        self._node_name = node_name
        self._written: Rows | None = None
        self._seen: tuple[LookReport, Mapping[str, int]] | None = None
        self._rest_until = 0.0

    def run(self, now: float) -> float | None:
        """As `ports.Target.run`."""
        if now < self._rest_until:
            return self._rest_until - now
        report, attached = self._report(), attached_on(self._records.read_all())
        if report.at == 0 or (
            self._seen is not None and self._seen[0] is report and self._seen[1] == attached
        ):
            return None
        self._rest_until = now + REST_S
        if self._written is None:
            self._written = self._reports.read(self._node_name)
        rows = rows_of(report, attached, self._written)
        # Also rows that did not change: the store looks from time to time whether they are there.
        self._reports.write(self._node_name, rows)
        self._written = rows
        self._seen = (report, attached)
        return None


class VtepMirror:
    """The annotation with this node's tunnel ends on its own Node; written when they changed."""

    name = "tunnel ends"
    place = API_SERVER

    def __init__(self, cluster: Cluster, report: Callable[[], LookReport], node_name: str) -> None:
        self._cluster = cluster
        self._report = report
        self._node_name = node_name
        self._published: Vteps | None = None
        self._at = 0.0

    def run(self, now: float) -> float | None:
        """As `ports.Target.run`."""
        report = self._report()
        if report.at == 0 or report.intent is None or not report.intent.complete:
            return None
        own = next((node for node in report.intent.nodes if node.name == self._node_name), None)
        shown: Vteps = own.observed if own is not None else {}
        before = shown if self._published is None else self._published
        vteps = vteps_of(report, before)
        lost = bool(vteps) and not shown and now - self._at > LOST_S
        if vteps == before and not lost:
            self._published = before
            return None
        self._cluster.patch(NODES, self._node_name, vteps_patch(vteps), "", "status")
        self._published, self._at = vteps, now
        return None

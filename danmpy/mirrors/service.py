"""All mirrors of one node daemon, put together, and what the rest of the daemon says to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from danmpy.api.cni import CniRequest
from danmpy.attach.plugging.news import PodNews
from danmpy.clock import Clock, wall_clock
from danmpy.errors import DanmpyError
from danmpy.intent.values import Intent
from danmpy.mirrors.attachments import AttachmentReader, Records
from danmpy.mirrors.claim_mirror import ClaimMirror
from danmpy.mirrors.endpoint_mirror import EndpointMirror
from danmpy.mirrors.event_mirror import EventMirror, EventPorts
from danmpy.mirrors.node_mirrors import ReportMirror, VtepMirror
from danmpy.mirrors.ports import Cluster, Reports, Target
from danmpy.mirrors.status_mirror import StatusMirror
from danmpy.mirrors.writer import Writer
from danmpy.netwatcher.values import LookReport


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorPorts:
    """What the mirrors read and where they write.

    `intent` and `report` answer at once, from memory. `cluster` is None without an API server: then
    only the node's rows in the database are written.
    """

    records: Records
    intent: Callable[[], Intent]
    report: Callable[[], LookReport]
    reports: Reports
    cluster: Cluster | None = None
    clock: Clock = wall_clock


class Mirrors:
    """The mirrors of one node, written by a thread of their own between `start` and `close`."""

    def __init__(self, ports: MirrorPorts, node_name: str) -> None:
        targets: list[Target] = []
        self._events: EventMirror | None = None
        if ports.cluster is not None:
            reader = AttachmentReader(ports.records, ports.intent)
            event_ports = EventPorts(intent=ports.intent, report=ports.report, clock=ports.clock)
            self._events = EventMirror(ports.cluster, reader, event_ports, node_name)
            targets = [
                VtepMirror(ports.cluster, ports.report, node_name),
                StatusMirror(ports.cluster, reader),
                EndpointMirror(ports.cluster, reader, node_name),
                ClaimMirror(ports.cluster, reader),
                self._events,
            ]
        # First: the controller lets go of a network by what it says.
        targets.insert(0, ReportMirror(ports.reports, ports.records, ports.report, node_name))
        self._writer = Writer(targets)

    def start(self) -> None:
        """Begin to write, with all that is already there."""
        self._writer.start()

    def wake(self) -> None:
        """An attachment was made or let go of, or there was a look. Costs microseconds."""
        self._writer.wake()

    def attach_failed(self, request: CniRequest, error: DanmpyError) -> None:
        """An ADD failed. Costs microseconds."""
        if self._events is not None:
            self._events.attach_failed(request, error)
            self._writer.wake()

    def tell(self, news: PodNews) -> None:
        """The daemon found out something about a pod. Costs microseconds."""
        if self._events is not None:
            self._events.tell(news)
            self._writer.wake()

    def close(self) -> None:
        """Stop; what is not written yet is written after the next start."""
        self._writer.close()

"""Writes events: gathered from what changed, put together, and never more than a few a second.

Events are for people and may be lost; what is waiting while the API server is away is bounded.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import structlog

from danmpy.api.cni import CniRequest
from danmpy.attach.plugging.news import NewsKind, PodNews
from danmpy.clock import MICROSECONDS, Clock
from danmpy.errors import ClusterError, DanmpyError
from danmpy.intent.values import Intent
from danmpy.kube.errors import ClashError, MissingError
from danmpy.kube.resources import EVENTS
from danmpy.mirrors.attachments import AttachmentReader
from danmpy.mirrors.events import (
    Bucket,
    DeviceFailures,
    EventReason,
    Occurrence,
    about_pod,
    attached_message,
    device_failures,
    device_occurrences,
    event_body,
    event_name,
    full_bucket,
    repeated,
)
from danmpy.mirrors.ports import API_SERVER, CALLS, WAIT_S, Cluster, Object, concerns_all, sooner
from danmpy.netwatcher.values import LookReport

_log = structlog.get_logger(__name__)

MANY: Final = 500
"""Events that may wait, news that was not looked at, and counts that are remembered."""

OBJECT_BURST, OBJECT_PERIOD_S = 25, 5.0
"""Writes about one object: so many at once, then one in so many seconds; in between they add up."""

NODE_BURST, NODE_PERIOD_S = 100, 0.2
"""The same for everything that this node writes."""

FRESH_S: Final = 600
"""Seconds for which an attachment is told of after a start: what is older was told before, and
the API server keeps events for an hour only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPorts:
    """What events are made of, and when it is."""

    intent: Callable[[], Intent]
    report: Callable[[], LookReport]
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """Something about a pod that the runtime knows by `uid`."""

    namespace: str
    pod: str
    uid: str
    reason: EventReason
    message: str
    at: int


_REASON_OF: Final = {
    NewsKind.CHANGED: EventReason.CHANGED,
    NewsKind.REFUSED: EventReason.REFUSED,
    NewsKind.BROKEN: EventReason.BROKEN,
    NewsKind.MENDED: EventReason.MENDED,
}


class EventMirror:
    """Events on the pods of this node, and on networks about its devices."""

    name = "events"
    place = API_SERVER

    def __init__(
        self, cluster: Cluster, reader: AttachmentReader, ports: EventPorts, node_name: str
    ) -> None:
        self._cluster = cluster
        self._reader = reader
        self._ports = ports
        self._node_name = node_name
        self._news: deque[_Told] = deque(maxlen=MANY)
        self._told: set[tuple[str, str, int]] = set()
        self._looked_at = 0
        self._devices: DeviceFailures = {}
        self._pending: OrderedDict[str, Occurrence] = OrderedDict()
        self._counts: OrderedDict[str, Object] = OrderedDict()
        self._buckets: dict[str, Bucket] = {}
        self._node_bucket: Bucket | None = None

    def attach_failed(self, request: CniRequest, error: DanmpyError) -> None:
        """Note an ADD that failed; from any thread, in microseconds."""
        self._news.append(
            _Told(
                namespace=request.pod_namespace,
                pod=request.pod_name,
                uid=request.pod_uid,
                reason=EventReason.ATTACH_FAILED,
                message=str(error),
                at=self._ports.clock(),
            )
        )

    def tell(self, news: PodNews) -> None:
        """Note what the daemon found out about a pod; from any thread, in microseconds."""
        self._news.append(
            _Told(
                namespace=news.namespace,
                pod=news.pod,
                uid=news.pod_uid,
                reason=_REASON_OF[news.kind],
                message=news.message,
                at=self._ports.clock(),
            )
        )

    def run(self, now: float) -> float | None:
        """As `ports.Target.run`."""
        waiting = False
        for occurrence in (*self._told_of(), *self._changed_devices()):
            self._note(occurrence)
        for found in self._newly_attached():
            waiting = waiting or found is None
            if found is not None:
                self._note(found)
        return sooner(self._write(now), WAIT_S if waiting else None)

    # Gathering

    def _told_of(self) -> Iterator[Occurrence]:
        pods = self._ports.intent().pods if self._news else {}
        while self._news:
            news = self._news.popleft()
            pod = pods.get((news.namespace, news.pod))
            uid = pod.uid if pod and pod.is_uid(news.uid) else news.uid
            yield Occurrence(
                about=about_pod(news.namespace, news.pod, uid),
                reason=news.reason,
                message=news.message,
                first=news.at,
                last=news.at,
            )

    def _changed_devices(self) -> Iterator[Occurrence]:
        report = self._ports.report()
        if report.at == self._looked_at:
            return
        yield from device_occurrences(self._devices, report, self._node_name)
        self._looked_at, self._devices = report.at, device_failures(report)

    def _newly_attached(self) -> Iterator[Occurrence | None]:
        """What has been attached and was not told; None where the pod's object is not known yet."""
        attached = self._reader.read().attached
        fresh = self._ports.clock() - FRESH_S * MICROSECONDS
        told = set()
        for each in attached:
            identity = (*each.record.key, each.record.began_at)
            if identity in self._told or each.record.began_at < fresh:
                told.add(identity)
            elif each.pod is None:
                yield None
            else:
                told.add(identity)
                yield Occurrence(
                    about=about_pod(each.pod.namespace, each.pod.name, each.pod.uid),
                    reason=EventReason.ATTACHED,
                    message=attached_message(each.facts),
                    first=each.record.began_at,
                    last=each.record.began_at,
                    once=True,
                )
        self._told = told

    def _note(self, occurrence: Occurrence) -> None:
        if not occurrence.about.is_sound:
            return
        name = event_name(occurrence, self._node_name)
        before = self._pending.get(name)
        if before is not None:
            occurrence = before.joined(occurrence)
        elif len(self._pending) >= MANY:
            lost, _ = self._pending.popitem(last=False)
            _log.warning("too many events are waiting, one is lost", name=lost)
        self._pending[name] = occurrence

    # Writing

    def _write(self, now: float) -> float | None:
        """Write what may be written now; seconds until there is more."""
        calls, patience = 0, []
        for name, occurrence in tuple(self._pending.items()):
            if calls >= CALLS:
                patience.append(0.0)
                break
            if wait := self._admit(occurrence, now):
                patience.append(wait)
                continue
            self._send(name, occurrence)
            del self._pending[name]
            calls += 1
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if bucket.refilled(now).left < bucket.burst
        }
        return min(patience, default=None)

    def _admit(self, occurrence: Occurrence, now: float) -> float:
        """Take the permits for one write and answer 0; or the seconds until there are some."""
        key = f"{occurrence.about.kind}/{occurrence.about.uid}"
        own = self._buckets.get(key) or full_bucket(OBJECT_BURST, OBJECT_PERIOD_S, now)
        node = self._node_bucket or full_bucket(NODE_BURST, NODE_PERIOD_S, now)
        own, node = own.refilled(now), node.refilled(now)
        own_left, node_left = own.taken(), node.taken()
        if own_left is None or node_left is None:
            return max(own.patience_s, node.patience_s, 0.01)
        self._buckets[key], self._node_bucket = own_left, node_left
        return 0.0

    def _send(self, name: str, occurrence: Occurrence) -> None:
        try:
            stored = self._stored(name, occurrence)
        except ClusterError as error:
            if concerns_all(error):
                raise
            # The namespace is gone or ending, or events are not ours to write: no second try.
            _log.info("event refused", name=name, error=str(error))
            return
        self._counts[name] = {key: stored.get(key) for key in ("count", "lastTimestamp")}
        self._counts.move_to_end(name)
        while len(self._counts) > MANY:
            self._counts.popitem(last=False)

    def _stored(self, name: str, occurrence: Occurrence) -> dict[str, Any]:
        """Make the object, or raise its count; what the API server has then."""
        namespace = occurrence.about.event_namespace
        known = self._counts.get(name)
        if known is None:
            try:
                return self._create(occurrence)
            except ClashError:
                # An earlier daemon made it. A patch of nothing reads it: to read events is a right
                # that this process does not need otherwise.
                known = self._cluster.patch(EVENTS, name, {}, namespace)
        patch = repeated(known, occurrence)
        if not patch:
            return known
        try:
            return self._cluster.patch(EVENTS, name, patch, namespace)
        except MissingError:  # it has expired
            self._counts.pop(name, None)
            return self._create(occurrence)

    def _create(self, occurrence: Occurrence) -> dict[str, Any]:
        body = event_body(occurrence, self._node_name)
        return self._cluster.create(EVENTS, body, occurrence.about.event_namespace)

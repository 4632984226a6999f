"""Running pods whose annotations change: looked for often, and changed when they ask otherwise.

A look costs next to nothing while no pod changes. What cannot be done is told once and tried again,
ever more seldom: the network may come yet, or the pool get room.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from danmpy.api.specs import PodSpec
from danmpy.attach.journal import AttachmentRecord, Journal, Phase
from danmpy.attach.plugging.doing import Wished
from danmpy.attach.plugging.news import NewsKind, PodNews, Tell
from danmpy.attach.plugging.plan import Change
from danmpy.attach.plugging.wishes import wishes_of
from danmpy.attach.undo import names_of
from danmpy.errors import DanmpyError
from danmpy.intent.values import Intent

_log = structlog.get_logger(__name__)

FIRST_S: Final = 2.0
"""Seconds until a change that could not be made is tried again; each time twice as long."""

MOST_S: Final = 60.0
"""Seconds between two tries at most."""

_Key = tuple[str, str]


class Wishes(Protocol):
    """Where the wishes come from; from memory as long as nothing changes."""

    def read(self) -> Intent:
        """The wishes of now. Never raises."""


class Changer(Protocol):
    """Who changes running pods (`attach.engine.Attacher`)."""

    def change(self, wished: Wished) -> Change | None:
        """Give the pod what it asks; None: not just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """A change that could not be made: for which wishes, why, and when it is tried again."""

    wishes: str
    text: str
    delay_s: float
    due: float


@dataclass(slots=True, kw_only=True)
class Follower:
    """Follows the annotations of the pods that this node has attached. For one thread."""

    journal: Journal
    source: Wishes
    changer: Changer
    tell: Tell
    _settled: dict[_Key, Mapping[str, str]] = field(default_factory=dict)
    _failures: dict[_Key, _Failure] = field(default_factory=dict)

    def look(self, now: float) -> int:
        """One look at `now` (monotonic seconds); how many pods were changed."""
        pods = self.source.read()
        records = self.journal.read_all()
        known = {record.key for record in records}
        self._settled = {key: said for key, said in self._settled.items() if key in known}
        self._failures = {key: each for key, each in self._failures.items() if key in known}
        return sum(
            self._follow(Wished(record=record, pod=pod, intent=pods), now)
            for record, pod in self._unsettled(records, pods.pods)
        )

    def _unsettled(
        self, records: tuple[AttachmentRecord, ...], pods: Mapping[_Key, PodSpec]
    ) -> Iterator[tuple[AttachmentRecord, PodSpec]]:
        """The newest attachments of those pods whose annotations are not known to be done."""
        newest: dict[_Key, AttachmentRecord] = {}
        for record in records:
            place = (record.namespace, record.pod)
            if place not in newest or newest[place].began_at < record.began_at:
                newest[place] = record
        for place, record in newest.items():
            pod = pods.get(place)
            if pod is None or record.phase is not Phase.ATTACHED or not pod.is_uid(record.pod_uid):
                continue
            said = self._settled.get(record.key)
            if said is not pod.annotations and said != pod.annotations:
                yield record, pod

    def _follow(self, wished: Wished, now: float) -> bool:
        record, pod = wished.record, wished.pod
        wishes = wishes_of(pod)
        if wishes in {"", record.wishes}:
            self._settle(record.key, pod)
            return False
        failed = self._failures.get(record.key)
        if failed is not None and failed.wishes == wishes and now < failed.due:
            return False
        if not record.wishes:
            self._audit(wished)
            return False
        try:
            change = self.changer.change(wished)
        except DanmpyError as error:
            self._note(wished, error, wishes, now)
            return False
        if change is not None:
            self._settle(record.key, pod)
        if change:
            self._say(record, NewsKind.CHANGED, f"interfaces changed: {change.words}")
        return bool(change)

    def _audit(self, wished: Wished) -> None:
        """Nobody knows by which annotation this pod was attached (an older release did it, or
        another tool): what is not as it asks now is told, and nothing is touched.
        """
        record = wished.record
        only = Wished(record=record, pod=wished.pod, intent=wished.intent, only_compare=True)
        try:
            change = self.changer.change(only)
        except DanmpyError as error:
            self._say(record, NewsKind.REFUSED, str(error))
            change = Change()
        if change is None:
            return
        if change:
            self._say(
                record,
                NewsKind.REFUSED,
                f"it has not the interfaces that it asks for ({change.words}), which is left so "
                "until its annotation changes",
            )
        self._settle(record.key, wished.pod)

    def _settle(self, key: _Key, pod: PodSpec) -> None:
        self._settled[key] = pod.annotations
        self._failures.pop(key, None)

    def _note(self, wished: Wished, error: DanmpyError, wishes: str, now: float) -> None:
        key, text = wished.record.key, str(error)
        before = self._failures.get(key)
        if before is not None and before.wishes != wishes:
            before = None
        delay = min(MOST_S, before.delay_s * 2) if before else FIRST_S
        self._failures[key] = _Failure(wishes=wishes, text=text, delay_s=delay, due=now + delay)
        if before is None or before.text != text:
            self._say(wished.record, NewsKind.REFUSED, f"its interfaces stay as they are: {text}")

    def _say(self, record: AttachmentRecord, kind: NewsKind, message: str) -> None:
        log = _log.info if kind is NewsKind.CHANGED else _log.warning
        log("running pod", news=message, **names_of(record))
        self.tell(PodNews.of(record, kind, message))

"""CHECK by the daemon itself: containerd never calls it, so nobody would notice what broke.

It only tells. What to do about a broken pod is the matter of its owner: a running pod may have
changed its own interfaces, and only a new sandbox is made from scratch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Gauge

from danmpy.attach.journal import AttachmentRecord, Journal, Phase
from danmpy.attach.plugging.news import NewsKind, PodNews, Tell
from danmpy.attach.undo import names_of
from danmpy.errors import DanmpyError

_log = structlog.get_logger(__name__)

_Key = tuple[str, str, int]
"""Container id, interface, and when the attachment began."""


class Examiner(Protocol):
    """Who looks at one attachment (`attach.engine.Attacher`)."""

    def examine(self, record: AttachmentRecord) -> tuple[str, ...] | None:
        """What is not as it was made; None: not just now."""


@dataclass(slots=True, kw_only=True)
class Checkups:
    """Looks at every attachment once in `every_s` seconds, spread over that time. For one thread;
    `broken` may be asked by any.
    """

    journal: Journal
    examiner: Examiner
    tell: Tell
    every_s: float
    _looked_at: dict[_Key, float] = field(default_factory=dict)
    _broken: dict[_Key, str] = field(default_factory=dict)
    _began: float | None = None

    @property
    def broken(self) -> int:
        """How many attachments were not as they were made when they were looked at last."""
        return len(self._broken)

    def show(self, registry: CollectorRegistry) -> None:
        """Show that number."""
        gauge = Gauge(
            "danmpy_attachments_broken",
            "Attachments that are not as they were made, by their last check",
            registry=registry,
        )
        gauge.set_function(lambda: float(self.broken))

    def run(self, now: float, since_s: float) -> int:
        """Look at those whose turn it is at `now` (monotonic seconds), one after the other, and at
        no more than their share of the `since_s` seconds between two calls; how many that were.
        """
        standing = {
            (*record.key, record.began_at): record
            for record in self.journal.read_all()
            if record.phase is Phase.ATTACHED
        }
        # A pod that has just come was just made; after a start nobody knows about any.
        first = -math.inf if self._began is None else now
        self._began = now
        self._looked_at = {key: self._looked_at.get(key, first) for key in standing}
        self._broken = {key: text for key, text in self._broken.items() if key in standing}
        due = sorted((at, key) for key, at in self._looked_at.items() if now - at >= self.every_s)
        share = math.ceil(len(standing) * since_s / self.every_s)
        for _, key in due[: max(1, share)]:
            self._look(key, standing[key], now)
        return min(len(due), max(1, share))

    def _look(self, key: _Key, record: AttachmentRecord, now: float) -> None:
        self._looked_at[key] = now
        try:
            found = self.examiner.examine(record)
        except DanmpyError as error:
            # What cannot be asked is not broken; the metrics of the database tell of that.
            _log.info("attachment not checked", why=str(error), **names_of(record))
            return
        if found is None:
            return
        text = "; ".join(found)
        before = self._broken.get(key, "")
        if text:
            self._broken[key] = text
        else:
            self._broken.pop(key, None)
        if text == before:
            return
        if text:
            _log.warning("attachment is broken", found=text, **names_of(record))
            self.tell(PodNews.of(record, NewsKind.BROKEN, text))
        else:
            _log.info("attachment is whole again", **names_of(record))
            self.tell(PodNews.of(record, NewsKind.MENDED, "its interfaces are as they were made"))

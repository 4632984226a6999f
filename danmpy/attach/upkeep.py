"""What the node daemon does by itself, beside the runtime's calls: periodic jobs in one thread.

Runtimes may forget a DEL and hardly any calls GC (containerd does not), so the daemon finishes what
was left half done, and lets go of sandboxes that are gone together with their pod.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from danmpy.attach.journal import AttachmentRecord, Journal, Phase
from danmpy.attach.sandboxes import is_there
from danmpy.attach.view import IntentSource
from danmpy.clock import monotonic
from danmpy.errors import DanmpyError
from danmpy.ipam.values import Lease

_log = structlog.get_logger(__name__)

GRACE_S: Final = 60.0
"""Seconds between the two looks that must agree before a sandbox counts as gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something to do every so many seconds; what it raises is logged and it is tried again."""

    name: str
    every_s: float
    run: Callable[[], object]


class Upkeep:
    """Runs jobs in one thread until it is closed."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._due = dict.fromkeys(jobs, 0.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin; every job runs at once for the first time."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the job that is running."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(self.run_due(monotonic())):
            continue

    def run_due(self, now: float) -> float:
        """Run what is due at `now`; the seconds until something is due again."""
        for job, due in self._due.items():
            if due <= now and not self._stop.is_set():
                self._run(job)
                self._due[job] = now + job.every_s
        return max(0.0, min(self._due.values(), default=1.0) - now)

    def _run(self, job: Job) -> None:
        try:
            job.run()
        except DanmpyError as error:
            _log.warning("upkeep failed", job=job.name, error=str(error))
        except Exception:  # noqa: BLE001 - a bug in one job must not end the others
            _log.exception("upkeep broke", job=job.name)


class Detacher(Protocol):
    """Who can let go of an attachment (`attach.engine.Attacher`)."""

    def expire(self, record: AttachmentRecord) -> None:
        """Detach what no runtime will ask to be detached."""


@dataclass(slots=True, kw_only=True)
class Sweeper:
    """Finds sandboxes whose namespace is gone and whose pod is no longer wanted.

    It looks twice, `GRACE_S` apart, and looks the pod up anew before it takes: in a cluster the API
    server decides, never a memory of it. A sandbox whose pod still exists keeps its addresses,
    because the pod's next sandbox takes them over.
    """

    journal: Journal
    source: IntentSource
    detacher: Detacher
    _gone_since: dict[tuple[str, str], float] = field(default_factory=dict)

    def sweep(self, now: float) -> int:
        """One look at `now` (monotonic seconds); how many attachments were let go of."""
        gone = [record for record in self.journal.read_all() if _is_gone(record)]
        self._gone_since = {record.key: self._gone_since.get(record.key, now) for record in gone}
        ripe = [record for record in gone if now - self._gone_since[record.key] >= GRACE_S]
        if not ripe:
            return 0
        taken = 0
        for record in ripe:
            if self._is_wanted(record):
                continue
            _log.info("sandbox is gone and its pod too", pod=f"{record.namespace}/{record.pod}")
            self.detacher.expire(record)
            taken += 1
        return taken

    def _is_wanted(self, record: AttachmentRecord) -> bool:
        """Does its pod still exist? Yes as well when that cannot be looked up now."""
        return _has_pod(self.source, record.namespace, record.pod, record.pod_uid)


class Ender(Protocol):
    """Who ends single leases (`ipam.reclaiming.LeaseEnder`)."""

    def held_on(self, nodes: Iterable[str]) -> tuple[Lease, ...]:
        """What the pods of `nodes` hold."""

    def end(self, item: Lease, why: str) -> bool:
        """End exactly this lease."""


@dataclass(slots=True, kw_only=True)
class LeaseSweeper:
    """Finds leases of this node that its journal knows nothing of, and whose pod is gone.

    Nobody would ever release them: their record was damaged or the state folder lost, or the
    database forgot a release. Another daemon that has this node's name by mistake, and another
    tool whose leases were taken over, have pods that are there. Two looks `GRACE_S` apart must
    agree, and the pod is looked up anew. Only for a cluster, whose API server knows every pod.
    """

    journal: Journal
    source: IntentSource
    leases: Ender
    node: str
    _alone_since: dict[tuple[int, str], float] = field(default_factory=dict)

    def sweep(self, now: float) -> int:
        """One look at `now` (monotonic seconds); how many leases were ended.

        Raises:
            StoreError: the database cannot be used.
        """
        # The database first: an ADD that is under way is in the journal before it has a lease.
        held = self.leases.held_on([self.node])
        known = {record.container_id for record in self.journal.read_all()}
        alone = {
            (item.id, item.container_id): item for item in held if item.container_id not in known
        }
        self._alone_since = {key: self._alone_since.get(key, now) for key in alone}
        ripe = [item for key, item in alone.items() if now - self._alone_since[key] >= GRACE_S]
        return sum(
            self.leases.end(item, "its pod is gone and its node knows nothing of it")
            for item in ripe
            if not _has_pod(self.source, item.namespace, item.pod, item.pod_uid, by_name=True)
        )


def _has_pod(
    source: IntentSource, namespace: str, name: str, uid: str, *, by_name: bool = False
) -> bool:
    """Does a pod still exist? Yes as well when that cannot be looked up now; and `by_name` when
    the UID is not known, but there is one of that name.
    """
    try:
        intent = source.read_for(namespace, name, uid)
    except DanmpyError as error:
        _log.info("pod cannot be looked up", error=str(error), pod=f"{namespace}/{name}")
        return True
    pod = intent.pods.get((namespace, name))
    return not intent.complete or (pod is not None and (pod.is_uid(uid) or (by_name and not uid)))


def _is_gone(record: AttachmentRecord) -> bool:
    return record.phase is Phase.ATTACHED and not is_there(record)

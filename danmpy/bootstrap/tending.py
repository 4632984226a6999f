"""What the node daemon does for the pods that run on it, beside serving the runtime."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from danmpy.attach.checkups import Checkups
from danmpy.attach.engine import Attacher
from danmpy.attach.journal import Journal
from danmpy.attach.plugging.following import Follower
from danmpy.attach.plugging.news import Tell
from danmpy.attach.upkeep import Job, Upkeep
from danmpy.bootstrap.readers import Source
from danmpy.clock import monotonic
from danmpy.settings import Settings

FOLLOW_S = 1.0
"""Seconds between two looks at the annotations of running pods: a user waits for no more."""

CHECK_S = 1.0
"""Seconds between two checks."""

GC_S = 10.0
"""Seconds between two looks at whether GC is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningPods:
    """The pods of this node: what is attached and wanted, who changes it, and who hears of it."""

    journal: Journal
    source: Source
    attacher: Attacher
    tell: Tell


def tend(
    settings: Settings, pods: RunningPods, registry: CollectorRegistry, stack: ExitStack
) -> None:
    """Follow the annotations of running pods, check attachments and let delegates clean up, until
    `stack` ends. In threads of its own: a delegate may take half a minute, and nothing else should
    wait for it.
    """
    follower = Follower(
        journal=pods.journal, source=pods.source, changer=pods.attacher, tell=pods.tell
    )
    _start(stack, Job(name="follow", every_s=FOLLOW_S, run=lambda: follower.look(monotonic())))
    jobs = []
    if settings.cni.check_seconds:
        checkups = Checkups(
            journal=pods.journal,
            examiner=pods.attacher,
            tell=pods.tell,
            every_s=float(settings.cni.check_seconds),
        )
        checkups.show(registry)
        check = Job(name="check", every_s=CHECK_S, run=lambda: checkups.run(monotonic(), CHECK_S))
        jobs.append(check)
    if every_s := settings.cni.gc_seconds:
        gc = pods.attacher.delegate_gc
        jobs.append(Job(name="gc", every_s=GC_S, run=lambda: gc.run(monotonic(), float(every_s))))
    if jobs:
        _start(stack, *jobs)


def _start(stack: ExitStack, *jobs: Job) -> None:
    upkeep = Upkeep(jobs)
    upkeep.start()
    stack.callback(upkeep.close)

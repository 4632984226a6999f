"""The node daemon."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from danmpy import faults
from danmpy.attach.builder import PodBuilder
from danmpy.attach.delegates.orphans import end_orphans
from danmpy.attach.engine import Attacher
from danmpy.attach.fence import Fence, FencedLeases
from danmpy.attach.handler import CniHandler, Refused
from danmpy.attach.journal import Journal
from danmpy.attach.measured import MeasuredLeases, show_journal
from danmpy.attach.metrics import CniMetrics
from danmpy.attach.ports import AttachPorts, AttachSettings
from danmpy.attach.server import CniServer
from danmpy.attach.upkeep import Job, LeaseSweeper, Sweeper, Upkeep
from danmpy.attach.view import LiveView
from danmpy.bootstrap.adopting import adopt_running, awaited_file
from danmpy.bootstrap.care import care_for_history, claims_job
from danmpy.bootstrap.census import Census
from danmpy.bootstrap.process import (
    Schema,
    calm_collector,
    configure_logging,
    follow,
    serve_health,
    signals,
)
from danmpy.bootstrap.readers import (
    JOURNAL_FOLDER,
    Source,
    dialect_rules,
    make_netwatcher,
    open_database,
    open_delegates,
    open_devices,
    open_intent,
)
from danmpy.bootstrap.tending import RunningPods, tend
from danmpy.clock import monotonic, wall_clock
from danmpy.db.metrics import RetryMetrics
from danmpy.errors import UnavailableError
from danmpy.intent.cluster import ClusterSource
from danmpy.ipam.epoch import EpochStore
from danmpy.ipam.ipamclaims import DeclaredClaims
from danmpy.ipam.leases import LeaseStore
from danmpy.ipam.nodereports import NodeReports
from danmpy.ipam.reclaiming import LeaseEnder, RestSettings
from danmpy.ipam.sealing import Ledger
from danmpy.kernel.links import HostLinks, LinkMonitor
from danmpy.mirrors.service import MirrorPorts, Mirrors
from danmpy.netwatcher.loop import Netwatcher
from danmpy.netwatcher.values import LookReport
from danmpy.settings import Settings

_log = structlog.get_logger(__name__)

FAULT_VARIABLE = "DANMPY_FAULT"
"""Names the fault point at which a test makes the daemon die."""


def run_node(settings: Settings) -> int:
    """Run the node daemon until SIGTERM or SIGINT.

    Raises:
        NotReadyError: another daemon has the state folder or the socket.
        HostError: folder or socket cannot be made.
        StoreError: the database's schema is newer than this release.
        ClusterError: there is no usable kubeconfig.
        IntentError: a SQLite file cannot serve the nodes of this cluster.
    """
    configure_logging()
    calm_collector()
    stop = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(signals(stop.set))
        census = _start(settings, os.environ, stop, stack)
        stop.wait()
        _log.info("stopping")
        census.raise_if_refused()
    return 0


def _start(
    settings: Settings, environ: Mapping[str, str], stop: threading.Event, stack: ExitStack
) -> Census:
    """Start every part, unless told to stop meanwhile; `stack` stops them in reverse."""
    journal = Journal(settings.state_dir / JOURNAL_FOLDER)
    journal.open()
    stack.callback(journal.close)
    end_orphans(str(settings.state_dir))
    adopt_running(settings, journal)
    engine = open_database(settings)
    stack.callback(engine.dispose)
    schema = Schema(settings)
    schema.prepare()
    source = open_intent(settings, pods_of=settings.node_name)
    host = HostLinks()
    stack.callback(host.close)
    mirrors = _mirrors(settings, journal, engine, source, lambda: netwatcher.report)
    netwatcher = make_netwatcher(settings, engine, source, host, journal.read_all, mirrors.wake)
    first_look = threading.Event()
    census = Census(settings, source.read, stop)
    view = LiveView(source, netwatcher, lambda: _hindered_by(settings, source, first_look, census))
    fence, leases = _fenced(settings, engine, journal)
    registry = CollectorRegistry()
    RetryMetrics(engine, registry)
    show_journal(journal, wall_clock, registry)
    measured = MeasuredLeases(leases, registry)
    attacher = _attacher(settings, environ, measured, journal, view, source)
    _repair(attacher, stack)
    stack.callback(netwatcher.close)
    _watch(source, netwatcher, stop, stack)
    _serve(settings, attacher, netwatcher, mirrors.attach_failed, registry, stack)
    ledger = Ledger(engine, wall_clock)
    _keep_up(
        stack,
        Job(name="schema", every_s=2.0, run=schema.prepare),
        Job(name="census", every_s=2.0, run=census.count),
        Job(name="fence", every_s=2.0, run=fence.look),
        *_sweeping(settings, engine, journal, source, attacher),
        Job(name="seal", every_s=SEAL_S, run=lambda: ledger.seal(pause_s=SEAL_S)),
    )
    if settings.intent.source == "folder":  # of a cluster, its controllers have it
        care_for_history(settings, engine, registry, source.read, lambda: True, stack)
        _keep_up(stack, claims_job(settings, engine, DeclaredClaims(source.read), lambda: True))
    else:
        _wait(lambda: source.read().complete, stop)
    census.count()
    if stop.is_set():  # to a database that is refused, no device on this host has a use
        return census
    netwatcher.start()
    _wait(lambda: bool(netwatcher.report.at) and not netwatcher.report.error, stop)
    if stop.is_set():
        return census
    first_look.set()
    journal.listen(lambda: _attached_or_not(mirrors, netwatcher))
    running = RunningPods(journal=journal, source=source, attacher=attacher, tell=mirrors.tell)
    tend(settings, running, registry, stack)
    mirrors.start()
    stack.callback(mirrors.close)
    if why := _waits_for(source, first_look):
        _log.warning("pods cannot be attached yet", why=why)
    _log.info("ready", node=settings.node_name, socket=str(settings.socket))
    return census


def _hindered_by(
    settings: Settings, source: Source, first_look: threading.Event, census: Census
) -> str:
    """Why no pod is attached now; empty when pods are."""
    return _waits_for(source, first_look) or census.waits_for() or awaited_file(settings)


def _serve(
    settings: Settings,
    attacher: Attacher,
    netwatcher: Netwatcher,
    refused: Refused,
    registry: CollectorRegistry,
    stack: ExitStack,
) -> None:
    """Serve runtimes, metrics and probes until `stack` ends.

    Before anything that may take long: what is attached can be detached without the API server.
    """
    handler = CniHandler(attacher, CniMetrics(registry), refused)
    server = CniServer(settings.socket, handler.answer)
    server.start()
    stack.callback(server.close)
    serve_health(settings, registry, lambda: _why_not_ready(attacher, netwatcher), stack)


def _mirrors(
    settings: Settings,
    journal: Journal,
    engine: Engine,
    source: Source,
    report: Callable[[], LookReport],
) -> Mirrors:
    """What this node tells others, not started."""
    ports = MirrorPorts(
        records=journal,
        intent=source.read,
        report=report,
        reports=NodeReports(engine, wall_clock),
        cluster=source.client if isinstance(source, ClusterSource) else None,
    )
    return Mirrors(ports, settings.node_name)


def _attached_or_not(mirrors: Mirrors, netwatcher: Netwatcher) -> None:
    """A pod has come or gone. A look for each would be too much; its device may wait for it."""
    mirrors.wake()
    if netwatcher.report.kept_in_use:
        netwatcher.poke()


def _keep_up(stack: ExitStack, *jobs: Job) -> None:
    """Do these from time to time, until `stack` ends."""
    upkeep = Upkeep(jobs)
    upkeep.start()
    stack.callback(upkeep.close)


SEAL_S = 2.0
"""Seconds between two seals of the ledger, whichever node makes them."""

FIRST_LOOK_S = 10.0
"""Seconds that the manifests of a cluster, and then the first look, are waited for: what is known
by then is made."""


def _waits_for(source: Source, first_look: threading.Event) -> str:
    """What an ADD has to wait for; empty when the node attaches pods.

    The wishes of a cluster have to be known as a whole, or a pod without interfaces might get
    another default network than the one that is its own.
    """
    unread = source.waits_for() if isinstance(source, ClusterSource) else ""
    if unread or first_look.is_set():
        return unread
    return "it looks at its devices for the first time"


def _why_not_ready(attacher: Attacher, netwatcher: Netwatcher) -> str:
    """Why no pod could be attached now; empty when all is well."""
    try:
        attacher.status()
    except UnavailableError as error:
        return str(error)
    return netwatcher.report.error


_GLANCE_S = 0.02
"""Seconds between two glances while something is waited for."""


def _wait(condition: Callable[[], bool], stop: threading.Event) -> None:
    """Wait until `condition` holds, as long as `FIRST_LOOK_S` and until told to stop."""
    deadline = monotonic() + FIRST_LOOK_S
    while not condition() and monotonic() < deadline and not stop.wait(_GLANCE_S):
        continue


REPAIR_S = 2.0
"""Seconds that runtimes have to wait at most for what was left half done; the rest goes on beside
them, as a delegate that hangs may take half a minute for each pod."""


def _repair(attacher: Attacher, stack: ExitStack) -> None:
    """Finish what was left half done, now and from time to time until `stack` ends."""
    once = threading.Event()

    def repair() -> None:
        try:
            attacher.repair()
        finally:
            once.set()

    _keep_up(stack, Job(name="repair", every_s=2.0, run=repair))
    once.wait(REPAIR_S)


def _sweeping(
    settings: Settings, engine: Engine, journal: Journal, source: Source, attacher: Attacher
) -> tuple[Job, ...]:
    """Who lets go of what nobody else would."""
    sweeper = Sweeper(journal=journal, source=source, detacher=attacher)
    lost = _lease_sweeper(settings, engine, journal, source)
    return (
        Job(name="sweep", every_s=15.0, run=lambda: sweeper.sweep(monotonic())),
        Job(name="leases", every_s=30.0, run=lambda: lost and lost.sweep(monotonic())),
    )


def _lease_sweeper(
    settings: Settings, engine: Engine, journal: Journal, source: Source
) -> LeaseSweeper | None:
    """Who ends what nobody would release; a folder need not name all pods of this node."""
    if settings.intent.source == "folder":
        return None
    ipam = settings.ipam
    rests = RestSettings(cooldown_seconds=ipam.cooldown_seconds, claim_seconds=ipam.claim_seconds)
    leases = LeaseEnder(engine, wall_clock, rests)
    return LeaseSweeper(journal=journal, source=source, leases=leases, node=settings.node_name)


def _fenced(settings: Settings, engine: Engine, journal: Journal) -> tuple[Fence, FencedLeases]:
    """The leases, and the fence that they are behind."""
    ipam = settings.ipam
    epochs = EpochStore(engine, wall_clock, ipam.cooldown_seconds)

    def release(container_id: str) -> object:
        return store.release(container_id)

    fence = Fence(epochs, journal, settings.node_name, release)
    store = LeaseStore(
        engine, wall_clock, ipam.cooldown_seconds, ipam.claim_seconds, guard=fence.guard
    )
    return fence, FencedLeases(store, fence)


def _attacher(
    settings: Settings,
    environ: Mapping[str, str],
    leases: MeasuredLeases,
    journal: Journal,
    view: LiveView,
    source: Source,
) -> Attacher:
    delegates = open_delegates(settings)
    devices = open_devices(settings, source)
    fault = environ.get(FAULT_VARIABLE, "")
    fault_point = faults.die_at(fault) if fault else faults.no_faults
    return Attacher(
        AttachSettings(
            node_name=settings.node_name,
            naming_scheme=settings.cni.naming_scheme,
            conf_dir=settings.cni.conf_dir,
            rules=dialect_rules(settings),
            strict=settings.npwg.strict,
        ),
        AttachPorts(
            view=view,
            leases=leases,
            delegates=delegates,
            builder=PodBuilder(delegates, fault_point, devices.info),
            journal=journal,
            clock=wall_clock,
            faults=fault_point,
            devices=devices,
        ),
    )


def _watch(source: Source, netwatcher: Netwatcher, stop: threading.Event, stack: ExitStack) -> None:
    """Let changes of the manifests and of the kernel's links ask for a look."""
    follow(source, netwatcher.poke, stop, stack)
    monitor = LinkMonitor(netwatcher.poke)
    monitor.start()
    stack.callback(monitor.close)

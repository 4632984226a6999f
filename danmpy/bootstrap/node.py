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
from danmpy.attach.engine import Attacher
from danmpy.attach.handler import CniHandler
from danmpy.attach.journal import Journal
from danmpy.attach.metrics import CniMetrics
from danmpy.attach.ports import AttachPorts, AttachSettings
from danmpy.attach.server import CniServer
from danmpy.attach.upkeep import Job, Sweeper, Upkeep
from danmpy.attach.view import LiveView
from danmpy.bootstrap.process import Schema, configure_logging, follow, serve_health, signals
from danmpy.bootstrap.readers import (
    JOURNAL_FOLDER,
    Source,
    make_netwatcher,
    open_delegates,
    open_intent,
)
from danmpy.clock import monotonic, wall_clock
from danmpy.db.engine import open_engine
from danmpy.errors import IntentError, UnavailableError
from danmpy.intent.cluster import ClusterSource
from danmpy.ipam.leases import LeaseStore
from danmpy.ipam.nodereports import NodeReports
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
) -> _Census:
    """Start every part, unless told to stop meanwhile; `stack` stops them in reverse."""
    journal = Journal(settings.state_dir / JOURNAL_FOLDER)
    journal.open()
    stack.callback(journal.close)
    engine = open_engine(settings.database_url)
    stack.callback(engine.dispose)
    schema = Schema(settings)
    schema.prepare()
    source = open_intent(settings, pods_of=settings.node_name)
    host = HostLinks()
    stack.callback(host.close)
    mirrors = _mirrors(settings, journal, engine, source, lambda: netwatcher.report)
    netwatcher = make_netwatcher(settings, engine, source, host, journal.read_all, mirrors.wake)
    attacher = _attacher(settings, environ, engine, journal, LiveView(source, netwatcher))
    attacher.repair()
    census = _Census(settings, source, stop)
    _watch(source, netwatcher, stop, stack)
    if settings.intent.source != "folder":
        _wait(lambda: source.read().complete, stop)
    census.count()
    if stop.is_set():  # to a database that is refused, no device on this host has a use
        return census
    netwatcher.start()
    stack.callback(netwatcher.close)
    _wait(lambda: bool(netwatcher.report.at) and not netwatcher.report.error, stop)
    if stop.is_set():
        return census
    registry = CollectorRegistry()
    handler = CniHandler(attacher, CniMetrics(registry), mirrors.attach_failed)
    server = CniServer(settings.socket, handler.answer)
    server.start()
    stack.callback(server.close)
    sweeper = Sweeper(journal=journal, source=source, detacher=attacher)
    ledger = Ledger(engine, wall_clock)
    _keep_up(
        stack,
        Job(name="schema", every_s=2.0, run=schema.prepare),
        Job(name="census", every_s=2.0, run=census.count),
        Job(name="repair", every_s=2.0, run=attacher.repair),
        Job(name="sweep", every_s=15.0, run=lambda: sweeper.sweep(monotonic())),
        Job(name="seal", every_s=2.0, run=ledger.seal),
    )
    journal.listen(lambda: _attached_or_not(mirrors, netwatcher))
    mirrors.start()
    stack.callback(mirrors.close)
    serve_health(settings, registry, lambda: _why_not_ready(attacher, netwatcher), stack)
    _log.info("ready", node=settings.node_name, socket=str(settings.socket))
    return census


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


class _Census:
    """Ends the daemon when its database is a file that the other nodes of the cluster do not have.

    Each would hand out the same addresses. A second node may join later, so it is counted again.
    """

    def __init__(self, settings: Settings, source: Source, stop: threading.Event) -> None:
        self._settings = settings
        self._source = source
        self._stop = stop
        self._refusal: IntentError | None = None

    def count(self) -> None:
        """Look at the nodes now."""
        settings = self._settings
        if settings.intent.source == "folder" or not settings.database_url.startswith("sqlite"):
            return
        names = sorted(node.name for node in self._source.read().nodes)
        if len(names) > 1:
            self._refusal = IntentError(
                f"the database is a SQLite file, and the cluster has {len(names)} nodes "
                f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}): each would hand out "
                "the same addresses",
                hint="set database_url to a PostgreSQL database, postgresql+psycopg://...",
                subject="database_url",
            )
            self._stop.set()

    def raise_if_refused(self) -> None:
        """Raise what ended the daemon, if this did."""
        if self._refusal is not None:
            raise self._refusal


FIRST_LOOK_S = 10.0
"""Seconds that the manifests of a cluster, and then the first look, may take before the socket is
served all the same: pods whose networks are not there yet are then told so."""


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


def _attacher(
    settings: Settings,
    environ: Mapping[str, str],
    engine: Engine,
    journal: Journal,
    view: LiveView,
) -> Attacher:
    delegates = open_delegates(settings)
    fault = environ.get(FAULT_VARIABLE, "")
    fault_point = faults.die_at(fault) if fault else faults.no_faults
    return Attacher(
        AttachSettings(
            node_name=settings.node_name,
            naming_scheme=settings.cni.naming_scheme,
            conf_dir=settings.cni.conf_dir,
        ),
        AttachPorts(
            view=view,
            leases=LeaseStore(engine, wall_clock, settings.ipam.cooldown_seconds),
            delegates=delegates,
            builder=PodBuilder(delegates, fault_point),
            journal=journal,
            clock=wall_clock,
            faults=fault_point,
        ),
    )


def _watch(source: Source, netwatcher: Netwatcher, stop: threading.Event, stack: ExitStack) -> None:
    """Let changes of the manifests and of the kernel's links ask for a look."""
    follow(source, netwatcher.poke, stop, stack)
    monitor = LinkMonitor(netwatcher.poke)
    monitor.start()
    stack.callback(monitor.close)

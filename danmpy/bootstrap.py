"""The one wiring place: builds every process and every reader from its settings."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from danmpy import faults
from danmpy.attach.builder import PodBuilder
from danmpy.attach.delegates import Delegates
from danmpy.attach.engine import Attacher
from danmpy.attach.handler import CniHandler
from danmpy.attach.journal import AttachmentRecord, Journal, read_records
from danmpy.attach.metrics import CniMetrics
from danmpy.attach.ports import AttachPorts, AttachSettings
from danmpy.attach.server import CniServer
from danmpy.attach.upkeep import Job, Sweeper, Upkeep
from danmpy.attach.view import LiveView
from danmpy.clock import monotonic, wall_clock
from danmpy.db import migrate
from danmpy.db.engine import open_engine
from danmpy.db.errors import SchemaTooNewError
from danmpy.errors import IntentError, StoreError, UnavailableError
from danmpy.health import HealthServer
from danmpy.intent.folder import FolderSource
from danmpy.ipam.audit import Audit
from danmpy.ipam.findings import Finding
from danmpy.ipam.invariants import violations
from danmpy.ipam.leases import LeaseStore
from danmpy.ipam.sealing import Ledger
from danmpy.ipam.segments import SegmentStore
from danmpy.kernel.links import HostLinks, LinkMonitor
from danmpy.netwatcher.loop import Netwatcher, WatchPorts, WatchSettings
from danmpy.netwatcher.mirror import Mirror, Refusal, read_refusals
from danmpy.netwatcher.values import Flooding
from danmpy.settings import PREFIX, Settings

_log = structlog.get_logger(__name__)

FAULT_VARIABLE = "DANMPY_FAULT"
"""Names the fault point at which a test makes the daemon die."""


# Readers: what the commands need, also while the daemon is down.


def open_intent(settings: Settings) -> FolderSource:
    """The wishes.

    Raises:
        IntentError: the source is not one that this release reads.
    """
    if settings.intent.source != "folder":
        # The folder instead would be empty, and what is wanted by nobody is removed.
        raise IntentError(
            f"the source {settings.intent.source} is not part of this release",
            hint="set intent.source to folder, and intent.path to the folder of manifests",
            subject="intent.source",
        )
    return FolderSource(settings.intent.path)


def open_audit(settings: Settings) -> Audit:
    """The questions about who held what.

    Raises:
        StoreError: the database cannot be used.
    """
    return Audit(_ready_engine(settings), wall_clock)


def open_ledger(settings: Settings) -> Ledger:
    """The ledger. Raises StoreError as `open_audit`."""
    return Ledger(_ready_engine(settings), wall_clock)


def open_leases(settings: Settings) -> LeaseStore:
    """The leases. Raises StoreError as `open_audit`."""
    return LeaseStore(_ready_engine(settings), wall_clock, settings.ipam.cooldown_seconds)


def find_violations(settings: Settings) -> tuple[Finding, ...]:
    """What is not as it must be inside the database. Raises StoreError as `open_audit`."""
    return violations(_ready_engine(settings))


def open_delegates(settings: Settings) -> Delegates:
    """The delegate plugins of this node."""
    # Our own variables may hold the database's password: no other program's business.
    environ = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    return Delegates(settings.cni.conf_dir, settings.cni.bin_dirs, environ=environ)


def read_attachments(settings: Settings) -> tuple[AttachmentRecord, ...]:
    """What the node daemon of these settings has attached."""
    return tuple(read_records(settings.state_dir / JOURNAL_FOLDER))


@contextmanager
def open_netwatcher(settings: Settings) -> Iterator[Netwatcher]:
    """The netwatcher, not started: for previews; what it holds open is closed after the block."""
    engine = open_engine(settings.database_url)
    host = HostLinks()
    try:
        yield _netwatcher(settings, engine, open_intent(settings), host)
    finally:
        host.close()
        engine.dispose()


JOURNAL_FOLDER = "attachments"
REFUSALS_FILE = "refusals.json"


def open_refusals(settings: Settings) -> Mapping[str, Refusal]:
    """What the kernel refused to this node's daemon in its last look, by device."""
    return read_refusals(settings.state_dir / REFUSALS_FILE)


def _ready_engine(settings: Settings) -> Engine:
    engine = open_engine(settings.database_url)
    migrate.require_current(engine)
    return engine


def _netwatcher(
    settings: Settings, engine: Engine, source: FolderSource, host: HostLinks
) -> Netwatcher:
    ports = WatchPorts(
        source=source,
        assigner=SegmentStore(engine, wall_clock),
        host=host,
        conf_names=open_delegates(settings).conf_names,
        publish=Mirror(settings.state_dir / REFUSALS_FILE).write,
        clock=wall_clock,
    )
    return Netwatcher(
        ports,
        WatchSettings(
            node_name=settings.node_name,
            flooding=Flooding(settings.vxlan.flooding),
            port=settings.vxlan.port,
        ),
    )


# The node daemon.


def run_node(settings: Settings) -> int:
    """Run the node daemon until SIGTERM or SIGINT.

    Raises:
        NotReadyError: another daemon has the state folder or the socket.
        HostError: folder or socket cannot be made.
        StoreError: the database's schema is newer than this release.
    """
    configure_logging()
    stop = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(_signals(stop.set))
        _start(settings, os.environ, stop, stack)
        stop.wait()
        _log.info("stopping")
    return 0


def _start(
    settings: Settings, environ: Mapping[str, str], stop: threading.Event, stack: ExitStack
) -> None:
    """Start every part, unless told to stop meanwhile; `stack` stops them in reverse."""
    journal = Journal(settings.state_dir / JOURNAL_FOLDER)
    journal.open()
    stack.callback(journal.close)
    engine = open_engine(settings.database_url)
    stack.callback(engine.dispose)
    schema = _Schema(settings)
    schema.prepare()
    source = open_intent(settings)
    host = HostLinks()
    stack.callback(host.close)
    netwatcher = _netwatcher(settings, engine, source, host)
    attacher = _attacher(settings, environ, engine, journal, LiveView(source, netwatcher))
    attacher.repair()
    netwatcher.start()
    stack.callback(netwatcher.close)
    if not _looked(netwatcher, stop):
        return
    _watch(source, netwatcher, stop, stack)
    registry = CollectorRegistry()
    server = CniServer(settings.socket, CniHandler(attacher, CniMetrics(registry)).answer)
    server.start()
    stack.callback(server.close)
    sweeper = Sweeper(journal=journal, source=source, detacher=attacher)
    ledger = Ledger(engine, wall_clock)
    upkeep = Upkeep(
        [
            Job(name="schema", every_s=2.0, run=schema.prepare),
            Job(name="repair", every_s=2.0, run=attacher.repair),
            Job(name="sweep", every_s=15.0, run=lambda: sweeper.sweep(monotonic())),
            Job(name="seal", every_s=2.0, run=ledger.seal),
        ]
    )
    upkeep.start()
    stack.callback(upkeep.close)
    if settings.metrics.endpoint is not None:
        health = HealthServer(
            settings.metrics.endpoint, registry, lambda: _why_not_ready(attacher, netwatcher)
        )
        health.start()
        stack.callback(health.close)
    _log.info("ready", node=settings.node_name, socket=str(settings.socket))


FIRST_LOOK_S = 10.0
"""Seconds that the first look may take before the socket is served all the same: pods whose
networks are not there yet are then told so."""


def _why_not_ready(attacher: Attacher, netwatcher: Netwatcher) -> str:
    """Why no pod could be attached now; empty when all is well."""
    try:
        attacher.status()
    except UnavailableError as error:
        return str(error)
    return netwatcher.report.error


_GLANCE_S = 0.02
"""Seconds between two glances at the report while the first look is waited for."""


def _looked(netwatcher: Netwatcher, stop: threading.Event) -> bool:
    """Wait for a look that succeeds, as long as `FIRST_LOOK_S`; False when told to stop."""
    deadline = monotonic() + FIRST_LOOK_S
    while not stop.wait(_GLANCE_S):
        report = netwatcher.report
        if (report.at and not report.error) or monotonic() > deadline:
            return True
    return False


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


def _watch(
    source: FolderSource, netwatcher: Netwatcher, stop: threading.Event, stack: ExitStack
) -> None:
    """Let changes of the manifests and of the kernel's links ask for a look."""
    thread = threading.Thread(
        target=source.watch, args=(netwatcher.poke, stop), name="intent", daemon=True
    )
    thread.start()
    stack.callback(thread.join, 2.0)
    monitor = LinkMonitor(netwatcher.poke)
    monitor.start()
    stack.callback(monitor.close)


class _Schema:
    """Brings the database to this release's schema once it can be reached."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._done = False

    def prepare(self) -> None:
        """Upgrade when that is still to do; a database that is away is tried again later.

        Raises:
            StoreError: the schema is newer than this release; waiting would not help.
        """
        if self._done:
            return
        try:
            migrate.upgrade_apart(self._settings.database_url)
        except SchemaTooNewError:
            raise
        except StoreError as error:
            _log.warning("the database cannot be used yet", error=str(error))
            return
        self._done = True


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT while the block runs."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def configure_logging() -> None:
    """Log lines as ``key=value`` with a UTC time, on standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )

"""Readers: what the commands need, also while the daemons are down."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from danmpy.api.dialects.rules import DialectRules
from danmpy.attach.delegates.calling import Delegates
from danmpy.attach.delegates.orphans import OWNER_VARIABLE
from danmpy.attach.devices.claim_reader import ClaimReader
from danmpy.attach.devices.info import DeviceInfoFiles
from danmpy.attach.devices.sources import NodeDevices
from danmpy.attach.journal import AttachmentRecord, devices_in_use, read_records
from danmpy.clock import wall_clock
from danmpy.db import migrate
from danmpy.db.engine import open_engine
from danmpy.intent.cluster import ClusterSource
from danmpy.intent.folder import FolderSource
from danmpy.intent.values import Intent
from danmpy.ipam import anchors
from danmpy.ipam.adopting import Adopter
from danmpy.ipam.anchors import Anchor
from danmpy.ipam.audit import Audit
from danmpy.ipam.epoch import EpochStore
from danmpy.ipam.exporting import PruneExport
from danmpy.ipam.findings import Finding
from danmpy.ipam.invariants import violations
from danmpy.ipam.leases import LeaseStore
from danmpy.ipam.reserving import OperatorStore
from danmpy.ipam.retention import Retention
from danmpy.ipam.samples import UsageSamples
from danmpy.ipam.sealing import Ledger
from danmpy.ipam.segments import Assignments, RecordedSegments, SegmentStore
from danmpy.ipam.verifying import LedgerFinding
from danmpy.kernel.links import HostLinks
from danmpy.kube.client import KubeClient, open_client
from danmpy.kubelet.podresources import PodResources
from danmpy.netwatcher.loop import Netwatcher, WatchPorts, WatchSettings
from danmpy.netwatcher.mirror import Mirror, Refusal, read_refusals
from danmpy.netwatcher.values import Flooding, LookReport
from danmpy.settings import PREFIX, Settings

Source = FolderSource | ClusterSource


def open_intent(settings: Settings, *, pods_of: str | None = None, pods: bool = True) -> Source:
    """The wishes; of a cluster with the pods of node `pods_of` only, or of all nodes, or without
    `pods`: there may be very many.

    Raises:
        ClusterError: there is no usable kubeconfig.
    """
    if settings.intent.source == "folder":
        return FolderSource(settings.intent.path)
    return ClusterSource(open_cluster(settings), node_name=pods_of, pods=pods)


def open_cluster(settings: Settings) -> KubeClient:
    """The API server. Raises ClusterError as `open_intent`."""
    kubeconfig = settings.intent.kubeconfig
    return open_client(Path(kubeconfig) if kubeconfig else None)


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
    ipam = settings.ipam
    return LeaseStore(
        _ready_engine(settings), wall_clock, ipam.cooldown_seconds, ipam.claim_seconds
    )


def open_operators(settings: Settings) -> OperatorStore:
    """What people do to addresses by hand. Raises StoreError as `open_audit`."""
    ipam = settings.ipam
    return OperatorStore(
        _ready_engine(settings), wall_clock, ipam.cooldown_seconds, ipam.claim_seconds
    )


def open_epochs(settings: Settings) -> EpochStore:
    """The epochs of the database. Raises StoreError as `open_audit`."""
    return EpochStore(_ready_engine(settings), wall_clock, settings.ipam.cooldown_seconds)


def open_retention(settings: Settings) -> Retention:
    """For how long history is kept. Raises StoreError as `open_audit`."""
    return make_retention(settings, _ready_engine(settings))


def make_retention(settings: Settings, engine: Engine) -> Retention:
    """As `open_retention`, on an engine that is open."""
    folder = settings.ipam.export_before_prune
    return Retention(
        engine,
        wall_clock,
        settings.ipam.retention_days,
        settings.node_name,
        None if folder is None else PruneExport(folder),
    )


def open_samples(settings: Settings) -> UsageSamples:
    """The use of the pools over time. Raises StoreError as `open_audit`."""
    return UsageSamples(_ready_engine(settings), wall_clock)


def read_roots(settings: Settings, *, after: int) -> Iterator[Mapping[str, object]]:
    """The seals behind number `after`. Raises StoreError as `open_audit`."""
    return anchors.roots(_ready_engine(settings), after=after)


def compare_anchors(settings: Settings, kept: Iterable[Anchor]) -> tuple[LedgerFinding, ...]:
    """Which of the roots that were `kept` elsewhere are not those of the database. Raises
    StoreError as `open_audit`.
    """
    return anchors.compare(_ready_engine(settings), kept)


def open_adopter(settings: Settings) -> Adopter:
    """What takes over leases of other tools. Raises StoreError as `open_audit`."""
    return Adopter(_ready_engine(settings), wall_clock)


def read_assignments(settings: Settings, intent: Intent) -> Assignments:
    """The networks of `intent` with what is recorded for them.

    Raises:
        StoreError: as `open_audit`.
    """
    store = SegmentStore(
        _ready_engine(settings), wall_clock, settings.ipam.segment_cooldown_seconds
    )
    return store.stored(intent.networks, intent.tenant_configs)


def find_violations(settings: Settings) -> tuple[Finding, ...]:
    """What is not as it must be inside the database. Raises StoreError as `open_audit`."""
    return violations(_ready_engine(settings))


def dialect_rules(settings: Settings) -> DialectRules:
    """What the cluster decides about the words in which pods ask."""
    npwg = settings.npwg
    return DialectRules(
        default_network=npwg.default_network,
        more_networks=npwg.more_networks,
        system_namespaces=frozenset(npwg.system_namespaces),
        system_namespace=npwg.system_namespace,
        namespace_isolation=npwg.namespace_isolation,
        global_namespaces=frozenset(npwg.global_namespaces),
    )


def open_delegates(settings: Settings) -> Delegates:
    """The delegate plugins of this node."""
    # Our own variables may hold the database's password: no other program's business.
    environ = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    environ[OWNER_VARIABLE] = str(settings.state_dir)
    cni = settings.cni
    return Delegates(cni.conf_dir, cni.bin_dirs, environ=environ, strict=settings.npwg.strict)


def open_devices(settings: Settings, source: Source) -> NodeDevices:
    """The devices that pods of this node are given; nothing is asked of anybody yet."""
    claims = (
        ClaimReader(source.client, settings.node_name)
        if isinstance(source, ClusterSource)
        else None
    )
    return NodeDevices(
        PodResources(settings.devices.pod_resources_socket),
        claims,
        info=DeviceInfoFiles(settings.devices.info_dir),
    )


def read_attachments(settings: Settings) -> tuple[AttachmentRecord, ...]:
    """What the node daemon of these settings has attached."""
    return tuple(read_records(settings.state_dir / JOURNAL_FOLDER))


@contextmanager
def open_netwatcher(
    settings: Settings, attachments: tuple[AttachmentRecord, ...]
) -> Iterator[Netwatcher]:
    """The netwatcher, not started: for previews; what it holds open is closed after the block.

    What the `attachments` stand on is kept.
    """
    engine = open_database(settings)
    host = HostLinks()
    try:
        source = open_intent(settings, pods=False)
        yield make_netwatcher(settings, engine, source, host, lambda: attachments)
    finally:
        host.close()
        engine.dispose()


JOURNAL_FOLDER = "attachments"
REFUSALS_FILE = "refusals.json"


def open_refusals(settings: Settings) -> Mapping[str, Refusal]:
    """What the kernel refused to this node's daemon in its last look, by device."""
    return read_refusals(settings.state_dir / REFUSALS_FILE)


def open_database(settings: Settings) -> Engine:
    """The database; nothing is connected yet.

    Raises:
        StoreError: the URL is no database that danmpy can use.
    """
    given = settings.database
    return open_engine(settings.database_url, prepare=given.prepare, pool_size=given.pool_size)


def _ready_engine(settings: Settings) -> Engine:
    engine = open_database(settings)
    migrate.require_current(engine)
    return engine


def make_netwatcher(
    settings: Settings,
    engine: Engine,
    source: Source,
    host: HostLinks,
    records: Callable[[], Iterable[AttachmentRecord]],
    on_look: Callable[[], None] = lambda: None,
) -> Netwatcher:
    """The netwatcher of this node, not started; `on_look` hears of every look.

    `records` are the node's attachments: what they stand on is kept.
    """
    store = SegmentStore(engine, wall_clock, settings.ipam.segment_cooldown_seconds)
    refusals = Mirror(settings.state_dir / REFUSALS_FILE)

    def publish(report: LookReport) -> None:
        refusals.write(report)
        on_look()

    ports = WatchPorts(
        source=source,
        # In a cluster only the controller that leads assigns: nodes hear of a change at different
        # times, and would undo each other's work.
        assigner=store if isinstance(source, FolderSource) else RecordedSegments(store),
        host=host,
        conf_names=open_delegates(settings).conf_names,
        in_use=lambda: devices_in_use(records()),
        publish=publish,
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

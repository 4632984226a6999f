"""The cluster daemon."""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from danmpy.attach.upkeep import Job, Upkeep
from danmpy.bootstrap.care import care_for_history, claims_job
from danmpy.bootstrap.census import Census, CountedNetworks
from danmpy.bootstrap.process import (
    Schema,
    calm_collector,
    configure_logging,
    follow,
    serve_health,
    signals,
)
from danmpy.bootstrap.readers import dialect_rules, open_cluster, open_database
from danmpy.clock import monotonic, wall_clock
from danmpy.controller.admission import Admission, AdmissionSettings
from danmpy.controller.admission_pods import PodRules
from danmpy.controller.certificate_sources import (
    CertificateSource,
    FolderCertificates,
    SecretCertificates,
)
from danmpy.controller.facts import DatabaseFacts, LiveLookups
from danmpy.controller.ipam_claims import LiveIpamClaims
from danmpy.controller.living import LiveCluster
from danmpy.controller.loops import Loop
from danmpy.controller.ports import AdmissionPorts
from danmpy.controller.reconcile import ReconcilePorts, Reconciler
from danmpy.controller.registration import Registration, keep_registration
from danmpy.controller.webhook import SWITCH_INTERVAL_S, WebhookServer
from danmpy.controller.webhook_service import WebhookService
from danmpy.controller.writer import Writer
from danmpy.db.metrics import RetryMetrics
from danmpy.errors import IntentError
from danmpy.intent.cluster import ClusterSource
from danmpy.ipam.audit import Audit
from danmpy.ipam.nodereports import NodeReports
from danmpy.ipam.reclaiming import LeaseEnder, Reclaimer, RestSettings
from danmpy.ipam.registry import NetworkRegistry
from danmpy.ipam.segments import SegmentStore
from danmpy.kube.client import KubeClient
from danmpy.kube.leader import Candidacy, LeaderElection, unique_identity
from danmpy.settings import Settings

_log = structlog.get_logger(__name__)


def run_controller(settings: Settings) -> int:
    """Run the cluster daemon until SIGTERM or SIGINT.

    Raises:
        IntentError: the settings name no cluster, or a SQLite file for one with several nodes.
        ClusterError: there is no usable kubeconfig.
        HostError: the webhook's port cannot be had.
        StoreError: the database's schema is newer than this release.
    """
    if settings.intent.source != "kubernetes":
        raise IntentError(
            "there is no cluster to control: the manifests come from a folder",
            hint="set intent.source to kubernetes; a machine with a folder needs only danmpy node",
            subject="intent.source",
        )
    configure_logging()
    calm_collector()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stop = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(signals(stop.set))
        census = _start(settings, stop, stack)
        stop.wait()
        _log.info("stopping")
        census.raise_if_refused()
    return 0


def _start(settings: Settings, stop: threading.Event, stack: ExitStack) -> Census:
    """Start every part; `stack` stops them in reverse."""
    engine = open_database(settings)
    stack.callback(engine.dispose)
    schema = Schema(settings)
    schema.prepare()
    client = open_cluster(settings)
    stack.callback(client.close)
    source = ClusterSource(client, pods=False, keep_status=True)
    census = Census(settings, source.read, stop)
    registry = CollectorRegistry()
    RetryMetrics(engine, registry)
    networks = CountedNetworks(source, census)
    leader, loop = _loops(settings, client, engine, networks, registry, stack)
    webhook = _webhook(settings, client, engine, source, leader)
    follow(source, loop.wake, stop, stack)
    webhook.start()
    stack.callback(webhook.close)
    loop.start()
    stack.callback(loop.close)
    leader.start()
    stack.callback(leader.close)
    reclaimer = _reclaimer(settings, client, engine, leader)
    upkeep = Upkeep(
        [
            Job(name="schema", every_s=2.0, run=schema.prepare),
            Job(name="census", every_s=2.0, run=census.count),
            Job(
                name="reclaim",
                every_s=min(RECLAIM_S, max(1.0, settings.ipam.reclaim_grace_seconds / 4)),
                run=lambda: reclaimer.look(monotonic()),
            ),
            claims_job(settings, engine, LiveIpamClaims(client), leader.leading),
        ]
    )
    upkeep.start()
    stack.callback(upkeep.close)
    care_for_history(settings, engine, registry, networks.read, leader.leading, stack)
    serve_health(settings, registry, lambda: _why_not_ready(source, webhook), stack)
    _log.info("running", webhook=settings.webhook.listen)
    return census


def _why_not_ready(source: ClusterSource, webhook: WebhookService) -> str:
    """Why this replica could not answer a review; empty when all is well.

    What the leader fails at is no reason: reviews are then still answered.
    """
    if not source.read().complete:
        return "not everything could be listed at the API server yet"
    return webhook.ready()


def _loops(
    settings: Settings,
    client: KubeClient,
    engine: Engine,
    networks: CountedNetworks,
    registry: CollectorRegistry,
    stack: ExitStack,
) -> tuple[LeaderElection, Loop]:
    """Who leads, and what the leader does."""
    names = settings.controller
    leader = LeaderElection(
        client,
        Candidacy(
            namespace=names.namespace,
            lease=names.lease,
            identity=names.identity or unique_identity(socket.gethostname(), os.getpid()),
        ),
    )
    writer = Writer(client, leader.leading, registry=registry)
    stack.callback(writer.close)
    ports = ReconcilePorts(
        networks=networks,
        assigner=SegmentStore(engine, wall_clock, settings.ipam.segment_cooldown_seconds),
        usage=Audit(engine, wall_clock).usage_of_all,
        reports=NodeReports(engine, wall_clock),
        registry=NetworkRegistry(engine, wall_clock),
        leader=leader,
        writer=writer,
    )
    loop = Loop(Reconciler(ports), leader, registry)
    return leader, loop


RECLAIM_S = 30.0
"""Seconds between two looks for leases of nodes that are gone, or less with a short grace."""


def _reclaimer(
    settings: Settings, client: KubeClient, engine: Engine, leader: LeaderElection
) -> Reclaimer:
    """Who takes back what nodes held that are no more, while this replica leads."""
    ipam = settings.ipam
    rests = RestSettings(cooldown_seconds=ipam.cooldown_seconds, claim_seconds=ipam.claim_seconds)
    return Reclaimer(
        LeaseEnder(engine, wall_clock, rests),
        ipam.reclaim_grace_seconds,
        LiveCluster(client),
        leader.leading,
    )


def _webhook(
    settings: Settings,
    client: KubeClient,
    engine: Engine,
    source: ClusterSource,
    leader: LeaderElection,
) -> WebhookService:
    """The admission webhook, which every replica serves."""
    given = settings.webhook
    registration = Registration(
        name=given.registration,
        namespace=settings.controller.namespace,
        service=given.service,
        url=given.url,
    )
    facts = DatabaseFacts(
        NetworkRegistry(engine, wall_clock),
        NodeReports(engine, wall_clock),
        SegmentStore(engine, wall_clock),
    )
    admission = Admission(
        AdmissionPorts(wishes=source, facts=facts, lookups=LiveLookups(client)),
        AdmissionSettings(
            deny_pods=given.pods == "deny",
            namespace=settings.controller.namespace,
            pods=PodRules(
                naming_scheme=settings.cni.naming_scheme,
                dialects=dialect_rules(settings),
                strict=settings.npwg.strict,
            ),
        ),
    )
    certificates: CertificateSource = SecretCertificates(client, registration)
    if given.cert_dir:
        certificates = FolderCertificates(Path(given.cert_dir))
    return WebhookService(
        WebhookServer(given.endpoint, admission.begin),
        certificates,
        keep=lambda bundle: keep_registration(client, registration, bundle),
        leading=leader.leading,
    )

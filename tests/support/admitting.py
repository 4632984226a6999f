"""Admission under test: reviews as the API server sends them, and a small world to judge in."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from danmpy.api.specs import NetworkKey, SegmentKind
from danmpy.clock import wall_clock
from danmpy.controller.admission import Admission, AdmissionSettings
from danmpy.controller.certificate_sources import SecretCertificates
from danmpy.controller.facts import DatabaseFacts, LiveLookups
from danmpy.controller.ports import AdmissionPorts
from danmpy.controller.registration import Registration, keep_registration
from danmpy.controller.reviews import Verdict, parse_review
from danmpy.controller.webhook import WebhookServer
from danmpy.controller.webhook_service import WebhookService
from danmpy.errors import ClusterError, StoreError
from danmpy.intent.cluster import ClusterSource
from danmpy.intent.parse import parse_documents
from danmpy.intent.values import Intent
from danmpy.ipam.nodereports import NodeReports
from danmpy.ipam.profiles import Holding
from danmpy.ipam.registry import Holders, NetworkRegistry
from danmpy.ipam.segments import SegmentStore
from danmpy.ipam.values import Lease
from danmpy.kube.client import open_client
from support.apiserver import ApiServer, free_port
from support.manifests import documents
from support.netns import wait_until

Manifest = dict[str, Any]


def review_of(
    operation: str,
    new: Manifest | None = None,
    old: Manifest | None = None,
    *,
    dry_run: bool = False,
) -> Manifest:
    """An AdmissionReview as kube-apiserver 1.20 sends it."""
    body = new or old or {}
    metadata = body.get("metadata", {})
    kind = body["kind"]
    group, _, version = body.get("apiVersion", "v1").rpartition("/")
    typed = {"group": group, "version": version, "kind": kind}
    resource = {"group": group, "version": version, "resource": f"{kind.lower()}s"}
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": typed,
            "resource": resource,
            "requestKind": typed,
            "requestResource": resource,
            "name": metadata.get("name", ""),
            "namespace": metadata.get("namespace", ""),
            "operation": operation,
            "userInfo": {"username": "admin", "groups": ["system:masters"]},
            "object": new,
            "oldObject": old,
            "dryRun": dry_run,
            "options": {"kind": f"{operation.title()}Options", "apiVersion": "meta.k8s.io/v1"},
        },
    }


@dataclass
class World:
    """What admission can ask, as plain values that a test sets.

    `cached` is what the replica has heard of, `live` what the API server would answer besides;
    None: it does not answer. `store_away`: the database does not.
    """

    cached: Sequence[Manifest] = ()
    live: Sequence[Manifest] | None = ()
    leases: Mapping[NetworkKey, Sequence[Lease]] = field(default_factory=dict)
    reported: Mapping[NetworkKey, int] = field(default_factory=dict)
    holdings: Sequence[Holding] = ()
    store_away: bool = False
    settings: AdmissionSettings = field(default_factory=AdmissionSettings)
    questions: list[str] = field(default_factory=list)
    """What was asked of the database and of the API server."""

    # ports.Wishes

    def read(self) -> Intent:
        return parse_documents(documents(*self.cached))

    # ports.Facts

    def _asked(self, question: str) -> None:
        self.questions.append(question)
        if self.store_away:
            raise StoreError("no answer", hint="start it", subject="database")

    def holders(self, network: NetworkKey) -> Holders:
        self._asked("holders")
        found = self.leases.get(network, ())
        return Holders(count=len(found), example=found[0] if found else None)

    def attached(self, network: NetworkKey) -> int:
        self._asked("attached")
        return self.reported.get(network, 0)

    def open_leases(self, network: NetworkKey) -> Sequence[Lease]:
        self._asked("open_leases")
        return self.leases.get(network, ())

    def assigned(self) -> Sequence[Holding]:
        self._asked("assigned")
        return self.holdings

    def owners(self, kind: SegmentKind, number: int) -> Sequence[Holding]:
        self._asked("owners")
        return [held for held in self.holdings if (held.kind, held.id) == (kind, number)]

    # ports.Lookups

    def _known(self) -> Sequence[Manifest]:
        self.questions.append("api")
        if self.live is None:
            raise ClusterError("no answer", hint="start it", subject="api")
        return [*self.cached, *self.live]

    def network(self, network: NetworkKey) -> Manifest | None:
        for body in self._known():
            metadata = body["metadata"]
            if (body["kind"], metadata.get("namespace", ""), metadata["name"]) == (
                str(network.kind), network.namespace, network.name,
            ):  # fmt: skip
                return body
        return None

    def tenant_configs(self) -> Sequence[Manifest]:
        return [body for body in self._known() if body["kind"] == "TenantConfig"]

    # Questions

    @property
    def admission(self) -> Admission:
        ports = AdmissionPorts(wishes=self, facts=self, lookups=self)
        return Admission(ports, self.settings)

    def judge(
        self, operation: str, new: Manifest | None = None, old: Manifest | None = None
    ) -> Verdict:
        body = json.dumps(review_of(operation, new, old)).encode()
        return self.admission.judge(parse_review(body))

    def create(self, new: Manifest) -> Verdict:
        return self.judge("CREATE", new)

    def update(self, old: Manifest, new: Manifest) -> Verdict:
        return self.judge("UPDATE", new, old)

    def delete(self, old: Manifest) -> Verdict:
        return self.judge("DELETE", None, old)


def codes(verdict: Verdict) -> list[tuple[str, str]]:
    """Rule and field of everything that is wrong; every word of it is checked on the way."""
    for found in verdict.findings:
        assert found.path, found
        assert found.message, found
        assert found.hint or found.message.endswith(")"), found
    return [(found.code, found.path.removeprefix("spec.")) for found in verdict.findings]


def holding(network: str, device: str = "ens4", kind: str = "vxlan", number: int = 700) -> Holding:
    """What a TenantNetwork has; an empty `kind` is a bare device."""
    return Holding(
        network=network,
        uid="uid",
        device=device,
        kind=SegmentKind(kind) if kind else None,
        id=number,
        since=0,
    )


class Replica:
    """What a controller replica does for admission, in this process: it watches, serves by TLS on
    loopback, shares its certificate, and keeps the registration while it `leads`."""

    def __init__(self, api: ApiServer, engine: Engine, *, port: int = 0, deny: bool = True) -> None:
        self.client = open_client(api.kubeconfig())
        self.source = ClusterSource(self.client, node_name=None)
        self.registry = NetworkRegistry(engine, wall_clock)
        self.reports = NodeReports(engine, wall_clock)
        self.segments = SegmentStore(engine, wall_clock)
        facts = DatabaseFacts(self.registry, self.reports, self.segments)
        ports = AdmissionPorts(wishes=self.source, facts=facts, lookups=LiveLookups(self.client))
        admission = Admission(ports, AdmissionSettings(deny_pods=deny))
        self.leads = True
        port = port or free_port()
        self.registration = Registration(url=f"https://127.0.0.1:{port}")
        self.certificates = SecretCertificates(self.client, self.registration)
        self.server = WebhookServer(("127.0.0.1", port), admission.begin)
        self.service = WebhookService(
            self.server,
            self.certificates,
            keep=lambda bundle: keep_registration(self.client, self.registration, bundle),
            leading=lambda: self.leads,
            look_s=0.2,
        )
        self._stop = threading.Event()
        self._watch = threading.Thread(
            target=self.source.watch, args=(lambda: None, self._stop), daemon=True
        )

    def start(self) -> Replica:
        """Watch and serve; returns once reviews are answered."""
        self._watch.start()
        self.service.start()
        wait_until(lambda: not self.service.ready(), what="the webhook serves", seconds=20)
        wait_until(lambda: self.source.read().complete, what="everything is listed", seconds=20)
        return self

    def stop_serving(self) -> None:
        """The webhook goes, the rest stays."""
        self.service.close()

    def close(self) -> None:
        """End everything."""
        self.service.close()
        self._stop.set()
        if self._watch.ident is not None:
            self._watch.join(5)
        self.client.close()

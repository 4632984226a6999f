"""The answers to admission, out of a real database and a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from danmpy.api.specs import SegmentKind
from danmpy.clock import wall_clock
from danmpy.controller.facts import DatabaseFacts, LiveLookups
from danmpy.db.engine import open_engine
from danmpy.errors import ClusterError, StoreError
from danmpy.intent.parse import parse_documents
from danmpy.ipam.leases import LeaseOwner, LeaseRequest, LeaseStore
from danmpy.ipam.nodereports import NodeNetwork, NodeReports
from danmpy.ipam.registry import NetworkRegistry
from danmpy.ipam.segments import SegmentStore
from danmpy.kube.client import KubeClient, open_client
from support.apiserver import ApiServer
from support.manifests import config_manifest, documents, network_manifest
from support.specs import DYNAMIC, cluster_key, network, tenant_key

A, B = tenant_key("a"), tenant_key("b")


def facts_of(engine: Engine) -> DatabaseFacts:
    return DatabaseFacts(
        NetworkRegistry(engine, wall_clock),
        NodeReports(engine, wall_clock),
        SegmentStore(engine, wall_clock),
    )


def bind(engine: Engine, pod: str) -> None:
    owner = LeaseOwner(namespace="blue", pod=pod, pod_uid=pod, container_id=pod, node="n")
    request = LeaseRequest(interface="eth0", network=network(A, v4="10.0.0.0/24"), ip=DYNAMIC)
    LeaseStore(engine, wall_clock, 120).bind(owner, [request])


def test_holders_and_leases_are_those_of_one_network(engine: Engine) -> None:
    facts = facts_of(engine)
    for pod in ("web-0", "web-1"):
        bind(engine, pod)
    assert facts.holders(A).count == 2
    assert facts.holders(A).example in facts.open_leases(A)
    assert {lease.pod for lease in facts.open_leases(A)} == {"web-0", "web-1"}
    assert (facts.holders(B).count, facts.open_leases(B)) == (0, ())
    LeaseStore(engine, wall_clock, 120).release("web-0")
    assert [lease.pod for lease in facts.open_leases(A)] == ["web-1"]


def test_interfaces_are_counted_over_all_nodes(engine: Engine) -> None:
    reports = NodeReports(engine, wall_clock)
    for node, attached in (("n1", 2), ("n2", 3), ("n3", 0)):
        row = NodeNetwork(network=str(A), ready=True, attached=attached)
        reports.write(node, {str(A): row})
    assert facts_of(engine).attached(A) == 5
    assert facts_of(engine).attached(B) == 0


def test_what_is_assigned_is_told_in_all_and_by_id(engine: Engine) -> None:
    facts = facts_of(engine)
    assert (facts.assigned(), facts.owners(SegmentKind.VXLAN, 700)) == ((), ())
    profile = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}
    intent = parse_documents(
        documents(
            config_manifest(profile),
            *(network_manifest("TenantNetwork", name, "blue") for name in ("a", "b")),
        )
    )
    SegmentStore(engine, wall_clock).assign(intent.networks, intent.tenant_configs)
    assert [(held.network, held.id) for held in facts.assigned()] == [(str(A), 700), (str(B), 701)]
    assert [held.network for held in facts.owners(SegmentKind.VXLAN, 701)] == [str(B)]
    assert facts.owners(SegmentKind.VLAN, 701) == ()
    assert facts.owners(SegmentKind.VXLAN, 702) == ()


def test_a_database_that_is_away_is_a_store_error(tmp_path: Path) -> None:
    away = open_engine(f"sqlite:///{tmp_path}/none.db")
    facts = facts_of(away)
    for ask in (facts.assigned, lambda: facts.holders(A), lambda: facts.attached(A)):
        with pytest.raises(StoreError):
            ask()
    away.dispose()


@pytest.fixture
def lookups(apiserver: ApiServer) -> Iterator[LiveLookups]:
    client: KubeClient = open_client(apiserver.kubeconfig())
    yield LiveLookups(client)
    client.close()


@pytest.mark.system
def test_the_api_server_is_asked_for_what_is_there_now(
    apiserver: ApiServer, lookups: LiveLookups
) -> None:
    assert lookups.network(cluster_key("net")) is None
    apiserver.apply(network_manifest())
    found = lookups.network(cluster_key("net"))
    assert found is not None
    assert found["spec"]["NetworkID"] == "net"
    assert lookups.tenant_configs() == []
    apiserver.apply(config_manifest({"name": "ens4"}))
    (config,) = lookups.tenant_configs()
    assert config["hostDevices"] == [{"name": "ens4"}]
    assert config["kind"] == "TenantConfig"


@pytest.mark.system
def test_an_api_server_that_is_away_is_a_cluster_error(
    apiserver: ApiServer, lookups: LiveLookups
) -> None:
    apiserver.kill()
    with pytest.raises(ClusterError):
        lookups.network(cluster_key("net"))
    with pytest.raises(ClusterError):
        lookups.tenant_configs()

"""The leader's look, against a real API server and both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from danmpy.api.limits import FINALIZER
from danmpy.api.specs import NetworkKey
from danmpy.clock import wall_clock
from danmpy.controller.reconcile import ReconcilePorts, Reconciler
from danmpy.controller.writer import Writer
from danmpy.intent.cluster import ClusterSource
from danmpy.intent.objects import NetworkObject
from danmpy.intent.values import Intent
from danmpy.ipam.audit import Audit
from danmpy.ipam.leases import LeaseOwner, LeaseRequest, LeaseStore
from danmpy.ipam.nodereports import NodeNetwork, NodeReports
from danmpy.ipam.registry import NetworkRegistry
from danmpy.ipam.segments import SegmentStore, StaleLeaderError
from danmpy.kube.client import open_client
from support.apiserver import ApiServer
from support.netns import wait_until
from support.node import cluster_network, tenant_config, tenant_network

pytestmark = pytest.mark.system

L2 = NodeNetwork(
    network="ClusterNetwork/l2", segment="vxlan:ens4:900", device="vx900", ready=True, attached=1
)
PROFILE = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-702"}
BLUE = "TenantNetwork/blue/internal"


class Late:
    """A cache that hears nothing more."""

    def __init__(self, source: ClusterSource) -> None:
        self._intent, self._objects = source.read(), source.network_objects()

    def read(self) -> Intent:
        return self._intent

    def network_objects(self) -> Mapping[NetworkKey, NetworkObject]:
        return self._objects


@dataclass(slots=True)
class Leadership:
    term: int = 1
    leads: bool = True

    def leading(self) -> bool:
        return self.leads

    def outgrow(self, term: int) -> None:
        self.term = term + 1


class World:
    """A controller's parts, of which the test makes every look itself."""

    def __init__(self, api: ApiServer, engine: Engine) -> None:
        self.api = api
        self.engine = engine
        self.client = open_client(api.kubeconfig())
        self.source = ClusterSource(self.client, node_name=None, keep_status=True)
        self.leader = Leadership()
        self.writer = Writer(self.client, self.leader.leading, period_s=0.3)
        self.reports = NodeReports(engine, wall_clock)
        self.reconciler = self.replica(self.leader)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self.source.watch, args=(lambda: None, self._stop), daemon=True
        )
        self._thread.start()
        wait_until(lambda: self.source.read().complete)

    def replica(self, leader: Leadership) -> Reconciler:
        engine = self.engine
        return Reconciler(
            ReconcilePorts(
                networks=self.source,
                assigner=SegmentStore(engine, wall_clock, 0),
                usage=Audit(engine, wall_clock).usage_of_all,
                reports=self.reports,
                registry=NetworkRegistry(engine, wall_clock),
                leader=leader,
                writer=self.writer,
            )
        )

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.writer.close()
        self.client.close()

    def declare(self, *manifests: dict[str, Any]) -> None:
        for manifest in manifests:
            if namespace := manifest["metadata"].get("namespace"):
                self.api.make_namespace(namespace)
            self.api.apply(manifest)

    def look_until(self, condition: Any, *, seconds: float = 10) -> None:
        wait_until(
            lambda: self.reconciler.look() is None or condition(), seconds=seconds, every=0.05
        )

    def network(self, name: str = "internal") -> dict[str, Any]:
        return self.api.get("TenantNetwork", name, "blue") or {}

    def number(self, name: str = "internal") -> int:
        return int(self.network(name).get("status", {}).get("segment", {}).get("id", 0))

    def ready(self, name: str = "internal", kind: str = "TenantNetwork") -> dict[str, Any]:
        found = self.api.get(kind, name, "blue" if kind == "TenantNetwork" else "") or {}
        conditions = found.get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == "Ready"), {})


@pytest.fixture
def world(apiserver: ApiServer, engine: Engine) -> Iterator[World]:
    made = World(apiserver, engine)
    yield made
    made.close()


def test_a_network_gets_finalizer_segment_and_status_and_is_ready_when_a_node_says_so(
    world: World,
) -> None:
    world.declare(tenant_config(PROFILE), tenant_network("internal", "blue", cidr="10.0.0.0/24"))
    world.look_until(lambda: world.number() == 700)
    assert FINALIZER in world.network()["metadata"]["finalizers"]
    assert world.network()["spec"]["Options"] == {"cidr": "10.0.0.0/24"}
    assert world.ready()["reason"] == "NoReports"
    row = NodeNetwork(segment="vxlan:ens4:700", device="vx700", ready=True, network=BLUE)
    world.reports.write("node-a", {BLUE: row})
    world.look_until(lambda: world.ready().get("status") == "True")
    assert world.network()["status"]["realised"] == "1/1"


def test_a_full_range_is_said_and_an_id_that_becomes_free_is_given(world: World) -> None:
    names = [f"net-{number}" for number in range(4)]
    world.declare(tenant_config(PROFILE), *(tenant_network(each, "blue") for each in names))
    world.look_until(lambda: sum(world.number(each) > 0 for each in names) == 3)
    (late,) = (each for each in names if not world.number(each))
    world.look_until(lambda: world.ready(late).get("reason") == "RangeFull")
    gone = next(each for each in names if each != late)
    freed = world.number(gone)
    world.api.delete("TenantNetwork", gone, "blue")
    # The first half minute of an assignment it is kept for nodes that read of it before us.
    world.look_until(lambda: world.number(late) == freed, seconds=60)


def test_a_tenantconfig_that_is_applied_again_forgets_nothing(world: World) -> None:
    world.declare(tenant_config(PROFILE), tenant_network("internal", "blue"))
    world.look_until(lambda: world.number() == 700)
    world.api.delete("TenantConfig", "tenants")
    world.declare(tenant_config(PROFILE), tenant_network("second", "blue"))
    world.look_until(lambda: world.number("second") == 701)
    assert world.number() == 700


def test_a_network_that_is_deleted_under_a_pod_stays_until_the_pod_is_gone(world: World) -> None:
    world.declare(tenant_config(PROFILE), tenant_network("internal", "blue", cidr="10.0.0.0/24"))
    world.look_until(lambda: world.number() == 700)
    spec = next(iter(world.source.read().networks.values()))
    leases = LeaseStore(world.engine, wall_clock, 0)
    owner = LeaseOwner(namespace="blue", pod="web-0", pod_uid="u", container_id="c", node="node-a")
    ask = LeaseRequest(interface="eth0", network=spec, ip=_dynamic())
    leases.bind(owner, [ask])
    world.api.delete("TenantNetwork", "internal", "blue")
    world.look_until(lambda: world.ready().get("reason") == "Terminating")
    assert world.ready()["message"] == "1 address is held: 10.0.0.1/24 by Pod/blue/web-0"
    status = world.network()["status"]
    conditions = {each["type"]: each["reason"] for each in status["conditions"]}
    assert conditions["InUse"] == "Attached"
    world.look_until(lambda: world.network()["status"]["v4"]["held"] == "1")
    leases.release("c")
    world.look_until(lambda: not world.network())
    with pytest.raises(Exception, match="is being deleted"):
        leases.bind(owner, [ask])


def test_a_network_is_not_ready_any_more_in_the_second_of_its_deletion(world: World) -> None:
    """Also when its status was just written: that it goes is worth the next turn."""
    writer = Writer(world.client, world.leader.leading)
    world.reconciler = Reconciler(replace(world.reconciler._ports, writer=writer))
    try:
        world.declare(cluster_network("l2", host_device="ens4", vxlan=900))
        world.reports.write("node-a", {"ClusterNetwork/l2": L2})
        ready = lambda: world.ready("l2", "ClusterNetwork")  # noqa: E731
        world.look_until(lambda: ready().get("status") == "True")
        world.reports.write("node-a", {"ClusterNetwork/l2": replace(L2, attached=2)})
        status = lambda: (world.api.get("ClusterNetwork", "l2") or {})["status"]  # noqa: E731
        world.look_until(lambda: status()["attached"] == 2, seconds=15)
        world.api.delete("ClusterNetwork", "l2")
        world.look_until(lambda: ready().get("reason") == "Terminating", seconds=3)
        assert ready()["status"] == "False"
    finally:
        writer.close()


def test_a_network_without_addresses_waits_for_the_nodes(world: World) -> None:
    world.declare(cluster_network("l2", host_device="ens4", vxlan=900))
    network = "ClusterNetwork/l2"
    world.look_until(lambda: "status" in (world.api.get("ClusterNetwork", "l2") or {}))
    row = NodeNetwork(
        network=network, segment="vxlan:ens4:900", device="vx900", ready=True, attached=1
    )
    world.reports.write("node-a", {network: row})
    world.api.delete("ClusterNetwork", "l2")
    wait_until(lambda: any(each.terminating for each in world.source.network_objects().values()))
    for _ in range(3):
        world.reconciler.look()
    assert world.api.get("ClusterNetwork", "l2") is not None
    world.reports.write("node-a", {})
    world.look_until(lambda: world.api.get("ClusterNetwork", "l2") is None)


def test_the_wire_of_a_network_that_is_being_deleted_is_nobody_elses(world: World) -> None:
    world.declare(cluster_network("l2", host_device="ens4", vxlan=700))
    world.look_until(lambda: "status" in (world.api.get("ClusterNetwork", "l2") or {}))
    network = "ClusterNetwork/l2"
    row = NodeNetwork(
        network=network, segment="vxlan:ens4:700", device="vx700", ready=True, attached=1
    )
    world.reports.write("node-a", {network: row})
    world.api.delete("ClusterNetwork", "l2")
    world.declare(tenant_config(PROFILE), tenant_network("internal", "blue"))
    world.look_until(lambda: world.number() > 0)
    assert world.number() == 701


def test_a_pod_that_came_without_an_address_in_the_second_of_the_deletion_is_waited_for(
    world: World,
) -> None:
    world.declare(cluster_network("l2", host_device="ens4", vxlan=900, cidr="10.0.0.0/24"))
    network = "ClusterNetwork/l2"
    world.look_until(lambda: "status" in (world.api.get("ClusterNetwork", "l2") or {}))
    world.api.delete("ClusterNetwork", "l2")
    wait_until(lambda: any(each.terminating for each in world.source.network_objects().values()))
    world.reconciler.look()
    row = NodeNetwork(network=network, segment="vxlan:ens4:900", ready=True, attached=1)
    world.reports.write("node-a", {network: row})
    with pytest.raises(pytest.fail.Exception):
        world.look_until(lambda: world.api.get("ClusterNetwork", "l2") is None, seconds=5)
    world.reports.write("node-a", {})
    world.look_until(lambda: world.api.get("ClusterNetwork", "l2") is None)


def test_looks_at_a_cache_that_is_late_do_not_write_the_same_again_and_again(world: World) -> None:
    manifest = cluster_network("l2", host_device="ens4", vxlan=900)
    manifest["metadata"]["finalizers"] = [FINALIZER]
    world.declare(manifest)
    wait_until(lambda: bool(world.source.read().networks))
    late = Late(world.source)
    writer = Writer(world.client, world.leader.leading)
    reconciler = Reconciler(replace(world.reconciler._ports, networks=late, writer=writer))
    versions = []
    for _ in range(6):
        reconciler.look()
        stored = world.api.get("ClusterNetwork", "l2") or {}
        versions.append(stored["metadata"]["resourceVersion"])
    writer.close()
    assert "status" in stored
    assert len(set(versions)) <= 2, "the first word, and what came of it"


def test_a_leader_whose_term_is_over_assigns_nothing(world: World) -> None:
    world.declare(tenant_config(PROFILE), tenant_network("internal", "blue"))
    world.look_until(lambda: world.number() == 700)
    world.leader.term = 5
    world.declare(tenant_network("second", "blue"))
    world.look_until(lambda: world.number("second") == 701)
    world.declare(tenant_network("third", "blue"))
    wait_until(lambda: len(world.source.network_objects()) == 3)
    with pytest.raises(StaleLeaderError):
        world.replica(Leadership(term=4)).look()  # the finalizer comes first, and then the refusal
    assert not world.number("third")


def test_a_lease_that_was_deleted_locks_nobody_out(world: World) -> None:
    world.declare(tenant_config(PROFILE), tenant_network("internal", "blue"))
    world.leader.term = 7
    world.look_until(lambda: world.number() == 700)
    world.leader.term = 1
    world.declare(tenant_network("second", "blue"))
    wait_until(lambda: len(world.source.network_objects()) == 2)
    with pytest.raises(StaleLeaderError):
        world.reconciler.look()
    assert world.leader.term == 8
    world.look_until(lambda: world.number("second") == 701)


def test_who_does_not_lead_touches_nothing(world: World) -> None:
    world.declare(tenant_config(PROFILE), tenant_network("internal", "blue"))
    wait_until(lambda: len(world.source.network_objects()) == 1)
    world.leader.leads = False
    world.reconciler.look()
    assert "finalizers" not in world.network()["metadata"]
    assert "status" not in world.network()


def _dynamic() -> Any:
    from danmpy.api.specs import AddressAsk, AddressMode

    return AddressAsk(mode=AddressMode.DYNAMIC)


def test_a_network_that_only_somebody_else_holds_is_told_to_be_going(world: World) -> None:
    body = cluster_network("shared", host_device="ens4", vxlan=900)
    body["metadata"]["finalizers"] = ["example.com/other"]
    world.declare(body)
    world.look_until(lambda: world.ready("shared", "ClusterNetwork"))
    world.api.delete("ClusterNetwork", "shared")
    world.look_until(
        lambda: (
            world.api.get("ClusterNetwork", "shared")["metadata"]["finalizers"]
            == ["example.com/other"]
        )
    )
    world.look_until(lambda: world.ready("shared", "ClusterNetwork")["reason"] == "Terminating")
    world.api.patch("ClusterNetwork", "shared", {"metadata": {"finalizers": None}})


def test_a_config_that_lost_a_race_is_told_of_once_and_by_its_networks(world: World) -> None:
    world.declare(tenant_config(PROFILE | {"vniRange": "9-1"}, name="broken"))
    world.declare(tenant_network("internal", "blue"))
    wait_until(lambda: world.source.read().refused_configs != ())
    with capture_logs() as logs:
        world.look_until(lambda: world.ready().get("reason") == "NoTenantConfig")
        world.reconciler.look()
    assert [log["object"] for log in logs if log["event"] == "refused"] == ["TenantConfig/broken"]
    assert "TenantConfig/broken is refused" in world.ready()["message"]


def test_networks_as_a_running_danm_stored_them_are_served_as_they_are(world: World) -> None:
    world.declare(tenant_config(PROFILE | {"alloc": "gAAA"}))
    pool = {"start": "10.0.0.1", "end": "10.0.0.9", "lastIp": "10.0.0.5/24"}
    old = {"host_device": "ens4", "cidr": "10.0.0.0/24", "alloc": "gAA=", "allocation_pool": pool}
    world.declare(
        tenant_network("added", "blue"),
        tenant_network("internal", "blue", vxlan=700, **old),
        tenant_network("other", "blue", vxlan=702, **old),
    )
    wait_until(lambda: len(world.source.network_objects()) == 3)
    world.look_until(lambda: world.number("added"))
    world.look_until(lambda: world.number("internal") and world.number("other"))
    names = ("added", "internal", "other")
    assert [world.number(name) for name in names] == [701, 700, 702]
    valid = next(
        each
        for each in world.network()["status"]["conditions"]
        if each["type"] == "ParametersValid"
    )
    assert valid["status"] == "True"
    assert "spec.Options.alloc" in valid["message"]

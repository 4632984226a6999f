"""The leader's look by wishes that are not whole yet, or not of now any more; both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from danmpy.api.limits import FINALIZER
from danmpy.api.specs import NetworkKey
from danmpy.clock import MICROSECONDS, wall_clock
from danmpy.controller import reconcile
from danmpy.controller.reconcile import ReconcilePorts, Reconciler
from danmpy.controller.writer import Patch, Writer
from danmpy.db.engine import read, run_write
from danmpy.intent.documents import Document
from danmpy.intent.objects import NetworkObject
from danmpy.intent.parse import parse_documents
from danmpy.intent.values import Intent
from danmpy.ipam.audit import Audit
from danmpy.ipam.nodereports import NodeNetwork, NodeReports
from danmpy.ipam.profiles import ABSENCE_GRACE
from danmpy.ipam.registry import RETIRED_FOR, NetworkRegistry
from danmpy.ipam.segments import SegmentStore, StaleLeaderError
from support.node import cluster_network, tenant_config, tenant_network

PROFILE = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-702"}


def wishes(*manifests: Mapping[str, Any], complete: bool = True) -> Intent:
    found = parse_documents([Document(where="", body=dict(each)) for each in manifests])
    assert not found.problems
    return replace(found, complete=complete)


def node(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


@dataclass(slots=True)
class Heard:
    """What was heard last: every network has its finalizer."""

    intent: Intent

    def read(self) -> Intent:
        return self.intent

    def network_objects(self) -> Mapping[NetworkKey, NetworkObject]:
        return {
            key: NetworkObject(
                key=key,
                uid=network.uid,
                generation=1,
                resource_version="1",
                finalizers=(FINALIZER,),
            )
            for key, network in self.intent.networks.items()
        }


@dataclass(slots=True)
class Leadership:
    term: int = 5

    def leading(self) -> bool:
        return True

    def outgrow(self, term: int) -> None:
        """Nothing: these tests are about one look."""


class Hanging(Writer):
    """Writes nothing, and takes its time, in which `meanwhile` happens."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def write_all(self, patches: Sequence[Patch]) -> frozenset[NetworkKey]:
        self.meanwhile()
        return frozenset()


def let_them_be_old(connection: Connection) -> None:
    """Young assignments are ended by nobody."""
    connection.execute(
        text("UPDATE segment_assignment SET assigned_at = assigned_at - :grace"),
        {"grace": ABSENCE_GRACE + MICROSECONDS},
    )


@dataclass(slots=True)
class World:
    engine: Engine
    leader: Leadership
    writer: Hanging

    def look(self, intent: Intent) -> None:
        self.reconciler(intent).look()

    def reconciler(self, intent: Intent) -> Reconciler:
        engine = self.engine
        ports = ReconcilePorts(
            networks=Heard(intent),
            assigner=SegmentStore(engine, wall_clock),
            usage=Audit(engine, wall_clock).usage_of_all,
            reports=NodeReports(engine, wall_clock),
            registry=NetworkRegistry(engine, wall_clock),
            leader=self.leader,
            writer=self.writer,
        )
        return Reconciler(ports)

    def assigned(self) -> dict[str, int]:
        return {each.network: each.id for each in SegmentStore(self.engine, wall_clock).assigned()}


@pytest.fixture
def world(engine: Engine) -> Iterator[World]:
    writer = Hanging(None, lambda: True)  # type: ignore[arg-type]
    yield World(engine=engine, leader=Leadership(), writer=writer)
    writer.close()


def test_nothing_is_assigned_before_everything_was_heard(world: World) -> None:
    config, tenant = tenant_config(PROFILE), tenant_network("internal", "blue")
    world.look(wishes(config, tenant, complete=False))
    assert world.assigned() == {}
    by_hand = cluster_network("storage", host_device="ens4", vxlan=700)
    world.look(wishes(config, tenant, by_hand))
    assert world.assigned() == {"TenantNetwork/blue/internal": 701}


def test_an_id_that_a_node_still_has_a_device_for_waits_until_the_nodes_were_heard(
    world: World,
) -> None:
    old = "TenantNetwork/blue/old"
    row = NodeNetwork(network=old, segment="vxlan:ens4:700", device="vx700", ready=False)
    NodeReports(world.engine, wall_clock).write("node-a", {old: row})
    config, tenant = tenant_config(PROFILE), tenant_network("internal", "blue")
    world.look(wishes(config, tenant, complete=False))
    assert world.assigned() == {}
    world.look(wishes(config, tenant, node("node-a")))
    assert world.assigned() == {"TenantNetwork/blue/internal": 701}


def test_a_node_that_is_missing_for_a_moment_keeps_what_it_said_and_its_devices_their_ids(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(reconcile, "monotonic", lambda: now[0])
    row = NodeNetwork(network="x", segment="vxlan:ens4:700", device="vx700", ready=True)
    reports = NodeReports(world.engine, wall_clock)
    reports.write("node-a", {"x": row})
    config, there = tenant_config(PROFILE), node("node-b")
    reconciler = world.reconciler(wishes(config, there))
    reconciler.look()  # a leader of whose nodes one is missing just now
    for _ in range(5):
        now[0] += 20
        reconciler.look()
    world.look(wishes(config, there, tenant_network("internal", "blue")))
    assert world.assigned() == {"TenantNetwork/blue/internal": 701}
    assert reports.nodes() == {"node-a"}
    for _ in range(3):
        now[0] += 20
        reconciler.look()
    assert reports.nodes() == set(), "it is missing for more than two minutes"


@pytest.mark.parametrize("pace_s", [0.7, 2.1])
def test_a_node_that_is_gone_is_forgotten_at_whatever_pace_is_looked(
    world: World, monkeypatch: pytest.MonkeyPatch, pace_s: float
) -> None:
    now = [1000.0]
    monkeypatch.setattr(reconcile, "monotonic", lambda: now[0])
    row = NodeNetwork(network="x", segment="vxlan:ens4:700", device="vx700", ready=True)
    reports = NodeReports(world.engine, wall_clock)
    reports.write("node-a", {"x": row})
    reconciler = world.reconciler(wishes(node("node-b")))
    while now[0] < 1125:
        reconciler.look()
        now[0] += pace_s
    assert reports.nodes() == set()


def test_ends_of_networks_are_forgotten_a_day_later(world: World) -> None:
    registry = NetworkRegistry(world.engine, wall_clock)
    old = parse_documents([Document(where="", body=cluster_network("l2"))])
    registry.retire(next(iter(old.networks)), "u-1")
    day = text("UPDATE retired_network SET retired_at = retired_at - :day")
    run_write(world.engine, lambda c: c.execute(day, {"day": RETIRED_FOR + MICROSECONDS}))
    world.look(wishes())
    with read(world.engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM retired_network")).scalar() == 0


def test_a_leader_that_leads_again_does_not_end_what_another_began_meanwhile(world: World) -> None:
    config, mine = tenant_config(PROFILE), tenant_network("internal", "blue")
    world.look(wishes(config, mine))

    def another_leads_for_a_while() -> None:
        world.writer.meanwhile = lambda: None
        theirs = wishes(config, mine, tenant_network("theirs", "blue"))
        store = SegmentStore(world.engine, wall_clock)
        store.assign(theirs.networks, theirs.tenant_configs, term=world.leader.term + 1)
        run_write(world.engine, let_them_be_old)
        world.leader.term += 2

    world.writer.meanwhile = another_leads_for_a_while
    with suppress(StaleLeaderError):
        world.look(wishes(config, mine))
    assert "TenantNetwork/blue/theirs" in world.assigned()

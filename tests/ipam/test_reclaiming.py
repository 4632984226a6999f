"""Leases of nodes that are gone: taken back late, by whoever leads, and never on a guess."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.specs import AddressMode
from danmpy.errors import ClusterError
from danmpy.ipam.leases import LeaseRequest
from danmpy.ipam.reclaiming import (
    AT_ONCE,
    LeaseEnder,
    PodName,
    Reclaimer,
    RestSettings,
    Suspicions,
    is_alone,
    is_it,
)
from danmpy.ipam.values import Lease
from support.leasing import COOLDOWN, World, owner
from support.specs import DYNAMIC, network, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/22", vni=700)
GRACE = 300


@dataclass
class Cluster:
    """The API server's answers: which nodes and pods there are, and what it cannot tell now."""

    names: set[str] = field(default_factory=lambda: {"node-a"})
    pods: dict[str, set[PodName]] = field(default_factory=dict)
    broken: str = ""
    asked: list[str] = field(default_factory=list)

    def nodes(self) -> frozenset[str]:
        self._answer("nodes")
        return frozenset(self.names)

    def pods_on(self, node: str) -> frozenset[PodName]:
        self._answer("pods")
        return frozenset(self.pods.get(node, ()))

    def uid_of(self, namespace: str, pod: str) -> str | None:
        self._answer("pod")
        every = (name for some in self.pods.values() for name in some)
        return next((uid for space, name, uid in every if (space, name) == (namespace, pod)), None)

    def _answer(self, what: str) -> None:
        self.asked.append(what)
        if what == self.broken:
            raise ClusterError("the API server is away", hint="wait", subject=what)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


class Leadership:
    """Does this replica lead?"""

    def __init__(self) -> None:
        self.leads = True

    def __call__(self) -> bool:
        return self.leads


@pytest.fixture
def leading() -> Leadership:
    return Leadership()


@pytest.fixture
def reclaimer(world: World, cluster: Cluster, leading: Leadership) -> Reclaimer:
    leases = LeaseEnder(world.engine, world.clock, RestSettings(cooldown_seconds=COOLDOWN))
    return Reclaimer(leases, GRACE, cluster, leading)


def looks(reclaimer: Reclaimer, start: float = 1000.0, seconds: float = GRACE) -> int:
    """Look every half minute for so long; how many were taken."""
    return sum(reclaimer.look(start + at) for at in range(0, int(seconds) + 1, 30))


@contextmanager
def kept(world: World) -> Iterator[None]:
    """Nothing is taken."""
    before = world.rows("SELECT count(*) FROM lease WHERE held_to IS NULL")
    yield
    assert world.rows("SELECT count(*) FROM lease WHERE held_to IS NULL") == before
    assert world.audit.violations() == ()


def test_what_a_lost_node_held_is_taken_back_after_the_grace(
    world: World, reclaimer: Reclaimer
) -> None:
    stays = world.bind(NET, "stays", node="node-a")
    world.bind(NET, "lost", node="node-z")
    assert looks(reclaimer, seconds=GRACE - 30) == 0
    assert reclaimer.look(1000.0 + GRACE) == 1
    assert world.leases.held_by("container-lost") == ()
    assert world.leases.held_by("container-stays") == (stays,)
    ((reason, detail),) = world.rows("SELECT reason, detail FROM event WHERE kind = 'RELEASE'")
    assert reason == "reclaimed"
    assert "node-z is gone" in str(detail)
    assert world.audit.violations() == ()
    world.ledger.seal()
    assert world.ledger.verify().ok
    assert looks(reclaimer, start=2000.0) == 0


def test_it_rests_like_every_other_address(world: World, reclaimer: Reclaimer) -> None:
    lost = world.bind(NET, "lost", node="node-z")
    looks(reclaimer)
    assert world.bind(NET, "next").address != lost.address


def test_a_node_that_is_there_keeps_everything_however_silent_it_is(
    world: World, reclaimer: Reclaimer
) -> None:
    world.bind(NET, "web", node="node-a")
    with kept(world):
        assert looks(reclaimer, seconds=10 * GRACE) == 0


def test_a_pod_whose_object_is_there_keeps_its_lease_without_its_node(
    world: World, reclaimer: Reclaimer, cluster: Cluster
) -> None:
    world.bind(NET, "web", node="node-z")
    cluster.pods["node-z"] = {("blue", "web", "uid-web")}
    with kept(world):
        assert looks(reclaimer, seconds=3 * GRACE) == 0


def test_an_adopted_lease_without_uid_survives_as_long_as_a_pod_of_its_name(
    world: World, reclaimer: Reclaimer, cluster: Cluster
) -> None:
    """An importer may know neither UID nor the right name of the node."""
    world.bind(NET, "web", node="node-unknown", pod_uid="")
    cluster.pods["node-a"] = {("blue", "web", "uid-web")}
    with kept(world):
        assert looks(reclaimer, seconds=3 * GRACE) == 0
    cluster.pods = {}
    assert looks(reclaimer, start=9000.0) == 1


def test_the_next_pod_of_the_name_does_not_keep_the_lease_of_the_one_before(
    world: World, reclaimer: Reclaimer, cluster: Cluster
) -> None:
    world.bind(NET, "db-0", node="node-z", pod_uid="old", container_id="c-old")
    new = world.bind(NET, "db-0", node="node-a", pod_uid="new", container_id="c-new")
    cluster.pods["node-a"] = {("blue", "db-0", "new")}
    assert looks(reclaimer) == 1
    assert world.leases.held_by("c-new") == (new,)


@pytest.mark.parametrize("broken", ["nodes", "pods", "pod"])
def test_when_anything_cannot_be_asked_nothing_is_taken(
    world: World, reclaimer: Reclaimer, cluster: Cluster, broken: str
) -> None:
    world.bind(NET, "lost", node="node-z")
    looks(reclaimer, seconds=GRACE - 30)
    cluster.broken = broken
    with kept(world), pytest.raises(ClusterError):
        reclaimer.look(1000.0 + GRACE)
    cluster.broken = ""
    assert reclaimer.look(1000.0 + GRACE + 30) == 1


def test_a_node_that_comes_back_within_the_grace_begins_it_anew(
    world: World, reclaimer: Reclaimer, cluster: Cluster
) -> None:
    world.bind(NET, "web", node="node-z")
    looks(reclaimer, seconds=GRACE - 30)
    cluster.names.add("node-z")
    assert reclaimer.look(1000.0 + GRACE) == 0
    cluster.names.remove("node-z")
    with kept(world):
        assert reclaimer.look(1000.0 + GRACE + 30) == 0


def test_a_pod_that_appears_at_the_last_moment_is_seen(
    world: World, reclaimer: Reclaimer, cluster: Cluster
) -> None:
    """Listed by its node it was not; asked for by its name it is there."""
    world.bind(NET, "web", node="node-z")
    looks(reclaimer, seconds=GRACE - 30)
    cluster.pods["node-other"] = {("blue", "web", "uid-web")}
    with kept(world):
        assert reclaimer.look(1000.0 + GRACE) == 0


def test_a_lease_that_passed_on_meanwhile_is_another_one(
    world: World, reclaimer: Reclaimer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last question and the end of the lease a new sandbox took it over."""
    world.bind(NET, "web", node="node-z")
    looks(reclaimer, seconds=GRACE - 30)

    def rebound(namespace: str, pod: str) -> None:
        world.bind(NET, "web", node="node-a", container_id="container-new")

    monkeypatch.setattr(cluster, "uid_of", rebound)
    assert reclaimer.look(1000.0 + GRACE) == 0
    assert len(world.leases.held_by("container-new")) == 1
    assert world.audit.violations() == ()


def test_who_does_not_lead_takes_nothing_and_remembers_nothing(
    world: World, reclaimer: Reclaimer, cluster: Cluster, leading: Leadership
) -> None:
    world.bind(NET, "lost", node="node-z")
    looks(reclaimer, seconds=GRACE - 30)
    leading.leads = False
    cluster.asked.clear()
    assert reclaimer.look(1000.0 + GRACE) == 0
    assert cluster.asked == []
    leading.leads = True
    assert reclaimer.look(1000.0 + GRACE + 30) == 0


def test_one_run_takes_a_hundred_at_most(world: World, reclaimer: Reclaimer) -> None:
    pods = AT_ONCE + 5
    for number in range(pods):
        asked = [LeaseRequest(interface="net1", network=NET, ip=DYNAMIC)]
        world.leases.bind(owner(f"p{number}", node="node-z"), asked)
    assert looks(reclaimer) == AT_ONCE
    assert reclaimer.look(1000.0 + GRACE + 30) == pods - AT_ONCE
    assert world.audit.violations() == ()


def test_reservations_are_on_no_node_and_stay(world: World, reclaimer: Reclaimer) -> None:
    world.bind(NET, "web", node="node-z")
    world.sql("UPDATE lease SET mode = 'reserved', pod = '', pod_uid = '', namespace = ''")
    assert looks(reclaimer, seconds=3 * GRACE) == 0


def test_a_cluster_with_all_its_nodes_is_asked_one_question_a_look(
    world: World, reclaimer: Reclaimer, cluster: Cluster
) -> None:
    world.bind(NET, "web", node="node-a")
    reclaimer.look(1000.0)
    assert cluster.asked == ["nodes"]


# The decisions alone

LEASE = st.builds(
    lambda uid, node: replace(_ONE, pod_uid=uid, node=node),
    st.sampled_from(("", "u1", "u2")),
    st.sampled_from(("n1", "n2")),
)
PODS = st.frozensets(
    st.tuples(st.just("blue"), st.sampled_from(("web", "db")), st.sampled_from(("", "u1", "u2")))
)


def _one() -> Lease:
    return Lease(
        id=1,
        network="TenantNetwork/blue/a",
        domain="d",
        family=4,
        address=IPv4Interface("10.0.0.1/24"),
        interface="net1",
        namespace="blue",
        pod="web",
        pod_uid="u1",
        container_id="c",
        node="n1",
        mac=None,
        mode=AddressMode.DYNAMIC,
        from_=1,
    )


_ONE = _one()


@given(LEASE, st.frozensets(st.sampled_from(("n1", "n2"))), PODS)
def test_no_lease_is_alone_whose_node_or_pod_is_listed(
    item: Lease, nodes: frozenset[str], pods: frozenset[PodName]
) -> None:
    if is_alone(item, nodes, pods):
        assert item.node not in nodes
        assert (item.namespace, item.pod, item.pod_uid) not in pods
        if not item.pod_uid:
            assert not any(name == item.pod for _, name, _ in pods)


def test_a_pod_is_another_one_only_when_both_uids_are_known_and_differ() -> None:
    assert is_it(_ONE, "u1")
    assert is_it(_ONE, "")
    assert is_it(replace(_ONE, pod_uid=""), "u9")
    assert not is_it(_ONE, "u2")
    assert not is_it(_ONE, None)


def test_after_a_long_time_without_a_look_the_grace_begins_anew() -> None:
    known = Suspicions(GRACE)
    assert known.note([_ONE], 1000.0) == ()
    assert known.note([_ONE], 1000.0 + 2 * GRACE) == ()
    for at in range(60, GRACE, 60):
        assert known.note([_ONE], 1000.0 + 2 * GRACE + at) == ()
    assert known.note([_ONE], 1000.0 + 3 * GRACE) == (_ONE,)


def test_without_any_grace_it_is_looked_at_twice_all_the_same() -> None:
    known = Suspicions(0)
    assert known.note([_ONE], 1000.0) == ()
    assert known.note([_ONE], 1001.0) == (_ONE,)

"""Leases of other tools in the database, on both engines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from danmpy.ipam import adopting
from danmpy.ipam.adopting import Adopter
from danmpy.ipam.adoptions import Adoption
from danmpy.ipam.audit import EventFilter
from danmpy.ipam.leases import LeaseOwner, LeaseRequest
from danmpy.ipam.reserving import Cause, OperatorStore
from support.leasing import COOLDOWN, World, owner
from support.processes import REPOSITORY, clean_environment
from support.specs import DYNAMIC, network, static, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/24", v6="fd00::/64", vni=7)
TWIN = network(tenant_key("b"), v4="10.0.0.0/24", vni=8)


def adoption(address: str, pod: str = "web-0", spec: Any = NET, **more: Any) -> Adoption:
    words = {"interface": "net1", "source": "DANM", "owner": owner(pod)}
    return Adoption(network=spec, address=ip_address(address), **(words | more))


def adopt(world: World, *adoptions: Adoption) -> list[str]:
    outcomes = Adopter(world.engine, world.clock).adopt(adoptions, "ann@here")
    return [str(each.verdict) for each in outcomes]


def preview(world: World, *adoptions: Adoption) -> list[str]:
    outcomes = Adopter(world.engine, world.clock).preview(adoptions)
    return [str(each.verdict) for each in outcomes]


def content(world: World) -> list[Any]:
    tables = ("lease", "freed", "event", "pool")
    return [sorted(map(str, world.rows(f"SELECT * FROM {table}"))) for table in tables]


@pytest.fixture(autouse=True)
def sound(world: World) -> Iterator[None]:
    """Every test ends with a database in which everything agrees."""
    yield
    assert world.audit.violations() == ()
    if not world.moved:
        world.ledger.seal()
        assert world.ledger.verify().findings == ()


def test_an_adopted_address_is_a_lease_like_any_other(world: World) -> None:
    assert adopt(world, adoption("10.0.0.5", mac="02:00:00:00:00:05")) == ["adopted"]
    (lease,) = world.held_on("node-a")
    assert str(lease.address) == "10.0.0.5/24"
    assert (lease.namespace, lease.pod, lease.pod_uid) == ("blue", "web-0", "uid-web-0")
    assert (lease.container_id, lease.interface, lease.mac) == (
        "container-web-0",
        "net1",
        "02:00:00:00:00:05",
    )
    assert (lease.mode, lease.note, lease.is_imported) == ("dynamic", "imported from DANM", True)
    assert world.leases.held_by("container-web-0") == (lease,)


def test_the_ledger_says_who_imported_it_from_what_and_since_when(world: World) -> None:
    adopt(world, adoption("10.0.0.5", since=1234))
    (event,) = world.audit.events(EventFilter())
    assert event.kind == "IMPORT"
    detail = json.loads(event.detail) if isinstance(event.detail, str) else event.detail
    assert (detail["actor"], detail["source"], detail["since"]) == ("ann@here", "DANM", 1234)


def test_done_again_it_does_nothing(world: World) -> None:
    both = (adoption("10.0.0.5"), adoption("fd00::5"), adoption("10.0.0.6", "web-1"))
    assert adopt(world, *both) == ["adopted"] * 3
    before = content(world)
    assert adopt(world, *both) == preview(world, *both) == ["held"] * 3
    assert content(world) == before


def test_a_preview_changes_nothing_and_says_what_will_be(world: World) -> None:
    world.bind(NET, "other", static("10.0.0.9"))
    asked = (
        adoption("10.0.0.5"),
        adoption("10.0.0.5", "web-1"),
        adoption("10.0.0.6"),
        adoption("10.0.0.9"),
    )
    before = content(world)
    told = preview(world, *asked)
    assert content(world) == before
    assert adopt(world, *asked) == told == ["adopted", "conflict", "adopted", "conflict"]
    assert {lease.interface for lease in world.leases.held_by("container-web-0")} == {
        "net1",
        "net1:10.0.0.6",
    }


def test_nobody_else_gets_an_adopted_address_and_its_pod_keeps_it(world: World) -> None:
    adopt(world, *(adoption(f"10.0.0.{last}", f"p{last}") for last in range(1, 9)))
    assert world.bind(NET, "new").address.ip == IPv4Address("10.0.0.9")
    # The pod's next sandbox is danmpy's: it takes the address over, on the same interface.
    again = world.bind(NET, "p3", container_id="newer")
    assert again.address.ip == IPv4Address("10.0.0.3")
    assert (again.note, again.is_imported) == ("", False)
    # An old dump does not bring the old sandbox back.
    assert adopt(world, adoption("10.0.0.3", "p3")) == ["held"]


def test_the_runtimes_del_ends_an_adopted_lease_and_an_old_dump_does_not_bring_it_back(
    world: World,
) -> None:
    adopt(world, adoption("10.0.0.5"))
    (ended,) = world.leases.release("container-web-0")
    assert str(ended.address.ip) == "10.0.0.5"
    assert adopt(world, adoption("10.0.0.5")) == ["ended"]
    assert adopt(world, adoption("10.0.0.5", "next")) == ["conflict"]
    world.wait(COOLDOWN + 1)
    assert adopt(world, adoption("10.0.0.5", "next")) == ["adopted"]
    assert world.rows("SELECT count(*) FROM freed") == [(0,)]


def test_what_is_held_or_reserved_here_is_left_as_it_is(world: World) -> None:
    operators = OperatorStore(world.engine, world.clock, COOLDOWN)
    operators.reserve(NET, ip_address("10.0.0.7"), Cause(actor="a", reason="vip"))
    held = world.bind(NET, "mine", static("10.0.0.8"))
    before = content(world)
    assert adopt(world, adoption("10.0.0.7"), adoption("10.0.0.8")) == ["conflict"] * 2
    # Only the pool of the other family and cursors may have been made.
    assert content(world)[:3] == before[:3]
    assert adopt(world, adoption("10.0.0.8", spec=TWIN)) == ["adopted"]
    assert world.leases.held_by(held.container_id) == (held,)


def test_containers_of_unknown_pods_and_nodes_are_adopted(world: World) -> None:
    nameless = LeaseOwner(namespace="", pod="", pod_uid="", container_id="c1", node="")
    other = replace(nameless, container_id="c2")
    asked = (
        adoption("10.0.0.5", owner=nameless),
        adoption("10.0.0.6", owner=other),
        adoption("10.0.0.7", owner=other, interface=""),
    )
    assert adopt(world, *asked) == ["adopted"] * 3
    assert world.audit.violations() == ()


def test_a_pod_that_danmpy_gave_another_address_meanwhile_does_not_get_its_old_one(
    world: World,
) -> None:
    mine = world.bind(NET, "web-0", container_id="newer")
    outcomes = Adopter(world.engine, world.clock).adopt([adoption("10.0.0.77")], "ann@here")
    assert [each.verdict for each in outcomes] == ["conflict"]
    assert f"the pod has {mine.address.ip} on net1 by now" in outcomes[0].message


def test_with_the_clock_set_back_it_begins_after_the_last_lease_of_the_address(
    world: World,
) -> None:
    adopt(world, adoption("10.0.0.5"))
    world.leases.release("container-web-0")
    world.wait(-3600)
    assert adopt(world, adoption("10.0.0.5", owner=owner(container_id="next"))) == ["adopted"]
    (first, second) = world.rows("SELECT held_from, held_to FROM lease ORDER BY id")
    assert second[0] == first[1]


def test_a_retired_network_takes_nobody_in(world: World) -> None:
    world.sql(
        "INSERT INTO retired_network (uid, network, retired_at) VALUES (:uid, 'n', 1)", uid=NET.uid
    )
    assert adopt(world, adoption("10.0.0.5")) == ["conflict"]


def test_many_are_taken_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopting, "AT_ONCE", 7)
    asked = [adoption(f"10.0.0.{last}", f"p{last}") for last in range(1, 51)]
    # The same address again, in another part: the first one has it.
    asked.append(adoption("10.0.0.1", "late"))
    told = preview(world, *asked)
    assert adopt(world, *asked) == told == ["adopted"] * 50 + ["conflict"]
    holders = Adopter(world.engine, world.clock).holders(each.place for each in asked)
    assert {item.pod for item in holders.values()} == {f"p{last}" for last in range(1, 51)}


def test_what_is_adopted_under_a_claim_comes_back_with_the_next_pod_of_it(world: World) -> None:
    mine = owner("db-0", claim="db-0")
    asked = adoption("10.0.0.5", owner=mine)
    # The same place of the claim again: a second address can only be a lease without it.
    stale = adoption("10.0.0.6", owner=owner("db-0", claim="db-0", container_id="c", pod_uid="u"))
    assert adopt(world, asked, stale) == ["adopted"] * 2
    assert [item.claim for item in world.held_on("node-a")] == ["db-0", ""]
    world.leases.release("container-db-0")
    again = world.bind(NET, "db-0", claim="db-0", container_id="next", pod_uid="uid-next")
    assert str(again.address.ip) == "10.0.0.5"


def test_a_claim_that_a_pod_has_already_here_is_not_had_twice(world: World) -> None:
    world.bind(NET, "db-0", claim="db-0")
    stale = owner("db-0", claim="db-0", container_id="c", pod_uid="u")
    asked = (adoption("10.0.0.9", owner=stale), adoption("10.0.0.10", owner=stale))
    assert adopt(world, *asked) == ["adopted"] * 2
    assert [item.claim for item in world.held_on("node-a")] == ["db-0", "", ""]


# Two processes import the same addresses while pods are bound to the network.
IMPORTER = """
import sys
from ipaddress import ip_address
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine
from danmpy.ipam.adopting import Adopter
from danmpy.ipam.adoptions import Adoption
from support.leasing import owner
from support.specs import network, tenant_key

url, name, key = sys.argv[1:]
net = network(tenant_key(key), v4="10.0.0.0/24", v6="fd00::/64", vni=7)
adopter = Adopter(open_engine(url), wall_clock)
asked = [
    Adoption(network=net, address=ip_address(f"10.0.0.{last}"), owner=owner(f"p{last}"),
             interface="net1", source="DANM")
    for last in range(1, 201)
]
print("ready", flush=True)
sys.stdin.readline()
told = [str(each.verdict) for part in range(0, 200, 20)
        for each in adopter.adopt(asked[part:part + 20], name)]
print(" ".join(told), flush=True)
"""


@pytest.mark.parametrize("other", ["a", "b"], ids=["one-network", "two-on-one-segment"])
def test_two_imports_at_once_beside_binding_pods_take_each_address_once(
    world: World, database_url: str, other: str
) -> None:
    with ExitStack() as stack:
        children = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", IMPORTER, database_url, name, key],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=clean_environment({"PYTHONPATH": str(REPOSITORY / "tests")}),
                )
            )
            for name, key in (("one", "a"), ("two", other))
        ]
        for child in children:
            stack.callback(child.kill)
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        bound = [world.bind(NET, f"new-{number}") for number in range(30)]
        answers = [child.communicate(timeout=60)[0].split() for child in children]
    taken = {str(lease.address.ip) for lease in bound}
    for place, verdicts in enumerate(zip(*answers, strict=True), start=1):
        both = sorted(verdicts)
        if f"10.0.0.{place}" in taken:
            assert set(both) <= {"conflict", "adopted", "held"}
        else:
            assert both == ["adopted", "held"]
    assert {len(each) for each in answers} == {200}
    held = world.held_on("node-a")
    assert len({str(lease.address) for lease in held}) == len(held)
    for lease in bound:
        request = LeaseRequest(interface="net1", network=NET, ip=DYNAMIC)
        assert world.leases.bind(owner(lease.pod), [request]) == (lease,)

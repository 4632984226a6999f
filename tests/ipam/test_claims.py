"""The next pod of a claim gets what the one before it had."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from danmpy.errors import ConflictError, ExhaustedError, NotReadyError
from danmpy.ipam.invariants import violations
from danmpy.ipam.leases import EndReason, LeaseRequest
from support.crowds import answers_of_many
from support.leasing import COOLDOWN, World, owner
from support.specs import DYNAMIC, network, pool, static, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/29", v6="fd00::/64", vni=700)
DAY = 86_400


@pytest.fixture(autouse=True)
def sound(world: World):
    yield
    assert violations(world.engine) == ()
    assert world.moved or world.ledger.verify().ok


def life(number: int, pod: str = "db-0", claim: str = "db-0") -> dict[str, str]:
    """What tells the `number`-th pod of a name from the others."""
    return {
        "pod": pod,
        "pod_uid": f"uid-{pod}-{number}",
        "container_id": f"box-{pod}-{number}",
        "claim": claim,
    }


def bind(world: World, spec=NET, ip=DYNAMIC, **who: str):
    return world.bind(spec, who.pop("pod"), ip, **who)


def end(world: World, number: int, pod: str = "db-0", **more: object) -> None:
    (gone,) = world.leases.release(f"box-{pod}-{number}", **more)
    assert gone.to is not None


def fill(world: World, spec=NET) -> int:
    """Let other pods take all that there is; how many got one."""
    for number in range(100):
        try:
            world.bind(spec, f"filler-{number}")
        except ExhaustedError:
            return number
    raise AssertionError("never full")


def test_the_next_pod_of_a_claim_has_the_address_at_once(world: World) -> None:
    first = bind(world, **life(1))
    world.bind(NET, "other")
    end(world, 1)

    second = bind(world, **life(2))

    assert (second.address, second.claim) == (first.address, "db-0")
    assert second.from_ >= first.from_
    assert second.pod_uid != first.pod_uid


def test_without_a_claim_the_next_pod_of_a_name_has_another_address(world: World) -> None:
    first = bind(world, **life(1, claim=""))
    end(world, 1)

    assert bind(world, **life(2, claim="")).address != first.address


def test_every_place_of_a_claim_keeps_its_own_address(world: World) -> None:
    other = network(tenant_key("b"), v4="10.1.0.0/29", vni=701)
    asked = [
        LeaseRequest(interface="net1", network=NET, ip=DYNAMIC, ip6=DYNAMIC),
        LeaseRequest(interface="net2", network=NET, ip=DYNAMIC),
        LeaseRequest(interface="net3", network=other, ip=DYNAMIC),
    ]
    first = world.leases.bind(owner(**life(1)), asked)
    world.leases.release("box-db-0-1")

    second = world.leases.bind(owner(**life(2)), list(reversed(asked)))

    assert {(each.network, each.interface, each.address) for each in second} == {
        (each.network, each.interface, each.address) for each in first
    }


def test_others_get_a_kept_address_only_after_the_claims_rest(world: World) -> None:
    kept = bind(world, **life(1))
    end(world, 1)
    world.wait(COOLDOWN + 1)
    assert fill(world) == 5

    with pytest.raises(NotReadyError, match="kept for its claim db-0"):
        world.bind(NET, "stranger", static(str(kept.address.ip)))
    world.wait(DAY)

    assert world.bind(NET, "last").address == kept.address
    with pytest.raises(ExhaustedError):
        bind(world, **life(2))


def test_after_the_rest_the_claim_still_has_it_while_nobody_else_does(world: World) -> None:
    first = bind(world, **life(1))
    end(world, 1)
    world.wait(DAY + 1)

    assert bind(world, **life(2)).address == first.address


def test_a_claim_that_lost_its_address_gets_another_one_and_keeps_that(world: World) -> None:
    first = bind(world, **life(1))
    end(world, 1)
    world.wait(DAY + 1)
    world.bind(NET, "thief", static(str(first.address.ip)))

    second = bind(world, **life(2))
    end(world, 2)

    assert second.address != first.address
    assert bind(world, **life(3)).address == second.address


def test_an_address_that_left_the_pool_is_not_given_back(world: World) -> None:
    first = bind(world, **life(1))
    end(world, 1)
    value = int(first.address.ip)
    shrunk = replace(NET, v4=replace(pool("10.0.0.0/29"), excluded=((value, value),)))

    assert bind(world, shrunk, **life(2)).address != first.address


def test_the_next_pod_waits_while_the_sandbox_of_the_last_one_is_there(world: World) -> None:
    first = bind(world, **life(1))

    with pytest.raises(NotReadyError, match=r"Pod/blue/db-0 \(UID uid-db-0-1, sandbox box-db-0-1"):
        bind(world, **life(2))
    end(world, 1)

    assert bind(world, **life(2)).address == first.address


def test_a_new_sandbox_of_the_same_pod_takes_over_and_keeps_the_claim(world: World) -> None:
    first = bind(world, **life(1))
    again = bind(world, **(life(1) | {"container_id": "box-anew"}))
    assert (again.address, again.claim) == (first.address, "db-0")
    world.leases.release("box-anew")

    assert bind(world, **life(2)).address == first.address


def test_two_living_pods_cannot_have_one_claim(world: World) -> None:
    bind(world, **life(1, pod="vm-a", claim="vm"))

    with pytest.raises(ConflictError, match="claim vm still has") as refused:
        bind(world, **life(1, pod="vm-b", claim="vm"))

    assert "a claim serves one pod at a time" in refused.value.hint
    assert "danmpy release 10.0.0.1 --network TenantNetwork/blue/a" in refused.value.hint


def test_claims_of_two_namespaces_have_nothing_in_common(world: World) -> None:
    ours = bind(world, **life(1))
    theirs = bind(world, **(life(9) | {"namespace": "red"}))
    end(world, 1)
    end(world, 9)

    assert bind(world, **(life(10) | {"namespace": "red"})).address == theirs.address
    assert bind(world, **life(2)).address == ours.address


def test_a_static_address_is_not_kept_for_a_claim(world: World) -> None:
    held = bind(world, ip=static("10.0.0.5"), **life(1))
    end(world, 1)
    world.wait(COOLDOWN + 1)

    assert held.claim == ""
    assert str(world.bind(NET, "other", static("10.0.0.5")).address.ip) == "10.0.0.5"


def test_a_try_that_was_undone_gives_the_address_back_to_the_claim(world: World) -> None:
    first = bind(world, **life(1))
    end(world, 1, reason=EndReason.ROLLBACK)

    assert bind(world, **(life(1) | {"container_id": "box-retry"})).address == first.address


def test_a_late_release_of_the_last_pod_frees_nothing_of_the_next(world: World) -> None:
    bind(world, **life(1))
    end(world, 1)
    second = bind(world, **life(2))

    assert world.leases.release("box-db-0-1") == ()
    assert world.leases.held_by("box-db-0-2") == (second,)


_RACE = """
net = network(tenant_key("a"), v4="10.0.0.0/29", v6="fd00::/64", vni=700)

def work(number):
    store = LeaseStore(open_engine(url), wall_clock, 120)
    request = LeaseRequest(interface="net1", network=net, ip=DYNAMIC)
    try:
        (lease,) = store.bind(owner(f"vm-{number}", claim="vm"), [request])
    except DanmpyError as error:
        return type(error).__name__
    return str(lease.address.ip)
"""


def test_of_many_processes_with_one_claim_one_gets_the_kept_address(
    world: World, database_url: str
) -> None:
    kept = bind(world, **life(1, pod="vm", claim="vm"))
    world.leases.release("box-vm-1")

    told = answers_of_many(database_url, _RACE, processes=6, turns=12)

    assert sorted(told) == [str(kept.address.ip), *["ConflictError"] * 11]


def test_the_unique_index_keeps_a_claim_from_two_pods_whatever_was_seen(world: World) -> None:
    bind(world, **life(1))
    bind(world, **life(1, pod="db-1", claim="db-1"))

    with pytest.raises(Exception, match=r"(?i)unique"):
        world.sql("UPDATE lease SET claim = 'db-0' WHERE held_to IS NULL")


def test_the_address_number_of_a_claim_is_what_the_ledger_says(world: World) -> None:
    held = bind(world, **life(1))
    assert int(held.address.ip) == int(ip_address("10.0.0.1"))
    (event,) = world.rows("SELECT detail FROM event")
    assert '"claim":"db-0"' in str(event[0])

    world.sql("UPDATE lease SET claim = 'mine'")

    assert "claim is 'mine'" in str(world.ledger.verify())
    world.sql("UPDATE lease SET claim = 'db-0'")


def test_the_next_pod_of_a_claim_may_ask_for_its_address_by_name(world: World) -> None:
    first = bind(world, **life(1))
    end(world, 1)
    asked = static(str(first.address.ip))
    with pytest.raises(NotReadyError, match="kept for its claim db-0"):
        bind(world, ip=asked, **life(1, "web-0", ""))

    second = bind(world, ip=asked, **life(1, "db-1"))

    assert (second.address, second.claim) == (first.address, "db-0")
    end(world, 1, "db-1")
    assert bind(world, **life(3)).address == first.address

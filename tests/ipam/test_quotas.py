"""The pods of a namespace hold no more addresses than its quota, whoever asks at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.specs import IPAM_CLAIM
from danmpy.db.engine import read
from danmpy.errors import ExhaustedError, cni_code_of
from danmpy.ipam.invariants import violations
from danmpy.ipam.leases import LeaseOwner, LeaseRequest
from danmpy.ipam.quotas import count_alone, require_room
from support.crowds import answers_of_many
from support.leasing import World, owner
from support.specs import DYNAMIC, network, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/24", v6="fd00::/64", vni=700)
SOME = st.integers(0, 9)
OTHER = network(tenant_key("b"), v4="10.1.0.0/24", vni=701)


def under(quota: int | None, pod: str = "web-0", **more: str) -> LeaseOwner:
    return LeaseOwner(
        **{
            "namespace": "blue",
            "pod": pod,
            "pod_uid": f"uid-{pod}",
            "container_id": f"box-{pod}",
            "node": "node-a",
        }
        | more,
        quota=quota,
    )


def ask(interface: str = "net1", spec=NET, **more: object) -> LeaseRequest:
    return LeaseRequest(**{"interface": interface, "network": spec, "ip": DYNAMIC} | more)


def open_in(world: World, namespace: str = "blue") -> int:
    ((count,),) = world.rows(
        "SELECT count(*) FROM lease WHERE held_to IS NULL AND namespace = :name", name=namespace
    )
    return int(str(count))


def test_the_refusal_names_the_tenant_what_it_has_and_the_way_out(world: World) -> None:
    world.leases.bind(under(2, "web-0"), [ask()])

    with pytest.raises(ExhaustedError) as refused:
        world.leases.bind(under(2, "web-1"), [ask(ip6=DYNAMIC)])

    assert refused.value.subject == "Namespace/blue"
    assert refused.value.message == (
        "the pods of namespace blue may hold 2 addresses (quotas.addresses), "
        "hold 1 and would hold 3"
    )
    assert "raise quotas.addresses" in refused.value.hint
    assert cni_code_of(refused.value) == 11
    assert open_in(world) == 1


def test_the_quota_counts_over_networks_and_families(world: World) -> None:
    world.leases.bind(under(3), [ask(ip6=DYNAMIC), ask("net2", OTHER)])

    with pytest.raises(ExhaustedError):
        world.leases.bind(under(3, "web-1"), [ask()])


def test_other_namespaces_and_those_without_quota_do_not_count(world: World) -> None:
    world.leases.bind(under(1, namespace="red", pod="r"), [ask()])
    world.leases.bind(under(1), [ask()])
    world.leases.bind(under(None, "web-1"), [ask()])

    with pytest.raises(ExhaustedError):
        world.leases.bind(under(2, "web-2"), [ask()])


def test_what_is_released_makes_room_at_once(world: World) -> None:
    world.leases.bind(under(1), [ask()])
    world.leases.release("box-web-0")

    assert len(world.leases.bind(under(1, "web-1"), [ask()])) == 1


def test_what_ipam_claims_keep_counts_and_comes_back_to_their_pods(world: World) -> None:
    for number in (0, 1):
        world.leases.bind(under(2, f"vm-{number}"), [ask(claim=f"{IPAM_CLAIM}vm-{number}")])
        world.leases.release(f"box-vm-{number}")
    world.leases.bind(under(2, "red", namespace="red"), [ask()])

    with pytest.raises(ExhaustedError, match="hold 2 and would hold 3") as refused:
        world.leases.bind(under(2, "vm-2"), [ask(claim=f"{IPAM_CLAIM}vm-2")])
    assert "IPAMClaims that keep some" in refused.value.hint
    for number in (0, 1):
        claim = f"{IPAM_CLAIM}vm-{number}"
        (again,) = world.leases.bind(under(2, f"next-{number}"), [ask(claim=claim)])
        assert again.claim == claim
    assert open_in(world) == 2


def test_what_other_claims_keep_does_not_count(world: World) -> None:
    world.leases.bind(under(1, "db-0"), [ask(claim="db-0")])
    world.leases.release("box-db-0")

    assert len(world.leases.bind(under(1, "web-1"), [ask()])) == 1


def test_a_repeated_add_and_a_new_sandbox_do_not_count_twice(world: World) -> None:
    first = world.leases.bind(under(1), [ask()])

    assert world.leases.bind(under(1), [ask()]) == first
    (again,) = world.leases.bind(under(1, container_id="box-anew"), [ask()])

    assert again.address == first[0].address
    assert open_in(world) == 1


def test_a_quota_below_what_is_held_stops_only_more(world: World) -> None:
    world.leases.bind(under(None), [ask()])
    world.leases.bind(under(None, "web-1"), [ask()])

    (again,) = world.leases.bind(under(1, container_id="box-anew"), [ask()])
    assert again.pod == "web-0"
    with pytest.raises(ExhaustedError):
        world.leases.bind(under(1, "web-2"), [ask()])


def test_a_refused_pod_leaves_the_older_sandbox_what_it_has(world: World) -> None:
    first = world.leases.bind(under(1), [ask()])

    with pytest.raises(ExhaustedError):
        world.leases.bind(under(1, container_id="box-anew"), [ask(), ask("net2")])

    assert world.leases.held_by("box-web-0") == first


_FILL = """
nets = [
    network(tenant_key("a"), v4="10.0.0.0/24", v6="fd00::/64", vni=700),
    network(tenant_key("b"), v4="10.1.0.0/24", vni=701),
]

def work(worker):
    store = LeaseStore(open_engine(url), wall_clock, 120)
    bound = 0
    for number in range(12):
        pod = f"p{worker}-{number}"
        asks = LeaseOwner(
            namespace="blue", pod=pod, pod_uid=pod, container_id=pod, node="n", quota=25
        )
        request = LeaseRequest(interface="n", network=nets[number % 2], ip=DYNAMIC)
        try:
            bound += len(store.bind(asks, [request]))
        except ExhaustedError:
            continue
    return bound
"""


def test_many_processes_on_two_networks_never_go_over_it(world: World, database_url: str) -> None:
    bound = answers_of_many(database_url, _FILL, processes=6, turns=6)

    assert sum(bound) == open_in(world) == 25
    assert violations(world.engine) == ()
    assert world.ledger.verify().ok


def test_no_more_is_counted_than_the_quota_needs(world: World) -> None:
    for number in range(6):
        world.leases.bind(under(None, f"web-{number}"), [ask()])
    with read(world.engine) as connection:
        assert [count_alone(connection, "blue", quota) for quota in (9, 6, 5, 3, 0)] == [
            *(6, 6, 6, 4, 1)
        ]
    with pytest.raises(ExhaustedError, match=r"may hold 3 addresses .* hold more already"):
        world.leases.bind(under(3, "late"), [ask()])


@given(
    quota=st.integers(0, 9),
    held=st.integers(0, 9),
    ended=st.integers(0, 9),
    asked=st.integers(0, 9),
)
def test_only_what_grows_beyond_the_quota_is_refused(quota, held, ended, asked) -> None:
    ended = min(ended, held)
    after = held - ended + asked
    try:
        require_room("blue", quota, held=held, ended=ended, asked=asked)
    except ExhaustedError:
        assert after > quota
        assert after > held
    else:
        assert after <= quota or after <= held


def test_owner_without_quota_is_the_default() -> None:
    assert owner().quota is None

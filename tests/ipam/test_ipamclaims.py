"""Addresses of IPAMClaims: nobody else's while the object is there, free when it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from danmpy.api.specs import IPAM_CLAIM, IpamClaimSpec
from danmpy.errors import ClusterError, ExhaustedError, NotReadyError
from danmpy.intent.parse import parse_documents
from danmpy.intent.values import Intent, Problem
from danmpy.ipam.invariants import violations
from danmpy.ipam.ipamclaims import (
    GRACE_S,
    UNSEEN_S,
    ClaimName,
    ClaimObject,
    DeclaredClaims,
    IpamClaimKeeper,
    IpamClaimStore,
)
from danmpy.ipam.leases import Lease, LeaseRequest
from support.leasing import COOLDOWN, World, owner
from support.manifests import documents
from support.specs import DYNAMIC, network, static, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/29", v6="fd00::/64", vni=700)
YEARS = 10 * 365 * 86_400
VM = ("blue", "vm-0")


@pytest.fixture(autouse=True)
def sound(world: World) -> Iterator[None]:
    yield
    assert violations(world.engine) == ()
    assert world.moved or world.ledger.verify().ok


@dataclass
class Objects:
    """What an API server would say."""

    there: dict[ClaimName, ClaimObject] = field(default_factory=dict)
    told: list[tuple[ClaimName, tuple[str, ...]]] = field(default_factory=list)
    away: bool = False
    known: bool = True
    late: set[ClaimName] = field(default_factory=set)

    def listed(self):
        if self.away:
            raise ClusterError("away", hint="wait", subject="server")
        return list(self.there.values()) if self.known else None

    def is_there(self, name: ClaimName) -> bool:
        return name in self.there or name in self.late

    def tell(self, claim: ClaimObject, ips: tuple[str, ...]) -> bool:
        self.told.append((claim.name, ips))
        self.there[claim.name] = replace(claim, ips=ips)
        return True


@pytest.fixture
def objects() -> Objects:
    return Objects(there={VM: ClaimObject(name=VM)})


@pytest.fixture
def keeper(world: World, objects: Objects) -> IpamClaimKeeper:
    store = IpamClaimStore(world.engine, world.clock, COOLDOWN)
    return IpamClaimKeeper(store, objects, lambda: True)


def bind(
    world: World, pod: str, claim: str = "vm-0", ask=DYNAMIC, interface: str = "net1"
) -> tuple[Lease, ...]:
    request = LeaseRequest(
        interface=interface,
        network=NET,
        ip=ask,
        ip6=DYNAMIC,
        claim=claim and f"{IPAM_CLAIM}{claim}",
    )
    return world.leases.bind(owner(pod), [request])


def fill(world: World) -> list[str]:
    """Let other pods take all that there is."""
    got = []
    for number in range(10):
        try:
            got.append(str(bind(world, f"filler-{number}", "")[0].address.ip))
        except ExhaustedError:
            return got
    raise AssertionError("never full")


def looks(keeper: IpamClaimKeeper, *moments: float) -> list[int]:
    return [keeper.look(moment) for moment in moments]


def test_another_pod_of_the_claim_has_its_addresses_after_any_time(world: World) -> None:
    first = bind(world, "launcher-1")
    world.leases.release("container-launcher-1")
    world.wait(YEARS)
    assert str(first[0].address.ip) not in fill(world)

    second = bind(world, "launcher-2")

    assert [each.address for each in second] == [each.address for each in first]
    assert {each.claim for each in second} == {"IPAMClaim/vm-0"}


def test_a_pool_that_is_full_of_what_claims_keep_does_not_promise_an_address(world: World) -> None:
    for number in range(6):
        bind(world, f"launcher-{number}", f"vm-{number}")
        world.leases.release(f"container-launcher-{number}")
    with pytest.raises(ExhaustedError, match="6 cooling down") as caught:
        bind(world, "other", "")
    assert "ready in" not in caught.value.hint


def test_the_claim_of_an_interface_comes_before_that_of_the_pod(world: World) -> None:
    requests = [
        LeaseRequest(interface="net1", network=NET, ip=DYNAMIC, claim=f"{IPAM_CLAIM}vm-0"),
        LeaseRequest(interface="net2", network=NET, ip=DYNAMIC),
    ]
    made = world.leases.bind(owner("db-0", claim="db-0"), requests)
    assert [each.claim for each in made] == ["IPAMClaim/vm-0", "db-0"]


def test_nobody_gets_a_kept_address_by_asking_for_it(world: World) -> None:
    (first, _) = bind(world, "launcher-1")
    world.leases.release("container-launcher-1")
    world.wait(YEARS)
    for pod in ("other", "launcher-1"):
        with pytest.raises(NotReadyError, match="as long as the claim exists"):
            bind(world, pod, "", static(str(first.address.ip)))


def test_two_pods_of_one_claim_wait_for_each_other(world: World) -> None:
    bind(world, "launcher-1")
    with pytest.raises(NotReadyError, match="claim IPAMClaim/vm-0 still has"):
        bind(world, "launcher-2")
    world.leases.release("container-launcher-1")
    bind(world, "launcher-2")


def test_an_older_sandbox_hands_its_address_to_the_same_claim_only(world: World) -> None:
    (first, _) = bind(world, "launcher", "")
    request = LeaseRequest(interface="net1", network=NET, ip=DYNAMIC, claim=f"{IPAM_CLAIM}vm-0")
    (second,) = world.leases.bind(owner("launcher", container_id="second"), [request])
    assert second.address != first.address
    (third,) = world.leases.bind(owner("launcher", container_id="third"), [request])
    assert third.address == second.address


def test_the_status_tells_what_is_held_and_what_is_kept(
    world: World, keeper: IpamClaimKeeper, objects: Objects
) -> None:
    bind(world, "launcher-1")
    looks(keeper, 1, 2)
    ips = ("10.0.0.1/29", "fd00::1/64")
    assert objects.told == [(VM, ips)]
    world.leases.release("container-launcher-1")
    looks(keeper, 3)
    assert objects.there[VM].ips == ips
    assert len(objects.told) == 1


def test_claims_without_an_address_of_ours_are_left_alone(
    world: World, keeper: IpamClaimKeeper, objects: Objects
) -> None:
    objects.there[VM] = ClaimObject(name=VM, ips=("192.0.2.1/24",))
    assert looks(keeper, 1, 2) == [0, 0]
    assert objects.told == []


def test_when_the_object_is_gone_its_addresses_are_free_after_two_looks(
    world: World, keeper: IpamClaimKeeper, objects: Objects
) -> None:
    (first, _) = bind(world, "launcher-1")
    world.leases.release("container-launcher-1")
    objects.there.clear()

    assert looks(keeper, 1, 1 + GRACE_S / 2) == [0, 0]
    assert looks(keeper, 1 + GRACE_S) == [2]

    told = world.rows("SELECT address, reason FROM event WHERE kind = 'UNCLAIM' ORDER BY seq")
    assert told == [("10.0.0.1", "unclaimed"), ("fd00::1", "unclaimed")]
    with pytest.raises(NotReadyError, match="cooling down"):
        bind(world, "other", "", static(str(first.address.ip)))
    world.wait(COOLDOWN + 1)
    assert bind(world, "other", "", static(str(first.address.ip)))[0].address == first.address


def test_an_address_that_a_pod_still_has_stays_until_the_pod_is_gone(
    world: World, keeper: IpamClaimKeeper, objects: Objects
) -> None:
    bind(world, "launcher-1")
    objects.there.clear()
    assert looks(keeper, 1, 1 + GRACE_S, 2 + GRACE_S) == [0, 0, 0]
    world.leases.release("container-launcher-1")
    assert looks(keeper, 3 + GRACE_S) == [2]


def test_a_claim_that_comes_back_or_is_there_after_all_keeps_everything(
    world: World, keeper: IpamClaimKeeper, objects: Objects
) -> None:
    bind(world, "launcher-1")
    world.leases.release("container-launcher-1")
    kept = objects.there.pop(VM)
    looks(keeper, 1)
    objects.there[VM] = kept
    looks(keeper, 5)
    objects.there.clear()
    assert looks(keeper, 2 + GRACE_S) == [0]  # missing anew: the grace begins again
    objects.late.add(VM)
    assert looks(keeper, 3 + 2 * GRACE_S, 4 + 2 * GRACE_S) == [0, 0]


def test_nothing_is_given_free_while_the_claims_cannot_be_listed(
    world: World, keeper: IpamClaimKeeper, objects: Objects
) -> None:
    bind(world, "launcher-1")
    world.leases.release("container-launcher-1")
    objects.there.clear()
    looks(keeper, 1)
    objects.away = True
    with pytest.raises(ClusterError):
        keeper.look(1 + GRACE_S)
    objects.away, objects.known = False, False
    assert looks(keeper, 2 + GRACE_S) == [0]
    objects.known = True
    # Nothing was known in between, so the grace begins again, as it does after a long sleep.
    assert looks(keeper, 3 + GRACE_S) == [0]
    assert looks(keeper, 4 + GRACE_S + UNSEEN_S) == [0]
    assert looks(keeper, 5 + 2 * GRACE_S + UNSEEN_S) == [2]


def test_who_does_not_lead_does_nothing(world: World, objects: Objects) -> None:
    bind(world, "launcher-1")
    world.leases.release("container-launcher-1")
    objects.there.clear()
    leads = [True]
    keeper = IpamClaimKeeper(
        IpamClaimStore(world.engine, world.clock, COOLDOWN), objects, lambda: leads[0]
    )
    looks(keeper, 1)
    leads[0] = False
    assert looks(keeper, 1 + GRACE_S) == [0]
    leads[0] = True
    assert looks(keeper, 2 + GRACE_S) == [0]


def test_claims_are_documents_of_a_folder() -> None:
    whole = {
        "apiVersion": "k8s.cni.cncf.io/v1alpha1",
        "kind": "IPAMClaim",
        "metadata": {"name": "vm-0", "namespace": "blue"},
        "spec": {"network": "a", "interface": "net1"},
    }
    broken = {**whole, "metadata": {"name": "vm-1"}, "spec": {}}
    wishes = parse_documents(documents(whole, broken))
    assert wishes.ipam_claims == {
        VM: IpamClaimSpec(namespace="blue", name="vm-0", network="a", interface="net1")
    }
    assert {each.subject for each in wishes.problems} == {"IPAMClaim/default/vm-1"}
    assert wishes.complete


def test_the_claims_of_a_folder_are_those_in_it_also_when_they_are_refused() -> None:
    spec = IpamClaimSpec(namespace="blue", name="vm-0", network="a", interface="net1")
    problem = Problem(where="f:1", subject="IPAMClaim/blue/vm-1", code="X", message="m", hint="h")
    wishes = Intent(ipam_claims={VM: spec}, problems=(problem,))
    claims = DeclaredClaims(lambda: wishes)
    assert {each.name for each in claims.listed()} == {VM, ("blue", "vm-1")}
    assert claims.is_there(VM)
    assert not claims.is_there(("blue", "vm-2"))
    assert claims.tell(ClaimObject(name=VM), ("10.0.0.1/24",))
    with pytest.raises(NotReadyError):
        DeclaredClaims(lambda: replace(wishes, complete=False)).listed()

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.rules import judge_network
from danmpy.api.specs import AddressMode, NetworkSpec
from danmpy.controller.admission_leases import judge_leases, judge_tenants, narrows
from danmpy.ipam.values import Lease
from support.manifests import network_manifest
from support.specs import cluster_key

KEY = cluster_key("net")


def spec(**words: Any) -> NetworkSpec:
    verdict = judge_network(KEY, "uid", network_manifest(**words))
    assert verdict.network is not None, verdict.findings
    return verdict.network


def lease(address: str, mode: AddressMode = AddressMode.DYNAMIC, pod: str = "web-0") -> Lease:
    interface = ip_interface(address)
    return Lease(
        id=1, network=str(KEY), domain=str(KEY), family=6 if interface.version == 6 else 4,
        address=interface, interface="eth0", namespace="blue", pod=pod, pod_uid="uid",
        container_id="c", node="a", mac=None, mode=mode, from_=0,
    )  # fmt: skip


def found(old: NetworkSpec | None, new: NetworkSpec, *leases: Lease) -> list[tuple[str, str]]:
    return [(each.code, each.path.rpartition(".")[2]) for each in judge_leases(old, new, leases)]


WHOLE = spec(cidr="10.0.0.0/24", net6="2001:db8::/64")


def test_a_static_address_may_lie_outside_of_the_pool() -> None:
    smaller = spec(cidr="10.0.0.0/24", allocation_pool={"start": "10.0.0.100"})
    assert found(WHOLE, smaller, lease("10.0.0.5/24", AddressMode.STATIC)) == []
    assert found(WHOLE, smaller, lease("10.0.0.5/24")) == [("PoolInUse", "allocation_pool")]
    excluded = spec(cidr="10.0.0.0/24", exclude=["10.0.0.5"])
    assert found(WHOLE, excluded, lease("10.0.0.5/24", AddressMode.STATIC)) == [
        ("ExcludeInUse", "exclude")
    ]


def test_ranges_may_be_added_and_not_taken_from_under_a_lease() -> None:
    one = spec(cidr="10.0.0.0/24", ranges=["10.0.0.10-10.0.0.19"])
    two = spec(cidr="10.0.0.0/24", ranges=["10.0.0.10-10.0.0.19", "10.0.0.30-10.0.0.39"])
    assert found(one, two, lease("10.0.0.15/24")) == []
    assert narrows(two, one)
    assert found(two, one, lease("10.0.0.35/24")) == [("PoolInUse", "allocation_pool")]
    holed = spec(cidr="10.0.0.0/24", ranges=["10.0.0.10-10.0.0.12", "10.0.0.30-10.0.0.39"])
    assert narrows(two, holed)
    assert found(two, holed, lease("10.0.0.15/24")) == [("PoolInUse", "ranges")]
    assert found(two, holed, lease("10.0.0.15/24", AddressMode.STATIC)) == []


def test_both_families_are_told_each_by_its_field() -> None:
    new = spec(cidr="10.0.1.0/24", net6="2001:db8:1::/64")
    leases = (lease("10.0.0.5/24"), lease("2001:db8::5/64"))
    assert found(WHOLE, new, *leases) == [("SubnetInUse", "cidr"), ("SubnetInUse", "net6")]


def test_a_subnet_that_takes_an_address_as_its_end_is_refused() -> None:
    new = spec(cidr="10.0.0.0/29")
    assert found(WHOLE, new, lease("10.0.0.7/24")) == [("GatewayInUse", "cidr")]


def test_what_was_as_bad_before_is_not_held_against_a_change() -> None:
    old = spec(cidr="10.0.0.0/24", exclude=["10.0.0.5"])
    new = spec(cidr="10.0.0.0/24", exclude=["10.0.0.5"], mtu=1400)
    assert found(old, new, lease("10.0.0.5/24")) == []
    assert found(None, new, lease("10.0.0.5/24")) == [("ExcludeInUse", "exclude")]
    worse = spec(cidr="10.0.1.0/24")
    assert found(old, worse, lease("10.0.0.5/24")) == [("SubnetInUse", "cidr")]


def test_many_leases_make_one_finding_that_names_one_and_counts() -> None:
    leases = [lease(f"10.0.0.{n}/24", pod=f"web-{n}") for n in range(5, 105)]
    (one,) = judge_leases(WHOLE, spec(cidr="10.0.1.0/24"), leases)
    assert "Pod/blue/web-5 holds 10.0.0.5 and 99 more" in one.message
    assert one.hint


def test_of_a_neighbour_only_what_is_kept_back_counts() -> None:
    theirs = [lease("10.0.0.5/24"), lease("10.9.9.9/24")]
    assert list(judge_leases(WHOLE, spec(cidr="10.0.0.128/25"), (), theirs)) == []
    (one,) = judge_leases(WHOLE, spec(cidr="10.0.0.0/24", gateway="10.0.0.5"), (), theirs)
    assert one.code == "GatewayInUse"


def test_nobody_is_shut_out_who_holds_nothing() -> None:
    both = replace(WHOLE, allowed_tenants=frozenset({"blue"}))
    assert list(judge_tenants(WHOLE, [lease("10.0.0.5/24")])) == []
    assert list(judge_tenants(both, [lease("10.0.0.5/24")])) == []
    other = replace(WHOLE, allowed_tenants=frozenset({"red"}))
    (one,) = judge_tenants(other, [lease("10.0.0.5/24")])
    assert one.message == "blue is left out, and Pod/blue/web-0 holds 10.0.0.5"


def test_tenants_narrow_when_one_is_left_out() -> None:
    some, fewer = frozenset({"blue", "red"}), frozenset({"blue"})
    assert narrows(WHOLE, replace(WHOLE, allowed_tenants=some))
    assert narrows(replace(WHOLE, allowed_tenants=some), replace(WHOLE, allowed_tenants=fewer))
    assert not narrows(replace(WHOLE, allowed_tenants=fewer), replace(WHOLE, allowed_tenants=some))
    assert not narrows(replace(WHOLE, allowed_tenants=some), WHOLE)
    assert narrows(None, WHOLE)


octets = st.integers(0, 255)


@st.composite
def networks(draw: st.DrawFn) -> NetworkSpec:
    """A network in 10.0.0.0/24 or in a half of it, or none of IPv4."""
    cidr = draw(st.sampled_from(["", "10.0.0.0/24", "10.0.0.0/25", "10.0.0.128/25"]))
    if not cidr:
        return spec()
    low = 128 if cidr.startswith("10.0.0.128") else 0
    high = 127 if cidr == "10.0.0.0/25" else 255
    inside = st.integers(low, high)
    words: dict[str, Any] = {"cidr": cidr}
    if draw(st.booleans()):
        first, last = sorted((draw(inside), draw(inside)))
        words["allocation_pool"] = {"start": f"10.0.0.{first}", "end": f"10.0.0.{last}"}
    words["exclude"] = [f"10.0.0.{number}" for number in draw(st.lists(inside, max_size=2))]
    if draw(st.booleans()):
        words["gateway"] = f"10.0.0.{draw(st.integers(low + 1, high - 1))}"
    return spec(**words)


@given(networks(), networks(), octets, st.sampled_from([AddressMode.DYNAMIC, AddressMode.STATIC]))
def test_a_lease_that_the_old_network_gave_fits_the_new_one_or_is_told(
    old: NetworkSpec, new: NetworkSpec, octet: int, mode: AddressMode
) -> None:
    held = lease(f"10.0.0.{octet}/24", mode)
    findings = found(old, new, held)
    if found(None, old, held) == [] and found(None, new, held):
        assert findings
        assert narrows(old, new), "nobody would have asked"
    if found(None, new, held) == []:
        assert findings == []
        assert new.v4 is not None
        assert ip_address(f"10.0.0.{octet}") in new.v4.subnet

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.addresses import bounds
from danmpy.api.drafts import build_network, default_bounds, draft_network
from danmpy.api.networks import NetworkBody
from danmpy.api.specs import (
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    PoolSpec,
    RouteSpec,
    SegmentKey,
    SegmentKind,
)
from danmpy.ipam.pools import layout

KEY = NetworkKey(kind=NetworkKind.CLUSTER, name="net")


def build(more: dict[str, Any] | None = None, **options: Any) -> NetworkSpec:
    body = NetworkBody.model_validate({"NetworkID": "net", "Options": options} | (more or {}))
    return build_network(KEY, "uid", draft_network(NetworkKind.CLUSTER, body))


def number(text: str) -> int:
    return int(ip_address(text))


def single(*texts: str) -> tuple[tuple[int, int], ...]:
    return tuple((number(text), number(text)) for text in texts)


def pool4(cidr: str, **options: Any) -> PoolSpec:
    pool = build(cidr=cidr, **options).v4
    assert pool is not None
    return pool


def pool6(net6: str, **options: Any) -> PoolSpec:
    pool = build(net6=net6, **options).v6
    assert pool is not None
    return pool


def test_everything_that_is_written_arrives() -> None:
    spec = build(
        {"NetworkType": "MACVLAN", "AllowedTenants": ["blue"]},
        host_device="ens4",
        vxlan=700,
        container_prefix="ext",
        rt_tables=10,
        cidr="10.0.0.0/24",
        routes={"10.9.0.0/16": "10.0.0.1"},
        net6="2001:db8::/64",
        routes6={"::/0": "2001:db8::1"},
        mtu=1400,
        gateway="10.0.0.1",
        gateway6="2001:db8::1",
        vxlan_remotes=["192.0.2.9"],
    )
    assert (spec.key, spec.uid, spec.network_id, spec.backend) == (KEY, "uid", "net", "macvlan")
    assert spec.segment == SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=700)
    assert (spec.host_device, spec.container_prefix, spec.rt_table) == ("ens4", "ext", 10)
    assert spec.routes == (
        RouteSpec(destination=ip_network("10.9.0.0/16"), gateway=ip_address("10.0.0.1")),
    )
    assert spec.routes6[0].destination == ip_network("::/0")
    assert (spec.mtu, spec.gateway, spec.gateway6) == (
        1400,
        ip_address("10.0.0.1"),
        ip_address("2001:db8::1"),
    )
    assert spec.vxlan_remotes == (ip_address("192.0.2.9"),)
    assert spec.allowed_tenants == frozenset({"blue"})


@pytest.mark.parametrize(
    ("written", "backend"),
    [
        ("", "ipvlan"),
        ("IPVLAN", "ipvlan"),
        ("SriOv", "sriov"),
        ("Bridge", "bridge"),
        ("Flannel", "Flannel"),
    ],
)
def test_built_in_types_are_lower_case_and_others_verbatim(written: str, backend: str) -> None:
    assert build({"NetworkType": written}).backend == backend


def test_no_allowed_tenants_means_all() -> None:
    assert build().allowed_tenants is None
    assert build({"AllowedTenants": []}).allowed_tenants is None


def test_a_vlan_makes_a_segment_and_a_device_alone_makes_none() -> None:
    segment = build(host_device="ens4", vlan=7).segment
    assert segment == SegmentKey(parent="ens4", kind=SegmentKind.VLAN, id=7)
    assert build(host_device="ens4").segment is None
    assert build(vlan=7).segment is None


def test_a_vlan_on_a_device_pool_is_one_of_the_pools() -> None:
    segment = build(device_pool="vendor/vf", vlan=7).segment
    assert segment == SegmentKey(parent="vendor/vf", kind=SegmentKind.VLAN, id=7)
    assert build(device_pool="vendor/vf").segment is None


def test_a_network_without_subnets_has_no_pools() -> None:
    assert (build().v4, build().v6) == (None, None)


def test_the_default_pool_is_all_but_the_ends() -> None:
    pool = pool4("10.0.0.0/24")
    assert (pool.first, pool.last) == (number("10.0.0.1"), number("10.0.0.254"))
    assert pool.reserved == single("10.0.0.0", "10.0.0.255")


def test_a_v6_pool_covers_the_whole_subnet() -> None:
    pool = pool6("2001:db8::/64")
    assert pool.last - pool.first == 2**64 - 3
    assert pool.reserved == single("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff")


@pytest.mark.parametrize("cidr", ["10.0.0.4/31", "10.0.0.4/32"])
def test_nothing_is_reserved_in_small_ipv4_subnets(cidr: str) -> None:
    pool = pool4(cidr)
    assert (pool.first, pool.last) == bounds(ip_network(cidr))
    assert pool.reserved == ()


@pytest.mark.parametrize("net6", ["2001:db8::4/127", "2001:db8::4/128"])
def test_nothing_is_reserved_in_small_ipv6_subnets(net6: str) -> None:
    pool = pool6(net6)
    assert (pool.first, pool.last) == bounds(ip_network(net6))
    assert pool.reserved == ()


def test_gateways_of_options_and_routes_are_reserved() -> None:
    pool = pool4(
        "10.0.0.0/24",
        gateway="10.0.0.1",
        routes={"10.9.0.0/16": "10.0.0.9", "10.8.0.0/16": "10.0.0.9"},
    )
    merged = ((number("10.0.0.0"), number("10.0.0.1")),)
    assert pool.reserved == merged + single("10.0.0.9", "10.0.0.255")


def test_start_and_end_bound_the_pool() -> None:
    pool = pool4("10.0.0.0/24", allocation_pool={"start": "10.0.0.9", "end": "10.0.0.9"})
    assert pool.first == pool.last == number("10.0.0.9")


def test_the_cidr_of_a_v6_pool_bounds_it() -> None:
    pool = pool6("2001:db8::/64", allocation_pool_v6={"cidr": "2001:db8::100/120"})
    assert (pool.first, pool.last) == (number("2001:db8::101"), number("2001:db8::1fe"))
    assert pool.subnet == ip_network("2001:db8::/64")


def test_exclusions_are_merged_and_kept_by_family() -> None:
    exclude = ["10.0.0.9", "10.0.0.8/31", "10.0.0.10-10.0.0.11", "2001:db8::7"]
    spec = build(cidr="10.0.0.0/24", net6="2001:db8::/64", exclude=exclude)
    assert spec.v4 is not None
    assert spec.v6 is not None
    assert spec.v4.excluded == ((number("10.0.0.8"), number("10.0.0.11")),)
    assert spec.v6.excluded == single("2001:db8::7")


def test_ranges_are_merged_into_a_pool_with_gaps() -> None:
    ranges = ["10.0.0.64/26", "10.0.0.10-10.0.0.19", "10.0.0.20", "2001:db8::1-2001:db8::9"]
    spec = build(cidr="10.0.0.0/24", net6="2001:db8::/64", ranges=ranges)
    assert spec.v4 is not None
    assert spec.v6 is not None
    assert (spec.v4.first, spec.v4.last) == (number("10.0.0.10"), number("10.0.0.127"))
    assert spec.v4.gaps == ((number("10.0.0.21"), number("10.0.0.63")),)
    assert (spec.v6.first, spec.v6.last) == (number("2001:db8::1"), number("2001:db8::9"))
    assert spec.v6.gaps == ()


@given(st.lists(st.tuples(st.integers(1, 254), st.integers(1, 254)).map(sorted), min_size=1))
def test_ranges_give_exactly_their_addresses(spans: list[list[int]]) -> None:
    pool = pool4("10.0.0.0/24", ranges=[f"10.0.0.{low}-10.0.0.{high}" for low, high in spans])
    given_out = {value for low, high in layout(pool).ranges for value in range(low, high + 1)}
    base = number("10.0.0.0")
    assert given_out == {base + n for low, high in spans for n in range(low, high + 1)}


@given(st.integers(0, 2**32 - 1), st.integers(8, 32))
def test_default_bounds_of_ipv4_are_inside_and_in_order(address: int, prefix: int) -> None:
    subnet = ip_network((address >> (32 - prefix) << (32 - prefix), prefix))
    first, last = default_bounds(subnet)
    assert int(subnet.network_address) <= first <= last <= int(subnet.broadcast_address)


def test_a_draft_of_nonsense_does_not_fail() -> None:
    body = NetworkBody.model_validate({"Options": {"cidr": "x", "net6": "y", "routes": {"a": "b"}}})
    draft = draft_network(NetworkKind.TENANT, body)
    assert (draft.v4.subnet, draft.v6.base) == (None, None)

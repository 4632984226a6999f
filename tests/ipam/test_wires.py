"""Networks on one wire keep back what any of them keeps back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.specs import PoolSpec
from danmpy.ipam.pools import layout
from danmpy.ipam.wires import with_kept_back
from support.specs import cluster_key, network

GATEWAY = int(ip_address("10.9.0.1"))
EXCLUDED = int(ip_address("10.9.0.2"))


def pool_of(name: str, networks: object) -> PoolSpec:
    pool = networks[cluster_key(name)].v4  # type: ignore[index]
    assert pool is not None
    return pool


def test_a_gateway_or_excluded_address_of_one_is_given_by_none() -> None:
    first = network(cluster_key("first"), v4="10.9.0.0/24", vni=60)
    second = network(cluster_key("second"), v4="10.9.0.0/24", vni=60)
    assert first.v4 is not None
    held = replace(
        first.v4,
        reserved=((GATEWAY, GATEWAY), *first.v4.reserved),
        excluded=((EXCLUDED, EXCLUDED),),
    )
    networks = {each.key: each for each in (replace(first, v4=held), second)}
    space = layout(pool_of("second", with_kept_back(networks)))
    assert not space.holds(GATEWAY)
    assert not space.holds(EXCLUDED)
    assert space.holds(EXCLUDED + 1)


def test_networks_on_other_wires_or_on_none_are_left_as_they_are() -> None:
    networks = {
        each.key: each
        for each in (
            network(cluster_key("a"), v4="10.9.0.0/24", vni=60),
            network(cluster_key("b"), v4="10.9.0.0/25", vni=61),
            network(cluster_key("c"), v4="10.9.0.0/25"),
        )
    }
    assert with_kept_back(networks) == networks


@given(st.lists(st.integers(min_value=8, max_value=30), min_size=2, max_size=4))
def test_sharing_is_the_same_done_twice_and_ranges_stay_sorted_and_apart(
    lengths: list[int],
) -> None:
    made = [network(cluster_key(f"n{i}"), v4=f"10.0.0.0/{n}", vni=7) for i, n in enumerate(lengths)]
    once = with_kept_back({each.key: each for each in made})
    for each in once.values():
        assert each.v4 is not None
        ranges = each.v4.excluded
        assert all(a[1] + 1 < b[0] for a, b in pairwise(ranges))
        space = layout(each.v4)
        for other in made:
            assert other.v4 is not None
            assert not any(space.holds(first) for first, _ in other.v4.reserved)

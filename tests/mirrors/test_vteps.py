from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.nodes import OBSERVED_VTEPS, parse_vteps
from danmpy.mirrors.vteps import render_vteps, vteps_of, vteps_patch
from support.mirroring import EXT, INTERNAL, look, vxlan_network
from support.specs import network

ONE, OTHER = (ip_address("192.0.2.1"),), (ip_address("2001:db8::1"),)
ON_ENS4, ON_ENS5 = vxlan_network(INTERNAL, 700), vxlan_network(EXT, 701, "ens5")


def test_what_a_look_found_is_published_for_the_parents_that_are_in_use() -> None:
    report = look(ON_ENS4, ON_ENS5, network(EXT), vteps={"ens4": ONE})
    assert vteps_of(look(ON_ENS4, vteps={"ens4": ONE, "ens9": ONE})) == {"ens4": ONE}
    assert vteps_of(report) == {"ens4": ONE}


def test_an_address_that_is_away_for_a_moment_stays_published() -> None:
    before = {"ens4": ONE, "ens5": OTHER}
    assert vteps_of(look(ON_ENS4, ON_ENS5, vteps={"ens4": OTHER}), before) == {
        "ens4": OTHER,
        "ens5": OTHER,
    }


def test_a_parent_that_no_tunnel_is_on_any_more_is_left_out() -> None:
    assert vteps_of(look(ON_ENS5, vteps={"ens5": ONE}), {"ens4": ONE}) == {"ens5": ONE}
    assert vteps_of(look(), {"ens4": ONE}) == {}


@given(
    vteps=st.dictionaries(
        st.sampled_from(["ens4", "ens5", "bond0"]),
        st.lists(st.sampled_from([*ONE, *OTHER]), min_size=1, max_size=2).map(tuple),
    )
)
def test_what_is_rendered_is_what_the_other_nodes_read(vteps) -> None:  # type: ignore[no-untyped-def]
    assert parse_vteps(render_vteps(vteps)) == vteps
    value = vteps_patch(vteps)["metadata"]["annotations"][OBSERVED_VTEPS]
    assert value == (render_vteps(vteps) if vteps else None)

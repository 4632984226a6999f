"""whereabouts' IPPools."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.importing.values import Parsed
from danmpy.importing.whereabouts import parse_whereabouts
from danmpy.intent.documents import Document, read_documents
from support.dumps import whereabouts_cluster

WEB = {"id": "web-0-sandbox", "podref": "blue/web-0", "ifname": "net1"}


def parsed(name: str = "p", cidr: Any = "10.0.0.0/24", allocations: Any = None) -> Parsed:
    body = {
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
        "kind": "IPPool",
        "metadata": {"name": name},
        "spec": {"range": cidr, "allocations": allocations},
    }
    return parse_whereabouts([Document(where="dump:1", body=body)])


def addresses(found: Parsed) -> list[str]:
    return [str(item.address) for item in found.holdings]


def test_allocations_are_offsets_and_say_container_pod_and_interface() -> None:
    documents = read_documents(whereabouts_cluster().encode(), "dump.yaml")
    assert isinstance(documents, tuple)
    found = parse_whereabouts(documents)
    web, db, other = found.holdings
    assert (str(web.address), web.network) == ("172.16.0.1", "172.16.0.0-24")
    assert (web.namespace, web.pod) == ("blue", "web-0")
    assert (web.container_id, web.interface) == ("web-0-sandbox", "net1")
    assert (str(db.address), db.interface) == ("172.16.0.20", "")
    assert str(other.address) == "192.168.9.5"
    assert found.problems == ()
    (note,) = found.notes
    assert note == "OverlappingRangeIPReservations are passed over, the IPPools say the same: 1"


@given(st.sampled_from(["10.0.0.0/16", "10.0.7.9/16", "fd00::/64", "fd00::8/64"]), st.data())
def test_the_offset_counts_from_the_address_that_the_range_is_written_with(
    cidr: str, data: st.DataObject
) -> None:
    written = ip_interface(cidr)
    room = int(written.network.broadcast_address) - int(written.ip)
    offset = data.draw(st.integers(0, room))
    (address,) = addresses(parsed(cidr=cidr, allocations={str(offset): WEB}))
    assert int(ip_address(address)) - int(written.ip) == offset


@pytest.mark.parametrize(
    ("offset", "entry", "words"),
    [
        ("-1", WEB, "the offset is no number"),
        ("x", WEB, "the offset is no number"),
        ("٣", WEB, "the offset is no number"),
        ("256", WEB, "the offset is beyond 10.0.0.0/24"),
        ("9" * 39, WEB, "the offset is beyond"),
        ("3", ["x"], "the allocation is no object"),
        ("3", {"id": 7}, "id is no text"),
    ],
)
def test_a_damaged_allocation_is_named_and_the_rest_is_read(
    offset: str, entry: Any, words: str
) -> None:
    found = parsed(allocations={"1": WEB, offset: entry, "2": WEB})
    assert addresses(found) == ["10.0.0.1", "10.0.0.2"]
    (problem,) = found.problems
    assert (problem.where, problem.subject) == ("dump:1", "IPPool/p")
    assert words in problem.message


@pytest.mark.parametrize("cidr", [None, "", "10.0.0.0", "10.0.0.0/33", "x", 7, "fe80::1%e/64"])
def test_a_pool_without_a_range_is_named(cidr: Any) -> None:
    found = parsed(cidr=cidr, allocations={"1": WEB})
    assert (found.holdings, len(found.problems)) == ((), 1)


def test_a_pool_without_allocations_is_empty() -> None:
    assert parsed(allocations=None) == Parsed()


def test_an_allocation_without_container_is_known_by_its_pod_or_nobodys() -> None:
    found = parsed(allocations={"1": {"podref": "blue/a"}, "2": {}, "3": {"podref": "old-pod"}})
    assert [item.container_id for item in found.holdings] == [
        "whereabouts:p:10.0.0.1",
        "",
        "whereabouts:p:10.0.0.3",
    ]
    assert (found.holdings[2].namespace, found.holdings[2].pod) == ("", "old-pod")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON | st.just("fd00::/64"), JSON | st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_whatever_a_pool_says_it_is_read_or_named(cidr: Any, allocations: Any) -> None:
    found = parsed(cidr=cidr, allocations=allocations)
    if isinstance(allocations, dict) and allocations:
        assert found.holdings or found.problems


@given(JSON)
def test_whatever_an_object_is_it_is_read_or_named(body: Any) -> None:
    found = parse_whereabouts([Document(where="dump:1", body=body)])
    assert found.problems or found.notes or isinstance(body, dict)

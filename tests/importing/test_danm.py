"""DANM's bitmaps and DanmEps."""

from __future__ import annotations

import base64
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danmpy.importing import danm
from danmpy.importing.danm import parse_danm
from danmpy.importing.values import Parsed
from danmpy.intent.documents import Document, read_documents
from support.dumps import bitmap, danm_cluster, danm_endpoint, danm_endpoints, danm_networks
from support.nads import nad_manifest


def parsed(text: str) -> Parsed:
    documents = read_documents(text.encode(), "dump.yaml")
    assert isinstance(documents, tuple), documents
    return parse_danm(documents)


def network(**options: Any) -> Document:
    body = {
        "apiVersion": "danm.k8s.io/v1",
        "kind": "DanmNet",
        "metadata": {"name": "net", "namespace": "blue"},
        "spec": {"NetworkID": "net", "NetworkType": "ipvlan", "Options": options},
    }
    return Document(where="dump:1", body=body)


def unowned(**options: Any) -> list[str]:
    found = parse_danm([network(**options)])
    assert found.problems == ()
    assert not any(item.is_owned for item in found.holdings)
    return [str(item.address) for item in found.holdings]


def test_endpoints_say_who_has_an_address_and_the_bitmap_what_else_is_in_use() -> None:
    found = parsed(danm_cluster())
    assert found.problems == ()
    web, db, nobody = found.holdings
    assert (str(web.address), web.network) == ("172.16.0.10", "ClusterNetwork/shared")
    assert (web.namespace, web.pod, web.pod_uid) == ("blue", "web-0", "uid-web-0")
    assert (web.container_id, web.interface, web.node) == ("web-0-sandbox", "ext1", "node-a")
    assert (web.mode, web.mac, web.since) == ("dynamic", None, None)
    assert (str(db.address), db.mode, db.node) == ("172.16.0.200", "static", "node-b")
    assert (str(nobody.address), nobody.is_owned) == ("172.16.0.11", False)


def test_nads_in_a_dump_are_none_of_danms_networks() -> None:
    found = parse_danm([Document(where="dump:1", body=nad_manifest("n", type="macvlan"))])
    assert (found.holdings, found.problems) == ((), ())
    assert found.notes[0] == "objects of other kinds are passed over: 1"


def test_an_interface_without_addresses_holds_nothing() -> None:
    assert parsed(danm_endpoints(danm_endpoint("l2-0", "none"))).holdings == ()


def test_the_bitmaps_of_the_reference_are_read_as_danm_made_them() -> None:
    """Made by DANM for networks without pods, one with the gateway .1."""
    assert unowned(cidr="10.0.0.0/26", alloc="gAAAAAAAAAE=") == []
    assert unowned(cidr="10.0.0.0/30", alloc="kA==") == []
    empty = base64.b64encode(bytes([0xC0, *[0] * 30, 1])).decode()
    assert unowned(cidr="10.0.0.0/24", alloc=empty) == ["10.0.0.1"]
    assert unowned(cidr="10.0.0.0/24", alloc=empty, routes={"10.9.0.0/16": "10.0.0.1"}) == []


@given(st.integers(16, 30), st.data())
@settings(deadline=None, max_examples=60)
def test_every_bit_that_is_set_is_found_and_no_other(prefix: int, data: st.DataObject) -> None:
    subnet = ip_network(f"10.64.0.0/{prefix}")
    inner = st.integers(1, subnet.num_addresses - 2)
    chosen = {str(subnet[place]) for place in data.draw(st.sets(inner, max_size=40))}
    assert set(unowned(cidr=str(subnet), alloc=bitmap(str(subnet), *chosen))) == chosen


@given(st.integers(112, 126), st.data())
@settings(deadline=None, max_examples=40)
def test_the_bits_of_ipv6_count_from_the_pool_and_not_from_the_subnet(
    prefix: int, data: st.DataObject
) -> None:
    pool = ip_network(f"fd00:1::7:0:0/{prefix}")
    inner = st.integers(1, pool.num_addresses - 2)
    chosen = {str(pool[place]) for place in data.draw(st.sets(inner, max_size=20))}
    options = {
        "net6": "fd00:1::/64",
        "alloc6": bitmap(str(pool), *chosen),
        "allocation_pool_v6": {"cidr": str(pool)},
    }
    assert set(unowned(**options)) == chosen


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cidr": "10.0.0.0/24", "alloc": "not base64!"}, "alloc is no Base64"),
        ({"cidr": "10.0.0.0/24", "alloc": "gAAB"}, "alloc has 24 bits, fewer than 10.0.0.0/24"),
        ({"cidr": "10.0.0.0/24", "alloc": 7}, "alloc is no text"),
        ({"alloc": "gAAB"}, "its subnet is not"),
        ({"cidr": "10.0.0.0/99", "alloc": "gAAB"}, "is no IPv4 subnet"),
        ({"alloc6": "gAAB", "allocation_pool_v6": ["x"]}, "allocation_pool_v6 is no object"),
    ],
)
def test_a_damaged_network_is_named_with_its_place_and_the_rest_is_read(
    options: dict[str, Any], words: str
) -> None:
    endpoints = read_documents(danm_cluster().encode(), "dump.yaml")
    assert isinstance(endpoints, tuple)
    found = parse_danm([network(**options), *endpoints])
    (problem,) = found.problems
    assert problem.where == "dump:1"
    assert problem.subject == "DanmNet/blue/net"
    assert words in problem.message
    assert len(found.holdings) == 3


def test_a_damaged_endpoint_is_named_with_its_line_and_the_rest_is_read() -> None:
    found = parsed(
        danm_endpoints(
            danm_endpoint("a", "10.0.0"),
            danm_endpoint("b", "172.16.0.10/24"),
            danm_endpoint("c", "172.16.0.12/24", network='""'),
        )
    )
    assert [item.pod for item in found.holdings] == ["b"]
    assert [problem.where for problem in found.problems] == ["dump.yaml:3", "dump.yaml:51"]
    assert "'10.0.0' is no address" in found.problems[0].message
    assert "it names no network" in found.problems[1].message


def test_an_endpoint_without_api_type_is_on_a_danmnet_of_its_namespace() -> None:
    text = danm_endpoints(danm_endpoint("a", "10.0.0.5/24", api='""', v6="fd00::5/64"))
    found = parsed(text)
    assert [item.network for item in found.holdings] == ["DanmNet/blue/shared"] * 2
    assert [str(item.address) for item in found.holdings] == ["10.0.0.5", "fd00::5"]


def test_an_endpoint_of_an_old_release_is_known_by_network_id_and_its_own_id() -> None:
    text = danm_endpoints(danm_endpoint("a", "10.0.0.5/24", cid='""'))
    (holding,) = parsed(text.replace("NetworkName", "NetworkID")).holdings
    assert (holding.container_id, holding.network) == ("danm:ep-a", "ClusterNetwork/shared")


def test_bitmaps_without_any_endpoint_and_other_objects_are_spoken_of() -> None:
    found = parsed(danm_networks() + "---\nkind: Secret\n")
    assert "there is no DanmEp with an address" in found.notes[1]
    assert found.notes[0] == "objects of other kinds are passed over: 1"


def test_a_bitmap_full_of_ones_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(danm, "UNOWNED_MAX", 100)
    ones = base64.b64encode(b"\xff" * 32).decode()
    found = parse_danm([network(cidr="10.0.0.0/24", alloc=ones)])
    assert found.holdings == ()
    assert "more than 100 bits are set without a DanmEp" in found.problems[0].message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["cidr", "alloc", "alloc6", "allocation_pool", "allocation_pool_v6", "routes", "routes6"]
)
VALUES = JSON | st.sampled_from(["10.0.0.0/30", "kA==", "10.0.0.1/24"])


@given(st.dictionaries(FIELDS, VALUES), st.sampled_from([*danm._KINDS]))
def test_whatever_a_network_says_it_is_read_or_named(options: dict[str, Any], kind: str) -> None:
    document = network(**options)
    document.body["kind"] = kind
    for item in parse_danm([document]).holdings:
        assert item.address in ip_network("0.0.0.0/0") or item.address.version == 6


@given(
    st.dictionaries(st.sampled_from(["metadata", "spec", "kind"]), JSON)
    | st.fixed_dictionaries(
        {
            "kind": st.just("DanmEp"),
            "spec": st.dictionaries(
                st.sampled_from(["Interface", "NetworkName", "CID", "Pod", "apiType"]),
                VALUES | st.just({"Address": "10.0.0.1/24"}) | st.just("DanmNet"),
            ),
        }
    )
    | JSON
)
def test_whatever_an_object_is_it_is_read_or_named(body: Any) -> None:
    found = parse_danm([Document(where="dump:1", body=body)])
    if not found.problems and not found.notes:
        assert isinstance(body, dict)
    for item in found.holdings:
        assert ip_address(str(item.address)) == item.address

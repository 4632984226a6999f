"""Which network and owner a holding belongs to."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from danmpy.api.specs import PodSpec
from danmpy.importing.plan import Candidate, Known, Naming, plan
from danmpy.importing.values import Holding
from danmpy.ipam.adoptions import Outcome, Verdict
from support.specs import cluster_key, network

NET = network(cluster_key("shared"), v4="10.0.0.0/24", vni=7)
KEY = str(NET.key)
POD = PodSpec(namespace="blue", name="web-0", uid="uid-1", node="node-a")
KNOWN = Known(networks={KEY: NET}, pods={("blue", "web-0"): POD})


def holding(address: str = "10.0.0.5", **more: Any) -> Holding:
    words = {
        "source": "whereabouts",
        "where": "f:1",
        "network": KEY,
        "namespace": "blue",
        "pod": "web-0",
        "container_id": "c1",
        "interface": "net1",
    }
    return Holding(address=ip_address(address), **(words | more))


def one(item: Holding, known: Known = KNOWN, **names: str) -> Candidate:
    (found,) = plan([item], known, Naming(names=names))
    return found


def refusal(item: Holding, known: Known = KNOWN) -> tuple[Verdict, str]:
    outcome = one(item, known).outcome
    assert outcome is not None
    return outcome.verdict, outcome.message


def test_a_holding_of_a_known_network_and_pod_is_to_be_adopted() -> None:
    found = one(holding())
    assert found.adoption is not None
    assert (found.adoption.network, found.adoption.place) == (NET, (NET.domain, b"\x0a\0\0\x05"))
    owner = found.adoption.owner
    assert (owner.namespace, owner.pod, owner.container_id) == ("blue", "web-0", "c1")
    assert (owner.pod_uid, owner.node) == ("uid-1", "node-a")
    assert found.message == ""


def test_the_pod_of_another_uid_tells_nothing_about_the_owner() -> None:
    found = one(holding(pod_uid="uid-0", node="host-b"))
    assert found.adoption is not None
    assert (found.adoption.owner.pod_uid, found.adoption.owner.node) == ("uid-0", "host-b")
    assert found.message == "there is no such pod now"


def test_where_pods_could_not_be_read_nothing_is_said_of_them() -> None:
    found = one(holding(pod="gone"), replace(KNOWN, pods=None))
    assert (found.adoption is not None, found.message) == (True, "")


def test_a_container_without_pod_is_adopted_and_that_is_said() -> None:
    found = one(holding(pod="", namespace="", node="node-b"))
    assert found.adoption is not None
    assert found.adoption.owner.node == "node-b"
    assert found.message == "the tool does not say which pod has it"


def test_names_of_the_tool_stand_for_networks_here() -> None:
    assert one(holding(network="pool-a"), **{"pool-a": KEY}).network == KEY
    (found,) = plan([holding(network="pool-b")], KNOWN, Naming(every=KEY))
    assert found.network == KEY


def test_a_network_that_is_not_here_or_without_segment_is_told() -> None:
    assert refusal(holding(network="pool-b")) == (
        Verdict.UNKNOWN_NETWORK,
        "no network is called so here",
    )
    waiting = replace(KNOWN, networks={}, unresolved={KEY: "it waits"})
    assert refusal(holding(), waiting) == (Verdict.UNKNOWN_NETWORK, "it waits")


@pytest.mark.parametrize("address", ["10.0.1.5", "fd00::5", "10.0.0.0", "10.0.0.255"])
def test_what_the_network_cannot_give_is_outside(address: str) -> None:
    assert refusal(holding(address))[0] is Verdict.OUTSIDE


def test_an_excluded_address_is_adopted_for_its_owner_and_nobodys_without() -> None:
    assert NET.v4 is not None
    value = int(ip_address("10.0.0.5"))
    spec = replace(NET, v4=replace(NET.v4, excluded=((value, value),)))
    known = replace(KNOWN, networks={KEY: spec})
    assert one(holding(), known).adoption is not None
    assert refusal(holding(container_id=""), known)[0] is Verdict.HELD


def test_a_network_that_is_being_deleted_takes_nobody_in() -> None:
    known = replace(KNOWN, networks={KEY: replace(NET, terminating=True)})
    assert refusal(holding(), known) == (Verdict.CONFLICT, "the network is being deleted")


def test_an_address_without_owner_is_left_to_a_person_but_not_the_reserved_ones() -> None:
    found = one(holding(container_id=""))
    assert found.is_unowned
    assert found.spec == NET
    assert plan([holding("10.0.0.255", container_id="")], KNOWN, Naming()) == ()


def test_what_is_told_twice_counts_once_and_the_living_pod_comes_first() -> None:
    dead = holding(pod="old", container_id="c0")
    found = plan([dead, holding(), holding(where="f:2"), holding("10.0.0.3")], KNOWN, Naming())
    assert [(str(item.holding.address), item.holding.pod) for item in found] == [
        ("10.0.0.3", "web-0"),
        ("10.0.0.5", "web-0"),
        ("10.0.0.5", "old"),
    ]


def test_a_row_says_what_would_be_done_and_all_reasons() -> None:
    found = replace(one(holding()), message="b")
    row = found.row(Outcome(verdict=Verdict.ADOPTED, message="a"), dry_run=True)
    assert (row["verdict"], row["message"]) == ("would be adopted", "a; b")
    assert (row["pod_uid"], row["node"], row["address"]) == ("uid-1", "node-a", "10.0.0.5")
    done = found.row(Outcome(verdict=Verdict.ADOPTED), dry_run=False)
    assert done["verdict"] == "adopted"
    kept = found.row(Outcome(verdict=Verdict.HELD), dry_run=True)
    assert kept["verdict"] == "held"

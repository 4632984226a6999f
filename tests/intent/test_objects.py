"""What is remembered of objects, and which changes ask for a look."""

from __future__ import annotations

from typing import Any

import pytest

from danmpy.api.specs import NetworkKind
from danmpy.intent.objects import Entry, ObjectCache, entry_of, judge_object, key_of
from danmpy.kube.resources import CLUSTER_NETWORKS, NADS, NODES, PODS, TENANT_NETWORKS
from support.manifests import network_manifest


def network(version: str = "1", **metadata: Any) -> dict[str, Any]:
    body = network_manifest("TenantNetwork", "a", "blue", cidr="10.0.0.0/24")
    body["metadata"] |= {"resourceVersion": version, "uid": "u-1", "generation": 1, **metadata}
    return body


def entry(body: dict[str, Any], *, keep_status: bool = False) -> Entry:
    return entry_of(TENANT_NETWORKS, body, keep_status=keep_status)


def test_an_object_of_a_list_is_judged_without_its_kind() -> None:
    body = network()
    del body["kind"], body["apiVersion"]
    judged = judge_object(TENANT_NETWORKS, body)
    assert judged.problems == ()
    assert judged.where == judged.subject == "TenantNetwork/blue/a"
    assert key_of(body) == ("blue", "a")


@pytest.mark.parametrize(
    ("change", "asks"),
    [
        ({}, False),
        ({"status": {"conditions": [{"type": "Ready"}]}}, False),
        ({"status": {"segment": {"parent": "ens4", "kind": "vxlan", "id": 700}}}, True),
        ({"status": None}, False),
        ({"spec": {"NetworkID": "other"}}, True),
        ({"spec": {"NetworkID": 7}}, True),
    ],
)
def test_only_what_a_look_goes_by_asks_for_one(change: dict[str, Any], asks: bool) -> None:
    assert entry(network("2") | change).asks_like(entry(network("1"))) is not asks


def test_a_deletion_that_waits_asks_for_a_look() -> None:
    going = entry(network("2", deletionTimestamp="2026-11-24T10:00:00Z"))
    assert not going.asks_like(entry(network("1")))


def test_who_writes_networks_is_told_of_generation_and_finalizers_too() -> None:
    refused = network("1") | {"spec": {"NetworkID": 7}}
    before = entry(refused, keep_status=True)
    for more in ({"generation": 2}, {"finalizers": ["x/y"]}, {"deletionTimestamp": "now"}):
        after = network("2", **more) | {"spec": {"NetworkID": 7}}
        assert not entry(after, keep_status=True).asks_like(before)
    assert entry(network("2") | {"spec": {"NetworkID": 7}}, keep_status=True).asks_like(before)


def test_whole_networks_are_kept_only_when_asked_for() -> None:
    body = network("7", finalizers=["x/y"], deletionTimestamp="2026-11-24T10:00:00Z")
    body["status"] = {"device": "vx700"}
    assert entry(body).kept is None
    kept = entry(body, keep_status=True).kept
    assert kept is not None
    assert (kept.key.kind, kept.key.namespace, kept.key.name) == (NetworkKind.TENANT, "blue", "a")
    assert (kept.uid, kept.generation, kept.resource_version) == ("u-1", 1, "7")
    assert (kept.finalizers, kept.terminating) == (("x/y",), True)
    assert kept.status == {"device": "vx700"}
    assert kept.spec == body["spec"]
    node = {"metadata": {"name": "n", "resourceVersion": "1"}}
    assert entry_of(NODES, node, keep_status=True).kept is None


def test_the_heartbeat_of_a_node_and_the_status_of_a_pod_ask_for_nothing() -> None:
    addresses = [{"type": "InternalIP", "address": "192.0.2.1"}]
    node = {"metadata": {"name": "n", "resourceVersion": "1"}, "status": {"addresses": addresses}}
    beat = {
        "metadata": {"name": "n", "resourceVersion": "2", "annotations": {"any": "thing"}},
        "status": {"addresses": addresses, "conditions": [{"type": "Ready"}]},
    }
    moved = {"metadata": {"name": "n", "resourceVersion": "3"}, "status": {}}
    before = entry_of(NODES, node, keep_status=False)
    assert entry_of(NODES, beat, keep_status=False).asks_like(before)
    assert not entry_of(NODES, moved, keep_status=False).asks_like(before)


def test_the_text_of_a_nad_is_kept() -> None:
    body = {
        "metadata": {"name": "n", "namespace": "blue", "resourceVersion": "1"},
        "spec": {"config": "{}"},
    }
    assert entry_of(NADS, body, keep_status=False).config == "{}"
    assert entry_of(NADS, body | {"spec": {"config": 7}}, keep_status=False).config == ""
    assert entry_of(NADS, body | {"spec": "x"}, keep_status=False).config == ""


def test_an_object_that_has_not_changed_is_not_judged_again() -> None:
    cache = ObjectCache(TENANT_NETWORKS, keep_status=False)
    key, first = cache.read(network("1"))
    cache.set_one(key, first)
    assert cache.read(network("1"))[1] is first
    assert cache.read(network("2"))[1] is not first


def test_a_verdict_that_came_to_the_same_is_kept_once() -> None:
    cache = ObjectCache(TENANT_NETWORKS, keep_status=False)
    key, first = cache.read(network("1"))
    assert cache.set_one(key, first)
    assert not cache.set_one(*cache.read(network("2")))
    assert cache.entries[key].judged is first.judged
    assert cache.entries[key].resource_version == "2"


def test_a_cache_is_whole_once_it_was_listed_and_until_its_kind_goes() -> None:
    cache = ObjectCache(CLUSTER_NETWORKS, keep_status=False)
    assert cache.problem is not None
    assert "not listed" in cache.problem.message
    assert cache.set_failure("no answer", missing=False, forget=False)
    assert not cache.set_failure("no answer", missing=False, forget=False)
    assert cache.problem.message == "no answer"
    assert cache.set_all({})
    assert not cache.set_all({})
    assert not cache.set_failure("no answer", missing=False, forget=False)
    assert cache.is_whole
    assert cache.set_failure("404", missing=True, forget=False)
    assert not cache.set_failure("no answer", missing=False, forget=False), "still missing"
    assert cache.problem.code == "KindNotServed"
    assert cache.set_all({})
    assert cache.problem is None


def test_a_list_asks_for_a_look_when_something_came_went_or_changed() -> None:
    cache = ObjectCache(PODS, keep_status=False)

    def pods(*names: str, **labels: str) -> dict[Any, Entry]:
        bodies = [
            {"metadata": {"name": each, "resourceVersion": str(labels), "labels": labels}}
            for each in names
        ]
        return dict(map(cache.read, bodies))

    assert cache.set_all(pods("a", "b"))
    assert not cache.set_all(pods("b", "a"))
    assert cache.set_all(pods("a"))
    assert cache.set_all(pods("a", app="x"))
    assert cache.remove(("", "a"))
    assert not cache.remove(("", "a"))

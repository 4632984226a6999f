"""What is remembered of objects, and which changes ask for a look."""

from __future__ import annotations

from typing import Any

import pytest

from danmpy.api.specs import NetworkKind, NetworkSpec, SegmentKey, SegmentKind
from danmpy.errors import ClusterError
from danmpy.intent.objects import (
    Entry,
    ObjectCache,
    entry_of,
    judge_object,
    key_of,
    problems_of,
)
from danmpy.intent.parse import merge, parse_documents
from danmpy.kube.errors import DeniedError, MissingError, UnreachableError, error_of
from danmpy.kube.resources import (
    CLUSTER_NETWORKS,
    NADS,
    NODES,
    PODS,
    TENANT_CONFIGS,
    TENANT_NETWORKS,
    Resource,
)
from support.manifests import config_manifest, documents, network_manifest


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


def test_a_nad_is_a_network_that_nobody_writes() -> None:
    body = {
        "metadata": {"name": "n", "namespace": "blue", "uid": "u", "resourceVersion": "1"},
        "spec": {"config": '{"type": "macvlan"}'},
        "status": {"segment": {"id": 7}},
    }
    entry = entry_of(NADS, body, keep_status=True)
    assert isinstance(entry.judged.value, NetworkSpec)
    assert entry.judged.value.conf == '{"type": "macvlan"}'
    assert (entry.kept, entry.segment) == (None, None)


@pytest.mark.parametrize(
    ("status", "whole", "late"), [(404, True, False), (403, False, False), (503, False, True)]
)
def test_a_kind_that_need_not_be_there_is_waited_for_while_nobody_answers(
    status: int, whole: bool, late: bool
) -> None:
    cache = ObjectCache(NADS, optional=True)
    assert cache.is_late
    assert not cache.is_whole
    cache.set_failure(error_of(status, {}, NADS.path()), missing=False, forget=False)
    assert (cache.is_whole, cache.is_late) == (whole, late)
    away = error_of(503, {}, NADS.path())
    cache.set_failure(away, missing=False, forget=False)
    assert cache.is_whole == whole
    needed = ObjectCache(TENANT_NETWORKS)
    needed.set_failure(error_of(status, {}, NADS.path()), missing=True, forget=False)
    assert needed.is_late
    assert not needed.is_whole


def test_what_was_heard_of_a_kind_holds_while_the_server_does_not_know_it() -> None:
    cache = ObjectCache(NADS, optional=True)
    body = {
        "metadata": {"name": "n", "namespace": "blue", "uid": "u", "resourceVersion": "1"},
        "spec": {},
    }
    cache.set_all(dict([cache.read(body)]))
    cache.set_failure(error_of(404, {}, NADS.path()), missing=True, forget=False)
    assert cache.is_whole
    assert len(list(cache.judged())) == 1


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
    away = UnreachableError("no answer", hint="check that it runs", subject="/apis")
    assert cache.set_failure(away, missing=False, forget=False)
    assert not cache.set_failure(away, missing=False, forget=False)
    assert (cache.problem.message, cache.problem.hint) == ("no answer", "check that it runs")
    assert cache.set_all({})
    assert not cache.set_all({})
    assert not cache.set_failure(away, missing=False, forget=False)
    assert cache.is_whole
    gone = MissingError("404", hint="apply it", subject="/apis")
    assert cache.set_failure(gone, missing=True, forget=False)
    assert not cache.set_failure(away, missing=False, forget=False), "still missing"
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


def caches(*failures: ClusterError | None) -> list[ObjectCache]:
    """A cache for each failure; None: nothing was heard of it."""
    kinds = (TENANT_NETWORKS, CLUSTER_NETWORKS, NODES, PODS)
    made = []
    for kind, failure in zip(kinds, failures, strict=False):
        cache = ObjectCache(kind, keep_status=False)
        if failure is not None:
            missing = isinstance(failure, MissingError)
            cache.set_failure(failure, missing=missing, forget=False)
        made.append(cache)
    return made


HOST = "https://192.0.2.1:6443"


def test_an_outage_is_one_problem_of_the_server_however_many_kinds_it_keeps_away() -> None:
    failures = [
        UnreachableError(f"the API server does not answer: {words}", hint="check it", subject=path)
        for words, path in (("refused", "/a"), ("timed out", "/b"))
    ]
    (problem,) = problems_of(caches(*failures, None), HOST)
    assert str(problem) == (
        f"API server {HOST}: the API server does not answer: refused (check it) [KindUnread]"
    )


def test_credentials_that_are_not_accepted_are_one_problem_too() -> None:
    refusals = [DeniedError("Unauthorized", hint="h", subject=path, status=401) for path in "ab"]
    (problem,) = problems_of(caches(*refusals), HOST)
    assert problem.subject == f"API server {HOST}"


def test_kinds_that_are_missing_or_may_not_be_read_are_named_in_one_problem_each() -> None:
    gone = MissingError("404", hint="h", subject="/a")
    denied = DeniedError("nodes is forbidden", hint="give the right", subject="/b")
    missing, forbidden = problems_of(caches(gone, gone, denied, denied), HOST)
    assert missing.subject == "TenantNetwork, ClusterNetwork"
    assert (missing.code, missing.message) == (
        "KindNotServed",
        "the API server does not know these kinds",
    )
    assert (forbidden.subject, forbidden.hint) == ("Node, Pod", "give the right")


def test_what_is_whole_is_no_problem() -> None:
    whole, *others = caches(None, None, None)
    whole.set_all({})
    (problem,) = problems_of([whole, *others], HOST)
    assert problem.subject == "ClusterNetwork, Node"
    assert "not listed" in problem.message
    for cache in others:
        cache.set_all({})
    assert problems_of([whole, *others], HOST) == ()


def stored(kind: Resource, body: dict[str, Any], created: str = "") -> dict[str, Any]:
    metadata = body["metadata"] | {"resourceVersion": "1", "creationTimestamp": created}
    return body | {"metadata": metadata}


def test_of_two_configs_of_one_range_the_older_one_counts_and_the_other_is_a_problem() -> None:
    device = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}
    cache = ObjectCache(TENANT_CONFIGS, keep_status=False)
    for name, second in (("a", 2), ("b", 1), ("c", 2)):
        body = stored(
            TENANT_CONFIGS, config_manifest(device, name=name), f"2026-01-01T00:00:0{second}Z"
        )
        cache.set_one(*cache.read(body))
    intent = merge(cache.judged())
    assert [config.name for config in intent.tenant_configs] == ["b"]
    assert [problem.subject for problem in intent.refused_configs] == [
        "TenantConfig/a",
        "TenantConfig/c",
    ]


def test_a_config_that_was_made_anew_while_nobody_listened_is_the_younger_one() -> None:
    cache = ObjectCache(TENANT_CONFIGS, keep_status=False)

    def listed(seconds: dict[str, int]) -> bool:
        bodies = [
            stored(TENANT_CONFIGS, config_manifest(name=name), f"2026-01-01T00:00:0{second}Z")
            for name, second in seconds.items()
        ]
        for body in bodies:
            body["metadata"]["resourceVersion"] = body["metadata"]["creationTimestamp"]
        return cache.set_all(dict(map(cache.read, bodies)))

    assert listed({"a": 1, "b": 2})
    assert not listed({"a": 1, "b": 2})
    assert listed({"a": 3, "b": 2})


def test_what_a_running_danm_has_written_into_objects_does_not_refuse_them() -> None:
    network = network_manifest(
        "TenantNetwork", "a", "blue", cidr="10.0.0.0/24", alloc="gAA=", host_device="ens4",
        vxlan=701, allocation_pool={"start": "10.0.0.1", "end": "10.0.0.9", "lastIp": "10.0.0.5"},
    )  # fmt: skip
    judged = judge_object(TENANT_NETWORKS, stored(TENANT_NETWORKS, network))
    assert judged.problems == ()
    assert isinstance(judged.value, NetworkSpec)
    assert judged.value.segment == SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=701)
    config = config_manifest({"name": "ens4", "alloc": "gAA="})
    assert judge_object(TENANT_CONFIGS, stored(TENANT_CONFIGS, config)).problems == ()
    written = parse_documents(documents(network, config))
    assert {problem.code for problem in written.problems} == {"AllocSet", "SegmentMisplaced"}

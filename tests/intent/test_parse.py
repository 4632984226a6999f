from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.dialects.danm import parse_interfaces
from danmpy.api.dialects.keys import ANNOTATIONS
from danmpy.api.nodes import OBSERVED_VTEPS, VTEPS
from danmpy.api.specs import DANM_KINDS, NetworkKey, SegmentKey, SegmentKind
from danmpy.errors import IntentError
from danmpy.intent.documents import Document
from danmpy.intent.parse import judge_document, merge, parse_documents
from danmpy.intent.values import Intent
from support.manifests import config_manifest, core_manifest, documents, network_manifest
from support.nads import nad_key, nad_manifest
from support.specs import cluster_key, danm_key, tenant_key

CONFIG = config_manifest({"name": "ens4", "vniType": "vxlan", "vniRange": "700-799"})


def parse(*bodies: Any) -> Intent:
    return parse_documents(documents(*bodies))


def codes(intent: Intent) -> list[str]:
    assert all(p.where and p.subject and p.message and p.hint for p in intent.problems)
    return [problem.code for problem in intent.problems]


def test_every_kind_becomes_its_value() -> None:
    intent = parse(
        network_manifest("ClusterNetwork", "c"),
        network_manifest("TenantNetwork", "t", "blue"),
        network_manifest("DanmNet", "d", "blue"),
        CONFIG,
        core_manifest("Pod", "web-0", "blue"),
        core_manifest("Node", "node-a"),
        core_manifest("Namespace", "blue"),
        {"apiVersion": "danm.k8s.io/v1", "kind": "DanmEp", "metadata": {"name": "x"}},
        nad_manifest("n", "blue", type="macvlan"),
    )
    assert intent.problems == ()
    assert set(intent.networks) == {
        cluster_key("c"),
        tenant_key("t"),
        danm_key("d"),
        nad_key("n"),
    }
    assert [config.name for config in intent.tenant_configs] == ["tenants"]
    assert set(intent.pods) == {("blue", "web-0")}
    assert [node.name for node in intent.nodes] == ["node-a"]
    assert intent.complete


def test_danm_io_is_the_same_group() -> None:
    manifest = network_manifest() | {"apiVersion": "danm.io/v1"}
    assert cluster_key("net") in parse(manifest).networks


def test_nothing_wanted_is_a_complete_intent() -> None:
    assert parse() == Intent()


def test_the_uid_is_the_objects_or_stands_for_its_key() -> None:
    manifest = network_manifest()
    assert parse(manifest).networks[cluster_key("net")].uid == "ClusterNetwork/net"
    manifest["metadata"]["uid"] = "u-1"
    assert parse(manifest).networks[cluster_key("net")].uid == "u-1"


def test_a_namespaced_object_without_namespace_is_in_default() -> None:
    intent = parse(network_manifest("TenantNetwork", "t"), core_manifest("Pod", "p"))
    assert set(intent.networks) == {tenant_key("t", "default")}
    assert set(intent.pods) == {("default", "p")}


def test_a_refused_network_stops_no_other() -> None:
    intent = parse(network_manifest(name="bad", cidr="x"), network_manifest(name="good"))
    assert set(intent.networks) == {cluster_key("good")}
    (problem,) = intent.rejected[cluster_key("bad")]
    assert (problem.where, problem.subject) == ("f.yaml:1", "ClusterNetwork/bad")
    assert intent.problems == (problem,)
    assert intent.complete


@pytest.mark.parametrize(
    ("options", "claims"),
    [
        ({"host_device": "ens4", "vlan": 7}, [(SegmentKind.VLAN, 7)]),
        (
            {"host_device": "ens4", "vlan": 7, "vxlan": 8},
            [(SegmentKind.VLAN, 7), (SegmentKind.VXLAN, 8)],
        ),
        ({"host_device": "ens4", "vlan": "7"}, []),
        ({"host_device": "ens4", "vlan": True}, []),
        ({"host_device": "ens4", "vxlan": 99_999_999}, []),
        ({"host_device": "a b", "vlan": 7}, []),
        ({"vlan": 7}, []),
    ],
)
def test_a_refused_network_claims_the_segments_it_names(
    options: dict[str, Any], claims: list[tuple[SegmentKind, int]]
) -> None:
    intent = parse(network_manifest(cidr="x", **options))
    assert intent.networks == {}
    assert intent.claims == {SegmentKey(parent="ens4", kind=k, id=i) for k, i in claims}


def test_a_refused_tenant_network_takes_no_id_from_the_others() -> None:
    body = network_manifest("TenantNetwork", "blue", host_device="ens4", vxlan=700)
    intent = parse(body)
    assert len(intent.rejected) == 1
    assert intent.claims == frozenset()


@pytest.mark.parametrize("spec", [None, 5, [], {"Options": 5}])
def test_a_spec_that_is_none_claims_nothing(spec: Any) -> None:
    intent = parse(network_manifest() | {"spec": spec})
    assert cluster_key("net") in intent.rejected
    assert intent.claims == frozenset()


def test_of_two_objects_with_one_name_the_first_counts() -> None:
    intent = parse(
        network_manifest("TenantNetwork", "t", "blue", network_id="first"),
        network_manifest("TenantNetwork", "t", "blue", network_id="second"),
    )
    assert intent.networks[tenant_key("t")].network_id == "first"
    (problem,) = intent.problems
    assert (problem.where, problem.code) == ("f.yaml:2", "ObjectTwice")
    assert "f.yaml:1" in problem.message


def test_the_first_counts_also_when_it_is_refused() -> None:
    intent = parse(network_manifest(cidr="x"), network_manifest())
    assert intent.networks == {}
    assert cluster_key("net") in intent.rejected
    assert codes(intent) == ["SubnetInvalid", "ObjectTwice"]


def test_one_name_in_two_namespaces_or_kinds_is_two_objects() -> None:
    intent = parse(
        network_manifest("TenantNetwork", "t", "blue"),
        network_manifest("TenantNetwork", "t", "red"),
        network_manifest("DanmNet", "t", "blue"),
        core_manifest("Pod", "t", "blue"),
    )
    assert intent.problems == ()


def test_a_config_whose_ids_another_gives_out_is_refused() -> None:
    other = config_manifest({"name": "ens4", "vniType": "vxlan", "vniRange": "750"}, name="z")
    intent = parse(CONFIG, other)
    assert [config.name for config in intent.tenant_configs] == ["tenants"]
    assert codes(intent) == ["RangesOverlap"]


def test_a_broken_config_is_refused_and_stops_nothing() -> None:
    intent = parse(config_manifest(), network_manifest())
    assert codes(intent) == ["ConfigEmpty"]
    assert intent.tenant_configs == ()
    assert intent.networks


@pytest.mark.parametrize(
    "body", [5, "x", [], {}, {"kind": 5}, {"kind": None}, {"apiVersion": "danm.k8s.io/v1"}]
)
def test_a_document_without_kind_may_hide_a_wish(body: Any) -> None:
    intent = parse(body)
    assert codes(intent) == ["KindMissing"]
    assert not intent.complete


def test_an_unknown_kind_is_told_and_hides_nothing() -> None:
    intent = parse({"apiVersion": "apps/v1", "kind": "Deployment"})
    assert codes(intent) == ["KindUnknown"]
    assert intent.complete


def test_a_slip_in_the_name_of_a_kind_of_ours_may_hide_a_wish() -> None:
    intent = parse(network_manifest("TenantNetwrok"))
    (problem,) = intent.problems
    assert problem.hint == "did you mean TenantNetwork?"
    assert not intent.complete


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        (None, "NameMissing"),
        ({}, "NameMissing"),
        ({"name": 5}, "NameMissing"),
        ({"name": "UPPER"}, "NameInvalid"),
        ({"name": "a/b"}, "NameInvalid"),
        ({"name": "a", "namespace": "b/c"}, "NamespaceInvalid"),
        ({"name": "a", "namespace": 5}, "NamespaceInvalid"),
    ],
)
@pytest.mark.parametrize("kind", ["TenantNetwork", "Pod"])
def test_an_object_that_cannot_be_named_may_hide_a_wish(
    kind: str, metadata: Any, code: str
) -> None:
    intent = parse({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": {}})
    assert codes(intent) == [code]
    assert not intent.complete


@pytest.mark.parametrize("version", [None, "v1", "danm.k8s.io/v2", "danm.k8s.io", 5])
def test_another_api_version_refuses_the_object(version: Any) -> None:
    intent = parse(network_manifest() | {"apiVersion": version})
    assert cluster_key("net") in intent.rejected
    assert "ApiVersionUnknown" in codes(intent)


def test_a_cluster_network_in_a_namespace_is_refused() -> None:
    intent = parse(network_manifest(namespace="blue"))
    assert codes(intent) == ["NamespaceMisplaced"]
    assert set(intent.rejected) == {cluster_key("net")}


def test_a_pod_keeps_what_networks_need() -> None:
    pod = core_manifest("Pod", "web-0", "blue", spec={"nodeName": "node-a"})
    pod["metadata"] |= {
        "uid": "u-1",
        "labels": {"app": "web", "bad": 5},
        "annotations": {ANNOTATIONS[0]: "[]", "other": "x"},
    }
    found = parse(pod).pods["blue", "web-0"]
    assert (found.uid, found.node) == ("u-1", "node-a")
    assert found.labels == {"app": "web"}
    assert found.annotations == {ANNOTATIONS[0]: "[]"}


def test_the_uid_of_a_static_pod_is_its_hash() -> None:
    hashed = {"kubernetes.io/config.hash": "abc"}
    pod = core_manifest("Pod", "etcd", "blue", annotations=hashed)
    pod["metadata"]["uid"] = "u-1"
    found = parse(pod).pods["blue", "etcd"]
    assert (found.uid, found.config_hash, found.annotations) == ("u-1", "abc", {})
    pod["metadata"]["annotations"] = {"kubernetes.io/config.hash": 7}
    assert parse(pod).pods["blue", "etcd"].config_hash == ""


def test_a_network_that_is_being_deleted_is_accepted_and_says_so() -> None:
    going = network_manifest("ClusterNetwork", "c")
    going["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z"
    assert parse(going).networks[cluster_key("c")].terminating
    assert not parse(network_manifest("ClusterNetwork", "c")).networks[cluster_key("c")].terminating


@pytest.mark.parametrize("part", [None, 5, [], "x"])
def test_a_pod_whose_parts_cannot_be_read_stays(part: Any) -> None:
    pod = core_manifest("Pod", "p", "blue", spec=part)
    pod["metadata"] |= {"labels": part, "annotations": part, "uid": part}
    found = parse(pod).pods["blue", "p"]
    assert (found.node, found.labels, found.annotations) == ("", {}, {})


@pytest.mark.parametrize("value", [[{"network": "a"}], [], 5, {}])
def test_a_pod_with_an_annotation_that_is_no_text_stays_and_gets_nothing(value: Any) -> None:
    intent = parse(core_manifest("Pod", "p", "blue", annotations={ANNOTATIONS[0]: value}))
    assert codes(intent) == ["AnnotationInvalid"]
    with pytest.raises(IntentError):
        parse_interfaces(intent.pods["blue", "p"])


def test_a_broken_annotation_is_the_pods_own_affair() -> None:
    intent = parse(core_manifest("Pod", "p", "blue", annotations={ANNOTATIONS[0]: "[1"}))
    assert intent.problems == ()
    assert intent.pods["blue", "p"].annotations == {ANNOTATIONS[0]: "[1"}


def test_what_a_node_found_counts_where_nobody_wrote_and_before_its_internal_address() -> None:
    annotations = {OBSERVED_VTEPS: json.dumps({"ens4": "192.0.2.9", "ens5": "192.0.2.8"})}
    status = {"addresses": [{"type": "InternalIP", "address": "198.51.100.1"}]}
    (found,) = parse(core_manifest("Node", "n", annotations=annotations, status=status)).nodes
    assert found.vteps_on("ens4") == (ip_address("192.0.2.9"),)
    assert found.vteps_on("ens6") == (ip_address("198.51.100.1"),)
    annotations[VTEPS] = json.dumps({"ens4": "192.0.2.1"})
    (found,) = parse(core_manifest("Node", "n", annotations=annotations)).nodes
    assert found.vteps_on("ens4") == (ip_address("192.0.2.1"),)
    assert found.vteps_on("ens5") == (ip_address("192.0.2.8"),)
    annotations = {OBSERVED_VTEPS: "nonsense"}
    intent = parse(core_manifest("Node", "n", annotations=annotations))
    assert (intent.problems, intent.nodes[0].vteps) == ((), {})


def test_a_node_says_where_its_tunnels_end() -> None:
    node = core_manifest("Node", "n", annotations={VTEPS: json.dumps({"ens4": "192.0.2.1"})})
    (found,) = parse(node).nodes
    assert found.vteps == {"ens4": (ip_address("192.0.2.1"),)}


def test_a_node_without_the_annotation_has_its_internal_addresses() -> None:
    status = {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}
    (found,) = parse(core_manifest("Node", "n", status=status)).nodes
    assert found.vteps_on("any") == (ip_address("192.0.2.1"),)
    assert parse(core_manifest("Node", "n")).nodes[0].vteps == {}


@pytest.mark.parametrize("value", ["[", "5", "", 5, {"ens4": "192.0.2.1"}])
def test_a_node_with_broken_tunnel_ends_is_refused(value: Any) -> None:
    intent = parse(core_manifest("Node", "n", annotations={VTEPS: value}))
    assert codes(intent) == ["VtepsInvalid"]
    assert intent.nodes == ()


def test_messages_can_be_shown_whatever_people_wrote() -> None:
    intent = parse(
        {"apiVersion": "x", "kind": "\x1b[31m\ud800"},
        network_manifest(**{"bad\x1b\ud800": 1}),
        network_manifest(name="n2", cidr="10.0.0.0/24", routes={"\x1b": "\ud800"}),
    )
    assert len(intent.problems) == 4
    for problem in intent.problems:
        str(problem).encode()
        assert str(problem).isprintable()


@pytest.mark.parametrize("kind", [*DANM_KINDS, "TenantConfig", "Pod", "Node"])
def test_a_document_is_judged_alike_alone_and_among_others(kind: str) -> None:
    document = Document(
        where="f:1",
        body={"apiVersion": "danm.k8s.io/v1", "kind": kind, "metadata": {"name": "a"}, "spec": {}},
    )
    assert judge_document(document) == judge_document(document)


garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
names = st.sampled_from(["a", "b", "A", ""]) | garbage
likely = st.fixed_dictionaries(
    {},
    optional={
        "apiVersion": st.sampled_from(["v1", "danm.k8s.io/v1", "danm.io/v1"]) | garbage,
        "kind": st.sampled_from([*map(str, DANM_KINDS), "TenantConfig", "Pod", "Node", "DanmEp"])
        | garbage,
        "metadata": st.fixed_dictionaries(
            {}, optional={"name": names, "namespace": names, "annotations": garbage, "uid": garbage}
        )
        | garbage,
        "spec": st.fixed_dictionaries({}, optional={"Options": garbage, "NetworkID": garbage})
        | garbage,
        "hostDevices": garbage
        | st.lists(st.dictionaries(st.sampled_from(["name", "vniType", "vniRange"]), garbage)),
        "networkIds": garbage,
        "status": garbage,
    },
)


@given(st.lists(likely | garbage, max_size=5))
def test_any_documents_are_parsed_and_what_is_wrong_becomes_problems(bodies: list[Any]) -> None:
    intent = parse(*bodies)
    for problem in intent.problems:
        str(problem).encode()
        assert problem.hint
    assert not set(intent.networks) & set(intent.rejected)
    for key in intent.networks:
        assert isinstance(key, NetworkKey)


@pytest.mark.parametrize(
    ("owners", "stateful"),
    [
        (
            [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "controller": True}],
            True,
        ),
        ([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"}], False),
        ([{"apiVersion": "x.io/v1", "kind": "StatefulSet", "controller": True}], False),
        ([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": True}], False),
        (None, False),
        ("StatefulSet", False),
        ([None, "x"], False),
    ],
)
def test_a_statefulsets_pod_is_known_by_its_controller(owners: Any, stateful: bool) -> None:
    manifest = core_manifest("Pod", "db-0", "blue", annotations={"danm.k8s.io/claim": "db"})
    manifest["metadata"]["ownerReferences"] = owners

    found = parse(manifest).pods["blue", "db-0"]

    assert found.stateful is stateful
    assert found.annotations == {"danm.k8s.io/claim": "db"}


def _crowd(*names: str) -> list[Any]:
    return [network_manifest("TenantNetwork", name, "blue") for name in names]


def test_where_there_is_no_admission_the_last_networks_beyond_the_quota_are_refused() -> None:
    config = config_manifest({"name": "ens4"}, quotas={"networks": 2})
    judged = [
        judge_document(document)
        for document in documents(
            *_crowd("a", "b"),
            network_manifest("DanmNet", "c", "blue"),
            network_manifest("DanmNet", "d", "red"),
            network_manifest("ClusterNetwork", "e"),
            config,
        )
    ]

    capped = merge(judged, by_quota=True)

    ((key, (problem,)),) = capped.rejected.items()
    assert str(key) == "DanmNet/blue/c"
    assert key not in capped.networks
    assert (problem.code, problem.where) == ("QuotaExceeded", "f.yaml:3")
    assert problem in capped.problems
    assert len(capped.networks) == 4
    assert merge(judged).rejected == {}


def test_the_segment_of_a_network_beyond_the_quota_is_given_to_no_other() -> None:
    judged = [
        judge_document(document)
        for document in documents(
            network_manifest("DanmNet", "a", "blue", host_device="ens4", vlan=30),
            config_manifest({"name": "ens4"}, quotas={"networks": 0}),
        )
    ]

    capped = merge(judged, by_quota=True)

    assert capped.networks == {}
    assert capped.claims == {SegmentKey(parent="ens4", kind=SegmentKind.VLAN, id=30)}


NAD_ON_A_WIRE = {"type": "macvlan", "master": "ens4", "vxlan": 700}


def test_a_broken_nad_is_rejected_and_touches_nothing_else() -> None:
    intent = parse(nad_manifest("bad", text="{"), nad_manifest("good", **NAD_ON_A_WIRE))
    assert set(intent.networks) == {nad_key("good")}
    ((key, (problem,)),) = intent.rejected.items()
    assert (key, problem.subject, problem.code) == (nad_key("bad"), str(key), "ConfigNotJson")
    assert intent.complete


def test_a_nad_is_of_its_own_group() -> None:
    intent = parse(nad_manifest("n") | {"apiVersion": "danm.k8s.io/v1"})
    assert codes(intent) == ["ApiVersionUnknown"]
    assert "k8s.cni.cncf.io/v1" in intent.problems[0].hint
    assert nad_key("n") in intent.rejected


def test_a_refused_nad_claims_the_segment_it_names() -> None:
    intent = parse(nad_manifest("n", **NAD_ON_A_WIRE, disableGC="often"))
    assert intent.networks == {}
    assert intent.claims == {SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=700)}


def test_nads_of_other_plugins_count_for_no_quota() -> None:
    judged = [
        judge_document(document)
        for document in documents(
            nad_manifest("x"),
            nad_manifest("y"),
            network_manifest("DanmNet", "a", "blue"),
            config_manifest({"name": "ens4"}, quotas={"networks": 1}),
        )
    ]
    capped = merge(judged, by_quota=True)
    assert capped.rejected == {}
    assert len(capped.networks) == 3

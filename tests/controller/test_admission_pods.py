from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.dialects.rules import DialectRules
from danmpy.api.specs import NetworkSpec
from danmpy.controller import admission_pods
from danmpy.controller.admission import AdmissionSettings
from danmpy.controller.admission_pods import PodRules
from danmpy.controller.reviews import Verdict, parse_review
from support.admitting import World, codes, review_of
from support.dialects import written
from support.manifests import config_manifest, core_manifest, network_manifest

OLD, NEW, NPWG = (
    "danm.k8s.io/interfaces", "danm.io/interfaces", "k8s.v1.cni.cncf.io/networks"
)  # fmt: skip
INTERNAL = network_manifest("TenantNetwork", "internal", "blue", cidr="10.0.0.0/24", rt_tables=9)
STORAGE = network_manifest(
    "ClusterNetwork", "storage", host_device="ens4", cidr="10.1.0.0/24", gateway="10.1.0.1",
    more={"AllowedTenants": ["blue"]},
)  # fmt: skip
LOCAL = network_manifest("DanmNet", "local", "blue", host_device="ens4", network_type="ipvlan")
OTHERS = network_manifest("TenantNetwork", "theirs", "red", cidr="10.0.0.0/24")
NETWORKS = (INTERNAL, STORAGE, LOCAL, OTHERS)

T = {"tenantNetwork": "internal", "ip": "dynamic"}
C = {"clusterNetwork": "storage", "ip": "dynamic"}


def pod(*entries: Any, namespace: str = "blue", **annotations: str) -> dict[str, Any]:
    declared = {OLD: json.dumps(list(entries))} if entries else {}
    return core_manifest("Pod", "web-0", namespace, annotations=declared | annotations)


def world(*more: dict[str, Any], **words: Any) -> World:
    return World(cached=(*NETWORKS, *more), **words)


def refusal(verdict: Verdict) -> str:
    (found,) = verdict.invalid
    assert found.path.startswith("metadata.annotations[")
    return f"{found.message} ({found.hint})"


@pytest.mark.parametrize(
    "entries",
    [
        [T],
        [T, C],
        [C | {"default_route": True}, T],
        [T | {"ip": "10.0.0.7", "proutes": {"10.9.0.0/16": "10.0.0.1"}}],
        [{"network": "local"}, T | {"name": "ext0"}],
        [T, T],
    ],
)
def test_what_a_node_can_attach_passes_without_a_question(entries: list[Any]) -> None:
    asked = world()
    verdict = asked.create(pod(*entries))
    assert (verdict.allowed, verdict.warnings, asked.questions) == (True, (), [])


def test_networks_that_a_pod_does_not_name_cost_it_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at: list[str] = []
    as_on_a_node = admission_pods._as_on_a_node

    def counted(network: NetworkSpec) -> NetworkSpec:
        looked_at.append(network.key.name)
        return as_on_a_node(network)

    monkeypatch.setattr(admission_pods, "_as_on_a_node", counted)
    verdict = world().create(pod(T, C))
    assert verdict.allowed
    assert sorted(looked_at) == ["internal", "storage"]


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({OLD: ""}, "it is empty"),
        ({OLD: "{"}, "no JSON"),
        ({OLD: '{"tenantNetwork": "internal"}'}, "an object and not a list"),
        ({OLD: '[{"tenantNetwork": "internal", "clusterNetwork": "storage"}]'}, "exactly one"),
        ({OLD: '[{"ip": "dynamic"}]'}, "it names no network"),
        ({OLD: '[{"tenantNetwrk": "internal"}]'}, "did you mean tenantNetwork?"),
        ({OLD: '[{"tenantNetwork": "red/theirs"}]'}, "no name that a network can have"),
        ({OLD: '[{"tenantNetwork": "internal", "ip": "10.0.0"}]'}, "no IPv4 address"),
        ({OLD: json.dumps([T]), NEW: json.dumps([C])}, "differ"),
        ({NEW: "nonsense"}, "danm.io/interfaces"),
    ],
)
def test_a_malformed_or_contradicting_annotation_is_refused(
    annotations: dict[str, str], words: str
) -> None:
    assert words in refusal(world().create(pod(**annotations)))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"tenantNetwork": "internl"}], "no such network (did you mean internal?)"),
        ([{"network": "internal"}], "refer to it with tenantNetwork"),
        ([{"tenantNetwork": "theirs"}], "no such network"),
        ([{"clusterNetwork": "internal"}], "no such network"),
        ([T | {"ip": "10.7.0.7"}], "10.7.0.7 is not in 10.0.0.0/24"),
        ([C | {"ip": "10.1.0.1"}], "reserved"),
        ([T | {"ip6": "dynamic"}], "no IPv6 subnet"),
        ([{"network": "local", "mac": "02:00:00:00:00:01"}], "ipvlan shares the address"),
        ([T, C | {"name": "eth0"}], "have the same name: eth0"),
        ([T | {"default_route": True}, C], "no gateway"),
        ([C | {"default_route": True}, C | {"default_route": True}], "both ask default_route"),
        ([C | {"proutes": {"10.9.0.0/16": "10.1.0.9"}}], "no routing table"),
    ],
)
def test_interfaces_that_no_node_can_make_are_refused(entries: list[Any], words: str) -> None:
    assert words in refusal(world().create(pod(*entries)))


def test_a_cluster_network_of_others_is_refused() -> None:
    verdict = world().create(pod(C, namespace="red"))
    assert "namespace red is not among its AllowedTenants" in refusal(verdict)


def test_every_bad_interface_is_told() -> None:
    verdict = world().create(pod({"tenantNetwork": "a"}, T, {"clusterNetwork": "b"}))
    assert [found.message.partition(":")[0] for found in verdict.invalid] == [
        "interface 0 on TenantNetwork/blue/a",
        "interface 2 on ClusterNetwork/b",
    ]
    assert codes(verdict) == [("InterfacesInvalid", f"metadata.annotations[{OLD}]")] * 2


@pytest.mark.parametrize(
    "manifest",
    [
        pod(),
        pod(**{OLD: "[]"}),
        pod(**{NPWG: "[]"}),
        core_manifest("Pod", "web-0", "blue"),
        core_manifest("Pod", "web-0", "blue", annotations=None),
        pod({"tenantNetwork": "none"}) | {"spec": {"hostNetwork": True}},
        pod({"tenantNetwork": "none"}, namespace="kube-system"),
        pod({"tenantNetwork": "none"}, namespace="danmpy"),
    ],
)
def test_pods_that_are_none_of_ours_pass(manifest: dict[str, Any]) -> None:
    asked = world()
    verdict = asked.create(manifest)
    assert (verdict.allowed, verdict.warnings, asked.questions) == (True, (), [])


def test_only_new_pods_are_judged() -> None:
    broken = pod({"tenantNetwork": "none"})
    assert world().update(broken, broken).allowed
    assert world().delete(broken).allowed


@pytest.mark.parametrize(
    "network",
    [
        network_manifest("TenantNetwork", "net", "blue", network_type="ipvlan"),
        network_manifest("TenantNetwork", "net", "blue", network_type="flannel", network_id="f"),
        network_manifest("DanmNet", "net", "blue", network_type="flannel"),
        network_manifest("DanmNet", "net", "blue", network_type="bridge"),
        network_manifest("DanmNet", "net", "blue", network_type="sriov", device_pool="a/b"),
        network_manifest("DanmNet", "net", "blue", network_type="macvlan", device_pool="a/b"),
    ],
)
def test_what_only_a_node_knows_is_not_judged(network: dict[str, Any]) -> None:
    reference = "tenantNetwork" if network["kind"] == "TenantNetwork" else "network"
    assert world(network).create(pod({reference: "net"})).allowed


def test_a_network_that_the_cache_has_not_heard_of_counts() -> None:
    fresh = World(live=NETWORKS)
    assert fresh.create(pod(T, C)).allowed
    assert fresh.questions == ["api", "api"]


def test_a_network_that_has_just_been_opened_to_the_namespace_counts() -> None:
    class Late(World):
        def network(self, network: Any) -> dict[str, Any]:
            body = json.loads(json.dumps(STORAGE))
            del body["spec"]["AllowedTenants"]
            return dict(body)

    assert Late(cached=NETWORKS).create(pod(C, namespace="red")).allowed


def test_while_the_api_server_cannot_be_asked_a_pod_passes_with_a_warning() -> None:
    verdict = World(live=None).create(pod(T))
    assert verdict.allowed
    assert "TenantNetwork/blue/internal cannot be used now: api: no answer" in verdict.warnings[0]


def test_a_network_that_breaks_a_rule_may_be_corrected_before_the_pod_starts() -> None:
    broken = network_manifest("TenantNetwork", "broken", "blue", cidr="x")
    verdict = world(broken).create(pod({"tenantNetwork": "broken"}))
    assert verdict.allowed
    assert "TenantNetwork/blue/broken cannot be used now" in verdict.warnings[0]
    verdict = world(broken).create(pod({"tenantNetwork": "broken"}, {"tenantNetwork": "none"}))
    assert "no such network" in refusal(verdict)
    assert World(live=(broken,)).create(pod({"tenantNetwork": "broken"})).allowed


def test_a_pod_that_names_very_many_networks_costs_few_questions() -> None:
    asked = world()
    entries = [{"tenantNetwork": f"none-{n}", "name": f"n{n}"} for n in range(1000)]
    verdict = asked.create(pod(*entries))
    assert len(verdict.invalid) == len(asked.questions) == 8


def test_a_static_pod_is_only_warned_about() -> None:
    verdict = world().create(pod({"tenantNetwork": "none"}, **{
        "kubernetes.io/config.mirror": "0123"
    }))  # fmt: skip
    assert verdict.allowed
    assert "no such network" in verdict.warnings[0]


def test_refusals_can_be_switched_to_warnings() -> None:
    warned = world(settings=AdmissionSettings(deny_pods=False))
    verdict = warned.create(pod({"tenantNetwork": "none"}))
    assert verdict.allowed
    assert "no such network" in verdict.warnings[0]
    assert not warned.create(config_manifest()).allowed, "the switch is for pods alone"


def test_the_naming_scheme_of_the_nodes_counts() -> None:
    net = network_manifest("TenantNetwork", "a", "blue", container_prefix="ext")
    entries = [T, {"tenantNetwork": "a"}, {"tenantNetwork": "a"}]
    assert world(net).create(pod(*entries)).allowed
    legacy = world(net, settings=AdmissionSettings(pods=PodRules(naming_scheme="legacy")))
    assert "the same name: ext" in refusal(legacy.create(pod(*entries)))


def test_a_pod_without_a_name_is_judged_in_the_namespace_of_the_request() -> None:
    unnamed = pod({"tenantNetwork": "none"})
    unnamed["metadata"] |= {"generateName": "web-", "namespace": ""}
    del unnamed["metadata"]["name"]
    review = review_of("CREATE", unnamed)
    review["request"]["namespace"] = "blue"
    verdict = world().admission.judge(parse_review(json.dumps(review).encode()))
    assert "TenantNetwork/blue/none" in refusal(verdict)


@given(st.text() | st.lists(st.dictionaries(
    st.sampled_from(["network", "tenantNetwork", "clusterNetwork", "ip", "name", "proutes", "x"]),
    st.sampled_from(["internal", "storage", "local", "dynamic", "none", "", "10.0.0.5", 5, None]),
    max_size=3,
), max_size=3).map(json.dumps))  # fmt: skip
def test_no_annotation_breaks_the_judge(text: str) -> None:
    verdict = world().create(pod(**{OLD: text}))
    codes(verdict)


def nad(name: str, namespace: str = "blue", **config: Any) -> dict[str, Any]:
    text = json.dumps({"cniVersion": "1.0.0", "type": "macvlan", "master": "ens4"} | config)
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"config": text},
    }


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({NPWG: "macvlan-conf"}, "none of NetworkAttachmentDefinition/blue/macvlan-conf"),
        ({NPWG: "red/other"}, "NetworkAttachmentDefinition/red/other: there is no such network"),
        ({NPWG: "A"}, f"[{NPWG}][0]: 'A' is no name"),
        ({NPWG: '[{"name": "a", "ips": []}]'}, f"[{NPWG}][0].ips: the list is empty"),
        ({"v1.multus-cni.io/default-network": "a,b"}, "it names 2 networks"),
        ({"cni": "a,"}, "annotations[cni][1]: there is no name"),
        ({"networks": '{"ports": []}'}, "networks.ports: the list is empty"),
        ({"networks": "none"}, "none of TenantNetwork/blue/none"),
        ({NPWG: "a", "cni": "b"}, "ask for different interfaces"),
    ],
)
def test_a_pod_that_only_another_plugin_may_understand_is_warned_about(
    annotations: dict[str, str], words: str
) -> None:
    """Its node refuses it, if it is danmpy that attaches it."""
    verdict = world().create(pod(**annotations))
    assert verdict.allowed
    assert words in " ".join(verdict.warnings)


@pytest.mark.parametrize(
    "annotations",
    [
        {NPWG: ""},
        {NPWG: "[]"},
        {NPWG: "net-a,net-a@data0"},
        {NPWG: "internal,local"},
        {NPWG: '[{"name": "internal", "ips": ["10.0.0.7"]}]'},
        {"cni": "a,b"},
        {"cni": ""},
        {"networks": "internal,storage"},
        {"networks": '{"ports": [{"attach_to_network": "internal"}]}'},
    ],
)
def test_other_dialects_pass_without_a_word_when_a_node_can_attach_them(
    annotations: dict[str, str],
) -> None:
    assert world(nad("net-a")).create(pod(**annotations)) == Verdict()


def test_beside_our_annotation_a_contradiction_is_refused() -> None:
    assert "not merged" in refusal(world().create(pod(T, **{NPWG: "storage"})))


def test_a_nad_that_the_cache_has_not_heard_of_counts() -> None:
    fresh = World(live=(nad("net-a"),))
    assert fresh.create(pod(**{NPWG: "net-a"})) == Verdict()
    assert fresh.questions


def test_the_rules_of_the_cluster_count() -> None:
    rules = PodRules(dialects=DialectRules(namespace_isolation=True))
    closed = world(nad("x", "red"), settings=AdmissionSettings(pods=rules))
    assert "npwg.namespace_isolation" in closed.create(pod(**{NPWG: "red/x"})).warnings[0]
    assert world(nad("x", "red")).create(pod(**{NPWG: "red/x"})) == Verdict()


@given(
    st.sampled_from([NPWG, "v1.multus-cni.io/default-network", "cni", "networks"]),
    written(["name", "namespace", "ports", "attach_to_network", "attributes"]),
)
def test_no_annotation_of_any_dialect_breaks_the_judge(key: str, text: str) -> None:
    assert world(nad("a")).create(pod(**{key: text})).allowed

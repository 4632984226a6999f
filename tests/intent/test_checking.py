from __future__ import annotations

import json
from typing import Any

import pytest

from danmpy.intent.checking import check_documents
from danmpy.intent.documents import read_documents
from danmpy.intent.values import Problem
from support.manifests import core_manifest, documents, network_manifest

INTERNAL = network_manifest("TenantNetwork", "internal", "blue")


def pod(*entries: Any, name: str = "web") -> dict[str, Any]:
    annotations = {"danm.k8s.io/interfaces": json.dumps(entries)}
    return core_manifest("Pod", name, "blue", annotations=annotations)


def check(*bodies: Any) -> tuple[Problem, ...]:
    return check_documents(documents(*bodies))


def test_good_manifests_have_no_problem() -> None:
    assert check(INTERNAL, pod({"tenantNetwork": "internal"})) == ()


def test_problems_come_in_the_order_of_the_manifests() -> None:
    bad = pod({"tenantNetwork": "internal", "ip": "x"})
    found = check(bad, INTERNAL, network_manifest(cidr="x"), {"kind": "Nothing"})
    assert [(p.where, p.code) for p in found] == [
        ("f.yaml:1", "InterfacesInvalid"),
        ("f.yaml:3", "SubnetInvalid"),
        ("f.yaml:4", "KindUnknown"),
    ]


def test_a_network_that_is_not_there_is_told_with_the_nearest() -> None:
    (problem,) = check(INTERNAL, pod({"tenantNetwork": "interna"}))
    assert problem.code == "NetworkUnknown"
    assert "interface 0: TenantNetwork/blue/interna is not among" in problem.message
    assert problem.hint == "did you mean TenantNetwork/blue/internal?"


def test_networks_of_other_namespaces_are_not_told() -> None:
    (problem,) = check(network_manifest("TenantNetwork", "a", "red"), pod({"tenantNetwork": "a"}))
    assert "red" not in problem.hint


def test_without_any_network_the_networks_are_elsewhere() -> None:
    assert check(pod({"tenantNetwork": "anything"})) == ()


def test_a_refused_network_is_told_once() -> None:
    bad = network_manifest("TenantNetwork", "internal", "blue", cidr="x")
    assert [p.code for p in check(bad, pod({"tenantNetwork": "internal"}))] == ["SubnetInvalid"]


def test_a_namespace_that_may_not_attach_is_told() -> None:
    shared = network_manifest(name="shared", more={"AllowedTenants": ["red"]})
    assert [p.code for p in check(shared, pod({"clusterNetwork": "shared"}))] == [
        "TenantNotAllowed"
    ]


@pytest.mark.parametrize("twice", [pod({"ip": "x"}), pod()])
def test_a_second_pod_of_one_name_is_not_judged(twice: dict[str, Any]) -> None:
    assert [p.code for p in check(pod(), twice)] == ["ObjectTwice"]


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"])
def test_a_workload_is_judged_by_the_pods_it_would_make(kind: str) -> None:
    made = pod({"tenantNetwork": "interna"})
    template = {"template": {"metadata": {"annotations": made["metadata"]["annotations"]}}}
    spec = {"jobTemplate": {"spec": template}} if kind == "CronJob" else template
    metadata = {"name": "web", "namespace": "blue"}
    workload = {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}
    (problem,) = check(INTERNAL, workload, pod({"tenantNetwork": "internal"}))
    assert (problem.subject, problem.code) == (f"{kind}/blue/web", "NetworkUnknown")


@pytest.mark.parametrize("spec", [None, 5, {}, {"template": None}, {"template": {"metadata": 5}}])
def test_a_workload_that_asks_for_nothing_is_fine(spec: Any) -> None:
    assert check(core_manifest("Deployment", "web", "blue", spec=spec)) == ()


def test_a_workload_without_a_name_is_told() -> None:
    assert [p.code for p in check({"kind": "Deployment", "metadata": None})] == ["NameMissing"]


def test_manifests_as_danms_users_have_them_are_accepted_as_they_are() -> None:
    text = """
apiVersion: danm.io/v1
kind: TenantConfig
metadata: {name: profiles}
hostDevices:
- {name: ens4, vniType: vlan, vniRange: "1000-2000,2500"}
- {name: ens5, vniType: vxlan, vniRange: 2000-3000}
- {name: vendor.example/vf_pool}
networkIds: {flannel: flannel}
---
apiVersion: danm.k8s.io/v1
kind: TenantNetwork
metadata: {name: data, namespace: vnf, creationTimestamp: null}
spec:
  NetworkID: data
  Options:
    host_device: ens5
    container_prefix: eth0
    rt_tables: 200
    cidr: 10.240.1.0/24
    allocation_pool: {start: 10.240.1.100, end: 10.240.1.200}
    allocation_pool_v6: {}
    net6: 2001:db8:85a3::8a2e:0:0/80
    routes: {10.50.0.0/16: 10.240.1.1}
    routes6: {"2001:db8:ffff::/48": "2001:db8:85a3::8a2e:0:1"}
---
apiVersion: danm.k8s.io/v1
kind: TenantNetwork
metadata: {name: management, namespace: vnf}
spec: {NetworkID: i_know_better, NetworkType: flannel}
---
apiVersion: danm.k8s.io/v1
kind: DanmNet
metadata: {name: fast, namespace: vnf}
spec:
  NetworkID: fast
  NetworkType: sriov
  Options: {device_pool: vendor.example/vf_pool, vlan: 250, container_prefix: first_path}
---
apiVersion: danm.k8s.io/v1
kind: ClusterNetwork
metadata: {name: default}
spec: {NetworkID: flannel, NetworkType: flannel, AllowedTenants: [vnf]}
"""
    found = read_documents(text.encode(), "f.yaml")
    assert not isinstance(found, Problem)
    asked = pod({"tenantNetwork": "data", "proutes": {"10.1.0.0/16": "10.240.1.1"}})
    asked["metadata"]["namespace"] = "vnf"
    assert check_documents((*found, *documents(asked))) == ()


NAD = {
    "apiVersion": "k8s.cni.cncf.io/v1",
    "kind": "NetworkAttachmentDefinition",
    "metadata": {"name": "net-a", "namespace": "blue"},
    "spec": {"config": '{"cniVersion": "1.0.0", "type": "macvlan", "master": "ens4"}'},
}


def other_pod(**annotations: str) -> dict[str, Any]:
    words = {"npwg": "k8s.v1.cni.cncf.io/networks", "cni": "cni", "networks": "networks"}
    keyed = {words[word]: text for word, text in annotations.items()}
    return core_manifest("Pod", "web", "blue", annotations=keyed)


@pytest.mark.parametrize(
    "annotations",
    [
        {"npwg": "net-a,internal"},
        {"npwg": ""},
        {"cni": "flannel"},
        {"cni": "", "networks": "internal"},
        {"networks": '{"ports": [{"attach_to_network": "internal"}]}'},
    ],
)
def test_pods_of_other_dialects_find_their_networks_too(annotations: dict[str, str]) -> None:
    assert check(INTERNAL, NAD, other_pod(**annotations)) == ()


def test_a_pod_of_another_dialect_is_told_of_every_network_that_it_could_have_meant() -> None:
    (problem,) = check(INTERNAL, NAD, other_pod(npwg="net-a,net-b"))
    assert (problem.code, problem.hint) == (
        "NetworkUnknown", "add one of them, or correct the name",
    )  # fmt: skip
    assert problem.message == (
        "interface 2: NetworkAttachmentDefinition/blue/net-b or TenantNetwork/blue/net-b or "
        "DanmNet/blue/net-b or ClusterNetwork/net-b is not among these manifests"
    )


@pytest.mark.parametrize("annotations", [{"npwg": "A"}, {"cni": "@"}, {"networks": "{"}])
def test_a_mistake_in_any_dialect_is_told(annotations: dict[str, str]) -> None:
    (problem,) = check(INTERNAL, other_pod(**annotations))
    assert problem.code == "InterfacesInvalid"

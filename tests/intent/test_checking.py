from __future__ import annotations

import json
from typing import Any

import pytest

from danmpy.intent.checking import check_documents
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

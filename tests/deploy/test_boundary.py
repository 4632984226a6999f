"""The component node-boundary: a node's token is good for its own node alone."""

from __future__ import annotations

import time
from typing import Any

import pytest

from support.apiclient import named
from support.apiserver import ApiServer
from support.deploying import DEPLOY, NAMESPACE, documents, find, overlay
from support.requirements import Requirement, skip_for

POLICIES = "admissionregistration.k8s.io/v1"
ACCOUNT = "danmpy-node"
MERGE = "application/merge-patch+json"


def policy() -> dict[str, Any]:
    manifests = documents((DEPLOY / "components/node-boundary/policy.yaml").read_text())
    return find(manifests, "ValidatingAdmissionPolicy", "danmpy-node-boundary")


def test_it_means_the_account_of_the_node_daemon_and_all_that_this_may_write() -> None:
    spec = policy()["spec"]
    (condition,) = spec["matchConditions"]
    assert f"'system:serviceaccount:{NAMESPACE}:{ACCOUNT}'" in condition["expression"]
    meant = {
        (group, resource)
        for rule in spec["matchConstraints"]["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    written = {
        (group, resource)
        for rule in find(overlay("cluster"), "ClusterRole", ACCOUNT)["rules"]
        if set(rule["verbs"]) - {"get", "list", "watch"}
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    # An event says who wrote it and is of no consequence.
    assert meant == written - {("", "events")}


@pytest.fixture
def bounded(apiserver: ApiServer) -> ApiServer:
    """A server where the policy is in force, with two nodes that have a daemon and a pod each."""
    if not apiserver.serves(POLICIES, "ValidatingAdmissionPolicy"):
        skip_for(Requirement(name="a server with ValidatingAdmissionPolicy", met=lambda: False))
    wanted = {
        *("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    }
    for manifest in overlay("cluster", "node-boundary"):
        if manifest["kind"] in wanted:
            apiserver.apply(manifest)
    apiserver.make_namespace("blue")
    for node in ("node-a", "node-b"):
        apiserver.create({"apiVersion": "v1", "kind": "Node"} | named(node))
        apiserver.create(pod(f"daemon-{node}", NAMESPACE, node, ACCOUNT))
        apiserver.create(pod(f"web-{node}", "blue", node))
    deadline = time.monotonic() + 30
    while answer(apiserver, "PATCH", "/api/v1/nodes/node-b/status", ANNOTATION)[0] == 200:
        assert time.monotonic() < deadline, "the policy is not in force"
        time.sleep(0.2)
    return apiserver


def pod(name: str, namespace: str, node: str, account: str = "") -> dict[str, Any]:
    spec: dict[str, Any] = {"nodeName": node, "containers": [{"name": "a", "image": "a"}]}
    if account:
        spec["serviceAccountName"] = account
    return {"apiVersion": "v1", "kind": "Pod", "spec": spec} | named(name, namespace)


ANNOTATION = {"metadata": {"annotations": {"a": "b"}}}
ENDPOINTS = "/apis/danm.k8s.io/v1/namespaces/blue/danmeps"


def endpoint(name: str, node: str) -> dict[str, Any]:
    metadata = named(name, "blue", {"danm.k8s.io/node": node})
    return {"apiVersion": "danm.k8s.io/v1", "kind": "DanmEp", "spec": {}} | metadata


def answer(
    server: ApiServer, method: str, path: str, body: object = None, *, bound: bool = True
) -> tuple[int, Any]:
    """What the daemon of node-a hears; not `bound`: with a token that names no pod."""
    where = "daemon-node-a" if bound else None
    token = server.service_account_token(NAMESPACE, ACCOUNT, where)
    kind = MERGE if method == "PATCH" else "application/json"
    return server.request(method, path, body, token=token, content_type=kind)


def test_a_node_writes_the_status_of_itself_and_of_no_other_node(bounded: ApiServer) -> None:
    assert answer(bounded, "PATCH", "/api/v1/nodes/node-a/status", ANNOTATION)[0] == 200
    status, refusal = answer(bounded, "PATCH", "/api/v1/nodes/node-b/status", ANNOTATION)
    assert status == 422
    assert "its own Node alone" in refusal["message"]


def test_a_node_writes_the_status_of_its_own_pods_alone(bounded: ApiServer) -> None:
    pods = "/api/v1/namespaces/blue/pods"
    assert answer(bounded, "PATCH", f"{pods}/web-node-a/status", ANNOTATION)[0] == 200
    assert answer(bounded, "PATCH", f"{pods}/web-node-b/status", ANNOTATION)[0] == 422


def test_a_node_makes_changes_and_takes_its_own_mirrors_alone(bounded: ApiServer) -> None:
    assert answer(bounded, "POST", ENDPOINTS, endpoint("own", "node-a"))[0] == 201
    assert answer(bounded, "POST", ENDPOINTS, endpoint("forged", "node-b"))[0] == 422
    bounded.create(endpoint("other", "node-b"))
    steal = {"metadata": {"labels": {"danm.k8s.io/node": "node-a"}}}
    assert answer(bounded, "PATCH", f"{ENDPOINTS}/other", steal)[0] == 422
    give = {"metadata": {"labels": {"danm.k8s.io/node": "node-b"}}}
    assert answer(bounded, "PATCH", f"{ENDPOINTS}/own", give)[0] == 422
    assert answer(bounded, "DELETE", f"{ENDPOINTS}/other")[0] == 422
    assert answer(bounded, "DELETE", f"{ENDPOINTS}/own")[0] == 200


def test_a_token_without_a_node_writes_nothing(bounded: ApiServer) -> None:
    path = "/api/v1/nodes/node-a/status"
    status, refusal = answer(bounded, "PATCH", path, ANNOTATION, bound=False)
    assert status == 422
    assert "does not say on which node" in refusal["message"]


def test_others_are_not_meant(bounded: ApiServer) -> None:
    bounded.create(endpoint("by-hand", "node-b"))
    bounded.delete("DanmEp", "by-hand", "blue")

"""RBAC with the real authorizer: what each process may do with its own token, and what not.

The table is what the processes need; everything else that matters is in it as denied. A handful is
done for real as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from support.apiclient import named
from support.apiserver import ApiServer
from support.deploying import NAMESPACE, overlay, rights

NODE, CONTROLLER, MIGRATE = "danmpy-node", "danmpy-controller", "danmpy-migrate"
DANM = "danm.k8s.io"
NETWORKS = ("tenantnetworks", "clusternetworks", "danmnets")
READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to the authorizer; the fields are those of SelfSubjectAccessReview."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def attributes(self) -> Mapping[str, str]:
        """As the server wants them."""
        resource, _, subresource = self.resource.partition("/")
        return {
            "verb": self.verb,
            "group": self.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": self.namespace,
            "name": self.name,
        }

    def __str__(self) -> str:
        place = "/".join(filter(None, (self.namespace, self.name)))
        return f"{self.verb} {self.resource} {place}".strip()


def asks(
    verbs: tuple[str, ...], *resources: str, group: str = "", namespace: str = "", name: str = ""
) -> list[Ask]:
    return [Ask(verb, each, group, namespace, name) for each in resources for verb in verbs]


LEASES = "coordination.k8s.io"
HOOKS = "admissionregistration.k8s.io"

MAY: Mapping[str, list[Ask]] = {
    NODE: [
        *asks(READ, *NETWORKS, "tenantconfigs", group=DANM),
        *asks(READ, "network-attachment-definitions", group="k8s.cni.cncf.io"),
        *asks(("get",), "ipamclaims", group="k8s.cni.cncf.io"),
        *asks(READ, "nodes", "pods"),
        *asks(("patch",), "nodes/status", "pods/status"),
        *asks((*READ, "create", "patch", "delete"), "danmeps", group=DANM),
        *asks(("create", "patch"), "events"),
    ],
    CONTROLLER: [
        *asks((*READ, "patch"), *NETWORKS, group=DANM),
        *asks(("patch",), *(f"{each}/status" for each in NETWORKS), group=DANM),
        *asks(READ, "tenantconfigs", group=DANM),
        *asks(("list", "watch"), "nodes"),
        *asks(("get", "list"), "pods"),
        *asks(READ, "network-attachment-definitions", group="k8s.cni.cncf.io"),
        *asks(("get", "list"), "ipamclaims", group="k8s.cni.cncf.io"),
        *asks(("patch",), "ipamclaims/status", group="k8s.cni.cncf.io"),
        *asks(("create",), "leases", group=LEASES, namespace=NAMESPACE),
        *asks(
            ("get", "update"),
            "leases",
            group=LEASES,
            namespace=NAMESPACE,
            name="danmpy-controller",
        ),
        *asks(("create",), "secrets", namespace=NAMESPACE),
        *asks(("get", "update"), "secrets", namespace=NAMESPACE, name="danmpy-webhook-tls"),
        *asks(("get", "patch"), "validatingwebhookconfigurations", group=HOOKS, name="danmpy"),
    ],
    MIGRATE: [],
}

ESCALATION = [
    *asks(("create", "update", "patch", "bind", "escalate"), "clusterroles",
          group="rbac.authorization.k8s.io"),
    *asks(("create", "update", "patch"), "clusterrolebindings", "rolebindings",
          group="rbac.authorization.k8s.io"),
    *asks(("create",), "serviceaccounts/token", "pods/exec", "pods/attach"),
    *asks(("impersonate",), "users", "groups", "serviceaccounts"),
    *asks(("create", "update", "patch"), "daemonsets", "deployments", group="apps"),
    *asks(("create", "update", "delete"), "mutatingwebhookconfigurations", group=HOOKS),
    *asks(WRITE, "customresourcedefinitions", group="apiextensions.k8s.io"),
    *asks((*READ, *WRITE), "secrets", namespace="kube-system"),
    *asks(("list", "watch"), "secrets", namespace=NAMESPACE),
    *asks(("get",), "secrets", namespace=NAMESPACE, name="danmpy-database-controller"),
    *asks(("get",), "secrets", namespace=NAMESPACE, name="danmpy-database-migration"),
    *asks((*READ, *WRITE), "configmaps", namespace=NAMESPACE),
]  # fmt: skip
"""With any of these a process could give itself more, or read what is not its own."""

MAY_NOT: Mapping[str, list[Ask]] = {
    NODE: [
        *ESCALATION,
        *asks(WRITE, *NETWORKS, "tenantconfigs", group=DANM),
        *asks(("update", "patch"), *(f"{each}/status" for each in NETWORKS), group=DANM),
        *asks(WRITE, "nodes", "pods", "namespaces"),
        *asks(("update",), "nodes/status", "pods/status"),
        *asks(("create",), "pods/eviction", "pods/binding"),
        *asks(("list", "watch", *WRITE), "ipamclaims", group="k8s.cni.cncf.io"),
        *asks(("update", "patch"), "ipamclaims/status", group="k8s.cni.cncf.io"),
        *asks(("update", "deletecollection"), "danmeps", group=DANM),
        *asks((*READ, "update", "delete"), "events"),
        *asks((*READ, *WRITE), "leases", group=LEASES, namespace=NAMESPACE),
        *asks((*READ, *WRITE), "secrets", namespace=NAMESPACE),
        *asks((*READ, *WRITE), "validatingwebhookconfigurations", group=HOOKS),
    ],
    CONTROLLER: [
        *ESCALATION,
        *asks(("create", "update", "delete", "deletecollection"), *NETWORKS, group=DANM),
        *asks(("update",), *(f"{each}/status" for each in NETWORKS), group=DANM),
        *asks(WRITE, "tenantconfigs", group=DANM),
        *asks(WRITE, "danmeps", group=DANM),
        *asks(WRITE, "nodes", "pods", "namespaces"),
        *asks(("watch",), "pods"),
        *asks(("watch", *WRITE), "ipamclaims", group="k8s.cni.cncf.io"),
        *asks(WRITE, "network-attachment-definitions", group="k8s.cni.cncf.io"),
        *asks(("update", "patch"), "nodes/status", "pods/status"),
        *asks((*READ, *WRITE), "events"),
        *asks(("create",), "leases", group=LEASES, namespace="kube-system"),
        *asks(("get", "update"), "leases", group=LEASES, namespace=NAMESPACE, name="another"),
        *asks(("delete", "list", "patch"), "leases", group=LEASES, namespace=NAMESPACE),
        *asks(("get", "update"), "secrets", namespace="other", name="danmpy-webhook-tls"),
        *asks(("delete", "patch"), "secrets", namespace=NAMESPACE, name="danmpy-webhook-tls"),
        *asks(("get", "patch"), "validatingwebhookconfigurations", group=HOOKS, name="another"),
        *asks(("create", "delete"), "validatingwebhookconfigurations", group=HOOKS, name="danmpy"),
    ],
    MIGRATE: [
        *ESCALATION,
        *asks(READ, *NETWORKS, "tenantconfigs", "danmeps", group=DANM),
        *asks(READ, "nodes", "pods", "namespaces", "events"),
    ],
}


@pytest.fixture(scope="module")
def granted(session_apiserver: ApiServer) -> Iterator[ApiServer]:
    """The server with the accounts, roles and bindings of the cluster overlay."""
    server = session_apiserver.start()
    before = server.snapshot()
    try:
        for manifest in overlay("cluster"):
            group = manifest["apiVersion"].partition("/")[0]
            if group == "rbac.authorization.k8s.io" or manifest["kind"] in {
                "Namespace",
                "ServiceAccount",
            }:
                server.apply(manifest)
        yield server
    finally:
        server.restore(before)


def token(server: ApiServer, account: str) -> str:
    return server.service_account_token(NAMESPACE, account)


def wrongly_answered(
    server: ApiServer, account: str, questions: list[Ask], allowed: bool
) -> set[str]:
    bearer = token(server, account)
    wrong = set()
    for each in questions:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": dict(each.attributes)},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        status, answer = server.request("POST", path, review, token=bearer)
        assert status == 201, answer
        if answer["status"]["allowed"] is not allowed:
            wrong.add(str(each))
    return wrong


@pytest.mark.parametrize("account", [NODE, CONTROLLER, MIGRATE])
def test_a_process_may_do_what_it_needs(granted: ApiServer, account: str) -> None:
    assert wrongly_answered(granted, account, MAY[account], allowed=True) == set()


@pytest.mark.parametrize("account", [NODE, CONTROLLER, MIGRATE])
def test_a_process_may_not_do_what_it_does_not_need(granted: ApiServer, account: str) -> None:
    assert wrongly_answered(granted, account, MAY_NOT[account], allowed=False) == set()


@pytest.mark.parametrize("account", [NODE, CONTROLLER, MIGRATE])
def test_the_table_holds_every_rule(account: str) -> None:
    """A right that is granted and not in the table would be one that nobody needs."""
    granted_ = {
        (group, resource, verb, name)
        for rule in rights(overlay("cluster"), account)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }
    assert granted_ == {(each.group, each.resource, each.verb, each.name) for each in MAY[account]}


# Done for real

MERGE = "application/merge-patch+json"
POD: Mapping[str, Any] = {"containers": [{"name": "a", "image": "a"}], "nodeName": "node-a"}


def status_of(server: ApiServer, account: str, method: str, path: str, body: object = None) -> int:
    kind = MERGE if method == "PATCH" else "application/json"
    return server.request(method, path, body, token=token(server, account), content_type=kind)[0]


@pytest.fixture
def objects(granted: ApiServer) -> Iterator[ApiServer]:
    """A tenant's network, a pod on a node, and the objects of the controller."""
    before = granted.snapshot()
    try:
        granted.make_namespace("blue")
        granted.create({"apiVersion": "v1", "kind": "Node"} | named("node-a"))
        granted.create({"apiVersion": "v1", "kind": "Pod", "spec": POD} | named("web", "blue"))
        for kind, where in (("TenantNetwork", "blue"), ("ClusterNetwork", "")):
            granted.create(
                {
                    "apiVersion": "danm.k8s.io/v1",
                    "kind": kind,
                    "spec": {"NetworkID": "internal", "NetworkType": "macvlan", "Options": {}},
                }
                | named("internal", where)
            )
        yield granted
    finally:
        granted.restore(before)


TENANT_NETWORK = "/apis/danm.k8s.io/v1/namespaces/blue/tenantnetworks/internal"
ENDPOINTS = "/apis/danm.k8s.io/v1/namespaces/blue/danmeps"
WEB = "/api/v1/namespaces/blue/pods/web"


def test_a_node_reads_networks_and_cannot_change_them(objects: ApiServer) -> None:
    assert status_of(objects, NODE, "GET", TENANT_NETWORK) == 200
    finalizer = {"metadata": {"finalizers": ["danm.k8s.io/network"]}}
    assert status_of(objects, NODE, "PATCH", TENANT_NETWORK, finalizer) == 403
    assert status_of(objects, NODE, "PATCH", f"{TENANT_NETWORK}/status", {"status": {}}) == 403
    assert status_of(objects, NODE, "DELETE", TENANT_NETWORK) == 403


def test_a_node_writes_annotations_through_the_status_alone(objects: ApiServer) -> None:
    annotation = {"metadata": {"annotations": {"danm.k8s.io/observed-vteps": "{}"}}}
    for path in (WEB, "/api/v1/nodes/node-a"):
        assert status_of(objects, NODE, "PATCH", f"{path}/status", annotation) == 200
        stored = objects.request("GET", path)[1]
        assert stored["metadata"]["annotations"] == annotation["metadata"]["annotations"]
        assert status_of(objects, NODE, "PATCH", path, annotation) == 403


def test_a_node_makes_and_takes_mirrors(objects: ApiServer) -> None:
    body = {
        "apiVersion": "danm.k8s.io/v1",
        "kind": "DanmEp",
        "metadata": {"name": "ep", "labels": {"danm.k8s.io/node": "node-a"}},
        "spec": {"NetworkName": "internal"},
    }
    assert status_of(objects, NODE, "POST", ENDPOINTS, body) == 201
    label = {"metadata": {"labels": {"app": "web"}}}
    assert status_of(objects, NODE, "PATCH", f"{ENDPOINTS}/ep", label) == 200
    assert status_of(objects, CONTROLLER, "DELETE", f"{ENDPOINTS}/ep") == 403
    assert status_of(objects, NODE, "DELETE", f"{ENDPOINTS}/ep") == 200
    assert status_of(objects, NODE, "DELETE", ENDPOINTS) == 403


def test_the_controller_finalizes_and_reports_but_does_not_delete(objects: ApiServer) -> None:
    finalizer = {"metadata": {"finalizers": ["danm.k8s.io/network"]}}
    assert status_of(objects, CONTROLLER, "PATCH", TENANT_NETWORK, finalizer) == 200
    status = {"status": {"conditions": []}}
    assert status_of(objects, CONTROLLER, "PATCH", f"{TENANT_NETWORK}/status", status) == 200
    assert status_of(objects, CONTROLLER, "DELETE", TENANT_NETWORK) == 403


def test_the_controller_keeps_its_certificate_and_reads_no_other_secret(
    objects: ApiServer,
) -> None:
    secrets = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    database = named("danmpy-database-migration", NAMESPACE)
    objects.create({"apiVersion": "v1", "kind": "Secret"} | database)
    own = {"apiVersion": "v1", "kind": "Secret"} | named("danmpy-webhook-tls", NAMESPACE)
    assert status_of(objects, CONTROLLER, "POST", secrets, own) == 201
    assert status_of(objects, CONTROLLER, "GET", f"{secrets}/danmpy-webhook-tls") == 200
    assert status_of(objects, CONTROLLER, "PUT", f"{secrets}/danmpy-webhook-tls", own) == 200
    assert status_of(objects, CONTROLLER, "GET", f"{secrets}/danmpy-database-migration") == 403
    assert status_of(objects, CONTROLLER, "GET", secrets) == 403
    assert status_of(objects, NODE, "GET", f"{secrets}/danmpy-webhook-tls") == 403


def test_the_controller_makes_its_lease_and_takes_no_other(objects: ApiServer) -> None:
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {}}
    own = lease | named("danmpy-controller", NAMESPACE)
    assert status_of(objects, CONTROLLER, "POST", leases, own) == 201
    found = objects.request("GET", f"{leases}/danmpy-controller")[1]
    found["spec"] = {"holderIdentity": "me"}
    assert status_of(objects, CONTROLLER, "PUT", f"{leases}/danmpy-controller", found) == 200
    objects.create(lease | named("another", NAMESPACE))
    assert status_of(objects, CONTROLLER, "PUT", f"{leases}/another", found) == 403
    assert status_of(objects, NODE, "GET", f"{leases}/danmpy-controller") == 403


def test_the_migration_may_ask_for_nothing(objects: ApiServer) -> None:
    for path in (TENANT_NETWORK, WEB, "/api/v1/nodes"):
        assert status_of(objects, MIGRATE, "GET", path) == 403

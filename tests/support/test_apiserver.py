"""The stand-in for a cluster: it serves, survives being killed, knows who asks, and ends clean."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.apiclient import STRANGER, RefusedError, named
from support.apiserver import ApiServer, ApiServers
from support.manifests import config_manifest, core_manifest, network_manifest
from support.netns import Namespaces, make_fabric, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

OURS = {"TenantNetwork", "ClusterNetwork", "DanmNet", "TenantConfig", "DanmEp"}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "none"}
    return core_manifest("Pod", name, "default", spec={"containers": [container], **spec})


def test_it_serves_our_kinds(apiserver: ApiServer) -> None:
    assert apiserver.server_version.startswith("v1.")
    assert apiserver.serves("v1", "Pod")
    assert not apiserver.serves("v1", "DanmEp")
    assert not apiserver.serves("example.com/v1")
    assert all(apiserver.serves("danm.k8s.io/v1", kind) for kind in OURS)
    assert all(apiserver.list(kind) == [] for kind in OURS)


def test_objects_are_applied_read_patched_and_deleted(apiserver: ApiServer) -> None:
    wanted = network_manifest("DanmNet", "blue", "default", host_device="ens4")
    first = apiserver.apply(wanted)
    wanted["spec"]["Options"]["mtu"] = 1400
    second = apiserver.apply(wanted)
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert second["metadata"]["generation"] == 2
    assert apiserver.patch_status("DanmNet", "blue", {"device": "x.7"})["status"]["device"] == "x.7"
    apiserver.patch("DanmNet", "blue", {"metadata": {"labels": {"a": "b"}}})
    (listed,) = apiserver.list("DanmNet", labels="a=b")
    assert listed == apiserver.get("DanmNet", "blue")
    assert listed["spec"] == wanted["spec"]
    apiserver.delete("DanmNet", "blue")
    apiserver.delete("DanmNet", "blue")
    assert apiserver.get("DanmNet", "blue") is None


def test_what_the_server_refuses_is_an_error_with_its_words(apiserver: ApiServer) -> None:
    with pytest.raises(RefusedError, match="vlan") as caught:
        apiserver.apply(network_manifest(vlan=5000))
    assert (caught.value.status, caught.value.reason) == (422, "Invalid")
    with pytest.raises(LookupError, match="no kind Submarine"):
        apiserver.get("Submarine", "x")


def test_a_kind_of_two_groups_can_be_named_whole(apiserver: ApiServer) -> None:
    assert apiserver.path("v1", "Event", "e", "n") == "/api/v1/namespaces/n/events/e"
    assert apiserver.list("Event") == []
    assert apiserver.list("v1/Event", "default") == []


def test_killed_and_started_again_it_has_the_same_address_and_data(apiserver: ApiServer) -> None:
    url, pid = apiserver.url, apiserver.pid
    stored = apiserver.apply(network_manifest(cidr="10.0.0.0/24"))
    apiserver.kill()
    assert not apiserver.running
    with pytest.raises(OSError, match="refused"):
        apiserver.request("GET", "/readyz")
    apiserver.start()
    assert (apiserver.url, apiserver.running) == (url, True)
    assert apiserver.pid != pid
    assert apiserver.get("ClusterNetwork", "net") == stored


def test_restarted_or_stopped_in_good_order_it_keeps_its_data(apiserver: ApiServer) -> None:
    stored = apiserver.apply(network_manifest(cidr="10.0.0.0/24"))
    apiserver.restart()
    assert apiserver.get("ClusterNetwork", "net") == stored
    apiserver.stop()
    apiserver.start()
    assert apiserver.get("ClusterNetwork", "net") == stored


def test_a_service_account_is_known_and_may_only_what_its_role_says(apiserver: ApiServer) -> None:
    token = apiserver.service_account_token("default", "reader")
    path = apiserver.path("danm.k8s.io/v1", "ClusterNetwork")
    status, answer = apiserver.request("GET", path, token=token)
    assert status == 403
    assert "system:serviceaccount:default:reader" in answer["message"]
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    rule = {"apiGroups": ["danm.k8s.io"], "resources": ["clusternetworks"], "verbs": ["list"]}
    apiserver.apply(rbac | {"kind": "ClusterRole", "rules": [rule]} | named("reader"))
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"}
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": "default"}
    binding = {"kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]}
    apiserver.apply(rbac | binding | named("reader"))
    wait_until(lambda: apiserver.request("GET", path, token=token)[0] == 200, what="allowed")
    assert apiserver.request("POST", path, network_manifest(), token=token)[0] == 403


def test_a_token_bound_to_a_pod_tells_the_server_which_one(apiserver: ApiServer) -> None:
    apiserver.create({"apiVersion": "v1", "kind": "ServiceAccount"} | named("agent", "default"))
    apiserver.create(pod("daemon", serviceAccountName="agent", nodeName="node1"))
    token = apiserver.service_account_token("default", "agent", "daemon")
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "metadata": {},
        "spec": {"token": token},
    }
    path = apiserver.path("authentication.k8s.io/v1", "TokenReview")
    user = apiserver.request("POST", path, review)[1]["status"]["user"]
    assert user["username"] == "system:serviceaccount:default:agent"
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["daemon"]


def test_strangers_are_denied_and_unknown_tokens_are_nobody(apiserver: ApiServer) -> None:
    assert apiserver.request("GET", "/api/v1/pods", user=STRANGER)[0] == 403
    assert apiserver.request("GET", "/api/v1/pods", token="made-up")[0] == 401


def test_a_kubeconfig_holds_all_that_a_client_needs(apiserver: ApiServer) -> None:
    import yaml

    path = apiserver.kubeconfig(STRANGER, "blue")
    assert path.stat().st_mode & 0o077 == 0
    body = yaml.safe_load(path.read_text())
    (cluster,), (user,), (context,) = body["clusters"], body["users"], body["contexts"]
    assert cluster["cluster"]["server"] == apiserver.url
    assert "BEGIN CERTIFICATE" in apiserver.ca_file.read_text()
    assert user["user"]["token"] == apiserver.tokens[STRANGER]
    assert context["context"] == {"cluster": "tests", "user": STRANGER, "namespace": "blue"}
    assert body["current-context"] == context["name"]


def test_restore_takes_away_what_came_and_brings_back_our_kinds(apiserver: ApiServer) -> None:
    before = apiserver.snapshot()
    apiserver.make_namespace("blue", team="blue")
    held = network_manifest("TenantNetwork", "t", "blue")
    held["metadata"]["finalizers"] = ["danm.k8s.io/held"]
    apiserver.apply(held)
    apiserver.apply(config_manifest({"name": "ens4"}))
    apiserver.create(pod("p"))
    apiserver.delete("TenantNetwork", "t", "blue")
    apiserver.delete("Namespace", "blue")
    apiserver.delete("CustomResourceDefinition", "danmeps.danm.k8s.io")
    assert apiserver.get("TenantNetwork", "t", "blue") is not None
    apiserver.restore(before)
    assert apiserver.snapshot() >= before
    assert apiserver.list("TenantNetwork") == []
    assert apiserver.list("Pod") == []
    assert apiserver.list("DanmEp") == []
    assert apiserver.get("Namespace", "blue") is None


@contextlib.contextmanager
def webhook(apiserver: ApiServer, answer: dict[str, Any]) -> Iterator[tuple[int, list[Any]]]:
    """An HTTPS server on loopback that gives every review this answer: port and what it got."""
    got: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append(review)
            review["response"] = {"uid": review["request"]["uid"], **answer}
            body = json.dumps(review).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not into the test's output."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(apiserver.ca_file, apiserver.ca_file.with_suffix(".key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_admission_webhooks_on_loopback_are_called(apiserver: ApiServer) -> None:
    import base64

    refusal = {"allowed": False, "status": {"message": "not on a Tuesday", "code": 422}}
    with webhook(apiserver, refusal) as (port, got):
        bundle = base64.b64encode(apiserver.ca_file.read_bytes()).decode()
        rule = {
            "apiGroups": ["danm.k8s.io"],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["clusternetworks"],
        }
        hook = {
            "name": "networks.danm.k8s.io",
            "clientConfig": {"url": f"https://127.0.0.1:{port}/review", "caBundle": bundle},
            "rules": [rule],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        api_version = "admissionregistration.k8s.io/v1"
        kind = "ValidatingWebhookConfiguration"
        apiserver.apply({"apiVersion": api_version, "kind": kind, "webhooks": [hook]} | named("w"))

        def refused() -> bool:
            path = f"{apiserver.path('danm.k8s.io/v1', 'ClusterNetwork')}?dryRun=All"
            status, answer = apiserver.request("POST", path, network_manifest())
            return status == 422 and "not on a Tuesday" in answer["message"]

        wait_until(refused, what="the webhook is asked")
        assert got[-1]["request"]["dryRun"] is True


def test_a_server_in_a_namespace_is_reached_from_its_neighbours(
    namespaces: Namespaces, apiservers: ApiServers
) -> None:
    fabric = make_fabric(namespaces, nodes=1)
    fabric.switch.batch("address add 192.0.2.200/24 dev fabric")
    server = apiservers.make(
        crds=False, bind_address="0.0.0.0", addresses=["192.0.2.200"], netns=fabric.switch
    )
    assert server.url == f"https://192.0.2.200:{server.port}"
    program = (
        "import ssl, sys, urllib.request as u\n"
        "url, ca, token = sys.argv[1:]\n"
        "ask = u.Request(url + '/readyz', headers={'Authorization': 'Bearer ' + token})\n"
        "print(u.urlopen(ask, context=ssl.create_default_context(cafile=ca)).read().decode())\n"
    )
    import sys

    asked = (server.url, str(server.ca_file), server.tokens["admin"])
    said = fabric.nodes[0].namespace.run(sys.executable, "-I", "-c", program, *asked)
    assert said.stdout.strip() == "ok"
    server.kill()
    server.start()
    assert server.request("GET", "/readyz") == (200, "ok")


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(apiservers: ApiServers) -> None:
    server = apiservers.make(crds=False)
    server.kill()
    (server.folder / "tokens.csv").write_text("one column\n")
    with pytest.raises(pytest.fail.Exception, match=r"(?s)kube-apiserver ended.*columns"):
        server.start()
    assert not server.running

"""Requests against a real API server; and against answers that only a broken one gives."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from danmpy.errors import ClusterError
from danmpy.kube import client as client_module
from danmpy.kube.client import KubeClient, open_client
from danmpy.kube.errors import (
    ClashError,
    DeniedError,
    MissingError,
    RefusedError,
    UnreachableError,
)
from danmpy.kube.resources import CLUSTER_NETWORKS, NODES, PODS, SECRETS, TENANT_NETWORKS
from support.apiserver import ApiServer, free_port
from support.following import network
from support.interpose import Interposer

pytestmark = pytest.mark.system

SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}


def test_an_object_goes_its_whole_way(client: KubeClient) -> None:
    made = client.create(CLUSTER_NETWORKS, network("a"))
    assert client.get(CLUSTER_NETWORKS, "a") == made
    made["spec"]["NetworkID"] = "other"
    replaced = client.replace(CLUSTER_NETWORKS, "a", made)
    assert replaced["spec"]["NetworkID"] == "other"
    assert replaced["metadata"]["generation"] == 2
    patched = client.patch(
        CLUSTER_NETWORKS, "a", {"metadata": {"labels": {"x": "y"}}, "spec": {"NetworkType": "vlan"}}
    )
    assert patched["metadata"]["labels"] == {"x": "y"}
    assert patched["spec"]["NetworkID"] == "other"
    client.delete(CLUSTER_NETWORKS, "a")
    with pytest.raises(MissingError) as raised:
        client.get(CLUSTER_NETWORKS, "a")
    assert raised.value.subject == "ClusterNetwork/a"
    client.delete(CLUSTER_NETWORKS, "a")


def test_a_status_is_written_apart(apiserver: ApiServer, client: KubeClient) -> None:
    apiserver.make_namespace("blue")
    body = network("a") | {"kind": "TenantNetwork"}
    client.create(TENANT_NETWORKS, body, "blue")
    status = {"status": {"device": "vx700"}, "spec": {"NetworkID": "never"}}
    changed = client.patch(TENANT_NETWORKS, "a", status, "blue", "status")
    assert changed["status"]["device"] == "vx700"
    assert changed["spec"]["NetworkID"] == "a"


def test_what_exists_or_changed_meanwhile_clashes(client: KubeClient) -> None:
    made = client.create(CLUSTER_NETWORKS, network("a"))
    with pytest.raises(ClashError):
        client.create(CLUSTER_NETWORKS, network("a"))
    client.patch(CLUSTER_NETWORKS, "a", {"spec": {"NetworkID": "new"}})
    with pytest.raises(ClashError):
        client.replace(CLUSTER_NETWORKS, "a", made)
    version = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}
    with pytest.raises(ClashError):
        client.patch(CLUSTER_NETWORKS, "a", version | {"spec": {"NetworkID": "x"}})


def test_a_patch_for_another_uid_changes_nothing(client: KubeClient) -> None:
    client.create(CLUSTER_NETWORKS, network("a"))
    with pytest.raises(ClashError):
        client.patch(CLUSTER_NETWORKS, "a", {"metadata": {"uid": "another"}})
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
    made = client.create(PODS, pod, "default")
    patch = {"metadata": {"uid": "another", "annotations": {"x": "y"}}}
    with pytest.raises(ClashError):
        client.patch(PODS, "web", patch, "default", "status")
    patch["metadata"]["uid"] = made["metadata"]["uid"]
    changed = client.patch(PODS, "web", patch, "default", "status")
    assert changed["metadata"]["annotations"] == {"x": "y"}


def test_a_deletion_by_uid_leaves_another_object_of_the_name_alone(client: KubeClient) -> None:
    made = client.create(CLUSTER_NETWORKS, network("a"))
    client.delete(CLUSTER_NETWORKS, "a", uid="of-one-that-was-before")
    assert client.get(CLUSTER_NETWORKS, "a")
    client.delete(CLUSTER_NETWORKS, "a", uid=made["metadata"]["uid"])
    client.delete(CLUSTER_NETWORKS, "a", uid=made["metadata"]["uid"])
    with pytest.raises(MissingError):
        client.get(CLUSTER_NETWORKS, "a")


def test_what_the_schema_forbids_is_refused_with_the_servers_words(client: KubeClient) -> None:
    with pytest.raises(RefusedError, match="NetworkID"):
        client.create(CLUSTER_NETWORKS, network("a") | {"spec": {"NetworkID": 7}})


def test_rights_that_lack_are_named(apiserver: ApiServer) -> None:
    client = open_client(apiserver.kubeconfig("stranger"))
    with pytest.raises(DeniedError, match="stranger") as raised:
        client.get(SECRETS, "s", "default")
    assert (raised.value.status, raised.value.subject) == (403, "Secret/default/s")


def test_a_service_account_is_let_in(apiserver: ApiServer) -> None:
    token = apiserver.service_account_token("default", "reader")
    client = open_client(apiserver.kubeconfig(token=token))
    assert client.server_version() >= (1, 20)
    with pytest.raises(DeniedError, match="system:serviceaccount:default:reader"):
        client.list(NODES)


def test_lists_are_whole_typed_and_selected(
    apiserver: ApiServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAGE", 2)
    for name in ("blue", "red"):
        apiserver.make_namespace(name)
        for number in range(3):
            metadata = {"name": f"s{number}", "labels": {"number": str(number)}}
            client.create(SECRETS, SECRET | {"metadata": metadata}, name)
    blue = client.list(SECRETS, namespace="blue")
    assert [item["metadata"]["name"] for item in blue.items] == ["s0", "s1", "s2"]
    assert {(item["kind"], item["apiVersion"]) for item in blue.items} == {("Secret", "v1")}
    assert int(blue.resource_version) > 0
    ones = client.list(SECRETS, label_selector="number=1").items
    assert [item["metadata"]["namespace"] for item in ones] == ["blue", "red"]
    named = client.list(SECRETS, field_selector="metadata.name=s2").items
    assert len(named) == 2


def test_the_server_says_what_it_serves(client: KubeClient) -> None:
    assert client.serves("v1")
    assert client.serves("danm.k8s.io/v1")
    assert not client.serves("danm.k8s.io/v2")
    assert not client.serves("nobody.example.com/v1")
    assert client.server_version() >= (1, 20)


def test_many_threads_share_a_client(client: KubeClient) -> None:
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for each in range(5):
                client.create(CLUSTER_NETWORKS, network(f"n{number}-{each}"))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(client.list(CLUSTER_NETWORKS).items) == 100


def test_every_call_fails_soon_when_nobody_listens(tmp_path: Path, apiserver: ApiServer) -> None:
    config = yaml.safe_load(apiserver.kubeconfig().read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    client = open_client(path)
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="refused") as raised:
        client.get(PODS, "web-0", "blue")
    assert raised.value.subject == "Pod/blue/web-0"
    assert "0x" not in raised.value.message
    with pytest.raises(UnreachableError):
        client.create(CLUSTER_NETWORKS, network("a"))
    assert time.monotonic() - began < 1


def test_a_silent_server_is_waited_for_no_longer_than_was_asked(
    through: KubeClient, interposer: Interposer
) -> None:
    through.list(NODES)
    interposer.hush()
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="time"):
        through.get(NODES, "node-a", timeout_s=0.5)
    assert time.monotonic() - began < 1


def test_idle_connections_that_the_restart_broke_are_not_used_again(
    apiserver: ApiServer, client: KubeClient
) -> None:
    client.create(CLUSTER_NETWORKS, network("a"))
    apiserver.kill()
    apiserver.start()
    client.create(CLUSTER_NETWORKS, network("b"))
    client.patch(CLUSTER_NETWORKS, "b", {"metadata": {"labels": {"x": "y"}}})


def test_a_connection_that_breaks_in_the_middle_is_an_error_of_ours(
    through: KubeClient, interposer: Interposer
) -> None:
    interposer.hush()
    threading.Timer(0.3, interposer.cut).start()
    with pytest.raises(UnreachableError):
        through.get(NODES, "node-a")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as proxies and broken servers do."""

    answers: tuple[tuple[int, bytes], ...] = ()
    asked = 0

    def do_GET(self) -> None:
        status, body = self.answers[min(type(self).asked, len(self.answers) - 1)]
        type(self).asked += 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def pretender(tmp_path: Path) -> Iterator[tuple[type[Handler], KubeClient]]:
    handler = type("Pretender", (Handler,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    path = tmp_path / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {"server": f"http://127.0.0.1:{server.server_port}"},
                    }
                ],
                "contexts": [{"name": "x", "context": {"cluster": "c"}}],
                "current-context": "x",
            }
        )
    )
    client = open_client(path)
    try:
        yield handler, client
    finally:
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[1]", b"", b"\xff\xfe", b'{"a":'])
def test_an_answer_that_is_no_object_is_an_error_of_ours(
    pretender: tuple[type[Handler], KubeClient], body: bytes
) -> None:
    handler, client = pretender
    handler.answers = ((200, body),)
    with pytest.raises(UnreachableError, match="no JSON object"):
        client.get(NODES, "a")


@pytest.mark.parametrize("status", [301, 401, 403, 404, 418, 502])
def test_a_proxys_page_keeps_its_status(
    pretender: tuple[type[Handler], KubeClient], status: int
) -> None:
    handler, client = pretender
    handler.answers = ((status, b"<html>no</html>"),)
    with pytest.raises(ClusterError, match=str(status)):
        client.get(NODES, "a")


def test_credentials_that_stay_refused_are_read_anew_at_most_once_a_second(
    pretender: tuple[type[Handler], KubeClient],
) -> None:
    handler, client = pretender
    handler.answers = ((401, b"{}"),)
    client._loaded = float("-inf")
    for _ in range(5):
        with pytest.raises(DeniedError):
            client.get(NODES, "a")
    assert handler.asked == 6

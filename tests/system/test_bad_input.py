"""The mistakes that people make: each gets a clear error, and nothing is lost or half done."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time

import pytest

from support.netns import run, wait_until
from support.node import Node, Nodes, cluster_network, pod_manifest
from support.processes import clean_environment, danmpy_argv

pytestmark = pytest.mark.system

GOOD = {"clusterNetwork": "net", "ip": "dynamic"}


@pytest.fixture
def ready(node: Node) -> Node:
    """A started node with one IPv4 network of six addresses."""
    node.write(
        "network.yaml",
        cluster_network(
            "net", host_device="ens4", vxlan=900, cidr="10.90.0.0/29", container_prefix="net"
        ),
    )
    node.start()
    return node


def raw_pod(annotation: str) -> dict[str, object]:
    """A pod whose annotation is just this text."""
    manifest = pod_manifest("blue", "web-0")
    manifest["metadata"]["annotations"] = {"danm.k8s.io/interfaces": annotation}
    return manifest


BAD = {
    "malformed JSON": ("[{", "web-0", "JSON"),
    "unknown network": (
        '[{"clusterNetwork": "nett", "ip": "dynamic"}]',
        "nett",
        "did you mean net",
    ),
    "unknown key": ('[{"clusterNetwork": "net", "ipp": "dynamic"}]', "ipp", "ip"),
    "two references": ('[{"clusterNetwork": "net", "network": "net"}]', "network", "one"),
    "duplicate names": (
        '[{"clusterNetwork": "net", "name": "a"}, {"clusterNetwork": "net", "name": "a"}]',
        "same name",
        "a",
    ),
    "a name of 16 bytes": ('[{"clusterNetwork": "net", "name": "a234567890123456"}]', "15", "name"),
    "static out of range": (
        '[{"clusterNetwork": "net", "ip": "10.91.0.1"}]',
        "10.91.0.1",
        "10.90.0.0/29",
    ),
    "IPv6 on a v4-only network": (
        '[{"clusterNetwork": "net", "ip6": "dynamic"}]',
        "no IPv6 subnet",
        "net6",
    ),
}


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.replace(" ", "-"))
def test_a_bad_declaration_is_refused_by_name_and_nothing_is_touched(
    ready: Node, nodes: Nodes, case: str
) -> None:
    annotation, *words = BAD[case]
    pod = nodes.pod("web-0")
    ready.write("pod.yaml", raw_pod(annotation))
    answer = ready.add(pod)
    assert not answer.ok
    assert answer.document["code"] == 7
    assert "Pod/blue/web-0" in answer.error
    for word in words:
        assert word in answer.error
    assert answer.stderr == ""
    assert list(pod.netns.links()) == ["lo"]
    assert ready.leases() == []
    assert not list((ready.state_dir / "attachments").glob("*.json"))
    ready.write("pod.yaml", pod_manifest("blue", "web-0", GOOD))
    assert ready.add(pod).ok


def test_a_taken_static_address_names_its_holder(ready: Node, nodes: Nodes) -> None:
    wanted = {"clusterNetwork": "net", "ip": "10.90.0.3"}
    first, second = nodes.pod("first"), nodes.pod("second")
    ready.write("pods.yaml", *(pod_manifest("blue", p.name, wanted) for p in (first, second)))
    assert ready.add(first).ok
    answer = ready.add(second)
    assert not answer.ok
    assert "Pod/blue/first" in answer.error
    assert list(second.netns.links()) == ["lo"]


def test_a_pod_that_nobody_declared_is_refused_and_never_an_empty_success(
    ready: Node, nodes: Nodes
) -> None:
    answer = ready.add(nodes.pod("ghost"))
    assert not answer.ok
    assert answer.document["code"] == 11
    assert "Pod/blue/ghost" in answer.error


def test_a_namespace_that_is_gone_is_code_8_and_leaves_no_lease(ready: Node, nodes: Nodes) -> None:
    pod = nodes.pod("web-0")
    ready.write("pod.yaml", pod_manifest("blue", "web-0", GOOD))
    run("ip", "netns", "delete", pod.netns.name)
    answer = ready.add(pod)
    assert answer.document["code"] == 8
    assert str(pod.netns.path) in answer.error
    assert ready.leases() == []


def test_the_nodes_own_namespace_is_no_pod(ready: Node, nodes: Nodes) -> None:
    pod = nodes.pod("web-0")
    ready.write("pod.yaml", pod_manifest("blue", "web-0", GOOD))
    before = set(ready.namespace.links())
    answer = ready.call("ADD", pod, environ={"CNI_NETNS": str(ready.namespace.path)})
    assert not answer.ok
    assert set(ready.namespace.links()) == before
    assert ready.leases() == []


def test_a_file_with_broken_yaml_is_named_with_its_line_and_affects_nothing_else(
    ready: Node, nodes: Nodes
) -> None:
    (ready.intent / "broken.yaml").write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: [}\n")
    pod = nodes.pod("web-0")
    ready.write("pod.yaml", pod_manifest("blue", "web-0", GOOD))
    assert ready.add(pod).ok
    done = ready.danmpy("check", "-f", str(ready.intent), check=False)
    assert done.returncode == 2
    assert "broken.yaml:3" in done.stdout + done.stderr
    assert "vx900" in ready.namespace.links()


def test_a_network_that_becomes_wrong_keeps_its_device_and_refuses_new_pods(
    ready: Node, nodes: Nodes
) -> None:
    wait_until(lambda: "vx900" in ready.namespace.links(), what="vx900")
    ready.write(
        "network.yaml",
        cluster_network("net", host_device="ens4", vxlan=900, cidr="10.90.0.0/99"),
        cluster_network("other", host_device="ens4", vxlan=901),
    )
    wait_until(lambda: "vx901" in ready.namespace.links(), what="vx901")
    assert "vx900" in ready.namespace.links()
    pod = nodes.pod("web-0")
    ready.write("pod.yaml", pod_manifest("blue", "web-0", GOOD))
    answer = ready.add(pod)
    assert not answer.ok
    assert "10.90.0.0/99" in answer.error


def test_a_locked_database_is_code_11_within_five_seconds_and_heals(
    ready: Node, nodes: Nodes
) -> None:
    pod = nodes.pod("web-0")
    ready.write("pod.yaml", pod_manifest("blue", "web-0", GOOD))
    other = sqlite3.connect(ready.state_dir / "danmpy.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        began = time.monotonic()
        answer = ready.add(pod)
        assert time.monotonic() - began < 6
        assert answer.document["code"] == 11
        assert "danmpy.db" in answer.error
        assert list(pod.netns.links()) == ["lo"]
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert ready.add(pod).ok


def test_a_del_with_the_database_locked_succeeds_and_is_replayed(ready: Node, nodes: Nodes) -> None:
    pod = nodes.pod("web-0")
    ready.write("pod.yaml", pod_manifest("blue", "web-0", GOOD))
    assert ready.add(pod).ok
    other = sqlite3.connect(ready.state_dir / "danmpy.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert ready.delete(pod).ok
        assert list(pod.netns.links()) == ["lo"]
    finally:
        other.execute("ROLLBACK")
        other.close()
    wait_until(lambda: ready.leases() == [], seconds=15, what="the release is replayed")


def test_a_database_that_vanished_is_code_11_and_status_says_so(ready: Node, nodes: Nodes) -> None:
    pod = nodes.pod("web-0")
    ready.write("pod.yaml", pod_manifest("blue", "web-0", GOOD))
    ready.daemon.stop()
    shutil.rmtree(ready.state_dir)
    environment = {"DANMPY_DATABASE_URL": "postgresql+psycopg://nobody:secret@127.0.0.1:1/none"}
    ready.environment.update(environment)
    ready.start(wait=False)
    ready.daemon.wait_for(ready.socket.exists, what="socket", seconds=30)
    status = ready.call("STATUS")
    assert status.document["code"] == 50
    began = time.monotonic()
    answer = ready.add(pod)
    assert time.monotonic() - began < 6
    assert answer.document["code"] == 11
    assert "secret" not in answer.stdout + ready.daemon.output


def test_a_newer_schema_is_refused_with_a_clear_word(ready: Node) -> None:
    ready.daemon.stop()
    database = sqlite3.connect(ready.state_dir / "danmpy.db")
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()
    database.close()
    ready.start(wait=False)
    assert ready.daemon.wait() == 3
    assert "9999" in ready.daemon.output.splitlines()[-1]
    assert "newer" in ready.daemon.output


def test_a_socket_that_nobody_listens_on_is_code_11_and_50_for_status(
    node: Node, nodes: Nodes
) -> None:
    answer = node.call("ADD", nodes.pod("web-0"))
    assert answer.document["code"] == 11
    assert str(node.socket) in answer.error
    assert node.call("STATUS").document["code"] == 50
    assert node.call("VERSION").ok


def test_a_second_daemon_on_one_state_folder_is_refused(ready: Node) -> None:
    done = ready.danmpy("node", check=False)
    assert done.returncode == 3
    assert "another danmpy node daemon" in done.stderr
    assert ready.serves()


def test_an_unknown_setting_names_the_nearest_one(ready: Node) -> None:
    config = ready.folder / "config.yaml"
    config.write_text("intnet: {path: /x}\n")
    import subprocess

    done = subprocess.run(
        danmpy_argv("networks", "--config", str(config)),
        capture_output=True,
        text=True,
        env=clean_environment(),
    )
    assert done.returncode == 2
    assert "config.yaml:1" in done.stderr
    assert "intent" in done.stderr


def test_errors_are_one_json_object_and_nothing_else(ready: Node) -> None:
    answer = ready.call("ADD", environ={"CNI_COMMAND": "NONSENSE"})
    assert answer.document["code"] == 4
    assert set(json.loads(answer.stdout)) >= {"cniVersion", "code", "msg"}
    assert answer.stdout.count("\n") == 1

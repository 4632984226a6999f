"""`danmpy audit diff`: database, manifests and kernel compared, on real ones."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import threading
import time

import pytest

from danmpy.api.specs import AddressAsk, AddressMode, NetworkKey, NetworkKind
from danmpy.bootstrap.readers import open_intent, open_leases
from danmpy.ipam.values import LeaseOwner, LeaseRequest
from support.console import ORPHANED, SHARED, World
from support.node import Node, Nodes, pod_manifest

DYNAMIC = AddressAsk(mode=AddressMode.DYNAMIC)
KEY = NetworkKey(kind=NetworkKind.CLUSTER, name="shared")


@pytest.fixture
def shared(world: World) -> World:
    world.write("networks.yaml", SHARED)
    world.look()
    return world


def hold(world: World, pod: str, node: str = "node-a") -> None:
    """Lease an address to a pod that may not exist."""
    network = open_intent(world.settings).read().networks[KEY]
    owner = LeaseOwner(namespace="blue", pod=pod, pod_uid="", container_id=f"box-{pod}", node=node)
    open_leases(world.settings).bind(
        owner, [LeaseRequest(interface="eth0", network=network, ip=DYNAMIC)]
    )


def kinds(answer: dict[str, list[dict[str, str]]]) -> list[str]:
    return sorted(item["kind"] for item in answer["items"])


def test_where_all_agree_there_is_nothing_to_say(shared: World) -> None:
    answer = shared.danmpy("audit", "diff")
    assert (answer.code, answer.out, answer.err) == (0, "no differences\n", "")
    data = shared.ask("audit", "diff")
    assert data["items"] == []
    assert data["database_time"]


def test_a_lease_that_no_pod_and_no_interface_stands_behind_is_two_findings(
    shared: World,
) -> None:
    hold(shared, "ghost")
    data = shared.ask("audit", "diff", code=1)
    assert kinds(data) == ["LeaseWithoutInterface", "LeaseWithoutPod"]
    for item in data["items"]:
        assert set(item) == {"kind", "subject", "message", "hint"}
        assert item["subject"] == "Pod/blue/ghost"
        assert item["hint"]


def test_only_this_node_s_leases_are_compared_with_its_kernel(shared: World) -> None:
    shared.write("pod.json", json.dumps(pod_manifest("blue", "far", node="node-b")))
    hold(shared, "far", node="node-b")
    assert shared.ask("audit", "diff")["items"] == []


def test_findings_have_a_table_lines_and_csv(shared: World) -> None:
    hold(shared, "ghost")
    table = shared.danmpy("audit", "diff")
    assert table.code == 1
    assert table.out.splitlines()[0].split() == ["KIND", "SUBJECT", "MESSAGE", "HINT"]
    lines = shared.danmpy("audit", "diff", "-o", "jsonl")
    assert lines.code == 1
    assert {json.loads(line)["subject"] for line in lines.out.splitlines()} == {"Pod/blue/ghost"}
    text = shared.danmpy("audit", "diff", "-o", "csv").out
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["kind"] for row in rows] == ["LeaseWithoutInterface", "LeaseWithoutPod"]


def test_what_is_only_under_way_is_no_difference(shared: World) -> None:
    hold(shared, "leaving")

    def release() -> None:
        time.sleep(0.4)
        open_leases(shared.settings).release("box-leaving")

    ending = threading.Thread(target=release)
    ending.start()
    try:
        assert shared.ask("audit", "diff")["items"] == []
    finally:
        ending.join()


def test_a_device_that_somebody_removed_is_a_difference(shared: World) -> None:
    assert shared.namespace is not None
    shared.namespace.ip("link", "del", "vx900")
    data = shared.ask("audit", "diff", code=1)
    assert set(kinds(data)) == {"DeviceDiffers"}
    assert data["items"][0]["subject"] == "vx900"


def test_a_network_that_this_node_cannot_realise_is_a_difference(shared: World) -> None:
    shared.write("orphaned.yaml", ORPHANED)
    (item,) = shared.ask("audit", "diff", code=1)["items"]
    assert (item["kind"], item["subject"]) == ("NetworkNotReady", "ClusterNetwork/orphaned")
    assert "ens9" in item["message"]


def test_without_a_database_the_rest_is_looked_at_and_the_exit_code_is_3(shared: World) -> None:
    assert shared.namespace is not None
    (shared.folder / "state" / "danmpy.db").unlink()
    answer = shared.danmpy("audit", "diff")
    assert answer.code == 3
    assert answer.out == "no difference in what could be looked at\n"
    assert len(answer.lines) == 1
    assert answer.err.startswith("danmpy: database: ")
    shared.namespace.ip("link", "del", "vx900")
    data = shared.ask("audit", "diff", code=3)
    assert set(kinds(data)) == {"DeviceDiffers"}
    assert data["database_time"] is None
    assert len(data["unread"]) == 1


def test_without_the_folder_no_lease_is_called_an_orphan_of_a_pod(shared: World) -> None:
    hold(shared, "web", node="node-b")
    (shared.intent / "networks.yaml").unlink()
    shared.intent.rmdir()
    answer = shared.danmpy("audit", "diff", "-o", "json")
    assert answer.code == 3
    assert "LeaseWithoutPod" not in kinds(answer.data)
    assert "manifests: " in answer.err


@pytest.mark.system
def test_what_a_person_broke_in_a_pod_is_found_also_while_the_daemon_is_down(
    node: Node, nodes: Nodes
) -> None:
    (node.intent / "networks.yaml").write_text(SHARED)
    manifest = pod_manifest("blue", "web", {"clusterNetwork": "shared", "ip": "dynamic"})
    node.write("pod.json", manifest)
    node.start()
    pod = nodes.pod("web")
    added = node.add(pod)
    assert added.ok, added
    world = World.of(node)
    assert world.ask("audit", "diff")["items"] == []
    node.daemon.kill()
    assert world.ask("audit", "diff")["items"] == []
    (address,) = pod.netns.addresses("eth0")
    pod.netns.ip("address", "del", address, "dev", "eth0")
    assert kinds(world.ask("audit", "diff", code=1)) == ["AddressMissing"]
    pod.netns.ip("link", "del", "eth0")
    assert kinds(world.ask("audit", "diff", code=1)) == ["LinkGone"]


@pytest.mark.system
def test_pods_that_come_and_go_meanwhile_are_no_differences(node: Node, nodes: Nodes) -> None:
    (node.intent / "networks.yaml").write_text(SHARED)
    interface = {"clusterNetwork": "shared", "ip": "dynamic"}
    node.write("pods.yaml", *(pod_manifest("blue", f"web{n}", interface) for n in range(40)))
    node.start()
    world = World.of(node)
    boxes = [nodes.pod(f"web{n}") for n in range(40)]
    stop = threading.Event()
    failed: list[str] = []

    def work() -> None:
        for box in boxes:
            if stop.is_set():
                return
            answers = (node.add(box), node.delete(box))
            failed.extend(answer.error for answer in answers if not answer.ok)

    churning = threading.Thread(target=work)
    churning.start()
    try:
        looked = [world.ask("audit", "diff")["items"] for _ in range(3)]
    finally:
        stop.set()
        churning.join()
    assert looked == [[], [], []]
    assert world.ask("audit", "history")["items"], "pods came and went"
    assert failed == []


def test_an_address_that_two_leases_hold_at_once_is_a_difference(shared: World) -> None:
    for name in ("one", "two"):
        shared.write(f"{name}.json", json.dumps(pod_manifest("blue", name, node="node-b")))
        hold(shared, name, node="node-b")
    path = shared.folder / "state" / "danmpy.db"
    with sqlite3.connect(path) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in names.fetchall():
            database.execute(f"DROP TRIGGER {name}")
        wanted = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE '%UNIQUE%'"
        for (name,) in database.execute(wanted).fetchall():
            database.execute(f"DROP INDEX {name}")
        database.execute("UPDATE lease SET address = (SELECT min(address) FROM lease)")
    database.close()
    assert "HeldTwice" in kinds(shared.ask("audit", "diff", code=1))


def test_a_journal_that_was_altered_is_a_part_that_could_not_be_read(shared: World) -> None:
    folder = shared.folder / "state" / "attachments"
    folder.mkdir()
    record = {
        "container_id": "box",
        "ifname": "eth0",
        "phase": "attached",
        "netns": "/run/netns/none",
        "links": [{"name": "eth0", "network": "ClusterNetwork/shared", "delegate": "{}"}],
    }
    (folder / "box@eth0.json").write_text(json.dumps(record))
    hold(shared, "ghost")
    answer = shared.danmpy("audit", "diff", "-o", "json")
    assert answer.code == 3
    assert any(line.startswith("danmpy: attachments: ") for line in answer.lines)
    assert "LeaseWithoutInterface" not in kinds(answer.data), "nobody looked at interfaces"

"""State folders that are full, read-only or damaged, and daemons that are started twice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.netns import Namespaces, wait_until
from support.node import Node, Nodes, Pod, cluster_network, pod_manifest

pytestmark = pytest.mark.system

WISH = {"clusterNetwork": "ext", "ip": "dynamic"}
PODS = 4


def declare(node: Node) -> None:
    """One network, and pods p0, p1 and so on."""
    node.write(
        "networks.yaml", cluster_network("ext", host_device="ens4", vxlan=900, cidr="172.16.0.0/24")
    )
    for number in range(PODS):
        pod = pod_manifest("blue", f"p{number}", WISH, uid=f"u{number}")
        node.write(f"p{number}.yaml", pod)


class Disk:
    """A small disk on which the state folder of a node lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take all that is left, and more than a file system gives back by itself."""
        with self._filler.open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 4096)
            except OSError:
                pass

    def make_room(self) -> None:
        """Give it back."""
        self._filler.unlink(missing_ok=True)

    def read_only(self, wanted: bool) -> None:
        """As a disk with errors becomes."""
        how = "ro" if wanted else "rw"
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.folder)], check=True)


@pytest.fixture
def disk(node: Node, tmp_path: Path) -> Iterator[Disk]:
    """The node's state folder is on a disk of 256 KiB, its database elsewhere; not started."""
    declare(node)
    node.environment["DANMPY_DATABASE_URL"] = f"sqlite:///{tmp_path}/elsewhere/danmpy.db"
    node.state_dir.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "dt-state", str(node.state_dir)]
    subprocess.run(mount, check=True)
    try:
        yield Disk(node.state_dir)
    finally:
        node.daemon.kill()
        subprocess.run(["umount", "--lazy", str(node.state_dir)], check=True)


@pytest.fixture
def pod(nodes: Nodes) -> Pod:
    return nodes.pod("p0", uid="u0")


def agrees(node: Node) -> None:
    """No address twice, ledger and leases tell the same story, and so does the kernel."""
    for words in (("audit", "diff"), ("audit", "verify")):
        done = node.danmpy(*words)
        assert done.returncode == 0, done.stdout


def test_a_full_disk_refuses_an_add_with_words_and_leaves_nothing(
    node: Node, disk: Disk, pod: Pod
) -> None:
    node.start()
    disk.fill()
    answer = node.add(pod)
    assert not answer.ok
    assert "No space left on device" in answer.document["msg"]
    assert "state_dir" in json.dumps(answer.document)
    assert node.leases() == []
    assert list(pod.netns.links()) == ["lo"]
    disk.make_room()
    assert node.add(pod).ok
    agrees(node)


def test_a_full_disk_does_not_keep_a_pod_from_being_detached(
    node: Node, disk: Disk, pod: Pod
) -> None:
    node.start()
    assert node.add(pod).ok
    disk.fill()
    assert node.delete(pod).ok
    assert node.leases() == []
    agrees(node)


def test_a_release_that_can_be_written_nowhere_is_not_called_done(
    node: Node, disk: Disk, pod: Pod, tmp_path: Path
) -> None:
    """Database away and disk full: DEL fails, is repeated, and the lease ends when it can."""
    node.start()
    assert node.add(pod).ok
    disk.fill()
    away = tmp_path / "away"
    (tmp_path / "elsewhere").rename(away)
    answer = node.delete(pod)
    assert not answer.ok
    assert "No space left on device" in answer.document["msg"]
    away.rename(tmp_path / "elsewhere")
    assert [item["pod"] for item in node.leases()] == ["p0"]
    assert node.delete(pod).ok
    assert node.leases() == []
    disk.make_room()
    agrees(node)


def test_a_daemon_that_dies_on_a_full_disk_knows_afterwards_what_it_had(
    node: Node, disk: Disk, pod: Pod
) -> None:
    node.start()
    assert node.add(pod).ok
    disk.fill()
    node.daemon.process.kill()
    assert node.daemon.wait() == -9
    node.start()
    assert node.check(pod).ok
    disk.make_room()
    assert node.delete(pod).ok
    assert node.leases() == []
    agrees(node)


def test_a_read_only_state_folder_is_told_and_nothing_is_lost(
    node: Node, disk: Disk, pod: Pod
) -> None:
    node.start()
    assert node.add(pod).ok
    node.daemon.stop()  # Linux refuses to make a disk read-only on which a file is open to write
    disk.read_only(True)
    done = node.danmpy("node", check=False)
    assert done.returncode == 3
    assert "Read-only file system" in done.stderr
    assert "state_dir" in done.stderr
    assert [item["pod"] for item in node.leases()] == ["p0"]
    disk.read_only(False)
    node.start()
    assert node.check(pod).ok
    assert node.delete(pod).ok
    assert node.leases() == []
    agrees(node)


def test_a_damaged_record_is_set_aside_and_its_lease_ends_with_its_pod(
    node: Node, pod: Pod, nodes: Nodes
) -> None:
    """The others are as they were; what the damaged one was about, only the runtime knows."""
    declare(node)
    node.start()
    other = nodes.pod("p1", uid="u1")
    assert node.add(pod).ok
    assert node.add(other).ok
    node.daemon.stop()
    (record,) = (node.state_dir / "attachments").glob(f"{pod.container_id}@*.json")
    record.write_bytes(record.read_bytes()[:100])
    node.start()
    assert list((node.state_dir / "attachments").glob("*.damaged"))
    assert "damaged" in node.daemon.output
    assert node.check(other).ok
    assert {item["pod"] for item in node.leases()} == {"p0", "p1"}
    assert node.delete(pod).ok
    assert {item["pod"] for item in node.leases()} == {"p1"}
    assert list(pod.netns.links()) == ["lo"]


# Two daemons by mistake


@pytest.fixture
def twins(
    nodes: Nodes, namespaces: Namespaces, node_database_url: str, tmp_path: Path
) -> tuple[Node, Node]:
    """Two machines whose daemons have one name and one database, each its own state folder."""
    made = []
    for place in ("here", "there"):
        namespace = namespaces.make("node")
        namespace.batch(
            "link add ens4 type veth peer name far4",
            f"address add 192.0.2.{len(made) + 1}/24 dev ens4",
            "link set ens4 up",
            "link set far4 up",
        )
        folder = Nodes(tmp_path / place, namespaces, nodes._daemons)
        node = folder.make(
            "node-a", namespace, intent=tmp_path / "intent", database_url=node_database_url
        )
        made.append(node)
    declare(made[0])
    return made[0], made[1]


def test_two_daemons_of_one_name_do_each_other_no_harm(
    twins: tuple[Node, Node], nodes: Nodes
) -> None:
    first, second = twins
    pods = [nodes.pod(f"p{number}", uid=f"u{number}") for number in range(PODS)]
    first.start()
    second.start()
    for node, pod in ((first, pods[0]), (second, pods[1]), (first, pods[2])):
        answer = node.add(pod)
        assert answer.ok, answer.error
    held = {item["pod"]: item["address"] for item in first.leases()}
    assert len(set(held.values())) == 3
    # All that one of them does by itself, at its worst: a GC that calls nothing valid, a new start.
    assert second.call("GC", config={"cni.dev/valid-attachments": []}).ok
    second.daemon.process.kill()
    assert second.daemon.wait() == -9
    second.start()
    wait_until(second.serves, seconds=10, what="the second one serves")
    left = {item["pod"]: item["address"] for item in first.leases()}
    assert left == {name: held[name] for name in ("p0", "p2")}
    for pod in (pods[0], pods[2]):
        assert first.check(pod).ok
    # What the other one has shows as a difference, so that the mistake is found.
    done = second.danmpy("audit", "diff")
    assert done.returncode == 1
    assert "this node has no such attachment" in done.stdout
    for pod in (pods[0], pods[2]):
        assert first.delete(pod).ok
    agrees(second)

"""The runbook of docs/migration.md, "From Multus", step by step on a node with running pods."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from danmpy.cni.install import CONFLIST_NAME
from danmpy.settings import load
from support.multus import Multus, Sandbox, Wanted
from support.netns import link_names, wait_until
from support.node import Node, Nodes, Pod, pod_manifest
from support.requirements import need

pytestmark = pytest.mark.system

NETWORKS = "k8s.v1.cni.cncf.io/networks"


@pytest.fixture
def site(node: Node, nodes: Nodes, tmp_path: Path) -> Site:
    need("cni-plugins")
    return Site(node, nodes, tmp_path)


class Site:
    """A node on which Multus has run: its configuration, its cache, host-local's files."""

    def __init__(self, node: Node, nodes: Nodes, folder: Path) -> None:
        self.node = node
        self.nodes = nodes
        self.etc = folder / "etc"
        self.etc.mkdir()
        self.leases = folder / "host-local"
        self.multus = Multus(cache=folder / "multus", host=node.namespace)
        self.default = {
            "cniVersion": "0.4.0",
            "name": "pod-network",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "ipam": self.host_local("10.8.0.0/24", routes=[{"dst": "0.0.0.0/0"}]),
                },
                {"type": "tuning", "capabilities": {"mac": True}},
            ],
        }
        self.data = {
            "cniVersion": "0.3.1",
            "name": "data",
            "type": "macvlan",
            "master": "ens4",
            "ipam": self.host_local("10.9.0.0/24"),
        }

    def host_local(self, subnet: str, **more: Any) -> dict[str, Any]:
        return {"type": "host-local", "subnet": subnet, "dataDir": str(self.leases), **more}

    @property
    def leased(self) -> list[str]:
        """The addresses that host-local has given away."""
        return sorted(path.name for path in self.leases.rglob("10.*"))

    def write_multus_conf(self) -> Path:
        """00-multus.conf as its entrypoint makes it."""
        path = self.etc / "00-multus.conf"
        document = {
            "cniVersion": "0.3.1",
            "name": "multus-cni-network",
            "type": "multus",
            "confDir": str(self.node.conf_dir),
            "cniDir": str(self.multus.cache),
            "binDir": "/usr/lib/cni",
            "logLevel": "verbose",
            "readinessindicatorfile": str(self.etc / "ready"),
            "capabilities": {"portMappings": True},
            "delegates": [self.default],
        }
        path.write_text(json.dumps(document))
        return path

    def old_pod(self, name: str) -> tuple[Pod, list[dict[str, Any]]]:
        """A pod that Multus has attached: the default network, and blue/data twice."""
        pod = self.nodes.pod(name, uid=f"u-{name}")
        results = self.multus.attach(self.sandbox_of(pod), *self.wanted)
        pod.result = results[0]  # all that the runtime was told
        return pod, results

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """What each pod gets from Multus."""
        data = Wanted(config=self.data, nad="blue/data")
        return Wanted(config=self.default), data, replace(data, ifname="data0")

    def sandbox_of(self, pod: Pod) -> Sandbox:
        return Sandbox(
            container_id=pod.container_id, netns=str(pod.netns.path), name=pod.name, uid=pod.uid
        )

    def declare(self, name: str) -> None:
        """The manifests as they are in the cluster; nothing in them is changed for danmpy."""
        self.node.write("nads.yaml", nad("data", self.data))
        manifest = pod_manifest("blue", name, uid=f"u-{name}")
        manifest["metadata"]["annotations"] = {NETWORKS: "data,data@data0"}
        self.node.write(f"{name}.yaml", manifest)


def nad(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": "blue"},
        "spec": {"config": json.dumps(config)},
    }


def use(node: Node, settings: Path) -> None:
    """Let the node's daemon and commands read `settings`, besides where the test has its files."""
    node.environment["DANMPY_CONFIG"] = str(settings)
    for key in ("CNI__CONF_DIR", "CNI__BIN_DIRS"):
        node.environment.pop(f"DANMPY_{key}")
    node.environment["DANMPY_INTENT__SOURCE"] = "folder"


def test_the_runbook_takes_a_node_over_with_its_pods(site: Site) -> None:
    node = site.node
    old, results = site.old_pod("old")
    assert site.leased == ["10.8.0.2", "10.9.0.2", "10.9.0.3"]
    site.declare("old")

    # 1. Convert.
    done = node.danmpy(
        "convert", "multus", str(site.write_multus_conf()), "--write-dir", str(node.conf_dir)
    )
    assert done.returncode == 0, done.stdout
    settings = site.etc / "config.yaml"
    settings.write_text(done.stdout)
    loaded = load({"DANMPY_CONFIG": str(settings)})
    assert (loaded.npwg.default_network, loaded.npwg.strict) == ("pod-network", False)
    assert loaded.cni.multus_cache == site.multus.cache
    written = json.loads((node.conf_dir / "pod-network.conflist").read_text())
    assert written == site.default
    use(node, settings)

    # 2. What would be adopted.
    (row,) = node.ask("adopt", "multus", "--dry-run")["items"]
    assert (row["verdict"], row["interfaces"]) == ("would be adopted", ["eth0", "net1", "data0"])

    # 3. Install; Multus's own configuration gives way.
    node.danmpy("install-cni", "--bin-dir", str(node.bin), "--conf-dir", str(node.conf_dir))
    assert min(path.name for path in node.conf_dir.iterdir()) == CONFLIST_NAME

    # 4. Start: adopted before anything is served, and nothing of the cache is touched.
    before = site.multus.files()
    node.start(wait=False)
    wait_until(node.socket.exists, what="the daemon serves")
    assert site.multus.files() == before
    wait_until(
        lambda: "readiness_file" in node.call("STATUS").error, what="only the file is waited for"
    )
    assert node.call("STATUS").document["code"] == 50
    assert node.check(old).ok, node.check(old).error

    # 5. A pod's ADD waits for the readiness file; the DEL of an old one does not.
    new = site.nodes.pod("new", uid="u-new")
    site.declare("new")
    refused = node.add(new)
    assert refused.document["code"] == 11
    assert "readiness_file" in refused.document["msg"]
    (site.etc / "ready").write_text("")
    wait_until(node.serves, what="the node is ready")

    # 6. An old pod goes: everything that Multus made for it is gone.
    assert set(link_names(old.netns)) == {"eth0", "net1", "data0"}
    answer = node.delete(old)
    assert answer.ok, answer.error
    assert link_names(old.netns) == ()
    assert site.leased == []
    assert site.multus.files() == []
    assert results

    # 7. A new pod with the same manifests gets the same interfaces.
    answer = node.add(new)
    assert answer.ok, answer.error
    assert set(link_names(new.netns)) == {"eth0", "net1", "data0"}
    assert [each["name"] for each in answer.document["interfaces"] if each.get("sandbox")] == [
        "eth0"
    ]
    assert len(site.leased) == 3
    assert node.delete(new).ok
    assert site.leased == []


@pytest.fixture
def adopted(site: Site) -> Pod:
    """A pod that Multus attached, on a node whose daemon has adopted it."""
    pod, _ = site.old_pod("old")
    site.declare("old")
    (site.node.conf_dir / "pod-network.conflist").write_text(json.dumps(site.default))
    site.node.environment |= {
        "DANMPY_NPWG__DEFAULT_NETWORK": "pod-network",
        "DANMPY_CNI__MULTUS_CACHE": str(site.multus.cache),
    }
    site.node.start()
    return pod


def test_a_restarted_daemon_finds_its_adopted_pods_and_no_ghosts(site: Site, adopted: Pod) -> None:
    node = site.node
    node.daemon.stop()
    node.start()
    assert node.check(adopted).ok
    assert node.delete(adopted).ok
    node.daemon.stop()
    node.start()  # the cache is read once more, and has nothing of the pod
    assert list((node.state_dir / "attachments").glob("*.json")) == []
    assert (link_names(adopted.netns), site.leased) == ((), [])


def test_a_daemon_that_was_killed_while_it_adopted_finishes_at_its_next_start(
    site: Site, adopted: Pod
) -> None:
    node = site.node
    node.daemon.kill()
    (record,) = (node.state_dir / "attachments").glob("*.json")
    record.rename(record.with_suffix(".json.tmp"))  # as if the rename had not happened
    node.start()
    assert node.delete(adopted).ok
    assert (site.leased, site.multus.files()) == ([], [])


def test_adopting_can_be_given_up_until_the_pod_is_detached(site: Site, adopted: Pod) -> None:
    node = site.node
    node.daemon.stop()
    site.multus.detach(site.sandbox_of(adopted), *site.wanted)
    assert (link_names(adopted.netns), site.leased) == ((), [])
    node.start()  # come again: the pod is in the journal still, and in no cache
    assert len(list((node.state_dir / "attachments").glob("*.json"))) == 1
    assert node.delete(adopted).ok
    assert list((node.state_dir / "attachments").glob("*.json")) == []


def test_the_runtimes_gc_ends_an_adopted_pod_that_it_does_not_know(
    site: Site, adopted: Pod
) -> None:
    node = site.node
    valid = [{"containerID": adopted.container_id, "ifname": "eth0"}]
    assert node.call("GC", config={"cni.dev/valid-attachments": valid}).ok
    assert len(site.leased) == 3
    assert node.call("GC", config={"cni.dev/valid-attachments": []}).ok
    assert (link_names(adopted.netns), site.leased, site.multus.files()) == ((), [], [])


def test_an_adopted_pod_stays_as_it_is_until_its_annotation_changes(
    site: Site, adopted: Pod
) -> None:
    node = site.node
    time.sleep(3)  # the annotations of running pods are looked at every second
    assert set(link_names(adopted.netns)) == {"eth0", "net1", "data0"}
    assert len(site.leased) == 3
    manifest = pod_manifest("blue", "old", uid="u-old")
    manifest["metadata"]["annotations"] = {NETWORKS: "data"}
    node.write("old.yaml", manifest)
    wait_until(
        lambda: set(link_names(adopted.netns)) == {"eth0", "net1"},
        seconds=20,
        what="data0 is gone",
    )
    assert site.leased == ["10.8.0.2", "10.9.0.2"]
    assert node.delete(adopted).ok
    assert (link_names(adopted.netns), site.leased, site.multus.files()) == ((), [], [])


def test_adopting_by_hand_with_the_daemon_stopped(site: Site) -> None:
    pod, _ = site.old_pod("old")
    node = site.node
    words = ("adopt", "multus", "--cache-dir", str(site.multus.cache))
    (row,) = node.ask(*words)["items"]
    assert row["verdict"] == "adopted"
    node.start()
    assert node.danmpy(*words, check=False).returncode == 3
    assert node.delete(pod).ok
    assert (link_names(pod.netns), site.leased, site.multus.files()) == ((), [], [])

"""danmpy in a chain of CNI plugins: the reference plugin bridge before it, tuning behind it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from typing import Any

import pytest

from support.netns import wait_until
from support.node import Node, Nodes, Pod, cluster_network
from support.requirements import CNI_PLUGINS, need

NPWG = "k8s.v1.cni.cncf.io/networks"
DANM = "danm.k8s.io/interfaces"

Result = dict[str, Any]


class Chain:
    """A runtime that walks the list: forward for ADD and CHECK, backward for DEL."""

    def __init__(self, node: Node, pod: Pod) -> None:
        self._node = node
        self._pod = pod
        self._bridge = {
            "type": "bridge",
            "bridge": "cbr0",
            "isGateway": True,
            "isDefaultGateway": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(node.folder / "host-local"),
                "subnet": "10.77.0.0/24",
            },
        }
        self._tuning = {"type": "tuning", "sysctl": {"net.core.somaxconn": "512"}}

    def add(self) -> Result:
        first = self.call("ADD", self._bridge)
        second = self.ours("ADD", first)
        return self.call("ADD", self._tuning, second)

    def check(self, final: Result) -> None:
        # The plugin bridge (1.1.1) looks for all addresses of the result on its own interface.
        if len(final["ips"]) == 1:
            self.call("CHECK", self._bridge, final)
        self.ours("CHECK", final)
        self.call("CHECK", self._tuning, final)

    def delete(self, final: Result) -> None:
        self.call("DEL", self._tuning, final)
        self.ours("DEL", final)
        self.call("DEL", self._bridge, final)

    def ours(self, verb: str, previous: Result | None = None) -> Result:
        prev = {} if previous is None else {"prevResult": previous}
        answer = self._node.call(verb, self._pod, version="1.0.0", config=prev)
        assert answer.ok, answer.error
        return answer.document

    def call(self, verb: str, plugin: Mapping[str, Any], previous: Result | None = None) -> Result:
        pod = self._pod
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod.container_id,
            "CNI_NETNS": str(pod.netns.path),
            "CNI_IFNAME": pod.ifname,
            "CNI_PATH": str(CNI_PLUGINS),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        prev = {} if previous is None else {"prevResult": previous}
        config = {"cniVersion": "1.0.0", "name": "danmpy", **plugin, **prev}
        done = subprocess.run(
            self._node.namespace.argv(str(CNI_PLUGINS / plugin["type"])),
            input=json.dumps(config),
            capture_output=True,
            text=True,
            env=environ,
        )
        assert done.returncode == 0, f"{plugin['type']} {verb}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else {}


def declare(node: Node, pod: Pod, annotations: Mapping[str, str]) -> None:
    node.write("networks.yaml", cluster_network("data", host_device="ens4", **POOL))
    metadata = {"name": pod.name, "namespace": pod.namespace, "annotations": dict(annotations)}
    node.write("pods.yaml", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata})


POOL = {"cidr": "10.20.0.0/24", "gateway": "10.20.0.1"}
ASKS = json.dumps([{"clusterNetwork": "data", "ip": "dynamic"}])
LEADS = json.dumps([{"clusterNetwork": "data", "ip": "dynamic", "default_route": True}])
NAMES = json.dumps([{"name": "data", "default-route": ["10.20.0.1"]}])


@pytest.mark.parametrize(
    ("annotations", "told", "made", "leads"),
    [
        ({}, ["eth0"], set(), "eth0"),
        ({DANM: ASKS}, ["eth0", "eth1"], {"eth1"}, "eth0"),
        ({DANM: LEADS}, ["eth0", "eth1"], {"eth1"}, "eth1"),
        ({NPWG: "data"}, ["eth0"], {"net1"}, "eth0"),
        ({NPWG: NAMES}, ["eth0"], {"net1"}, "net1"),
    ],
    ids=["nothing", "danm", "danm that leads", "working group", "working group that leads"],
)
def test_every_plugin_of_the_chain_finds_its_part_as_it_left_it(
    node: Node,
    nodes: Nodes,
    annotations: Mapping[str, str],
    told: list[str],
    made: set[str],
    leads: str,
) -> None:
    need("cni-plugins")
    pod = nodes.pod("web")
    declare(node, pod, annotations)
    node.start()
    chain = Chain(node, pod)
    final = chain.add()
    assert [link["name"] for link in final["interfaces"] if link.get("sandbox")] == told
    assert set(pod.netns.links()) == {"lo", "eth0", *made}
    defaults = json.loads(pod.netns.ip("-j", "route", "show", "default").stdout)
    assert [route["dev"] for route in defaults] == [leads]
    chain.check(final)
    chain.delete(final)
    assert set(pod.netns.links()) == {"lo"}
    assert node.leases() == []
    node.daemon.stop()


def test_a_plugin_behind_us_may_change_mac_and_mtu_and_a_real_break_is_still_found(
    node: Node, nodes: Nodes
) -> None:
    need("cni-plugins")
    pod = nodes.pod("web")
    declare(node, pod, {DANM: LEADS})
    node.environment["DANMPY_CNI__CHECK_SECONDS"] = "1"
    node.start()
    chain = Chain(node, pod)
    tuning = {"type": "tuning", "mac": "02:00:00:00:00:44", "mtu": 1300}
    made = chain.ours("ADD")
    final = chain.call("ADD", tuning, made)
    link = pod.netns.links()["eth0"]
    assert (link["address"], link["mtu"]) == (tuning["mac"], tuning["mtu"])
    chain.ours("CHECK", final)
    chain.call("CHECK", tuning, final)
    assert node.ask("explain", "blue/web")["problems"] == []
    assert chain.ours("ADD") == made
    assert pod.netns.links()["eth0"]["address"] == tuning["mac"]
    time.sleep(3)
    assert "attachment is broken" not in node.daemon.output
    pod.netns.ip("address", "flush", "dev", "eth0")
    wait_until(lambda: "has lost address" in node.daemon.output, what="a checkup")
    pod.result = final
    assert "interface eth0 has lost address" in node.check(pod, version="1.0.0").error
    chain.call("DEL", tuning, final)
    chain.ours("DEL", final)
    assert node.leases() == []
    node.daemon.stop()

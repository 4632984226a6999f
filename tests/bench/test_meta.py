"""A pod with a default network and three more, through danmpy and by hand.

The floor are the same four reference plugins, one after the other, with the same configurations.
What danmpy does beside them is to be small: reading wishes and definitions, the journal, the
answer. Figures of different machines, or times, say nothing about each other; the bounds are on
what both sides did in one run.
"""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.test_cni_latency import Series, inside_namespace, report, start, timed
from support.netns import Namespaces
from support.node import Node, Nodes, Pod
from support.requirements import CNI_PLUGINS, need
from support.shims import BOTH, make_shim

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

ROUNDS = 60
CROWD, CROWD_ROUNDS = 10, 8
DEFAULT, SECONDARY = "cluster-net", ("red", "green", "blue")

OVERHEAD_MS = 30.0
"""What one pod may take longer than its plugins, one pod at a time."""

CROWD_RATIO = 2.0
"""How many times as long ten pods at once may take."""


def conf(folder: Path, number: int, name: str) -> dict[str, Any]:
    """A macvlan on the NIC with addresses of host-local."""
    return {
        "cniVersion": "1.0.0",
        "name": name,
        "type": "macvlan",
        "master": "ens4",
        "ipam": {
            "type": "host-local",
            "dataDir": str(folder / "host-local"),
            "subnet": f"10.{100 + number}.0.0/16",
        },
    }


@dataclass(frozen=True, slots=True)
class Bench:
    """A node that is the meta-plugin, and the configurations that it delegates."""

    node: Node
    folder: Path
    shims: dict[str, Path]

    def ours(self, kind: str, verb: str, pod: Pod) -> bytes:
        """One call through the shim of this `kind`."""
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod.container_id,
            "CNI_NETNS": str(pod.netns.path),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(CNI_PLUGINS),
            "CNI_ARGS": f"K8S_POD_NAMESPACE={pod.namespace};K8S_POD_NAME={pod.name}",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        return start([str(self.shims[kind])], environ, json.dumps(self.node.config()).encode())

    def by_hand(self, verb: str, pod: Pod) -> None:
        """The four plugins, one after the other; for DEL in reverse."""
        names = [DEFAULT, *SECONDARY]
        order = range(len(names)) if verb == "ADD" else reversed(range(len(names)))
        for number in order:
            environ = {
                "CNI_COMMAND": verb,
                "CNI_CONTAINERID": pod.container_id,
                "CNI_NETNS": str(pod.netns.path),
                "CNI_IFNAME": f"net{number}" if number else "eth0",
                "CNI_PATH": str(CNI_PLUGINS),
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            }
            # Networks of their own, so that neither side finds the other's addresses taken.
            config = conf(self.folder / "by-hand", number, names[number])
            start([str(CNI_PLUGINS / "macvlan")], environ, json.dumps(config).encode())

    def sides(self) -> dict[str, Callable[[str, Pod], object]]:
        """Everybody who makes the same pod."""
        return {
            "by hand": self.by_hand,
            **{kind: functools.partial(self.ours, kind) for kind in BOTH},
        }


@pytest.fixture
def bench(nodes: Nodes, namespaces: Namespaces, tmp_path: Path) -> Iterator[Bench]:
    """A node whose default network is a configuration in its folder, with three definitions."""
    need("cni-plugins")
    namespace = namespaces.make("node")
    namespace.batch(
        "link add ens4 type veth peer name far4",
        "address add 192.0.2.1/24 dev ens4",
        "link set ens4 up",
        "link set far4 up",
    )
    node = nodes.make("node-a", namespace, settings={"DANMPY_NPWG__DEFAULT_NETWORK": DEFAULT})
    (node.conf_dir / "20-default.conf").write_text(json.dumps(conf(tmp_path / "ours", 0, DEFAULT)))
    node.write(
        "networks.yaml",
        *(
            {
                "apiVersion": "k8s.cni.cncf.io/v1",
                "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": name, "namespace": "blue"},
                "spec": {"config": json.dumps(conf(tmp_path / "ours", number, name))},
            }
            for number, name in enumerate(SECONDARY, start=1)
        ),
    )
    node.start()
    yield Bench(
        node=node,
        folder=tmp_path,
        shims={kind: make_shim(kind, tmp_path / kind) for kind in BOTH},
    )
    node.daemon.stop()


def declare(node: Node, pods: Sequence[Pod]) -> None:
    """All `pods` want the three networks beside the default one."""
    annotations = {"k8s.v1.cni.cncf.io/networks": ",".join(SECONDARY)}
    node.write(
        "pods.yaml",
        *(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": pod.name,
                    "namespace": pod.namespace,
                    "annotations": annotations,
                },
            }
            for pod in pods
        ),
    )


def expect_the_same(bench: Bench, pod: Pod) -> None:
    """All sides make the same interfaces: what is measured must be what it is called."""
    for side in bench.sides().values():
        inside_namespace(bench.node.namespace, functools.partial(side, "ADD", pod))
        assert set(pod.netns.links()) == {"lo", "eth0", "net1", "net2", "net3"}
        assert all(pod.netns.addresses(name) for name in ("eth0", "net1", "net2", "net3"))
        inside_namespace(bench.node.namespace, functools.partial(side, "DEL", pod))
        assert set(pod.netns.links()) == {"lo"}


def test_one_pod_after_the_other_costs_little_more_than_its_plugins(
    bench: Bench, nodes: Nodes
) -> None:
    pod = nodes.pod("seq")
    declare(bench.node, [pod])
    for _ in range(3):
        expect_the_same(bench, pod)
    series = {
        (who, verb): Series(f"{who} {verb}, default network and 3 definitions")
        for who in bench.sides()
        for verb in ("ADD", "DEL")
    }

    def one_round() -> None:
        for (who, verb), each in series.items():
            each.values.append(timed(functools.partial(bench.sides()[who], verb, pod)))

    for _ in range(ROUNDS):
        inside_namespace(bench.node.namespace, one_round)
    report("", *series.values())
    overheads = {
        (kind, verb): series[kind, verb].p50 - series["by hand", verb].p50
        for kind in BOTH
        for verb in ("ADD", "DEL")
    }
    for (kind, verb), overhead in overheads.items():
        report(f"overhead {kind}, {verb}: {overhead:.1f} ms")
    assert max(overheads["native", verb] for verb in ("ADD", "DEL")) <= OVERHEAD_MS


def test_ten_pods_at_once_take_no_more_than_twice_as_long(bench: Bench, nodes: Nodes) -> None:
    pods = [nodes.pod(f"p{number}") for number in range(CROWD)]
    declare(bench.node, pods)
    expect_the_same(bench, pods[0])
    walls: dict[str, list[float]] = {who: [] for who in bench.sides()}

    def one(who: str, verb: str, pod: Pod) -> None:
        work = functools.partial(bench.sides()[who], verb, pod)
        inside_namespace(bench.node.namespace, work)

    def all_at_once(crowd: ThreadPoolExecutor, who: str, verb: str) -> None:
        list(crowd.map(functools.partial(one, who, verb), pods))

    with ThreadPoolExecutor(CROWD) as crowd:
        for _ in range(CROWD_ROUNDS):
            for who, wall in walls.items():
                wall.append(timed(functools.partial(all_at_once, crowd, who, "ADD")))
                all_at_once(crowd, who, "DEL")
    medians = {who: statistics.median(values) for who, values in walls.items()}
    for who, median in medians.items():
        report(f"{who:<10} {CROWD} pods at once: {median:7.1f} ms")
    for kind in BOTH:
        report(f"ratio {kind} / by hand: {medians[kind] / medians['by hand']:.2f}")
    assert medians["native"] <= CROWD_RATIO * medians["by hand"]

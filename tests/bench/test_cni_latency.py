"""ADD and DEL beside the floor and beside the reference plugins, in one run on one machine.

Every figure is a whole process start as a runtime does it. What counts are the ratios: figures of
different machines, or of one machine at different times, say nothing about each other.
"""

from __future__ import annotations

import functools
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from danmpy.attach.server import CniServer
from danmpy.attach.wire import WireAnswer
from support.netns import Namespace, Namespaces
from support.node import Node, Nodes, Pod, cluster_network, network, pod_manifest
from support.requirements import CNI_PLUGINS, need
from support.shims import BOTH, make_shim

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

ROUNDS = 60
CROWD, CROWD_ROUNDS = 10, 8
MACVLANS = ("net0", "net1", "net2")


@dataclass(slots=True)
class Series:
    """Milliseconds of one thing, done many times."""

    name: str
    values: list[float] = field(default_factory=list)

    @property
    def p50(self) -> float:
        return statistics.median(self.values)

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.values, n=20)[18]

    def __str__(self) -> str:
        return f"{self.name:<52} p50 {self.p50:7.1f} ms   p95 {self.p95:7.1f} ms"


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that `work` takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def start(argv: Sequence[str], environ: dict[str, str], stdin: bytes = b"") -> bytes:
    """Start a process as both sides are started here; it must succeed."""
    done = subprocess.run(argv, input=stdin, capture_output=True, env=environ)
    assert done.returncode == 0, f"{argv}: {done.stdout!r} {done.stderr!r}"
    return done.stdout


class Reference:
    """The reference plugins: one with host-local for each interface, one after the other.

    They must be started in the node's namespace, where their master is.
    """

    def __init__(self, folder: Path, plugin: str, number: int = 0) -> None:
        self._folder = folder
        self._plugin = plugin
        self._number = number

    def _config(self, position: int) -> bytes:
        number = self._number + position
        return json.dumps(
            {
                "cniVersion": "1.0.0",
                "name": f"ref{number}",
                "type": self._plugin,
                **({"master": "ens4"} if self._plugin == "macvlan" else {"bridge": "refbr"}),
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(self._folder / "host-local"),
                    "subnet": f"10.{100 + number}.0.0/16",
                },
            }
        ).encode()

    def call(self, verb: str, pod: Pod, count: int) -> None:
        """ADD or DEL of `count` interfaces."""
        order = range(count) if verb == "ADD" else reversed(range(count))
        for position in order:
            environ = {
                "CNI_COMMAND": verb,
                "CNI_CONTAINERID": pod.container_id,
                "CNI_NETNS": str(pod.netns.path),
                "CNI_IFNAME": f"eth{position}",
                "CNI_PATH": str(CNI_PLUGINS),
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            }
            start([str(CNI_PLUGINS / self._plugin)], environ, self._config(position))


def inside_namespace(namespace: Namespace, work: Callable[[], object]) -> object:
    """Run `work` in a thread that has entered `namespace`; its children start there."""
    from danmpy.kernel.netns import inside, open_netns

    def enter() -> object:
        import os

        fd = open_netns(str(namespace.path))
        try:
            with inside(fd):
                return work()
        finally:
            os.close(fd)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(enter).result()


@dataclass(frozen=True, slots=True)
class Bench:
    """A node, and both shims that can stand before it."""

    node: Node
    shims: dict[str, Path]


def ours(bench: Bench, kind: str, verb: str, pod: Pod) -> bytes:
    """One call through the shim of this `kind`, with the least that a runtime sends."""
    environ = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": pod.container_id,
        "CNI_NETNS": str(pod.netns.path),
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(CNI_PLUGINS),
        "CNI_ARGS": f"K8S_POD_NAMESPACE={pod.namespace};K8S_POD_NAME={pod.name}",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    return start([str(bench.shims[kind])], environ, json.dumps(bench.node.config()).encode())


def expect_interfaces(bench: Bench, pods: Sequence[Pod], count: int) -> None:
    """Attach and detach each pod once: what is measured must be what it is called."""
    for pod in pods:
        result = json.loads(ours(bench, BOTH[0], "ADD", pod))
        inside = {link["name"] for link in result["interfaces"] if "sandbox" in link}
        assert len(inside) == len(result["ips"]) == count
        assert inside <= set(pod.netns.links())
        ours(bench, BOTH[0], "DEL", pod)


@pytest.fixture
def bench(nodes: Nodes, namespaces: Namespaces, tmp_path: Path) -> Iterator[Bench]:
    """A node with three macvlan networks straight on its NIC, as the reference has them."""
    need("cni-plugins")
    namespace = namespaces.make("node")
    namespace.batch(
        "link add ens4 type veth peer name far4",
        "address add 192.0.2.1/24 dev ens4",
        "link set ens4 up",
        "link set far4 up",
    )
    node = nodes.make("node-a", namespace)
    node.write(
        "networks.yaml",
        *(
            cluster_network(name, host_device="ens4", cidr=f"10.{110 + number}.0.0/16")
            for number, name in enumerate(MACVLANS)
        ),
        network("ClusterNetwork", "lan", network_type="bridge", cidr="10.120.0.0/16"),
    )
    node.start()
    yield Bench(node=node, shims={kind: make_shim(kind, tmp_path / kind) for kind in BOTH})
    node.daemon.stop()


def declare(node: Node, pods: Sequence[Pod], *networks: str) -> None:
    """All `pods` want an interface on each of `networks`."""
    wanted = [{"clusterNetwork": name, "ip": "dynamic"} for name in networks]
    node.write("pods.yaml", *(pod_manifest(pod.namespace, pod.name, *wanted) for pod in pods))


def report(*lines: object) -> None:
    print(*lines, sep="\n", flush=True)


FLOOR = {
    "fork and exec of /bin/true": ["/bin/true"],
    "python3 -I -S -c pass": ["/usr/bin/python3", "-I", "-S", "-c", "pass"],
}


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that both sides do: `networks` of ours beside as many of the reference's."""

    name: str
    networks: tuple[str, ...]
    reference: Reference


def compare(bench: Bench, pod: Pod, case: Case) -> tuple[Series, ...]:
    """ADD and DEL of all sides in turns, with the floor between them."""
    node = bench.node
    calls: dict[str, Callable[[str], object]] = {
        **{kind: lambda verb, k=kind: ours(bench, k, verb, pod) for kind in BOTH},
        "reference": lambda verb: case.reference.call(verb, pod, len(case.networks)),
    }
    series = {
        (who, verb): Series(f"{who} {verb}, {case.name}")
        for who in calls
        for verb in ("ADD", "DEL")
    }
    floor = {name: Series(name) for name in FLOOR}

    def one_round() -> None:
        for name, argv in FLOOR.items():
            floor[name].values.append(timed(lambda: start(argv, {})))  # noqa: B023 - called here
        for (who, verb), each in series.items():
            each.values.append(timed(lambda: calls[who](verb)))  # noqa: B023 - called here

    declare(node, [pod], *case.networks)
    expect_interfaces(bench, [pod] * 3, len(case.networks))
    for _ in range(ROUNDS):
        inside_namespace(node.namespace, one_round)
    report("", *floor.values(), *series.values())
    for kind in BOTH:
        for verb in ("ADD", "DEL"):
            ratio = series[kind, verb].p50 / series["reference", verb].p50
            report(f"ratio {kind} / reference, {verb}, {case.name}: {ratio:.2f}")
    return (*floor.values(), *series.values())


def test_latency_of_one_after_the_other(bench: Bench, nodes: Nodes, tmp_path: Path) -> None:
    macvlan = Reference(tmp_path, "macvlan")
    for case in (
        Case("1 macvlan", MACVLANS[:1], macvlan),
        Case("3 macvlan", MACVLANS, macvlan),
        Case("1 bridge", ("lan",), Reference(tmp_path, "bridge", number=9)),
    ):
        compare(bench, nodes.pod("seq"), case)


def test_pods_a_second_ten_at_once(bench: Bench, nodes: Nodes, tmp_path: Path) -> None:
    pods = [nodes.pod(f"p{number}") for number in range(CROWD)]
    declare(bench.node, pods, *MACVLANS)
    expect_interfaces(bench, pods, len(MACVLANS))
    reference = Reference(tmp_path, "macvlan")
    calls: dict[str, Callable[[str, Pod], object]] = {
        **{kind: lambda verb, pod, k=kind: ours(bench, k, verb, pod) for kind in BOTH},
        "reference": lambda verb, pod: reference.call(verb, pod, len(MACVLANS)),
    }
    latencies = {who: Series(f"{who} ADD, 3 interfaces, 10 at once") for who in calls}
    rates: dict[str, list[float]] = {who: [] for who in calls}

    def one(who: str, verb: str, pod: Pod) -> float:
        result = inside_namespace(
            bench.node.namespace, lambda: timed(lambda: calls[who](verb, pod))
        )
        assert isinstance(result, float)
        return result

    with ThreadPoolExecutor(CROWD) as crowd:
        for _ in range(CROWD_ROUNDS):
            for who in calls:
                began = time.perf_counter()
                values = list(crowd.map(lambda pod, w=who: one(w, "ADD", pod), pods))
                rates[who].append(CROWD / (time.perf_counter() - began))
                latencies[who].values += values
                list(crowd.map(lambda pod, w=who: one(w, "DEL", pod), pods))
    report("", *latencies.values())
    medians = {who: statistics.median(values) for who, values in rates.items()}
    for who, rate in medians.items():
        report(f"{who:<12} {rate:6.1f} pods/s")
    for kind in BOTH:
        ratio = medians[kind] / medians["reference"]
        report(f"ratio {kind} / reference in pods/s: {ratio:.2f}")
    resident = resident_megabytes(bench.node)
    report(f"daemon resident: {resident:.1f} MB")


def test_the_shims_alone(tmp_path: Path) -> None:
    """A process start and a round trip to somebody who answers at once."""
    shims = {kind: make_shim(kind, tmp_path / kind) for kind in BOTH}
    server = CniServer(tmp_path / "cni.sock", lambda _: WireAnswer(status=0, stdout=b"{}\n"))
    server.start()
    stdin = json.dumps({"socket": str(tmp_path / "cni.sock")}).encode()
    series = {name: Series(name) for name in (*FLOOR, *BOTH)}
    argvs = {**FLOOR, **{kind: [str(path)] for kind, path in shims.items()}}
    try:
        for _ in range(3 * ROUNDS):
            for name, argv in argvs.items():
                work = functools.partial(start, argv, {"CNI_COMMAND": "ADD"}, stdin)
                series[name].values.append(timed(work))
    finally:
        server.close()
    report("", *series.values())


def resident_megabytes(node: Node) -> float:
    """VmRSS of the daemon."""
    status = Path(f"/proc/{node.daemon.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000

"""A node on which pods are attached for real: namespaces, links, a SQLite file, a journal.

Only intent and netwatcher are played by `View`, whose networks and pods a test writes down. The
engine works in the namespace of the test run; the pods' wires end in a namespace of their own.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from danmpy.api.cni import CniRequest, CniResult, Verb
from danmpy.api.dialects.reading import DialectRules
from danmpy.api.specs import InterfaceAsk, NetworkKey, NetworkSpec, PodSpec, TenantConfigSpec
from danmpy.attach.builder import PodBuilder
from danmpy.attach.delegates.calling import Delegates
from danmpy.attach.devices.sources import NodeDevices
from danmpy.attach.engine import Attacher
from danmpy.attach.journal import Journal
from danmpy.attach.ports import AttachPorts, AttachSettings, NetworkView
from danmpy.clock import Clock, wall_clock
from danmpy.db import migrate
from danmpy.db.engine import open_engine
from danmpy.errors import NotReadyError, StoreError
from danmpy.faults import FaultPoint, die_at, no_faults
from danmpy.intent.values import Intent
from danmpy.ipam.audit import Audit, HistoryFilter
from danmpy.ipam.leases import Lease, LeaseOwner, LeaseRequest, LeaseStore
from support.netns import Namespace, Namespaces, run
from support.specs import cluster_key, network, pool, route, tenant_key

ANNOTATION = "danm.k8s.io/interfaces"
NETWORK = "danmpy"

EXT, INTERNAL, FRONT = tenant_key("ext"), tenant_key("internal"), cluster_key("front")
THREE = (
    {"tenantNetwork": "ext", "ip": "dynamic", "ip6": "dynamic"},
    {
        "tenantNetwork": "internal",
        "ip": "dynamic",
        "proutes": {"10.70.0.0/16": "10.2.0.9"},
    },
    {"clusterNetwork": "front", "ip": "dynamic", "ip6": "none"},
)


@dataclass
class View:
    """What intent and netwatcher would say."""

    networks: dict[NetworkKey, NetworkSpec] = field(default_factory=dict)
    pods: dict[tuple[str, str], PodSpec] = field(default_factory=dict)
    missing: set[NetworkKey] = field(default_factory=set)
    tenant_configs: tuple[TenantConfigSpec, ...] = ()
    waits_for: str = ""
    heard: list[Sequence[InterfaceAsk]] = field(default_factory=list)
    asked: list[Collection[NetworkKey]] = field(default_factory=list)

    def read_for(self, namespace: str, name: str, uid: str) -> Intent:
        return Intent(pods=self.pods, networks=self.networks, tenant_configs=self.tenant_configs)

    def require_ready(self) -> None:
        if self.waits_for:
            raise NotReadyError(self.waits_for, hint="wait", subject="danmpy node")

    def hear(self, intent: Intent, pod: PodSpec, asks: Sequence[InterfaceAsk]) -> Intent:
        self.heard.append(asks)
        return intent

    def read_networks(self, intent: Intent, asked: Collection[NetworkKey] = ()) -> NetworkView:
        self.asked.append(asked)
        return NetworkView(networks=intent.networks)

    def ready_device(self, network: NetworkKey) -> str:
        if network in self.missing:
            raise NotReadyError("no device", hint="wait", subject=str(network))
        return self.networks[network].host_device


class Leases:
    """The real store behind a door that a test can shut: the database is away."""

    def __init__(self, store: LeaseStore) -> None:
        self.store = store
        self.away = False
        self.refused = 0
        self.opened: list[list[NetworkKey]] = []

    def _require(self) -> None:
        if self.away:
            self.refused += 1
            raise StoreError("unreachable", hint="check database_url", subject="database")

    def bind(self, owner: LeaseOwner, requests: Sequence[LeaseRequest]) -> tuple[Lease, ...]:
        self._require()
        return self.store.bind(owner, requests)

    def release(
        self, container_id: str, *, reason: str = "released", at: int | None = None
    ) -> tuple[Lease, ...]:
        self._require()
        return self.store.release(container_id, reason=reason, at=at)

    def release_interface(
        self, container_id: str, interface: str, *, reason: str = "unplugged"
    ) -> tuple[Lease, ...]:
        self._require()
        return self.store.release_interface(container_id, interface, reason=reason)

    def held_by(self, container_id: str) -> tuple[Lease, ...]:
        self._require()
        return self.store.held_by(container_id)

    def record_mac(self, container_id: str, interface: str, mac: str) -> None:
        self._require()
        self.store.record_mac(container_id, interface, mac)

    def require_open(self, networks: Iterable[NetworkSpec]) -> None:
        self.opened.append([network.key for network in networks])
        if self.opened[-1]:
            self._require()
        self.store.require_open(networks)

    def ping(self) -> None:
        self._require()
        self.store.held_by("nobody")


@contextmanager
def alone() -> Iterator[None]:
    """Run while no other process of these tests does. All call their containers alike, and the
    names of the node's ends of veth pairs follow from that.
    """
    path = Path(tempfile.gettempdir(), f"danmpy-tests-attach-{os.getuid()}.lock")
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass
class AttachNode:
    """One node: `parent` and `bridge` are links of the test run's namespace; a wire leads from
    `parent` into `far`."""

    folder: Path
    url: str
    parent: str
    bridge: str
    far: Namespace
    view: View = field(default_factory=View)
    clock: Clock = wall_clock
    devices: NodeDevices = field(default_factory=lambda: NodeDevices(None))
    rules: DialectRules = field(default_factory=DialectRules)

    def open(self, faults: FaultPoint = no_faults) -> None:
        """Start the node's engine on what is in the folder."""
        self.engine: Engine = open_engine(self.url)
        self.leases = Leases(LeaseStore(self.engine, self.clock, 120))
        self.journal = Journal(self.folder / "journal")
        self.journal.open()
        self.delegates = Delegates(self.conf_dir, (self.bin_dir, Path("/usr/lib/cni")))
        ports = AttachPorts(
            view=self.view,
            leases=self.leases,
            delegates=self.delegates,
            builder=PodBuilder(self.delegates, faults, self.devices.info),
            journal=self.journal,
            clock=self.clock,
            faults=faults,
            devices=self.devices,
        )
        settings = AttachSettings(node_name="node-a", conf_dir=self.conf_dir, rules=self.rules)
        self.attacher = Attacher(settings, ports)

    def close(self) -> None:
        """Stop it as a daemon stops."""
        self.journal.close()
        self.engine.dispose()

    @property
    def conf_dir(self) -> Path:
        return self.folder / "net.d"

    @property
    def bin_dir(self) -> Path:
        return self.folder / "bin"

    def add_network(self, key: NetworkKey, **more: Any) -> NetworkSpec:
        """A macvlan network on `parent`, or a bridge network on `bridge`."""
        device = self.bridge if more.get("backend") == "bridge" else self.parent
        spec = network(key, **{"host_device": device, **more})
        self.view.networks[key] = spec
        return spec

    def add_pod(self, name: str, *interfaces: dict[str, Any], uid: str = "") -> PodSpec:
        """A pod of namespace blue whose annotation lists `interfaces`."""
        pod = PodSpec(
            namespace="blue",
            name=name,
            uid=uid or f"uid-{name}",
            annotations={ANNOTATION: json.dumps(list(interfaces))} if interfaces else {},
        )
        self.view.pods["blue", name] = pod
        return pod

    def die_at(self, point: str, verb: Callable[[Attacher], object]) -> None:
        """Run `verb` in a process that is killed at the fault point, then go on as a new daemon."""
        self.close()
        child = os.fork()
        if child == 0:
            try:
                self.open(die_at(point))
                verb(self.attacher)
            finally:
                os._exit(7)
        _, status = os.waitpid(child, 0)
        self.open()
        assert os.WIFSIGNALED(status), f"{point} was never reached"
        assert os.WTERMSIG(status) == signal.SIGKILL

    def held(self, container_id: str) -> set[tuple[str, str]]:
        """Interface and address of the container's open leases."""
        leases = self.leases.store.held_by(container_id)
        return {(lease.interface, str(lease.address)) for lease in leases}

    def history(self) -> list[Lease]:
        """Every lease of this node, in the order of their starts."""
        rows = Audit(self.engine, self.clock).history(HistoryFilter())
        return sorted(rows, key=lambda lease: lease.id)

    def end_reasons(self) -> list[str | None]:
        """How every lease of this node ended; None for one that has not."""
        return [lease.end_reason for lease in self.history()]

    def host_ends(self) -> list[str]:
        """The node's ends of veth pairs."""
        shown = json.loads(run("ip", "-j", "link", "show", "master", self.bridge).stdout or "[]")
        return [link["ifname"] for link in shown]


def request(
    verb: Verb, pod: str, netns: Namespace | str, container: str = "", **more: Any
) -> CniRequest:
    """A call of the runtime for a pod of namespace blue."""
    values: dict[str, Any] = {
        "verb": verb,
        "version": "1.1.0",
        "network_name": NETWORK,
        "container_id": container or f"c-{pod}",
        "netns": netns if isinstance(netns, str) else str(netns.path),
        "ifname": "eth0",
        "args": {"K8S_POD_NAMESPACE": "blue", "K8S_POD_NAME": pod},
    }
    return CniRequest(**{**values, **more})


def with_prev(call: CniRequest, result: CniResult) -> CniRequest:
    """The CHECK that follows an ADD."""
    return replace(call, verb=Verb.CHECK, prev_result=result)


def make_node(folder: Path, namespaces: Namespaces) -> AttachNode:
    """A node that is not opened yet; `remove_node` takes its links away."""
    for name in ("net.d", "bin"):
        (folder / name).mkdir()
    url = f"sqlite:///{folder}/danmpy.db"
    migrate.upgrade(url)
    pid = os.getpid()
    node = AttachNode(
        folder=folder,
        url=url,
        parent=f"dtap{pid}",
        bridge=f"dtab{pid}",
        far=namespaces.make("far"),
    )
    remove_node(node)
    far = node.far.name
    run("ip", "link", "add", node.parent, "type", "veth", "peer", "name", "far0", "netns", far)
    run("ip", "link", "add", node.bridge, "type", "bridge")
    for link in (node.parent, node.bridge):
        run("ip", "link", "set", link, "up")
    node.far.batch(
        "link set far0 up",
        "address add 10.1.0.1/24 dev far0",
        "address add fd01::1/64 dev far0 nodad",
    )
    return node


def remove_node(node: AttachNode) -> None:
    """Take the node's links away; absent is fine."""
    for link in (node.parent, node.bridge):
        run("ip", "link", "delete", link, check=False)


def assert_empty(pod: Namespace, node: AttachNode, container: str) -> None:
    """Nothing of the attachment is left: links, policy rules, host ends, leases, journal."""
    __tracebackhide__ = True
    assert set(pod.links()) == {"lo"}
    for family in ("-4", "-6"):
        rules = pod.ip(family, "rule", "show").stdout
        assert "lookup 77" not in rules, rules
    assert node.host_ends() == []
    assert node.held(container) == set()
    assert node.journal.read_container(container) == ()
    assert list((node.folder / "journal").glob("*.json*")) == []


def declare_three(node: AttachNode) -> None:
    """Networks by macvlan, macvlan with policy routes, and bridge; the pod web is on all three."""
    pools = {"v4": pool("10.1.0.0/24"), "v6": pool("fd01::/64")}  # the first one is the gateway's
    ext = node.add_network(EXT, gateway=ip_address("10.1.0.1"), gateway6=ip_address("fd01::1"))
    behind = {family: replace(one, first=one.first + 1) for family, one in pools.items()}
    node.view.networks[EXT] = replace(ext, v4=behind["v4"], v6=behind["v6"])
    node.add_network(INTERNAL, v4="10.2.0.0/24", rt_table=77, mtu=1400)
    node.add_network(FRONT, v4="10.3.0.0/24", backend="bridge", container_prefix="front")
    node.add_pod("web", *THREE)


def break_route(node: AttachNode) -> None:
    """Let the last interface fail at the very end: it cannot reach the gateway of its route."""
    front = node.view.networks[FRONT]
    node.view.networks[FRONT] = replace(front, routes=(route("10.99.0.0/16", "172.16.0.1"),))

"""A whole node under test: a namespace, a `danmpy node` in it, an intent folder, a runtime's hands.

Everything goes the way that it goes in the field: manifests are files that are replaced by rename,
pods are attached by starting the installed ``danmpy-cni`` with the runtime's environment.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.netns import Fabric, Namespace, Namespaces, run
from support.processes import Daemon, Daemons, clean_environment, danmpy_argv

NEWEST = "1.1.0"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call of the CNI plugin printed."""

    status: int
    stdout: str
    stderr: str = ""

    @property
    def ok(self) -> bool:
        """Did it succeed?"""
        return self.status == 0

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object on stdout; empty when there is none."""
        return json.loads(self.stdout) if self.stdout.strip() else {}

    @property
    def error(self) -> str:
        """Code and message of the error object."""
        return f"{self.document.get('code')}: {self.document.get('msg')}"

    @property
    def addresses(self) -> list[str]:
        """The addresses of a result, with prefix length."""
        return [ip["address"] for ip in self.document.get("ips", [])]


@dataclass(slots=True)
class Pod:
    """A sandbox: namespace, container id, and who it is."""

    netns: Namespace
    container_id: str
    namespace: str
    name: str
    uid: str = ""
    ifname: str = "eth0"
    result: dict[str, Any] = field(default_factory=dict)


class Node:
    """One node; `folder` holds its state, `intent` may be shared with other nodes."""

    def __init__(
        self,
        name: str,
        namespace: Namespace,
        folder: Path,
        daemons: Daemons,
        *,
        intent: Path,
        database_url: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.folder = folder
        self.intent = intent
        self.bin = folder / "bin"
        self.conf_dir = folder / "net.d"
        for each in (folder, intent, self.bin, self.conf_dir):
            each.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "cni.sock"
        self.state_dir = folder / "state"
        self.environment = {
            "DANMPY_NODE_NAME": name,
            "DANMPY_STATE_DIR": str(self.state_dir),
            "DANMPY_SOCKET": str(self.socket),
            "DANMPY_INTENT__PATH": str(intent),
            "DANMPY_CNI__CONF_DIR": str(self.conf_dir),
            "DANMPY_CNI__BIN_DIRS": "/usr/lib/cni",
            "DANMPY_METRICS__LISTEN": "",
            **({"DANMPY_DATABASE_URL": database_url} if database_url else {}),
            **(settings or {}),
        }
        self._daemons = daemons
        self.daemon: Daemon = self._make_daemon({})
        run(
            *danmpy_argv(
                "install-cni", "--bin-dir", str(self.bin), "--conf-dir", str(self.conf_dir)
            ),
            check=True,
        )

    def _make_daemon(self, extra: Mapping[str, str]) -> Daemon:
        return self._daemons.make(
            *danmpy_argv("node"),
            name=f"{self.folder.parent.name}-{self.name}",
            namespace=self.namespace,
            environment={**self.environment, **extra},
        )

    def start(self, *, fault: str = "", wait: bool = True, seconds: float = 20) -> None:
        """Start the daemon, with a fault point if named, and wait until it serves."""
        self.daemon = self._make_daemon({"DANMPY_FAULT": fault} if fault else {})
        self.daemon.start(ready=self.serves if wait else None, seconds=seconds)

    def serves(self) -> bool:
        """Does somebody answer on the socket?"""
        return self.socket.exists() and self.call("STATUS").ok

    # Intent

    def write(self, name: str, *documents: object) -> None:
        """Replace the file `name` of the intent folder by these documents."""
        path = self.intent / name
        temporary = path.with_name(f".{name}.tmp")
        temporary.write_text("\n---\n".join(json.dumps(each) for each in documents))
        temporary.replace(path)

    def remove(self, name: str) -> None:
        """Remove a file of the intent folder."""
        (self.intent / name).unlink()

    # The runtime's hands

    def config(self, version: str = NEWEST) -> dict[str, Any]:
        """The network configuration that the runtime passes."""
        return {
            "cniVersion": version,
            "name": "danmpy",
            "type": "danmpy-cni",
            "socket": str(self.socket),
        }

    def call(
        self,
        verb: str,
        pod: Pod | None = None,
        *,
        version: str = NEWEST,
        config: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        timeout: float = 70,
    ) -> Answer:
        """Start the CNI plugin as a container runtime does."""
        env = {"CNI_COMMAND": verb, "CNI_PATH": f"{self.bin}:/usr/lib/cni"}
        if pod is not None:
            env |= {
                "CNI_CONTAINERID": pod.container_id,
                "CNI_NETNS": str(pod.netns.path),
                "CNI_IFNAME": pod.ifname,
                "CNI_ARGS": ";".join(
                    (
                        "IgnoreUnknown=1",
                        f"K8S_POD_NAMESPACE={pod.namespace}",
                        f"K8S_POD_NAME={pod.name}",
                        f"K8S_POD_INFRA_CONTAINER_ID={pod.container_id}",
                        f"K8S_POD_UID={pod.uid}",
                    )
                ),
            }
        done = subprocess.run(
            [str(self.bin / "danmpy-cni")],
            input=json.dumps({**self.config(version), **(config or {})}),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=clean_environment({**env, **(environ or {})}),
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def add(self, pod: Pod, **more: Any) -> Answer:
        """ADD; the result is kept in `pod` for CHECK and DEL."""
        answer = self.call("ADD", pod, **more)
        if answer.ok:
            pod.result = answer.document
        return answer

    def delete(self, pod: Pod, **more: Any) -> Answer:
        """DEL."""
        return self.call("DEL", pod, config=_prev(pod), **more)

    def check(self, pod: Pod, **more: Any) -> Answer:
        """CHECK."""
        return self.call("CHECK", pod, config=_prev(pod), **more)

    # The operator's hands

    def danmpy(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``danmpy words...`` with this node's settings, in its namespace."""
        done = subprocess.run(
            self.namespace.argv(*danmpy_argv(*words)),
            capture_output=True,
            text=True,
            timeout=60,
            env=clean_environment(self.environment),
        )
        if check and done.returncode not in {0, 1}:
            raise AssertionError(f"danmpy {' '.join(words)}: {done.returncode}\n{done.stderr}")
        return done

    def ask(self, *words: str) -> dict[str, Any]:
        """The same as JSON."""
        done = self.danmpy(*words, "-o", "json")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def leases(self, **wanted: object) -> list[dict[str, Any]]:
        """The open leases of the database that have these fields."""
        items = self.ask("audit", "history")["items"]
        return [
            item
            for item in items
            if item["to"] is None and all(item[key] == value for key, value in wanted.items())
        ]


def _prev(pod: Pod) -> dict[str, Any]:
    return {"prevResult": pod.result} if pod.result else {}


# Manifests


def cluster_network(name: str, **options: Any) -> dict[str, Any]:
    """A ClusterNetwork of macvlan, on ens4 unless told otherwise; keywords are Options."""
    return network("ClusterNetwork", name, **options)


def tenant_network(name: str, namespace: str, **options: Any) -> dict[str, Any]:
    """A TenantNetwork of macvlan."""
    return network("TenantNetwork", name, namespace=namespace, **options)


def network(
    kind: str,
    name: str,
    *,
    namespace: str = "",
    network_type: str = "macvlan",
    network_id: str = "",
    allowed: Sequence[str] = (),
    **options: object,
) -> dict[str, Any]:
    """A network of any kind; keywords are Options."""
    spec: dict[str, Any] = {
        "NetworkID": network_id or name[:10],
        "NetworkType": network_type,
        "Options": options,
    }
    if allowed:
        spec["AllowedTenants"] = list(allowed)
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "danm.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def tenant_config(*devices: Mapping[str, str], name: str = "tenants") -> dict[str, Any]:
    """A TenantConfig of these hostDevices."""
    return {
        "apiVersion": "danm.k8s.io/v1",
        "kind": "TenantConfig",
        "metadata": {"name": name},
        "hostDevices": [dict(each) for each in devices],
    }


def pod_manifest(
    namespace: str, name: str, *interfaces: Mapping[str, object], uid: str = "", node: str = ""
) -> dict[str, Any]:
    """A Pod whose annotation declares `interfaces`."""
    annotations = {"danm.k8s.io/interfaces": json.dumps(list(interfaces))} if interfaces else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": annotations,
            **({"uid": uid} if uid else {}),
        },
        "spec": {"nodeName": node} if node else {},
    }


def node_manifest(name: str, vtep: str, parent: str = "ens4") -> dict[str, Any]:
    """A Node that says where its tunnels end."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"danm.k8s.io/vteps": json.dumps({parent: vtep})},
        },
    }


class Nodes:
    """Makes nodes and pods for one test."""

    def __init__(self, folder: Path, namespaces: Namespaces, daemons: Daemons) -> None:
        self._folder = folder
        self._namespaces = namespaces
        self._daemons = daemons
        self._pods = 0

    def make(
        self,
        name: str,
        namespace: Namespace,
        *,
        intent: Path | None = None,
        database_url: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> Node:
        """A node in `namespace`; its daemon is not started yet."""
        return Node(
            name,
            namespace,
            self._folder / name,
            self._daemons,
            intent=intent or self._folder / "intent",
            database_url=database_url,
            settings=settings,
        )

    def pod(self, name: str, namespace: str = "blue", *, uid: str = "") -> Pod:
        """A sandbox for a pod of that name."""
        self._pods += 1
        return Pod(
            netns=self._namespaces.make("pod"),
            container_id=f"c{self._pods:04d}{name}",
            namespace=namespace,
            name=name,
            uid=uid,
        )


@pytest.fixture
def nodes(tmp_path: Path, namespaces: Namespaces, daemons: Daemons) -> Nodes:
    """Makes nodes and pods; namespaces and daemons go away with their own fixtures."""
    return Nodes(tmp_path, namespaces, daemons)


@pytest.fixture
def node(nodes: Nodes, namespaces: Namespaces) -> Node:
    """One node whose NIC is ens4 (192.0.2.1/24); its far end is up and leads nowhere."""
    namespace = namespaces.make("node")
    namespace.batch(
        "link add ens4 type veth peer name far4",
        "address add 192.0.2.1/24 dev ens4",
        "address add 2001:db8:feed::1/64 dev ens4 nodad",
        "link set ens4 up",
        "link set far4 up",
    )
    return nodes.make("node-a", namespace)


@pytest.fixture
def two_nodes(nodes: Nodes, fabric: Fabric) -> tuple[Node, Node]:
    """Two nodes on one switch that share intent and database."""
    first, second = fabric.nodes
    made = [
        nodes.make(
            name,
            each.namespace,
            database_url=f"sqlite:///{nodes._folder / 'shared.db'}",
        )
        for name, each in (("node-a", first), ("node-b", second))
    ]
    made[0].write(
        "nodes.yaml",
        node_manifest("node-a", str(first.address.ip)),
        node_manifest("node-b", str(second.address.ip)),
    )
    return made[0], made[1]

"""A whole cluster under test: a real API server and PostgreSQL, node daemons in namespaces, and
controllers on the machine's loopback. What kubelet, scheduler and runtime would do, the test does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.apiserver import ApiServer, free_port
from support.databases import PostgresServer
from support.interpose import Interposer
from support.netns import Fabric, FabricNode, wait_until
from support.node import Node, Nodes, Pod
from support.processes import REPOSITORY, Daemon, Daemons, danmpy_argv

SYSTEM_NAMESPACE = "danmpy"
REGISTRATION = REPOSITORY / "deploy" / "base" / "webhook.yaml"


class Cluster:
    """`database_url` is PostgreSQL's, by a path that every namespace can reach."""

    def __init__(self, api: ApiServer, nodes: Nodes, daemons: Daemons, database_url: str) -> None:
        self.api = api
        self.database_url = database_url
        self.relays: dict[str, Interposer] = {}
        self.nodes: dict[str, Node] = {}
        self.controllers: list[Daemon] = []
        self._makers = nodes
        self._daemons = daemons
        api.make_namespace(SYSTEM_NAMESPACE)

    def close(self) -> None:
        """End the daemons before what they talk to, and the relays."""
        for daemon in (*self.controllers, *(node.daemon for node in self.nodes.values())):
            daemon.kill()
        for relay in self.relays.values():
            relay.close()

    # Daemons

    def add_node(
        self,
        name: str,
        place: FabricNode,
        *,
        settings: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> Node:
        """A node with its Node object; its daemon is not started yet."""
        self.api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        address = [{"type": "InternalIP", "address": str(place.address.ip)}]
        self.api.patch_status("Node", name, {"addresses": address})
        self.relays[name] = Interposer(self.api.port, inside=place.namespace)
        node = self._makers.make(
            name,
            place.namespace,
            database_url=self.database_url,
            settings={
                "DANMPY_INTENT__SOURCE": "kubernetes",
                "DANMPY_INTENT__KUBECONFIG": str(self.api.kubeconfig(token=token)),
                **(settings or {}),
            },
        )
        self.nodes[name] = node
        return node

    def add_controller(
        self, *, settings: Mapping[str, str] | None = None, token: str | None = None
    ) -> Daemon:
        """A controller that is not started yet, with a webhook on a port of its own."""
        port, health = free_port(), free_port()
        daemon = self._daemons.make(
            *danmpy_argv("controller"),
            name=f"controller-{len(self.controllers)}",
            environment={
                "DANMPY_DATABASE_URL": self.database_url,
                "DANMPY_INTENT__SOURCE": "kubernetes",
                "DANMPY_INTENT__KUBECONFIG": str(self.api.kubeconfig(token=token)),
                "DANMPY_CONTROLLER__IDENTITY": f"controller-{len(self.controllers)}",
                "DANMPY_METRICS__LISTEN": f"127.0.0.1:{health}",
                "DANMPY_WEBHOOK__LISTEN": f"127.0.0.1:{port}",
                "DANMPY_WEBHOOK__URL": f"https://127.0.0.1:{port}",
                **(settings or {}),
            },
        )
        self.controllers.append(daemon)
        return daemon

    def register_webhook(self) -> None:
        """The registration of deploy/; the controller fills in where it listens."""
        for manifest in yaml.safe_load_all(REGISTRATION.read_text()):
            self.api.apply(manifest)

    def webhook_answers(self) -> bool:
        """Does the API server reach the webhook, and does that refuse what is wrong?"""
        wrong = {
            "apiVersion": "danm.k8s.io/v1",
            "kind": "ClusterNetwork",
            "metadata": {"name": "probe"},
            "spec": {"NetworkID": "probe", "Options": {"cidr": "not a subnet"}},
        }
        path = self.api.path("danm.k8s.io/v1", "ClusterNetwork") + "?dryRun=All"
        status, answer = self.api.request("POST", path, wrong)
        return status >= 400 and "cidr" in str(answer.get("message"))

    # Objects

    def declare(self, *manifests: Mapping[str, Any]) -> None:
        """Apply manifests, and the namespaces that they are in."""
        for manifest in manifests:
            namespace = manifest["metadata"].get("namespace")
            if namespace and self.api.get("Namespace", namespace) is None:
                self.api.make_namespace(namespace)
            self.api.apply(manifest)

    def pod(
        self,
        node: str,
        namespace: str,
        name: str,
        *interfaces: Mapping[str, object],
        annotations: Mapping[str, str] | None = None,
    ) -> Pod:
        """A pod object that is bound to `node`, and a sandbox for it."""
        if self.api.get("Namespace", namespace) is None:
            self.api.make_namespace(namespace)
        written = {"danm.k8s.io/interfaces": json.dumps(list(interfaces))} if interfaces else {}
        stored = self.api.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": {"app": name},
                    "annotations": {**written, **(annotations or {})},
                },
                "spec": {
                    "nodeName": node,
                    "containers": [{"name": "main", "image": "none"}],
                    "terminationGracePeriodSeconds": 0,
                },
            }
        )
        return self._makers.pod(name, namespace, uid=stored["metadata"]["uid"])

    def status(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """The status of a network; empty while there is none."""
        found = self.api.get(kind, name, namespace)
        return dict((found or {}).get("status") or {})

    def condition(
        self, kind: str, name: str, namespace: str = "default", *, of: str = "Ready"
    ) -> dict[str, Any]:
        """One condition of a network, or an empty object."""
        conditions = self.status(kind, name, namespace).get("conditions", [])
        return next((each for each in conditions if each["type"] == of), {})

    def wait_ready(
        self, kind: str, name: str, namespace: str = "default", *, seconds: float = 20
    ) -> dict[str, Any]:
        """Wait until the network is Ready; its status."""
        deadline = time.monotonic() + seconds
        while self.condition(kind, name, namespace).get("status") != "True":
            if time.monotonic() > deadline:
                last = self.status(kind, name, namespace)
                pytest.fail(f"after {seconds} s {kind} {namespace}/{name} is not Ready: {last}")
            time.sleep(0.1)
        return self.status(kind, name, namespace)

    def leader(self) -> str:
        """Who holds the lease now, or an empty text."""
        lease = self.api.get("Lease", "danmpy-controller", SYSTEM_NAMESPACE)
        return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")


@pytest.fixture
def cluster(
    apiserver: ApiServer,
    nodes: Nodes,
    daemons: Daemons,
    postgresql: PostgresServer,
    postgresql_url: str,
    tmp_path: Path,
) -> Iterator[Cluster]:
    """A cluster without nodes and controllers."""
    made = Cluster(
        apiserver, nodes, daemons, postgresql.socket_url(postgresql_url.rpartition("/")[2])
    )
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def small_cluster(cluster: Cluster, fabric: Fabric) -> Cluster:
    """Two nodes on one switch and a controller, with its webhook registered; all are running."""
    for name, place in zip(("node-a", "node-b"), fabric.nodes, strict=True):
        cluster.add_node(name, place)
    cluster.register_webhook()
    cluster.add_controller().start()
    for node in cluster.nodes.values():
        node.start()
    wait_until(cluster.webhook_answers, seconds=30, what="the webhook answers", every=0.2)
    return cluster

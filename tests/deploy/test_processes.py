"""The daemons as they are deployed: with the tokens of their accounts and the rights of RBAC, each
with its own role in PostgreSQL, the controller in its container. A whole life of a network and a
pod, and nobody is denied anything."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from sqlalchemy.engine import make_url

from danmpy.db import roles
from support.apiserver import free_port
from support.cluster import Cluster
from support.containers import Sandbox
from support.databases import PASSWORD, PostgresServer
from support.deploying import DEPLOY, NAMESPACE, container, fitting_overlay, write_config
from support.netns import Fabric, wait_until
from support.node import Node, Pod, cluster_network, tenant_config, tenant_network
from support.processes import Daemon, Daemons

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

PROFILE = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}
DENIED = re.compile(r"forbidden|denied|\b403\b|lacks", re.IGNORECASE)
INTERNAL = {"tenantNetwork": "internal", "ip": "dynamic", "ip6": "dynamic"}


class Deployed:
    """A cluster with the objects of the overlay, a node daemon and a controller."""

    def __init__(
        self,
        cluster: Cluster,
        fabric: Fabric,
        daemons: Daemons,
        folder: Path,
        logins: Mapping[str, str],
    ) -> None:
        self.cluster = cluster
        self.manifests = fitting_overlay("cluster", cluster.api)
        for manifest in self.manifests:
            cluster.api.apply(manifest)
        token = cluster.api.service_account_token(NAMESPACE, "danmpy-node")
        settings = {"DANMPY_DATABASE_URL": logins[roles.NODE]}
        self.node: Node = cluster.add_node(
            "node-a", fabric.nodes[0], settings=settings, token=token
        )
        self.controller = self._make_controller(daemons, folder, logins[roles.CONTROLLER])

    def _make_controller(self, daemons: Daemons, folder: Path, url: str) -> Daemon:
        api, account = self.cluster.api, folder / "account"
        account.mkdir()
        shutil.copy(api.ca_file, account / "ca.crt")
        (account / "token").write_text(api.service_account_token(NAMESPACE, "danmpy-controller"))
        (account / "namespace").write_text(NAMESPACE)
        box = container(self.manifests, "controller")
        config = write_config(self.manifests, folder)
        sandbox = Sandbox(box, folder / "box", host=folder, config=config, account=account)
        port = free_port()
        daemon = daemons.make(
            *sandbox.danmpy_argv(),
            name="controller",
            environment={
                **box.environment(),
                "DANMPY_DATABASE_URL": url,
                "DANMPY_METRICS__LISTEN": f"127.0.0.1:{free_port()}",
                "DANMPY_WEBHOOK__LISTEN": f"127.0.0.1:{port}",
                "DANMPY_WEBHOOK__URL": f"https://127.0.0.1:{port}",
                "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                "KUBERNETES_SERVICE_PORT": str(api.port),
            },
        )
        self.cluster.controllers.append(daemon)
        return daemon

    @property
    def denials(self) -> list[str]:
        """Lines of the logs that tell of a right that was missing."""
        lines = (self.controller.output + self.node.daemon.output).splitlines()
        return [each for each in lines if DENIED.search(each)]


@pytest.fixture
def logins(cluster: Cluster, postgresql: PostgresServer) -> Iterator[dict[str, str]]:
    """The URL of each role with a login of its own, as the documentation makes them. The controller
    is in a container, and comes over TCP.
    """
    inside = make_url(cluster.database_url)
    name = inside.database or ""
    ways = {roles.NODE: inside, roles.CONTROLLER: make_url(postgresql.url(name))}
    made = {role: way.set(username=f"{role}s_{name}") for role, way in ways.items()}
    everybody = (
        *(url.username for url in made.values()),
        roles.NODE,
        roles.CONTROLLER,
        roles.READER,
        roles.OWNER,
    )
    try:
        postgresql.run_sql(roles.roles_sql(), database=name)
        for role, url in made.items():
            words = f"LOGIN PASSWORD '{PASSWORD}' IN ROLE {role}"
            postgresql.run_sql(f"CREATE ROLE {url.username} {words}")
        yield {role: url.render_as_string(hide_password=False) for role, url in made.items()}
    finally:
        cluster.close()
        postgresql.drop_database(name)
        postgresql.run_sql(*(f"DROP ROLE IF EXISTS {role}" for role in everybody))


@pytest.fixture
def deployed(
    cluster: Cluster, fabric: Fabric, daemons: Daemons, tmp_path: Path, logins: dict[str, str]
) -> Deployed:
    folder = tmp_path / "deployed"
    folder.mkdir(mode=0o755)
    made = Deployed(cluster, fabric, daemons, folder, logins)
    made.controller.start()
    made.node.start()
    wait_until(cluster.webhook_answers, seconds=30, what="the webhook answers", every=0.2)
    return made


def test_networks_and_pods_live_and_die_with_the_rights_that_are_deployed(
    deployed: Deployed,
) -> None:
    cluster, node = deployed.cluster, deployed.node
    cluster.declare(
        tenant_config(PROFILE),
        tenant_network("internal", "blue", cidr="10.20.0.0/24", net6="fd00:20::/64"),
        cluster_network("storage", host_device="ens4", vxlan=900, cidr="10.90.0.0/24"),
    )
    status = cluster.wait_ready("TenantNetwork", "internal", "blue")
    assert "700" in json.dumps(status)
    pod = cluster.pod("node-a", "blue", "web", INTERNAL)
    answer = node.add(pod)
    assert answer.ok, answer.error

    def mirrored() -> bool:
        endpoints = cluster.api.list("DanmEp", "blue")
        stored = cluster.api.get("Pod", "web", "blue") or {}
        annotations = stored["metadata"].get("annotations", {})
        reasons = {each["reason"] for each in cluster.api.list("v1/Event", "blue")}
        return (
            len(endpoints) == 1
            and "k8s.v1.cni.cncf.io/network-status" in annotations
            and "NetworksAttached" in reasons
        )

    wait_until(mirrored, seconds=20, what=f"mirrors; {deployed.denials}", every=0.2)
    vteps = "danm.k8s.io/observed-vteps"
    stored = cluster.api.get("Node", "node-a") or {}
    assert vteps in stored["metadata"]["annotations"]

    assert node.delete(pod).ok
    wait_until(lambda: not cluster.api.list("DanmEp", "blue"), seconds=20, what="mirrors are gone")
    cluster.api.delete("Pod", "web", "blue")
    path = cluster.api.path("danm.k8s.io/v1", "TenantNetwork", "internal", "blue")
    wait_until(
        lambda: cluster.api.request("DELETE", path)[0] == 200,
        seconds=20,
        what="the webhook sees that nobody is on the network",
        every=0.2,
    )
    wait_until(
        lambda: cluster.api.get("TenantNetwork", "internal", "blue") is None,
        seconds=30,
        what=f"the finalizer is taken; {deployed.denials}",
        every=0.2,
    )
    assert deployed.denials == []


CLAIM = {
    "apiVersion": "k8s.cni.cncf.io/v1alpha1",
    "kind": "IPAMClaim",
    "metadata": {"name": "vm-0", "namespace": "blue"},
    "spec": {"network": "internal", "interface": "net1"},
}


def launcher(cluster: Cluster, number: int, interface: str = "net1") -> Pod:
    """A pod of a virtual machine whose addresses are those of the claim."""
    ask = {"name": "internal", "interface": interface, "ipam-claim-reference": "vm-0"}
    annotations = {"k8s.v1.cni.cncf.io/networks": json.dumps([ask])}
    return cluster.pod("node-a", "blue", f"launcher-{number}", annotations=annotations)


def addresses_of(cluster: Cluster, pod: Pod) -> list[str]:
    """What the pod's network-status says of net1."""

    def entries() -> list[list[str]]:
        stored = cluster.api.get("Pod", pod.name, pod.namespace) or {}
        text = stored["metadata"]["annotations"].get("k8s.v1.cni.cncf.io/network-status", "[]")
        return [each["ips"] for each in json.loads(text) if each.get("interface") == "net1"]

    wait_until(entries, seconds=20, what="network-status", every=0.2)
    return entries()[0]


def test_an_ipam_claim_keeps_its_addresses_from_pod_to_pod_until_it_is_deleted(
    deployed: Deployed,
) -> None:
    cluster, node = deployed.cluster, deployed.node
    folder = DEPLOY / "components" / "ipamclaims"
    cluster.api.apply(yaml.safe_load((folder / "ipamclaims.k8s.cni.cncf.io.yaml").read_text()))
    cluster.api.wait_crds_established()
    cluster.declare(
        tenant_config(PROFILE),
        tenant_network("internal", "blue", cidr="10.20.0.0/24", net6="fd00:20::/64"),
        cluster_network("default", host_device="ens4", vxlan=900, cidr="10.90.0.0/24"),
    )
    cluster.wait_ready("TenantNetwork", "internal", "blue")
    cluster.wait_ready("ClusterNetwork", "default")

    early = launcher(cluster, 1)
    answer = node.add(early)
    assert answer.document.get("code") == 11, answer.error
    assert "IPAMClaim/blue/vm-0" in answer.error
    cluster.api.apply(CLAIM)
    answer = node.add(early)
    assert answer.ok, answer.error
    first = addresses_of(cluster, early)
    assert len(first) == 2
    answer = node.add(launcher(cluster, 2, "net7"))
    assert "its spec.interface is net1" in answer.error

    def told() -> bool:
        claim = cluster.api.get("IPAMClaim", "vm-0", "blue") or {}
        ips = claim.get("status", {}).get("ips", [])
        return [each.partition("/")[0] for each in ips] == first

    wait_until(told, seconds=30, what=f"status of the claim; {deployed.denials}", every=0.2)
    assert node.delete(early).ok
    cluster.api.delete("Pod", early.name, "blue")
    late = launcher(cluster, 3)
    answer = node.add(late)
    assert answer.ok, answer.error
    assert addresses_of(cluster, late) == first
    assert node.delete(late).ok
    cluster.api.delete("IPAMClaim", "vm-0", "blue")

    def events() -> list[str]:
        listed = node.danmpy("audit", "events", "-o", "jsonl").stdout.splitlines()
        found = [json.loads(line) for line in listed]
        return [each["address"] for each in found if each.get("kind") == "UNCLAIM"]

    wait_until(lambda: events() == first, seconds=60, what="the addresses are free", every=1)
    assert deployed.denials == []

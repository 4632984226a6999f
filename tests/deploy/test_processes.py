"""The daemons as they are deployed: with the tokens of their accounts and the rights of RBAC, the
controller in its container. A whole life of a network and a pod, and nobody is denied anything."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from support.apiserver import free_port
from support.cluster import Cluster
from support.containers import Sandbox
from support.deploying import NAMESPACE, container, fitting_overlay, write_config
from support.netns import Fabric, wait_until
from support.node import Node, cluster_network, tenant_config, tenant_network
from support.processes import Daemon, Daemons

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

PROFILE = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}
DENIED = re.compile("forbidden|denied|403|lacks", re.IGNORECASE)
INTERNAL = {"tenantNetwork": "internal", "ip": "dynamic", "ip6": "dynamic"}


class Deployed:
    """A cluster with the objects of the overlay, a node daemon and a controller."""

    def __init__(
        self, cluster: Cluster, fabric: Fabric, daemons: Daemons, folder: Path, url: str
    ) -> None:
        self.cluster = cluster
        self.manifests = fitting_overlay("cluster", cluster.api)
        for manifest in self.manifests:
            cluster.api.apply(manifest)
        token = cluster.api.service_account_token(NAMESPACE, "danmpy-node")
        self.node: Node = cluster.add_node("node-a", fabric.nodes[0], token=token)
        self.controller = self._make_controller(daemons, folder, url)

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
def deployed(
    cluster: Cluster, fabric: Fabric, daemons: Daemons, tmp_path: Path, postgresql_url: str
) -> Deployed:
    folder = tmp_path / "deployed"
    folder.mkdir(mode=0o755)
    made = Deployed(cluster, fabric, daemons, folder, postgresql_url)
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

"""The containers with the rights of their manifests: enough for what they do, and no more."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from danmpy.cni.install import CONFLIST_NAME, DEFAULT_SOCKET, PLUGIN_NAME
from support.containers import Sandbox
from support.databases import PostgresServer
from support.deploying import DEPLOY, container, overlay, write_config
from support.kustomize import build
from support.netns import Fabric, Namespace, Namespaces, run, wait_until
from support.node import cluster_network, pod_manifest, tenant_config, tenant_network
from support.processes import Daemon, Daemons, clean_environment

pytestmark = pytest.mark.system

FOLDER_MODE = {
    "DANMPY_INTENT__SOURCE": "folder",
    "DANMPY_INTENT__PATH": "/var/lib/danmpy/intent",
    "DANMPY_NODE_NAME": "node-a",
    "DANMPY_DATABASE_URL": "sqlite:////var/lib/danmpy/database/danmpy.db",
}
"""Rights on the host do not depend on where the intent comes from."""


class Host:
    """A host whose file system is a folder, and the containers of an overlay on it."""

    def __init__(self, folder: Path, daemons: Daemons, namespace: Namespace) -> None:
        self.folder = folder
        self.root = folder / "host"
        self.namespace = namespace
        self._daemons = daemons
        self._made = 0

    def sandbox(self, name: str, *, overlay_name: str = "cluster") -> Sandbox:
        manifests = overlay(overlay_name)
        self._made += 1
        return Sandbox(
            container(manifests, name),
            self.folder / f"container-{self._made}",
            host=self.root,
            config=write_config(manifests, self.folder),
        )

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> str:
        """Run a container to its end; what it printed."""
        done = subprocess.run(
            self.namespace.argv(*argv),
            env=clean_environment(environment),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self) -> None:
        """The init container."""
        box = self.sandbox("install-cni")
        self.run(box.danmpy_argv(), box.box.environment())

    def write(self, *documents: object) -> None:
        """Declare these objects and no others."""
        folder = self.root / "var/lib/danmpy/intent"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "new").write_text("\n---\n".join(json.dumps(each) for each in documents))
        (folder / "new").rename(folder / "all.yaml")

    def daemon(self, *, capabilities: Sequence[str] | None = None) -> Daemon:
        """The node daemon, not started yet."""
        box = self.sandbox("node")
        argv = box.danmpy_argv(capabilities=capabilities)
        environment = {**box.box.environment(), **FOLDER_MODE}
        return self._daemons.make(*argv, namespace=self.namespace, environment=environment)

    def call(self, verb: str, pod: Namespace) -> dict[str, Any]:
        """What the plugin on the host answers."""
        done = subprocess.run(
            [str(self.root / "opt/cni/bin" / PLUGIN_NAME)],
            input=json.dumps({"cniVersion": "1.1.0", "name": "danmpy", "type": PLUGIN_NAME}),
            env={
                "CNI_COMMAND": verb,
                "CNI_CONTAINERID": "c-1",
                "CNI_NETNS": f"/var{pod.path}",
                "CNI_IFNAME": "eth0",
                "CNI_PATH": "/opt/cni/bin",
                "CNI_ARGS": "K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web",
                "DANMPY_SOCKET": str(self.root / "run/danmpy/cni.sock"),
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        answer: dict[str, Any] = json.loads(done.stdout or "{}")
        return answer

    def serves(self, pod: Namespace) -> bool:
        return self.call("STATUS", pod) == {}


@pytest.fixture
def host(tmp_path: Path, daemons: Daemons, fabric: Fabric) -> Host:
    return Host(tmp_path, daemons, fabric.nodes[0].namespace)


PROFILE = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}
OPTIONS = {"cidr": "10.20.0.0/24", "net6": "fd00:20::/64", "rt_tables": 100}
ENTRY = {
    "tenantNetwork": "internal",
    "ip": "dynamic",
    "ip6": "dynamic",
    "proutes": {"10.60.0.0/16": "10.20.0.254"},
}
INTENT = (
    tenant_config(PROFILE),
    tenant_network("internal", "blue", **OPTIONS),
    pod_manifest("blue", "web", ENTRY),
)


def test_the_installer_puts_plugin_and_configuration_on_the_host(host: Host) -> None:
    host.install()
    assert (host.root / "opt/cni/bin" / PLUGIN_NAME).stat().st_mode & 0o777 == 0o755
    conflist = json.loads((host.root / "etc/cni/net.d" / CONFLIST_NAME).read_text())
    (plugin,) = conflist["plugins"]
    assert plugin["type"] == PLUGIN_NAME
    assert plugin.get("socket", DEFAULT_SOCKET) == DEFAULT_SOCKET


def test_the_uninstaller_takes_both_away(host: Host, tmp_path: Path) -> None:
    host.install()
    box = container(build(DEPLOY / "uninstall"), "remove")
    config = write_config(overlay("cluster"), tmp_path)
    sandbox = Sandbox(box, tmp_path / "uninstall", host=host.root, config=config)
    host.run(sandbox.danmpy_argv(), {})
    assert not list((host.root / "opt/cni/bin").iterdir())
    assert not list((host.root / "etc/cni/net.d").iterdir())


def test_the_node_daemon_attaches_pods_with_the_rights_of_its_manifest(
    host: Host, namespaces: Namespaces
) -> None:
    host.install()
    host.write(*INTENT)
    daemon = host.daemon()
    first = namespaces.make("before")
    daemon.start(ready=lambda: host.serves(first))
    pod = namespaces.make("pod")  # later than the container: the mount has to come in
    answer = host.call("ADD", pod)
    assert [each["address"] for each in answer.get("ips", ())] == [
        "10.20.0.1/24",
        "fd00:20::1/64",
    ], (answer, daemon.output)
    assert pod.addresses("eth0") == ("10.20.0.1/24", "fd00:20::1/64")
    accepts = pod.run("cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra").stdout
    assert accepts.strip() == "0"
    assert "lookup 100" in pod.ip("rule", "show").stdout
    assert "vx700" in host.namespace.links()
    assert host.call("DEL", pod) == {}
    assert "eth0" not in pod.links()
    host.write()
    host.write(pod_manifest("blue", "other"))
    wait_until(lambda: "vx700" not in host.namespace.links(), what="the device is removed")
    assert daemon.stop() == 0


@pytest.mark.parametrize("missing", ["NET_ADMIN", "SYS_ADMIN"])
def test_it_needs_every_right_that_it_has(host: Host, namespaces: Namespaces, missing: str) -> None:
    host.install()
    host.write(*INTENT)
    given = container(overlay("cluster"), "node").spec["securityContext"]["capabilities"]["add"]
    daemon = host.daemon(capabilities=[each for each in given if each != missing])
    pod = namespaces.make("pod")
    daemon.start(ready=lambda: host.serves(pod))
    answer = host.call("ADD", pod)
    assert "Operation not permitted" in answer.get("msg", ""), answer
    assert "eth0" not in pod.links()


def test_a_neighbour_advertisement_needs_raw_sockets(host: Host) -> None:
    """Without them it is left out in silence: peers then keep the old MAC for a while."""
    code = "import socket; socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)"
    box = host.sandbox("node")
    host.run(box.argv("python3", "-c", code), {})
    with pytest.raises(AssertionError, match="PermissionError"):
        host.run(box.argv("python3", "-c", code, capabilities=["NET_ADMIN", "SYS_ADMIN"]), {})


def test_delegates_of_the_host_run_in_the_node_daemons_container(
    host: Host, namespaces: Namespaces
) -> None:
    host.install()
    plugins = host.root / "opt/cni/bin"
    for name in ("bridge", "host-local", "static"):
        run("cp", f"/usr/lib/cni/{name}", str(plugins / name))
    conf = {
        "cniVersion": "1.0.0",
        "name": "flat",
        "type": "bridge",
        "bridge": "flat0",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/24"}]]},
    }
    (host.root / "etc/cni/net.d/flat.conf").write_text(json.dumps(conf))
    host.write(
        cluster_network("flat", network_type="bridge", network_id="flat"),
        pod_manifest("blue", "web", {"clusterNetwork": "flat"}),
    )
    pod = namespaces.make("pod")
    daemon = host.daemon()
    daemon.start(ready=lambda: host.serves(pod))
    answer = host.call("ADD", pod)
    assert [each["address"] for each in answer.get("ips", ())] == ["10.99.0.2/24"], answer
    # What host-local remembers outlives the container.
    assert (host.root / "var/lib/cni/networks/flat/10.99.0.2").exists()
    assert host.call("DEL", pod) == {}
    host.namespace.ip("link", "delete", "flat0")


def test_the_migration_runs_as_nobody_in_particular(host: Host, postgresql: PostgresServer) -> None:
    name = postgresql.make_database()
    try:
        url = {"DANMPY_DATABASE_URL": postgresql.url(name)}
        box = host.sandbox("migrate")
        done = subprocess.run(
            box.danmpy_argv(),
            env=clean_environment(url),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert ": empty -> " in done.stdout
    finally:
        postgresql.drop_database(name)


def test_on_one_node_the_controller_may_write_the_node_daemons_database(
    host: Host, namespaces: Namespaces
) -> None:
    host.write()
    host.daemon().start(ready=(host.root / "var/lib/danmpy/database/danmpy.db").exists)
    wait_until(lambda: schema_is_current(host), what="the daemon has made the schema")
    box = host.sandbox("controller", overlay_name="single-node")
    write = (
        "import sqlite3; c = sqlite3.connect('/var/lib/danmpy/database/danmpy.db');"
        " c.execute('create table proof (x)'); c.commit(); print('written')"
    )
    assert "written" in host.run(box.argv("python3", "-c", write), {})
    code = "import os; print(os.listdir('/var/lib/danmpy'))"
    assert host.run(box.argv("python3", "-c", code), {}).strip() == "['database']"


def schema_is_current(host: Host) -> bool:
    box = host.sandbox("controller", overlay_name="single-node")
    done = subprocess.run(
        host.namespace.argv(*box.danmpy_argv("db", "current")),
        env=clean_environment(box.box.environment()),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode == 0

"""A node to ask about: configuration, intent folder, database, and a namespace as its kernel.

Commands run in this process, in a thread of their own that has entered the namespace: they do what
they do for an operator, without the second that a start of Python costs.
"""

from __future__ import annotations

import ctypes
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from danmpy.api.specs import AddressAsk, AddressMode, NetworkKey, NetworkKind, NetworkSpec
from danmpy.ipam.values import LeaseOwner, LeaseRequest
from danmpy.settings import Settings, load
from support.netns import Namespace
from support.node import Node, pod_manifest

CLONE_NEWNET = 0x40000000
DYNAMIC = AddressAsk(mode=AddressMode.DYNAMIC)
BLUE = {"tenantNetwork": "internal", "ip": "dynamic", "ip6": "dynamic"}
EXTERNAL = {"clusterNetwork": "shared", "ip": "dynamic"}

TENANTS = """\
apiVersion: danm.k8s.io/v1
kind: TenantConfig
metadata: {name: tenants}
hostDevices:
- {name: ens4, vniType: vxlan, vniRange: 700-799}
"""

INTERNAL = """\
---
apiVersion: danm.k8s.io/v1
kind: TenantNetwork
metadata: {name: internal, namespace: blue}
spec:
  NetworkID: blue-int
  NetworkType: macvlan
  Options:
    cidr: 10.10.0.0/24
    allocation_pool: {start: 10.10.0.10, end: 10.10.0.19}
    net6: fd00:10::/64
    gateway: 10.10.0.1
    container_prefix: int
"""

SHARED = """\
---
apiVersion: danm.k8s.io/v1
kind: ClusterNetwork
metadata: {name: shared}
spec:
  NetworkID: shared
  NetworkType: macvlan
  AllowedTenants: [blue]
  Options: {host_device: ens4, vxlan: 900, cidr: 172.16.0.0/24, container_prefix: ext}
"""

REFUSED = """\
---
apiVersion: danm.k8s.io/v1
kind: ClusterNetwork
metadata: {name: refused}
spec:
  NetworkID: refused
  NetworkType: macvlan
  Options: {vxlan: 905, cidr: 10.99.0.0/24, gateway: 10.98.0.1}
"""

ORPHANED = """\
---
apiVersion: danm.k8s.io/v1
kind: ClusterNetwork
metadata: {name: orphaned}
spec:
  NetworkID: orphaned
  NetworkType: macvlan
  Options: {host_device: ens9, vxlan: 901}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Its JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Its error lines."""
        return self.err.splitlines()


class World:
    """One node as an operator sees it."""

    def __init__(self, folder: Path, namespace: Namespace | None = None) -> None:
        self.folder = folder
        self.namespace = namespace
        self.intent = folder / "intent"
        self.intent.mkdir()
        (folder / "net.d").mkdir()
        self.config = folder / "config.yaml"
        self.config.write_text(
            f"state_dir: {folder}/state\n"
            f"socket: {folder}/cni.sock\n"
            "node_name: node-a\n"
            f"intent: {{path: {self.intent}}}\n"
            f"cni: {{conf_dir: {folder}/net.d, bin_dirs: [/usr/lib/cni]}}\n"
            "metrics: {listen: ''}\n"
        )

    @classmethod
    def of(cls, node: Node) -> World:
        """The operator's view of a node that has a daemon."""
        folder = node.folder / "console"
        folder.mkdir()
        world = cls(folder, node.namespace)
        world.intent = node.intent
        world.config.write_text(
            f"state_dir: {node.state_dir}\n"
            f"socket: {node.socket}\n"
            f"node_name: {node.name}\n"
            f"intent: {{path: {node.intent}}}\n"
            f"cni: {{conf_dir: {node.conf_dir}, bin_dirs: [/usr/lib/cni]}}\n"
            "metrics: {listen: ''}\n"
        )
        return world

    @property
    def settings(self) -> Settings:
        return load({}, self.config)

    def write(self, name: str, *documents: str) -> Path:
        """Replace a file of the intent."""
        path = self.intent / name
        path.write_text("".join(documents))
        return path

    def upgrade(self) -> None:
        """Make the database."""
        from danmpy.db.migrate import upgrade

        upgrade(self.settings.database_url)

    def danmpy(self, *words: str, stdin: str = "", config: bool = True) -> Answer:
        """Run a command on this node; it must end with an exit code, whatever happens."""
        options = ["--config", str(self.config)] if config else []
        found: list[Answer] = []
        self.inside(lambda: found.append(run_command([*options, *words], stdin)))
        return found[0]

    def ask(self, *words: str, code: int = 0) -> Any:
        """The JSON answer of a command that must end with `code`."""
        answer = self.danmpy(*words, "-o", "json")
        assert answer.code == code, answer
        return answer.data

    def look(self) -> None:
        """Let the netwatcher do its work once: assignments and devices."""
        from danmpy.bootstrap.readers import open_netwatcher, read_attachments

        def work() -> None:
            with open_netwatcher(self.settings, read_attachments(self.settings)) as netwatcher:
                report = netwatcher.look()
            assert not report.error, report

        self.inside(work)

    def resolved(self, key: NetworkKey) -> NetworkSpec:
        """A network with its assignment."""
        from danmpy.bootstrap.readers import open_intent, open_netwatcher, read_attachments

        found: list[NetworkSpec] = []

        def work() -> None:
            with open_netwatcher(self.settings, read_attachments(self.settings)) as netwatcher:
                report = netwatcher.preview(open_intent(self.settings).read())
            found.append(report.networks[key])

        self.inside(work)
        return found[0]

    def inside(self, work: Any) -> None:
        """Call `work` in a thread that has entered this node's namespace."""
        problems: list[BaseException] = []

        def run() -> None:
            try:
                if self.namespace is not None:
                    enter(self.namespace.path)
                work()
            except BaseException as error:
                problems.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if problems:
            raise problems[0]


def enter(path: Path) -> None:
    """Move this thread into a namespace for good; the thread ends with the work."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert libc.setns(fd, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(fd)


def run_command(words: list[str], stdin: str = "") -> Answer:
    from danmpy.cli.main import app

    done = CliRunner().invoke(app, words, input=stdin, prog_name="danmpy")
    assert "Traceback" not in done.stderr + done.stdout
    assert "internal error" not in done.stderr, done.stderr
    return Answer(done.exit_code, done.stdout, done.stderr)


def declare(
    world: World, *interfaces: dict[str, object], name: str = "web", node: str = ""
) -> None:
    manifest = pod_manifest("blue", name, *interfaces, uid=f"uid-{name}", node=node)
    world.write(f"pod-{name}.json", json.dumps(manifest))


def hold(world: World, pod: str, *, ip: AddressAsk = DYNAMIC, node: str = "node-a") -> None:
    """Lease an address of blue/internal to a pod."""
    key = NetworkKey(kind=NetworkKind.TENANT, namespace="blue", name="internal")
    request = LeaseRequest(
        interface="eth0", network=world.resolved(key), ip=ip, mac="02:00:00:00:00:01"
    )
    owner = LeaseOwner(
        namespace="blue", pod=pod, pod_uid=f"uid-{pod}", container_id=f"box-{pod}", node=node
    )
    from danmpy.bootstrap.readers import open_leases

    open_leases(world.settings).bind(owner, [request])

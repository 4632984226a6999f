"""A small laboratory: two nodes and any number of pods on one machine, as network namespaces.

Everything is made under one prefix and taken away in `close`, also after a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

NODES = {"node-a": "192.168.77.1", "node-b": "192.168.77.2"}
"""Underlay addresses; they exist in the demo's own namespaces only."""

PARENT = "ens4"
UNDERLAY_MTU = 1500


class LabError(Exception):
    """Something that the demo needs did not work."""


def run(*command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command; its output is in the answer, and in the error when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done


class Lab:
    """Two nodes with a daemon each, one intent folder, one database."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="danmpy-demo-"))
        self.intent = self.folder / "intent"
        self.bin = self.folder / "bin"
        self._prefix = f"dd{os.getpid()}-"
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._namespaces: list[str] = []
        self._danmpy = str(Path(sys.executable).parent / "danmpy")

    def netns(self, name: str) -> str:
        """The namespace that stands for a node or pod."""
        return self._prefix + name

    def _add_netns(self, name: str) -> str:
        full = self.netns(name)
        run("ip", "netns", "add", full)
        self._namespaces.append(full)
        run("ip", "-n", full, "link", "set", "lo", "up")
        return full

    def build(self) -> None:
        """The fabric (a bridge) and the nodes on it, each with one NIC called ens4."""
        self.intent.mkdir()
        fabric = self._add_netns("fabric")
        run("ip", "-n", fabric, "link", "add", "fabric", "type", "bridge")
        run("ip", "-n", fabric, "link", "set", "fabric", "up")
        for number, (node, address) in enumerate(NODES.items()):
            netns = self._add_netns(node)
            port = f"port{number}"
            run(
                "ip", "-n", fabric, "link", "add", port, "type", "veth",
                "peer", "name", PARENT, "netns", netns,
            )  # fmt: skip
            run("ip", "-n", fabric, "link", "set", port, "master", "fabric", "up")
            run("ip", "-n", netns, "addr", "add", f"{address}/24", "dev", PARENT)
            run("ip", "-n", netns, "link", "set", PARENT, "mtu", str(UNDERLAY_MTU), "up")
        places = ("--bin-dir", str(self.bin), "--conf-dir", str(self.folder / "net.d"))
        self.cli("install-cni", *places)

    def environment(self, node: str) -> dict[str, str]:
        """The settings of one node's daemon; the database is one file for both."""
        home = self.folder / node
        return {
            **os.environ,
            "DANMPY_NODE_NAME": node,
            "DANMPY_STATE_DIR": str(home),
            "DANMPY_SOCKET": str(home / "cni.sock"),
            "DANMPY_DATABASE_URL": f"sqlite:///{self.folder / 'danmpy.db'}",
            "DANMPY_INTENT__PATH": str(self.intent),
            "DANMPY_CNI__CONF_DIR": str(self.folder / "net.d"),
            "DANMPY_IPAM__COOLDOWN_SECONDS": "120",
        }

    def start_daemons(self) -> None:
        """One `danmpy node` in each node's namespace; waits until both sockets answer."""
        for node in NODES:
            home = self.folder / node
            home.mkdir()
            with (home / "log").open("wb") as log:
                self._daemons.append(
                    subprocess.Popen(
                        ["ip", "netns", "exec", self.netns(node), self._danmpy, "node"],
                        env=self.environment(node),
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )
            self.wait_for(f"the daemon of {node}", lambda n=node: self.status(n) == 0)

    def wait_for(self, what: str, condition: Any, seconds: float = 20.0) -> float:
        """Seconds until `condition()` is true."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                logs = "\n".join(
                    path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*/log")
                )
                raise LabError(f"waited {seconds} s for {what}\n{logs}")
            time.sleep(0.02)
        return time.monotonic() - began

    def cli(self, *words: str, node: str = "node-a", ok: Sequence[int] = (0,)) -> str:
        """What `danmpy ...` prints on a node."""
        command = (self._danmpy, *words)
        if "install-cni" not in words:
            command = ("ip", "netns", "exec", self.netns(node), *command)
        done = run(*command, check=False, env=self.environment(node))
        if done.returncode not in ok:
            raise LabError(f"danmpy {' '.join(words)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def ask(self, *words: str, node: str = "node-a", ok: Sequence[int] = (0,)) -> Any:
        """The same as JSON."""
        return json.loads(self.cli(*words, "-o", "json", node=node, ok=ok))

    def cni(self, verb: str, node: str, environ: Mapping[str, str]) -> tuple[int, str]:
        """Call the CNI plugin as a container runtime does."""
        config = {
            "cniVersion": "1.1.0",
            "name": "danmpy",
            "type": "danmpy-cni",
            "socket": str(self.folder / node / "cni.sock"),
        }
        done = run(
            str(self.bin / "danmpy-cni"),
            check=False,
            input=json.dumps(config),
            env={"CNI_COMMAND": verb, "CNI_PATH": str(self.bin), **environ},
        )
        return done.returncode, done.stdout

    def status(self, node: str) -> int:
        """Exit status of the CNI verb STATUS."""
        return self.cni("STATUS", node, {})[0]

    def attachment(self, namespace: str, pod: str) -> dict[str, str]:
        """What kubelet and containerd say about a pod's sandbox."""
        return {
            "CNI_CONTAINERID": f"{namespace}-{pod}-sandbox",
            "CNI_NETNS": f"/run/netns/{self.netns(f'{namespace}-{pod}')}",
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod};"
            f"K8S_POD_INFRA_CONTAINER_ID={namespace}-{pod}-sandbox",
        }

    def add_pod(self, namespace: str, pod: str, node: str) -> dict[str, Any]:
        """Make a sandbox and attach it; the CNI result."""
        self._add_netns(f"{namespace}-{pod}")
        status, printed = self.cni("ADD", node, self.attachment(namespace, pod))
        if status != 0:
            raise LabError(f"ADD of {namespace}/{pod} failed: {printed}")
        return dict(json.loads(printed))

    def delete_pod(self, namespace: str, pod: str, node: str) -> None:
        """Detach a sandbox and remove it."""
        status, printed = self.cni("DEL", node, self.attachment(namespace, pod))
        if status != 0:
            raise LabError(f"DEL of {namespace}/{pod} failed: {printed}")

    def inside(self, namespace: str, pod: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a pod."""
        netns = self.netns(f"{namespace}-{pod}")
        return run("ip", "netns", "exec", netns, *command, check=False)

    @contextlib.contextmanager
    def capture(self, netns: str, device: str) -> Iterator[list[str]]:
        """Frames seen on a device while the block runs, one line each with both MACs."""
        lines: list[str] = []
        command = ["ip", "netns", "exec", netns, "tcpdump", "-l", "-n", "-e", "-i", device]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            if process.stderr is None or process.stdout is None:
                raise LabError("tcpdump has no output")
            for line in process.stderr:
                if "listening on" in line:
                    break
            try:
                yield lines
            finally:
                time.sleep(0.2)
                process.send_signal(signal.SIGINT)
                lines += process.stdout.read().splitlines()

    def close(self) -> None:
        """Stop the daemons and remove every trace."""
        for daemon in self._daemons:
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for netns in reversed(self._namespaces):
            run("ip", "netns", "del", netns, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

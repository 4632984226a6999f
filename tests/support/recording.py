"""A CNI plugin that writes down what it is told, and answers as it is told to.

Each call goes to the file ``calls`` in its folder: name, verb, standard input and environment. What
it answers stands in the file ``NAME.VERB``: text for its outputs, an exit status, seconds to sleep,
processes to leave behind. Without such a file it succeeds and prints nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from danmpy.api.specs import NetworkKey, NetworkKind, NetworkSpec
from danmpy.attach.delegates.calling import Delegates
from danmpy.attach.delegates.confs import DelegateConf
from danmpy.attach.values import PodIdentity
from support.specs import network, tenant_key

PLUGIN = """#!/usr/bin/python3 -IS
import json, os, signal, sys, time
here = os.path.dirname(os.path.abspath(__file__))
name, verb = os.path.basename(__file__), os.environ["CNI_COMMAND"]
text = sys.stdin.read()
call = {"plugin": name, "verb": verb, "stdin": json.loads(text), "environ": dict(os.environ)}
with open(os.path.join(here, "calls"), "a") as calls:
    calls.write(json.dumps(call) + "\\n")
try:
    with open(os.path.join(here, name + "." + verb)) as said:
        answer = json.load(said)
except FileNotFoundError:
    answer = {}
sys.stderr.write(answer.get("stderr", ""))
sys.stderr.flush()
if answer.get("child") and os.fork() == 0:
    with open(os.path.join(here, "child"), "w") as file:
        file.write(str(os.getpid()))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
if answer.get("deaf"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(answer.get("sleep", 0))
sys.stdout.write(answer.get("stdout", ""))
sys.exit(answer.get("status", 0))
"""

NET = network(tenant_key("net"), network_id="net", backend="first")
NAD = network(
    NetworkKey(kind=NetworkKind.NAD, namespace="blue", name="lan"), network_id="lan", backend="nad"
)
CHAIN: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "plugins": [{"type": "first"}, {"type": "second", "key": [1]}],
}


@dataclass
class Bench:
    """A folder of recording plugins and their configurations."""

    folder: Path

    def plugin(self, name: str, *versions: str) -> None:
        """A plugin called `name` that knows these versions, and answers ADD with an address."""
        path = self.folder / name
        path.write_text(PLUGIN)
        path.chmod(0o755)
        known = list(versions or ("0.4.0", "1.0.0", "1.1.0"))
        self.says(name, "VERSION", {"cniVersion": "1.0.0", "supportedVersions": known})
        self.says(name, "ADD", {"cniVersion": known[-1], "ips": [{"address": "10.0.0.5/24"}]})

    def says(self, name: str, verb: str, document: object = None, **more: Any) -> None:
        """What `name` answers to `verb` from now on."""
        said = more if document is None else {"stdout": json.dumps(document), **more}
        (self.folder / f"{name}.{verb}").write_text(json.dumps(said))

    def fails(self, name: str, verb: str, code: int = 100, **error: Any) -> None:
        """`name` answers `verb` with an error of the specification's shape."""
        self.says(name, verb, {"cniVersion": "1.0.0", "code": code, **error}, status=1)

    @property
    def all_calls(self) -> list[dict[str, Any]]:
        """Every call so far, in order."""
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Every call so far but those that ask for versions."""
        return [call for call in self.all_calls if call["verb"] != "VERSION"]

    @property
    def order(self) -> list[str]:
        """The calls as ``plugin VERB``."""
        return [f"{call['plugin']} {call['verb']}" for call in self.calls]

    def forget(self) -> None:
        """Begin a new record."""
        (self.folder / "calls").unlink(missing_ok=True)

    def conf(self, spec: NetworkSpec = NET, **document: Any) -> DelegateConf:
        """The configuration of `document`, in the file of the network `spec`."""
        text = json.dumps({"name": "net", **document})
        (self.folder / f"{spec.network_id}.conf").write_text(text)
        return self.delegates().render(spec)

    def delegates(self, **more: Any) -> Delegates:
        """Calls the plugins of this folder."""
        return Delegates(self.folder, (self.folder,), **more)


def identity(netns: str = "/proc/self/ns/net", **more: Any) -> PodIdentity:
    """A pod in `netns`."""
    words: dict[str, Any] = {
        "namespace": "blue",
        "pod": "web-0",
        "uid": "u1",
        "container_id": "c1",
        "netns": netns,
        "ifname": "eth0",
        **more,
    }
    return PodIdentity(**words)


def nad(*plugins: dict[str, Any], **more: Any) -> NetworkSpec:
    """`NAD` with these plugins in its own configuration, and `more` keys beside them."""
    text = json.dumps({"cniVersion": "1.1.0", "plugins": plugins, **more})
    return replace(NAD, conf=text)

"""A Multus by hand: it runs plugins in its order and leaves its cache, as the real one does.

The shapes of the files are Multus's (pkg/multus, saveDelegates) and libcni's (libcni/api.go,
cachedInfo); what libcni 1.1.2 writes was compared with `result_file` byte by byte, but for the
order of keys.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.netns import Namespace
from support.requirements import CNI_PLUGINS

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One network of a pod: its configuration, and what Multus notes besides.

    `nad` is ``namespace/name``; empty: the network is no NetworkAttachmentDefinition. `ifname` is
    what the pod asked; `capability_args` what is offered to its plugins.
    """

    config: Document
    nad: str = ""
    ifname: str = ""
    device_id: str = ""
    resource: str = ""
    capability_args: Document = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A sandbox of a pod."""

    container_id: str
    netns: str
    namespace: str = "blue"
    name: str = "web"
    uid: str = ""
    ifname: str = "eth0"

    @property
    def args(self) -> list[list[str]]:
        """CNI_ARGS in Multus's order: its own, then the runtime's once more."""
        own = [
            ["IgnoreUnknown", "true"],
            ["K8S_POD_NAMESPACE", self.namespace],
            ["K8S_POD_NAME", self.name],
            ["K8S_POD_INFRA_CONTAINER_ID", self.container_id],
            ["K8S_POD_UID", self.uid],
        ]
        return [*own, ["IgnoreUnknown", "1"], *own[1:4]]


def interface_of(sandbox: Sandbox, wanted: Wanted, position: int) -> str:
    """How Multus calls an interface (pkg/multus, getIfname)."""
    return wanted.ifname or (f"net{position}" if position else sandbox.ifname)


def plugins_of(config: Document) -> list[dict[str, Any]]:
    """The plugins of a list, or the single one."""
    return [dict(each) for each in config.get("plugins", [config])]


def delegates_file(wanted: Sequence[Wanted]) -> str:
    """The list that Multus saves before it begins."""
    return json.dumps([_delegate(each) for each in wanted])


def _delegate(wanted: Wanted) -> dict[str, Any]:
    config = wanted.config
    listed = "plugins" in config
    name, version = config["name"], config.get("cniVersion", "")
    single = {"cniVersion": version, "name": name, "ipam": {}, "dns": {}}
    entry: dict[str, Any] = {
        "Conf": single if listed else {**single, "type": config["type"]},
        "ConfList": {"cniVersion": version, "name": name, "plugins": plugins_of(config)}
        if listed
        else {},
        "Name": wanted.nad or name,
        "IsFilterV4Gateway": False,
        "IsFilterV6Gateway": False,
        "Bytes": base64.b64encode(json.dumps(config).encode()).decode(),
    }
    optional = {
        "ifnameRequest": wanted.ifname,
        "deviceID": wanted.device_id,
        "resourceName": wanted.resource,
    }
    return entry | {key: value for key, value in optional.items() if value}


def result_file(
    sandbox: Sandbox, wanted: Wanted, ifname: str, result: Document, *, netns: bool = True
) -> dict[str, Any]:
    """What libcni remembers of an ADD; before 1.2 without `netns`."""
    entry: dict[str, Any] = {
        "kind": "cniCacheV1",
        "containerId": sandbox.container_id,
        "config": base64.b64encode(json.dumps(wanted.config).encode()).decode(),
        "ifName": ifname,
        "networkName": wanted.config["name"],
        "cniArgs": sandbox.args,
        "result": result,
    }
    if netns:
        entry["netns"] = sandbox.netns
    if wanted.capability_args:
        entry["capabilityArgs"] = wanted.capability_args
    return entry


@dataclass(slots=True, kw_only=True)
class Multus:
    """Multus on one node: plugins run in the namespace `host`, or in the one of the test run.

    `netns`: does its libcni write the namespace into the cache?
    """

    cache: Path
    host: Namespace | None = None
    netns: bool = True

    def attach(self, sandbox: Sandbox, *wanted: Wanted) -> list[dict[str, Any]]:
        """ADD of a pod: the list first, then the delegates in order; their results."""
        self.save_list(sandbox, wanted)
        return [
            self.attach_one(sandbox, each, interface_of(sandbox, each, position))
            for position, each in enumerate(wanted)
        ]

    def attach_one(self, sandbox: Sandbox, wanted: Wanted, ifname: str) -> dict[str, Any]:
        """ADD of one delegate, and what libcni remembers of it."""
        result = self._add(sandbox, wanted, ifname)
        entry = result_file(sandbox, wanted, ifname, result, netns=self.netns)
        self.save_result(entry)
        return result

    def save_list(self, sandbox: Sandbox, wanted: Sequence[Wanted]) -> Path:
        """Only the list of delegates."""
        self.cache.mkdir(parents=True, exist_ok=True)
        path = self.cache / sandbox.container_id
        path.write_text(delegates_file(wanted))
        return path

    def save_result(self, entry: Document) -> Path:
        """Only a result."""
        name = f"{entry['networkName']}-{entry['containerId']}-{entry['ifName']}"
        path = self.cache / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entry))
        return path

    def files(self) -> list[str]:
        """What is in the cache."""
        paths = (path for path in self.cache.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.cache)) for path in paths)

    def detach(self, sandbox: Sandbox, *wanted: Wanted) -> None:
        """DEL of a pod, by what is in the cache and by nothing else; then its files go."""
        for position, each in reversed(list(enumerate(wanted))):
            ifname = interface_of(sandbox, each, position)
            name = f"{each.config['name']}-{sandbox.container_id}-{ifname}"
            path = self.cache / "results" / name
            entry = json.loads(path.read_text())
            kept = json.loads(base64.b64decode(entry["config"]))
            known = Wanted(config=kept, capability_args=entry.get("capabilityArgs", {}))
            for plugin in reversed(plugins_of(kept)):
                self._call("DEL", sandbox, known, ifname, plugin, entry["result"])
            path.unlink()
        (self.cache / sandbox.container_id).unlink()

    def _add(self, sandbox: Sandbox, wanted: Wanted, ifname: str) -> dict[str, Any]:
        last: dict[str, Any] = {}
        for plugin in plugins_of(wanted.config):
            last = json.loads(self._call("ADD", sandbox, wanted, ifname, plugin, last))
        return last

    def _call(
        self,
        verb: str,
        sandbox: Sandbox,
        wanted: Wanted,
        ifname: str,
        plugin: Document,
        last: Document,
    ) -> str:
        environ = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": sandbox.container_id,
            "CNI_NETNS": sandbox.netns,
            "CNI_IFNAME": ifname,
            "CNI_ARGS": ";".join("=".join(pair) for pair in sandbox.args),
            "CNI_PATH": str(CNI_PLUGINS),
        }
        declared = plugin.get("capabilities", {})
        offered = {key: value for key, value in wanted.capability_args.items() if declared.get(key)}
        request = {
            **plugin,
            **{key: wanted.config[key] for key in ("name", "cniVersion")},
            **({"runtimeConfig": offered} if offered else {}),
            **({"prevResult": last} if last else {}),
        }
        binary = str(CNI_PLUGINS / plugin["type"])
        done = subprocess.run(
            self.host.argv(binary) if self.host else [binary],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env=environ,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

"""Configurations of delegate plugins: find the file, read it, render it for one attachment.

DANM 3.3 and 7.3: the file ``<NetworkID>.conf`` of the CNI configuration directory is used as it is,
but for its ``ipam``, which is replaced when the pod asked an address that the network can give.
Lists (``.conflist``) follow the CNI specification 1.1.0, section 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, Final

from danmpy.api.cni import KNOWN_VERSIONS, version_key
from danmpy.api.specs import NetworkSpec
from danmpy.attach.values import IPInterface
from danmpy.errors import BugError, IntentError, NotReadyError

SUFFIXES: Final = (".conflist", ".conf", ".json")
"""In the order of preference, as libcni looks them up."""

OWN_TYPES: Final = frozenset({"danmpy-cni", "danm"})
"""A delegate of these types would call the node daemon from inside its own call."""

STATIC_IPAM: Final = "static"

_MAX_FILE: Final = 2 * 1024 * 1024
"""Bytes; containerd refuses bigger files."""
_RUNTIME_KEYS: Final = frozenset({"cniVersion", "name", "prevResult", "capabilities"})
"""Keys that are the caller's; `capabilities` is for the caller only (CNI spec, section 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfFile:
    """One configuration file, parsed; `versions` are the cniVersions that it allows."""

    path: Path
    name: str
    versions: frozenset[str]
    plugins: tuple[Mapping[str, Any], ...]
    disable_check: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegateConf:
    """A delegate's configuration, rendered for one attachment; travels as JSON text.

    `plugins` are complete but for ``name``, ``cniVersion`` and ``prevResult``. `addresses` and
    `mac` are what the delegate must report back; empty when it chooses.
    """

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    source: str = ""
    addresses: tuple[IPInterface, ...] = ()
    mac: str = ""
    disable_check: bool = False

    def to_json(self) -> str:
        """The text that `from_json` reads."""
        document = {
            "name": self.name,
            "version": self.version,
            "plugins": list(self.plugins),
            "source": self.source,
            "addresses": [str(address) for address in self.addresses],
            "mac": self.mac,
            "disable_check": self.disable_check,
        }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> DelegateConf:
        """The configuration in `text`. Raises BugError when `to_json` did not write it."""
        try:
            document = json.loads(text)
            return cls(
                name=document["name"],
                version=document["version"],
                plugins=tuple(document["plugins"]),
                source=document["source"],
                addresses=tuple(map(ip_interface, document["addresses"])),
                mac=document["mac"],
                disable_check=document["disable_check"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BugError(
                f"a stored delegate configuration cannot be read: {error}",
                hint="the journal of this attachment was altered",
            ) from error


def read_conf_names(conf_dir: Path) -> frozenset[str]:
    """Names without suffix of all configuration files; none when the directory is missing."""
    try:
        entries = list(conf_dir.iterdir())
    except OSError:
        return frozenset()
    return frozenset(p.stem for p in entries if p.suffix in SUFFIXES and p.name[0] != ".")


def read_conf(conf_dir: Path, network: NetworkSpec) -> ConfFile:
    """The configuration of `network`.

    Raises:
        NotReadyError: there is none.
        IntentError: the file cannot be read or is no CNI configuration.
    """
    path = _find(conf_dir, network)
    document = _load(path)
    name = document.get("name") or network.network_id
    if not isinstance(name, str):
        raise broken_conf(path, "'name' is no string")
    plugins = _plugins(path, document)
    if len(plugins) == 1 and "type" not in plugins[0]:
        # DANM runs the binary called NetworkType; its own files often have no type.
        plugins = ({**plugins[0], "type": network.backend},)
    for plugin in plugins:
        _require_type(path, plugin)
    return ConfFile(
        path=path,
        name=name,
        versions=_versions(path, document),
        plugins=plugins,
        disable_check=str(document.get("disableCheck", False)).lower() == "true",
    )


def choose_version(conf: ConfFile, supported: Mapping[str, frozenset[str] | None]) -> str:
    """The highest version that the file allows and every plugin knows (`supported`: type ->
    versions, None for a plugin that does not say); failing that, the highest that all know below
    what the file asks, since results of every version can be read.

    Raises:
        IntentError: there is none.
    """
    common = set(KNOWN_VERSIONS)
    for versions in supported.values():
        if versions is not None:
            common &= versions
    allowed = conf.versions or frozenset(KNOWN_VERSIONS)
    ceiling = max(map(version_key, allowed))
    usable = (common & allowed) or {v for v in common if version_key(v) <= ceiling}
    if len(conf.plugins) > 1:
        usable = {v for v in usable if version_key(v) >= (0, 3, 0)}  # no prevResult before
    if not usable:
        known = "; ".join(
            f"{kind} knows {', '.join(sorted(versions))}"
            for kind, versions in supported.items()
            if versions is not None
        )
        raise broken_conf(
            conf.path,
            f"no CNI version suits the file ({', '.join(sorted(allowed))}) and its plugins"
            f" ({known})",
            "change cniVersion, or install plugins of that version",
        )
    return max(usable, key=version_key)


def with_addresses(
    plugins: tuple[Mapping[str, Any], ...],
    network: NetworkSpec,
    addresses: tuple[IPInterface, ...],
) -> tuple[Mapping[str, Any], ...]:
    """`plugins` whose first one with an ``ipam`` (else the first) gives exactly `addresses`.

    The reference plugin ``static`` does what DANM's fakeipam did. Routes of the file's ``ipam`` go
    with it, as in DANM: the network object's routes are installed instead.
    """
    gateways = {4: network.gateway, 6: network.gateway6}
    entries = []
    for address in addresses:
        gateway = gateways[address.version]
        usable = gateway is not None and gateway in address.network
        extra = {"gateway": str(gateway)} if usable else {}
        entries.append({"address": str(address), **extra})
    ipam = {"type": STATIC_IPAM, "addresses": entries}
    target = next((i for i, plugin in enumerate(plugins) if plugin.get("ipam")), 0)
    return tuple(
        {**plugin, "ipam": ipam} if position == target else plugin
        for position, plugin in enumerate(plugins)
    )


def with_runtime_config(
    plugins: tuple[Mapping[str, Any], ...], offered: Mapping[str, Any]
) -> tuple[Mapping[str, Any], ...]:
    """`plugins` without the caller's keys, each with what it declares a capability for."""
    rendered = []
    for plugin in plugins:
        capabilities = plugin.get("capabilities") or {}
        wanted = {k: v for k, v in offered.items() if v and capabilities.get(k) is True}
        kept = {k: v for k, v in plugin.items() if k not in _RUNTIME_KEYS | {"runtimeConfig"}}
        rendered.append({**kept, "runtimeConfig": wanted} if wanted else kept)
    return tuple(rendered)


def ipam_type(plugin: Mapping[str, Any]) -> str:
    """The IPAM plugin that `plugin` will call, or an empty string."""
    ipam = plugin.get("ipam")
    kind = ipam.get("type") if isinstance(ipam, Mapping) else None
    return kind if isinstance(kind, str) else ""


def broken_conf(path: Path, problem: str, hint: str = "correct the file") -> IntentError:
    """The error of a configuration file that a person has to correct."""
    return IntentError(problem, hint=hint, subject=str(path))


def _find(conf_dir: Path, network: NetworkSpec) -> Path:
    # Only names that the listing shows: a NetworkID like "../x" must not leave the directory.
    if network.network_id in read_conf_names(conf_dir):
        for suffix in SUFFIXES:
            path = conf_dir / f"{network.network_id}{suffix}"
            if path.is_file():
                return path
    raise NotReadyError(
        f"NetworkType {network.backend} is a delegate, and {conf_dir} has neither "
        f"{network.network_id}.conflist nor {network.network_id}.conf",
        hint="put the delegate's configuration there, or correct NetworkID",
        subject=str(network.key),
    )


def _load(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MAX_FILE:
            raise broken_conf(path, f"the file is bigger than {_MAX_FILE} bytes")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise broken_conf(path, f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise broken_conf(path, f"is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise broken_conf(path, "is no JSON object")
    return document


def _plugins(path: Path, document: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """A single plugin is a list of one, whatever the file is called."""
    if "plugins" not in document:
        return (document,)
    plugins = document["plugins"]
    valid = isinstance(plugins, list) and all(isinstance(p, dict) for p in plugins)
    if not plugins or not valid:
        raise broken_conf(path, "'plugins' is no list with at least one object")
    return tuple(plugins)


def _require_type(path: Path, plugin: Mapping[str, Any]) -> None:
    kind = plugin.get("type")
    if not isinstance(kind, str) or not kind or "/" in kind or kind in {".", ".."}:
        raise broken_conf(path, f"the plugin type {kind!r} is no file name")
    if kind in OWN_TYPES:
        raise broken_conf(
            path,
            f"the plugin type {kind} is danmpy itself",
            "point NetworkID to the configuration of another plugin",
        )
    if not isinstance(plugin.get("capabilities") or {}, dict):
        raise broken_conf(path, f"'capabilities' of {kind} is no object")


def _versions(path: Path, document: Mapping[str, Any]) -> frozenset[str]:
    listed = document.get("cniVersions") or []
    if not isinstance(listed, list):
        raise broken_conf(path, "'cniVersions' is no list")
    versions = [v for v in (document.get("cniVersion"), *listed) if v]
    for version in versions:
        try:
            version_key(version)
        except (ValueError, TypeError):
            raise broken_conf(path, f"the cniVersion {version!r} is none") from None
    return frozenset(versions)

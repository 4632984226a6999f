"""Configurations of delegate plugins as values: judged, and how they travel in the journal.

A configuration is what the CNI specification 1.1.0, section 1, says: a list of plugins, or a single
plugin, which is a list of one. The keys that are not the caller's reach the plugin untouched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any, Final

from danmpy.api.cni import KNOWN_VERSIONS, version_key
from danmpy.api.nad_configs import OWN_TYPES
from danmpy.attach.values import IPInterface
from danmpy.errors import BugError, IntentError

Plugin = Mapping[str, Any]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*\Z")
"""CNI specification 1.1.0, section 1: ``name``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfFile:
    """One configuration, parsed; `source` is the file or the object that it is from, `versions` are
    the cniVersions that it allows (empty: it names none)."""

    source: str
    name: str
    versions: frozenset[str]
    plugins: tuple[Plugin, ...]
    disable_check: bool = False
    disable_gc: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegateConf:
    """A delegate's configuration, rendered for one attachment; travels as JSON text.

    `plugins` are complete but for ``name``, ``cniVersion`` and ``prevResult``. `addresses`, `mac`
    and `ips` (with or without prefix length) are what the delegate must report back; empty when it
    chooses. `args` are more CNI_ARGS than those that say who is attached.
    """

    name: str
    version: str
    plugins: tuple[Plugin, ...]
    source: str = ""
    addresses: tuple[IPInterface, ...] = ()
    mac: str = ""
    disable_check: bool = False
    disable_gc: bool = False
    ips: tuple[str, ...] = ()
    args: Mapping[str, str] = field(default_factory=dict)

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
            "disable_gc": self.disable_gc,
            "ips": list(self.ips),
            "args": dict(self.args),
        }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> DelegateConf:
        """The configuration in `text`, by this release or an earlier one. Raises BugError when
        `to_json` did not write it."""
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
                disable_gc=document.get("disable_gc", False),
                ips=tuple(document.get("ips", ())),
                args=document.get("args", {}),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BugError(
                f"a stored delegate configuration cannot be read: {error}",
                hint="the journal of this attachment was altered",
            ) from error


def parse_text(text: str | bytes, source: str) -> Mapping[str, Any]:
    """The JSON object that `text` is. Raises IntentError when it is none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise broken_conf(source, f"is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise broken_conf(source, "is no JSON object")
    return document


def parse_conf(
    document: Mapping[str, Any],
    source: str,
    *,
    name: str,
    kind: str = "",
    loaded: tuple[Plugin, ...] | None = None,
) -> ConfFile:
    """The configuration in `document`, which gets `name` when it has none of its own, and the
    plugin type `kind` when it is a single plugin without one. `loaded` are the plugins beside a
    list (`delegate_files`), which come after its own; None: nobody has looked for some.

    Raises:
        IntentError: it is no CNI configuration, or one of danmpy itself.
    """
    own_name = conf_name(document, source) or name
    plugins = _inlined(document, source, alone=loaded is None) + (loaded or ())
    if not plugins:
        raise broken_conf(source, "no plugin is in it", "name at least one plugin in 'plugins'")
    if kind and len(plugins) == 1 and "type" not in plugins[0]:
        plugins = ({**plugins[0], "type": kind},)
    for plugin in plugins:
        _require_usable(plugin, source)
    return ConfFile(
        source=source,
        name=own_name,
        versions=_versions(document, source),
        plugins=plugins,
        disable_check=read_flag(document, "disableCheck", source),
        disable_gc=read_flag(document, "disableGC", source),
    )


def conf_name(document: Mapping[str, Any], source: str) -> str:
    """The ``name`` in `document`, empty when there is none. Raises IntentError for one that cannot
    be a network's."""
    name = document.get("name", "")
    if not isinstance(name, str):
        raise broken_conf(source, "'name' is no string")
    if name and not _NAME.match(name):
        raise broken_conf(
            source,
            f"'name' is {name!r}, which cannot name a network",
            "begin with a letter or digit and go on with letters, digits, '_', '.' and '-'",
        )
    return name


def read_flag(document: Mapping[str, Any], key: str, source: str) -> bool:
    """True or false, also as text, as libcni takes it; absent is false. Raises IntentError for
    anything else."""
    value = document.get(key, False)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise broken_conf(source, f"'{key}' is {value!r}", "write true or false")


def choose_version(conf: ConfFile, supported: Mapping[str, frozenset[str] | None]) -> str:
    """The highest version that the configuration allows and every plugin knows (`supported`: type
    -> versions, None for a plugin that does not say); failing that, the highest that all know below
    what is asked, since results of every version can be read.

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
            conf.source,
            f"no CNI version suits the file ({', '.join(sorted(allowed))}) and its plugins"
            f" ({known})",
            "change cniVersion, or install plugins of that version",
        )
    return max(usable, key=version_key)


def ipam_type(plugin: Plugin) -> str:
    """The IPAM plugin that `plugin` will call, or an empty string."""
    ipam = plugin.get("ipam")
    kind = ipam.get("type") if isinstance(ipam, Mapping) else None
    return kind if isinstance(kind, str) else ""


def broken_conf(source: str, problem: str, hint: str = "correct the configuration") -> IntentError:
    """The error of a configuration that a person has to correct."""
    return IntentError(problem, hint=hint, subject=source)


def _inlined(document: Mapping[str, Any], source: str, *, alone: bool) -> tuple[Plugin, ...]:
    """A single plugin is a list of one, whatever the file is called."""
    if "plugins" not in document:
        return (document,) if alone else ()
    plugins = document["plugins"]
    if not isinstance(plugins, list) or not all(isinstance(each, dict) for each in plugins):
        raise broken_conf(source, "'plugins' is no list of objects")
    return tuple(plugins)


def _require_usable(plugin: Plugin, source: str) -> None:
    kind = plugin.get("type")
    if not isinstance(kind, str) or not kind or "/" in kind or kind in {".", ".."}:
        raise broken_conf(source, f"the plugin type {kind!r} is no file name")
    if kind in OWN_TYPES:  # it would call the node daemon from inside the daemon's own call
        raise broken_conf(
            source,
            f"the plugin type {kind} is danmpy itself",
            "name the configuration of another plugin",
        )
    for key in ("capabilities", "args"):
        if not isinstance(plugin.get(key) or {}, dict):
            raise broken_conf(source, f"'{key}' of {kind} is no object")


def _versions(document: Mapping[str, Any], source: str) -> frozenset[str]:
    listed = document.get("cniVersions") or []
    if not isinstance(listed, list):
        raise broken_conf(source, "'cniVersions' is no list")
    versions = [v for v in (document.get("cniVersion"), *listed) if v]
    for version in versions:
        try:
            version_key(version)
        except (ValueError, TypeError):
            raise broken_conf(source, f"the cniVersion {version!r} is none") from None
    return frozenset(versions)

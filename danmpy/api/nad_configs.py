"""CNI configurations as NetworkAttachmentDefinitions carry them, read for what is ours in them.

A plugin of type ``danmpy-cni`` stands for another network; ``vlan`` or ``vxlan`` beside ``master``
asks for a host device; ``ipam`` of type ``danmpy-cni`` has its addresses in the database. All else
is the plugins' own, and only looked at for what no plugin could use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import Field, ValidationError

from danmpy.api.addresses import TextError
from danmpy.api.findings import Finding, shape_findings
from danmpy.api.jsontext import a_json, parse_json
from danmpy.api.limits import (
    IFNAME_MAX_BYTES,
    MTU_MAX,
    MTU_MIN,
    VLAN_MAX,
    VLAN_MIN,
    VNI_MAX,
    VNI_MIN,
)
from danmpy.api.networks import AllocationPool, AllocationPoolV6, Manifest
from danmpy.api.specs import NetworkKey, NetworkKind, SegmentKey, SegmentKind
from danmpy.api.words import is_file_name, is_link_name, is_object_name

CONFIG: Final = "spec.config"
IPAM: Final = f"{CONFIG}.ipam"

OWN_TYPES: Final = frozenset({"danmpy-cni", "danm"})
OWN_IPAM: Final = "danmpy-cni"

_CNI_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
"""CNI specification 1.1.0, section 1: what ``name`` may be."""

_CNI_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")

_FLAGS: Final = ("disableCheck", "disableGC", "loadOnlyInlinedPlugins")

_VLAN_IS_THEIRS: Final = frozenset(
    {"bridge", "vlan", "sriov", "ib-sriov", "accelerated-bridge", "ovs", "ovn-k8s-cni-overlay"}
)
"""Plugins for which ``vlan`` is a word of their own, and means what they say it means."""

_ON_MASTER: Final = frozenset({"macvlan", "ipvlan"})
"""Plugins that know no ``vlan`` or ``vxlan``: there these words are ours or a mistake."""

_ALIAS_KINDS: Final[Mapping[str, NetworkKind]] = {
    "network": NetworkKind.DANM,
    "tenantNetwork": NetworkKind.TENANT,
    "clusterNetwork": NetworkKind.CLUSTER,
}
_NOT_IN_ALIAS: Final = ("ipam", "master", "vlan", "vxlan")

_LIMITS: Final[Mapping[SegmentKind, tuple[int, int]]] = {
    SegmentKind.VLAN: (VLAN_MIN, VLAN_MAX),
    SegmentKind.VXLAN: (VNI_MIN, VNI_MAX),
}


class NadIpam(Manifest):
    """``ipam`` of type ``danmpy-cni``: the words of Options that are about addresses."""

    type: str
    cidr: str = ""
    allocation_pool: AllocationPool = Field(default_factory=AllocationPool)
    routes: dict[str, str] = Field(default_factory=dict)
    net6: str = ""
    allocation_pool_v6: AllocationPoolV6 = Field(default_factory=AllocationPoolV6)
    routes6: dict[str, str] = Field(default_factory=dict)
    gateway: str = ""
    gateway6: str = ""
    ranges: list[str] = Field(default_factory=list)
    exclude: list[str] = Field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class NadConfig:
    """What a configuration says to us, as far as it can be read."""

    findings: tuple[Finding, ...] = ()
    alias: NetworkKey | None = None
    master: str = ""
    vlan: int = 0
    vxlan: int = 0
    mtu: int | None = None
    ipam: NadIpam | None = None

    @property
    def segment(self) -> SegmentKey | None:
        """The wire that it names."""
        if not self.master or bool(self.vlan) == bool(self.vxlan):
            return None
        kind = SegmentKind.VLAN if self.vlan else SegmentKind.VXLAN
        return SegmentKey(parent=self.master, kind=kind, id=self.vlan or self.vxlan)


class _Reading:
    """A configuration that is being read; it never leaves `read_config`."""

    def __init__(self, key: NetworkKey) -> None:
        self.key = key
        self.findings: list[Finding] = []

    def refuse(self, path: str, code: str, message: str, hint: str) -> None:
        self.findings.append(Finding(path=path, code=code, message=message, hint=hint))


def read_config(key: NetworkKey, text: str) -> NadConfig:
    """What `text` says; what cannot be read is told and left out."""
    if not text:
        return NadConfig()
    reading = _Reading(key)
    try:
        document = parse_json(text)
    except TextError as error:
        # Only a key that stands twice has a hint; other readers take the last of the two.
        code = "ConfigAmbiguous" if error.hint else "ConfigNotJson"
        hint = error.hint or "write one CNI configuration as JSON"
        reading.refuse(CONFIG, code, f"{CONFIG}: {error.message}", hint)
        return NadConfig(findings=tuple(reading.findings))
    if not isinstance(document, dict):
        reading.refuse(
            CONFIG,
            "ConfigNotJson",
            f"{CONFIG} is {a_json(document)} and no object",
            "write one CNI configuration: {...}",
        )
        return NadConfig(findings=tuple(reading.findings))
    _judge_head(reading, document)
    _judge_plugins(reading, document)
    plugins = _plugins_of(document)
    alias = _alias(reading, plugins)
    on_master = _on_master(plugins) or next(
        (plugin for plugin in plugins if _type_of(plugin) in _ON_MASTER), {}
    )
    config = NadConfig() if alias is not None else _read_place(reading, on_master)
    return replace(
        config, alias=alias, ipam=_ipam(reading, plugins), findings=tuple(reading.findings)
    )


def link_plugin(conf: str) -> str:
    """The type of the plugin that stands on ``master`` in an accepted configuration; "" if none."""
    try:
        plugin = _on_master(_plugins_of(parse_json(conf)))
    except TextError:
        return ""
    return _type_of(plugin) if plugin is not None else ""


def _judge_head(reading: _Reading, document: Mapping[str, Any]) -> None:
    """What stands above the plugins (CNI specification 1.1.0, section 1)."""
    name = document.get("name", "x")
    if not isinstance(name, str) or _CNI_NAME.fullmatch(name) is None:
        reading.refuse(
            f"{CONFIG}.name",
            "NameInvalid",
            f"name {name!r} cannot be the name of a CNI configuration",
            "use letters, digits, underscore, dot and dash, a letter or digit first; or leave it "
            f"out, and it is {reading.key.name}",
        )
    versions = document.get("cniVersions", [])
    if not isinstance(versions, list):
        versions = [versions]
    for version in (document.get("cniVersion", "1.0.0"), *versions):
        if not isinstance(version, str) or _CNI_VERSION.fullmatch(version) is None:
            reading.refuse(
                f"{CONFIG}.cniVersion",
                "VersionInvalid",
                f"cniVersion {version!r} is no version",
                "write one as 1.0.0",
            )
    for flag in _FLAGS:
        value = document.get(flag, False)
        words = isinstance(value, str) and value.lower() in {"true", "false"}
        if not isinstance(value, bool) and not words:
            reading.refuse(
                f"{CONFIG}.{flag}", "FlagInvalid", f"{flag} is {value!r}", "write true or false"
            )


def _judge_plugins(reading: _Reading, document: Mapping[str, Any]) -> None:
    if "plugins" not in document:
        _judge_type(reading, document, CONFIG)
        return
    plugins = document["plugins"]
    if not isinstance(plugins, list) or not plugins:
        said = "empty" if plugins == [] else a_json(plugins)
        reading.refuse(
            f"{CONFIG}.plugins",
            "PluginsInvalid",
            f"plugins is {said}",
            "write a list of at least one plugin",
        )
        return
    for index, plugin in enumerate(plugins):
        path = f"{CONFIG}.plugins[{index}]"
        if isinstance(plugin, dict):
            _judge_type(reading, plugin, path)
        else:
            reading.refuse(
                path,
                "PluginsInvalid",
                f"plugins[{index}] is {a_json(plugin)}",
                "write an object with a type",
            )


def _judge_type(reading: _Reading, plugin: Mapping[str, Any], path: str) -> None:
    where = path.removeprefix(f"{CONFIG}.").removeprefix(CONFIG)
    where = f"{where} " if where else ""
    kind = plugin.get("type")
    if kind is None or kind == "":
        reading.refuse(
            f"{path}.type",
            "PluginTypeMissing",
            f"{where}has no type" if where else "the configuration has neither type nor plugins",
            "set type to the name of a CNI plugin",
        )
    elif not isinstance(kind, str) or not is_file_name(kind):
        reading.refuse(
            f"{path}.type",
            "PluginTypeInvalid",
            f"{where}type {kind!r} cannot be the name of a plugin",
            "use the name of the plugin's binary, without a path",
        )


def _plugins_of(document: object) -> Sequence[Mapping[str, Any]]:
    if not isinstance(document, dict):
        return ()
    plugins = document.get("plugins", [document])
    if not isinstance(plugins, list):
        return ()
    return [plugin for plugin in plugins if isinstance(plugin, dict)]


def _type_of(plugin: Mapping[str, Any]) -> str:
    kind = plugin.get("type")
    return kind if isinstance(kind, str) else ""


def _on_master(plugins: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """A list counts by its first plugin with a master."""
    return next((plugin for plugin in plugins if plugin.get("master")), None)


# A network by another name


def _alias(reading: _Reading, plugins: Sequence[Mapping[str, Any]]) -> NetworkKey | None:
    own = next((plugin for plugin in plugins if _type_of(plugin) in OWN_TYPES), None)
    if own is None:
        return None
    if len(plugins) > 1:
        reading.refuse(
            f"{CONFIG}.plugins",
            "AliasChained",
            f"{own['type']} stands in a list with other plugins",
            "let it be the only plugin: it stands for a whole network",
        )
    for word in _NOT_IN_ALIAS:
        if word in own:
            reading.refuse(
                f"{CONFIG}.{word}",
                "AliasMixed",
                f"{word} is set, and {own['type']} only names another network",
                f"delete {word}: the network has its own",
            )
    given = [word for word in _ALIAS_KINDS if own.get(word)]
    if len(given) != 1:
        named = " and ".join(given) if given else "no network"
        reading.refuse(
            CONFIG,
            "AliasInvalid",
            f"{own['type']} names {named}",
            f"write one of {', '.join(_ALIAS_KINDS)} with the name of a network",
        )
        return None
    word, name = given[0], own[given[0]]
    if not isinstance(name, str) or not is_object_name(name):
        reading.refuse(
            f"{CONFIG}.{word}",
            "AliasInvalid",
            f"{word} {name!r} cannot be the name of a network",
            "use the name of a network of the same namespace, or of a ClusterNetwork",
        )
        return None
    kind = _ALIAS_KINDS[word]
    namespace = "" if kind is NetworkKind.CLUSTER else reading.key.namespace
    return NetworkKey(kind=kind, namespace=namespace, name=name)


# A host device


def _read_place(reading: _Reading, plugin: Mapping[str, Any]) -> NadConfig:
    """Where `plugin` wants to stand; nothing when the words for that are its own."""
    if _type_of(plugin) in _VLAN_IS_THEIRS:
        return NadConfig()
    master = plugin.get("master") or ""
    ids = {word: _segment_id(reading, plugin, word, master) for word in SegmentKind}
    if all(ids.values()):
        reading.refuse(
            f"{CONFIG}.vxlan", "SegmentTwice", "vlan and vxlan are both set", "keep one of them"
        )
    wanted = next((word for word in SegmentKind if ids[word]), None)
    if wanted is None:
        return NadConfig()
    if not master:
        reading.refuse(
            f"{CONFIG}.master",
            "HostDeviceMissing",
            f"{wanted} is set and master is not",
            "set master to the NIC that carries it",
        )
    elif not isinstance(master, str) or not is_link_name(master):
        reading.refuse(
            f"{CONFIG}.master",
            "HostDeviceInvalid",
            f"master {master!r} cannot be the name of an interface",
            f"use the name that ip link shows, at most {IFNAME_MAX_BYTES} bytes",
        )
        master = ""
    return NadConfig(
        master=master,
        vlan=ids[SegmentKind.VLAN],
        vxlan=ids[SegmentKind.VXLAN],
        mtu=_mtu(reading, plugin),
    )


def _segment_id(
    reading: _Reading, plugin: Mapping[str, Any], word: SegmentKind, master: object
) -> int:
    """The id under `word`; 0 for none. Without a master the word is ours only where the plugin is
    known to have no such word itself.
    """
    value = plugin.get(word.value)
    if value is None or (value == 0 and not isinstance(value, bool)):
        return 0
    if not master and _type_of(plugin) not in _ON_MASTER:
        return 0
    low, high = _LIMITS[word]
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    reading.refuse(
        f"{CONFIG}.{word}",
        "SegmentInvalid",
        f"{word} is {value!r}",
        f"write a number from {low} to {high}, without quotes",
    )
    return 0


def _mtu(reading: _Reading, plugin: Mapping[str, Any]) -> int | None:
    mtu = plugin.get("mtu") or None
    if mtu is None:
        return None
    if isinstance(mtu, int) and not isinstance(mtu, bool) and MTU_MIN <= mtu <= MTU_MAX:
        return mtu
    reading.refuse(
        f"{CONFIG}.mtu",
        "OutOfRange",
        f"mtu is {mtu!r}",
        f"write a number from {MTU_MIN} to {MTU_MAX}, without quotes",
    )
    return None


# Addresses


def _ipam(reading: _Reading, plugins: Sequence[Mapping[str, Any]]) -> NadIpam | None:
    """The first ``ipam`` that is ours."""
    document = next(filter(None, map(_own_ipam, plugins)), None)
    if document is None:
        return None
    try:
        ipam = NadIpam.model_validate(document)
    except ValidationError as error:
        reading.findings += _prefixed(shape_findings(error, NadIpam))
        return None
    if not ipam.cidr and not ipam.net6:
        reading.refuse(
            IPAM,
            "SubnetMissing",
            f"ipam of type {OWN_IPAM} has neither cidr nor net6",
            "set cidr, net6 or both, or leave ipam out",
        )
        return None
    return ipam


def _own_ipam(plugin: Mapping[str, Any]) -> Mapping[str, Any] | None:
    ipam = plugin.get("ipam")
    return ipam if isinstance(ipam, dict) and _type_of(ipam) == OWN_IPAM else None


def _prefixed(findings: Sequence[Finding]) -> Iterator[Finding]:
    for found in findings:
        yield replace(found, path=f"{IPAM}.{found.path}", message=f"ipam: {found.message}")

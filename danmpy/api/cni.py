"""The CNI wire types: what a runtime sends and what it gets back.

Source of every rule here is the CNI specification 1.1.0 unless a docstring names another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, Final, TypeVar

from danmpy.api.limits import IFNAME_MAX_BYTES
from danmpy.api.specs import IPAddress, IPNetwork
from danmpy.errors import DanmpyError, WireError, cni_code_of

SUPPORTED_VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST_VERSION: Final = SUPPORTED_VERSIONS[-1]
KNOWN_VERSIONS: Final = ("0.1.0", "0.2.0", *SUPPORTED_VERSIONS)
"""Versions whose results can be read from a delegate."""

MAIN_TABLE: Final = 254
"""linux/rtnetlink.h: RT_TABLE_MAIN."""

CODE_VERSION: Final = 1
CODE_ENVIRONMENT: Final = 4
CODE_DECODE: Final = 6
CODE_CONFIG: Final = 7

_T = TypeVar("_T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*\Z")
_SEMVER = re.compile(r"\d+\.\d+\.\d+\Z")
_GC_KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")
_TRACE_KEYS = ("TRACEPARENT", "TRACESTATE", "BAGGAGE")


class Verb(StrEnum):
    """CNI_COMMAND."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"


_NEEDS: Final[Mapping[Verb, tuple[str, ...]]] = {
    Verb.ADD: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    Verb.CHECK: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    Verb.DEL: ("CNI_CONTAINERID", "CNI_IFNAME"),
}
"""CNI_PATH is not demanded: only a delegate needs it, and it is set for delegates from settings."""

_SINCE: Final[Mapping[Verb, str]] = {
    Verb.CHECK: "0.4.0",
    Verb.GC: "1.1.0",
    Verb.STATUS: "1.1.0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CniInterface:
    """One link of a result; an empty `sandbox` means the host. `mtu` 0 is unknown."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int = 0
    socket_path: str = ""
    pci_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CniIp:
    """One address; `interface` is an index into the interfaces, None when it was not said."""

    address: IPv4Interface | IPv6Interface
    gateway: IPAddress | None = None
    interface: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CniRoute:
    """One route. For `table` and `scope` 0 is a legal value and differs from None."""

    dst: IPNetwork
    gw: IPAddress | None = None
    mtu: int = 0
    advmss: int = 0
    priority: int = 0
    table: int | None = None
    scope: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CniDns:
    """Resolver settings; all empty when there are none."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CniResult:
    """What an ADD made."""

    interfaces: tuple[CniInterface, ...] = ()
    ips: tuple[CniIp, ...] = ()
    routes: tuple[CniRoute, ...] = ()
    dns: CniDns = CniDns()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Attachment:
    """What GC calls valid: one container's interface."""

    container_id: str
    ifname: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CniRequest:
    """One accepted call. Attachment fields are empty for GC, STATUS and VERSION.

    `version` is the config's cniVersion. `valid_attachments` is None when the runtime sent no such
    list (clean nothing), and empty when it says that nothing is valid. `config` is the whole
    request config; `trace` the W3C trace context, when there is one.
    """

    verb: Verb
    version: str
    network_name: str = ""
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    prev_result: CniResult | None = None
    valid_attachments: frozenset[Attachment] | None = None
    trace: Mapping[str, str] = field(default_factory=dict)

    @property
    def pod_namespace(self) -> str:
        """K8S_POD_NAMESPACE; empty when the runtime did not send it (only legal on DEL)."""
        return self.args.get("K8S_POD_NAMESPACE", "")

    @property
    def pod_name(self) -> str:
        """K8S_POD_NAME, as `pod_namespace`."""
        return self.args.get("K8S_POD_NAME", "")

    @property
    def pod_uid(self) -> str:
        """K8S_POD_UID; older runtimes send none."""
        return self.args.get("K8S_POD_UID", "")


def parse_request(environ: Mapping[str, str], stdin: bytes) -> CniRequest:
    """The call in `environ` and `stdin`; an empty variable counts as unset (libcni sends such).

    Raises:
        WireError: code 4 names every missing or bad variable; 6, stdin is no config; 7, its name
            is missing or illegal, or CHECK came without prevResult; 1, a version that is not
            supported or in which the verb does not exist.
    """
    verb = _parse_verb(environ)
    args = parse_args(environ.get("CNI_ARGS", ""))
    _require_environment(verb, environ, args)
    config = _parse_config(verb, stdin)
    version = _parse_version(verb, config)
    return CniRequest(
        verb=verb,
        version=version,
        network_name=_parse_name(verb, config),
        container_id=environ.get("CNI_CONTAINERID", ""),
        netns=environ.get("CNI_NETNS", ""),
        ifname=environ.get("CNI_IFNAME", ""),
        args=args,
        path=tuple(filter(None, environ.get("CNI_PATH", "").split(":"))),
        config=config,
        prev_result=_parse_prev(verb, config),
        valid_attachments=_parse_attachments(config),
        trace={k: v for k, v in environ.items() if k in _TRACE_KEYS and v},
    )


def parse_args(text: str) -> dict[str, str]:
    """CNI_ARGS (``K=V;K2=V2``), leniently: unknown keys are kept, pieces without ``=`` ignored."""
    pairs = (piece.partition("=") for piece in text.split(";"))
    return {key.strip(): value for key, equals, value in pairs if equals}


def requested_version(stdin: bytes) -> str:
    """The version to answer in, also when the request cannot be parsed: never raises."""
    try:
        config = json.loads(stdin)
    except (ValueError, RecursionError):
        return NEWEST_VERSION
    version = config.get("cniVersion") if isinstance(config, dict) else None
    return version if isinstance(version, str) and _SEMVER.match(version) else NEWEST_VERSION


def version_key(version: str) -> tuple[int, ...]:
    """`version` as numbers, for comparing. Raises ValueError when it is no ``x.y.z``."""
    if not _SEMVER.match(version):
        raise ValueError(f"{version!r} is no CNI version")
    return tuple(int(part) for part in version.split("."))


def render_result(result: CniResult, version: str) -> dict[str, Any]:
    """`result` in the shape of `version` (0.3.0 to 1.1.0), with nothing that it does not define.

    Before 1.1.0 a route has no table, so routes of other tables than main are left out: a caller
    would take them for routes of the main table.
    """
    modern = version_key(version) >= (1, 1, 0)
    old = version_key(version) < (1, 0, 0)
    rendered: dict[str, Any] = {"cniVersion": version}
    if result.interfaces:
        rendered["interfaces"] = [_render_interface(i, modern=modern) for i in result.interfaces]
    if result.ips:
        rendered["ips"] = [_render_ip(ip, with_version=old) for ip in result.ips]
    routes = [r for r in result.routes if modern or r.table in {None, MAIN_TABLE}]
    if routes:
        rendered["routes"] = [_render_route(r, modern=modern) for r in routes]
    dns = _without_empty(
        nameservers=list(result.dns.nameservers),
        domain=result.dns.domain,
        search=list(result.dns.search),
        options=list(result.dns.options),
    )
    if dns or old:
        rendered["dns"] = dns
    return rendered


def render_versions(version: str) -> dict[str, Any]:
    """The answer to VERSION, in the version that was asked with."""
    return {"cniVersion": version, "supportedVersions": list(SUPPORTED_VERSIONS)}


def render_error(version: str, error: DanmpyError) -> dict[str, Any]:
    """The error object. All that a person needs is in ``msg``, on one line: kubelet's event shows
    that and loses the code."""
    return {"cniVersion": version, "code": cni_code_of(error), "msg": " ".join(str(error).split())}


def parse_result(document: object) -> CniResult:
    """A result of any version from 0.1.0 on, leniently: unknown keys ignored, an interface index
    of -1 (old plugins) or outside the list means none.

    Raises:
        WireError: code 6, an address, route or list is not what the specification says.
    """
    if not isinstance(document, Mapping):
        raise _undecodable("the result is no JSON object")
    interfaces = _parse_list(document, "interfaces", _parse_interface)
    ips = _parse_list(document, "ips" if "ips" in document else "ip", _parse_ip)
    routes = _parse_list(document, "routes", _parse_route)
    for family in ("ip4", "ip6"):
        old = document.get(family)
        if isinstance(old, Mapping):
            single = {"ips": [{"address": old.get("ip"), "gateway": old.get("gateway")}]}
            ips += _parse_list(single, "ips", _parse_ip)
            routes += _parse_list(old, "routes", _parse_route)
    count = len(interfaces)
    known = tuple(
        ip
        if ip.interface is None or 0 <= ip.interface < count
        else CniIp(address=ip.address, gateway=ip.gateway)
        for ip in ips
    )
    return CniResult(interfaces=interfaces, ips=known, routes=routes, dns=_parse_dns(document))


def _parse_verb(environ: Mapping[str, str]) -> Verb:
    text = environ.get("CNI_COMMAND", "")
    try:
        return Verb(text)
    except ValueError:
        problem = f"CNI_COMMAND is {text!r}" if text else "CNI_COMMAND is not set"
        raise _bad_environment(problem, f"use one of {', '.join(Verb)}") from None


def _require_environment(verb: Verb, environ: Mapping[str, str], args: Mapping[str, str]) -> None:
    needed = _NEEDS.get(verb, ())
    missing = [name for name in needed if not environ.get(name)]
    if verb is Verb.ADD:
        pod = ("K8S_POD_NAMESPACE", "K8S_POD_NAME")
        missing += [f"{name} in CNI_ARGS" for name in pod if not args.get(name)]
    if missing:
        raise _bad_environment(f"{verb} needs {', '.join(missing)}", "the runtime has to set them")
    if not needed:
        return
    bad = []
    container_id, ifname = environ["CNI_CONTAINERID"], environ["CNI_IFNAME"]
    if not _NAME.match(container_id):
        bad.append(f"CNI_CONTAINERID {container_id!r} (letters, digits, '_', '.', '-')")
    if problem := ifname_problem(ifname):
        bad.append(f"CNI_IFNAME {ifname!r} ({problem})")
    if bad:
        raise _bad_environment(f"illegal {', '.join(bad)}", "correct what the runtime sends")


def ifname_problem(name: str) -> str:
    """Why `name` cannot name a link (CNI spec, CNI_IFNAME; dev_valid_name in the kernel), or ""."""
    if not name.isprintable() or name in {"", ".", ".."}:
        return "not a name"
    if len(name.encode("utf-8", "surrogateescape")) > IFNAME_MAX_BYTES:
        return f"longer than {IFNAME_MAX_BYTES} bytes"
    if any(char in "/:" or char.isspace() for char in name):
        return "no '/', ':' or white space allowed"
    return ""


def _parse_config(verb: Verb, stdin: bytes) -> Mapping[str, Any]:
    if verb is Verb.VERSION and not stdin.strip():
        return {}
    try:
        config = json.loads(stdin)
    except (ValueError, RecursionError) as error:
        raise _undecodable(f"the network configuration on stdin is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise _undecodable("the network configuration on stdin is no JSON object")
    return config


def _parse_version(verb: Verb, config: Mapping[str, Any]) -> str:
    version = config.get("cniVersion", "")
    if verb is Verb.VERSION:
        valid = isinstance(version, str) and _SEMVER.match(version)
        return version if valid else NEWEST_VERSION
    supported = ", ".join(SUPPORTED_VERSIONS)
    if version not in SUPPORTED_VERSIONS:
        said = f"cniVersion is {version!r}" if version else "the configuration has no cniVersion"
        raise _bad_config(said, f"use one of {supported}", CODE_VERSION)
    since = _SINCE.get(verb)
    if since and version_key(version) < version_key(since):
        problem = f"{verb} does not exist in cniVersion {version}"
        raise _bad_config(problem, f"{verb} came with {since}", CODE_VERSION)
    return str(version)


def _parse_name(verb: Verb, config: Mapping[str, Any]) -> str:
    name = config.get("name", "")
    if verb is Verb.VERSION:
        return name if isinstance(name, str) else ""
    if not isinstance(name, str) or not _NAME.match(name):
        problem = f"the network name {name!r} is illegal" if name else "the network has no name"
        hint = "'name' begins with a letter or digit; then letters, digits, '_', '.', '-'"
        raise _bad_config(problem, hint, CODE_CONFIG)
    return name


def _parse_prev(verb: Verb, config: Mapping[str, Any]) -> CniResult | None:
    prev = config.get("prevResult")
    if prev is None and verb is Verb.CHECK:
        hint = "the runtime has to send the result of ADD"
        raise _bad_config("CHECK came without prevResult", hint, CODE_CONFIG)
    # DEL must work when its caller kept nonsense: what was attached is in the journal.
    return parse_result(prev) if prev is not None and verb in {Verb.ADD, Verb.CHECK} else None


def _parse_attachments(config: Mapping[str, Any]) -> frozenset[Attachment] | None:
    """The two keys that libcni writes; null is what it writes for a nil list, so it is empty."""
    keys = [key for key in _GC_KEYS if key in config]
    if not keys:
        return None
    entries = config[keys[0]] or []
    try:
        return frozenset(
            Attachment(container_id=entry["containerID"], ifname=entry["ifname"])
            for entry in entries
        )
    except (TypeError, KeyError) as error:
        raise _undecodable(f"{keys[0]} is no list of containerID and ifname") from error


def _render_interface(interface: CniInterface, *, modern: bool) -> dict[str, Any]:
    fields = _without_empty(mac=interface.mac, sandbox=interface.sandbox)
    if modern:
        fields |= _without_empty(
            mtu=interface.mtu, socketPath=interface.socket_path, pciID=interface.pci_id
        )
    return {"name": interface.name, **fields}


def _render_ip(ip: CniIp, *, with_version: bool) -> dict[str, Any]:
    rendered: dict[str, Any] = {"version": str(ip.address.version)} if with_version else {}
    rendered["address"] = str(ip.address)
    if ip.gateway is not None:
        rendered["gateway"] = str(ip.gateway)
    if ip.interface is not None:
        rendered["interface"] = ip.interface
    return rendered


def _render_route(route: CniRoute, *, modern: bool) -> dict[str, Any]:
    rendered: dict[str, Any] = {"dst": str(route.dst)}
    if route.gw is not None:
        rendered["gw"] = str(route.gw)
    if modern:
        rendered |= _without_empty(mtu=route.mtu, advmss=route.advmss, priority=route.priority)
        scoped = {"table": route.table, "scope": route.scope}
        rendered |= {key: value for key, value in scoped.items() if value is not None}
    return rendered


def _without_empty(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}


def _parse_list(
    document: Mapping[str, Any], key: str, parse: Callable[[Mapping[str, Any]], _T]
) -> tuple[_T, ...]:
    entries = document.get(key) or []
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise _undecodable(f"'{key}' of the result is no list of objects")
    try:
        return tuple(parse(entry) for entry in entries)
    except (ValueError, TypeError) as error:
        raise _undecodable(f"'{key}' of the result: {error}") from error


def _parse_interface(entry: Mapping[str, Any]) -> CniInterface:
    return CniInterface(
        name=str(entry.get("name") or ""),
        mac=str(entry.get("mac") or "").lower(),
        sandbox=str(entry.get("sandbox") or ""),
        mtu=int(entry.get("mtu") or 0),
        socket_path=str(entry.get("socketPath") or ""),
        pci_id=str(entry.get("pciID") or ""),
    )


def _parse_ip(entry: Mapping[str, Any]) -> CniIp:
    index = entry.get("interface")
    return CniIp(
        address=ip_interface(str(entry.get("address"))),
        gateway=_parse_address(entry.get("gateway")),
        interface=None if index is None else int(index),
    )


def _parse_route(entry: Mapping[str, Any]) -> CniRoute:
    table, scope = entry.get("table"), entry.get("scope")
    return CniRoute(
        dst=ip_network(str(entry.get("dst")), strict=False),
        gw=_parse_address(entry.get("gw")),
        mtu=int(entry.get("mtu") or 0),
        advmss=int(entry.get("advmss") or 0),
        priority=int(entry.get("priority") or 0),
        table=None if table is None else int(table),
        scope=None if scope is None else int(scope),
    )


def _parse_address(value: object) -> IPv4Address | IPv6Address | None:
    return ip_address(str(value)) if value else None


def _parse_dns(document: Mapping[str, Any]) -> CniDns:
    dns = document.get("dns")
    if not isinstance(dns, Mapping):
        return CniDns()
    return CniDns(
        nameservers=tuple(map(str, dns.get("nameservers") or ())),
        domain=str(dns.get("domain") or ""),
        search=tuple(map(str, dns.get("search") or ())),
        options=tuple(map(str, dns.get("options") or ())),
    )


def _bad_environment(message: str, hint: str) -> WireError:
    return WireError(message, hint=hint, subject="CNI environment", code=CODE_ENVIRONMENT)


def _bad_config(message: str, hint: str, code: int) -> WireError:
    return WireError(message, hint=hint, subject="CNI configuration", code=code)


def _undecodable(message: str) -> WireError:
    hint = "see the CNI specification: configuration format and result types"
    return WireError(message, hint=hint, subject="CNI", code=CODE_DECODE)

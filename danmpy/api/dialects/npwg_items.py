"""One item of an annotation of the Network Plumbing Working Group, parsed to values.

Rules: "Kubernetes Network Custom Resource Definition De-facto Standard" 1.3, section 4.1.1.2, and
from Multus ``name@ifname`` and the older spelling ``interfaceRequest``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from typing import Any, Final

from danmpy.api.addresses import parse_mac, parse_one, parse_unicast
from danmpy.api.dialects.places import (
    Place,
    link_name,
    network_name,
    parsed,
    quoted,
    text_of,
)
from danmpy.api.dialects.rules import ANY_ADDRESS, danm_networks
from danmpy.api.jsontext import a_json
from danmpy.api.specs import (
    IPAM_CLAIM,
    InterfaceAsk,
    IPAddress,
    NetworkKey,
    NetworkKind,
    PluginAsk,
)
from danmpy.api.words import is_namespace, nearest

_KEYS: Final = (
    "name",
    "namespace",
    "interface",
    "interfaceRequest",
    "ips",
    "mac",
    "infiniband-guid",
    "portMappings",
    "bandwidth",
    "cni-args",
    "default-route",
    "ipam-claim-reference",
)
_PORT_KEYS: Final = ("hostPort", "containerPort", "protocol", "hostIP")
_PROTOCOLS: Final = ("tcp", "udp", "sctp")
_RATE_OF: Final[Mapping[str, str]] = {
    "ingressRate": "",
    "ingressBurst": "ingressRate",
    "egressRate": "",
    "egressBurst": "egressRate",
}
"""The keys of ``bandwidth``, and the one that each needs beside it."""

_MOST: Final = 2**63 - 1
"""What fits into the integers of the plugins, which are Go's."""

_DEEPEST: Final = 32
"""How deep cni-args may be nested."""

_GUID: Final = re.compile(r"[0-9a-f]{2}([:-])[0-9a-f]{2}(\1[0-9a-f]{2}){6}", re.ASCII)
_PREFIX: Final = re.compile(r"[0-9]{1,3}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How names are read: bare ones are of namespace `bare`, and a name of namespace `own`, the
    pod's, can also be that of a network of DANM's kinds.
    """

    bare: str
    own: str


def parse_short(place: Place, text: str, names: Names) -> InterfaceAsk:
    """``name`` or ``namespace/name``, each with ``@ifname`` or without."""
    if not text:
        raise place.refuse("it is empty", "remove the comma that has nothing beside it")
    reference, at, interface = text.partition("@")
    if at and (not interface or "@" in interface):
        raise place.refuse("one name of an interface belongs behind @", "write name@ifname")
    written, slash, name = reference.rpartition("/")
    namespace = _namespace(place, written) if slash else names.bare
    return _ask(place, names, (namespace, name), link_name(place, interface))


def parse_element(place: Place, item: object, names: Names) -> InterfaceAsk:
    """One object of the JSON form."""
    if not isinstance(item, dict):
        raise place.refuse(f"it is {a_json(item)} and not an object", 'write {"name": "net-a"}')
    for key in item:
        if key not in _KEYS and "." not in key:
            raise place.refuse(
                f"unknown key {quoted(key)}; the standard keeps keys without a dot for itself",
                nearest(key, _KEYS),
            )
    # null is what Go takes for absent; a key with a dot is somebody else's extension.
    given = {key: value for key, value in item.items() if key in _KEYS and value is not None}
    if "name" not in given:
        raise place.at("name").refuse("there is none", "name the NetworkAttachmentDefinition")
    namespace = names.bare
    if given.get("namespace", "") != "":
        at = place.at("namespace")
        namespace = _namespace(at, text_of(at, given["namespace"]))
    claim = _claim(place.at("ipam-claim-reference"), given)
    where = (namespace, network_name(place.at("name"), given["name"]))
    ask = _ask(place.at("name"), names, where, _interface(place, given))
    return replace(
        ask,
        mac=_mac(place.at("mac"), given.get("mac")),
        claim=claim,
        plugin=PluginAsk(
            ips=_ips(place.at("ips"), given.get("ips")),
            infiniband_guid=_guid(place.at("infiniband-guid"), given.get("infiniband-guid")),
            port_mappings=_ports(place.at("portMappings"), given.get("portMappings")),
            bandwidth=_bandwidth(place.at("bandwidth"), given.get("bandwidth")),
            cni_args=_cni_args(place.at("cni-args"), given.get("cni-args")),
            gateways=_gateways(place.at("default-route"), given.get("default-route")),
        ),
    )


def _ask(place: Place, names: Names, where: tuple[str, str], interface: str | None) -> InterfaceAsk:
    namespace, name = where
    network_name(place, name)
    others = danm_networks(namespace, name) if namespace and namespace == names.own else ()
    return InterfaceAsk(
        network=NetworkKey(kind=NetworkKind.NAD, namespace=namespace, name=name),
        others=others,
        ip=ANY_ADDRESS,
        ip6=ANY_ADDRESS,
        name=interface,
        place=str(place),
    )


def _namespace(place: Place, text: str) -> str:
    if not is_namespace(text):
        raise place.refuse(
            f"{quoted(text)} is no name of a namespace",
            "write namespace/name, in lower-case letters, digits and dash (RFC 1123)",
        )
    return text


def _interface(place: Place, given: Mapping[str, Any]) -> str | None:
    names = {
        key: link_name(place.at(key), given.get(key)) for key in ("interface", "interfaceRequest")
    }
    found = {name for name in names.values() if name is not None}
    if len(found) > 1:
        raise place.at("interfaceRequest").refuse(
            f"it says {names['interfaceRequest']}, and interface says {names['interface']}",
            "keep interface, which is the name of the standard",
        )
    return found.pop() if found else None


def _mac(place: Place, value: object) -> str | None:
    if value is None or value == "":
        return None
    return parsed(place, parse_mac, text_of(place, value))


def _guid(place: Place, value: object) -> str:
    if value is None or value == "":
        return ""
    text = text_of(place, value)
    if not _GUID.fullmatch(text.lower()):
        raise place.refuse(
            f"{quoted(text)} is no GUID of 8 bytes", "write it as c2:11:22:33:44:55:66:77"
        )
    return text.lower().replace("-", ":")


def _claim(place: Place, given: Mapping[str, Any]) -> str:
    value = given.get("ipam-claim-reference")
    if value is None or value == "":
        return ""
    name = network_name(place, value)
    if "ips" in given:
        raise place.refuse(
            "it stands beside ips, and only one of them can decide the addresses", "keep one"
        )
    return f"{IPAM_CLAIM}{name}"


def _list(place: Place, value: object, example: str, *, least: int = 1) -> list[Any]:
    if not isinstance(value, list):
        raise place.refuse(f"it is {a_json(value)} and not a list", f"write {example}")
    if len(value) < least:
        raise place.refuse("the list is empty", f"write {example}, or leave the key out")
    return value


def _object(place: Place, value: object, example: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.refuse(f"it is {a_json(value)} and not an object", f"write {example}")
    return value


def _distinct(
    place: Place, values: Sequence[Any], read: Callable[[Place, Any], Any], shown: Any = str
) -> tuple[Any, ...]:
    """What `read` makes of each of `values`; the same twice is an error."""
    found: list[Any] = []
    for number, value in enumerate(values):
        at = place.nth(number)
        made = read(at, value)
        if made in found:
            raise at.refuse(f"{shown(made)} stands there twice", "keep one of them")
        found.append(made)
    return tuple(found)


def _ips(place: Place, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return _distinct(place, _list(place, value, '["10.20.0.7/24"]'), _ip)


def _ip(place: Place, value: object) -> str:
    """An address of one host, with or without prefix length."""
    text = text_of(place, value)
    plain, slash, prefix = text.partition("/")
    address = parsed(place, parse_unicast, plain)
    if not slash:
        return str(address)
    try:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(prefix)
        return str(ip_interface(f"{address}/{prefix}"))
    except ValueError:
        most = 32 if address.version == 4 else 128
        raise place.refuse(
            f"{quoted(prefix)} is no prefix length", f"write a number from 0 to {most}"
        ) from None


def _gateways(place: Place, value: object) -> tuple[IPAddress, ...] | None:
    """May be an empty list: then the interface leads by its own default route."""
    if value is None:
        return None
    return _distinct(
        place,
        _list(place, value, '["10.20.0.1"]', least=0),
        lambda at, each: parsed(at, parse_unicast, text_of(at, each)),
    )


def _ports(place: Place, value: object) -> tuple[Mapping[str, Any], ...]:
    if value is None:
        return ()
    example = '[{"hostPort": 8080, "containerPort": 80}]'
    mappings = _distinct(place, _list(place, value, example), _port_mapping, _shown_port)
    taken: dict[tuple[Any, ...], int] = {}
    for number, each in enumerate(mappings):
        host = (each["hostPort"], each["protocol"], each.get("hostIP"))
        if host in taken:
            raise place.nth(number).refuse(
                f"{_shown_port(each)} of the host leads elsewhere already, by number {taken[host]}",
                "use another hostPort",
            )
        taken[host] = number
    return mappings


def _shown_port(mapping: Mapping[str, Any]) -> str:
    return f"port {mapping['hostPort']}/{mapping['protocol']}"


def _port_mapping(place: Place, value: object) -> dict[str, Any]:
    """Protocols in lower case, as container runtimes write them."""
    given = _object(place, value, '{"hostPort": 8080, "containerPort": 80}')
    for key in given:
        if key not in _PORT_KEYS:
            raise place.refuse(f"unknown key {quoted(key)}", nearest(key, _PORT_KEYS))
    mapping: dict[str, Any] = {}
    for key in ("hostPort", "containerPort"):
        port = given.get(key)
        if not _is_whole(port, 65_535):
            raise place.at(key).refuse("it is no port", "write a number from 1 to 65535")
        mapping[key] = port
    protocol = given.get("protocol")
    mapping["protocol"] = "tcp"
    if protocol is not None and protocol != "":
        mapping["protocol"] = text_of(place.at("protocol"), protocol).lower()
        if mapping["protocol"] not in _PROTOCOLS:
            raise place.at("protocol").refuse(
                f"{quoted(str(protocol))} is no protocol with ports", "write TCP, UDP or SCTP"
            )
    host = given.get("hostIP")
    if host is not None and host != "":
        mapping["hostIP"] = _host_address(place.at("hostIP"), host)
    return mapping


def _host_address(place: Place, value: object) -> str:
    """Loopback and the unspecified address are addresses of a host, too."""
    text = text_of(place, value)
    return str(parsed(place, parse_one, text, 6 if ":" in text else 4))


def _bandwidth(place: Place, value: object) -> Mapping[str, int]:
    if value is None:
        return {}
    example = '{"ingressRate": 1000000, "ingressBurst": 80000}'
    given = _object(place, value, example)
    if not given:
        raise place.refuse("it is empty", f"write {example}, or leave the key out")
    for key, number in given.items():
        if key not in _RATE_OF:
            raise place.refuse(f"unknown key {quoted(key)}", nearest(key, _RATE_OF))
        if not _is_whole(number, _MOST):
            raise place.at(key).refuse(
                "it is no number of bits above 0", "write a whole number, without quotes"
            )
        if _RATE_OF[key] not in {"", *given}:
            raise place.at(key).refuse(f"it needs {_RATE_OF[key]} beside it", "set both")
    return given


def _is_whole(value: object, most: int) -> bool:
    """Is it a whole number from 1 to `most`?"""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _cni_args(place: Place, value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    given = _object(place, value, '{"labels": {"app": "web"}}')
    layer: list[Any] = [given]
    for _ in range(_DEEPEST):
        layer = [
            inner
            for each in layer
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not layer:
            return given
    raise place.refuse(f"it is nested deeper than {_DEEPEST} levels", "write it flatter")

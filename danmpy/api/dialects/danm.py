"""DANM's annotations, parsed to values.

The keys and the meaning of an entry are DANM 4.3's; `mac`, `name` and `default_route` are ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from danmpy.api.addresses import parse_mac, parse_one, parse_subnet
from danmpy.api.dialects.keys import CLAIM, INTERFACES, INTERFACES_NEW
from danmpy.api.dialects.places import Place, link_name, parsed, read_json, text_of
from danmpy.api.jsontext import a_json
from danmpy.api.specs import (
    AddressAsk,
    AddressMode,
    Family,
    InterfaceAsk,
    NetworkKey,
    NetworkKind,
    PodSpec,
    RouteSpec,
)
from danmpy.api.words import is_namespace, is_object_name, nearest
from danmpy.errors import IntentError

_REFERENCES: Final[Mapping[str, NetworkKind]] = {
    "network": NetworkKind.DANM,
    "tenantNetwork": NetworkKind.TENANT,
    "clusterNetwork": NetworkKind.CLUSTER,
}
_KEYS: Final = (
    *_REFERENCES,
    "ip",
    "ip6",
    "proutes",
    "proutes6",
    "mac",
    "name",
    "default_route",
)
_WORDS: Final = {"dynamic": AddressMode.DYNAMIC, "none": AddressMode.NONE}


def parse_interfaces(pod: PodSpec) -> tuple[InterfaceAsk, ...]:
    """What `pod` asks for, in its order; empty when it asks for nothing (default network).

    Raises:
        IntentError: names the pod, the entry and what is wrong with it; the pod gets nothing.
    """
    present = [key for key in (INTERFACES, INTERFACES_NEW) if key in pod.annotations]
    if not present:
        return ()
    lists = [_entries(Place.of(pod, key), pod.annotations[key]) for key in present]
    if len(lists) == 2 and not _same(lists[0], lists[1]):
        raise IntentError(
            f"{INTERFACES} and {INTERFACES_NEW} differ",
            hint="keep one of the two annotations",
            subject=f"Pod/{pod.namespace}/{pod.name}",
        )
    return tuple(
        _interface(Place.of(pod, present[0]).item(index), entry, pod.namespace)
        for index, entry in enumerate(lists[0])
    )


def parse_claim(pod: PodSpec) -> str:
    """The name that keeps the dynamic addresses of `pod` for the next pod of it; empty: none.

    A pod of a StatefulSet has its own name, unless its annotation says another.

    Raises:
        IntentError: the annotation is no name (RFC 1123 label).
    """
    written = pod.annotations.get(CLAIM)
    if written is None:
        return pod.name if pod.stateful else ""
    if not is_namespace(written):
        raise Place.of(pod, CLAIM).refuse(
            f"{written!r} is no name of a claim",
            "use lower-case letters, digits and dash, at most 63 (RFC 1123)",
        )
    return written


def _entries(place: Place, text: str) -> list[Any]:
    """The list in the annotation, as JSON values."""
    hint = 'write a JSON list such as [{"tenantNetwork": "internal", "ip": "dynamic"}]'
    if not text.strip():
        raise place.refuse("it is empty", hint)
    entries = read_json(place, text, hint)
    if not isinstance(entries, list):
        raise place.refuse(f"it is {a_json(entries)} and not a list", hint)
    return entries


def _same(one: object, other: object) -> bool:
    """Equal as JSON: unlike in Python, true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _interface(place: Place, entry: object, namespace: str) -> InterfaceAsk:
    if not isinstance(entry, dict):
        raise place.refuse(
            f"it is {a_json(entry)} and not an object", 'write {"tenantNetwork": "internal"}'
        )
    for key in entry:
        if key not in _KEYS:
            raise place.refuse(f"unknown key {key!r}", nearest(key, _KEYS))
    # null is what Go takes for absent.
    given = {key: value for key, value in entry.items() if value is not None}
    return InterfaceAsk(
        network=_network(place, given, namespace),
        ip=_address(place.at("ip"), given.get("ip"), 4),
        ip6=_address(place.at("ip6"), given.get("ip6"), 6),
        proutes=_routes(place.at("proutes"), given.get("proutes"), 4),
        proutes6=_routes(place.at("proutes6"), given.get("proutes6"), 6),
        mac=_mac(place.at("mac"), given.get("mac")),
        name=link_name(place.at("name"), given.get("name")),
        default_route=_flag(place.at("default_route"), given.get("default_route")),
    )


def _network(place: Place, given: Mapping[str, Any], namespace: str) -> NetworkKey:
    """DANM 3.2: exactly one reference. Empty text counts as absent, as in DANM."""
    used = [key for key in _REFERENCES if given.get(key, "") != ""]
    if len(used) != 1:
        found = "no network" if not used else " and ".join(used)
        raise place.refuse(
            f"it names {found}", "name exactly one of network, tenantNetwork, clusterNetwork"
        )
    key = used[0]
    name = text_of(place.at(key), given[key])
    if not is_object_name(name):
        raise place.at(key).refuse(
            f"{name!r} is no name that a network can have",
            "write the metadata.name of the network, without its namespace",
        )
    kind = _REFERENCES[key]
    return NetworkKey(
        kind=kind, namespace="" if kind is NetworkKind.CLUSTER else namespace, name=name
    )


def _address(place: Place, value: object, family: Family) -> AddressAsk:
    """DANM 3.3; the prefix length of a literal is dropped, the network's counts."""
    if value is None or value == "":
        return AddressAsk()
    text = text_of(place, value)
    if text in _WORDS:
        return AddressAsk(mode=_WORDS[text])
    if text.lower() in _WORDS:
        raise place.refuse(f"{text!r} is written otherwise", f"write {text.lower()}")
    if "/" in text:
        parsed(place, parse_subnet, text, family)
    address = parsed(place, parse_one, text.partition("/")[0], family)
    return AddressAsk(mode=AddressMode.STATIC, address=address)


def _routes(place: Place, value: object, family: Family) -> tuple[RouteSpec, ...]:
    """Destinations may have host bits, which are dropped: DANM reads them so."""
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise place.refuse(
            f"it is {a_json(value)} and not an object", 'write {"10.40.0.0/16": "10.20.0.1"}'
        )
    routes: dict[str, RouteSpec] = {}
    for destination_text, gateway_value in value.items():
        destination = parsed(place, parse_subnet, destination_text, family)
        gateway = parsed(place, parse_one, text_of(place, gateway_value), family)
        if str(destination) in routes:
            raise place.refuse(f"{destination} stands there twice", "keep one of them")
        routes[str(destination)] = RouteSpec(destination=destination, gateway=gateway)
    return tuple(routes.values())


def _mac(place: Place, value: object) -> str | None:
    if value is None or value == "":
        return None
    text = text_of(place, value)
    return parsed(place, parse_mac, text)


def _flag(place: Place, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise place.refuse(f"it is {a_json(value)} and not true or false", "write true or false")

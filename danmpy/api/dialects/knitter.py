"""Knitter's annotation, parsed to values.

``networks: {"ports": [...]}`` as Knitter 1 reads it: the same keys and defaults, names cut to 12
characters, several combinable ports of one network on one interface. Where it would pass over a
mistake, we refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from danmpy.api.addresses import parse_unicast
from danmpy.api.dialects.genie import FIRST, runtimes_first
from danmpy.api.dialects.keys import BARE_NETWORKS
from danmpy.api.dialects.places import (
    Place,
    link_name,
    network_name,
    parsed,
    quoted,
    read_json,
    text_of,
)
from danmpy.api.dialects.rules import any_ask, danm_networks
from danmpy.api.jsontext import a_json
from danmpy.api.specs import AddressAsk, AddressMode, InterfaceAsk, PodSpec
from danmpy.api.words import is_object_name, nearest

_EXAMPLE: Final = 'write {"ports": [{"attach_to_network": "net-a"}]}'
_PORT_KEYS: Final = ("attach_to_network", "attributes")
_ATTRIBUTES: Final = (
    "nic_name",
    "nic_type",
    "function",
    "accelerate",
    "ip_addr",
    "ip_group_name",
    "combinable",
    "metadata",
)
_NIC_TYPES: Final = ("normal", "direct", "physical")
_NAME_MOST: Final = 12
"""Characters of a nic_name."""

_CLAIM_MOST: Final = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class _Port:
    """One entry of `ports`; `name` is None when it has no nic_name."""

    place: Place
    network: str
    name: str | None
    nic_type: str
    function: str
    accelerate: bool
    address: AddressAsk | None
    group: str
    combinable: bool

    def may_share(self, other: _Port) -> bool:
        """Do both go on one interface?"""
        return self.combinable and other.combinable and self._kind == other._kind

    @property
    def _kind(self) -> tuple[object, ...]:
        return (self.network, self.nic_type, self.accelerate, self.group)


def is_ports(pod: PodSpec) -> bool:
    """Is the bare annotation ``networks`` an object, as Knitter's is?"""
    return pod.annotations.get(BARE_NETWORKS, "").strip().startswith("{")


def parse_ports(pod: PodSpec) -> tuple[InterfaceAsk, ...]:
    """The interfaces of `pod`, in the order of its ports; only those with a nic_name have a name.

    Raises:
        IntentError: names the port, the attribute and what is wrong with it.
    """
    place = Place.of(pod, BARE_NETWORKS)
    document = read_json(place, pod.annotations.get(BARE_NETWORKS, ""), _EXAMPLE)
    if not isinstance(document, dict):
        raise place.refuse(f"it is {a_json(document)} and not an object", _EXAMPLE)
    for key in document:
        if key != "ports":
            raise place.refuse(f"unknown key {quoted(key)}", _EXAMPLE)
    items = document.get("ports")
    at = place.at("ports")
    if not isinstance(items, list):
        raise at.refuse(f"it is {a_json(items)} and not a list", _EXAMPLE)
    if not items:
        raise at.refuse("the list is empty", f"{_EXAMPLE}, or leave the annotation out")
    ports = [_port(at.nth(number), item) for number, item in enumerate(items)]
    shared = _combined(ports)
    _require_distinct(shared)
    return tuple(_ask(port, pod) for port in shared)


def with_names(
    asks: Sequence[InterfaceAsk], first: InterfaceAsk, *, has_primary: bool
) -> tuple[InterfaceAsk, ...]:
    """`asks` with a name each, the one called eth0 in front and without a name, as the runtime
    names that. When none is called so, the pod gets `first` there, as the runtime asks for it.
    """
    taken = {ask.name for ask in asks if ask.name} | {FIRST}
    named = []
    for ask in asks:
        name = ask.name or _free_name(ask.network.name, taken)
        taken.add(name)
        named.append(replace(ask, name=name))
    if not has_primary:
        return tuple(named)
    if any(ask.name == FIRST for ask in named):
        return runtimes_first(named)
    return (first, *named)


def _free_name(network: str, taken: set[str]) -> str:
    """``eth_`` and the network, cut to what Knitter allows; a number at its end makes it unique."""
    name = f"eth_{network}"[:_NAME_MOST]
    number = 1
    while name in taken:
        number += 1
        name = f"eth_{network}"[: _NAME_MOST - len(str(number))] + str(number)
    return name


def _port(place: Place, item: object) -> _Port:
    if not isinstance(item, dict):
        raise place.refuse(f"it is {a_json(item)} and not an object", _EXAMPLE)
    _known(place, item, _PORT_KEYS)
    network = network_name(place.at("attach_to_network"), item.get("attach_to_network"))
    within = place.at("attributes")
    attributes = item.get("attributes")
    if attributes is None:
        attributes = {}
    if not isinstance(attributes, dict):
        raise within.refuse(
            f"it is {a_json(attributes)} and not an object", 'write {"nic_name": "nm0"}'
        )
    _known(within, attributes, _ATTRIBUTES)
    texts = {
        key: text_of(within.at(key), value)
        for key, value in attributes.items()
        if key not in {"accelerate", "combinable", "metadata"} and value is not None
    }
    return _Port(
        place=place,
        network=network,
        name=_nic_name(within.at("nic_name"), texts.get("nic_name", "")),
        nic_type=_nic_type(within.at("nic_type"), texts.get("nic_type") or "normal"),
        function=texts.get("function") or "std",
        accelerate=_flag(within.at("accelerate"), attributes.get("accelerate")),
        address=_address(within.at("ip_addr"), texts.get("ip_addr", "")),
        group=_group(within.at("ip_group_name"), texts.get("ip_group_name", "")),
        combinable=_flag(within.at("combinable"), attributes.get("combinable")),
    )


def _known(place: Place, given: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in given:
        if key not in keys:
            raise place.refuse(f"unknown key {quoted(key)}", nearest(key, keys))


def _nic_name(place: Place, text: str) -> str | None:
    if len(text) > _NAME_MOST:
        raise place.refuse(
            f"{quoted(text)} is longer than {_NAME_MOST} characters", "shorten the name"
        )
    return link_name(place, text)


def _nic_type(place: Place, text: str) -> str:
    if text not in _NIC_TYPES:
        raise place.refuse(f"{quoted(text)} is no type of a NIC", nearest(text, _NIC_TYPES))
    return text


def _flag(place: Place, value: object) -> bool:
    """Knitter writes it as text, and takes all but "true" for false."""
    if value is None or value == "":
        return False
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in {"true", "false"}:
        return value == "true"
    raise place.refuse("it is neither true nor false", 'write "true" or "false"')


def _address(place: Place, text: str) -> AddressAsk | None:
    if not text:
        return None
    return AddressAsk(mode=AddressMode.STATIC, address=parsed(place, parse_unicast, text))


def _group(place: Place, text: str) -> str:
    if text and not is_object_name(text):
        raise place.refuse(
            f"{quoted(text)} is no name of a group",
            "use lower-case letters, digits, dash and dot (RFC 1123)",
        )
    return text


def _combined(ports: Sequence[_Port]) -> list[_Port]:
    """One port for those that share an interface, in the place of the first of them."""
    result: list[_Port] = []
    functions: list[set[str]] = []
    for port in ports:
        at = next((n for n, one in enumerate(result) if one.may_share(port)), None)
        if at is None:
            result.append(port)
            functions.append({port.function})
            continue
        if port.function in functions[at]:
            raise (
                port.place.at("attributes")
                .at("function")
                .refuse(
                    f"{quoted(port.function)} is on the shared interface of {port.network} already",
                    "ports that are combined have a function each",
                )
            )
        functions[at].add(port.function)
        result[at] = _merged(result[at], port)
    return result


def _merged(one: _Port, other: _Port) -> _Port:
    """The first nic_name counts, unless a later one is eth0."""
    if one.address and other.address and one.address != other.address:
        raise (
            other.place.at("attributes")
            .at("ip_addr")
            .refuse(
                f"it is {other.address.address}, and the port that it is combined with has "
                f"{one.address.address}",
                "name one address, or do not combine them",
            )
        )
    name = FIRST if other.name == FIRST else one.name or other.name
    return replace(one, name=name, address=one.address or other.address)


def _require_distinct(ports: Sequence[_Port]) -> None:
    seen: dict[str, _Port] = {}
    for port in ports:
        if port.name is None:
            continue
        if port.name in seen:
            raise (
                port.place.at("attributes")
                .at("nic_name")
                .refuse(
                    f"{port.name} is also the name of {seen[port.name].place}",
                    "give one of them another name",
                )
            )
        seen[port.name] = port


def _ask(port: _Port, pod: PodSpec) -> InterfaceAsk:
    """The group is a name under which the pod's addresses are kept: the next pod of its name gets
    them again.
    """
    ask = any_ask(*danm_networks(pod.namespace, port.network))
    claim = f"{port.group}.{pod.name}" if port.group else ""
    if len(claim) > _CLAIM_MOST:
        raise (
            port.place.at("attributes")
            .at("ip_group_name")
            .refuse(
                f"with the name of the pod it has more than {_CLAIM_MOST} characters",
                "shorten the name of the group",
            )
        )
    if port.address is not None and port.address.address is not None:
        is_4 = port.address.address.version == 4
        ask = replace(ask, ip=port.address) if is_4 else replace(ask, ip6=port.address)
    device = port.accelerate or port.nic_type != "normal"
    return replace(ask, name=port.name, claim=claim, needs_device=device, place=str(port.place))

"""The annotations of the Network Plumbing Working Group, parsed to values.

Rules: "Kubernetes Network Custom Resource Definition De-facto Standard" 1.3, section 4.1.1 (network
attachment selection annotation). From Multus are the annotation for the default network, and the
names ``net1``, ``net2``, ..., where the number is the position among all networks of the pod and
the default network has position 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from danmpy.api.dialects.keys import MULTUS_DEFAULT, NPWG_NETWORKS
from danmpy.api.dialects.npwg_items import Names, parse_element, parse_short
from danmpy.api.dialects.places import Place, read_json
from danmpy.api.dialects.rules import DialectRules, more_asks, primary_ask
from danmpy.api.jsontext import a_json
from danmpy.api.specs import InterfaceAsk, NetworkKey, PodSpec
from danmpy.errors import IntentError

_EXAMPLE: Final = 'write net-a,blue/net-b@data0, or JSON: [{"name": "net-a"}]'


def is_empty(text: str) -> bool:
    """Does the annotation name no network?"""
    return "".join(text.split()) in {"", "[]"}


def parse_selection(pod: PodSpec, rules: DialectRules) -> tuple[InterfaceAsk, ...]:
    """The networks that `pod` selects, in its order; those that it does not name have no name.

    Raises:
        IntentError: names the pod, the item, the key and the rule.
    """
    place = Place.of(pod, NPWG_NETWORKS)
    names = Names(bare=pod.namespace, own=pod.namespace)
    asks = _selected(place, pod.annotations.get(NPWG_NETWORKS, ""), names)
    for index, ask in enumerate(asks):
        if not rules.may_use(pod.namespace, ask.network.namespace):
            raise _isolated(place.item(index), pod, rules, ask.network)
    return asks


def parse_primary(pod: PodSpec, rules: DialectRules, *, has_primary: bool = True) -> InterfaceAsk:
    """The first network of `pod`: what it puts in the place of the cluster's default network, else
    that one. A bare name is looked up in the system namespace, then in the pod's own.

    Raises:
        IntentError: as `parse_selection`, or the first interface is not ours to make.
    """
    text = pod.annotations.get(MULTUS_DEFAULT, "")
    if is_empty(text):
        return primary_ask(rules, pod.namespace)
    place = Place.of(pod, MULTUS_DEFAULT)
    asks = _selected(place, text, Names(bare="", own=pod.namespace))
    if len(asks) != 1:
        raise place.refuse(
            f"it names {len(asks)} networks, and a pod has one default network",
            f"name one; the others belong into {NPWG_NETWORKS}",
        )
    if not has_primary:
        raise place.refuse(
            "a plugin before danmpy has made the first interface, so its network is decided",
            "leave the annotation out on this cluster",
        )
    ask = asks[0]
    key = ask.network
    if not key.namespace:
        own = replace(key, namespace=pod.namespace)
        key = replace(key, namespace=rules.system_namespace)
        return replace(ask, network=key, others=(own,) if own != key else ())
    allowed = key.namespace == rules.system_namespace
    if not allowed and not rules.may_use(pod.namespace, key.namespace):
        raise _isolated(place.item(0), pod, rules, key)
    return ask


def list_asks(pod: PodSpec, rules: DialectRules, *, has_primary: bool) -> tuple[InterfaceAsk, ...]:
    """All that `pod` gets in this dialect: the first network, those that the cluster adds, and what
    it selects; without `has_primary` all but the first.

    Raises:
        IntentError: as `parse_selection`, or two items ask for the default route.
    """
    first = parse_primary(pod, rules, has_primary=has_primary)
    selected = parse_selection(pod, rules)
    places = [Place.of(pod, NPWG_NETWORKS).item(index) for index in range(len(selected))]
    leading = [
        (place, ask)
        for place, ask in (
            (Place.of(pod, MULTUS_DEFAULT).item(0), first),
            *zip(places, selected, strict=True),
        )
        if ask.plugin.gateways is not None
    ]
    if len(leading) > 1:
        raise leading[1][0].refuse(
            f"it asks for default-route, and so does {leading[0][0]}",
            "set default-route on one network only",
        )
    return (*((first,) if has_primary else ()), *more_asks(rules, pod.namespace), *selected)


def with_names(
    asks: Sequence[InterfaceAsk], pod: PodSpec, *, has_primary: bool
) -> tuple[InterfaceAsk, ...]:
    """`asks` with the names that their positions give them; the first is the runtime's to name.

    Raises:
        IntentError: two would have the same name.
    """
    named: list[InterfaceAsk] = []
    seen: dict[str, int] = {}
    for position, ask in enumerate(asks, 0 if has_primary else 1):
        name = ask.name or (f"net{position}" if position else None)
        if name is not None and name in seen:
            raise IntentError(
                f"{NPWG_NETWORKS}: the networks at positions {seen[name]} and {position} would "
                f"both have the interface {name} (position 0 is the default network)",
                hint="name another interface; one that is not named is called net<position>",
                subject=f"Pod/{pod.namespace}/{pod.name}",
            )
        if name is not None:
            seen[name] = position
        named.append(replace(ask, name=name))
    return tuple(named)


def _isolated(place: Place, pod: PodSpec, rules: DialectRules, network: NetworkKey) -> IntentError:
    shared = ", ".join(sorted(rules.global_namespaces)) or "none"
    return place.refuse(
        f"{network} belongs to another namespace, and npwg.namespace_isolation lets pods use only "
        f"networks of their own and of npwg.global_namespaces ({shared})",
        f"use a network of namespace {pod.namespace}",
    )


def _selected(place: Place, text: str, names: Names) -> tuple[InterfaceAsk, ...]:
    """What the annotation names; A text with a bracket, a brace or a
    quote is JSON, as in Multus, any other a list with commas.
    """
    if is_empty(text):
        return ()
    if not any(sign in text for sign in '[{"'):
        return tuple(
            parse_short(place.item(index), item.strip(), names)
            for index, item in enumerate(text.split(","))
        )
    items = read_json(place, text, _EXAMPLE)
    if not isinstance(items, list):
        raise place.refuse(f"it is {a_json(items)} and not a list", _EXAMPLE)
    return tuple(parse_element(place.item(index), item, names) for index, item in enumerate(items))

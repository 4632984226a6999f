"""CNI-Genie's annotations, parsed to values.

The forms are those of CNI-Genie 3: ``cni: "a,b@eth4"`` names plugins of the node, and a list in
``networks`` beside ``cni: ""`` names logical networks, which here are networks of the pod's
namespace. ``cni: ""`` alone leaves the choice to us: the default network, and not the one with the
least traffic, as nobody measures that for us.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Final

from danmpy.api.dialects.keys import BARE_NETWORKS, GENIE_CNI
from danmpy.api.dialects.places import Place, link_name, network_name, quoted
from danmpy.api.dialects.rules import any_ask, danm_networks
from danmpy.api.specs import InterfaceAsk, NetworkKey, NetworkKind, PodSpec

FIRST: Final = "eth0"
"""What CNI-Genie calls the interface that the runtime asks for."""

_CONF_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", re.ASCII)
"""CNI specification 1.1.0, section 1: the name of a network configuration."""


def is_listing(pod: PodSpec) -> bool:
    """Does the bare annotation ``networks`` list logical networks?"""
    text = pod.annotations.get(BARE_NETWORKS, "").strip()
    return text not in {"", '""'} and text[0] != "{"


def parse_genie(pod: PodSpec) -> tuple[InterfaceAsk, ...]:
    """What `pod` asks for in its own order; empty when it leaves the choice to us.

    Raises:
        IntentError: names the annotation, the item and what is wrong with it.
    """
    plugins = pod.annotations.get(GENIE_CNI, "").strip()
    if plugins and is_listing(pod):
        raise Place.of(pod, GENIE_CNI).refuse(
            f"it names plugins, and {BARE_NETWORKS} names logical networks",
            f'keep one of them; beside {BARE_NETWORKS} write {GENIE_CNI}: ""',
        )
    if plugins:
        return _items(Place.of(pod, GENIE_CNI), plugins, _plugin)
    if is_listing(pod):
        place = Place.of(pod, BARE_NETWORKS)
        text = pod.annotations[BARE_NETWORKS].strip()
        if text[0] in '["':
            raise place.refuse(
                "it is neither a list with commas (CNI-Genie) nor an object with ports (Knitter)",
                'write net-a,net-b@eth4 or {"ports": [{"attach_to_network": "net-a"}]}',
            )
        return _items(place, text, lambda at, name: _logical(at, name, pod.namespace))
    return ()


def with_names(asks: Sequence[InterfaceAsk], *, has_primary: bool) -> tuple[InterfaceAsk, ...]:
    """`asks` with the names that are left: eth0, eth1, ... as far as nobody asks for them.

    The one called eth0 comes first and without a name, as the runtime names that; it was made
    before us when `has_primary` is False.
    """
    taken = {ask.name for ask in asks if ask.name}
    free = (f"eth{number}" for number in count(0 if has_primary else 1))
    left = (name for name in free if name not in taken)
    named = [replace(ask, name=ask.name or next(left)) for ask in asks]
    return runtimes_first(named) if has_primary else tuple(named)


def runtimes_first(asks: Iterable[InterfaceAsk]) -> tuple[InterfaceAsk, ...]:
    """`asks` with the interface called eth0 in front, and without that name."""
    named = tuple(asks)
    first = tuple(replace(ask, name=None) for ask in named if ask.name == FIRST)
    return (*first, *(ask for ask in named if ask.name != FIRST))


def render_preferences(interfaces: Iterable[tuple[str, Sequence[str]]]) -> str:
    """The value of ``multi-ip-preferences`` for a pod with these interfaces: name and addresses,
    with or without prefix length. Empty when there are not several: then CNI-Genie fills in none.
    """
    pairs = [(name, address) for name, addresses in interfaces for address in addresses]
    if len({name for name, _ in pairs}) < 2:
        return ""
    ips = {
        f"ip{number}": {"ip": address.partition("/")[0], "interface": name}
        for number, (name, address) in enumerate(pairs, 1)
    }
    return json.dumps({"multi_entry": len(ips), "ips": ips})


def _items(
    place: Place, text: str, read: Callable[[Place, str], InterfaceAsk]
) -> tuple[InterfaceAsk, ...]:
    """``name`` or ``name@ifname`` with commas between them."""
    asks: list[InterfaceAsk] = []
    seen: dict[str, int] = {}
    for index, item in enumerate(text.split(",")):
        at = place.item(index)
        written, sign, interface = item.strip().partition("@")
        if not written:
            raise at.refuse("there is no name", "remove the comma, or write a name before @")
        if sign and (not interface or "@" in interface):
            raise at.refuse("one name of an interface belongs behind @", "write name@ifname")
        name = link_name(at, interface)
        if name is not None and name in seen:
            raise at.refuse(
                f"it asks for interface {name}, and so does item {seen[name]}",
                "give one of them another name",
            )
        if name is not None:
            seen[name] = index
        asks.append(replace(read(at, written.strip()), name=name, place=str(at)))
    return tuple(asks)


def _plugin(place: Place, name: str) -> InterfaceAsk:
    if not _CONF_NAME.fullmatch(name):
        raise place.refuse(
            f"{quoted(name)} is no name of a CNI configuration",
            "write the name in a file of cni.conf_dir, or of the plugin in it",
        )
    return any_ask(NetworkKey(kind=NetworkKind.NAD, name=name))


def _logical(place: Place, written: str, namespace: str) -> InterfaceAsk:
    name = network_name(place, written)
    nad = NetworkKey(kind=NetworkKind.NAD, namespace=namespace, name=name)
    return any_ask(*danm_networks(namespace, name), nad)

"""What a pod asked when its interfaces were made, as texts to be compared with later. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from danmpy.api.dialects.keys import ASKING
from danmpy.api.specs import AddressAsk, AddressMode, InterfaceAsk, PodSpec, RouteSpec

NETWORK: Final = "network"
"""The key of a wish that names the network as the pod does."""

GATEWAYS: Final = "gateways"
"""The key for the next hops of the default route, when the pod says something of them."""

NO_WISHES: Final = "none"
"""What `wishes_when_attached` says of a pod without such annotations."""

HALFWAY: Final = "halfway"
"""The wishes of a pod of which something has left for wishes that it may take back: equal to none,
so that what it asks then is compared with what is left.
"""


def wish_of(ask: InterfaceAsk) -> str:
    """What `ask` says, but for the name: equal texts ask for the same. JSON without defaults."""
    plugin = ask.plugin
    said: Mapping[str, Any] = {
        NETWORK: str(ask.network),
        "ip": _address_text(ask.ip),
        "ip6": _address_text(ask.ip6),
        "proutes": _routes_text(ask.proutes),
        "proutes6": _routes_text(ask.proutes6),
        "mac": ask.mac,
        "default_route": ask.default_route,
        "claim": ask.claim,
        "needs_device": ask.needs_device,
        "ips": plugin.ips,
        "infiniband_guid": plugin.infiniband_guid,
        "port_mappings": [dict(mapping) for mapping in plugin.port_mappings],
        "bandwidth": dict(plugin.bandwidth),
        "cni_args": dict(plugin.cni_args),
    }
    kept = {key: value for key, value in said.items() if value}
    if plugin.gateways is not None:
        kept[GATEWAYS] = list(map(str, plugin.gateways))
    return json.dumps(kept, sort_keys=True, separators=(",", ":"), default=str)


def _address_text(ask: AddressAsk) -> str:
    if ask.address is not None:
        return str(ask.address)
    return "" if ask.mode is AddressMode.ABSENT else str(ask.mode)


def _routes_text(routes: Sequence[RouteSpec]) -> dict[str, str]:
    return {str(route.destination): str(route.gateway) for route in routes}


def wishes_of(pod: PodSpec) -> str:
    """A digest of the annotations by which `pod` asks for interfaces; empty when it has none: then
    it asks for nothing, and not for everything to go.
    """
    said = {key: pod.annotations[key] for key in ASKING if key in pod.annotations}
    if not said:
        return ""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def wishes_when_attached(pod: PodSpec) -> str:
    """As `wishes_of`, for a pod that is attached: one without annotations is known as well."""
    return wishes_of(pod) or NO_WISHES

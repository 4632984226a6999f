"""One interface takes the default routes of a pod from all others, once everything is made.

The Network Plumbing Working Group's standard (1.3, section 4.1.1.2.9, ``default-route``) leaves the
routing to the implementation; as with Multus, the default routes that other plugins set on their
interfaces go, and those of the chosen one lead. Here that is decided for each IP family by itself,
so that a gateway of one family leaves the other family alone. Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

from danmpy.api.cni import MAIN_TABLE, CniResult
from danmpy.attach.deciding.routing import default_routes
from danmpy.attach.journal import LinkRecord
from danmpy.attach.plan import MadeInterface, default_gateways, without_defaults
from danmpy.attach.values import InterfaceSpec
from danmpy.errors import IntentError
from danmpy.kernel.podlinks import PodFacts, PodLinkConfig, PodRoute

_Routes = tuple[tuple[str, PodRoute], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """What changes: routes with the names of their links. `families` are those whose default routes
    were taken; `leading` are the routes that `leader` has from us, none when those of its plugin
    stay as they are.
    """

    leader: str
    families: tuple[int, ...]
    leading: tuple[PodRoute, ...] = ()
    gone: _Routes = ()
    new: _Routes = ()

    def recorded(self, record: LinkRecord) -> LinkRecord:
        """`record` as CHECK and DEL have to know the interface from now on: what a plugin is told
        of its own result has no routes that are gone, or its CHECK would miss them.
        """
        if not self._changes(record.name):
            return record
        config = self._configured(record.name, record.config) if record.config else None
        result = _without_defaults(record.delegate_result, self.families)
        return replace(record, config=config, delegate_result=result)

    def told(self, item: MadeInterface) -> MadeInterface:
        """`item` as the runtime is told of it."""
        name = item.spec.name
        if not self._changes(name):
            return item
        said = without_defaults(item.delegate, self.families) if item.delegate else None
        return replace(item, config=self._configured(name, item.config), delegate=said)

    def _changes(self, name: str) -> bool:
        return name != self.leader or bool(self.leading)

    def _configured(self, name: str, config: PodLinkConfig) -> PodLinkConfig:
        kept = [
            route
            for route in config.routes
            if not (route.is_default and route.family in self.families)
        ]
        return replace(config, routes=(*(self.leading if name == self.leader else ()), *kept))


def plan_takeover(facts: PodFacts, leader: InterfaceSpec, said: CniResult | None) -> Takeover:
    """What has to change so that `leader` has the default routes; `said` is what its plugin
    answered.

    A plugin that is to keep its own may not have set it: the reference plugins pass over a route
    that another interface already has. Then those count that it says.

    Raises:
        IntentError: it is to keep those of its plugin, which has none.
    """
    there = [
        (name, route)
        for name, routes in sorted(facts.routes.items())
        for route in sorted(routes, key=str)
        if route.is_default
    ]
    own = [route for name, route in there if name == leader.name]
    leading = default_routes(leader.default_gateways)
    if not leading and not own and said is not None:
        leading = default_routes(default_gateways(said))
    families = tuple(sorted({route.family for route in leading or own}))
    if not families:
        raise IntentError(
            f"interface {leader.index} on {leader.network.key} is asked for the default route "
            "without a gateway, and its plugin has none",
            hint="name the gateways in default-route, or let the network's IPAM route 0.0.0.0/0",
            subject=leader.name,
        )
    kept = [(leader.name, route) for route in leading or own]
    return Takeover(
        leader=leader.name,
        families=families,
        leading=leading,
        gone=tuple(each for each in there if each[1].family in families and each not in kept),
        new=tuple((leader.name, route) for route in leading if route not in own),
    )


def _without_defaults(text: str, families: tuple[int, ...]) -> str:
    """A delegate's result, JSON text of any CNI version, without default routes of `families`."""
    if not text:
        return text
    document = json.loads(text)
    for place in (document, document.get("ip4"), document.get("ip6")):
        if isinstance(place, dict) and isinstance(place.get("routes"), list):
            place["routes"] = [one for one in place["routes"] if not _is_default(one, families)]
    return json.dumps(document, separators=(",", ":"))


def _is_default(route: dict[str, Any], families: tuple[int, ...]) -> bool:
    destination = ip_network(str(route.get("dst")), strict=False)
    leads = destination.prefixlen == 0 and route.get("table") in {None, MAIN_TABLE}
    return leads and destination.version in families

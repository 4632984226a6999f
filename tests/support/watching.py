"""Short ways to let the netwatcher decide and act on a fake host."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from danmpy.api.specs import NetworkKey, NetworkSpec, NodeSpec, SegmentKey, SegmentKind
from danmpy.kernel.hostlinks import HostFacts, LinkFacts
from danmpy.netwatcher.devices import desired_devices
from danmpy.netwatcher.plan import plan_devices
from danmpy.netwatcher.values import Desired, Step, WatchContext
from support.fakehost import FakeHost
from support.specs import network

LOOKS = 4
"""So many looks may be needed where one thing must be gone before another can be decided."""


def vlan(parent: str, vid: int) -> SegmentKey:
    return SegmentKey(parent=parent, kind=SegmentKind.VLAN, id=vid)


def vxlan(parent: str, vni: int) -> SegmentKey:
    return SegmentKey(parent=parent, kind=SegmentKind.VXLAN, id=vni)


def on(segment: SegmentKey, key: NetworkKey, **more: Any) -> NetworkSpec:
    """A network on `segment`."""
    return network(key, segment=segment, host_device=segment.parent, **more)


def node(name: str, **vteps: str) -> NodeSpec:
    """A node with one address, or several parted by spaces, for each parent device."""
    return NodeSpec(
        name=name,
        vteps={
            parent: tuple(ip_address(text) for text in texts.split())
            for parent, texts in vteps.items()
        },
    )


def by_key(networks: Iterable[NetworkSpec]) -> Mapping[NetworkKey, NetworkSpec]:
    return {each.key: each for each in networks}


class Want:
    """Wishes that can be held against any host."""

    def __init__(
        self, *networks: NetworkSpec, claims: Iterable[SegmentKey | NetworkKey] = (), **context: Any
    ) -> None:
        self._networks = by_key(networks)
        self._claims = frozenset(claims)
        self._context = {"node_name": "n1", **context}

    def desired(self, host: HostFacts) -> Desired:
        context = WatchContext(host=host, **self._context)
        return desired_devices(self._networks, context, claims=self._claims)

    def plan(self, fake: FakeHost, *, prune: bool = True) -> tuple[Step, ...]:
        facts = fake.read()
        return plan_devices(self.desired(facts), facts, prune=prune)

    def settle(self, fake: FakeHost, *, prune: bool = True) -> tuple[Step, ...]:
        """Look and apply until nothing is left to do; all steps."""
        done: list[Step] = []
        for _ in range(LOOKS):
            steps = self.plan(fake, prune=prune)
            if not steps:
                return tuple(done)
            for step in steps:
                fake.apply(step.change)
            done += steps
        raise AssertionError(f"still to do after {LOOKS} looks: {self.plan(fake, prune=prune)}")

    def settle_from_every_prefix(self, fake: FakeHost, *, prune: bool = True) -> tuple[Step, ...]:
        """The first plan; it must lead to one goal, wherever it is cut off and planned again."""
        steps = self.plan(fake, prune=prune)
        goal = copy.deepcopy(fake)
        self.settle(goal, prune=prune)
        for length in range(len(steps)):
            cut = copy.deepcopy(fake)
            for step in steps[:length]:
                cut.apply(step.change)
            self.settle(cut, prune=prune)
            assert shape(cut.read()) == shape(goal.read()), f"cut off after {length} of {steps}"
        self.settle(fake, prune=prune)
        return steps


def shape(host: HostFacts, names: Sequence[str] | None = None) -> dict[str, LinkFacts]:
    """The links by name, without what differs from one making to the next."""
    order = {link.index: position for position, link in enumerate(_in_order(host), 1)}
    return {
        link.name: replace(
            link,
            index=0,
            parent=order.get(link.parent, 0),
            master=order.get(link.master, 0),
        )
        for link in host.links
        if names is None or link.name in names
    }


def _in_order(host: HostFacts) -> list[LinkFacts]:
    return sorted(host.links, key=lambda link: link.name)

"""Values about the links of a pod, as wanted and as the kernel shows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

RT_TABLE_MAIN = 254
"""linux/rtnetlink.h."""

POD_GROUP = 0x64616E70
"""The link group ("danp") that a pod's links are born with.

The kernel takes the group in the request that makes a link and the alias only afterwards
(net/core/rtnetlink.c, rtnl_create_link), so between the two only the group says that it is ours.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLink:
    """One link to make in the pod. `parent` is a link of the node; for veth it is the bridge.

    `host_name` and `host_alias` name the node's end of a veth pair. `mac` and `mtu` (bytes) are
    None where the kernel's choice is right.
    """

    name: str
    kind: str
    parent: str
    mac: str | None = None
    mtu: int | None = None
    host_name: str = ""
    host_alias: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PodRoute:
    """One route in the pod; `gateway` None is an on-link route, `table` as in rtnetlink(7).

    Of several to one destination the one with the lowest `metric` counts; 0 is what the kernel
    takes when none is asked.
    """

    destination: str
    gateway: str | None
    table: int = RT_TABLE_MAIN
    metric: int = 0

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.destination else 4

    @property
    def is_default(self) -> bool:
        """Is it a default route of the main table?"""
        return self.table == RT_TABLE_MAIN and self.destination.endswith("/0")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PodRule:
    """One policy rule: packets from this host address look into `table`."""

    source: str
    table: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLinkConfig:
    """Everything that is set on a link once it is in the pod; addresses as ``10.0.0.5/24``."""

    alias: str
    ipv6: bool
    addresses: tuple[str, ...] = ()
    routes: tuple[PodRoute, ...] = ()
    rules: tuple[PodRule, ...] = ()


class HostLinkFacts(NamedTuple):
    """One link of the node: what a child of it has to know, and what tells whose it is. `mtu` in
    bytes.
    """

    ifindex: int
    mac: str
    mtu: int
    kind: str = ""
    alias: str = ""
    group: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLinkFacts:
    """One link as the kernel shows it in the pod."""

    name: str
    index: int
    kind: str
    alias: str
    mac: str
    mtu: int
    up: bool
    group: int = 0

    def is_ours(self, alias: str) -> bool:
        """Was it made for the sandbox whose links carry `alias`, be it only half?"""
        return self.alias == alias or (not self.alias and self.group == POD_GROUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """A whole namespace: links, addresses by link name, routes by link name, rules."""

    links: dict[str, PodLinkFacts]
    addresses: dict[str, frozenset[str]]
    routes: dict[str, frozenset[PodRoute]]
    rules: frozenset[PodRule]

"""Values about the links of a pod, as wanted and as the kernel shows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

RT_TABLE_MAIN = 254
"""linux/rtnetlink.h."""


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
    """One route in the pod; `gateway` None is an on-link route, `table` as in rtnetlink(7)."""

    destination: str
    gateway: str | None
    table: int = RT_TABLE_MAIN


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """A whole namespace: links, addresses by link name, routes by link name, rules."""

    links: dict[str, PodLinkFacts]
    addresses: dict[str, frozenset[str]]
    routes: dict[str, frozenset[PodRoute]]
    rules: frozenset[PodRule]

"""The door: from the annotations of a pod to all that it asks for, whatever the dialect. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_interface

from danmpy.api.dialects import genie, knitter, npwg
from danmpy.api.dialects.danm import parse_interfaces
from danmpy.api.dialects.keys import (
    ASKING,
    BARE_NETWORKS,
    GENIE_CNI,
    INTERFACES,
    INTERFACES_NEW,
    MULTUS_DEFAULT,
    NO_TEXT,
    NPWG_NETWORKS,
)
from danmpy.api.dialects.places import Place
from danmpy.api.dialects.rules import (
    NO_RULES,
    DialectRules,
    default_ask,
    default_networks,
    more_asks,
    primary_ask,
)
from danmpy.api.specs import AddressAsk, AddressMode, Dialect, InterfaceAsk, PodAsks, PodSpec
from danmpy.errors import IntentError

__all__ = ["DialectRules", "default_ask", "default_networks", "read_pod"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Voice:
    """What one dialect says: all interfaces, without the names that it gives by position."""

    dialect: Dialect
    key: str
    asks: tuple[InterfaceAsk, ...]


def read_pod(pod: PodSpec, rules: DialectRules = NO_RULES, *, has_primary: bool = True) -> PodAsks:
    """All that `pod` asks for. `has_primary` is False when a plugin before us in the chain has
    made the interface that the runtime calls by CNI_IFNAME: then no default network is added.

    Raises:
        IntentError: names the pod, the annotation, the entry and the rule; the pod gets nothing.
    """
    for key in ASKING:
        if pod.annotations.get(key) == NO_TEXT:
            raise Place.of(pod, key).refuse(
                "it is no text", "put it in quotes, or its JSON into text: |"
            )
    voices = tuple(_voices(pod, rules, has_primary=has_primary))
    if not voices:
        return _silent(pod, rules, has_primary=has_primary)
    first, *others = voices
    for other in others:
        if not _agree(first.asks, other.asks):
            raise IntentError(
                f"{first.key} and {other.key} ask for different interfaces, and are not merged",
                hint="keep one of the two annotations, or let both ask for the same",
                subject=f"Pod/{pod.namespace}/{pod.name}",
            )
    return PodAsks(
        dialect=first.dialect,
        interfaces=_named(first, pod, rules, has_primary=has_primary),
        has_primary=has_primary,
    )


def _voices(pod: PodSpec, rules: DialectRules, *, has_primary: bool) -> Iterator[_Voice]:
    """The dialects in which the pod says something, and what."""
    key = next((key for key in (INTERFACES, INTERFACES_NEW) if key in pod.annotations), "")
    if key:
        asks = parse_interfaces(pod)
        if not asks and has_primary:
            asks = (primary_ask(rules, pod.namespace),)
        yield _Voice(dialect=Dialect.DANM, key=key, asks=asks)
    key = next((key for key in (NPWG_NETWORKS, MULTUS_DEFAULT) if _asks(pod, key)), "")
    if key:
        asks = npwg.list_asks(pod, rules, has_primary=has_primary)
        yield _Voice(dialect=Dialect.NPWG, key=key, asks=asks)
    asks = genie.parse_genie(pod)
    if asks:
        key = BARE_NETWORKS if genie.is_listing(pod) else GENIE_CNI
        yield _Voice(dialect=Dialect.GENIE, key=key, asks=asks)
    if knitter.is_ports(pod):
        asks = knitter.parse_ports(pod)
        yield _Voice(dialect=Dialect.KNITTER, key=BARE_NETWORKS, asks=asks)


def _asks(pod: PodSpec, key: str) -> bool:
    return not npwg.is_empty(pod.annotations.get(key, ""))


def _silent(pod: PodSpec, rules: DialectRules, *, has_primary: bool) -> PodAsks:
    """A pod that names no network gets those that the cluster gives to all. An empty annotation
    says at least in whose words it is silent.
    """
    more = more_asks(rules, pod.namespace)
    first = (primary_ask(rules, pod.namespace),) if has_primary else ()
    dialect = Dialect.SILENT
    if more or NPWG_NETWORKS in pod.annotations or MULTUS_DEFAULT in pod.annotations:
        dialect = Dialect.NPWG
    elif GENIE_CNI in pod.annotations:
        dialect = Dialect.GENIE
    asks = npwg.with_names((*first, *more), pod, has_primary=has_primary)
    return PodAsks(dialect=dialect, interfaces=asks, has_primary=has_primary)


def _named(
    voice: _Voice, pod: PodSpec, rules: DialectRules, *, has_primary: bool
) -> tuple[InterfaceAsk, ...]:
    match voice.dialect:
        case Dialect.NPWG:
            return npwg.with_names(voice.asks, pod, has_primary=has_primary)
        case Dialect.GENIE:
            return genie.with_names(voice.asks, has_primary=has_primary)
        case Dialect.KNITTER:
            first = primary_ask(rules, pod.namespace)
            return knitter.with_names(voice.asks, first, has_primary=has_primary)
        case _:
            return voice.asks


def _agree(one: tuple[InterfaceAsk, ...], other: tuple[InterfaceAsk, ...]) -> bool:
    """Do two dialects ask for the same interfaces in the same order?"""
    return len(one) == len(other) and all(map(_same, one, other))


def _same(one: InterfaceAsk, other: InterfaceAsk) -> bool:
    """The same but for words: a network that both can mean, the same of all that is asked of it;
    names only where both give one.
    """
    if not {*one.candidates} & {*other.candidates}:
        return False
    if one.name and other.name and one.name != other.name:
        return False
    return _said(one) == _said(other)


def _said(ask: InterfaceAsk) -> tuple[object, ...]:
    literal = {str(each.address) for each in (ask.ip, ask.ip6) if each.address is not None}
    literal |= {str(ip_interface(text).ip) for text in ask.plugin.ips}
    return (
        literal,
        _wants_address(ask.ip) or _wants_address(ask.ip6),
        ask.proutes,
        ask.proutes6,
        ask.mac,
        ask.claim,
        ask.needs_device,
        bool(ask.default_route),
        ask.plugin.infiniband_guid,
        ask.plugin.port_mappings,
        ask.plugin.bandwidth,
        ask.plugin.cni_args,
        ask.plugin.gateways,
    )


def _wants_address(ask: AddressAsk) -> bool:
    return ask.mode is AddressMode.ANY or ask.is_leased

"""What has to come and go when a running pod asks for other interfaces than it has. Pure.

What a pod asked when an interface was made is kept beside it (`LinkRecord.wish`), so what it asks
now is compared with what it asked then, and not with what became of it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from itertools import chain, count
from typing import Any, Final

from danmpy.api.cni import MAIN_TABLE, CniIp, CniResult, CniRoute, parse_result
from danmpy.api.dialects.keys import MULTUS_DEFAULT
from danmpy.api.specs import Dialect, InterfaceAsk, PodAsks, PodSpec
from danmpy.attach.journal import AttachmentRecord, LinkRecord
from danmpy.attach.plugging.wishes import GATEWAYS, NETWORK, wish_of
from danmpy.attach.values import InterfaceSpec
from danmpy.errors import ConflictError, IntentError

_GENIE_NAME: Final = re.compile(r"eth\d+")

Candidates = Callable[[InterfaceAsk], Iterable[str]]
"""The names that an interface may get whose name the pod leaves to us, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What has to be done so that a pod has what it asks.

    `asks` are all that it asks now, each with its name. `leaving` and `coming` are names of
    interfaces; one that is in both goes and comes again, because something else is asked of it.
    """

    asks: tuple[InterfaceAsk, ...] = ()
    leaving: tuple[str, ...] = ()
    coming: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.leaving or self.coming)

    @property
    def words(self) -> str:
        """The change, for people."""
        parts = (("to come", self.coming), ("to go", self.leaving))
        return ", ".join(f"{word}: {' '.join(names)}" for word, names in parts if names)


def says_primary(pod: PodSpec, asks: PodAsks) -> bool:
    """Does the pod itself say on which network its first interface is?

    Otherwise the settings do, and a change of them is no wish of a pod that runs.
    """
    if not asks.has_primary or asks.dialect is Dialect.SILENT:
        return False
    return asks.dialect is Dialect.DANM or MULTUS_DEFAULT in pod.annotations


def compare(
    asks: PodAsks,
    record: AttachmentRecord,
    candidates: Candidates,
    *,
    foreign: Collection[str] = (),
    says_primary: bool = True,
) -> Change:
    """What has to come to the attachment of `record`, and what has to leave it.

    An interface stays when its network and all that was asked of it are still asked; by whichever
    name, unless the pod names it. `foreign` are names that others have in the pod's namespace.

    Raises:
        IntentError: the first interface would change, or the default route would move.
        ConflictError: a name is asked that an interface has which stays.
    """
    subject = f"Pod/{record.namespace}/{record.pod}"
    places = list(asks.interfaces)
    standing = list(record.links)
    named: dict[int, str] = {}
    if asks.has_primary and places:
        primary = _primary_place(places, record.ifname, subject)
        own = next((link for link in standing if link.name == record.ifname), None)
        if own is not None and says_primary and not _is_same(places[primary], own):
            raise IntentError(
                f"its first interface {record.ifname} would change, "
                "which a running pod keeps as it is",
                hint="undo the change of the first interface, or delete the pod",
                subject=subject,
            )
        named[primary] = record.ifname
        standing = [link for link in standing if link.name != record.ifname]
    rest = [place for place in range(len(places)) if place not in named]
    pairs = _pairs(rest, asks, standing)
    kept = {at: link.name for at, link in pairs.items() if _has_wish(places[at], link)}
    named |= {at: link.name for at, link in pairs.items()}
    stays = {record.ifname, *kept.values()}
    coming = [at for at in rest if at not in kept]
    for at in coming:
        _require_no_default(places[at], subject)
        own_name = _own_name(asks, at)
        if at not in named and own_name:
            named[at] = own_name
    taken = Counter(named.values())
    taken[record.ifname] += not asks.has_primary
    twice = next((at for at in coming if at in named and taken[named[at]] > 1), None)
    if twice is not None:
        where = f"{places[twice].place}: " if places[twice].place else ""
        raise ConflictError(
            f"{where}it asks for two interfaces called {named[twice]}",
            hint="give one of them another name; one that stays keeps the name that it has",
            subject=subject,
        )
    used = {*stays, *named.values(), *foreign}
    for at in coming:
        if at not in named:
            named[at] = next(name for name in candidates(places[at]) if name not in used)
            used.add(named[at])
    leaving = [link for link in standing if link.name not in stays]
    for link in leaving:
        _require_not_leading(link, subject)
    return Change(
        asks=tuple(replace(ask, name=named[at]) for at, ask in enumerate(places)),
        leaving=tuple(link.name for link in leaving),
        coming=tuple(named[at] for at in coming),
    )


def _primary_place(places: Sequence[InterfaceAsk], ifname: str, subject: str) -> int:
    """Which of them is the interface that the runtime asked for: the first when it has no name, as
    in an ADD, whatever the others are called.
    """
    if places[0].name is None:
        return 0
    place = next((at for at, ask in enumerate(places) if ask.name == ifname), None)
    if place is None:
        raise IntentError(
            f"none of its interfaces is called {ifname}, which the runtime asked for",
            hint=f"leave out the name of the first interface, or call one {ifname}",
            subject=subject,
        )
    return place


def _require_no_default(ask: InterfaceAsk, subject: str) -> None:
    if ask.default_route or ask.plugin.gateways is not None:
        raise IntentError(
            f"the interface on {ask.network} would take the default route, "
            "which does not move in a running pod",
            hint="leave out default_route and default-route, or delete the pod",
            subject=subject,
        )


def _require_not_leading(link: LinkRecord, subject: str) -> None:
    said = _said(link)
    if said.get("default_route") or GATEWAYS in said:
        raise IntentError(
            f"interface {link.name} would go, and it has the default route, "
            "which does not move in a running pod",
            hint="undo the change, or delete the pod",
            subject=subject,
        )


def _pairs(
    rest: Sequence[int], asks: PodAsks, standing: Sequence[LinkRecord]
) -> dict[int, LinkRecord]:
    """Which standing interface belongs to which of the `rest`, best fit first."""
    left = list(standing)
    pairs: dict[int, LinkRecord] = {}
    places = asks.interfaces

    def pair(at: int, fits: Callable[[InterfaceAsk, LinkRecord], bool]) -> None:
        link = next((link for link in left if fits(places[at], link)), None)
        if at not in pairs and link is not None:
            pairs[at] = link
            left.remove(link)

    for at in rest:
        pair(at, lambda ask, link: ask.name == link.name and _is_same(ask, link))
    for at in rest:
        if _own_name(asks, at):
            pair(at, lambda ask, link: ask.name == link.name and _is_on(ask, link))
    for fits in (_is_same, _is_on):
        for at in rest:
            if not _own_name(asks, at):
                pair(at, fits)
    return pairs


def _own_name(asks: PodAsks, at: int) -> str:
    """The name that the pod itself gives to an interface; empty when its place gives it."""
    name = asks.interfaces[at].name or ""
    if asks.dialect is Dialect.NPWG:
        return "" if name == f"net{position_of(asks, at)}" else name
    if asks.dialect is Dialect.GENIE:
        return "" if _GENIE_NAME.fullmatch(name) else name
    return name


def position_of(asks: PodAsks, at: int) -> int:
    """The place among all interfaces of the pod, where 0 is what the runtime calls by its name."""
    return at if asks.has_primary else at + 1


def candidates_for(asks: PodAsks, ask: InterfaceAsk, prefix: str, *, bare: bool) -> Iterator[str]:
    """The names for an interface that the pod does not name: by its place, else the next numbers;
    `bare`: the prefix alone comes first (DANM's legacy naming).
    """
    stem = {Dialect.NPWG: "net", Dialect.GENIE: "eth"}.get(asks.dialect, prefix)
    at = next((n for n, each in enumerate(asks.interfaces) if each is ask), 0)
    by_place = f"{stem}{position_of(asks, at)}"
    first = (ask.name,) if ask.name else (by_place,)
    alone = (stem,) if bare and stem == prefix else ()
    return chain(alone, first, (f"{stem}{number}" for number in count(1)))


def _said(link: LinkRecord) -> dict[str, Any]:
    found = json.loads(link.wish) if link.wish else {}
    return found if isinstance(found, dict) else {}


def _is_on(ask: InterfaceAsk, link: LinkRecord) -> bool:
    """Is `link` on the network that is asked? Also when it is asked in other words."""
    return _said(link).get(NETWORK) == str(ask.network) or link.network in map(str, ask.candidates)


def _has_wish(ask: InterfaceAsk, link: LinkRecord) -> bool:
    """Was the same asked of `link`? Yes as well when nobody knows: it is left alone."""
    if not link.wish:
        return True
    then, now = _said(link), json.loads(wish_of(ask))
    for said in (then, now):
        said.pop(NETWORK, None)
    return bool(then == now)


def _is_same(ask: InterfaceAsk, link: LinkRecord) -> bool:
    return _is_on(ask, link) and _has_wish(ask, link)


def beside(
    specs: Sequence[InterfaceSpec], staying: Iterable[LinkRecord], subject: str
) -> tuple[InterfaceSpec, ...]:
    """`specs` that come to a pod with interfaces that stay: as in an ADD (`routing`), a network's
    routes are left to the interface on that network that has them.

    Raises:
        ConflictError: an interface that stays has the same route otherwise.
    """
    held = {
        (route.table, ip_network(route.destination)): link
        for link in staying
        if link.config
        for route in link.config.routes
    }

    kept = []
    for spec in specs:
        key = str(spec.network.key)
        routes = tuple(
            route
            for route in spec.routes
            if (has := held.get((MAIN_TABLE, route.destination))) is None or has.network != key
        )
        for table, wanted in ((MAIN_TABLE, routes), (spec.network.rt_table, spec.proutes)):
            for route in wanted:
                if has := held.get((table, route.destination)):
                    raise ConflictError(
                        f"interfaces {has.name} on {has.network} and {spec.name} on {key} both "
                        f"route {route.destination} in table {table}",
                        hint="keep one of the routes, or use networks with different rt_tables",
                        subject=subject,
                    )
        kept.append(replace(spec, routes=routes))
    return tuple(kept)


def without_links(result: CniResult, gone: Sequence[LinkRecord]) -> CniResult:
    """`result` without what it says of these interfaces."""
    inside = {name for link in gone for name in _names_in_pod(link)}
    outside = {link.link.host_name for link in gone if link.link} - {""}
    kept = [
        at
        for at, made in enumerate(result.interfaces)
        if made.name not in (inside if made.sandbox else outside)
    ]
    moved = {old: new for new, old in enumerate(kept)}
    ips = (_moved(ip, moved) for ip in result.ips)
    return replace(
        result,
        interfaces=tuple(result.interfaces[at] for at in kept),
        ips=tuple(ip for ip in ips if ip is not None),
        routes=_without_routes(result.routes, gone),
    )


def _moved(ip: CniIp, moved: Mapping[int, int]) -> CniIp | None:
    if ip.interface is None:
        return ip
    return replace(ip, interface=moved[ip.interface]) if ip.interface in moved else None


def _names_in_pod(link: LinkRecord) -> Iterator[str]:
    yield link.name
    if link.delegate_result:
        made = parse_result(json.loads(link.delegate_result)).interfaces
        yield from (each.name for each in made if each.sandbox)


def _without_routes(routes: Sequence[CniRoute], gone: Sequence[LinkRecord]) -> tuple[CniRoute, ...]:
    """A result does not say to which interface a route belongs: each goes once for each of `gone`
    that made it.
    """
    left = Counter(_places(gone))
    kept = []
    for route in routes:
        place = (str(route.dst), str(route.gw or ""))
        if left[place] > 0:
            left[place] -= 1
        else:
            kept.append(route)
    return tuple(kept)


def _places(gone: Sequence[LinkRecord]) -> Iterator[tuple[str, str]]:
    for link in gone:
        for own in link.config.routes if link.config else ():
            yield own.destination, own.gateway or ""
        if link.delegate_result:
            for told in parse_result(json.loads(link.delegate_result)).routes:
                yield str(told.dst), str(told.gw or "")

"""``danmpy plan``, ``danmpy networks`` and ``danmpy audit usage``: networks, devices, pools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from danmpy.cli.args import (
    AtOption,
    ConfigOption,
    FromOption,
    NetworkOption,
    OutputOption,
    ToOption,
    choose_network,
    parse_at,
    parse_window,
    read_settings,
)
from danmpy.cli.edge import BAD_REQUEST, DONE, FAILED, say
from danmpy.cli.output import Column, Format, Item, Listing, emit, say_out, short_number, shown
from danmpy.errors import IntentError

if TYPE_CHECKING:
    from danmpy.api.specs import NetworkKey, PoolSpec
    from danmpy.cli.looks import Look
    from danmpy.ipam.audit import Audit, NetworkUsage, PoolUsage

STEP_FIELDS: Final = (
    "action",
    "device",
    "reason",
    "kind",
    "parent",
    "master",
    "vlan_id",
    "vni",
    "port",
    "local",
    "group",
    "learning",
    "mtu",
    "alias",
    "up",
    "add",
    "remove",
)
POOL_FIELDS: Final = ("cidr", "capacity", "held", "cooling", "free")
USAGE_FIELDS: Final = (*POOL_FIELDS, "outside", "percent")
FAMILIES: Final = ("v4", "v6")


def network_fields(pool_fields: Sequence[str]) -> tuple[str, ...]:
    """The CSV columns of a network."""
    pools = [f"{family}.{name}" for family in FAMILIES for name in pool_fields]
    return ("network", "device", "parent", "kind", "id", "mtu", *pools, "conditions")


def plan(
    context: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Go by this file or folder (- is standard input) instead of intent.path;"
            " may be repeated.",
        ),
    ] = None,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="More of them.")
    ] = None,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """What the netwatcher would do on this node, as ordered steps; changes nothing."""
    from danmpy.cli.given import read_given
    from danmpy.cli.looks import look_at, say_notes

    settings = read_settings(context, config)
    given = _given_files(files, more)
    look = look_at(settings, read_given(given) if given else None)
    say_notes(look)
    refused = _say_unrealised(look)
    if look.report.error and not look.report.conditions:
        return FAILED
    listing = Listing(
        items=(step.to_json() for step in look.report.steps),
        columns=[
            Column(title="ACTION", text=lambda item: item["action"], style=_action_style),
            Column(title="DEVICE", text=lambda item: item["device"]),
            Column(title="SETS", text=_attributes),
            Column(title="REASON", text=lambda item: item["reason"]),
        ],
        fields=STEP_FIELDS,
        database_time=look.database_time,
        empty="nothing to do: this node is as the manifests want it",
    )
    if not look.report.steps and refused:
        listing = listing.with_empty("no step is possible now")
    if not look.intent.complete:
        listing = listing.with_empty("no step is known: not every manifest could be read")
    emit(listing, output)
    if given and (look.intent.rejected or not look.intent.complete):
        return BAD_REQUEST
    return _look_code(look)


def _given_files(files: list[str] | None, more: list[str] | None) -> list[str]:
    """``-f a b`` and ``-f a -f b`` both name two files.

    Raises:
        IntentError: files without -f.
    """
    if more and not files:
        hint = f"write danmpy plan -f {' '.join(more)}"
        raise IntentError("files are named with -f", hint=hint, subject=more[0])
    return [*(files or ()), *(more or ())]


def _look_code(look: Look) -> int:
    """Could everything be looked at that the answer hangs on?"""
    if look.report.error or look.unassigned or not look.intent.complete:
        return FAILED
    return DONE


def _say_unrealised(look: Look) -> bool:
    """Name every accepted network that is not well on this node; was there one?"""
    found = False
    for key in look.keys:
        if key in look.intent.rejected:
            continue
        for condition in look.wrong(key):
            found = True
            say(f"{key}: {condition.message} [{condition.reason}]")
    return found


def _attributes(item: Item) -> str:
    """What a step sets, in the words of ``ip link``; the alias says nothing new to a person."""
    hidden = {"action", "device", "reason", "alias"}
    return ", ".join(f"{key} {_words(value)}" for key, value in item.items() if key not in hidden)


def _words(value: object) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case list():
            return " ".join(map(str, value))
        case _:
            return str(value) or "none"


def _action_style(text: str) -> str:
    return {"create": "green", "remove": "red"}.get(text, "yellow")


def networks(
    context: typer.Context,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """Every network: device, segment, use of its subnets, and what is wrong with it."""
    from danmpy.cli.looks import look_at, say_notes

    settings = read_settings(context, config)
    look = look_at(settings).as_it_stands()
    usages = _usages(look, look.intent.networks, None)
    say_notes(look, refused=False)
    items = [network_item(look, key, usages.get(str(key)), POOL_FIELDS) for key in look.keys]
    listing = Listing(
        items=_by_family(items) if output is Format.TABLE else items,
        columns=[
            Column(title="NETWORK", text=lambda item: item["network"]),
            Column(title="DEVICE", text=lambda item: item["device"]),
            Column(title="SEGMENT", text=_segment),
            Column(title="MTU", text=lambda item: item["mtu"], right=True),
            *_pool_columns(("cidr", "held", "cooling", "free")),
            Column(title="STATE", text=_state, style=_state_style),
        ],
        fields=network_fields(POOL_FIELDS),
        database_time=look.database_time,
        empty=_none(look),
    )
    emit(listing, output)
    if output is Format.TABLE:
        _explain_conditions(items)
    return FAILED if look.store_error else _look_code(look)


def _none(look: Look) -> str:
    return "no network is declared" if look.intent.complete else "no network could be read"


def usage(
    context: typer.Context,
    network: NetworkOption = None,
    at: AtOption = None,
    since: FromOption = None,
    until: ToOption = None,
    forecast: Annotated[
        bool,
        typer.Option("--forecast", help="Also when each is full, if it grows as in the last week."),
    ] = False,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """How full the subnets of every network are, now or at a time in the past.

    With --from or --to: their samples in that time, of five minutes or, before the last two days,
    of hours.
    """
    from danmpy.cli.looks import look_at, say_notes
    from danmpy.cli.series import print_series, with_forecasts

    moment = parse_at(at)
    if moment is not None and (since is not None or until is not None or forecast):
        raise IntentError(
            "--at is one time in the past",
            hint="use it without --from, --to and --forecast",
            subject="--at",
        )
    settings = read_settings(context, config)
    if since is not None or until is not None:
        return print_series(settings, network, parse_window(since, until), output)
    look = look_at(settings).as_it_stands()
    if look.audit is None:
        raise look.unread()
    keys = _chosen(look, look.audit, network)
    say_notes(look, refused=False)
    usages = _usages(look, keys, moment)
    items = [network_item(look, key, usages.get(str(key)), USAGE_FIELDS) for key in keys]
    columns = [
        Column(title="NETWORK", text=lambda item: item["network"]),
        *_pool_columns(("cidr", "capacity", "held", "cooling", "free")),
        Column(title="USED", text=_percent, right=True, style=_percent_style),
    ]
    fields: tuple[str, ...] = USAGE_FIELDS
    if forecast:
        items = with_forecasts(settings, items, usages.values())
        fields = (*fields, "exhausted_at")
        columns.append(
            Column(title="EXHAUSTED", text=lambda item: item["pool"].get("exhausted_at"))
        )
    listing = Listing(
        items=_by_family(items) if output is Format.TABLE else items,
        columns=columns,
        fields=network_fields(fields),
        database_time=look.database_time,
        empty=_none(look),
    )
    emit(listing, output)
    return _look_code(look)


def _chosen(look: Look, audit: Audit, network: str | None) -> tuple[NetworkKey, ...]:
    """The networks whose use is asked.

    Raises:
        IntentError: it is unknown, refused, or no longer declared.
    """
    accepted = {str(key): key for key in look.keys if key not in look.intent.rejected}
    if network is None:
        return tuple(accepted.values())
    refused = {str(key) for key in look.intent.rejected}
    known = {*accepted, *refused, *audit.network_names()}
    name = choose_network(network, known)
    if name in accepted:
        return (accepted[name],)
    if name in refused:
        hint = "danmpy networks says what is wrong with it"
        raise IntentError("the manifest of this network is refused", hint=hint, subject=name)
    hint = f"its leases are still known: danmpy audit history --network {name}"
    raise IntentError("this network is no longer declared", hint=hint, subject=name)


def _usages(
    look: Look, keys: Iterable[NetworkKey], moment: int | None
) -> Mapping[str, NetworkUsage]:
    """The use of the networks of `keys`; none while the database cannot be read."""
    if look.audit is None:
        return {}
    specs = [spec for key in keys if (spec := look.spec(key)) is not None]
    return {each.network: each for each in look.audit.usage(specs, at=moment)}


def network_item(
    look: Look, key: NetworkKey, used: NetworkUsage | None, pool_fields: Sequence[str]
) -> dict[str, Any]:
    """One network as scripts see it."""
    from danmpy.cli.looks import condition_item

    spec = look.spec(key)
    segment = spec.segment if spec else None
    device = look.report.device_of.get(key) or None
    parent = segment.parent if segment else (spec.host_device if spec else "")
    mtu = (spec.mtu if spec else None) or look.report.mtu_of.get(device or "")
    return {
        "network": str(key),
        "device": device,
        "parent": parent or None,
        "kind": str(segment.kind) if segment else None,
        "id": segment.id if segment else None,
        "mtu": mtu,
        "v4": pool_item(spec.v4 if spec else None, used.v4 if used else None, pool_fields),
        "v6": pool_item(spec.v6 if spec else None, used.v6 if used else None, pool_fields),
        "conditions": [condition_item(condition) for condition in look.conditions(key)],
    }


def pool_item(
    pool: PoolSpec | None, used: PoolUsage | None, fields: Sequence[str]
) -> dict[str, Any] | None:
    """One family of a network; numbers that only the database knows are null without it."""
    from danmpy.ipam.pools import layout

    if used is not None:
        known = used.to_json()
        return {name: known[name] for name in fields}
    if pool is None:
        return None
    alone = {"cidr": str(pool.subnet), "capacity": layout(pool).capacity}
    return {name: alone.get(name) for name in fields}


def _by_family(items: Iterable[Item]) -> list[Item]:
    """One row for each subnet of a network, one for a network without any."""
    rows: list[Item] = []
    for item in items:
        pools = [item[family] for family in FAMILIES if item[family]]
        rows += [{**item, "pool": pool} for pool in pools or [{}]]
    return rows


def _pool_columns(names: Sequence[str]) -> list[Column]:
    def column(name: str) -> Column:
        title = "SUBNET" if name == "cidr" else name.upper()
        return Column(
            title=title,
            text=lambda item: short_number(item["pool"].get(name)),
            right=name != "cidr",
        )

    return [column(name) for name in names]


def _segment(item: Item) -> str:
    if item["kind"] is None:
        return item["parent"] or ""
    return f"{item['kind']} {item['id']} on {item['parent']}"


def _state(item: Item) -> str:
    wrong = [c["reason"] for c in item["conditions"] if c["status"] != "True"]
    return ", ".join(wrong) or "ready"


def _state_style(text: str) -> str:
    return "green" if text == "ready" else "red"


def _percent(item: Item) -> str:
    percent = item["pool"].get("percent")
    return "" if percent is None else f"{percent} %"


def _percent_style(text: str) -> str:
    value = float(text.partition(" ")[0]) if text[:1].isdigit() else 0.0
    return "red" if value >= 95 else "yellow" if value >= 80 else ""


def _explain_conditions(items: Iterable[Item]) -> None:
    """Under the table: what is wrong, in full and with the way out."""
    lines = [
        f"{item['network']}: {condition['reason']}: {condition['message']}"
        for item in items
        for condition in item["conditions"]
        if condition["status"] != "True"
    ]
    if lines:
        say_out()
    for line in lines:
        say_out(shown(" ".join(line.split())))

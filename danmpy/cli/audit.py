"""``danmpy audit who|history|events|verify``: the questions about who held what, when."""

from __future__ import annotations

import sys
from pathlib import Path
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
    parse_address,
    parse_at,
    parse_mac,
    parse_pod_filter,
    parse_window,
    read_settings,
)
from danmpy.cli.edge import DONE, FINDINGS
from danmpy.cli.output import Column, Format, Item, Listing, dumps, emit, print_table, say_out
from danmpy.clock import to_rfc3339
from danmpy.errors import DanmpyError, IntentError

if TYPE_CHECKING:
    from danmpy.ipam.anchors import Anchor
    from danmpy.ipam.audit import Audit, WhoAnswer
    from danmpy.settings import Settings

LEASE_FIELDS: Final = (
    "address",
    "family",
    "network",
    "namespace",
    "pod",
    "pod_uid",
    "container_id",
    "interface",
    "node",
    "mac",
    "mode",
    "from",
    "to",
    "end_reason",
    "note",
    "claim",
    "shared_by",
)
EVENT_FIELDS: Final = (
    "seq",
    "at",
    "effective_at",
    "kind",
    "network",
    "domain",
    "address",
    "namespace",
    "pod",
    "pod_uid",
    "container_id",
    "interface",
    "node",
    "mac",
    "reason",
    "detail",
    "digest",
    "sealed",
)


def _pod(item: Item) -> str:
    if item.get("mode") == "reserved":
        group = f", shared by {', '.join(item['shared_by'])}" if item["shared_by"] else ""
        return f"reserved: {item['note']}{group}"
    if item.get("note"):
        whose = f"{item['namespace']}/{item['pod']}" if item["pod"] else "unknown pod"
        return f"{whose} ({item['note']})"
    return f"{item['namespace']}/{item['pod']}" if item["pod"] else ""


def _until(item: Item) -> str:
    return str(item["to"]) if item["to"] else "held"


def _lease_columns() -> list[Column]:
    return [
        Column(title="ADDRESS", text=lambda item: item["address"]),
        Column(title="NETWORK", text=lambda item: item["network"]),
        Column(title="POD", text=_pod),
        Column(title="INTERFACE", text=lambda item: item["interface"]),
        Column(title="NODE", text=lambda item: item["node"]),
        Column(title="MAC", text=lambda item: item["mac"]),
        Column(title="FROM", text=lambda item: item["from"]),
        Column(title="TO", text=_until, style=lambda text: "green" if text == "held" else ""),
        Column(title="END", text=lambda item: item["end_reason"]),
    ]


def who(
    context: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="One IPv4 or IPv6 address.")],
    network: NetworkOption = None,
    at: AtOption = None,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """Who holds an address, or held it at a time; if nobody, the last and the next holder."""
    wanted = parse_address(address, "ADDRESS")
    moment = parse_at(at)
    audit, chosen = _open(context, config, network)
    answer = audit.who(wanted, network=chosen, at=moment)
    if output is Format.TABLE:
        _print_who(str(wanted), answer)
        return DONE
    parts: dict[str, Any] = answer.to_json()
    items = parts.pop("items")
    time = str(parts.pop("database_time"))
    listing = Listing(items=items, columns=(), fields=LEASE_FIELDS, database_time=time, extra=parts)
    emit(listing, output)
    return DONE


def _print_who(address: str, answer: WhoAnswer) -> None:
    moment = to_rfc3339(answer.at)
    if answer.holders:
        say_out(f"{address} at {moment}: held")
        print_table(_lease_columns(), [lease.to_json() for lease in answer.holders])
        return
    say_out(f"{address} at {moment}: held by nobody")
    around = [("previous", answer.previous), ("next", answer.next)]
    items = [{"when": when, **lease.to_json()} for when, lease in around if lease is not None]
    if items:
        when = Column(title="HOLDER", text=lambda item: item["when"])
        print_table([when, *_lease_columns()], items)
    else:
        say_out("nobody held it before or since")


def history(
    context: typer.Context,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="One address.")
    ] = None,
    pod: Annotated[
        str | None, typer.Option("--pod", metavar="POD", help="Name, or namespace/name.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Its namespace.")
    ] = None,
    network: NetworkOption = None,
    node: Annotated[str | None, typer.Option("--node", metavar="NODE", help="One node.")] = None,
    mac: Annotated[str | None, typer.Option("--mac", metavar="MAC", help="One MAC.")] = None,
    since: FromOption = None,
    until: ToOption = None,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """Leases of now and before, one row each; every option narrows them down."""
    from danmpy.ipam.audit import HistoryFilter

    window = parse_window(since, until)
    wanted = parse_address(address, "--address") if address is not None else None
    audit, chosen = _open(context, config, network)
    leases = audit.history(
        HistoryFilter(
            address=wanted,
            pod=None if pod is None else parse_pod_filter(pod),
            namespace=namespace,
            network=chosen,
            node=node,
            mac=None if mac is None else parse_mac(mac),
            **window,
        )
    )
    listing = Listing(
        items=(lease.to_json() for lease in leases),
        columns=_lease_columns(),
        fields=LEASE_FIELDS,
        database_time=to_rfc3339(audit.database_time()),
        empty="no lease matches",
    )
    emit(listing, output)
    return DONE


def events(
    context: typer.Context,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="One address.")
    ] = None,
    network: NetworkOption = None,
    since: FromOption = None,
    until: ToOption = None,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """The ledger: everything that happened to addresses and segments, in order."""
    from danmpy.ipam.audit import EventFilter

    window = parse_window(since, until)
    wanted = parse_address(address, "--address") if address is not None else None
    audit, chosen = _open(context, config, network)
    records = audit.events(EventFilter(address=wanted, network=chosen, **window))
    listing = Listing(
        items=(record.to_json() for record in records),
        columns=[
            Column(title="SEQ", text=lambda item: item["seq"], right=True),
            Column(title="AT", text=lambda item: item["at"]),
            Column(title="KIND", text=lambda item: item["kind"]),
            Column(title="ADDRESS", text=lambda item: item["address"]),
            Column(title="NETWORK", text=lambda item: item["network"]),
            Column(title="POD", text=_pod),
            Column(title="INTERFACE", text=lambda item: item["interface"]),
            Column(title="NODE", text=lambda item: item["node"]),
            Column(title="REASON", text=lambda item: item["reason"]),
            Column(title="SEALED", text=lambda item: "yes" if item["sealed"] else "not yet"),
        ],
        fields=EVENT_FIELDS,
        database_time=to_rfc3339(audit.database_time()),
        empty="no event matches",
    )
    emit(listing, output)
    return DONE


def verify(
    context: typer.Context,
    kept: Annotated[
        Path | None,
        typer.Option(
            "--anchors",
            metavar="FILE",
            help="Compare with what audit roots -o jsonl printed once (- is standard input).",
        ),
    ] = None,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """Is the ledger intact, and do the leases agree with it? Exit code 1 if not."""
    from danmpy.bootstrap.readers import compare_anchors, open_ledger

    if output is Format.CSV:
        raise IntentError("verify prints no csv", hint="use table, json or jsonl", subject="-o")
    settings = read_settings(context, config)
    anchors = () if kept is None else read_anchors(kept)
    report = open_ledger(settings).verify()
    if anchors:
        report = report.with_findings(compare_anchors(settings, anchors))
    if output in {Format.JSON, Format.JSONL}:
        say_out(dumps(report.to_json()))
    else:
        say_out(str(report))
    return DONE if report.ok else FINDINGS


def read_anchors(path: Path) -> tuple[Anchor, ...]:
    """The roots in a file.

    Raises:
        IntentError: it cannot be read, or a line is none.
    """
    from danmpy.ipam.anchors import parse_anchors

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        words = getattr(error, "strerror", None) or "it is no text in UTF-8"
        hint = "name a file that danmpy audit roots -o jsonl was written to"
        raise IntentError(f"it cannot be read: {words}", hint=hint, subject=str(path)) from None
    return tuple(parse_anchors(text.splitlines(), str(path)))


def _open(context: typer.Context, config: Any, network: str | None) -> tuple[Audit, str | None]:
    from danmpy.bootstrap.readers import open_audit

    settings = read_settings(context, config)
    audit = open_audit(settings)
    if network is None:
        return audit, None
    return audit, choose_network(network, _known(settings, audit, network))


def _known(settings: Settings, audit: Audit, wanted: str) -> set[str]:
    """Networks of the database, gone ones too, and of the intent as far as it can be read.

    The full name of one that the database knows needs no API server, which may be away.
    """
    from danmpy.bootstrap.readers import open_intent

    names = set(audit.network_names())
    if wanted in names:
        return names
    try:
        names.update(str(key) for key in open_intent(settings, pods=False).read().networks)
    except DanmpyError:
        # History must be readable when the manifests are not.
        return names
    return names

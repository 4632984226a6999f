"""``danmpy retention|hold`` and ``danmpy audit prune|roots``: how long history is kept."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from danmpy.cli.args import (
    ConfigOption,
    NetworkOption,
    OutputOption,
    choose_network,
    parse_address,
    read_cause,
    read_settings,
)
from danmpy.cli.edge import DONE
from danmpy.cli.output import Column, Format, Listing, dumps, emit, say_out
from danmpy.clock import to_rfc3339
from danmpy.errors import IntentError

HOLD_FIELDS: Final = ("id", "namespace", "network", "address", "for", "actor", "since")
ROOT_FIELDS: Final = ("ledger", "no", "root", "at", "last_seq")
MOST_DAYS: Final = 36_500

NamespaceArgument = Annotated[
    str, typer.Argument(metavar="NAMESPACE", help="The namespace of a tenant.")
]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; the ledger keeps it.")
]


def set_days(
    context: typer.Context,
    namespace: NamespaceArgument,
    days: Annotated[
        int,
        typer.Argument(metavar="DAYS", min=0, max=MOST_DAYS, help="How long; 0 is for ever."),
    ],
    reason: ReasonOption = "set by hand",
    config: ConfigOption = None,
) -> int:
    """Keep the history of a namespace for another time than ipam.retention_days."""
    from danmpy.api.words import is_namespace
    from danmpy.bootstrap.readers import open_retention

    if not is_namespace(namespace):
        hint = "write the name of a namespace, such as blue"
        raise IntentError(f"{namespace!r} is no namespace", hint=hint, subject="NAMESPACE")
    cause = read_cause(reason, "--reason")
    open_retention(read_settings(context, config)).set_days(namespace, days, cause)
    say_out(f"{namespace}: kept {_days(days)}")
    return DONE


def unset(
    context: typer.Context,
    namespace: NamespaceArgument,
    reason: ReasonOption = "unset by hand",
    config: ConfigOption = None,
) -> int:
    """Keep the history of a namespace for ipam.retention_days again."""
    from danmpy.bootstrap.readers import open_retention

    cause = read_cause(reason, "--reason")
    settings = read_settings(context, config)
    keeper = open_retention(settings)
    if namespace not in keeper.rules().days:
        hint = "danmpy retention list shows those that have"
        raise IntentError("it has no period of its own", hint=hint, subject=namespace)
    keeper.set_days(namespace, None, cause)
    say_out(f"{namespace}: kept {_days(settings.ipam.retention_days)}")
    return DONE


def list_days(
    context: typer.Context, output: OutputOption = Format.TABLE, config: ConfigOption = None
) -> int:
    """For how long history is kept: by default, and of namespaces with a period of their own."""
    from danmpy.bootstrap.readers import open_audit, open_retention

    settings = read_settings(context, config)
    rules = open_retention(settings).rules()
    listing = Listing(
        items=[
            {"namespace": name, "days": days}
            for name, days in [("", rules.default), *sorted(rules.days.items())]
        ],
        columns=[
            Column(title="NAMESPACE", text=lambda item: item["namespace"] or "(all others)"),
            Column(title="KEPT", text=lambda item: _days(item["days"])),
        ],
        fields=("namespace", "days"),
        database_time=to_rfc3339(open_audit(settings).database_time()),
    )
    emit(listing, output)
    return DONE


def _days(days: int) -> str:
    return f"{days} days" if days else "for ever"


def add_hold(
    context: typer.Context,
    what_for: Annotated[
        str, typer.Option("--for", metavar="TEXT", help="What for; the ledger keeps it.")
    ],
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Its history.")
    ] = None,
    network: NetworkOption = None,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="History of an address.")
    ] = None,
    config: ConfigOption = None,
) -> int:
    """Keep the history of a namespace, a network or an address until the hold is removed."""
    from danmpy.bootstrap.readers import open_audit, open_retention
    from danmpy.ipam.retaining import Hold

    if sum(each is not None for each in (namespace, network, address)) != 1:
        raise IntentError(
            "what to keep is not clear",
            hint="give one of --namespace, --network and --address",
            subject="danmpy hold add",
        )
    cause = read_cause(what_for, "--for")
    settings = read_settings(context, config)
    if network is not None:
        network = choose_network(network, open_audit(settings).network_names())
    wanted = Hold(
        namespace=namespace or "",
        network=network or "",
        address=str(parse_address(address, "--address")) if address is not None else "",
    )
    made = open_retention(settings).hold(wanted, cause)
    say_out(f"hold {made.id}: {made} is kept ({made.note})")
    return DONE


def remove_hold(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", help="As danmpy hold list shows it.")],
    reason: ReasonOption,
    config: ConfigOption = None,
) -> int:
    """End a hold; what is older than it has to be goes with the next pruning."""
    from danmpy.bootstrap.readers import open_retention

    cause = read_cause(reason, "--reason")
    ended = open_retention(read_settings(context, config)).lift(number, cause)
    say_out(f"hold {ended.id}: {ended} is no longer kept")
    return DONE


def list_holds(
    context: typer.Context, output: OutputOption = Format.TABLE, config: ConfigOption = None
) -> int:
    """Every hold that is there now."""
    from danmpy.bootstrap.readers import open_audit, open_retention

    settings = read_settings(context, config)
    listing = Listing(
        items=[
            {
                "id": hold.id,
                "namespace": hold.namespace,
                "network": hold.network,
                "address": hold.address,
                "for": hold.note,
                "actor": hold.actor,
                "since": to_rfc3339(hold.held_at),
            }
            for hold in open_retention(settings).rules().holds
        ],
        columns=[
            Column(title="ID", text=lambda item: item["id"], right=True),
            Column(
                title="KEEPS",
                text=lambda item: next(
                    f"{name} {item[name]}"
                    for name in ("namespace", "network", "address")
                    if item[name]
                ),
            ),
            Column(title="FOR", text=lambda item: item["for"]),
            Column(title="BY", text=lambda item: item["actor"]),
            Column(title="SINCE", text=lambda item: item["since"]),
        ],
        fields=HOLD_FIELDS,
        database_time=to_rfc3339(open_audit(settings).database_time()),
        empty="nothing is held",
    )
    emit(listing, output)
    return DONE


def prune(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be forgotten.")
    ] = False,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """Forget history that is older than it is kept, as the daemons do once a day.

    Whole seals of the ledger go, with the leases that they tell of. Export first what is to be
    kept elsewhere: danmpy audit events, danmpy audit history.
    """
    from danmpy.bootstrap.readers import open_retention

    if output is Format.CSV:
        raise IntentError("prune prints no csv", hint="use table, json or jsonl", subject="-o")
    done = open_retention(read_settings(context, config)).run_once(dry_run=dry_run)
    if output is Format.TABLE:
        say_out(f"{'would forget' if dry_run else 'forgot'} {done}")
    else:
        say_out(dumps({"dry_run": dry_run, **done.to_json()}))
    return DONE


def roots(
    context: typer.Context,
    after: Annotated[
        int, typer.Option("--after", metavar="NO", min=0, help="Only seals behind this number.")
    ] = 0,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """The roots of the ledger's seals, to be kept in another place; see audit verify --anchors."""
    from danmpy.bootstrap.readers import open_audit, read_roots

    settings = read_settings(context, config)
    listing = Listing(
        items=read_roots(settings, after=after),
        columns=[
            Column(title="SEAL", text=lambda item: item["no"], right=True),
            Column(title="AT", text=lambda item: item["at"]),
            Column(title="LAST EVENT", text=lambda item: item["last_seq"], right=True),
            Column(title="ROOT", text=lambda item: item["root"]),
        ],
        fields=ROOT_FIELDS,
        database_time=to_rfc3339(open_audit(settings).database_time()),
        empty="nothing is sealed yet",
    )
    emit(listing, output)
    return DONE

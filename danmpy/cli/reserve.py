"""``danmpy reserve|unreserve|reservations|release``: what operators do to addresses by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from danmpy.cli.args import (
    ConfigOption,
    OutputOption,
    choose_network,
    parse_address,
    read_cause,
    read_settings,
)
from danmpy.cli.audit import LEASE_FIELDS
from danmpy.cli.edge import DONE
from danmpy.cli.output import Column, Format, Listing, emit, say_out
from danmpy.clock import to_rfc3339
from danmpy.errors import ConflictError, DanmpyError, IntentError, NotReadyError

if TYPE_CHECKING:
    from danmpy.api.specs import IPAddress
    from danmpy.ipam.reserving import Cause, OperatorStore
    from danmpy.ipam.values import Lease
    from danmpy.settings import Settings

AddressArgument = Annotated[
    str, typer.Argument(metavar="ADDRESS", help="One IPv4 or IPv6 address.")
]
NetworkOption = Annotated[
    str,
    typer.Option(
        "--network",
        metavar="NETWORK",
        help="Kind/namespace/name, Kind/name, or a name that only one network has.",
    ),
]


def reserve(
    context: typer.Context,
    address: AddressArgument,
    network: NetworkOption,
    what_for: Annotated[
        str, typer.Option("--for", metavar="TEXT", help="What it is for; shown by audit who.")
    ],
    shared_by: Annotated[
        list[str] | None,
        typer.Option(
            "--shared-by",
            metavar="NAMESPACE/PATTERN",
            help="A group of pods that moves the address among them by its own software "
            "(keepalived, VRRP); may be given more than once.",
        ),
    ] = None,
    config: ConfigOption = None,
) -> int:
    """Keep an address of a network from all pods, until it is unreserved.

    One that a pod holds, or that is kept for a claim, is refused; one that only cools down is not.
    """
    from danmpy.bootstrap.readers import open_intent, open_operators, read_assignments
    from danmpy.ipam.reserving import parse_group

    wanted = parse_address(address, "ADDRESS")
    cause = read_cause(what_for, "--for")
    group = tuple(dict.fromkeys(map(parse_group, shared_by or ())))
    settings = read_settings(context, config)
    operators = open_operators(settings)
    intent = open_intent(settings, pods=False).read()
    assignments = read_assignments(settings, intent)
    names = {str(key): key for key in intent.networks}
    key = names[choose_network(network, names)]
    resolved = assignments.networks.get(key)
    if resolved is None:
        raise NotReadyError(
            f"its segment is not known: {assignments.problems[key].message}",
            hint="reserve the address when danmpy networks shows the network ready",
            subject=str(key),
        )
    made = operators.reserve(resolved, wanted, cause, group)
    say_out(f"{made.address.ip} of {made.network}: reserved ({made.note})")
    return DONE


def unreserve(
    context: typer.Context,
    address: AddressArgument,
    network: NetworkOption,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; it goes into the ledger.")
    ] = "no longer needed",
    config: ConfigOption = None,
) -> int:
    """End a reservation; the address cools down and is given to pods again."""
    wanted = parse_address(address, "ADDRESS")
    cause = read_cause(reason, "--reason")
    settings = read_settings(context, config)
    operators, chosen = _open(settings, network)
    held = operators.held(chosen, wanted)
    for lease in held:
        if not lease.is_reservation:
            raise ConflictError(
                f"{wanted} is not reserved, it is held by {lease.holder}",
                hint="danmpy release ends the lease of a pod that is gone",
                subject=chosen,
            )
    _say_ended(operators.end(held, cause), wanted, chosen)
    return DONE


def reservations(
    context: typer.Context, output: OutputOption = Format.TABLE, config: ConfigOption = None
) -> int:
    """Every address that is reserved now, and what for."""
    from danmpy.bootstrap.readers import open_audit, open_operators

    settings = read_settings(context, config)
    listing = Listing(
        items=[lease.to_json() for lease in open_operators(settings).reservations()],
        columns=[
            Column(title="ADDRESS", text=lambda item: item["address"]),
            Column(title="NETWORK", text=lambda item: item["network"]),
            Column(title="FOR", text=lambda item: item["note"]),
            Column(title="SHARED BY", text=lambda item: ", ".join(item["shared_by"])),
            Column(title="SINCE", text=lambda item: item["from"]),
        ],
        fields=LEASE_FIELDS,
        database_time=to_rfc3339(open_audit(settings).database_time()),
        empty="no address is reserved",
    )
    emit(listing, output)
    return DONE


def release(
    context: typer.Context,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; it goes into the ledger.")
    ],
    address: Annotated[
        str | None, typer.Argument(metavar="ADDRESS", help="One IPv4 or IPv6 address.")
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", metavar="NETWORK", help="Its network.")
    ] = None,
    node: Annotated[
        str | None,
        typer.Option("--node", metavar="NODE", help="Everything that pods of this node hold."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also when the pod or the node may still be there: their "
            "address may then be on two pods.",
        ),
    ] = False,
    config: ConfigOption = None,
) -> int:
    """End leases by hand: of a pod that is gone, or of a node that is lost with its state.

    An address that nobody holds and that is kept for a claim (a StatefulSet's pod) is given free:
    the first release ends the lease, a second one the claim.
    """
    cause = read_cause(reason, "--reason")
    if (node is None) is (address is None) or (address is None) is not (network is None):
        raise IntentError(
            "what to release is not clear",
            hint="give ADDRESS and --network, or --node alone",
            subject="danmpy release",
        )
    settings = read_settings(context, config)
    if address is None or network is None:
        return _release_node(settings, node or "", cause, force=force)
    wanted = parse_address(address, "ADDRESS")
    operators, chosen = _open(settings, network)
    held = operators.held(chosen, wanted)
    if any(lease.is_reservation for lease in held):
        raise ConflictError(
            f"{wanted} is held by {held[0].holder}",
            hint="danmpy unreserve ends a reservation",
            subject=chosen,
        )
    if held:
        if not force:
            _require_gone(settings, held)
        _say_ended(operators.end(held, cause), wanted, chosen)
        return DONE
    unclaimed = operators.unclaim(chosen, wanted, cause)
    for lease in unclaimed:
        say_out(f"{wanted} of {chosen}: kept for claim {lease.namespace}/{lease.claim} no longer")
    if not unclaimed:
        raise _nobody(wanted, chosen)
    return DONE


def _release_node(settings: Settings, node: str, cause: Cause, *, force: bool) -> int:
    from danmpy.bootstrap.readers import open_operators

    if not node:
        raise IntentError("no node is named", hint="write its name", subject="--node")
    operators = open_operators(settings)
    held = operators.held_on(node)
    if not force:
        _require_gone(settings, held, node)
    ended = operators.end(held, cause)
    for lease in ended:
        say_out(f"{lease.address.ip} of {lease.network}: ended, {lease.holder} had it")
    say_out(f"{len(ended)} leases of node {node} ended")
    return DONE


def _require_gone(settings: Settings, leases: Sequence[Lease], node: str = "") -> None:
    """Nothing that can be looked at may say that these pods, or this node, are still there.

    Raises:
        ConflictError: something does.
        NotReadyError: it cannot be looked at.
    """
    hint = "if it is gone for certain, add --force"
    for reason in _signs_of_life(settings, leases, node):
        raise ConflictError(reason, hint=hint, subject="danmpy release")


def _signs_of_life(settings: Settings, leases: Sequence[Lease], node: str) -> Iterator[str]:
    from danmpy.attach.journal import Phase
    from danmpy.bootstrap.readers import open_intent, read_attachments

    attached = {
        record.container_id
        for record in read_attachments(settings)
        if record.phase is not Phase.DETACHED
    }
    for lease in leases:
        if lease.container_id in attached:
            yield f"{lease.holder} is attached on this node, with {lease.address.ip}"
    try:
        intent = open_intent(settings).read()
    except DanmpyError as error:
        raise _unread(str(error)) from error
    if not intent.complete:
        raise _unread(str(intent.problems[0]) if intent.problems else "the intent is not complete")
    refused = {problem.subject for problem in intent.problems}
    if node and (f"Node/{node}" in refused or any(each.name == node for each in intent.nodes)):
        yield f"Node/{node} is still in the cluster"
    for lease in leases:
        pod = intent.pods.get((lease.namespace, lease.pod))
        if pod is not None and (pod.is_uid(lease.pod_uid) or not lease.pod_uid):
            yield f"{lease.holder} still exists, and holds {lease.address.ip}"
    if settings.intent.source == "folder":
        # It need not be the folder of that node; and a manifest that is taken away ends no pod.
        for lease in leases:
            if lease.node not in {"", settings.node_name}:
                yield f"{lease.holder} may still run on node {lease.node}: a folder does not tell"


def _unread(why: str) -> NotReadyError:
    return NotReadyError(
        f"whether the pod is gone cannot be seen: {why}",
        hint="correct that; or, if it is gone for certain, add --force",
        subject="danmpy release",
    )


def _open(settings: Settings, network: str) -> tuple[OperatorStore, str]:
    from danmpy.bootstrap.readers import open_audit, open_operators

    return open_operators(settings), choose_network(network, open_audit(settings).network_names())


def _say_ended(ended: Sequence[Lease], address: IPAddress, network: str) -> None:
    if not ended:
        raise _nobody(address, network)
    for lease in ended:
        kept = f", and kept for claim {lease.namespace}/{lease.claim}" if lease.claim else ""
        say_out(f"{address} of {network}: ended, {lease.holder} had it; it cools down{kept}")


def _nobody(address: IPAddress, network: str) -> IntentError:
    return IntentError(
        f"nobody holds {address}, and it is kept for nobody",
        hint="danmpy audit who says who had it",
        subject=network,
    )

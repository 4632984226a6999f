"""``danmpy db epoch|accept-epoch``: after a database was restored or failed over."""

from __future__ import annotations

from typing import Annotated

import typer

from danmpy.cli.args import ConfigOption, read_cause, read_settings
from danmpy.cli.edge import DONE, FINDINGS
from danmpy.cli.output import say_out


def epoch(context: typer.Context, config: ConfigOption = None) -> int:
    """Are addresses handed out, or does the database wait for nodes? Exit code 1 if it waits."""
    from danmpy.bootstrap.readers import open_epochs

    store = open_epochs(read_settings(context, config))
    found = store.look(None).epoch
    if not found.closed:
        say_out(f"epoch {found.number}: addresses are handed out")
        return DONE
    say_out(f"epoch {found.number}: no address is handed out: {found.why}")
    say_out(f"nodes that have not told what their pods have: {_names(store.missing())}")
    return FINDINGS


def accept_epoch(
    context: typer.Context,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; the ledger keeps it.")
    ],
    config: ConfigOption = None,
) -> int:
    """Hand out addresses again, without the nodes that have not told what their pods have.

    What pods on those nodes have, and the database has forgotten, may then be given to other pods.
    """
    from danmpy.bootstrap.readers import open_epochs

    cause = read_cause(reason, "--reason")
    store = open_epochs(read_settings(context, config))
    missing = store.missing()
    before = store.look(None).epoch
    after = store.settle(by=f"{cause.actor}: {cause.reason}")
    if not before.closed:
        say_out(f"epoch {after.number}: addresses were handed out already")
        return DONE
    say_out(f"epoch {after.number}: addresses are handed out again, without {_names(missing)}")
    return DONE


def _names(nodes: tuple[str, ...]) -> str:
    return ", ".join(nodes) or "none"

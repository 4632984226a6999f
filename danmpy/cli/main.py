"""The `danmpy` command: what there is to run. The work is in the module of each command.

Everything heavy is imported inside the commands, so that `danmpy --help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from danmpy import __version__
from danmpy.cli import (
    admin,
    adopting,
    audit,
    converting,
    diff,
    epoch,
    explain,
    importing,
    manifests,
    networks,
    reserve,
    retention,
)
from danmpy.cli.args import ConfigOption
from danmpy.cli.edge import DanmpyGroup

app = typer.Typer(
    name="danmpy",
    cls=DanmpyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_audit = typer.Typer(name="audit", help="Who held which address, when.", no_args_is_help=True)
_import = typer.Typer(
    name="import", help="Take over addresses from other tools.", no_args_is_help=True
)
_convert = typer.Typer(
    name="convert", help="Make danmpy's configuration of another tool's.", no_args_is_help=True
)
_adopt = typer.Typer(
    name="adopt", help="Take over pods that another tool attached.", no_args_is_help=True
)
_retention = typer.Typer(
    name="retention", help="How long the history of a namespace is kept.", no_args_is_help=True
)
_hold = typer.Typer(
    name="hold", help="History that is kept whatever its age.", no_args_is_help=True
)
_db = typer.Typer(name="db", help="The database's schema.", no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"danmpy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    config: ConfigOption = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Tenant networks for pods: declared networks, attached interfaces, audited addresses.

    Exit codes: 0 done, 1 findings, 2 bad request or manifest, 3 could not do it.
    """


app.command("node")(admin.node)
app.command("controller")(admin.controller)
app.command("plan")(networks.plan)
app.command("check")(manifests.check)
app.command("explain")(explain.explain)
app.command("networks")(networks.networks)
app.command("reserve")(reserve.reserve)
app.command("unreserve")(reserve.unreserve)
app.command("reservations")(reserve.reservations)
app.command("release")(reserve.release)
app.add_typer(_audit)
app.add_typer(_import)
app.add_typer(_convert)
app.add_typer(_adopt)
app.add_typer(_retention)
app.add_typer(_hold)
app.add_typer(_db)
app.command("crds")(manifests.crds)
app.command("install-cni")(admin.install_cni)

_audit.command("who")(audit.who)
_audit.command("history")(audit.history)
_audit.command("usage")(networks.usage)
_audit.command("diff")(diff.diff)
_audit.command("events")(audit.events)
_audit.command("verify")(audit.verify)
_audit.command("roots")(retention.roots)
_audit.command("prune")(retention.prune)

_import.command("danm")(importing.danm)
_import.command("whereabouts")(importing.whereabouts)
_import.command("host-local")(importing.host_local)

_convert.command("multus")(converting.multus)
_adopt.command("multus")(adopting.multus)

_retention.command("set")(retention.set_days)
_retention.command("unset")(retention.unset)
_retention.command("list")(retention.list_days)

_hold.command("add")(retention.add_hold)
_hold.command("remove")(retention.remove_hold)
_hold.command("list")(retention.list_holds)

_db.command("roles")(admin.roles)
_db.command("upgrade")(admin.upgrade)
_db.command("current")(admin.current)
_db.command("epoch")(epoch.epoch)
_db.command("accept-epoch")(epoch.accept_epoch)


def run() -> None:
    """Entry point of the distribution."""
    app()


if __name__ == "__main__":
    run()

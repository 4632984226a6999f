"""The `danmpy` command: what there is to run. The work is in the module of each command.

Everything heavy is imported inside the commands, so that `danmpy --help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from danmpy import __version__
from danmpy.cli import admin, audit, diff, explain, manifests, networks
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
app.add_typer(_audit)
app.add_typer(_db)
app.command("crds")(manifests.crds)
app.command("install-cni")(admin.install_cni)

_audit.command("who")(audit.who)
_audit.command("history")(audit.history)
_audit.command("usage")(networks.usage)
_audit.command("diff")(diff.diff)
_audit.command("events")(audit.events)
_audit.command("verify")(audit.verify)

_db.command("upgrade")(admin.upgrade)
_db.command("current")(admin.current)


def run() -> None:
    """Entry point of the distribution."""
    app()


if __name__ == "__main__":
    run()

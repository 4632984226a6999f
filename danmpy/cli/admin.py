"""``danmpy node|controller|db|install-cni``: running and preparing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from danmpy.cli.args import ConfigOption, read_settings
from danmpy.cli.edge import DONE, FAILED, FINDINGS, say
from danmpy.cli.output import say_out
from danmpy.cni.kinds import ShimKind
from danmpy.errors import NotReadyError


def node(context: typer.Context, config: ConfigOption = None) -> int:
    """Run the node daemon in the foreground: host devices, and the CNI server."""
    from danmpy.bootstrap.node import run_node

    try:
        return run_node(read_settings(context, config))
    except NotReadyError as error:
        # Waiting does not help a daemon whose folder or socket another one has.
        say(str(error))
        return FAILED


def controller(context: typer.Context, config: ConfigOption = None) -> int:
    """Run the cluster daemon in the foreground: admission webhook, VNIs, status."""
    from danmpy.bootstrap.controller import run_controller

    return run_controller(read_settings(context, config))


def upgrade(context: typer.Context, config: ConfigOption = None) -> int:
    """Bring the database's schema to this release's; makes a SQLite file that is not there."""
    from danmpy.db import migrate

    settings = read_settings(context, config)
    before, after = migrate.upgrade(settings.database_url)
    if before == after:
        say_out(f"{settings.masked_database_url}: already at {after}")
    else:
        say_out(f"{settings.masked_database_url}: {before or 'empty'} -> {after}")
    return DONE


def current(context: typer.Context, config: ConfigOption = None) -> int:
    """The schema of the database and the one that this release needs; exit code 1 if not equal."""
    from danmpy.db import migrate

    settings = read_settings(context, config)
    found, head = migrate.current(settings.database_url)
    newer = found and found not in migrate.REVISIONS
    way_out = "use the release that made it, or a later one" if newer else "run danmpy db upgrade"
    if found == head:
        say_out(f"{settings.masked_database_url}: {found} (up to date)")
        return DONE
    say_out(
        f"{settings.masked_database_url}: {found or 'empty'}, this release needs {head} ({way_out})"
    )
    return FINDINGS


def roles(config: ConfigOption = None) -> int:
    """SQL that makes the PostgreSQL roles of nodes, controller and readers; for psql, after every
    db upgrade.
    """
    from danmpy.db.roles import roles_sql

    say_out(roles_sql().rstrip())
    return DONE


def install_cni(
    context: typer.Context,
    bin_dir: Annotated[
        Path | None,
        typer.Option("--bin-dir", metavar="D", help="CNI binaries; else cni.bin_dirs."),
    ] = None,
    conf_dir: Annotated[
        Path | None,
        typer.Option("--conf-dir", metavar="D", help="CNI configurations; else cni.conf_dir."),
    ] = None,
    shim: Annotated[
        ShimKind,
        typer.Option("--shim", help="Which of the two shims; auto: native where it runs."),
    ] = ShimKind.AUTO,
    remove: Annotated[bool, typer.Option("--remove", help="Take both away again.")] = False,
    config: ConfigOption = None,
) -> int:
    """Put the CNI shim and its conflist in place, atomically."""
    from danmpy.cni import install

    settings = read_settings(context, config)
    bin_dir = bin_dir or settings.cni.bin_dirs[0]
    conf_dir = conf_dir or settings.cni.conf_dir
    if remove:
        report = install.remove(bin_dir, conf_dir)
        did, before = "removed", "is not there"
    else:
        report = install.install(bin_dir, conf_dir, str(settings.socket), kind=shim)
        did, before = "installed", "is in place already"
    for path in report.changed:
        say_out(f"{did} {path}")
    for path in report.unchanged:
        say_out(f"{path} {before}")
    if report.about:
        say_out(f"{install.PLUGIN_NAME} is the {report.about}")
    return DONE

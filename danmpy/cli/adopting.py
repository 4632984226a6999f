"""``danmpy adopt multus``: pods that Multus attached become danmpy's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from danmpy.cli.args import ConfigOption, OutputOption, read_settings
from danmpy.cli.edge import DONE, FAILED, FINDINGS, say
from danmpy.cli.output import Column, Format, Item, Listing, emit
from danmpy.errors import NotReadyError

if TYPE_CHECKING:
    from danmpy.attach.adopting import Outcome

DEFAULT_CACHE: Final = Path("/var/lib/cni/multus")
"""Multus's own default of ``cniDir``."""

ROW_FIELDS: Final = (
    "verdict",
    "container_id",
    "namespace",
    "pod",
    "pod_uid",
    "interfaces",
    "where",
    "message",
)


def multus(
    context: typer.Context,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            "--cache-dir",
            metavar="D",
            help=f"Multus's cniDir; else cni.multus_cache, else {DEFAULT_CACHE}.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")
    ] = False,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """Adopt the running pods of this node that Multus attached, from its cache.

    The node daemon must not run meanwhile: it does the same at its start, by cni.multus_cache.
    Exit code 1: something in the cache was left, see the messages.
    """
    from danmpy.bootstrap.adopting import open_multus_adopter

    settings = read_settings(context, config)
    folder = cache_dir or settings.cni.multus_cache or DEFAULT_CACHE
    try:
        with open_multus_adopter(settings, folder, dry_run=dry_run) as adopter:
            outcomes = adopter.adopt()
    except NotReadyError as error:
        say(
            f"{error.message} (set cni.multus_cache to {folder} and start that daemon anew, which "
            "adopts them, or stop it first; --dry-run works beside it)"
        )
        return FAILED
    listing = Listing(
        items=[_row(each, dry_run=dry_run) for each in outcomes],
        columns=[
            Column(title="VERDICT", text=lambda item: item["verdict"]),
            Column(title="POD", text=lambda item: f"{item['namespace']}/{item['pod']}".strip("/")),
            Column(title="CONTAINER", text=lambda item: item["container_id"][:12]),
            Column(title="INTERFACES", text=lambda item: ", ".join(item["interfaces"])),
            Column(title="MESSAGE", text=lambda item: item["message"]),
        ],
        fields=ROW_FIELDS,
        database_time=None,
        extra={"dry_run": dry_run, "cache": str(folder)},
        empty=f"no pod is in {folder}",
    )
    emit(listing, output)
    return FINDINGS if any(each.verdict.is_finding for each in outcomes) else DONE


def _row(outcome: Outcome, *, dry_run: bool) -> Item:
    from danmpy.attach.adopting import Verdict

    verdict = str(outcome.verdict)
    if dry_run and outcome.verdict is Verdict.ADOPTED:
        verdict = "would be adopted"
    message = outcome.message
    if not outcome.container_id:
        message = f"{outcome.where}: {message}"
    return {
        "verdict": verdict,
        "container_id": outcome.container_id,
        "namespace": outcome.namespace,
        "pod": outcome.pod,
        "pod_uid": outcome.pod_uid,
        "interfaces": list(outcome.interfaces),
        "where": outcome.where,
        "message": message,
    }

"""``danmpy check|crds``: manifests judged without a cluster, and the kinds themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from danmpy.cli.args import ConfigOption
from danmpy.cli.edge import BAD_REQUEST, DONE
from danmpy.cli.output import Format, dumps, say_out
from danmpy.errors import HostError, IntentError

if TYPE_CHECKING:
    from danmpy.intent.values import Problem


def check(
    files: Annotated[
        list[str],
        typer.Option(
            "--file", "-f", metavar="FILE", help="A file, a folder, or - for standard input."
        ),
    ],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="More of them.")
    ] = None,
    output: Annotated[
        Format,
        typer.Option("--output", "-o", help="How problems are printed.", case_sensitive=False),
    ] = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """Judge manifests by the admission rules, without a cluster: one line a problem.

    Pods are judged by what they ask of the networks in the same files, and TenantNetworks by what
    the TenantConfigs there offer. Exit code 2 when there is
    a problem. No setting matters here, so `--config` is accepted and not read.
    """
    from danmpy.cli.given import check_all, read_all

    if output is Format.CSV:
        raise IntentError("check prints no csv", hint="use table, json or jsonl", subject="-o")
    documents, problems = read_all([*files, *(more or [])])
    problems += check_all(documents)
    _print(problems, output, len(documents))
    return BAD_REQUEST if problems else DONE


def crds(
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Write one file a kind there instead."),
    ] = None,
    config: ConfigOption = None,
) -> int:
    """Print the CRD manifests, for ``kubectl apply -f -``."""
    from danmpy.api.crds import crd_files, crd_stream

    if folder is None:
        say_out(crd_stream().rstrip("\n"))
        return DONE
    for name, content in crd_files().items():
        path = folder / name
        try:
            path.write_text(content, encoding="utf-8")
        except OSError as error:
            raise HostError(
                f"it cannot be written: {error.strerror}",
                hint="name a folder that exists",
                subject=str(path),
            ) from error
        say_out(str(path))
    return DONE


def _print(problems: list[Problem], output: Format, count: int) -> None:
    from dataclasses import asdict

    items = [asdict(problem) for problem in problems]
    if output is Format.JSON:
        say_out(dumps({"items": items, "objects": count}))
    elif output is Format.JSONL:
        for item in items:
            say_out(dumps(item))
    else:
        for problem in problems:
            say_out(" ".join(str(problem).split()))
        if not problems:
            say_out(f"{count} object{'' if count == 1 else 's'}, no problem")

"""``danmpy check|crds``: manifests judged without a cluster, and the kinds themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from danmpy.cli.args import ConfigOption
from danmpy.cli.edge import BAD_REQUEST, DONE
from danmpy.cli.output import Format, dumps, say_out
from danmpy.errors import HostError, IntentError

if TYPE_CHECKING:
    from danmpy.intent.documents import Document
    from danmpy.intent.values import Problem

_STDIN: Final = "-"


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
    config: ConfigOption = None,  # noqa: ARG001 - every command takes it; this one needs no setting
) -> int:
    """Judge manifests by the admission rules, without a cluster: one line a problem.

    Pods are judged by what they ask of the networks in the same files. Exit code 2 when there is
    a problem.
    """
    from danmpy.intent.checking import check_documents

    if output is Format.CSV:
        raise IntentError("check prints no csv", hint="use table, json or jsonl", subject="-o")
    documents, problems = _read_all([*files, *(more or [])])
    problems += check_documents(documents)
    _print(problems, output, len(documents))
    return BAD_REQUEST if problems else DONE


def crds(
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Write one file a kind there instead."),
    ] = None,
    config: ConfigOption = None,  # noqa: ARG001 - as above
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


def _read_all(files: list[str]) -> tuple[list[Document], list[Problem]]:
    import sys

    from danmpy.intent.documents import read_documents
    from danmpy.intent.values import Problem

    documents: list[Document] = []
    problems: list[Problem] = []
    for name in files:
        paths = [] if name == _STDIN else _paths(name, problems)
        contents = [(name, sys.stdin.buffer.read())] if name == _STDIN else _contents(paths)
        for path, data in contents:
            found = read_documents(data, path)
            if isinstance(found, Problem):
                problems.append(found)
            else:
                documents += found
    return documents, problems


def _paths(name: str, problems: list[Problem]) -> list[Path]:
    """The manifests that `name` stands for: itself, or what the folder source would read."""
    from danmpy.intent.listing import list_folder

    path = Path(name)
    if not path.is_dir():
        return [path]
    listing = list_folder(path)
    problems += listing.problems
    return [path / inside for inside in sorted(listing.files, key=lambda file: file.split("/"))]


def _contents(paths: list[Path]) -> list[tuple[str, bytes]]:
    contents = []
    for path in paths:
        try:
            contents.append((str(path), path.read_bytes()))
        except OSError as error:
            raise IntentError(
                f"it cannot be read: {error.strerror}",
                hint="name a file or a folder that can be read",
                subject=str(path),
            ) from error
    return contents


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

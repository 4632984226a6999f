"""Manifests that a person names on the command line: files, folders, ``-`` for standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from danmpy.api.specs import NetworkSpec
from danmpy.errors import IntentError
from danmpy.intent.checking import check_documents
from danmpy.intent.documents import Document, read_documents
from danmpy.intent.listing import list_folder
from danmpy.intent.parse import Judged, judge_document, merge, parse_documents
from danmpy.intent.values import Intent, Problem
from danmpy.ipam.profiles import Stored, Wanted, choose

STDIN: Final = "-"


def read_given(files: Sequence[str]) -> Intent:
    """What the manifests in `files` want, read in that order; broken ones are its problems.

    Raises:
        IntentError: a file is not there or cannot be read.
    """
    documents, problems = read_all(files)
    intent = parse_documents(documents)
    complete = intent.complete and not problems
    return replace(intent, problems=(*problems, *intent.problems), complete=complete)


def read_all(files: Sequence[str]) -> tuple[list[Document], list[Problem]]:
    """The documents of `files`, and what is wrong with those that cannot be understood.

    Raises:
        IntentError: a file is not there or cannot be read.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    for file in files:
        for name, data in _contents(file, problems):
            found = read_documents(data, name)
            if isinstance(found, Problem):
                problems.append(found)
            else:
                documents += found
    return documents, problems


def check_all(documents: Sequence[Document]) -> tuple[Problem, ...]:
    """Every problem of `documents`, in their order, as `check_documents`; and the TenantNetworks
    that the TenantConfigs among them have no place for.

    Each of those is judged as if there was no other network, as admission does: ids that are in use
    are in the database.
    """
    judged = [judge_document(document) for document in documents]
    problems = (*check_documents(documents), *_place_problems(judged))
    places = {document.where: index for index, document in enumerate(documents)}
    return tuple(sorted(problems, key=lambda problem: places.get(problem.where, -1)))


def _place_problems(judged: Sequence[Judged]) -> Iterator[Problem]:
    intent = merge(judged, by_quota=True)
    if not intent.tenant_configs and not intent.refused_configs:
        return  # the TenantConfigs are elsewhere
    for one in judged:
        spec = one.value
        if not isinstance(spec, NetworkSpec) or intent.networks.get(spec.key) is not spec:
            continue
        wanted = Wanted(
            networks={spec.key: spec}, tenant_configs=intent.tenant_configs, complete=False
        )
        for problem in choose(wanted, Stored(holdings={}), 0).assignments.problems.values():
            told = intent.with_refused_config(problem)
            message, _, hint = told.message.removesuffix(")").partition(" (")
            yield Problem(
                where=one.where, subject=one.subject, code=told.reason, message=message, hint=hint
            )


def _contents(file: str, problems: list[Problem]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of what `file` stands for: itself, or what a folder source would read."""
    if file == STDIN:
        yield file, sys.stdin.buffer.read()
        return
    path = Path(file)
    if not path.is_dir():
        yield file, _read(path)
        return
    listing = list_folder(path)
    problems += listing.problems
    for name in sorted(listing.files, key=lambda each: each.split("/")):
        yield str(path / name), _read(path / name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IntentError(
            f"it cannot be read: {error.strerror}",
            hint="name a file or a folder that can be read",
            subject=str(path),
        ) from error

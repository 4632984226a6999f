"""The table of who passes what, for a terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from conformance.checks import TABLE
from conformance.deviations import RELEASE, known
from conformance.verdicts import Outcome, Verdict

Verdicts = Mapping[str, Mapping[str, Verdict]]
"""By plugin, then by name of the check."""

NARROW: Final = {Outcome.PASS: "ok", Outcome.FAIL: "FAIL", Outcome.NOT_APPLICABLE: "n/a"}
MARKS: Final = {Outcome.PASS: "✓", Outcome.FAIL: "✗", Outcome.NOT_APPLICABLE: "n/a"}
WIDTH: Final = 76
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Count:
    """How a plugin did."""

    passed: int
    asked: int

    def __str__(self) -> str:
        return f"{self.passed}/{self.asked}"


def count(verdicts: Mapping[str, Verdict]) -> Count:
    """How many checks were passed, of those that could be asked."""
    outcomes = [verdict.outcome for verdict in verdicts.values()]
    failed = outcomes.count(Outcome.FAIL)
    passed = outcomes.count(Outcome.PASS)
    return Count(passed, passed + failed)


def terminal(verdicts: Verdicts) -> Iterator[str]:
    """Lines of fixed width."""
    columns = {name: max(len(name), 5) for name in verdicts}
    yield " ".join([" " * WIDTH, *(name.rjust(wide) for name, wide in columns.items())])
    for check in TABLE:
        cells = [
            NARROW[mine[check.name].outcome] if check.name in mine else "."
            for mine in verdicts.values()
        ]
        if set(cells) - {"."}:
            row = zip(cells, columns.values(), strict=True)
            title = check.title[:WIDTH].ljust(WIDTH)
            yield " ".join([title, *(cell.rjust(wide) for cell, wide in row)]).rstrip()
    totals = (str(count(mine)).rjust(columns[name]) for name, mine in verdicts.items())
    yield " ".join(["passed of asked".ljust(WIDTH), *totals])


def markdown(verdicts: Verdicts, not_asked: Mapping[str, str] = _NONE) -> Iterator[str]:
    """Lines of a Markdown document; every cross has a note. `not_asked`: plugins, and why."""
    yield "# CNI conformance"
    yield ""
    yield (
        "Made by `pytest tests/conformance --cni-table FILE`. Sections are those of the CNI "
        "specification 1.1.0; *practice* is what libcni and the container runtimes rely on. "
        f"The reference plugins are those of release {RELEASE}."
    )
    yield ""
    yield (
        f"{MARKS[Outcome.PASS]} passes, {MARKS[Outcome.FAIL]} deviates (see the notes), "
        f"{MARKS[Outcome.NOT_APPLICABLE]} cannot be asked (a version that is not claimed, say), "
        "empty: no rule for a plugin of this kind."
    )
    yield ""
    if not_asked:
        named = (f"{name} ({_escaped(not_asked[name])})" for name in sorted(not_asked))
        yield "Not asked, for what the machine of this run lacks: " + ", ".join(named) + "."
        yield ""
    yield "| check | section | " + " | ".join(verdicts) + " |"
    yield "|---|---|" + ":-:|" * len(verdicts)
    notes: dict[str, int] = {}
    for check in TABLE:
        cells = [
            _cell(name, mine.get(check.name), notes, check.name) for name, mine in verdicts.items()
        ]
        if any(cells):
            yield f"| {_escaped(check.title)} | {check.section} | {' | '.join(cells)} |"
    yield "| **passed of asked** | | " + " | ".join(str(count(m)) for m in verdicts.values()) + " |"
    if notes:
        yield ""
        yield "Notes:"
        yield ""
        yield from (f"{number}. {note}" for note, number in notes.items())


def _cell(plugin: str, verdict: Verdict | None, notes: dict[str, int], check: str) -> str:
    if verdict is None:
        return ""
    mark = MARKS[verdict.outcome]
    if verdict.outcome is not Outcome.FAIL:
        return mark
    recorded = known(plugin, check)
    note = recorded.why if recorded else f"{plugin}: {_escaped(verdict.found)}"
    number = notes.setdefault(note, len(notes) + 1)
    return f"{mark} {number}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")

"""The four forms of a list, on a pipe and on a terminal."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from danmpy.cli.output import Column, Format, Listing, emit, print_table, short_number, shown

COLUMNS = [
    Column(title="NAME", text=lambda item: item["name"]),
    Column(title="HELD", text=lambda item: item["v4"]["held"] if item["v4"] else None, right=True),
]
ITEMS: list[dict[str, Any]] = [
    {"name": "blue/internal", "v4": {"held": 7}, "tags": ["a", "b"]},
    {"name": 'red, "quoted"\nline', "v4": None, "tags": []},
]


def listing(items: list[dict[str, Any]] | Iterator[dict[str, Any]] | None = None) -> Listing:
    return Listing(
        items=ITEMS if items is None else items,
        columns=COLUMNS,
        fields=("name", "v4.held", "tags"),
        database_time="2026-05-04T10:15:00.000000Z",
        extra={"holder": None},
        empty="no lease matches",
    )


class Terminal(io.StringIO):
    """A standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_json_is_one_object_with_items_and_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    emit(listing(), Format.JSON)
    assert json.loads(capsys.readouterr().out) == {
        "items": ITEMS,
        "database_time": "2026-05-04T10:15:00.000000Z",
        "holder": None,
    }


def test_json_of_nothing_is_still_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    emit(listing([]), Format.JSON)
    assert json.loads(capsys.readouterr().out)["items"] == []


def test_json_lines_are_one_item_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    emit(listing(), Format.JSONL)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ITEMS


def test_csv_has_a_header_crlf_quotes_and_flat_names(capsys: pytest.CaptureFixture[str]) -> None:
    emit(listing(), Format.CSV)
    text = capsys.readouterr().out
    assert text.startswith("name,v4.held,tags\r\nblue/internal,7,")
    assert text.endswith("\r\n")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[1] == ["blue/internal", "7", '["a", "b"]']
    assert rows[2] == ['red, "quoted"\nline', "", "[]"]


def test_csv_of_nothing_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    emit(listing([]), Format.CSV)
    assert capsys.readouterr().out == "name,v4.held,tags\r\n"


def test_a_piped_table_is_plain_and_never_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 500
    emit(listing([{"name": long, "v4": {"held": 1}}]), Format.TABLE)
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "HELD"]
    assert row.split() == [long, "1"]
    assert "\x1b" not in row


def test_a_table_on_a_terminal_fits_it_and_is_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_table(COLUMNS, [{"name": "x" * 100, "v4": {"held": 1}}])
    assert "\x1b[" in out.getvalue()
    assert out.getvalue().count("x" * 20) >= 3
    monkeypatch.setenv("NO_COLOR", "1")
    out.truncate(0)
    print_table(COLUMNS, [{"name": "a", "v4": None}])
    assert "\x1b[3" not in out.getvalue()


def test_words_of_a_manifest_are_no_markup_and_no_terminal_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    emit(listing([{"name": "[red]a[/red]\x1b[2J", "v4": None}]), Format.TABLE)
    out = capsys.readouterr().out
    assert "[red]a[/red]" in out
    assert "\x1b" not in out


def test_an_empty_table_says_so_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    emit(listing([]), Format.TABLE)
    assert capsys.readouterr().out == "no lease matches\n"


@pytest.mark.parametrize("form", list(Format))
def test_what_fails_before_the_first_item_prints_nothing(
    form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        raise OSError("gone")
        yield {}

    with pytest.raises(OSError, match="gone"):
        emit(listing(failing()), form)
    assert capsys.readouterr().out == ""


def test_a_long_list_streams(capsys: pytest.CaptureFixture[str]) -> None:
    """An item is printed before the one after the next is fetched."""
    seen: list[int] = []

    def numbers() -> Iterator[dict[str, Any]]:
        for number in range(3):
            seen.append(len(capsys.readouterr().out))
            yield {"name": str(number), "v4": None}

    emit(listing(numbers()), Format.JSONL)
    assert seen[2] > 0


def test_numbers_that_nobody_counts_are_short_in_a_table() -> None:
    assert short_number(254) == 254
    assert short_number(2**64 - 2) == "1.8e+19"
    assert short_number("10.0.0.0/8") == "10.0.0.0/8"


def test_what_is_shown_never_steers_a_terminal() -> None:
    assert shown("a\x1b[31mb\r") == "a\N{REPLACEMENT CHARACTER}[31mb\N{REPLACEMENT CHARACTER}"
    assert shown(None) == shown("") == "-"


def test_an_unknown_time_of_the_database_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    emit(
        Listing(items=(), columns=(), fields=(), database_time=None).with_empty("none"), Format.JSON
    )
    assert json.loads(capsys.readouterr().out) == {"items": [], "database_time": None}

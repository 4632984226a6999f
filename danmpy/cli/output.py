"""Lists as tables for people, and as JSON, JSON lines and CSV for scripts.

A table is a view: it shows fewer columns in friendlier words. The other three carry every field
under its own name; CSV (RFC 4180) flattens nested fields with dots (``v4.held``).
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.table import Table

_COUNTABLE: Final = 1_000_000_000

Item = Mapping[str, Any]
"""One entry of a list: plain values that JSON knows."""


class Format(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


class DocumentFormat(StrEnum):
    """How one answer that is no list is printed."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table: its title and how its text is made from an item.

    `style` maps the text to a rich style, for the words that matter (a state, a percentage).
    """

    title: str
    text: Callable[[Item], object]
    right: bool = False
    style: Callable[[str], str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is printed: items, the columns of the table, the fields of the CSV.

    `database_time` is RFC 3339, None when no database could be asked; `extra` is added to the JSON
    object; `empty` is what a person is told instead of a table without rows.
    """

    items: Iterable[Item]
    columns: Sequence[Column]
    fields: Sequence[str]
    database_time: str | None
    extra: Item = field(default_factory=dict)
    empty: str = "nothing found"

    def with_empty(self, words: str) -> Listing:
        """The same listing with other words for having nothing to show."""
        return replace(self, empty=words)


def emit(listing: Listing, form: Format) -> None:
    """Print `listing` on standard output; every form but the table streams."""
    items = _started(listing.items)
    match form:
        case Format.TABLE:
            _emit_table(listing, list(items))
        case Format.JSON:
            _emit_json(listing, items)
        case Format.JSONL:
            for item in items:
                sys.stdout.write(dumps(item) + "\n")
        case Format.CSV:
            writer = csv.writer(sys.stdout, lineterminator="\r\n")
            writer.writerow(listing.fields)
            for item in items:
                writer.writerow([_cell(_dig(item, name)) for name in listing.fields])


def _started(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, the first already fetched: what fails at once prints nothing before."""
    iterator = iter(items)
    first = list(islice(iterator, 1))
    return chain(first, iterator)


def dumps(value: object) -> str:
    """One line of JSON; characters outside ASCII stay readable."""
    return json.dumps(value, ensure_ascii=False)


def say_out(line: str = "") -> None:
    """One line on standard output."""
    sys.stdout.write(line + "\n")


def print_table(columns: Sequence[Column], items: Iterable[Item]) -> None:
    """A table fitted to the terminal; as wide as it wants to be, and plain, when piped."""
    from rich.console import Console

    table = _table(columns, items)
    if sys.stdout.isatty():
        Console(file=sys.stdout, highlight=False).print(table)
        return
    wide = Console(file=sys.stdout, width=10_000, color_system=None, highlight=False)
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        say_out(line.rstrip())


def _emit_json(listing: Listing, items: Iterable[Item]) -> None:
    """One object, written item by item: a long history never stands in memory as a whole."""
    sys.stdout.write('{"items": [')
    separator = "\n"
    for item in items:
        sys.stdout.write(separator + dumps(item))
        separator = ",\n"
    closing = {"database_time": listing.database_time, **listing.extra}
    sys.stdout.write("],\n" + dumps(closing)[1:] + "\n")


def _emit_table(listing: Listing, items: Sequence[Item]) -> None:
    if items:
        print_table(listing.columns, items)
    else:
        say_out(listing.empty)


def _table(columns: Sequence[Column], items: Iterable[Item]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    pretty = sys.stdout.isatty()
    table = Table(
        box=box.SIMPLE_HEAD if pretty else None,
        pad_edge=False,
        header_style="bold",
        show_edge=False,
    )
    for column in columns:
        justify = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for item in items:
        cells = [shown(column.text(item)) for column in columns]
        styles = [
            column.style(cell) if column.style else ""
            for column, cell in zip(columns, cells, strict=True)
        ]
        # Text, not str: a bracket in a name or message is no markup.
        table.add_row(*(Text(cell, style) for cell, style in zip(cells, styles, strict=True)))
    return table


def short_number(value: object) -> object:
    """A number as a table shows it: the addresses of a /64 are not counted by anyone."""
    return f"{value:.1e}" if isinstance(value, int) and value >= _COUNTABLE else value


def shown(value: object) -> str:
    """A text as a terminal may show it: nothing in it moves the cursor or changes colours."""
    text = "-" if value is None or value == "" else str(value)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _dig(item: Item, dotted: str) -> object:
    value: object = item
    for name in dotted.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _cell(value: object) -> object:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return value
        case _:
            return dumps(value)

"""Documents out of the text of a file: YAML or JSON, each with the line that it starts on.

YAML is read as Kubernetes' tools read it: a date is text, and so is a number with colons (an IPv6
address or a MAC must never become an integer). Nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import yaml
from yaml.constructor import SafeConstructor
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.nodes import ScalarNode

from danmpy.api.addresses import TextError
from danmpy.api.jsontext import parse_json
from danmpy.api.words import printable
from danmpy.intent.values import Problem

MAX_BYTES: Final = 16 * 1024 * 1024
"""Larger files are refused unread: they are no manifests, and the daemon's memory is small."""

MAX_VALUES: Final = 1_000_000
"""Values in one file, aliases counted as often as they are used: a few lines of nested aliases
stand for more values than any memory holds."""

MAX_DEPTH: Final = 100

_TAG: Final = "tag:yaml.org,2002:"
_COLLECTION_TAGS: Final = frozenset({None, "!", _TAG + "map", _TAG + "seq"})
_BOOLEANS: Final = SafeConstructor.bool_values
_numbers = SafeConstructor()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One manifest as plain values; `where` is ``file:line`` or an API path."""

    where: str
    body: Any


class _RefusedError(Exception):
    """A document that is YAML, and nothing that a manifest can be."""

    def __init__(self, line: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message
        self.hint = hint


def read_documents(data: bytes, name: str) -> tuple[Document, ...] | Problem:
    """The documents of the file `name` with the content `data`; lists are taken apart.

    A file is read completely or not at all: then the one problem says where and why.
    """
    if len(data) > MAX_BYTES:
        return too_large(name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _problem(name, line, "NotUtf8", "it is no UTF-8 text", "save it as UTF-8")
    if not text.strip():
        # As left by a writer that was stopped, or that has only just begun.
        message = "it is empty, so that what it said is kept"
        return _problem(name, 1, "FileEmpty", message, "delete the file to delete its objects")
    if name.endswith(".json"):
        return _read_json(text, name)
    return _read_yaml(text, name)


def too_large(name: str) -> Problem:
    """The problem of a file that is larger than MAX_BYTES."""
    message = f"it is larger than {MAX_BYTES // 1024 // 1024} MiB"
    return _problem(name, 1, "FileTooLarge", message, "split it, or move it away")


def _read_json(text: str, name: str) -> tuple[Document, ...] | Problem:
    try:
        value = parse_json(text)
    except TextError as error:
        return _problem(name, 1, "JsonInvalid", error.message, error.hint or "correct the file")
    return tuple(_unrolled(Document(where=f"{name}:1", body=value)))


def _read_yaml(text: str, name: str) -> tuple[Document, ...] | Problem:
    try:
        return tuple(_Reader(text).documents(name))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        words = error.problem or error.context or "it cannot be read"
        return _problem(name, line, "YamlInvalid", f"no YAML: {words}", "correct the file")
    except yaml.YAMLError as error:
        words = " ".join(str(getattr(error, "reason", error)).split())
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 1
        return _problem(name, line, "YamlInvalid", f"no YAML: {words}", "correct the file")
    except _RefusedError as error:
        return _problem(name, error.line, "YamlInvalid", error.message, error.hint)


def _problem(name: str, line: int, code: str, message: str, hint: str) -> Problem:
    return Problem(
        where=f"{name}:{line}", subject=name, code=code, message=printable(message), hint=hint
    )


def _unrolled(document: Document) -> Iterator[Document]:
    """The items of a Kubernetes list (``kind: List``, ``kind: TenantNetworkList``), else itself."""
    body = document.body
    if not _is_list(body):
        yield document
        return
    for item in body["items"]:
        yield Document(where=document.where, body=_with_kind(item, body))


def _is_list(body: Any) -> bool:
    if not isinstance(body, dict) or not isinstance(body.get("items"), list):
        return False
    kind = body.get("kind")
    return isinstance(kind, str) and kind.endswith("List")


def _with_kind(item: Any, body: dict[str, Any]) -> Any:
    """The items of a typed list may leave their kind to the list."""
    kind = str(body["kind"]).removesuffix("List")
    if isinstance(item, dict) and kind and "kind" not in item:
        return {"apiVersion": body.get("apiVersion"), "kind": kind, **item}
    return item


class _Reader:
    """Plain values out of the events of the YAML parser, counted.

    The parser's own composer is not used: it recurses in C, and a file of opening brackets ends
    the process with a stack overflow.
    """

    def __init__(self, text: str) -> None:
        self._loader = yaml.CSafeLoader(text)
        self._left = MAX_VALUES
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._item_lines: list[int] = []

    def documents(self, name: str) -> Iterator[Document]:
        """The documents of the text; lists taken apart, each item with the line of its own."""
        try:
            while not isinstance(event := self._next(), StreamEndEvent):
                if isinstance(event, DocumentStartEvent):
                    self._anchors, self._item_lines = {}, []
                    first = self._next()
                    body = self._value(first, 0)
                    yield from self._taken_apart(body, _line(first), name)
        finally:
            self._loader.dispose()

    def _taken_apart(self, body: Any, line: int, name: str) -> Iterator[Document]:
        if body is None:
            return
        items = tuple(_unrolled(Document(where=f"{name}:{line}", body=body)))
        lines = self._item_lines
        if not _is_list(body) or len(lines) != len(items):  # items may come in through a merge key
            lines = [line] * len(items)
        for place, item in zip(lines, items, strict=True):
            yield Document(where=f"{name}:{place}", body=item.body)

    def _next(self) -> Event:
        event = self._loader.get_event()
        # There is one until the stream ends, and after its end nobody asks.
        return cast("Event", event)

    def _value(self, event: Event, depth: int) -> Any:
        if isinstance(event, AliasEvent):
            return self._aliased(event)
        if depth > MAX_DEPTH:
            raise _RefusedError(_line(event), "it is nested too deeply", "write it plainly")
        self._count(1, event)
        before = self._left
        if isinstance(event, ScalarEvent):
            value: Any = self._scalar(event)
        elif getattr(event, "tag", None) not in _COLLECTION_TAGS:
            raise _unknown_tag(event, str(getattr(event, "tag", None)))
        elif isinstance(event, SequenceStartEvent):
            value = self._sequence(depth)
        else:
            value = self._mapping(depth)
        if anchor := getattr(event, "anchor", None):
            self._anchors[anchor] = value, before - self._left + 1
        return value

    def _count(self, values: int, event: Event) -> None:
        self._left -= values
        if self._left < 0:
            raise _RefusedError(
                _line(event), "with its aliases written out it is too large", "write it plainly"
            )

    def _aliased(self, event: AliasEvent) -> Any:
        """What an alias stands for; an anchor is known once its value is complete."""
        if event.anchor not in self._anchors:
            raise _RefusedError(
                _line(event), f"alias *{event.anchor} has no anchor before it", "write the value"
            )
        value, size = self._anchors[event.anchor]
        self._count(size, event)
        return value

    def _sequence(self, depth: int, lines: list[int] | None = None) -> list[Any]:
        values = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            if lines is not None:
                lines.append(_line(event))
            values.append(self._value(event, depth + 1))
        return values

    def _mapping(self, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        while not isinstance(key_event := self._next(), MappingEndEvent):
            if not isinstance(key_event, ScalarEvent):
                raise _RefusedError(_line(key_event), "a key is no text", "write a plain key")
            key, event = key_event.value, self._next()
            if self._tag(key_event) == _TAG + "merge":
                merged = self._merged(event, depth) | merged
            elif key in own:
                line = _line(key_event)
                message = f"key {key!r} stands twice in one object"
                raise _RefusedError(line, message, "keep one of them")
            elif depth == 0 and key == "items" and _is_plain_sequence(event):
                own[key] = self._sequence(depth + 1, self._item_lines)
            else:
                own[key] = self._value(event, depth + 1)
        return merged | own

    def _merged(self, event: Event, depth: int) -> dict[str, Any]:
        """The objects behind ``<<``: one, or a list of which earlier ones win (YAML 1.1)."""
        value = self._value(event, depth + 1)
        merged: dict[str, Any] = {}
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, dict):
                raise _RefusedError(_line(event), "<< merges something else than objects", "no <<")
            merged = part | merged
        return merged

    def _tag(self, event: ScalarEvent) -> str:
        if event.tag is not None and event.tag != "!":
            return str(event.tag)
        if not event.implicit[0]:
            return _TAG + "str"  # quoted
        resolve: Any = self._loader.resolve
        return str(resolve(ScalarNode, event.value, event.implicit))

    def _scalar(self, event: ScalarEvent) -> Any:
        tag, text = self._tag(event), event.value
        kind = tag.removeprefix(_TAG)
        if kind in {"str", "timestamp", "value", "merge"}:
            return text
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if kind not in {"int", "float"}:
            raise _unknown_tag(event, tag)
        if ":" in text:
            return text
        try:
            return getattr(_numbers, f"construct_yaml_{kind}")(ScalarNode(tag, text))
        except (ValueError, IndexError):
            raise _RefusedError(_line(event), "a number cannot be read", "correct it") from None


def _is_plain_sequence(event: Event) -> bool:
    return isinstance(event, SequenceStartEvent) and event.tag is None and event.anchor is None


def _unknown_tag(event: Event, tag: str) -> _RefusedError:
    return _RefusedError(_line(event), f"tag {tag} has no meaning here", "delete the tag")


def _line(event: Event) -> int:
    mark: Any = event.start_mark
    return int(mark.line) + 1

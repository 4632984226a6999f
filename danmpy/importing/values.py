"""The values of this room: what another tool holds, and what was wrong with what it wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from danmpy.api.specs import AddressMode, IPAddress
from danmpy.api.words import printable
from danmpy.intent.values import Problem

WORD_MAX = 256
"""Characters of a name or id that is taken over; what is longer is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One address that another tool counts as in use; texts are empty where it does not say.

    `where` is ``file:line`` or a file; `network` is what the tool calls the network. `since` is in
    microseconds. Without `container_id` nobody is known to have the address.
    """

    source: str
    where: str
    network: str
    address: IPAddress
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    container_id: str = ""
    interface: str = ""
    node: str = ""
    mac: str | None = None
    mode: AddressMode = AddressMode.DYNAMIC
    since: int | None = None

    @property
    def is_owned(self) -> bool:
        """Is it known which container has it?"""
        return self.container_id != ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What was understood, what was not, and what was left out on purpose, in words."""

    holdings: tuple[Holding, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def joined(cls, parts: Iterable[Parsed]) -> Parsed:
        """All of several."""
        each = tuple(parts)
        return cls(
            holdings=tuple(item for part in each for item in part.holdings),
            problems=tuple(item for part in each for item in part.problems),
            notes=tuple(dict.fromkeys(item for part in each for item in part.notes)),
        )


class UnreadableError(ValueError):
    """A part of what a tool wrote cannot be understood."""


def mapping_of(value: object, name: str) -> Mapping[str, Any]:
    """The object `value`; an absent one is empty.

    Raises:
        UnreadableError: it is something else.
    """
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise UnreadableError(f"{name} is no object")


def text_of(values: Mapping[str, Any], name: str) -> str:
    """The text under `name`; empty when it is not there.

    Raises:
        UnreadableError: it is no text, too long, or has characters that no name has.
    """
    value = values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnreadableError(f"{name} is no text")
    if len(value) > WORD_MAX or not value.isprintable():
        raise UnreadableError(f"{name} is no name: {printable(value[:40])!r}")
    return value


def address_of(text: str) -> IPAddress:
    """The address `text`, without the prefix length that may follow it.

    Raises:
        UnreadableError: it is none.
    """
    plain = text.partition("/")[0]
    try:
        return IPv6Address(plain) if ":" in plain and "%" not in plain else IPv4Address(plain)
    except ValueError:
        raise UnreadableError(f"{printable(text[:60])!r} is no address") from None


def problem(where: str, subject: str, words: str) -> Problem:
    """What is wrong at `where`; the rest is read all the same."""
    return Problem(
        where=where,
        subject=printable(subject[:WORD_MAX]),
        code="ImportUnreadable",
        message=printable(words),
        hint="look at it in the tool that wrote it; the rest is read",
    )

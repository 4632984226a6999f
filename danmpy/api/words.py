"""Names that people write: are they legal, and which known one was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from danmpy.api.limits import IFNAME_MAX_BYTES

_SUBDOMAIN: Final = re.compile(
    r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII
)
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)
_LINK_PART: Final = re.compile(r"[!-$&-.0-9;-~]+", re.ASCII)
_NO_LINK: Final = frozenset({".", "..", "all", "default"})
_SUBDOMAIN_MAX: Final = 253
_LABEL_MAX: Final = 63


def is_object_name(text: str) -> bool:
    """Is `text` a legal object name (RFC 1123 subdomain, as Kubernetes demands for our kinds)?"""
    return len(text) <= _SUBDOMAIN_MAX and _SUBDOMAIN.fullmatch(text) is not None


def is_namespace(text: str) -> bool:
    """Is `text` a legal namespace (RFC 1123 label)?"""
    return len(text) <= _LABEL_MAX and _LABEL.fullmatch(text) is not None


def is_link_name(text: str) -> bool:
    """Is `text` a name that a network interface can have?

    net/core/dev.c, dev_valid_name: no "/", ":" or white space, not "." or "..", at most 15 bytes.
    A "%" is a pattern there (dev_alloc_name), and "all" and "default" are the folders of every link
    among the sysctls. Printable ASCII is our own narrowing: other names cannot be typed or logged
    safely.
    """
    return len(text) <= IFNAME_MAX_BYTES and is_link_prefix(text) and text not in _NO_LINK


def is_link_prefix(text: str) -> bool:
    """Can a link name begin with `text`, as far as its characters go?"""
    return _LINK_PART.fullmatch(text) is not None


def is_file_name(text: str) -> bool:
    """Can `text` be one component of a path, and nothing that leads elsewhere?"""
    return text.isprintable() and "/" not in text and text not in {"", ".", ".."}


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint: the known word that was probably meant, else all of them."""
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), by_lower, n=1)
    if close:
        return f"did you mean {by_lower[close[0]]}?"
    return f"known here: {', '.join(sorted(by_lower.values()))}"


def counted(number: int, noun: str) -> str:
    """``1 address``, ``2 addresses``; `noun` is one that takes s, or es after an s."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def printable(text: str) -> str:
    """`text` with control characters and lone surrogates written as escapes.

    What people wrote is quoted in messages; it must not steer a terminal or break an encoder.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)

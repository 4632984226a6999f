"""What people type after a command: shared options, and words parsed to values with a hint."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection, Iterable, MutableMapping
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from danmpy.cli.output import DocumentFormat, Format
from danmpy.clock import from_rfc3339, wall_clock
from danmpy.errors import IntentError

if TYPE_CHECKING:
    from danmpy.api.specs import IPAddress
    from danmpy.ipam.reserving import Cause
    from danmpy.settings import Settings

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Configuration file; else DANMPY_CONFIG, else /etc/danmpy/config.yaml.",
    ),
]
OutputOption = Annotated[
    Format, typer.Option("--output", "-o", help="How the list is printed.", case_sensitive=False)
]
DocumentOption = Annotated[
    DocumentFormat,
    typer.Option("--output", "-o", help="A text for people, or JSON.", case_sensitive=False),
]
NetworkOption = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="NETWORK",
        help="Kind/namespace/name, Kind/name, or a name that only one network has.",
    ),
]
TIME_HELP: Final = "RFC 3339 (without offset: UTC), or now."
AtOption = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help=f"As it was then: {TIME_HELP}")
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help=f"From this time on: {TIME_HELP}")
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help=f"Before this time: {TIME_HELP}")
]

WORDS_MAX: Final = 200
"""Characters of a reason: one line that fits into lists."""

_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
)


def read_settings(context: typer.Context, config: Path | None) -> Settings:
    """The settings for a command; `--config` may stand before or after the command's name.

    Raises:
        IntentError: as `danmpy.settings.load`.
    """
    import os

    from danmpy.settings import load

    _log_to_stderr()
    return load(os.environ, config or context.find_root().params.get("config"))


def _log_to_stderr() -> None:
    """Warnings of the rooms become lines like our own; standard output is for answers only."""
    import structlog

    def line(_logger: object, _method: str, words: MutableMapping[str, Any]) -> str:
        event = words.pop("event", "")
        return f"danmpy: {event} ({', '.join(f'{key} {value}' for key, value in words.items())})"

    structlog.configure(
        processors=[line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def parse_time(text: str | None, option: str) -> int | None:
    """Microseconds of what a person typed for `option`; None stays None.

    Raises:
        IntentError: it is no RFC 3339 time and not ``now``.
    """
    if text is None:
        return None
    if text.lower() == "now":
        return wall_clock()
    try:
        if not _RFC3339.fullmatch(text):
            raise ValueError(text)
        return from_rfc3339(text.upper())
    except ValueError:
        hint = "write it as 2026-05-04T10:15:00Z, 2026-05-04T12:15:00.5+02:00 or now"
        raise IntentError(f"{text!r} is not a time", hint=hint, subject=option) from None


def parse_at(text: str | None) -> int | None:
    """Microseconds of what a person typed for ``--at``; None for now, which the database's own
    clock decides.

    Raises:
        IntentError: as `parse_time`.
    """
    return None if text is None or text.lower() == "now" else parse_time(text, "--at")


def parse_window(since: str | None, until: str | None) -> dict[str, int | None]:
    """``since`` and ``until`` in microseconds, of what was typed for --from and --to.

    Raises:
        IntentError: one is no time, or the window ends before it begins.
    """
    first, last = parse_time(since, "--from"), parse_time(until, "--to")
    if first is not None and last is not None and first > last:
        raise IntentError(
            f"the window ends at {until}, before it begins at {since}",
            hint="swap --from and --to",
            subject="--to",
        )
    return {"since": first, "until": last}


def parse_mac(text: str) -> str:
    """A MAC address in lower case with colons; switches and tools write it in many other ways.

    Raises:
        IntentError: it is none.
    """
    from danmpy.api import addresses

    digits = re.sub(r"[:.-]", "", text)
    pairs = ":".join(digits[place : place + 2] for place in range(0, len(digits), 2))
    try:
        return addresses.parse_mac(pairs if len(digits) == 12 else text)
    except addresses.TextError as error:
        raise IntentError(error.message, hint=error.hint, subject="--mac") from None


def parse_pod_filter(text: str) -> str:
    """A pod's name, or ``namespace/name``.

    Raises:
        IntentError: it is neither.
    """
    if "/" in text:
        return "/".join(parse_pod(text))
    if not text:
        raise IntentError("no name is given", hint="write web-0 or blue/web-0", subject="--pod")
    return text


def parse_address(text: str, option: str) -> IPAddress:
    """One address; a prefix length after it is passed over.

    Raises:
        IntentError: it is no IPv4 or IPv6 address.
    """
    try:
        address = ip_address(text.partition("/")[0])
        if "%" in text:
            raise ValueError(text)
    except ValueError:
        hint = "write one IPv4 or IPv6 address such as 10.20.3.7 or 2001:db8::7"
        raise IntentError(f"{text!r} is not an address", hint=hint, subject=option) from None
    return address


def parse_pod(text: str) -> tuple[str, str]:
    """Namespace and name of ``namespace/name``.

    Raises:
        IntentError: one of the two is missing.
    """
    namespace, slash, name = text.removeprefix("Pod/").partition("/")
    if not namespace or not name or "/" in name:
        hint = f"write namespace/name, such as {'default/' + text if not slash else 'blue/web-0'}"
        raise IntentError(f"{text!r} is not a pod", hint=hint, subject="POD")
    return namespace, name


def read_cause(text: str, option: str) -> Cause:
    """Who types this, and the words that they gave.

    Raises:
        IntentError: no words, or more than fit into one line.
    """
    import os
    import pwd
    import socket

    from danmpy.ipam.reserving import Cause

    words = " ".join(text.split())
    if not words or len(words) > WORDS_MAX or not words.isprintable():
        raise IntentError(
            f"{option} needs a few words: from 1 to {WORDS_MAX} printable characters",
            hint="say what it is for, so that others understand it in a year",
            subject=option,
        )
    user = os.environ.get("SUDO_USER") or os.environ.get("LOGNAME")
    if not user:
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            user = f"uid {os.getuid()}"
    return Cause(actor=f"{user}@{socket.gethostname()}", reason=words)


def choose_network(text: str, known: Collection[str]) -> str:
    """The one of `known` (``Kind/namespace/name`` or ``Kind/name``) that a person means.

    Raises:
        IntentError: none, or more than one has that name; the hint names the nearest.
    """
    names = sorted(set(known))
    if text in names:
        return text
    matches = [name for name in names if name.lower().endswith("/" + text.lower())]
    exact = [name for name in matches if name.endswith("/" + text)]
    found = exact or matches or [name for name in names if name.lower() == text.lower()]
    if len(found) == 1:
        return found[0]
    if found:
        message = f"{len(found)} networks are called {text}"
        raise IntentError(message, hint=f"write one of {', '.join(found)}", subject="--network")
    raise IntentError(
        f"no network is called {text}", hint=nearest(text, names), subject="--network"
    )


def nearest(text: str, names: Collection[str]) -> str:
    """A hint that names the nearest of `names`, by the whole or by the last part."""
    if not names:
        return "no network is known: check intent.path and database_url"
    lowered = text.lower()
    # As much of the end of each name as was typed: blue/internl is nearer to blue than to red.
    for parts, cutoff in ((lowered.count("/") + 1, 0.75), (1, 0.5)):
        endings = {"/".join(name.lower().split("/")[-parts:]): name for name in names}
        typed = "/".join(lowered.split("/")[-parts:])
        close = get_close_matches(typed, endings, n=1, cutoff=cutoff)
        if close:
            return f"did you mean {endings[close[0]]}?"
    return "danmpy networks lists them"


def nearest_pod(text: str, pods: Iterable[tuple[str, str]]) -> str:
    """A hint that names the nearest of `pods` (namespace and name)."""
    names = sorted(f"{namespace}/{name}" for namespace, name in pods)
    close = get_close_matches(text, names, n=1, cutoff=0.7)
    if not close:
        name = text.rpartition("/")[2]
        close = [other for other in names if other.rpartition("/")[2] == name][:1]
    if close:
        return f"did you mean {close[0]}?"
    return "check the name, and intent.path" if names else "the intent names no pod at all"

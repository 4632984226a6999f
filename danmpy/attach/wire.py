"""Framing between the shim and the node daemon: pure, no sockets.

A request is ``DANMPY1\\n`` and three blocks, each a 4-byte big-endian length and that many bytes:
the CNI environment (NUL-separated ``KEY=VALUE``), the shim's stdin, and one that is reserved and
empty. An answer is one byte of exit status and one block of stdout. The shims in `danmpy.cni` write
the same bytes with their own few lines, because they may use nothing of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from danmpy.errors import WireError

MAGIC: Final = b"DANMPY1\n"
BLOCKS: Final = 3
MAX_BLOCK: Final = 16 * 1024 * 1024
"""Bytes. A runtime's config is a few KiB; a GC list of 10,000 attachments is about 1 MiB."""

FORWARDED: Final = ("PATH", "TRACEPARENT", "TRACESTATE", "BAGGAGE")
"""Variables that travel besides all of ``CNI_*`` (the trace context of W3C, sent by libcni)."""

_LENGTH_BYTES: Final = 4
_VERSION_HINT = "are the installed danmpy-cni and the node daemon of the same release?"

Receive = Callable[[int], bytes]
"""Reads up to so many bytes; an empty answer is the end of the stream (``socket.recv``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRequest:
    """What the shim was given: its environment as far as it is forwarded, and its stdin."""

    environ: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    reserved: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireAnswer:
    """What the shim is to do: exit with `status` after printing `stdout`."""

    status: int
    stdout: bytes = b""


def forwarded(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environ` that a request carries."""
    return {k: v for k, v in environ.items() if k.startswith("CNI_") or k in FORWARDED}


def encode_request(request: WireRequest) -> bytes:
    """The bytes of `request`; only forwarded variables are taken."""
    pairs = (f"{key}={value}" for key, value in forwarded(request.environ).items())
    environ = "\0".join(pairs).encode("utf-8", "surrogateescape")
    return MAGIC + b"".join(_block(b) for b in (environ, request.stdin, request.reserved))


def read_request(receive: Receive) -> WireRequest:
    """Read one request, no byte more.

    Raises:
        WireError: code 5, the stream is no request, is cut off, or a block is too big.
    """
    if _exactly(receive, len(MAGIC)) != MAGIC:
        raise _broken("the request does not begin with the danmpy magic")
    environ, stdin, reserved = (_read_block(receive) for _ in range(BLOCKS))
    return WireRequest(environ=_decode_environ(environ), stdin=stdin, reserved=reserved)


def request_size(data: bytes | bytearray) -> int | None:
    """How many bytes the request has that begins with `data`; None while that is not known yet.

    Raises:
        WireError: code 5, as `read_request`.
    """
    if not MAGIC.startswith(data[: len(MAGIC)]):
        raise _broken("the request does not begin with the danmpy magic")
    position = len(MAGIC)
    for _ in range(BLOCKS):
        end = position + _LENGTH_BYTES
        if len(data) < end:
            return None
        position = end + _checked_size(data[position:end])
    return position


def decode_request(data: bytes) -> WireRequest:
    """The request in `data`. Raises WireError as `read_request`, also for bytes left over."""
    reader = _Reader(data)
    request = read_request(reader)
    reader.expect_end()
    return request


def encode_answer(answer: WireAnswer) -> bytes:
    """The bytes of `answer`."""
    return bytes([answer.status & 0xFF]) + _block(answer.stdout)


def read_answer(receive: Receive) -> WireAnswer:
    """Read one answer. Raises WireError (code 5) when the stream is cut off."""
    status = _exactly(receive, 1)[0]
    return WireAnswer(status=status, stdout=_read_block(receive))


class _Reader:
    """Bytes in memory, read like a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def __call__(self, size: int) -> bytes:
        head, self._data = self._data[:size], self._data[size:]
        return bytes(head)

    def expect_end(self) -> None:
        if self._data:
            raise _broken(f"{len(self._data)} bytes follow the last block")


def _block(data: bytes) -> bytes:
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


def _read_block(receive: Receive) -> bytes:
    return _exactly(receive, _checked_size(_exactly(receive, _LENGTH_BYTES)))


def _checked_size(block: bytes | bytearray) -> int:
    size = int.from_bytes(block, "big")
    if size > MAX_BLOCK:
        raise _broken(f"a block of {size} bytes is bigger than the {MAX_BLOCK} allowed")
    return size


def _exactly(receive: Receive, size: int) -> bytes:
    parts: list[bytes] = []
    missing = size
    while missing:
        part = receive(missing)
        if not part:
            raise _broken(f"the stream ended {missing} bytes early")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _decode_environ(block: bytes) -> dict[str, str]:
    text = block.decode("utf-8", "surrogateescape")
    environ: dict[str, str] = {}
    for pair in filter(None, text.split("\0")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise _broken("the environment block has an entry without '='")
        environ[key] = value
    return environ


def _broken(message: str) -> WireError:
    return WireError(message, hint=_VERSION_HINT, subject="CNI socket", code=5)

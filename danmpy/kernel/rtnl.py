"""Routing netlink in batches: many requests in one system call, the kernel's own words on refusal.

pyroute2's message classes write and read the messages; its sockets, which start an event loop for
every single request, are left out. Where a tenth of a millisecond is one of a pod's start, `pack`
and `attributes_of` do without the classes. The rules of the protocol are those of netlink(7) and
rtnetlink(7).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from pyroute2.netlink import nlmsg

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLM_F_EXCL_CREATE: Final = 0x600
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_ACK_TLVS: Final = 0x200
"""linux/netlink.h."""

CREATE: Final = NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL_CREATE
CHANGE: Final = NLM_F_REQUEST | NLM_F_ACK

_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NLMSGERR_ATTR_MSG: Final = 1
_SO_NETNS_COOKIE: Final = 71
"""linux/netlink.h and asm-generic/socket.h."""

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NLA_TYPE_MASK: Final = 0x3FFF
_SEQUENCE_AT: Final = 8
_RECEIVE: Final = 128 * 1024
"""Bytes. A dump comes in pieces of 32 KiB at most (net/netlink/af_netlink.c)."""

BATCH: Final = 64
"""Requests that go in one system call, and the kernel works off before it returns. The replies wait
in the socket's buffer of 208 KiB, and a link's takes some KiB."""

_DUMP_TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the kernel says to one request: an errno (0: done) with its words, or a message."""

    error: int = 0
    words: str = ""
    message: bytes = b""

    @property
    def refusal(self) -> str:
        """Why not, in the kernel's words, which say more than the errno where there are any."""
        reason = os.strerror(self.error)
        return f"{reason}: {self.words}" if self.words else reason


def encode(
    shape: type[nlmsg],
    kind: int,
    flags: int,
    attributes: Sequence[tuple[str, Any]],
    /,
    **fields: int,
) -> bytes:
    """One request of the message class `shape`; `kind` is its RTM_ number."""
    message = shape()
    message.update(fields)
    message["attrs"] = list(attributes)
    message["header"] = {"type": kind, "flags": flags, "sequence_number": 0, "pid": 0, "length": 0}
    message.encode()
    return bytes(message.data)


def decode(shape: type[nlmsg], data: bytes) -> Any:
    """One message of the kernel."""
    message = shape(data)
    message.decode()
    return message


def pack(kind: int, flags: int, body: bytes, *attributes: bytes) -> bytes:
    """The same from its parts, in a tenth of the time: `body` is the fixed part, and it and every
    attribute fill whole words of 4 bytes.
    """
    payload = body + b"".join(attributes)
    return _HEADER.pack(_HEADER.size + len(payload), kind, flags, 0, 0) + payload


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute; nested ones are the value of another."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def attributes_of(data: bytes, offset: int) -> dict[int, bytes]:
    """The attributes that begin at `offset`, by number; the last one of a number counts."""
    found: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        found[kind & _NLA_TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + size]
        offset += (max(size, _ATTRIBUTE.size) + 3) & ~3
    return found


class RtnlSocket:
    """A routing socket in the namespace in which it was opened, wherever its thread goes later.

    For one thread. A failure of the socket itself leaves as OSError.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._sequence = 0
        try:
            self._socket.bind((0, 0))
            for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Give the socket back; a thread that ends gives its own back by itself."""
        self._socket.close()

    def __del__(self) -> None:
        with suppress(AttributeError):  # the kernel gave no socket
            self._socket.close()

    @property
    def cookie(self) -> int:
        """The number of its namespace, given once between two boots; 0 before Linux 5.14."""
        try:
            raw = self._socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            return 0
        return int(struct.unpack("=Q", raw)[0])

    def ask(self, requests: Sequence[bytes]) -> tuple[Reply, ...]:
        """Send `requests` in one go (many: in a few); the replies in the same order.

        The kernel goes on behind a request that it refuses, so the first refusal is not the end.
        """
        replies: list[Reply] = []
        for start in range(0, len(requests), BATCH):
            replies += self._ask(requests[start : start + BATCH])
        return tuple(replies)

    def _ask(self, requests: Sequence[bytes]) -> list[Reply]:
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(_numbered(requests, first))
        replies: dict[int, Reply] = {}
        while len(replies) < len(requests):
            for kind, flags, sequence, data in _messages(self._socket.recv(_RECEIVE)):
                if not first <= sequence <= self._sequence:
                    continue
                if kind == _NLMSG_ERROR:
                    replies[sequence] = _acknowledged(data, flags)
                else:
                    replies[sequence] = Reply(message=data)
        return [replies[number] for number in range(first, self._sequence + 1)]

    def dump(self, shape: type[nlmsg], kind: int, /, **fields: int) -> list[Any]:
        """Everything of one kind; asked again when it changed meanwhile (NLM_F_DUMP_INTR).

        Raises:
            OSError: the kernel refused.
        """
        request = encode(shape, kind, NLM_F_REQUEST | NLM_F_DUMP, (), **fields)
        return [decode(shape, data) for data in self.dump_bytes(request)]

    def dump_bytes(self, request: bytes) -> list[bytes]:
        """The same for a request with NLM_F_DUMP, undecoded: for those who need little of much.

        Raises:
            OSError: the kernel refused.
        """
        found: list[bytes] = []
        for _ in range(_DUMP_TRIES):
            found, whole = self._dump_once(request)
            if whole:
                break
        return found

    def _dump_once(self, request: bytes) -> tuple[list[bytes], bool]:
        self._sequence += 1
        self._socket.send(_numbered([request], self._sequence))
        found: list[bytes] = []
        whole = True
        while True:
            for kind, flags, sequence, data in _messages(self._socket.recv(_RECEIVE)):
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & NLM_F_DUMP_INTR
                if kind == _NLMSG_DONE:
                    return found, whole
                if kind == _NLMSG_ERROR:
                    reply = _acknowledged(data, flags)
                    raise OSError(reply.error, reply.refusal)
                found.append(data)


def _numbered(requests: Sequence[bytes], first: int) -> bytes:
    batch = bytearray()
    for number, request in enumerate(requests, first):
        start = len(batch)
        batch += request
        struct.pack_into("=I", batch, start + _SEQUENCE_AT, number)
        batch += bytes(-len(request) % 4)
    return bytes(batch)


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, sequence number and whole bytes of each message in one datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset : offset + length]
        offset += (max(length, _HEADER.size) + 3) & ~3


def _acknowledged(data: bytes, flags: int) -> Reply:
    """struct nlmsgerr: the errno, the header of the request, then the kernel's words as TLVs."""
    error = -struct.unpack_from("=i", data, _HEADER.size)[0]
    extra = attributes_of(data, _HEADER.size + 4 + _HEADER.size) if flags & NLM_F_ACK_TLVS else {}
    words = extra.get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode("utf-8", "replace")
    return Reply(error=error, words=words)

#!/usr/bin/python3 -IS
"""danmpy-cni: hands one CNI call to the node daemon and prints the answer.

This file is copied alone into the CNI binary directory and its start is part of every pod's start:
standard library only, Python 3.6 syntax, and a call that succeeds imports nothing that the
interpreter has not loaded already, but for ``_socket``. The wire format is described in
`danmpy.attach.wire`. It is an adapter of the process edge: no time, no logs, no state.

``native/danmpy-cni.c`` is the same program for hosts without Python, and faster: whatever either
is given, both print the same bytes. This one is the reference.
"""

import _socket
import posix
import sys

SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
DEFAULT_SOCKET = b"/run/danmpy/cni.sock"
TIMEOUT_MS = 60000
MAX_BLOCK = 16 * 1024 * 1024
ABOUT = (
    "danmpy-cni: CNI entrypoint of danmpy, a tenant network manager\n"
    "It is started by a container runtime. CNI protocol versions supported: "
)
MAGIC = b"DANMPY1\n"
FORWARDED = (b"PATH", b"TRACEPARENT", b"TRACESTATE", b"BAGGAGE")
CODE_IO, CODE_DECODE, CODE_CONFIG, CODE_TRY_LATER, CODE_UNAVAILABLE = 5, 6, 7, 11, 50
BLANK = b" \t\n\r"


class CallError(Exception):
    """The call did not reach the daemon or had no answer: CNI error code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def main(environ: "dict[bytes, bytes]", stdin: int) -> "tuple[int, bytes, bytes]":
    """Serve one call; gives exit status, stdout, stderr. `stdin` is a file descriptor."""
    command = environ.get(b"CNI_COMMAND")
    if not command:
        return 0, b"", (ABOUT + ", ".join(SUPPORTED) + "\n").encode()
    data = b""
    try:
        data = read_all(stdin)
    except CallError as failure:
        if command != b"VERSION":
            return fail(data, failure)
    if command == b"VERSION":
        versions = '","'.join(SUPPORTED)
        version = requested_version(data)
        answer = f'{{"cniVersion":"{version}","supportedVersions":["{versions}"]}}\n'
        return 0, answer.encode(), b""
    try:
        status, stdout = call(socket_path(environ, data), environ, data)
    except CallError as failure:
        if command == b"STATUS" and failure.code == CODE_TRY_LATER:
            failure.code = CODE_UNAVAILABLE
        return fail(data, failure)
    return status, stdout, b""


def read_all(descriptor: int) -> bytes:
    """Everything until the end of the file."""
    parts = []  # type: list[bytes]
    size = 0
    while True:
        try:
            part = posix.read(descriptor, 65536)
        except OSError as error:
            raise CallError(CODE_IO, f"stdin cannot be read: {error}") from error
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > MAX_BLOCK:
            raise CallError(CODE_DECODE, f"stdin has more than the {MAX_BLOCK} bytes allowed")


def socket_path(environ: "dict[bytes, bytes]", data: bytes) -> bytes:
    """The config's ``socket``, else DANMPY_SOCKET, else the default."""
    configured = top_level(data, b"socket")
    if configured is None:
        return environ.get(b"DANMPY_SOCKET") or DEFAULT_SOCKET
    if not configured or b"\0" in configured:
        raise CallError(CODE_CONFIG, "'socket' of the config is no path")
    return configured


def call(path: bytes, environ: "dict[bytes, bytes]", data: bytes) -> "tuple[int, bytes]":
    """Ask the daemon behind the unix socket `path`."""
    pairs = [k + b"=" + v for k, v in environ.items() if k[:4] == b"CNI_" or k in FORWARDED]
    variables = b"\0".join(pairs)
    request = b"".join((MAGIC, size_of(variables), variables, size_of(data), data, size_of(b"")))
    shown = path.decode("utf-8", "surrogateescape")
    try:
        connection = connect(path)
    except OSError as error:
        if not (data.lstrip(BLANK).startswith(b"{") and data.rstrip(BLANK).endswith(b"}")):
            raise CallError(
                CODE_DECODE, "stdin is no JSON object: the runtime must send its config"
            ) from error
        raise CallError(
            CODE_TRY_LATER,
            f"nobody listens on {shown}: {reason(error)} (is the danmpy node daemon running on "
            "this node, and is its socket there?)",
        ) from error
    try:
        connection.sendall(request)
        answer = connection.recv(65536)
        while answer and (len(answer) < 5 or len(answer) < 5 + announced(answer) <= 5 + MAX_BLOCK):
            part = connection.recv(65536)
            if not part:
                break
            answer += part
    except OSError as error:
        raise CallError(
            CODE_TRY_LATER,
            f"the danmpy node daemon behind {shown} did not answer: {reason(error)} (see its log; "
            "the call may be repeated)",
        ) from error
    finally:
        connection.close()  # it may have the number of a closed stdout
    if len(answer) < 5 or len(answer) != 5 + announced(answer):
        raise CallError(
            CODE_TRY_LATER,
            f"the danmpy node daemon behind {shown} broke off its answer (was it restarted? the "
            "call may be repeated)",
        )
    return answer[0], answer[5:]


def connect(path: bytes) -> "_socket.socket":
    """A connection whose every step fails after TIMEOUT_MS.

    The kernel keeps the time (socket(7), SO_SNDTIMEO): a socket that Python makes non-blocking, as
    it does for `settimeout`, is refused by a daemon whose backlog is full instead of waiting.
    """
    limit = (TIMEOUT_MS // 1000).to_bytes(8, sys.byteorder)
    limit += (TIMEOUT_MS % 1000 * 1000).to_bytes(8, sys.byteorder)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, limit)
        connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, limit)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def reason(error: OSError) -> str:
    """The kernel's words; it says EAGAIN when the time is over."""
    return "timed out" if isinstance(error, BlockingIOError) else str(error)


def size_of(block: bytes) -> bytes:
    """The length of `block` as four bytes, big endian."""
    return len(block).to_bytes(4, "big")


def announced(answer: bytes) -> int:
    """How many bytes the block of `answer` has, by what it says."""
    return int.from_bytes(answer[1:5], "big")


def requested_version(data: bytes) -> str:
    """The cniVersion to answer in: the config's when it looks like one, else the newest."""
    version = top_level(data, b"cniVersion") or b""
    plain = bool(version) and not version.strip(b".0123456789")
    return version.decode() if plain else SUPPORTED[-1]


def top_level(data: bytes, key: bytes) -> "bytes | None":
    """The text under `key` of the JSON object `data`: None when there is no such key, empty when
    no text is under it. Of a key that is there twice the last one counts, as JSON parsers have it.

    Every second piece between quotes is a string, so that the braces in the others give the
    depth, and no JSON parser (10 ms) is needed. What is no JSON the daemon will complain about.
    """
    if b'"' + key + b'"' not in data and b"\\u" not in data:
        return None
    pieces = quoted(data)
    depth = 0
    found = None
    for index in range(0, len(pieces) - 2, 2):
        depth += pieces[index].count(b"{") + pieces[index].count(b"[")
        depth -= pieces[index].count(b"}") + pieces[index].count(b"]")
        between = pieces[index + 2].strip(BLANK)
        if depth == 1 and between[:1] == b":" and unescaped(pieces[index + 1]) == key:
            text = between == b":" and index + 3 < len(pieces)
            found = unescaped(pieces[index + 3]) if text else b""
    return found


def quoted(data: bytes) -> "list[bytes]":
    """`data` cut at the quotes that begin and end a string: outside, string, outside and so on. A
    string without end is left out."""
    pieces = data.split(b'"')
    if b"\\" in data:
        split, pieces, parts = pieces, [], []
        for part in split:
            parts.append(part)
            outside = len(pieces) % 2 == 0
            if outside or (len(part) - len(part.rstrip(b"\\"))) % 2 == 0:
                pieces.append(b'"'.join(parts))
                parts = []
    return pieces if len(pieces) % 2 else pieces[:-1]


def unescaped(string: bytes) -> bytes:
    """What `string`, which stood between quotes, means; empty when an escape in it is none."""
    if b"\\" not in string:
        return string
    import json

    text = '"' + string.decode("utf-8", "surrogateescape") + '"'
    try:
        value = json.loads(text, strict=False)  # type: str
        return value.encode("utf-8", "surrogateescape")
    except ValueError:  # half of a surrogate pair too
        return b""


def fail(data: bytes, failure: CallError) -> "tuple[int, bytes, bytes]":
    """The error object of the CNI specification, on stdout, where runtimes read it."""
    import json

    document = {
        "cniVersion": requested_version(data),
        "code": failure.code,
        "msg": "danmpy-cni: " + failure.message,
    }
    return 1, (json.dumps(document) + "\n").encode(), b""


def write_all(descriptor: int, data: bytes) -> None:
    """All of `data`, however little the pipe takes at once."""
    while data:
        data = data[posix.write(descriptor, data) :]


def run() -> None:
    """The process: never a traceback, and no interpreter shutdown, which would cost more time
    than the call."""
    try:
        status, stdout, stderr = main(posix.environ, 0)
    except BaseException as error:  # noqa: BLE001 - the last edge: the runtime needs an object
        status, stdout, stderr = fail(b"", CallError(999, f"internal error: {error!r}"))
    try:
        write_all(2, stderr)
        write_all(1, stdout)
    except OSError:
        status = status or 1
    posix._exit(status)  # noqa: SLF001 - the name that os._exit has in posix


if __name__ == "__main__":
    run()

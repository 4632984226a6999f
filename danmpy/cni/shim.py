#!/usr/bin/python3 -IS
"""danmpy-cni: hands one CNI call to the node daemon and prints the answer.

This file is copied alone into the CNI binary directory and its start is part of every pod's start:
standard library only, Python 3.6 syntax, and a call that succeeds imports nothing that the
interpreter has not loaded already, but for ``_socket``. The wire format is described in
`danmpy.attach.wire`. It is an adapter of the process edge: no time, no logs, no state.
"""

import _socket
import posix

SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
DEFAULT_SOCKET = "/run/danmpy/cni.sock"
TIMEOUT_S = 60.0
ABOUT = (
    "danmpy-cni: CNI entrypoint of danmpy, a tenant network manager\n"
    "It is started by a container runtime. CNI protocol versions supported: "
)
MAGIC = b"DANMPY1\n"
FORWARDED = (b"PATH", b"TRACEPARENT", b"TRACESTATE", b"BAGGAGE")
CODE_IO, CODE_DECODE, CODE_CONFIG, CODE_TRY_LATER, CODE_UNAVAILABLE = 5, 6, 7, 11, 50


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
    except OSError as error:
        if command != b"VERSION":
            return fail(data, CallError(CODE_IO, f"stdin cannot be read: {error}"))
    if command == b"VERSION":
        versions = '","'.join(SUPPORTED)
        version = requested_version(data)
        answer = f'{{"cniVersion":"{version}","supportedVersions":["{versions}"]}}\n'
        return 0, answer.encode(), b""
    try:
        status, stdout = call(socket_path(environ, data), environ, data)
    except CallError as failure:
        if command == b"STATUS":
            failure.code = CODE_UNAVAILABLE
        return fail(data, what_is_wrong(data) or failure)
    return status, stdout, b""


def what_is_wrong(data: bytes) -> "CallError | None":
    """Why no socket could be found in `data`; only then is the JSON parser worth its 5 ms."""
    import json

    try:
        socket = json.loads(data.decode("utf-8", "replace")).get("socket", "-")
    except (ValueError, AttributeError, RecursionError):
        return CallError(CODE_DECODE, "stdin is no JSON object: the runtime must send its config")
    if isinstance(socket, str) and socket:
        return None
    return CallError(CODE_CONFIG, f"'socket' of the config is {socket!r}, and no path")


def call(path: str, environ: "dict[bytes, bytes]", data: bytes) -> "tuple[int, bytes]":
    """Ask the daemon behind the unix socket `path`."""
    pairs = [k + b"=" + v for k, v in environ.items() if k[:4] == b"CNI_" or k in FORWARDED]
    variables = b"\0".join(pairs)
    request = b"".join((MAGIC, size_of(variables), variables, size_of(data), data, b"\0\0\0\0"))
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT_S)
    try:
        connection.connect(path)
    except (OSError, ValueError) as error:
        raise CallError(
            CODE_TRY_LATER,
            f"nobody listens on {path}: {error} (is the danmpy node daemon running on this node, "
            "and is its socket there?)",
        ) from error
    try:
        connection.sendall(request)
        answer = connection.recv(65536)
        while answer and (len(answer) < 5 or len(answer) < 5 + number(answer[1:5])):
            part = connection.recv(65536)
            if not part:
                break
            answer += part
    except OSError as error:
        raise CallError(
            CODE_TRY_LATER,
            f"the danmpy node daemon behind {path} did not answer: {error} (see its log; the call "
            "may be repeated)",
        ) from error
    if len(answer) < 5 or len(answer) != 5 + number(answer[1:5]):
        raise CallError(
            CODE_TRY_LATER,
            f"the danmpy node daemon behind {path} broke off its answer (was it restarted? the "
            "call may be repeated)",
        )
    return answer[0], answer[5:]


def size_of(block: bytes) -> bytes:
    """The length of `block` as four bytes, big endian."""
    return len(block).to_bytes(4, "big")


def number(block: bytes) -> int:
    """The big-endian number in `block`."""
    return int.from_bytes(block, "big")


def read_all(descriptor: int) -> bytes:
    """Everything until the end of the file."""
    parts = []  # type: list[bytes]
    while True:
        part = posix.read(descriptor, 65536)
        if not part:
            return b"".join(parts)
        parts.append(part)


def socket_path(environ: "dict[bytes, bytes]", data: bytes) -> str:
    """The config's ``socket``, else DANMPY_SOCKET, else the default."""
    configured = top_level(data, "socket")
    if configured:
        return configured
    given = environ.get(b"DANMPY_SOCKET", b"")
    return given.decode("utf-8", "surrogateescape") or DEFAULT_SOCKET


def requested_version(data: bytes) -> str:
    """The cniVersion to answer in: the config's when it looks like one, else the newest."""
    version = top_level(data, "cniVersion")
    plain = bool(version) and all(char in ".0123456789" for char in version)
    return version if plain else SUPPORTED[-1]


def top_level(data: bytes, key: str) -> str:
    """The text under `key` of the JSON object `data`, or an empty string.

    Without a backslash every second piece between quotes is a string, so that the braces in the
    others give the depth, and no JSON parser (5 ms) is needed; with one, it is.
    """
    name = key.encode()
    if b'"' + name + b'"' not in data and b"\\u" not in data:
        return ""
    if b"\\" in data:
        return parsed_top_level(data, key)
    pieces = data.split(b'"')
    depth = 0
    found = b""
    for index in range(0, len(pieces) - 3, 2):
        depth += pieces[index].count(b"{") + pieces[index].count(b"[")
        depth -= pieces[index].count(b"}") + pieces[index].count(b"]")
        if depth == 1 and pieces[index + 1] == name and pieces[index + 2].strip() == b":":
            found = pieces[index + 3]
    return found.decode("utf-8", "surrogateescape")


def parsed_top_level(data: bytes, key: str) -> str:
    """As `top_level`, by the JSON parser; what is no JSON the daemon will complain about."""
    import json

    try:
        value = json.loads(data.decode("utf-8", "replace"))[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return value if isinstance(value, str) else ""


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

"""The CNI entrypoint as a runtime starts it: a process, its environment, its two pipes.

One suite for both shims. That they print the same bytes is in test_native.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.cni import SUPPORTED_VERSIONS
from danmpy.attach import wire
from danmpy.attach.server import CniServer
from danmpy.attach.wire import WireAnswer, WireRequest, encode_answer, read_request
from danmpy.cni import shim
from danmpy.cni.install import find_interpreter
from support.shims import ALL, make_shim

CONF = {"cniVersion": "1.1.0", "name": "danmpy", "type": "danmpy-cni"}
ENVIRON = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/x",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web-0",
    "CNI_PATH": "/opt/cni/bin",
}


@dataclass
class Ended:
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Shim:
    """The installed file, and the socket that its configuration names."""

    kind: str
    plugin: Path
    socket: Path

    def conf(self, **more: Any) -> bytes:
        return json.dumps({**CONF, "socket": str(self.socket), **more}).encode()

    def run(self, verb: str = "ADD", stdin: bytes | None = None, **environ: str) -> Ended:
        values = {**ENVIRON, "CNI_COMMAND": verb, **environ}
        data = self.conf() if stdin is None else stdin
        done = subprocess.run(
            [self.plugin], input=data, capture_output=True, env=values, timeout=30
        )
        return Ended(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture(params=ALL)
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Shim:
    kind = request.param
    return Shim(kind=kind, plugin=make_shim(kind, tmp_path), socket=tmp_path / "cni.sock")


@contextmanager
def daemon(path: Path, answer: Callable[[WireRequest], WireAnswer]) -> Iterator[None]:
    server = CniServer(path, answer)
    server.start()
    try:
        yield
    finally:
        server.close()


@contextmanager
def raw_daemon(path: Path, serve: Callable[[socket.socket], object]) -> Iterator[None]:
    """Something that listens and does with its one caller what a healthy daemon would not."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield
        thread.join(10)


def test_the_daemon_hears_environment_and_stdin_and_its_answer_comes_out_unchanged(
    installed: Shim,
) -> None:
    heard: list[WireRequest] = []

    def answer(request: WireRequest) -> WireAnswer:
        heard.append(request)
        return WireAnswer(status=0, stdout=b'{"cniVersion":"1.1.0"}\n')

    with daemon(installed.socket, answer):
        done = installed.run(TRACEPARENT="00-x", PATH="/bin", SECRET="s")
    assert (done.status, done.stdout, done.stderr) == (0, b'{"cniVersion":"1.1.0"}\n', b"")
    assert heard == [
        WireRequest(
            environ={**ENVIRON, "TRACEPARENT": "00-x", "PATH": "/bin"}, stdin=installed.conf()
        )
    ]


def test_an_error_of_the_daemon_is_printed_on_stdout_with_status_1(installed: Shim) -> None:
    with daemon(installed.socket, lambda _: WireAnswer(status=1, stdout=b'{"code":7}')):
        done = installed.run()
    assert (done.status, done.stdout, done.stderr) == (1, b'{"code":7}', b"")


def test_megabytes_pass_in_both_directions(installed: Shim) -> None:
    stdin = installed.conf(padding="x" * 3_000_000)

    def answer(request: WireRequest) -> WireAnswer:
        return WireAnswer(status=0, stdout=request.stdin[::-1])

    with daemon(installed.socket, answer):
        done = installed.run(stdin=stdin)
    assert (done.status, done.stdout) == (0, stdin[::-1])


def test_bytes_that_are_no_utf_8_pass_through_the_environment(installed: Shim) -> None:
    heard: list[str] = []

    def answer(request: WireRequest) -> WireAnswer:
        heard.append(request.environ["CNI_ARGS"])
        return WireAnswer(status=0)

    with daemon(installed.socket, answer):
        assert installed.run(CNI_ARGS=os.fsdecode(b"X=\xff\xfe")).status == 0
    assert os.fsencode(heard[0]) == b"X=\xff\xfe"


@pytest.mark.parametrize(("verb", "code"), [("ADD", 11), ("DEL", 11), ("GC", 11), ("STATUS", 50)])
def test_without_a_daemon_the_error_names_the_socket_and_the_way_out(
    installed: Shim, verb: str, code: int
) -> None:
    done = installed.run(verb)
    assert done.status == 1
    assert done.document["code"] == code
    assert done.document["cniVersion"] == "1.1.0"
    assert str(installed.socket) in done.document["msg"]
    assert "is the danmpy node daemon running" in done.document["msg"]
    assert done.stderr == b""


def test_a_socket_that_a_killed_daemon_left_behind_is_try_again(installed: Shim) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(installed.socket))
    assert installed.run().document["code"] == 11


@pytest.mark.parametrize(
    "said",
    [b"", b"\0", b"\0\0\0\0\x09{}", b"\0" + (2**31).to_bytes(4, "big") + b"{", b"\0\0\0\0\1ab"],
    ids=["nothing", "status only", "half an answer", "a length beyond it", "more than it said"],
)
def test_a_daemon_that_dies_while_it_answers_is_try_again_and_prints_nothing_else(
    installed: Shim, said: bytes
) -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection.recv)
        connection.sendall(said)

    with raw_daemon(installed.socket, serve):
        done = installed.run()
    assert done.status == 1
    assert done.document["code"] == 11
    assert "broke off" in done.document["msg"]


def test_a_daemon_that_announces_more_than_may_be_is_not_waited_for(installed: Shim) -> None:
    waiting = threading.Event()

    def serve(connection: socket.socket) -> None:
        read_request(connection.recv)
        connection.sendall(b"\0" + (wire.MAX_BLOCK + 1).to_bytes(4, "big") + b"{")
        assert waiting.wait(20)

    with raw_daemon(installed.socket, serve):
        done = installed.run()
        waiting.set()
    assert "broke off" in done.document["msg"]


def test_an_error_for_a_stdout_that_is_closed_does_not_go_to_the_daemon(installed: Shim) -> None:
    """The socket gets the number of the closed stdout."""
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        read_request(connection.recv)
        connection.sendall(b"\0")
        connection.shutdown(socket.SHUT_WR)
        heard.append(connection.recv(65536))

    with raw_daemon(installed.socket, serve):
        done = subprocess.run(
            ["/bin/sh", "-c", 'exec "$0" >&-', installed.plugin],
            input=installed.conf(),
            env=ENVIRON,
        )
    assert (done.returncode, heard) == (1, [b""])


def test_a_daemon_that_resets_the_connection_is_try_again(installed: Shim) -> None:
    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with raw_daemon(installed.socket, serve):
        done = installed.run(stdin=installed.conf(padding="x" * 3_000_000))
    assert (done.status, done.document["code"]) == (1, 11)


def test_a_daemon_that_never_answers_is_given_up(installed: Shim) -> None:
    make_shim(installed.kind, installed.plugin.parent, timeout_ms=200)
    waiting = threading.Event()
    with raw_daemon(installed.socket, lambda _: waiting.wait(5)):
        done = installed.run("STATUS")
        waiting.set()
    assert done.document["code"] == 50
    assert "timed out" in done.document["msg"]


def test_a_daemon_that_takes_no_more_callers_is_waited_for_and_then_given_up(
    installed: Shim,
) -> None:
    """Its backlog is full when a node boots and starts all its pods at once."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(installed.socket))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(installed.socket))
            caller = subprocess.Popen(
                [installed.plugin], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRON
            )
            assert caller.stdin is not None
            caller.stdin.write(installed.conf())
            caller.stdin.close()
            with pytest.raises(subprocess.TimeoutExpired):
                caller.wait(0.3)
            make_shim(installed.kind, installed.plugin.parent / "impatient", timeout_ms=200)
            impatient = Shim(
                kind=installed.kind,
                plugin=installed.plugin.parent / "impatient" / "danmpy-cni",
                socket=installed.socket,
            )
            assert "timed out" in impatient.run().document["msg"]
            listener.accept()[0].close()
            connection, _ = listener.accept()
            with connection:
                read_request(connection.recv)
                connection.sendall(encode_answer(WireAnswer(status=0, stdout=b"at last")))
    with caller:
        assert caller.stdout is not None
        assert caller.stdout.read() == b"at last"
    assert caller.returncode == 0


def test_more_than_the_daemon_takes_is_not_read_to_its_end(installed: Shim) -> None:
    stdin = installed.conf(padding="x" * wire.MAX_BLOCK)
    done = installed.run(stdin=stdin)
    assert (done.status, done.document["code"]) == (1, 6)
    assert str(wire.MAX_BLOCK) in done.document["msg"]
    just = stdin.replace(b"x" * (len(stdin) - wire.MAX_BLOCK), b"", 1)
    with daemon(installed.socket, lambda _: WireAnswer(status=0, stdout=b"taken")):
        assert installed.run(stdin=just).stdout == b"taken"


@pytest.mark.parametrize("socket_value", [5, None, "", "a\0b", ["/x"], {}, True])
def test_a_socket_that_is_no_path_is_told_before_anybody_is_called(
    installed: Shim, socket_value: object
) -> None:
    done = installed.run(stdin=installed.conf(socket=socket_value))
    assert (done.status, done.document["code"]) == (1, 7)
    assert "'socket'" in done.document["msg"]


@pytest.mark.parametrize("stdin", [b"", b"[]", b'"x"', b"{", b"null", b"}{"])
def test_what_is_no_object_is_told_where_no_daemon_can_tell(installed: Shim, stdin: bytes) -> None:
    done = installed.run(stdin=stdin, DANMPY_SOCKET=str(installed.socket))
    assert (done.status, done.document["code"]) == (1, 6)


def test_strings_nested_without_end_are_no_danger(installed: Shim) -> None:
    depth = 500_000
    inner = '{"socket":"/nowhere","a":' * depth + "1" + "}" * depth
    stdin = f'{{"a":{inner},"socket":{json.dumps(str(installed.socket))}}}'.encode()
    with daemon(installed.socket, lambda _: WireAnswer(status=0, stdout=b"here")):
        assert installed.run(stdin=stdin).stdout == b"here"


@pytest.mark.parametrize("stdin", [b"", b"{", CONF, {"cniVersion": "0.4.0"}])
def test_version_needs_no_daemon_and_no_config(
    installed: Shim, stdin: bytes | Mapping[str, str]
) -> None:
    data = stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode()
    done = installed.run("VERSION", data)
    asked = "1.1.0" if isinstance(stdin, bytes) else stdin["cniVersion"]
    assert done.status == 0
    assert done.document == {"cniVersion": asked, "supportedVersions": list(SUPPORTED_VERSIONS)}


def test_a_closed_stdin_is_an_io_failure_except_for_version(installed: Shim) -> None:
    def run(verb: str) -> Ended:
        done = subprocess.run(
            ["/bin/sh", "-c", 'exec "$0" <&-', installed.plugin],
            capture_output=True,
            env={**ENVIRON, "CNI_COMMAND": verb},
        )
        return Ended(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    assert run("VERSION").document["supportedVersions"]
    done = run("ADD")
    assert (done.status, done.document["code"]) == (1, 5)


@pytest.mark.parametrize("verb", ["VERSION", "ADD"])
@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">/dev/full"])
def test_an_answer_that_nobody_takes_ends_quietly(
    installed: Shim, redirection: str, verb: str
) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" {redirection}', installed.plugin],
        input=installed.conf(),
        capture_output=True,
        env={**ENVIRON, "CNI_COMMAND": verb},
    )
    assert done.returncode == (0 if (redirection, verb) == ("2>&-", "VERSION") else 1)
    assert b"Traceback" not in done.stderr


def test_a_runtime_that_stopped_reading_does_not_make_a_traceback(installed: Shim) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [installed.plugin],
        input=b"",
        stdout=write_end,
        stderr=subprocess.PIPE,
        env={**ENVIRON, "CNI_COMMAND": "VERSION"},
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")


def test_started_by_hand_it_says_what_it_is_on_stderr(installed: Shim) -> None:
    done = subprocess.run([installed.plugin], capture_output=True, env={}, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"CNI entrypoint of danmpy" in done.stderr


def test_the_socket_comes_from_the_config_then_from_the_environment(installed: Shim) -> None:
    without = json.dumps(CONF).encode()
    with daemon(installed.socket, lambda _: WireAnswer(status=0, stdout=b"here")):
        assert installed.run(stdin=without, DANMPY_SOCKET=str(installed.socket)).stdout == b"here"
        assert installed.run(DANMPY_SOCKET="/nowhere").stdout == b"here"
    assert shim.socket_path({}, without) == shim.DEFAULT_SOCKET


@pytest.mark.parametrize("installed", ["python"], indirect=True)
def test_a_call_that_succeeds_loads_no_module_but_the_socket_s(installed: Shim) -> None:
    """Each one more is paid by every pod: `json` alone takes as long as the whole call."""

    def loaded(*program: str | Path) -> set[str]:
        done = subprocess.run(
            [find_interpreter(), "-I", "-S", "-X", "importtime", *program],
            input=installed.conf(),
            capture_output=True,
            env=ENVIRON,
        )
        assert done.returncode == 0
        rows = [line for line in done.stderr.decode().splitlines() if "|" in line]
        return {row.rpartition("|")[2].strip() for row in rows}

    with daemon(installed.socket, lambda _: WireAnswer(status=0)):
        extra = loaded(installed.plugin) - loaded("-c", "")
    assert extra <= {"_socket", "posix"}


# The few lines that repeat what other modules know


def test_the_shim_speaks_the_daemon_s_framing() -> None:
    assert shim.MAGIC == wire.MAGIC
    assert shim.MAX_BLOCK == wire.MAX_BLOCK
    assert {word.decode() for word in shim.FORWARDED} == set(wire.FORWARDED)
    assert shim.SUPPORTED == SUPPORTED_VERSIONS
    assert (
        encode_answer(WireAnswer(status=3, stdout=b"ab")) == b"\x03" + shim.size_of(b"ab") + b"ab"
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("socket"), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text() | st.sampled_from(["socket", "name"]), _JSON), st.booleans())
def test_the_text_under_a_key_is_what_a_json_parser_finds(
    document: dict[str, object], indented: bool
) -> None:
    ascii_only = indented
    data = json.dumps(document, indent=2 if indented else None, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    )
    value = document.get("socket", ...)
    found = shim.top_level(data, b"socket")
    if value is ...:
        assert found is None
    elif isinstance(value, str) and value.isprintable():
        assert found == value.encode()
    elif not isinstance(value, str):
        assert found == b""


@given(st.binary())
def test_whatever_stands_on_stdin_finding_the_socket_never_fails(data: bytes) -> None:
    with contextlib.suppress(shim.CallError):
        assert shim.socket_path({}, data)
    assert shim.requested_version(data)

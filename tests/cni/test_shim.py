"""The CNI entrypoint as a runtime starts it: a process, its environment, its two pipes."""

from __future__ import annotations

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
from danmpy.cni.install import find_interpreter, render_plugin

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


@pytest.fixture
def installed(tmp_path: Path) -> Shim:
    plugin = tmp_path / "danmpy-cni"
    plugin.write_bytes(render_plugin(find_interpreter()))
    plugin.chmod(0o755)
    return Shim(plugin=plugin, socket=tmp_path / "cni.sock")


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


def test_a_daemon_that_resets_the_connection_is_try_again(installed: Shim) -> None:
    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with raw_daemon(installed.socket, serve):
        done = installed.run(stdin=installed.conf(padding="x" * 3_000_000))
    assert (done.status, done.document["code"]) == (1, 11)


def test_a_daemon_that_never_answers_is_given_up(installed: Shim) -> None:
    text = installed.plugin.read_text().replace("TIMEOUT_S = 60.0", "TIMEOUT_S = 0.2")
    assert "TIMEOUT_S = 0.2" in text
    installed.plugin.write_text(text)
    waiting = threading.Event()
    with raw_daemon(installed.socket, lambda _: waiting.wait(5)):
        done = installed.run("STATUS")
        waiting.set()
    assert done.document["code"] == 50
    assert "timed out" in done.document["msg"]


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


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">/dev/full"])
def test_an_answer_that_nobody_takes_ends_quietly(installed: Shim, redirection: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" {redirection}', installed.plugin],
        input=installed.conf(),
        capture_output=True,
        env={**ENVIRON, "CNI_COMMAND": "VERSION"},
    )
    assert done.returncode == (0 if redirection == "2>&-" else 1)
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
    value = document.get("socket")
    found = shim.top_level(data, "socket")
    if isinstance(value, str) and value.isprintable():
        assert found == value
    elif not isinstance(value, str):
        assert found == ""


@given(st.binary())
def test_whatever_stands_on_stdin_finding_the_socket_never_fails(data: bytes) -> None:
    assert isinstance(shim.socket_path({}, data), str)
    assert shim.requested_version(data)

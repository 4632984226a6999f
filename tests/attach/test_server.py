"""The CNI socket."""

import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from danmpy.attach.server import CniServer
from danmpy.attach.wire import WireAnswer, WireRequest, encode_request, read_answer
from danmpy.errors import HostError, NotReadyError


def echo(request: WireRequest) -> WireAnswer:
    return WireAnswer(status=3, stdout=request.environ["CNI_COMMAND"].encode() + request.stdin)


def call(path: Path, data: bytes) -> WireAnswer:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(data)
        return read_answer(client.recv)


REQUEST = encode_request(WireRequest(environ={"CNI_COMMAND": "ADD"}, stdin=b"{}"))


def test_a_request_is_answered_on_a_socket_that_only_its_owner_may_use(tmp_path: Path) -> None:
    path = tmp_path / "run" / "cni.sock"
    server = CniServer(path, echo)
    server.start()
    try:
        assert call(path, REQUEST) == WireAnswer(status=3, stdout=b"ADD{}")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        server.close()
    assert not path.exists()


def test_a_running_call_is_finished_before_the_server_is_closed(tmp_path: Path) -> None:
    started, go = threading.Event(), threading.Event()

    def slow(request: WireRequest) -> WireAnswer:
        started.set()
        go.wait(5)
        return echo(request)

    server = CniServer(tmp_path / "s", slow)
    server.start()
    answers: list[WireAnswer] = []
    client = threading.Thread(target=lambda: answers.append(call(tmp_path / "s", REQUEST)))
    client.start()
    assert started.wait(5)
    closer = threading.Thread(target=server.close)
    closer.start()
    go.set()
    client.join(5)
    closer.join(5)
    assert answers == [WireAnswer(status=3, stdout=b"ADD{}")]


def test_rubbish_on_the_socket_does_not_disturb_the_next_caller(tmp_path: Path) -> None:
    server = CniServer(tmp_path / "s", echo)
    server.start()
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                assert client.recv(10) == b""
        assert call(tmp_path / "s", REQUEST).status == 3
    finally:
        server.close()


def test_a_second_daemon_on_the_socket_is_refused(tmp_path: Path) -> None:
    server = CniServer(tmp_path / "s", echo)
    server.start()
    try:
        with pytest.raises(NotReadyError, match="another danmpy node daemon"):
            CniServer(tmp_path / "s", echo).start()
    finally:
        server.close()


def test_the_socket_of_a_daemon_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    server = CniServer(tmp_path / "s", echo)
    server.start()
    try:
        assert call(tmp_path / "s", REQUEST).status == 3
    finally:
        server.close()


def test_a_file_in_the_way_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(HostError, match="is no socket"):
        CniServer(tmp_path / "s", echo).start()
    assert (tmp_path / "s").read_text() == "precious"

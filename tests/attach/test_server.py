"""The CNI socket."""

import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from danmpy.attach import server as server_module
from danmpy.attach.server import WORKERS, CniServer
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


@contextmanager
def serving(path: Path, answer: object = echo) -> Iterator[CniServer]:
    server = CniServer(path, answer)
    server.start()
    try:
        yield server
    finally:
        server.close()


def connect(path: Path, stack: ExitStack) -> socket.socket:
    client = stack.enter_context(socket.socket(socket.AF_UNIX))
    client.settimeout(5)
    client.connect(str(path))
    return client


def test_callers_that_send_nothing_or_half_keep_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(path), ExitStack() as stack:
        for number in range(4 * WORKERS):
            client = connect(path, stack)
            client.sendall(REQUEST[: number % len(REQUEST)])
        began = time.monotonic()
        assert call(path, REQUEST).status == 3
        assert time.monotonic() - began < 1


def test_a_caller_that_sends_byte_by_byte_is_answered(tmp_path: Path) -> None:
    with serving(tmp_path / "s"), ExitStack() as stack:
        client = connect(tmp_path / "s", stack)
        for byte in REQUEST:
            client.sendall(bytes([byte]))
        assert read_answer(client.recv).stdout == b"ADD{}"


def test_a_request_and_an_answer_of_megabytes_pass(tmp_path: Path) -> None:
    big = encode_request(WireRequest(environ={"CNI_COMMAND": "GC"}, stdin=b"x" * 8_000_000))
    with serving(tmp_path / "s"):
        assert len(call(tmp_path / "s", big).stdout) == 8_000_002


def test_a_caller_that_is_not_done_in_time_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "READ_TIMEOUT_S", 0.1)
    with serving(tmp_path / "s"), ExitStack() as stack:
        client = connect(tmp_path / "s", stack)
        client.sendall(REQUEST[:10])
        assert client.recv(1) == b""
        assert call(tmp_path / "s", REQUEST).status == 3


def test_closing_lets_go_of_callers_that_were_still_sending(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = CniServer(tmp_path / "s", echo)
        server.start()
        client = connect(tmp_path / "s", stack)
        client.sendall(REQUEST[:10])
        began = time.monotonic()
        server.close()
        server.close()
        assert time.monotonic() - began < 2
        assert client.recv(1) == b""
        with pytest.raises(FileNotFoundError):
            connect(tmp_path / "s", stack)


def test_a_caller_that_went_away_disturbs_nobody(tmp_path: Path) -> None:
    release = threading.Event()

    def slow(request: WireRequest) -> WireAnswer:
        release.wait(5)
        return WireAnswer(status=0, stdout=b"x" * 1_000_000)

    with serving(tmp_path / "s", slow), ExitStack() as stack:
        connect(tmp_path / "s", stack).sendall(REQUEST)
        stack.close()
        release.set()
        assert call(tmp_path / "s", REQUEST).status == 0


def test_more_calls_than_workers_are_all_answered(tmp_path: Path) -> None:
    answers: list[WireAnswer] = []

    def slow(request: WireRequest) -> WireAnswer:
        time.sleep(0.01)
        return echo(request)

    with serving(tmp_path / "s", slow):
        clients = [
            threading.Thread(target=lambda: answers.append(call(tmp_path / "s", REQUEST)))
            for _ in range(5 * WORKERS)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join(10)
    assert [answer.status for answer in answers] == [3] * (5 * WORKERS)


def test_a_socket_path_that_is_too_long_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot listen") as caught:
        CniServer(tmp_path / ("s" * 120), echo).start()
    assert "107 bytes" in caught.value.hint


def asking(verb: str) -> bytes:
    return encode_request(WireRequest(environ={"CNI_COMMAND": verb}, stdin=b"{}"))


def test_status_is_answered_while_every_worker_waits_for_a_slow_plugin(tmp_path: Path) -> None:
    release = threading.Event()

    def slow(request: WireRequest) -> WireAnswer:
        if request.environ["CNI_COMMAND"] != "STATUS":
            release.wait(10)
        return echo(request)

    with serving(tmp_path / "s", slow), ExitStack() as stack:
        for _ in range(2 * WORKERS):
            connect(tmp_path / "s", stack).sendall(REQUEST)
        try:
            began = time.monotonic()
            assert call(tmp_path / "s", asking("STATUS")).stdout == b"STATUS{}"
            assert time.monotonic() - began < 1
        finally:
            release.set()


def test_a_call_for_which_no_new_thread_can_be_had_is_served_by_those_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, release = threading.Event(), threading.Event()

    def slow(request: WireRequest) -> WireAnswer:
        held.set()
        release.wait(10)
        return echo(request)

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with serving(tmp_path / "s", slow), ExitStack() as stack:
        first = connect(tmp_path / "s", stack)
        first.sendall(REQUEST)
        assert held.wait(5)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refused)
            second = connect(tmp_path / "s", stack)
            second.sendall(REQUEST)
            time.sleep(0.2)
        release.set()
        assert [read_answer(each.recv).status for each in (first, second)] == [3, 3]
        assert call(tmp_path / "s", REQUEST).status == 3, "the socket is still served"


def test_a_socket_whose_daemon_is_behind_is_not_taken_for_dead(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as stack:
        busy.bind(str(tmp_path / "s"))
        busy.listen(0)
        connect(tmp_path / "s", stack)  # nobody accepts: the queue is full now
        with pytest.raises(NotReadyError, match="another danmpy node daemon"):
            CniServer(tmp_path / "s", echo).start()
    assert (tmp_path / "s").exists()

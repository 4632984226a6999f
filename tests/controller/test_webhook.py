"""The HTTPS server by itself: real TLS, real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from danmpy.clock import wall_clock
from danmpy.controller.certificates import Chain, ServedCertificate, renewed
from danmpy.controller.registration import PATH
from danmpy.controller.webhook import BODY_MAX, WebhookServer
from danmpy.errors import BugError, HostError, WireError
from support.netns import wait_until

HOSTS = ("127.0.0.1",)
DAY_US = 86_400_000_000


def answer(body: bytes) -> dict[str, Any]:
    if body == b"nonsense":
        raise WireError("this is no review", hint="send one", subject="AdmissionReview")
    if body == b"defect":
        raise BugError("a defect", hint="report it")
    return {"length": len(body)}


@pytest.fixture
def chain() -> Chain:
    return renewed(None, HOSTS, wall_clock())


@pytest.fixture
def server(chain: Chain) -> Iterator[WebhookServer]:
    made = WebhookServer(("127.0.0.1", 0), answer)
    try:
        made.bind()
        made.use(chain.served)
        yield made
    finally:
        made.close()


def connect(server: WebhookServer, chain: Chain) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cadata=chain.served.ca_bundle.decode())
    return http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=context)


def ask(
    connection: http.client.HTTPSConnection, body: bytes = b"x", path: str = PATH
) -> tuple[int, str]:
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    found = connection.getresponse()
    return found.status, found.read().decode()


def serial(connection: http.client.HTTPSConnection) -> bytes:
    assert isinstance(connection.sock, ssl.SSLSocket)
    return connection.sock.getpeercert(binary_form=True) or b""


def test_a_review_is_answered_over_tls(server: WebhookServer, chain: Chain) -> None:
    with contextlib.closing(connect(server, chain)) as connection:
        assert ask(connection, b"12345") == (200, json.dumps({"length": 5}))
        assert ask(connection) == (200, json.dumps({"length": 1})), "the connection is kept"


def test_no_answer_waits_for_an_acknowledgement(server: WebhookServer, chain: Chain) -> None:
    """Linux acknowledges after up to 40 ms what it has no answer for, once a connection is old."""
    with contextlib.closing(connect(server, chain)) as connection:
        took = []
        for _ in range(80):
            began = time.monotonic()
            ask(connection)
            took.append(time.monotonic() - began)
    assert sorted(took)[40] < 0.03


def test_health_is_told_on_the_same_listener(server: WebhookServer, chain: Chain) -> None:
    with contextlib.closing(connect(server, chain)) as connection:
        connection.request("GET", "/healthz")
        found = connection.getresponse()
        assert (found.status, found.read()) == (200, b"ok\n")


@pytest.mark.parametrize(
    ("body", "path", "status", "words"),
    [
        (b"nonsense", PATH, 400, "AdmissionReview: this is no review (send one)"),
        (b"defect", PATH, 500, "defect of danmpy"),
        (b"x", "/elsewhere", 404, "Not Found"),
        (b"x" * (BODY_MAX + 1), PATH, 413, "at most 3145728 bytes"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words_and_the_server_goes_on(
    server: WebhookServer, chain: Chain, body: bytes, path: str, status: int, words: str
) -> None:
    with contextlib.closing(connect(server, chain)) as connection:
        found = ask(connection, body, path)
    assert found[0] == status
    assert words in found[1]
    with contextlib.closing(connect(server, chain)) as connection:
        assert ask(connection)[0] == 200


def test_the_largest_body_that_an_api_server_takes_passes(
    server: WebhookServer, chain: Chain
) -> None:
    with contextlib.closing(connect(server, chain)) as connection:
        assert ask(connection, b"x" * BODY_MAX) == (200, json.dumps({"length": BODY_MAX}))


def test_a_body_without_a_length_is_limited_as_well(server: WebhookServer, chain: Chain) -> None:
    pieces = (b"x" * 65536 for _ in range(BODY_MAX // 65536 + 1))
    with contextlib.closing(connect(server, chain)) as connection:
        headers = {"Transfer-Encoding": "chunked"}
        connection.request("POST", PATH, pieces, headers=headers, encode_chunked=True)
        assert connection.getresponse().status == 413


def test_other_methods_are_refused(server: WebhookServer, chain: Chain) -> None:
    with contextlib.closing(connect(server, chain)) as connection:
        connection.request("GET", PATH)
        assert connection.getresponse().status == 405


def test_answers_that_take_seconds_do_not_hold_up_those_that_do_not(chain: Chain) -> None:
    """The database is away: each review that asks it waits, and pods are created all the same."""
    go_on = threading.Event()

    def wait() -> dict[str, Any]:
        go_on.wait(20)
        return {"late": True}

    made = WebhookServer(("127.0.0.1", 0), lambda body: wait if body == b"slow" else {"soon": True})
    late: list[tuple[int, str]] = []

    def ask_slowly() -> None:
        with contextlib.closing(connect(made, chain)) as connection:
            late.append(ask(connection, b"slow"))

    threads = [threading.Thread(target=ask_slowly) for _ in range(60)]
    try:
        made.bind()
        made.use(chain.served)
        for thread in threads:
            thread.start()
        wait_until(lambda: len(late) == 52, seconds=8, what="those without a turn are sent away")
        with contextlib.closing(connect(made, chain)) as connection:
            began = time.monotonic()
            assert ask(connection, b"pod") == (200, '{"soon": true}')
            assert time.monotonic() - began < 1
        assert set(late) == {(503, "too many reviews wait for the database\n")}
        go_on.set()
        for thread in threads:
            thread.join(10)
        assert late[52:] == [(200, '{"late": true}')] * 8
        with contextlib.closing(connect(made, chain)) as connection:
            assert ask(connection, b"slow")[0] == 200, "turns are given back"
    finally:
        go_on.set()
        for thread in threads:
            thread.join(10)
        made.close()


def test_clients_that_say_nothing_do_not_hold_up_others(
    server: WebhookServer, chain: Chain
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        connection = stack.enter_context(contextlib.closing(connect(server, chain)))
        began = time.monotonic()
        assert ask(connection)[0] == 200
        assert time.monotonic() - began < 5


def test_nobody_listens_before_there_is_a_certificate() -> None:
    made = WebhookServer(("127.0.0.1", 0), answer)
    made.bind()
    try:
        assert not made.serving
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", made.port), timeout=5)
    finally:
        made.close()


def test_a_port_that_is_taken_is_told(server: WebhookServer) -> None:
    with pytest.raises(HostError, match=r"cannot listen on 127\.0\.0\.1"):
        WebhookServer(("127.0.0.1", server.port), answer).bind()


def test_two_that_bound_one_port_before_either_listened_are_told_apart_and_can_try_again(
    chain: Chain,
) -> None:
    first = WebhookServer(("127.0.0.1", 0), answer)
    first.bind()
    second = WebhookServer(("127.0.0.1", first.port), answer)
    second.bind()
    try:
        first.use(chain.served)
        for _ in range(2):
            with pytest.raises(HostError, match="does not start"):
                second.use(chain.served)
            assert not second.serving
        first.close()
        second.use(chain.served)
        with contextlib.closing(connect(second, chain)) as connection:
            assert ask(connection)[0] == 200
    finally:
        first.close()
        second.close()


def test_a_certificate_that_tls_does_not_take_leaves_the_old_one(
    server: WebhookServer, chain: Chain
) -> None:
    other = renewed(None, HOSTS, wall_clock()).served
    for broken in (
        ServedCertificate(certificate=b"x", key=b"y"),
        ServedCertificate(certificate=b"", key=other.key),
    ):
        with pytest.raises(HostError, match="TLS cannot use"):
            server.use(broken)
    with contextlib.closing(connect(server, chain)) as connection:
        assert ask(connection)[0] == 200


def test_an_open_connection_outlives_a_new_certificate(server: WebhookServer, chain: Chain) -> None:
    following = renewed(chain, HOSTS, wall_clock() + 61 * DAY_US)
    with (
        contextlib.closing(connect(server, chain)) as before,
        contextlib.closing(connect(server, chain)) as after,
    ):
        assert ask(before)[0] == 200
        old = serial(before)
        backdated = renewed(None, HOSTS, wall_clock())
        assert following.served.ca_bundle == chain.served.ca_bundle
        server.use(backdated.served)
        assert ask(before)[0] == 200
        assert serial(before) == old
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(after)
    with contextlib.closing(connect(server, backdated)) as connection:
        assert ask(connection)[0] == 200
        assert serial(connection) != old


def test_no_handshake_fails_while_certificates_change(server: WebhookServer, chain: Chain) -> None:
    """New connections all the time, and a new certificate of the same authority every 5 ms."""
    stop = threading.Event()
    failures: list[str] = []
    served: set[bytes] = set()

    def knock() -> None:
        while not stop.is_set():
            try:
                with contextlib.closing(connect(server, chain)) as connection:
                    if ask(connection)[0] != 200:
                        failures.append("no answer")
                    served.add(serial(connection))
            except OSError as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=knock) for _ in range(3)]
    for thread in threads:
        thread.start()
    current = chain
    for number in range(60):
        hosts = (*HOSTS, f"n{number}.example.com")
        current = renewed(current, hosts, wall_clock())
        server.use(current.served)
        time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(served) > 5


def test_closing_lets_a_review_end(chain: Chain) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(body: bytes) -> dict[str, Any]:
        entered.set()
        go_on.wait(5)
        return {"length": len(body)}

    made = WebhookServer(("127.0.0.1", 0), slow)
    made.bind()
    made.use(chain.served)
    found: list[int] = []
    with contextlib.closing(connect(made, chain)) as connection:
        asking = threading.Thread(target=lambda: found.append(ask(connection)[0]))
        asking.start()
        assert entered.wait(5)
        closing = threading.Thread(target=made.close)
        closing.start()
        time.sleep(0.2)
        go_on.set()
        asking.join(5)
        closing.join(10)
    assert found == [200]
    assert made.serving is False

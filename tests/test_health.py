"""The daemon's HTTP endpoint."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from danmpy import health
from danmpy.attach.metrics import CniMetrics
from danmpy.health import HealthServer


@pytest.fixture
def reason() -> list[str]:
    return [""]


@pytest.fixture
def url(reason: list[str]) -> Iterator[str]:
    registry = CollectorRegistry()
    CniMetrics(registry).observe("ADD", 0, 0.02)
    server = HealthServer(("127.0.0.1", 0), registry, lambda: reason[0])
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.close()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_count_calls_by_verb_and_code(url: str) -> None:
    status, text = get(url + "/metrics")
    assert status == 200
    assert 'danmpy_cni_requests_total{code="0",verb="ADD"} 1.0' in text


def test_readiness_says_why_not(url: str, reason: list[str]) -> None:
    assert get(url + "/readyz") == (200, "ok\n")
    reason[0] = "the database is away"
    assert get(url + "/readyz") == (503, "the database is away\n")
    assert get(url + "/healthz") == (200, "ok\n")


def test_other_paths_name_the_known_ones(url: str) -> None:
    status, text = get(url + "/")
    assert status == 404
    assert "/metrics" in text


def test_a_port_that_is_taken_does_not_stop_the_daemon(url: str) -> None:
    port = int(url.rpartition(":")[2])
    second = HealthServer(("127.0.0.1", port), CollectorRegistry(), lambda: "")
    second.start()
    assert second.port == 0
    second.close()


def test_a_client_that_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "REQUEST_TIMEOUT_S", 0.1)
    server = HealthServer(("127.0.0.1", 0), CollectorRegistry(), lambda: "")
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            assert client.recv(1) == b""
    finally:
        server.close()


def test_an_ipv6_address_is_served_too() -> None:
    server = HealthServer(("::1", 0), CollectorRegistry(), lambda: "")
    server.start()
    try:
        assert get(f"http://[::1]:{server.port}/readyz") == (200, "ok\n")
    finally:
        server.close()

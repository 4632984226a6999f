"""How often, and in which case not at all, the leader writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from danmpy.api.specs import NetworkKey, NetworkKind
from danmpy.controller.writer import Patch, Writer
from danmpy.kube.errors import MissingError, UnreachableError
from danmpy.kube.resources import Resource


def key(name: str) -> NetworkKey:
    return NetworkKey(kind=NetworkKind.CLUSTER, name=name)


class Api:
    """Remembers the names that were written; `failures` are names that fail and how."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.failures: dict[str, Exception] = {}
        self._lock = threading.Lock()

    def patch(
        self,
        resource: Resource,
        name: str,
        patch: dict[str, Any],
        namespace: str = "",
        subresource: str = "",
    ) -> dict[str, Any]:
        if name in self.failures:
            raise self.failures[name]
        with self._lock:
            self.written.append(name)
        return patch


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def writer(api: Api, registry: CollectorRegistry) -> Iterator[Writer]:
    made = Writer(api, lambda: True, period_s=0.2, registry=registry)
    yield made
    made.close()


def status(name: str, *, urgent: bool = False) -> Patch:
    return Patch(key=key(name), body={}, subresource="status", urgent=urgent)


def test_a_network_is_written_once_in_its_period_and_others_do_not_wait_for_it(
    writer: Writer, api: Api, registry: CollectorRegistry
) -> None:
    assert not writer.write_rarely([status("a")])
    assert writer.write_rarely([status("a"), status("b")]), "a has to wait"
    assert registry.get_sample_value("danmpy_controller_waiting") == 1
    assert api.written == ["a", "b"]
    time.sleep(0.25)
    assert not writer.write_rarely([status("a")])
    assert api.written == ["a", "b", "a"]


def test_what_is_urgent_is_written_at_once_and_its_outcome_too(writer: Writer, api: Api) -> None:
    writer.write_rarely([status("a", urgent=True)])
    writer.write_rarely([status("a")])
    assert api.written == ["a", "a"]
    assert writer.write_rarely([status("a")])


def test_what_fails_is_still_to_do_and_counted(
    writer: Writer, api: Api, registry: CollectorRegistry
) -> None:
    api.failures = {
        "gone": MissingError("no", hint="", subject=""),
        "away": UnreachableError("no", hint="", subject=""),
    }
    assert writer.write_all([status("gone"), status("away"), status("a")]) == {key("a")}
    for result in ("overtaken", "failed", "done"):
        assert registry.get_sample_value("danmpy_controller_writes_total", {"result": result}) == 1
    assert writer.write_rarely([status("away")])
    api.failures = {}
    assert not writer.write_rarely([status("away")])


def test_a_replica_that_does_not_lead_any_more_writes_nothing(api: Api) -> None:
    writer = Writer(api, lambda: False)
    try:
        assert writer.write_all([status("a")]) == frozenset()
    finally:
        writer.close()
    assert api.written == []

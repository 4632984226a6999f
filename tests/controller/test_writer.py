"""How often, and in which case not at all, the leader writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from danmpy.api.specs import NetworkKey, NetworkKind
from danmpy.controller import writer as writer_module
from danmpy.controller.writer import Patch, Writer
from danmpy.kube.errors import MissingError, RefusedError, UnreachableError
from danmpy.kube.resources import Resource
from support.netns import wait_until


def key(name: str) -> NetworkKey:
    return NetworkKey(kind=NetworkKind.CLUSTER, name=name)


class Api:
    """Remembers the names that were written; `failures` are names that fail and how, and `there`
    those that can be read."""

    def __init__(self) -> None:
        self.there: set[str] = set()
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

    def get(
        self, resource: Resource, name: str, namespace: str = "", *, timeout_s: float = 1.0
    ) -> dict[str, Any]:
        if name not in self.there:
            raise MissingError("no", hint="", subject=name)
        return {}


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


def status(name: str, **more: bool) -> Patch:
    return Patch(key=key(name), body={}, subresource="status", **more)


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
    wait_until(lambda: not writer.write_rarely([status("away")]), seconds=3)
    assert api.written == ["a", "away"]


def test_a_farewell_comes_before_its_turn_and_takes_the_next_one(writer: Writer, api: Api) -> None:
    writer.write_rarely([status("a")])
    assert not writer.write_rarely([status("a", early=True)])
    assert writer.write_rarely([status("a", early=True)]), "only once"
    time.sleep(0.25)
    assert writer.write_rarely([status("a")]), "that turn is taken"
    assert api.written == ["a", "a"]
    wait_until(lambda: not writer.write_rarely([status("a")]), seconds=1)
    assert api.written == ["a", "a", "a"]


def test_what_is_refused_for_good_is_told_once_and_tried_more_and_more_seldom(
    writer: Writer, api: Api, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(writer_module, "monotonic", lambda: now[0])
    api.failures = {"a": RefusedError("a webhook says no", hint="ask it", subject="a")}
    finalizer = Patch(key=key("a"), body={"metadata": {"finalizers": ["x"]}})
    with capture_logs() as logs:
        for _ in range(300):
            assert writer.write_all([finalizer]) == frozenset()
            now[0] += 1
    assert [(each["event"], each["error"]) for each in logs] == [
        ("not written", "a: a webhook says no (ask it)")
    ]
    name, failed = "danmpy_controller_writes_total", {"result": "failed"}
    assert registry.get_sample_value(name, failed) == 10, "after 1, 2, 4, ... and then 60 s"
    api.failures = {"a": RefusedError("and for another reason", hint="", subject="a")}
    with capture_logs() as logs:
        now[0] += 60
        writer.write_all([finalizer])
    assert len(logs) == 1
    api.failures = {}
    now[0] += 60
    assert writer.write_all([finalizer, status("b")]) == {key("a"), key("b")}
    assert writer.write_all([finalizer]) == {key("a")}, "it is forgotten once it worked"


@pytest.mark.parametrize("told_by", ["resourceVersion", "uid"])
def test_an_object_that_was_corrected_or_made_anew_does_not_wait_for_what_was_refused(
    writer: Writer, api: Api, told_by: str
) -> None:
    def patch(state: str) -> Patch:
        return Patch(key=key("a"), body={"metadata": {told_by: state}})

    api.failures = {"a": RefusedError("a webhook says no", hint="ask it", subject="a")}
    assert writer.write_all([patch("1")]) == frozenset()
    api.failures = {}
    assert writer.write_all([patch("1")]) == frozenset()
    assert writer.write_all([patch("2")]) == {key("a")}


def test_an_api_server_that_is_back_is_not_kept_waiting_for(
    writer: Writer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(writer_module, "monotonic", lambda: now[0])
    names = [str(number) for number in range(200)]
    api.failures = {name: UnreachableError("no", hint="", subject=name) for name in names}
    with capture_logs() as logs:
        for _ in range(20):
            writer.write_all([status(name) for name in names])
            now[0] += 1
    # Each thread may find it out for itself.
    assert 1 <= len(logs) <= 6, "one outage is not told of every network"
    api.failures = {}
    now[0] += 4
    assert writer.write_all([status(name) for name in names]) == {key(name) for name in names}
    api.failures = {"0": UnreachableError("no", hint="", subject="0")}
    with capture_logs() as logs:
        writer.write_all([status("0")])
    assert len(logs) == 1, "the next outage is told"


def test_a_replica_that_does_not_lead_any_more_writes_nothing(api: Api) -> None:
    writer = Writer(api, lambda: False)
    try:
        assert writer.write_all([status("a")]) == frozenset()
    finally:
        writer.close()
    assert api.written == []


def test_a_kind_without_a_status_is_told_once_with_the_way_out(
    writer: Writer, api: Api, registry: CollectorRegistry
) -> None:
    """DANM's own CRDs have none: the object is there, and a 404 comes back."""
    api.there = {"a", "b", "c"}
    api.failures = {name: MissingError("no", hint="", subject=name) for name in "abc"}
    with capture_logs() as logs:
        assert writer.write_rarely([status("a"), status("b")])
        assert writer.write_rarely([status("c")])
    (told,) = logs
    assert "ClusterNetwork without status" in told["error"]
    assert "danmpy crds" in told["error"]
    assert registry.get_sample_value("danmpy_controller_writes_total", {"result": "failed"}) == 3
    api.failures = {}
    wait_until(lambda: not writer.write_rarely([status("a")]), seconds=3)
    api.failures = {"b": MissingError("no", hint="", subject="b")}
    with capture_logs() as logs:
        wait_until(lambda: writer.write_rarely([status("b")]) and bool(logs), seconds=3)
    assert len(logs) == 1, "it is gone again, so it is told again"

"""Clients of the real API server, and a place that keeps what a reflector brings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from danmpy.errors import DanmpyError
from danmpy.kube.client import KubeClient, Scope, open_client
from danmpy.kube.reflector import Pace, Reflector
from danmpy.kube.resources import CLUSTER_NETWORKS
from support.apiserver import ApiServer
from support.interpose import Interposer

ALL = Scope(resource=CLUSTER_NETWORKS)
BRISK = Pace(missing_after=0.5, missing_wait=0.5)


def network(name: str, **options: Any) -> dict[str, Any]:
    return {
        "apiVersion": "danm.k8s.io/v1",
        "kind": "ClusterNetwork",
        "metadata": {"name": name},
        "spec": {"NetworkID": name[:10], "Options": options},
    }


class Kept:
    """A sink that keeps bodies and failures."""

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        self.lists = 0
        self.failures: list[tuple[DanmpyError, bool]] = []
        self.breaks = False

    @property
    def names(self) -> set[str]:
        return set(self.bodies)

    def replace(self, objects: Iterator[dict[str, Any]]) -> None:
        self.bodies = {body["metadata"]["name"]: body for body in objects}
        self.lists += 1

    def put(self, body: dict[str, Any]) -> None:
        if self.breaks:
            raise RuntimeError("a bug")
        self.bodies[body["metadata"]["name"]] = body

    def drop(self, body: dict[str, Any]) -> None:
        self.bodies.pop(body["metadata"]["name"], None)

    def fail(self, error: DanmpyError, *, missing: bool) -> None:
        self.failures.append((error, missing))


class Followed:
    """Starts reflectors, and ends them after the test."""

    def __init__(self) -> None:
        self._made: list[Reflector] = []

    def __call__(
        self,
        client: KubeClient,
        scope: Scope = ALL,
        pace: Pace = BRISK,
        *,
        version: str = "",
        optional: bool = False,
    ) -> Kept:
        kept = Kept()
        reflector = Reflector(client, scope, kept, pace=pace, optional=optional)
        reflector._version = version
        self._made.append(reflector)
        reflector.start()
        return kept

    @property
    def last(self) -> Reflector:
        return self._made[-1]

    def close(self) -> None:
        for reflector in self._made:
            reflector.stop()
        for reflector in self._made:
            reflector.join(10)


@pytest.fixture
def follow() -> Iterator[Followed]:
    made = Followed()
    yield made
    made.close()


@pytest.fixture
def client(apiserver: ApiServer) -> Iterator[KubeClient]:
    made = open_client(apiserver.kubeconfig())
    yield made
    made.close()


@pytest.fixture
def interposer(apiserver: ApiServer) -> Iterator[Interposer]:
    made = Interposer(apiserver.port)
    yield made
    made.close()


@pytest.fixture
def through(apiserver: ApiServer, interposer: Interposer, tmp_path: Path) -> Iterator[KubeClient]:
    """A client that reaches the server through the interposer."""
    made = open_client(interposer.kubeconfig(apiserver, tmp_path / "through.yaml"))
    yield made
    made.close()


def soon(condition: Callable[[], bool], seconds: float = 15.0) -> float:
    """Wait until `condition` holds; the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not come about"
        time.sleep(0.01)
    return time.monotonic() - began


def threads_named(start: str) -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith(start)]

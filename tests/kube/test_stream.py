"""One watch: what it tells, and every way in which it ends."""

from __future__ import annotations

import threading
import time

import pytest

from danmpy.kube.client import KubeClient
from danmpy.kube.errors import UnreachableError
from danmpy.kube.stream import Event, SilentError
from support.apiserver import ApiServer
from support.following import ALL, network
from support.interpose import Interposer

pytestmark = pytest.mark.system


def version(client: KubeClient) -> str:
    return client.list(ALL.resource).resource_version


def test_changes_come_in_order_and_the_server_ends_the_stream(
    apiserver: ApiServer, client: KubeClient
) -> None:
    began = version(client)
    apiserver.create(network("a"))
    apiserver.patch("ClusterNetwork", "a", {"spec": {"NetworkID": "b"}})
    apiserver.delete("ClusterNetwork", "a")
    with client.watch(ALL, began, timeout_s=1) as stream:
        seen = [kind for kind, _ in stream if kind != "BOOKMARK"]
    assert seen == ["ADDED", "MODIFIED", "DELETED"]


def test_large_objects_and_many_at_once_come_whole(
    apiserver: ApiServer, client: KubeClient
) -> None:
    began = version(client)
    routes = {f"10.{a}.{b}.0/24": "10.0.0.1" for a in range(20) for b in range(100)}
    for number in range(10):
        apiserver.create(network(f"n{number}", routes=routes))
    with client.watch(ALL, began, timeout_s=3) as stream:
        bodies = [body for kind, body in stream if kind == "ADDED"]
    assert [body["metadata"]["name"] for body in bodies] == [f"n{each}" for each in range(10)]
    assert all(body["spec"]["Options"]["routes"] == routes for body in bodies)


def test_it_is_closed_from_another_thread_at_once(client: KubeClient) -> None:
    seen: list[Event] = []
    with client.watch(ALL, version(client)) as stream:
        reader = threading.Thread(target=lambda: seen.extend(stream))
        reader.start()
        time.sleep(0.2)
        began = time.monotonic()
        stream.close()
        stream.close()
        reader.join(5)
        assert time.monotonic() - began < 0.5
    assert seen == []


def test_silence_is_an_error_of_its_own(client: KubeClient) -> None:
    with (
        client.watch(ALL, version(client), silence_s=0.3) as stream,
        pytest.raises(SilentError, match=r"0\.3 s"),
    ):
        list(stream)


def test_a_broken_connection_is_an_error(through: KubeClient, interposer: Interposer) -> None:
    with through.watch(ALL, version(through)) as stream:
        threading.Timer(0.2, interposer.cut).start()
        with pytest.raises(UnreachableError, match="lost"):
            list(stream)


def test_a_version_that_is_none_is_refused_with_the_servers_words(client: KubeClient) -> None:
    with pytest.raises(Exception, match=r"resource ?[vV]ersion"), client.watch(ALL, "x") as stream:
        list(stream)

"""Nodes and pods as a real API server has them now."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from danmpy.controller.living import LiveCluster
from danmpy.errors import ClusterError
from danmpy.kube.client import open_client
from support.apiserver import ApiServer

pytestmark = pytest.mark.system


@pytest.fixture
def living(apiserver: ApiServer) -> Iterator[LiveCluster]:
    client = open_client(apiserver.kubeconfig())
    yield LiveCluster(client)
    client.close()


def node(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def pod(name: str, on: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": on, "containers": [{"name": "c", "image": "i"}]},
    }


def test_nodes_and_pods_are_those_of_this_moment(apiserver: ApiServer, living: LiveCluster) -> None:
    assert living.nodes() == frozenset()
    assert living.uid_of("default", "web") is None
    apiserver.apply(node("n1"))
    apiserver.apply(node("n2"))
    apiserver.apply(pod("web", "n1"))
    assert living.nodes() == {"n1", "n2"}
    uid = living.uid_of("default", "web")
    assert uid
    assert living.pods_on("n1") == {("default", "web", uid)}
    assert living.pods_on("n2") == frozenset()


def test_an_api_server_that_is_away_tells_nothing(
    apiserver: ApiServer, living: LiveCluster
) -> None:
    apiserver.kill()
    for ask in (living.nodes, lambda: living.pods_on("n1"), lambda: living.uid_of("d", "web")):
        with pytest.raises(ClusterError):
            ask()

from __future__ import annotations

from collections.abc import Iterator

import pytest

from danmpy.kube.client import KubeClient, open_client
from support.apiserver import ApiServer
from support.mirroring import ApiPods


@pytest.fixture
def client(apiserver: ApiServer) -> Iterator[KubeClient]:
    """The client of a node's daemon that may do everything."""
    made = open_client(apiserver.kubeconfig())
    yield made
    made.close()


@pytest.fixture
def pods(apiserver: ApiServer) -> ApiPods:
    """A way to make pods in the namespace blue."""
    return ApiPods(apiserver)

"""NetworkAttachmentDefinitions in a real API server: a kind that is there, comes, or is missing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from danmpy.api.specs import InterfaceAsk, NetworkKey, NetworkSpec, PodSpec
from danmpy.errors import ClusterError
from danmpy.intent.cluster import ClusterSource
from danmpy.intent.values import Intent
from danmpy.kube.client import KubeClient
from danmpy.kube.reflector import Pace
from support.apiserver import ApiServer
from support.following import soon
from support.interpose import Interposer
from support.manifests import network_manifest
from support.nads import NAD_CRD, nad_key, nad_manifest
from support.specs import tenant_key

pytestmark = pytest.mark.system

Watch = Callable[..., ClusterSource]
KEY = nad_key("data")
POD = PodSpec(namespace="blue", name="web", uid="u")


@pytest.fixture
def blue(apiserver: ApiServer) -> ApiServer:
    apiserver.make_namespace("blue")
    return apiserver


@pytest.fixture
def served(blue: ApiServer) -> ApiServer:
    """The same server with the kind."""
    blue.apply(NAD_CRD)
    blue.wait_crds_established()
    return blue


@pytest.fixture
def watch() -> Iterator[Watch]:
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(client: KubeClient, on_change: Callable[[], None] = lambda: None, **more: Any) -> Any:
        source = ClusterSource(client, node_name="node-a", **more)
        threads.append(threading.Thread(target=source.watch, args=(on_change, stop), daemon=True))
        threads[-1].start()
        return source

    yield start
    stop.set()
    for thread in threads:
        thread.join(10)


def asking(*keys: NetworkKey) -> list[InterfaceAsk]:
    return [InterfaceAsk(network=key) for key in keys]


def found(intent: Intent, key: NetworkKey = KEY) -> NetworkSpec | None:
    return intent.networks.get(key)


def test_a_cluster_without_the_kind_is_whole_at_once_and_hears_of_it_when_it_comes(
    blue: ApiServer, client: KubeClient, watch: Watch
) -> None:
    assert ClusterSource(client).read().complete
    began = time.monotonic()
    source = watch(client, pace=Pace(missing_after=30.0, rare_wait=0.2, first_wait=0.1))
    soon(lambda: source.read().complete)
    assert time.monotonic() - began < 20
    assert source.waits_for() == ""
    assert source.read().problems == ()
    blue.apply(NAD_CRD)
    blue.wait_crds_established()
    blue.create(nad_manifest("data", type="macvlan"))
    soon(lambda: found(source.read()))


@pytest.mark.parametrize("pods", [True, False])
def test_nads_are_networks_for_nodes_and_for_the_controller(
    served: ApiServer, client: KubeClient, watch: Watch, pods: bool
) -> None:
    config = {"type": "macvlan", "master": "ens4", "vxlan": 700}
    made = served.create(nad_manifest("data", resource="a/b", **config))
    served.create(nad_manifest("broken", text="{"))
    asked: list[int] = []
    source = watch(client, lambda: asked.append(1), pods=pods, keep_status=True)
    soon(lambda: source.read().complete)
    for intent in (source.read(), ClusterSource(client, pods=pods).read()):
        spec = found(intent)
        assert spec is not None
        assert (spec.uid, spec.resource) == (made["metadata"]["uid"], "a/b")
        assert json.loads(spec.conf) == config
        ((key, (problem,)),) = intent.rejected.items()
        assert (key, problem.code) == (nad_key("broken"), "ConfigNotJson")
    assert source.network_objects() == {}
    before = len(asked)
    served.delete("NetworkAttachmentDefinition", "data", "blue")
    soon(lambda: found(source.read()) is None)
    assert len(asked) > before


@pytest.mark.parametrize("known", [True, False])
def test_a_nad_that_no_watch_told_of_is_waited_for_and_so_is_what_it_stands_for(
    served: ApiServer, through: KubeClient, interposer: Interposer, watch: Watch, known: bool
) -> None:
    if known:
        served.create(nad_manifest("data", type="danmpy-cni", tenantNetwork="late"))
    source = watch(through, pace=Pace(silence=1.0))
    soon(lambda: source.read().complete)
    interposer.hush()
    served.create(network_manifest("TenantNetwork", "late", "blue"))
    if not known:
        served.create(nad_manifest("data", type="danmpy-cni", tenantNetwork="late"))
    interposer.speak()
    intent = source.hear(source.read(), POD, asking(KEY))
    spec = found(intent)
    assert spec is not None
    assert spec.alias == tenant_key("late")
    assert tenant_key("late") in intent.networks


def test_a_configuration_of_the_node_is_no_object_to_ask_for(
    blue: ApiServer, client: KubeClient, watch: Watch
) -> None:
    source = watch(client)
    soon(lambda: source.read().complete)
    blue.kill()
    intent = source.hear(source.read(), POD, asking(nad_key("flannel", "")))
    assert intent.networks == {}
    with pytest.raises(ClusterError):
        source.hear(source.read(), POD, asking(KEY))

"""Reading the claims of pods from a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from danmpy.attach.devices.assigning import Offer
from danmpy.attach.devices.claim_reader import ClaimReader, served_version
from danmpy.attach.devices.resource_claims import DEVICE_ID, RESOURCE_NAME
from danmpy.errors import ClusterError
from danmpy.kube.access import loader
from danmpy.kube.client import Listing, open_client
from danmpy.kube.resources import PODS, Resource
from support.apiserver import ApiServer
from support.claims import DRIVER, GROUP, POOL, VF, PodsWithClaims, make_claim, make_slice, serve
from support.mirroring import ApiPods

pytestmark = pytest.mark.system


@pytest.fixture
def client(apiserver: ApiServer) -> Iterator[PodsWithClaims]:
    made = PodsWithClaims(loader(apiserver.kubeconfig()))
    yield made
    made.close()


@pytest.fixture
def pods(apiserver: ApiServer) -> ApiPods:
    return ApiPods(apiserver)


def read(client: PodsWithClaims, pod: str = "web-1") -> Offer | None:
    return ClaimReader(client, "node-a").read_devices("blue", pod)


@pytest.mark.parametrize("version", ["v1", "v1beta2", "v1beta1"])
def test_a_pod_has_the_devices_of_its_claims_in_whichever_version_they_are_served(
    apiserver: ApiServer, client: PodsWithClaims, pods: ApiPods, version: str
) -> None:
    serve(apiserver, version)
    if not apiserver.serves(f"{GROUP}/{version}"):
        pytest.skip(f"this API server has the group itself, and not {version}")
    pods.make(1)
    client.claims = {"web-1": ["first", "second", "later", "absent"]}
    make_slice(apiserver, "s", {"vf0": "a", "vf1": "b", "vf2": "c", "gpu": ""}, version=version)
    make_claim(apiserver, "first", "vf1", "gpu", version=version)
    make_claim(apiserver, "second", "vf0", version=version)
    make_claim(apiserver, "later", version=version)
    offer = read(client)
    assert offer is not None
    assert offer.of(VF) == ("a", "b")
    claimed = offer.claimed[VF, "b"]
    assert (claimed.claim, claimed.device) == ("first", "vf1")
    assert (claimed.driver, claimed.pool) == (DRIVER, POOL)


def test_devices_of_pools_that_are_on_no_node_are_found_too(
    apiserver: ApiServer, client: PodsWithClaims, pods: ApiPods
) -> None:
    serve(apiserver)
    pods.make(1)
    client.claims = {"web-1": ["one"]}
    make_slice(apiserver, "far", {"vf0": "z"}, node="node-b", pool="fabric")
    make_claim(apiserver, "one", "vf0", pool="fabric")
    offer = read(client)
    assert offer is not None
    assert offer.of(VF) == ("z",)


def test_a_pod_without_claims_has_none_and_one_that_is_not_there_is_unknown(
    apiserver: ApiServer, client: PodsWithClaims, pods: ApiPods
) -> None:
    serve(apiserver)
    pods.make(1)
    assert read(client) == Offer()
    assert read(client, "web-2") is None


def test_a_server_without_the_group_has_no_claims_until_it_is_upgraded(
    apiserver: ApiServer, client: PodsWithClaims, pods: ApiPods
) -> None:
    pods.make(1)
    client.claims = {"web-1": ["one"]}
    reader = ClaimReader(client, "node-a")
    if not served_version(client):
        assert reader.read_devices("blue", "web-1") == Offer()
    serve(apiserver)
    make_slice(apiserver, "s", {"vf0": "a"})
    make_claim(apiserver, "one", "vf0")
    offer = reader.read_devices("blue", "web-1")
    assert offer is not None
    assert offer.of(VF) == ("a",)


class Selecting:
    """A server that selects slices by their fields, as those do that have the group themselves."""

    def __init__(self, slices: list[dict[str, Any]]) -> None:
        self.slices = slices
        self.asked: list[str] = []

    def get(self, resource: Resource, name: str, namespace: str = "") -> dict[str, Any]:
        if resource == PODS:
            return {"spec": {"resourceClaims": [{"name": "nic", "resourceClaimName": "one"}]}}
        results = [
            {"driver": DRIVER, "pool": pool, "device": "vf0"} for pool in ("of-node", "of-all")
        ]
        return {"status": {"allocation": {"devices": {"results": results}}}}

    def list(
        self, resource: Resource, *, field_selector: str = "", timeout_s: float = 0
    ) -> Listing:
        self.asked.append(field_selector)
        key, _, value = field_selector.removeprefix("spec.").partition("=")
        found = [each for each in self.slices if each["spec"].get(key) == value]
        return Listing(items=found, resource_version="1")

    def serves(self, group_version: str) -> bool:
        return group_version == f"{GROUP}/v1"


def slice_of(pool: str, number: str, node: str = "") -> dict[str, Any]:
    attributes = {DEVICE_ID: {"string": number}, RESOURCE_NAME: {"string": VF}}
    devices = [{"name": "vf0", "attributes": attributes}]
    spec = {"driver": DRIVER, "pool": {"name": pool, "generation": 1}, "devices": devices}
    return {"spec": spec | ({"nodeName": node} if node else {})}


def test_only_slices_of_the_node_are_listed_unless_a_pool_is_on_none() -> None:
    of_node, of_all = slice_of("of-node", "a", "node-a"), slice_of("of-all", "b")
    server = Selecting([of_node, of_all, slice_of("other", "c", "node-b")])
    offer = ClaimReader(server, "node-a").read_devices("blue", "web")
    assert offer is not None
    assert offer.of(VF) == ("a", "b")
    assert server.asked == ["spec.nodeName=node-a", f"spec.driver={DRIVER}"]
    of_all["spec"]["nodeName"] = "node-a"
    server.asked.clear()
    ClaimReader(server, "node-a").read_devices("blue", "web")
    assert server.asked == ["spec.nodeName=node-a"]


def test_a_server_that_does_not_answer_is_an_error(apiserver: ApiServer) -> None:
    client = open_client(apiserver.kubeconfig())
    apiserver.kill()
    with pytest.raises(ClusterError):
        ClaimReader(client, "node-a").read_devices("blue", "web-1")
    client.close()

"""Who is asked for the devices of a pod."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from danmpy.attach.devices.assigning import Offer
from danmpy.attach.devices.sources import NodeDevices
from danmpy.errors import ClusterError, DanmpyError, NotReadyError

VF, NIC = "vendor/vf", "vendor/nic"
AWAY = NotReadyError("away", hint="wait")


class Kubelet:
    """Answers with `says`, or raises it."""

    def __init__(self, says: Mapping[str, tuple[str, ...]] | NotReadyError | None) -> None:
        self.says = says
        self.asked: list[tuple[str, str]] = []

    def read_devices(self, namespace: str, pod: str) -> Mapping[str, tuple[str, ...]] | None:
        self.asked.append((namespace, pod))
        if isinstance(self.says, NotReadyError):
            raise self.says
        return self.says


class Claims:
    """The same of claims."""

    def __init__(self, says: Mapping[str, tuple[str, ...]] | DanmpyError | None) -> None:
        self.says = says
        self.asked = 0

    def read_devices(self, namespace: str, pod: str) -> Offer | None:
        self.asked += 1
        if isinstance(self.says, DanmpyError):
            raise self.says
        return None if self.says is None else Offer(ids=self.says)


def ids(offer: Offer | None) -> Mapping[str, tuple[str, ...]] | None:
    return None if offer is None else {resource: offer.of(resource) for resource in offer.ids}


def test_claims_are_not_asked_for_when_the_kubelet_gave_enough() -> None:
    kubelet, claims = Kubelet({VF: ("a", "b")}), Claims(AWAY)
    offer = NodeDevices(kubelet, claims).read_offered("blue", "web", {VF: 2})
    assert ids(offer) == {VF: ("a", "b")}
    assert kubelet.asked == [("blue", "web")]
    assert claims.asked == 0


def test_what_the_kubelet_did_not_give_is_looked_for_in_claims() -> None:
    devices = NodeDevices(Kubelet({VF: ("a",)}), Claims({NIC: ("n",), VF: ("b",)}))
    offer = devices.read_offered("blue", "web", {VF: 2, NIC: 1})
    assert ids(offer) == {VF: ("a", "b"), NIC: ("n",)}


@pytest.mark.parametrize("kubelet", [Kubelet(AWAY), Kubelet(None), Kubelet({}), None])
def test_claims_alone_are_enough(kubelet: Kubelet | None) -> None:
    devices = NodeDevices(kubelet, Claims({VF: ("a",)}))
    given = ids(devices.read_offered("blue", "web", {VF: 1}))
    assert given == {VF: ("a",)}


@pytest.mark.parametrize("claims", [None, Claims(None), Claims({}), Claims({NIC: ("n",)})])
def test_a_kubelet_that_does_not_answer_is_told_when_it_is_needed(claims: Claims | None) -> None:
    with pytest.raises(NotReadyError, match="away"):
        NodeDevices(Kubelet(AWAY), claims).read_offered("blue", "web", {VF: 1})


def test_a_cluster_that_does_not_answer_is_told_too() -> None:
    failing = Claims(ClusterError("unreachable", hint="wait"))
    with pytest.raises(ClusterError):
        NodeDevices(Kubelet({}), failing).read_offered("blue", "web", {VF: 1})


def test_a_pod_that_nobody_knows_is_told_from_one_without_devices() -> None:
    assert NodeDevices(Kubelet(None), Claims(None)).read_offered("blue", "web", {VF: 1}) is None
    assert ids(NodeDevices(Kubelet({})).read_offered("blue", "web", {VF: 1})) == {}


def test_the_link_of_a_device_is_looked_for_on_this_host() -> None:
    assert NodeDevices(None).read_netdev("lo", VF) == "lo"

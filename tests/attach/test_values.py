"""What flows through an attachment does not change on its way."""

from __future__ import annotations

import dataclasses

import pytest

from danmpy.attach.values import Backend, InterfaceSpec, PodIdentity
from support.specs import DYNAMIC, NONE, network, tenant_key

UNRESOLVED = network(tenant_key("internal"), v4="10.0.0.0/24")
SPEC = InterfaceSpec(
    index=0,
    name="eth0",
    network=UNRESOLVED,
    backend=Backend.IPVLAN,
    ip=DYNAMIC,
    ip6=NONE,
    mac=None,
    owns_addresses=True,
    ipv6=True,
    mtu=None,
)


def test_neither_interface_nor_pod_can_be_changed_on_the_way() -> None:
    pod = PodIdentity(namespace="b", pod="p", uid="", container_id="c", netns="", ifname="eth0")
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPEC.name = "eth1"
    with pytest.raises(dataclasses.FrozenInstanceError):
        pod.container_id = "other"


def test_the_backends_are_the_words_of_the_manifests() -> None:
    assert {str(each) for each in Backend} == {"ipvlan", "macvlan", "bridge", "delegate"}

"""What a pod asked, as texts that are compared later."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.dialects.keys import CLAIM, INTERFACES, NPWG_NETWORKS
from danmpy.api.specs import AddressAsk, InterfaceAsk, PluginAsk, PodSpec
from danmpy.attach.plugging.wishes import NO_WISHES, wish_of, wishes_of, wishes_when_attached
from support.specs import DYNAMIC, NONE, ask, route, static, tenant_key

INTERNAL = tenant_key("internal")

OTHERWISE: tuple[dict[str, Any], ...] = (
    {"ip": DYNAMIC},
    {"ip": NONE},
    {"ip": static("10.0.0.1")},
    {"ip": static("10.0.0.2")},
    {"ip6": static("fd00::1")},
    {"ip6": DYNAMIC},
    {"mac": "02:00:00:00:00:01"},
    {"proutes": (route("10.1.0.0/16", "10.0.0.9"),)},
    {"proutes6": (route("fd01::/64", "fd00::9"),)},
    {"default_route": True},
    {"claim": "mine"},
    {"plugin": PluginAsk(ips=("10.0.0.1",))},
    {"plugin": PluginAsk(infiniband_guid="c2:11:22:33:44:55:66:77")},
    {"plugin": PluginAsk(port_mappings=({"hostPort": 80},))},
    {"plugin": PluginAsk(bandwidth={"ingressRate": 1})},
    {"plugin": PluginAsk(cni_args={"a": 1})},
    {"plugin": PluginAsk(gateways=())},
    {"plugin": PluginAsk(gateways=(ip_address("10.0.0.1"),))},
    {"network": tenant_key("other")},
)


def test_everything_that_can_be_asked_makes_another_wish() -> None:
    plain = ask(INTERNAL)
    texts = {wish_of(plain), *(wish_of(replace(plain, **said)) for said in OTHERWISE)}
    assert len(texts) == 1 + len(OTHERWISE)


def test_the_name_is_no_part_of_the_wish() -> None:
    assert wish_of(ask(INTERNAL, name="eth7")) == wish_of(ask(INTERNAL))


def test_a_plain_wish_is_short() -> None:
    assert json.loads(wish_of(InterfaceAsk(network=INTERNAL, ip=AddressAsk()))) == {
        "network": "TenantNetwork/blue/internal"
    }


@pytest.mark.parametrize("key", [INTERFACES, NPWG_NETWORKS])
def test_a_pod_asks_otherwise_when_an_asking_annotation_differs(key: str) -> None:
    one = PodSpec(namespace="blue", name="web", annotations={key: "a"})
    assert wishes_of(one) != wishes_of(replace(one, annotations={key: "b"}))
    assert wishes_of(one) != wishes_of(replace(one, annotations={key: "a", "cni": "c"}))
    assert wishes_of(one) == wishes_of(replace(one, annotations={key: "a", CLAIM: "mine"}))
    assert wishes_of(one) == wishes_when_attached(one)


def test_a_pod_without_annotations_asks_for_nothing_and_is_known_to() -> None:
    silent = PodSpec(namespace="blue", name="web")
    assert wishes_of(silent) == ""
    assert wishes_when_attached(silent) == NO_WISHES


@given(st.dictionaries(st.sampled_from([INTERFACES, NPWG_NETWORKS, "cni"]), st.text()))
def test_the_order_of_annotations_does_not_count(annotations: dict[str, str]) -> None:
    turned = dict(reversed(annotations.items()))
    one = PodSpec(namespace="blue", name="web", annotations=annotations)
    assert wishes_of(one) == wishes_of(replace(one, annotations=turned))

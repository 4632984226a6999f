"""What an ADD is to make: who the pod is, what it asks, where its interfaces are made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from danmpy.api.cni import CniInterface, CniRequest, CniResult, Verb
from danmpy.api.specs import Dialect, NetworkKey, NetworkKind, TenantConfigSpec
from danmpy.attach.deciding.decider import Decider, has_interface, without_lease
from danmpy.attach.ports import AttachSettings
from danmpy.attach.values import InterfaceSpec
from danmpy.errors import IntentError, NotReadyError
from support.attaching import EXT, FRONT, THREE, AttachNode, request
from support.specs import network, tenant_key


def decider(node: AttachNode) -> Decider:
    return Decider(AttachSettings(node_name="node-a"), node.attacher._ports)


def call(**more: Any) -> CniRequest:
    return request(Verb.ADD, "web", "/run/netns/dt-none", **more)


def test_the_first_interface_is_made_when_it_is_in_the_pod_under_the_runtime_s_name() -> None:
    assert not has_interface(call())
    for link, expected in (
        (CniInterface(name="eth0", sandbox="/run/netns/dt-none"), True),
        (CniInterface(name="eth0"), False),
        (CniInterface(name="lo", sandbox="/run/netns/dt-none"), False),
    ):
        assert has_interface(call(prev_result=CniResult(interfaces=(link,)))) is expected


def test_a_decision_is_whole_and_touches_nothing(three: AttachNode) -> None:
    decision = decider(three).decide(call())
    assert [spec.name for spec in decision.specs] == ["eth0", "eth1", "front2"]
    assert [spec.device for spec in decision.specs] == [three.parent, three.parent, three.bridge]
    assert (decision.dialect, decision.primary_only) == (Dialect.DANM, False)
    assert three.history() == []
    assert three.journal.read_all() == ()


def test_what_the_runtime_offers_is_for_the_interface_that_it_asks_for_alone(
    three: AttachNode,
) -> None:
    offered = {"portMappings": [{"hostPort": 80}]}
    specs = decider(three).decide(call(config={"runtimeConfig": offered})).specs
    assert [dict(spec.runtime) for spec in specs] == [offered, {}, {}]
    ext, front = ({"tenantNetwork": "ext", "name": "net9"}, {"clusterNetwork": "front"})
    three.add_pod("web", ext, {**front, "name": "eth0"})
    named = decider(three).decide(call(config={"runtimeConfig": offered})).specs
    assert {spec.name: dict(spec.runtime) for spec in named} == {"net9": {}, "eth0": offered}
    three.add_pod("web", *THREE)
    specs = decider(three).decide(call(config={"runtimeConfig": "nonsense"})).specs
    assert specs[0].runtime == {}


def test_a_pod_that_is_not_known_may_come_and_one_that_was_replaced_may_not(
    three: AttachNode,
) -> None:
    with pytest.raises(NotReadyError, match="not known here"):
        decider(three).decide(replace(call(), args={**call().args, "K8S_POD_NAME": "other"}))
    with pytest.raises(IntentError, match="the runtime attaches UID old"):
        decider(three).decide(replace(call(), args={**call().args, "K8S_POD_UID": "old"}))


def test_an_interface_of_the_runtime_s_name_has_to_be_among_them(three: AttachNode) -> None:
    three.add_pod("web", {"tenantNetwork": "ext", "name": "net0"})
    with pytest.raises(IntentError, match="none of its interfaces is called eth0"):
        decider(three).decide(call())


def test_the_networks_behind_aliases_are_waited_for_as_well(three: AttachNode) -> None:
    alias = NetworkKey(kind=NetworkKind.NAD, namespace="blue", name="alias")
    three.view.networks[alias] = network(alias, backend="nad", alias=EXT)
    three.view.networks[tenant_key("default")] = network(
        tenant_key("default"), backend="macvlan", host_device=three.parent, alias=FRONT
    )
    three.add_pod("web")
    (spec,) = decider(three).decide(call()).specs
    assert FRONT in three.view.asked[-1]
    assert spec.network.key == FRONT


def test_the_quotas_of_the_namespace_hold(three: AttachNode) -> None:
    quotas = replace(TenantConfigSpec(name="t").quotas, interfaces_per_pod=2, addresses=9)
    three.view.tenant_configs = (TenantConfigSpec(name="t", quotas=quotas),)
    with pytest.raises(IntentError, match="may have 2 interfaces"):
        decider(three).decide(call())
    three.add_pod("web", {"tenantNetwork": "ext", "ip": "dynamic"})
    assert decider(three).decide(call()).identity.quota == 9


def test_only_networks_that_wait_for_their_pods_are_asked_about(three: AttachNode) -> None:
    specs = decider(three).decide(call()).specs
    nad = NetworkKey(kind=NetworkKind.NAD, namespace="blue", name="x")

    def bare(key: NetworkKey, uid: str) -> InterfaceSpec:
        unasked = replace(specs[0].ip, mode="absent")  # type: ignore[arg-type]
        made = network(key, uid=uid)
        return replace(specs[0], network=made, ip=unasked, ip6=unasked)

    waiting, gone = bare(EXT, "u1"), bare(EXT, str(EXT))
    assert [each.uid for each in without_lease([waiting, gone, bare(nad, "u2")])] == ["u1"]
    assert without_lease(specs) == []

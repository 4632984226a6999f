"""NetworkAttachmentDefinitions, configurations of the node, and pods whose first interface another
plugin has made: which interfaces they come to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from danmpy.api.dialects.reading import read_pod
from danmpy.api.dialects.rules import any_ask
from danmpy.api.specs import (
    AddressAsk,
    AddressMode,
    InterfaceAsk,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    PluginAsk,
)
from danmpy.attach.deciding.resolve import ResolveContext, examine, resolve
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.errors import ConflictError, IntentError
from support.specs import ask, cluster_key, network, pod, static, tenant_key

ANY = AddressAsk(mode=AddressMode.ANY)
DYNAMIC = AddressAsk(mode=AddressMode.DYNAMIC)
CONTEXT = ResolveContext(container_id="c0ffee")
TENANT, CLUSTER = tenant_key("data"), cluster_key("data")


def nad_key(name: str, namespace: str = "blue") -> NetworkKey:
    return NetworkKey(kind=NetworkKind.NAD, namespace=namespace, name=name)


DATA, NODE = nad_key("data"), nad_key("flannel", "")


def nad(key: NetworkKey = DATA, **more: Any) -> NetworkSpec:
    return network(key, **{"backend": "nad", "host_device": "", "conf": "{}", **more})


def asking(key: NetworkKey = DATA, **more: Any) -> InterfaceAsk:
    return ask(key, ANY, **{"ip6": ANY, "name": "net1", **more})


def solve(
    *asks: InterfaceAsk, networks: Iterable[NetworkSpec] = (), **context: Any
) -> tuple[InterfaceSpec, ...]:
    known = {spec.key: spec for spec in networks}
    return resolve(pod(), asks, known, replace(CONTEXT, **context))


def refusal(*asks: InterfaceAsk, **more: Any) -> str:
    with pytest.raises(IntentError) as caught:
        solve(*asks, **more)
    assert caught.value.hint
    return str(caught.value)


def test_a_delegate_makes_it_whatever_the_definition_is_called() -> None:
    plugin = PluginAsk(ips=("10.9.0.5/16",), bandwidth={"ingressRate": 1})
    (spec,) = solve(asking(plugin=plugin, mac="02:00:00:00:00:01"), networks=[nad()])
    assert (spec.backend, spec.name, spec.owns_addresses) == (Backend.DELEGATE, "net1", False)
    assert spec.plugin == plugin, "its plugin has the addresses, so it is asked for them"
    assert (spec.ip, spec.ip6, spec.mac) == (AddressAsk(), AddressAsk(), "02:00:00:00:00:01")


def test_a_pool_of_ours_gives_dynamic_addresses_and_takes_the_named_ones() -> None:
    pooled = nad(v4="10.0.0.0/24", v6="fd00::/64")
    (spec,) = solve(asking(), networks=[pooled])
    assert (spec.ip, spec.ip6, spec.owns_addresses) == (DYNAMIC, DYNAMIC, True)
    named = asking(plugin=PluginAsk(ips=("10.0.0.9/24",)), claim="db.web")
    (spec,) = solve(named, networks=[pooled])
    assert (spec.ip, spec.ip6, spec.plugin) == (static("10.0.0.9"), DYNAMIC, PluginAsk())
    assert spec.claim == "db.web"
    outside = asking(plugin=PluginAsk(ips=("10.7.0.9",)))
    assert "10.7.0.9 is not in 10.0.0.0/24" in refusal(outside, networks=[pooled])


def test_a_claim_needs_addresses_that_danmpy_gives() -> None:
    said = refusal(asking(claim="db.web"), networks=[nad()])
    assert "db.web" in said
    assert "danmpy does not give them out" in said


def test_a_configuration_of_the_node_needs_no_object() -> None:
    (spec,) = solve(asking(NODE, name=None))
    assert (spec.name, spec.backend) == ("eth0", Backend.DELEGATE)
    assert spec.network.network_id == "flannel"
    assert spec.network.uid == "conf:flannel"
    assert spec.network.conf == ""
    assert spec.asked == ""


def test_a_name_that_is_no_definition_may_be_a_network_of_danm() -> None:
    wanted = asking(others=(TENANT, CLUSTER))
    (spec,) = solve(wanted, networks=[network(CLUSTER, v4="10.0.0.0/24")])
    assert (spec.network.key, spec.backend) == (CLUSTER, Backend.MACVLAN)
    assert spec.asked == "blue/data", "so the pod knows it again in its status"
    (spec,) = solve(wanted, networks=[network(CLUSTER), nad()])
    assert (spec.network.key, spec.asked) == (DATA, "")


def test_a_definition_that_was_rejected_is_not_passed_over() -> None:
    said = refusal(
        asking(others=(TENANT,)),
        networks=[network(TENANT)],
        rejected={DATA: "its config is no JSON"},
    )
    assert "its config is no JSON" in said


def test_an_alias_is_the_network_that_it_names() -> None:
    target = network(TENANT, v4="10.0.0.0/24")
    alias = nad(nad_key("web"), alias=TENANT)
    named = asking(alias.key, plugin=PluginAsk(ips=("10.0.0.9",), gateways=()))
    gateway = IPv4Address("10.0.0.1")
    (spec,) = solve(named, networks=[alias, replace(target, gateway=gateway)])
    assert (spec.network.key, spec.backend, spec.ip) == (
        TENANT,
        Backend.MACVLAN,
        static("10.0.0.9"),
    )
    assert spec.asked == "blue/web"
    assert spec.default_gateways == (gateway,)


@pytest.mark.parametrize(
    ("target", "networks", "words"),
    [
        (TENANT, (), "which does not exist"),
        (tenant_key("data", "red"), (network(tenant_key("data", "red")),), "another namespace"),
        (CLUSTER, (network(CLUSTER, allowed_tenants=frozenset({"red"})),), "AllowedTenants"),
        (TENANT, (network(TENANT, terminating=True),), "being deleted"),
    ],
)
def test_an_alias_opens_no_door_that_is_shut(
    target: NetworkKey, networks: tuple[NetworkSpec, ...], words: str
) -> None:
    alias = nad(nad_key("web"), alias=target)
    assert words in refusal(asking(alias.key), networks=[alias, *networks])


def test_an_unknown_definition_is_told_with_what_there_is() -> None:
    assert "did you mean data?" in refusal(asking(nad_key("dat")), networks=[nad()])
    said = refusal(asking(), networks=[network(TENANT)])
    assert "refer to it with tenantNetwork" in said
    said = refusal(ask(TENANT), networks=[nad()])
    assert "refer to it with k8s.v1.cni.cncf.io/networks" in said


def test_what_only_plugins_can_do_refuses_a_pod_on_a_network_that_danmpy_makes() -> None:
    wanted = asking(
        others=(TENANT,), plugin=PluginAsk(bandwidth={"ingressRate": 1}, cni_args={"a": 1})
    )
    networks = [network(TENANT)]
    said = refusal(wanted, networks=networks)
    assert "bandwidth cannot be honoured" in said
    assert "npwg.strict" in said
    (spec,) = solve(wanted, networks=networks, strict=False)
    assert (spec.ignored, spec.plugin) == (("bandwidth",), PluginAsk())
    assert solve(asking(plugin=wanted.plugin), networks=[nad()])[0].ignored == ()


# Configurations of the node that are somebody's

SECRET = network(
    cluster_key("secret"),
    network_id="flannel",
    backend="flannel",
    host_device="",
    allowed_tenants=frozenset({"red"}),
)
NAMED_FLANNEL = nad(nad_key("flannel"), conf="")


@pytest.mark.parametrize("key", [NODE, NAMED_FLANNEL.key])
def test_a_file_s_name_is_no_way_around_allowed_tenants(key: NetworkKey) -> None:
    wanted = asking(key, place="cni[0]")
    said = refusal(wanted, networks=[SECRET, NAMED_FLANNEL])
    assert "cni[0]" in said
    assert "flannel is that of ClusterNetwork/secret" in said
    assert "namespace blue is not among its AllowedTenants" in said
    (found,) = examine(pod(), (wanted,), {SECRET.key: SECRET, key: NAMED_FLANNEL}, CONTEXT)
    assert isinstance(found, IntentError)
    for tenants in (None, frozenset({"blue", "red"})):
        opened = replace(SECRET, allowed_tenants=tenants)
        (spec,) = solve(wanted, networks=[opened, NAMED_FLANNEL])
        assert spec.barred == {}


def test_another_name_goes_with_the_files_that_it_must_not_lead_to() -> None:
    (spec,) = solve(asking(nad_key("cbr0", ""), place="cni[0]"), networks=[SECRET])
    assert spec.barred == {"flannel": SECRET.key}
    own = nad(nad_key("flannel"), conf='{"type": "ptp"}')
    assert solve(asking(own.key, place="x"), networks=[SECRET, own])[0].barred == {}


@pytest.mark.parametrize("backend", ["macvlan", "ipvlan", "sriov", "bridge"])
def test_a_network_without_a_file_bars_none(backend: str) -> None:
    without = replace(SECRET, backend=backend)
    assert solve(asking(NODE, place="cni[0]"), networks=[without])[0].barred == {}
    if backend == "bridge":
        said = refusal(
            asking(NODE, place="cni[0]"), networks=[without], conf_names=frozenset({"flannel"})
        )
        assert "ClusterNetwork/secret" in said


def test_what_the_cluster_gives_to_every_pod_is_its_operator_s_choice() -> None:
    assert solve(any_ask(NODE), networks=[SECRET])[0].barred == {}


# After another plugin


def test_behind_another_plugin_the_names_begin_with_the_second() -> None:
    specs = solve(
        ask(TENANT), ask(CLUSTER), networks=[network(TENANT), network(CLUSTER)], has_primary=False
    )
    assert [spec.name for spec in specs] == ["eth1", "eth2"]
    assert solve(has_primary=False) == ()


def test_the_interface_of_the_other_plugin_is_not_taken_from_it() -> None:
    said = refusal(ask(TENANT, name="eth0"), networks=[network(TENANT)], has_primary=False)
    assert "eth0 is the interface that another plugin has made" in said


def test_one_definition_twice_is_two_interfaces_but_not_of_one_mac() -> None:
    mac = "02:00:00:00:00:01"
    first, second = solve(asking(), asking(name="net2"), networks=[nad()])
    assert (first.network.key, second.network.key) == (DATA, DATA)
    with pytest.raises(ConflictError, match="same MAC"):
        solve(asking(mac=mac), asking(mac=mac, name="net2"), networks=[nad()])


@pytest.mark.parametrize(
    ("annotations", "place"),
    [
        ({"k8s.v1.cni.cncf.io/networks": "data,nosuch"}, "k8s.v1.cni.cncf.io/networks[1]"),
        ({"v1.multus-cni.io/default-network": "nosuch"}, "v1.multus-cni.io/default-network[0]"),
        ({"networks": "data,nosuch", "cni": ""}, "networks[1]"),
        ({"networks": '{"ports": [{"attach_to_network": "nosuch"}]}'}, "networks.ports[0]"),
    ],
)
def test_a_network_that_is_missing_is_told_with_the_item_that_names_it(
    annotations: dict[str, str], place: str
) -> None:
    speaks = replace(pod(), annotations=annotations)
    networks = {spec.key: spec for spec in (nad(), nad(nad_key("default")), network(CLUSTER))}
    networks[cluster_key("default")] = network(cluster_key("default"))
    with pytest.raises(IntentError) as caught:
        resolve(speaks, read_pod(speaks).interfaces, networks, CONTEXT)
    assert place in caught.value.message
    assert "nosuch" in caught.value.message

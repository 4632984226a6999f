from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.dialects import npwg
from danmpy.api.dialects.rules import NO_RULES, DialectRules
from danmpy.api.specs import AddressMode, Dialect, InterfaceAsk
from support.dialects import annotated, read, refusal, shown

NAD = "NetworkAttachmentDefinition"
DEFAULT = "DanmNet/blue/default"


def test_both_forms_say_the_same() -> None:
    short = read(npwg="net-a, red/net-b ,net-c@data0,red/net-d@data1")
    long = read(
        npwg=[
            {"name": "net-a"},
            {"name": "net-b", "namespace": "red"},
            {"name": "net-c", "interface": "data0"},
            {"name": "net-d", "namespace": "red", "interfaceRequest": "data1"},
        ]
    )
    assert short == long
    assert short.dialect is Dialect.NPWG
    assert shown(short) == [
        (None, DEFAULT),
        ("net1", f"{NAD}/blue/net-a"),
        ("net2", f"{NAD}/red/net-b"),
        ("data0", f"{NAD}/blue/net-c"),
        ("data1", f"{NAD}/red/net-d"),
    ]
    assert all(ask.ip.mode is ask.ip6.mode is AddressMode.ANY for ask in short.interfaces)


def test_a_named_interface_uses_up_its_number() -> None:
    """As in Multus: default, macvlan1, unnamed gives eth0, macvlan1, net2."""
    assert [name for name, _ in shown(read(npwg="a@macvlan1,b"))] == [None, "macvlan1", "net2"]


def test_a_name_of_the_own_namespace_can_be_a_danm_networks() -> None:
    own, foreign = read(npwg="a,red/a").interfaces[1:]
    assert list(map(str, own.others)) == [
        "TenantNetwork/blue/a",
        "DanmNet/blue/a",
        "ClusterNetwork/a",
    ]
    assert foreign.others == (), "nobody reaches into the TenantNetworks of another namespace"
    (_, said) = read(npwg=[{"name": "a", "namespace": "blue"}]).interfaces
    assert said.others == own.others


@pytest.mark.parametrize("text", ["", "  ", "[]", " [ ] "])
def test_an_empty_annotation_asks_nothing_beyond_the_default_network(text: str) -> None:
    asked = read(npwg=text)
    assert shown(asked) == [(None, DEFAULT)]
    assert asked.answers_primary_only


def test_the_annotation_for_the_default_network_replaces_the_first() -> None:
    asked = read(DialectRules(default_network="flannel"), npwg="a", default="net-x")
    assert shown(asked) == [(None, f"{NAD}/kube-system/net-x"), ("net1", f"{NAD}/blue/a")]
    assert list(map(str, asked.interfaces[0].others)) == [f"{NAD}/blue/net-x"]
    alone = read(default="red/net-x")
    assert shown(alone) == [(None, f"{NAD}/red/net-x")]
    assert alone.dialect is Dialect.NPWG


def test_the_first_network_may_be_asked_for_with_every_key() -> None:
    (ask,) = read(default=[{"name": "x", "namespace": "red", "ips": ["10.0.0.7"]}]).interfaces
    assert ask.plugin.ips == ("10.0.0.7",)


@pytest.mark.parametrize("text", ["", " ", "[]"])
def test_an_empty_annotation_for_the_default_network_changes_nothing(text: str) -> None:
    assert shown(read(npwg="a", default=text))[0] == (None, DEFAULT)


def test_a_pod_has_one_default_network() -> None:
    said = refusal(default="a,b")
    assert said.startswith("v1.multus-cni.io/default-network: it names 2 networks")


def test_behind_another_plugin_the_first_network_cannot_be_replaced() -> None:
    assert "a plugin before danmpy" in refusal(default="a", has_primary=False)


def test_behind_another_plugin_the_numbers_stay() -> None:
    asked = read(npwg="a,b@data0,c", has_primary=False)
    assert [name for name, _ in shown(asked)] == ["net1", "data0", "net3"]


def test_the_cluster_can_give_every_pod_more_networks() -> None:
    rules = DialectRules(default_network="flannel", more_networks=("oam", "infra/x"))
    wanted = [
        (None, f"{NAD}/flannel"),
        ("net1", f"{NAD}/oam"),
        ("net2", f"{NAD}/infra/x"),
    ]
    assert shown(read(rules, npwg="a")) == [*wanted, ("net3", f"{NAD}/blue/a")]
    assert shown(read(rules)) == wanted
    assert read(rules).answers_primary_only, "the runtime knows nothing of more networks"
    assert shown(read(rules, namespace="kube-system")) == [(None, f"{NAD}/flannel")]


def test_a_name_that_the_place_gives_to_another_is_refused() -> None:
    said = refusal(npwg="a@net2,b")
    assert "positions 1 and 2 would both have the interface net2" in said
    assert "both have the interface data0" in refusal(npwg="a@data0,b@data0")
    assert "positions 1 and 2" in refusal(DialectRules(more_networks=("oam",)), npwg="a@net1")


def test_the_default_route_is_on_one_network_only() -> None:
    gateway = {"default-route": ["10.0.0.1"]}
    said = refusal(npwg=[{"name": "a"} | gateway, {"name": "b", "default-route": []}])
    assert said.startswith("k8s.v1.cni.cncf.io/networks[1]: it asks for default-route")
    assert "k8s.v1.cni.cncf.io/networks[0]" in said
    both = refusal(
        npwg=[{"name": "a"} | gateway], default=[{"name": "x", "namespace": "blue"} | gateway]
    )
    assert "v1.multus-cni.io/default-network[0]" in both


CLOSED = DialectRules(namespace_isolation=True)


@pytest.mark.parametrize("text", ["red/a", "b,red/a"])
def test_with_isolation_networks_of_other_namespaces_are_refused_by_the_name_of_the_rule(
    text: str,
) -> None:
    said = refusal(CLOSED, npwg=text)
    assert f"networks[{text.count(',')}]" in said
    assert "NetworkAttachmentDefinition/red/a belongs to another namespace" in said
    assert "npwg.namespace_isolation" in said
    assert "npwg.global_namespaces (default)" in said


def test_isolation_leaves_what_everybody_may_use() -> None:
    assert len(read(CLOSED, npwg="blue/a,b,default/c").interfaces) == 4
    rules = DialectRules(
        namespace_isolation=True, default_network="infra/net", more_networks=("infra/x",)
    )
    assert len(read(rules, npwg="a").interfaces) == 3, "what the cluster gives is nobody's choice"


def test_isolation_counts_for_the_default_network_but_for_the_system_namespace() -> None:
    assert "npwg.namespace_isolation" in refusal(CLOSED, default="red/a")
    assert len(read(CLOSED, default="a").interfaces) == 1
    assert len(read(CLOSED, default="kube-system/a").interfaces) == 1


names = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
items = st.tuples(names, st.none() | names, st.booleans())


@given(st.lists(items, max_size=5))
def test_every_selection_reads_the_same_in_both_forms(wanted: list[tuple[str, str, bool]]) -> None:
    short = ",".join(
        (f"{space}/" if space else "") + name + (f"@if{at}" if is_named else "")
        for at, (name, space, is_named) in enumerate(wanted)
    )
    long = [
        {"name": name}
        | ({"namespace": space} if space else {})
        | ({"interface": f"if{at}"} if is_named else {})
        for at, (name, space, is_named) in enumerate(wanted)
    ]
    assert read(npwg=short) == read(npwg=long)


@given(st.lists(st.none() | st.sampled_from(["net1", "net2", "a"]), max_size=4), st.booleans())
def test_names_are_distinct_or_refused(wanted: list[str | None], has_primary: bool) -> None:
    asks = [
        InterfaceAsk(network=ask.network, name=name)
        for ask, name in zip(
            npwg.parse_selection(annotated(npwg=",".join("a" * len(wanted)) or ""), NO_RULES),
            wanted,
            strict=True,
        )
    ]
    try:
        named = npwg.with_names(asks, annotated(), has_primary=has_primary)
    except npwg.IntentError:
        given_names = [name for name in wanted if name]
        assert len(set(given_names)) < len(given_names) or any(n[:3] == "net" for n in given_names)
        return
    found = [ask.name for ask in named if ask.name]
    assert len(found) == len(set(found))

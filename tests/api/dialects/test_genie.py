from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.dialects.genie import render_preferences
from danmpy.api.dialects.reading import read_pod
from danmpy.api.dialects.rules import DialectRules
from danmpy.api.specs import AddressMode, Dialect
from danmpy.errors import IntentError
from support.dialects import annotated, first_names, read, refusal, shown, written

NAD = "NetworkAttachmentDefinition"


def test_plugins_are_configurations_of_the_node_in_their_order() -> None:
    asked = read(cni="canal, weave,romana")
    assert asked.dialect is Dialect.GENIE
    assert not asked.answers_primary_only, "CNI-Genie answers with all of them"
    assert shown(asked) == [
        (None, f"{NAD}/canal"),
        ("eth1", f"{NAD}/weave"),
        ("eth2", f"{NAD}/romana"),
    ]
    assert all(ask.ip.mode is AddressMode.ANY for ask in asked.interfaces)


def test_names_that_are_not_given_skip_those_that_are() -> None:
    assert first_names(read(cni="a@eth1,b,c@eth4,d,e").interfaces) == [
        None, "eth1", "eth4", "eth2", "eth3",
    ]  # fmt: skip


def test_the_interface_that_is_called_eth0_comes_first_as_the_runtime_asks_for_it() -> None:
    asked = read(cni="a@eth4,b,c@eth0")
    assert shown(asked) == [(None, f"{NAD}/c"), ("eth4", f"{NAD}/a"), ("eth1", f"{NAD}/b")]
    assert shown(read(cni="a@eth4,b")) == [(None, f"{NAD}/b"), ("eth4", f"{NAD}/a")]


def test_behind_another_plugin_eth0_is_taken() -> None:
    assert first_names(read(cni="a,b", has_primary=False).interfaces) == ["eth1", "eth2"]


def test_the_same_plugin_may_stand_there_twice() -> None:
    assert shown(read(cni="a,a")) == [(None, f"{NAD}/a"), ("eth1", f"{NAD}/a")]


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_annotation_alone_is_the_default_network(text: str) -> None:
    asked = read(cni=text)
    assert asked.dialect is Dialect.GENIE
    assert shown(asked) == [(None, "DanmNet/blue/default")]
    other = read(DialectRules(default_network="flannel"), cni=text)
    assert shown(other) == [(None, f"{NAD}/flannel")]


def test_logical_networks_are_networks_of_the_pods_namespace() -> None:
    asked = read(cni="", networks="net-a,net-b@eth3")
    assert asked.dialect is Dialect.GENIE
    assert shown(asked) == [
        (None, "TenantNetwork/blue/net-a"),
        ("eth3", "TenantNetwork/blue/net-b"),
    ]
    assert list(map(str, asked.interfaces[0].others)) == [
        "DanmNet/blue/net-a",
        "ClusterNetwork/net-a",
        f"{NAD}/blue/net-a",
    ]
    assert read(networks="net-a,net-b@eth3") == asked


def test_an_empty_cni_leaves_the_choice_to_the_standards_annotation() -> None:
    asked = read(cni="", npwg="net-a")
    assert asked == read(npwg="net-a")


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({"cni": "a,"}, "cni[1]: there is no name"),
        ({"cni": "a,,b"}, "cni[1]: there is no name"),
        ({"cni": "@eth1"}, "cni[0]: there is no name"),
        ({"cni": "a@"}, "cni[0]: one name of an interface belongs behind @"),
        ({"cni": "a@b@c"}, "cni[0]: one name of an interface belongs behind @"),
        ({"cni": "a@eth1,b@eth1"}, "cni[1]: it asks for interface eth1, and so does item 0"),
        ({"cni": "a/b"}, "cni[0]: 'a/b' is no name of a CNI configuration"),
        ({"cni": "../a"}, "cni[0]: '../a' is no name"),
        ({"cni": "a b"}, "cni[0]: 'a b' is no name"),
        ({"cni": "a@lo"}, "cni[0]: the name lo"),
        ({"cni": "a@" + "x" * 16}, "cni[0]: 'xxxxxxxxxxxxxxxx' cannot be the name"),
        ({"cni": "a", "networks": "b"}, "cni: it names plugins, and networks names logical"),
        ({"networks": "A"}, "networks[0]: 'A' is no name that a network can have"),
        ({"networks": "red/a"}, "networks[0]: 'red/a' is no name"),
        ({"networks": "a@eth1,b@eth1"}, "networks[1]: it asks for interface eth1"),
        ({"networks": '["a"]'}, "networks: it is neither a list with commas (CNI-Genie) nor"),
        ({"networks": '"a"'}, "networks: it is neither"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_annotation_and_item(
    annotations: dict[str, str], said: str
) -> None:
    assert refusal(**annotations).startswith(said)


@given(written(["a"]), st.sampled_from(["", None]) | written(["a"]))
def test_whatever_is_written_is_read_or_refused(cni: str, networks: str | None) -> None:
    more = {} if networks is None else {"networks": networks}
    with suppress(IntentError):
        read_pod(annotated(cni=cni, **more))


plugins = st.tuples(
    st.from_regex(r"[a-z][a-z0-9]{0,4}", fullmatch=True),
    st.none() | st.sampled_from([f"eth{n}" for n in range(6)] + ["x0"]),
)


@given(st.lists(plugins, min_size=1, max_size=6, unique_by=lambda each: each[1] or object()))
def test_every_plugin_has_an_interface_of_a_name_of_its_own(
    wanted: list[tuple[str, str | None]],
) -> None:
    text = ",".join(name + (f"@{at}" if at else "") for name, at in wanted)
    asks = read(cni=text).interfaces
    names = [ask.name or "eth0" for ask in asks]
    assert len(set(names)) == len(names) == len(wanted)
    assert {(ask.network.name, ask.name or "eth0") for ask in asks} >= {
        (name, at) for name, at in wanted if at
    }
    assert None not in first_names(asks[1:])


# multi-ip-preferences


def test_preferences_are_filled_in_as_cni_genie_writes_them() -> None:
    text = render_preferences([("eth0", ["10.0.0.5/24", "2001:db8::5/64"]), ("eth1", ["10.1.0.9"])])
    assert json.loads(text) == {
        "multi_entry": 3,
        "ips": {
            "ip1": {"ip": "10.0.0.5", "interface": "eth0"},
            "ip2": {"ip": "2001:db8::5", "interface": "eth0"},
            "ip3": {"ip": "10.1.0.9", "interface": "eth1"},
        },
    }


def test_one_interface_with_addresses_is_no_choice() -> None:
    assert render_preferences([]) == ""
    assert render_preferences([("eth0", ["10.0.0.5", "2001:db8::5"]), ("eth1", [])]) == ""

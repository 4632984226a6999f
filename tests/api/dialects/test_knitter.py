from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.dialects.reading import read_pod
from danmpy.api.dialects.rules import DialectRules
from danmpy.api.specs import AddressAsk, AddressMode, Dialect, InterfaceAsk
from danmpy.api.words import is_link_name
from danmpy.errors import IntentError
from support.dialects import annotated, first_names, read, refusal, shown, written

KEYS = [
    "ports", "attach_to_network", "attributes", "nic_name", "nic_type", "function", "accelerate",
    "ip_addr", "ip_group_name", "combinable", "metadata",
]  # fmt: skip
DEFAULT = (None, "DanmNet/blue/default")


def port(network: str = "media", **attributes: Any) -> dict[str, Any]:
    return {"attach_to_network": network, "attributes": attributes}


def asks(*ports: Any) -> tuple[InterfaceAsk, ...]:
    return read(networks={"ports": list(ports)}).interfaces


def wrong(*ports: Any) -> str:
    return refusal(networks={"ports": list(ports)})


def test_the_ports_of_the_documentation_are_understood() -> None:
    asked = read(
        networks={
            "ports": [
                port("net_api".replace("_", "-"), nic_name="eth0", function="std",
                     nic_type="normal", accelerate="false"),
                port("control", nic_name="eth1", function="control", nic_type="normal",
                     accelerate="false"),
                port("media", nic_name="nm0", function="media", nic_type="direct",
                     accelerate="true", ip_group_name="g1", combinable="true"),
            ]
        }
    )  # fmt: skip
    assert asked.dialect is Dialect.KNITTER
    assert shown(asked) == [
        (None, "TenantNetwork/blue/net-api"),
        ("eth1", "TenantNetwork/blue/control"),
        ("nm0", "TenantNetwork/blue/media"),
    ]
    media = asked.interfaces[2]
    assert list(map(str, media.others)) == ["DanmNet/blue/media", "ClusterNetwork/media"]
    assert media.claim == "g1.web-0"
    assert media.needs_device
    assert not asked.interfaces[1].needs_device
    assert media.ip.mode is media.ip6.mode is AddressMode.ANY


def test_the_runtime_gets_the_default_network_when_no_port_is_called_eth0() -> None:
    wanted = [DEFAULT, ("nm0", "TenantNetwork/blue/media")]
    assert shown(read(networks={"ports": [port(nic_name="nm0")]})) == wanted
    rules = DialectRules(default_network="flannel")
    asked = read(rules, networks={"ports": [port(nic_name="nm0")]})
    assert shown(asked)[0] == (None, "NetworkAttachmentDefinition/flannel")


def test_the_port_called_eth0_comes_first_wherever_it_stands() -> None:
    found = asks(port("a", nic_name="nm0"), port("b", nic_name="eth0"))
    assert [ask.network.name for ask in found] == ["b", "a"]
    assert first_names(found) == [None, "nm0"]


def test_behind_another_plugin_nothing_is_added() -> None:
    asked = read(networks={"ports": [port(nic_name="nm0")]}, has_primary=False)
    assert shown(asked) == [("nm0", "TenantNetwork/blue/media")]


def test_without_a_name_the_network_gives_it_cut_as_knitter_cuts_it() -> None:
    found = asks(port("media"), port("control-plane"), port("control-plant"), port("media"))
    assert first_names(found)[1:] == ["eth_media", "eth_control-", "eth_control2", "eth_media2"]


def test_a_name_that_somebody_asks_for_is_not_given_away() -> None:
    assert first_names(asks(port("a"), port("b", nic_name="eth_a")))[1:] == ["eth_a2", "eth_a"]


@pytest.mark.parametrize("attributes", [None, {}, {"nic_name": "", "ip_addr": None}])
def test_attributes_may_be_left_out(attributes: Any) -> None:
    (_, ask) = asks({"attach_to_network": "a", "attributes": attributes})
    assert (ask.name, ask.claim, ask.needs_device) == ("eth_a", "", False)
    assert asks({"attach_to_network": "a"})[1] == ask


def test_a_fixed_address_is_asked_of_the_network() -> None:
    (_, ask) = asks(port(ip_addr="10.0.0.7"))
    assert ask.ip == AddressAsk(mode=AddressMode.STATIC, address=ip_address("10.0.0.7"))
    assert ask.ip6.mode is AddressMode.ANY
    (_, ask) = asks(port(ip_addr="2001:db8::7"))
    assert str(ask.ip6.address) == "2001:db8::7"


@pytest.mark.parametrize(
    ("attributes", "needs"),
    [
        ({"nic_type": "normal", "accelerate": "false"}, False),
        ({"nic_type": "direct"}, True),
        ({"nic_type": "physical"}, True),
        ({"accelerate": "true"}, True),
        ({"accelerate": True}, True),
        ({"accelerate": False}, False),
    ],
)
def test_some_ports_need_a_device(attributes: dict[str, Any], needs: bool) -> None:
    assert asks(port(**attributes))[1].needs_device is needs


def test_combinable_ports_of_one_network_share_an_interface() -> None:
    found = asks(
        port("a", function="control", combinable="true", nic_name="nm0"),
        port("b", combinable="true"),
        port("a", function="media", combinable="true", nic_name="nm1", ip_addr="10.0.0.7"),
    )
    assert [(ask.network.name, ask.name) for ask in found[1:]] == [("a", "nm0"), ("b", "eth_b")]
    assert str(found[1].ip.address) == "10.0.0.7"


def test_a_shared_interface_is_eth0_when_one_of_its_ports_is() -> None:
    (ask,) = asks(
        port("a", function="oam", combinable="true", nic_name="nm0"),
        port("a", function="std", combinable="true", nic_name="eth0"),
    )
    assert ask.name is None


@pytest.mark.parametrize(
    "other",
    [
        {"combinable": "false"},
        {"nic_type": "direct"},
        {"accelerate": "true"},
        {"ip_group_name": "g"},
    ],
)
def test_ports_that_differ_in_kind_are_not_combined(other: dict[str, str]) -> None:
    first = port("a", function="control", combinable="true")
    second = port("a", **({"function": "media", "combinable": "true"} | other))
    assert len(asks(first, second)) == 3


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ([port(nic_name="x" * 13)], "ports[0].attributes.nic_name: 'xxxxxxxxxxxxx' is longer"),
        ([port(nic_name="a/b")], "ports[0].attributes.nic_name: 'a/b' cannot be the name"),
        ([port(nic_name="lo")], "ports[0].attributes.nic_name: the name lo"),
        ([port(nic_name=5)], "ports[0].attributes.nic_name: it is a number and not text"),
        ([port(), port(nic_type="vf")], "ports[1].attributes.nic_type: 'vf' is no type of a NIC"),
        ([port(accelerate="yes")], "ports[0].attributes.accelerate: it is neither true nor false"),
        ([port(combinable=1)], "ports[0].attributes.combinable: it is neither true nor false"),
        ([port(ip_addr="10.0.0")], "ports[0].attributes.ip_addr: '10.0.0' is no IPv4 address"),
        ([port(ip_addr="10.0.0.7/24")], "ports[0].attributes.ip_addr: "),
        ([port(ip_group_name="G 1")], "ports[0].attributes.ip_group_name: 'G 1' is no name"),
        ([port(ip_group_name="g" * 250)], "ip_group_name: with the name of the pod it has more"),
        ([port(nic_nme="x")], "ports[0].attributes: unknown key 'nic_nme' (did you mean nic_name?"),
        ([port(nic_name="a"), port("b", nic_name="a")],
         "ports[1].attributes.nic_name: a is also the name of networks.ports[0]"),
        ([{"attributes": {}}], "ports[0].attach_to_network: it is null and not text"),
        ([{"attach_to_network": "A"}], "ports[0].attach_to_network: 'A' is no name"),
        ([{"attach_to_network": "a", "x": 1}], "ports[0]: unknown key 'x'"),
        ([{"attach_to_network": "a", "attributes": []}], "ports[0].attributes: it is a list"),
        (["a"], "ports[0]: it is text and not an object"),
        ([], "ports: the list is empty"),
        ([port(function="oam", combinable="true")] * 2,
         "ports[1].attributes.function: 'oam' is on the shared interface of media already"),
        ([port(function="oam", combinable="true", ip_addr="10.0.0.7"),
          port(function="std", combinable="true", ip_addr="10.0.0.8")],
         "ports[1].attributes.ip_addr: it is 10.0.0.8"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_refused_with_port_and_attribute(ports: list[Any], said: str) -> None:
    assert f"networks.{said}" in wrong(*ports) or said in wrong(*ports)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "networks: no JSON"),
        ("{}", "networks.ports: it is null and not a list"),
        ('{"ports": {}}', "networks.ports: it is an object and not a list"),
        ('{"ports": [], "x": 1}', "networks: unknown key 'x'"),
        ('{"ports": [{"attach_to_network": "a", "attach_to_network": "b"}]}', "stands twice"),
    ],
)
def test_a_malformed_annotation_is_refused(text: str, said: str) -> None:
    assert said in refusal(networks=text)


@pytest.mark.parametrize("text", ["", '""', " "])
def test_an_empty_annotation_asks_for_nothing(text: str) -> None:
    asked = read(networks=text)
    assert (asked.dialect, shown(asked)) == (Dialect.SILENT, [DEFAULT])


@given(written(KEYS))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    with suppress(IntentError):
        read_pod(annotated(networks=text))


networks = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


@given(st.lists(networks, min_size=1, max_size=8))
def test_every_port_without_a_name_has_one_of_its_own_that_the_kernel_takes(
    wanted: list[str],
) -> None:
    found = asks(*map(port, wanted))[1:]
    names = [ask.name or "" for ask in found]
    assert len(set(names)) == len(wanted)
    assert all(is_link_name(name) and len(name) <= 12 for name in names)
    assert [ask.network.name for ask in found] == wanted

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.dialects.reading import read_pod
from danmpy.api.specs import InterfaceAsk, PluginAsk
from danmpy.errors import IntentError
from support.dialects import annotated, read, refusal, written

KEYS = [
    "name", "namespace", "interface", "interfaceRequest", "ips", "mac", "infiniband-guid",
    "portMappings", "bandwidth", "cni-args", "default-route", "ipam-claim-reference",
    "hostPort", "containerPort", "protocol", "hostIP", "ingressRate", "ingressBurst", "x.y/z",
]  # fmt: skip


def item(**keys: Any) -> InterfaceAsk:
    """The interface of one item; an underscore in a key stands for a dash."""
    element = {"name": "a"} | {key.replace("_", "-"): value for key, value in keys.items()}
    return read(npwg=[element]).interfaces[1]


def wrong(**keys: Any) -> str:
    element = {"name": "a"} | {key.replace("_", "-"): value for key, value in keys.items()}
    said = refusal(npwg=[{"name": "good"}, element])
    assert said.startswith("k8s.v1.cni.cncf.io/networks[1]"), said
    return said.removeprefix("k8s.v1.cni.cncf.io/networks[1]")


def test_every_key_of_the_standard_is_understood() -> None:
    ask = item(
        namespace="red",
        interface="data0",
        ips=["10.0.0.7/24", "2001:DB8::7"],
        mac="02-00-00-00-00-0A",
        infiniband_guid="C2:11:22:33:44:55:66:77",
        portMappings=[
            {"hostPort": 8080, "containerPort": 80, "protocol": "UDP", "hostIP": "192.0.2.1"},
            {"hostPort": 8080, "containerPort": 80},
        ],
        bandwidth={"ingressRate": 1_000_000, "ingressBurst": 80_000, "egressRate": 5},
        cni_args={"labels": {"app": "web"}, "n": [1, None]},
        default_route=["10.0.0.1", "2001:db8::1"],
    )
    assert (str(ask.network), ask.name) == ("NetworkAttachmentDefinition/red/a", "data0")
    assert ask.mac == "02:00:00:00:00:0a"
    assert ask.plugin == PluginAsk(
        ips=("10.0.0.7/24", "2001:db8::7"),
        infiniband_guid="c2:11:22:33:44:55:66:77",
        port_mappings=(
            {"hostPort": 8080, "containerPort": 80, "protocol": "udp", "hostIP": "192.0.2.1"},
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        ),
        bandwidth={"ingressRate": 1_000_000, "ingressBurst": 80_000, "egressRate": 5},
        cni_args={"labels": {"app": "web"}, "n": [1, None]},
        gateways=(ip_address("10.0.0.1"), ip_address("2001:db8::1")),
    )


def test_nothing_said_is_nothing_asked() -> None:
    assert item().plugin == PluginAsk()
    assert item(ips=None, mac=None, bandwidth=None, default_route=None, interface=None) == item()
    assert item(mac="", interface="", namespace="", infiniband_guid="") == item()


def test_an_empty_default_route_is_not_the_same_as_none() -> None:
    assert item(default_route=[]).plugin.gateways == ()
    assert item().plugin.gateways is None


def test_a_claim_is_named_as_the_object_that_it_is() -> None:
    assert item(ipam_claim_reference="vm-1.net").claim == "IPAMClaim/vm-1.net"
    assert item(ipam_claim_reference="").claim == ""


def test_a_key_with_a_dot_is_somebody_elses() -> None:
    assert item(**{"example.com/colour": {"any": ["thing"]}, "a.b": 5}) == item()


def test_the_older_spelling_of_interface_counts_and_may_not_differ() -> None:
    assert item(interfaceRequest="x0").name == "x0"
    assert item(interfaceRequest="x0", interface="x0").name == "x0"
    assert wrong(interfaceRequest="x0", interface="y0").startswith(".interfaceRequest: it says x0")


PORT = {"hostPort": 8080, "containerPort": 80}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"name": None}, ".name: there is none"),
        ({"name": "A"}, ".name: 'A' is no name that a network can have"),
        ({"name": 5}, ".name: it is a number and not text"),
        ({"name": "red/a"}, ".name: 'red/a' is no name"),
        ({"namespace": "a.b"}, ".namespace: 'a.b' is no name of a namespace"),
        ({"namespace": 5}, ".namespace: it is a number"),
        ({"colour": 1}, ": unknown key 'colour'; the standard keeps keys without a dot"),
        ({"portmappings": [PORT]}, "did you mean portMappings?"),
        ({"interface": "x" * 16}, ".interface: 'xxxxxxxxxxxxxxxx' cannot be the name"),
        ({"interface": "lo"}, ".interface: the name lo"),
        ({"interface": ["x"]}, ".interface: it is a list and not text"),
        ({"ips": "10.0.0.7"}, ".ips: it is text and not a list"),
        ({"ips": []}, ".ips: the list is empty"),
        ({"ips": ["10.0.0"]}, ".ips[0]: '10.0.0' is no IPv4 address"),
        ({"ips": ["10.0.0.7", "fe80::1%eth0"]}, ".ips[1]: "),
        (
            {"ips": ["10.0.0.7/33"]},
            ".ips[0]: '33' is no prefix length (write a number from 0 to 32",
        ),
        ({"ips": ["10.0.0.7/255.255.255.0"]}, ".ips[0]: '255.255.255.0' is no prefix length"),
        ({"ips": ["10.0.0.7/"]}, ".ips[0]: '' is no prefix length"),
        ({"ips": ["224.0.0.1"]}, ".ips[0]: 224.0.0.1 is no address of one host"),
        ({"ips": ["10.0.0.7", "10.0.0.7"]}, ".ips[1]: 10.0.0.7 stands there twice"),
        ({"ips": [7]}, ".ips[0]: it is a number and not text"),
        ({"mac": "02:00"}, ".mac: '02:00' is no MAC address"),
        ({"mac": "01:00:00:00:00:01"}, ".mac: 01:00:00:00:00:01 is a group"),
        ({"mac": 5}, ".mac: it is a number"),
        ({"infiniband_guid": "c2:11"}, ".infiniband-guid: 'c2:11' is no GUID of 8 bytes"),
        ({"infiniband_guid": "c2:11-22:33:44:55:66:77"}, ".infiniband-guid: "),
        ({"portMappings": []}, ".portMappings: the list is empty"),
        ({"portMappings": PORT}, ".portMappings: it is an object and not a list"),
        ({"portMappings": [5]}, ".portMappings[0]: it is a number and not an object"),
        ({"portMappings": [{"hostPort": 1}]}, ".portMappings[0].containerPort: it is no port"),
        ({"portMappings": [PORT | {"hostPort": 0}]}, ".portMappings[0].hostPort: it is no port"),
        ({"portMappings": [PORT | {"hostPort": 65_536}]}, ".hostPort: it is no port"),
        ({"portMappings": [PORT | {"hostPort": "80"}]}, ".hostPort: it is no port"),
        ({"portMappings": [PORT | {"hostPort": True}]}, ".hostPort: it is no port"),
        ({"portMappings": [PORT | {"hostPort": 80.5}]}, ".hostPort: it is no port"),
        ({"portMappings": [PORT | {"protocol": "icmp"}]}, ".protocol: 'icmp' is no protocol"),
        ({"portMappings": [PORT | {"protocol": 6}]}, ".protocol: it is a number"),
        ({"portMappings": [PORT | {"hostIP": "x"}]}, ".hostIP: 'x' is no IPv4 address"),
        ({"portMappings": [PORT | {"hostport": 1}]}, "did you mean hostPort?"),
        ({"portMappings": [PORT, PORT]}, ".portMappings[1]: port 8080/tcp stands there twice"),
        ({"portMappings": [PORT, PORT | {"containerPort": 81}]}, "port 8080/tcp of the host leads"),
        ({"bandwidth": {}}, ".bandwidth: it is empty"),
        ({"bandwidth": 5}, ".bandwidth: it is a number and not an object"),
        ({"bandwidth": {"ingressRate": 0}}, ".bandwidth.ingressRate: it is no number of bits"),
        ({"bandwidth": {"ingressRate": -1}}, ".bandwidth.ingressRate: "),
        ({"bandwidth": {"ingressRate": 2**63}}, ".bandwidth.ingressRate: "),
        ({"bandwidth": {"ingressRate": "1M"}}, ".bandwidth.ingressRate: "),
        ({"bandwidth": {"ingressRate": True}}, ".bandwidth.ingressRate: "),
        ({"bandwidth": {"egressBurst": 5}}, ".bandwidth.egressBurst: it needs egressRate"),
        ({"bandwidth": {"rate": 5}}, ".bandwidth: unknown key 'rate'"),
        ({"cni_args": []}, ".cni-args: it is a list and not an object"),
        ({"cni_args": "a=b"}, ".cni-args: it is text"),
        ({"default_route": "10.0.0.1"}, ".default-route: it is text and not a list"),
        ({"default_route": ["x"]}, ".default-route[0]: 'x' is no IPv4 address"),
        ({"default_route": ["10.0.0.1/24"]}, ".default-route[0]: "),
        ({"default_route": ["10.0.0.1"] * 2}, ".default-route[1]: 10.0.0.1 stands there twice"),
        ({"ipam_claim_reference": "A"}, ".ipam-claim-reference: 'A' is no name"),
        ({"ipam_claim_reference": "c", "ips": ["10.0.0.7"]}, ".ipam-claim-reference: it stands "),
    ],
)
def test_what_breaks_a_rule_is_refused_with_item_and_key(keys: dict[str, Any], said: str) -> None:
    assert said in wrong(**keys)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,", "networks[1]: it is empty"),
        (",a", "networks[0]: it is empty"),
        ("a@", "networks[0]: one name of an interface belongs behind @"),
        ("a@b@c", "networks[0]: one name of an interface belongs behind @"),
        ("a@lo", "the name lo"),
        ("x/y/z", "networks[0]: 'x/y' is no name of a namespace"),
        ("/a", "networks[0]: '' is no name of a namespace"),
        ("red/", "networks[0]: '' is no name that a network can have"),
        ("A", "networks[0]: 'A' is no name that a network can have"),
        ("a b", "networks[0]: 'a b' is no name"),
        ('{"name": "a"}', "networks: it is an object and not a list"),
        ('"a"', "networks: it is text and not a list"),
        ('["a"]', "networks[0]: it is text and not an object"),
        ("[5]", "networks[0]: it is a number"),
        ("[{]", "networks: no JSON"),
        ('[{"name": "a", "name": "b"}]', "key 'name' stands twice"),
        ("[null]", "networks[0]: it is null"),
    ],
)
def test_a_malformed_annotation_is_refused_with_its_item(text: str, said: str) -> None:
    assert said in refusal(npwg=text)


def test_cni_args_have_a_bottom() -> None:
    deep: Any = 1
    for _ in range(31):
        deep = [deep]
    assert item(cni_args={"x": deep}).plugin.cni_args == {"x": deep}
    assert ".cni-args: it is nested deeper than 32 levels" in wrong(cni_args={"x": [deep]})


@given(written(KEYS))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    for word in ("npwg", "default"):
        with suppress(IntentError):
            read_pod(annotated(**{word: text}))


good = st.fixed_dictionaries(
    {"name": st.from_regex(r"[a-z]{1,5}", fullmatch=True)},
    optional={
        "namespace": st.from_regex(r"[a-z]{1,5}", fullmatch=True),
        "ips": st.lists(st.ip_addresses(network="10.0.0.0/8").map(str), min_size=1, unique=True),
        "mac": st.from_regex(r"02(:[0-9a-f]{2}){5}", fullmatch=True),
        "bandwidth": st.just({"ingressRate": 5}),
        "cni-args": st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3)),
    },
)


@given(st.lists(good, max_size=4))
def test_a_good_list_keeps_its_order_and_what_it_says(wanted: list[dict[str, Any]]) -> None:
    asks = read(npwg=wanted).interfaces[1:]
    for ask, said in zip(asks, wanted, strict=True):
        assert (ask.network.name, ask.network.namespace) == (
            said["name"], said.get("namespace", "blue"),
        )  # fmt: skip
        assert list(ask.plugin.ips) == said.get("ips", [])
        assert ask.mac == said.get("mac")
        assert ask.plugin.bandwidth == said.get("bandwidth", {})
        assert ask.plugin.cni_args == said.get("cni-args", {})

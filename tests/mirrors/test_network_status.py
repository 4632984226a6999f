from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.cni import CniDns
from danmpy.api.specs import NetworkKey, NetworkKind
from danmpy.mirrors.network_status import render_status
from danmpy.mirrors.values import AttachmentFacts, InterfaceFacts
from support.mirroring import EXT, INTERNAL
from support.specs import danm_key


def attachment(*interfaces: InterfaceFacts) -> AttachmentFacts:
    return AttachmentFacts(
        namespace="blue", pod="web", pod_uid="u", container_id="c", interfaces=interfaces
    )


def entries(*interfaces: InterfaceFacts) -> list[dict[str, Any]]:
    return list(json.loads(render_status(attachment(*interfaces))))


def test_an_interface_with_everything_is_told_as_the_standard_says() -> None:
    shown = InterfaceFacts(
        name="eth0",
        network=INTERNAL,
        addresses=("10.0.0.2/24", "fd00::2/64"),
        mac="02:00:00:00:00:01",
        mtu=1450,
        gateways=("10.0.0.1", "fd00::1"),
        dns=CniDns(nameservers=("10.0.0.53",), domain="blue", search=("a", "b"), options=("x",)),
        is_pods=True,
    )
    assert entries(shown) == [
        {
            "name": "blue/internal",
            "interface": "eth0",
            "ips": ["10.0.0.2", "fd00::2"],
            "mac": "02:00:00:00:00:01",
            "mtu": 1450,
            "default": True,
            "dns": {
                "nameservers": ["10.0.0.53"],
                "domain": "blue",
                "search": ["a", "b"],
                "options": ["x"],
            },
            "gateway": ["10.0.0.1", "fd00::1"],
            "default-route": ["10.0.0.1", "fd00::1"],
        }
    ]


def test_what_an_interface_does_not_have_is_left_out_and_dns_is_empty() -> None:
    shown = InterfaceFacts(name="net1", network=EXT)
    assert entries(shown) == [{"name": "ext", "interface": "net1", "default": False, "dns": {}}]


FACTS = st.lists(
    st.builds(
        InterfaceFacts,
        name=st.from_regex(r"[a-z]{1,4}[0-9]", fullmatch=True),
        network=st.sampled_from([INTERNAL, EXT, danm_key("x", "red")]),
        addresses=st.lists(
            st.sampled_from(["10.0.0.2/24", "fd00::2/64", "10.0.0.3/32"]), unique=True
        ).map(tuple),
        mac=st.sampled_from(["", "02:00:00:00:00:01"]),
        mtu=st.integers(0, 9000),
        gateways=st.sampled_from([(), ("10.0.0.1",)]),
        is_extra=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(facts=FACTS)
def test_there_is_an_entry_for_each_interface_one_default_and_never_a_null(
    facts: list[InterfaceFacts],
) -> None:
    from dataclasses import replace

    shown = entries(replace(facts[0], is_pods=True), *facts[1:])
    assert [each["interface"] for each in shown] == [each.name for each in facts]
    assert [each["default"] for each in shown].count(True) == 1
    assert all(value is not None and value != [] for each in shown for value in each.values())
    assert all("/" not in ip for each in shown for ip in each.get("ips", ()))


def test_a_configuration_of_the_node_is_called_by_its_cni_name() -> None:
    node = NetworkKey(kind=NetworkKind.NAD, name="cbr0")
    assert entries(InterfaceFacts(name="eth0", network=node))[0]["name"] == "cbr0"


def test_a_network_is_called_as_the_pod_calls_it() -> None:
    shown = InterfaceFacts(name="net1", network=EXT, asked="blue/ext")
    assert entries(shown)[0]["name"] == "blue/ext"


def test_a_device_is_told_as_its_plugin_describes_it() -> None:
    pci = {"type": "pci", "version": "1.1.0", "pci": {"pci-address": "0000:00:1f.6"}}
    guid = "02:00:00:00:00:00:00:01"
    shown = InterfaceFacts(name="net1", network=EXT, infiniband_guid=guid, device_info=pci)
    assert entries(shown)[0]["device-info"] == pci
    assert entries(shown)[0]["infiniband-guid"] == guid

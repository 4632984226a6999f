"""The sentences that say why an interface is as it is."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from danmpy.api.specs import (
    AddressAsk,
    AddressMode,
    Dialect,
    InterfaceAsk,
    NetworkKey,
    NetworkKind,
    PluginAsk,
)
from danmpy.attach.journal import LinkRecord
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.cli.reasons import bare_item, future_routes, reasons, why_address
from danmpy.kernel.podlinks import PodLink
from support.specs import DYNAMIC, ask, cluster_key, network, route, static, tenant_key

BLUE = network(tenant_key("internal"), v4="10.10.0.0/24", v6="fd00:10::/64", vni=700)
PLAIN = AddressAsk()


def spec(**more: Any) -> InterfaceSpec:
    made = InterfaceSpec(
        index=0,
        name="eth0",
        network=BLUE,
        backend=Backend.MACVLAN,
        ip=DYNAMIC,
        ip6=PLAIN,
        mac=None,
        owns_addresses=True,
        ipv6=False,
        mtu=None,
    )
    return replace(made, **more)


def words(made: InterfaceSpec, asked: InterfaceAsk | None, scheme: str = "") -> str:
    return "; ".join(reasons(made, asked, scheme))


def test_the_entry_is_quoted_as_it_was_written() -> None:
    asked = ask(tenant_key("internal"), static("10.10.0.7"), ip6=AddressAsk(mode=AddressMode.NONE))
    assert words(spec(index=2), asked).startswith(
        "entry 2 of the annotation asks tenantNetwork internal, ip 10.10.0.7, ip6 none"
    )
    assert words(spec(), None).startswith("the pod declares no interfaces")


@pytest.mark.parametrize(
    ("made", "asked", "scheme", "said"),
    [
        (spec(name="dmz"), ask(BLUE.key, name="dmz"), "", "the entry names it dmz"),
        (spec(), ask(BLUE.key), "", "the first interface is always eth0"),
        (spec(index=1, name="eth1"), ask(BLUE.key), "", "named by position 1"),
        (
            spec(index=1, network=replace(BLUE, container_prefix="int")),
            ask(BLUE.key),
            "",
            "named by container_prefix int and position 1",
        ),
        (
            spec(index=1, network=replace(BLUE, container_prefix="int")),
            ask(BLUE.key),
            "legacy",
            "the naming scheme legacy takes container_prefix int as it is",
        ),
    ],
)
def test_a_name_has_a_reason(
    made: InterfaceSpec, asked: InterfaceAsk, scheme: str, said: str
) -> None:
    assert said in words(made, asked, scheme)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (spec(), "vxlan 700 on ens4 is assigned to the network from the TenantConfig"),
        (
            spec(network=replace(BLUE, segment=None, device_pool="a.com/vf")),
            "on the next device of a.com/vf that the pod was given",
        ),
        (
            spec(network=replace(BLUE, device_pool="a.com/vf"), backend=Backend.DELEGATE),
            "a.com/vf that the pod was given, with vxlan 700",
        ),
        (
            spec(network=network(cluster_key("shared"), vni=900)),
            "vxlan 900 on ens4 is set in the network",
        ),
        (
            spec(network=network(cluster_key("flat"))),
            "directly on ens4, without VLAN or VXLAN",
        ),
        (
            spec(network=network(cluster_key("flat")), backend=Backend.BRIDGE),
            "a bridge of this network's own, on this node only",
        ),
        (
            spec(backend=Backend.DELEGATE, delegate_conf="weave"),
            "made by the CNI configuration weave of this node",
        ),
    ],
)
def test_a_device_has_a_reason(made: InterfaceSpec, said: str) -> None:
    assert said in words(made, ask(made.network.key))


def test_an_address_is_explained_by_its_pool() -> None:
    dynamic, asked = why_address(spec(), 4), why_address(spec(ip=static("10.10.0.9")), 4)
    assert dynamic == "IPv4: leased from the pool 10.10.0.1 to 10.10.0.254 of 10.10.0.0/24"
    assert asked == "IPv4: 10.10.0.9 of 10.10.0.0/24, as asked"
    assert why_address(spec(), 6) == ""
    own = spec(backend=Backend.DELEGATE, ip=PLAIN, owns_addresses=False)
    assert "delegate's own" in why_address(own, 4)


def test_a_pool_without_addresses_says_so() -> None:
    assert BLUE.v4 is not None
    empty = replace(BLUE.v4, excluded=((BLUE.v4.first, BLUE.v4.last),))
    assert "no address to give" in why_address(spec(network=replace(BLUE, v4=empty)), 4)


def test_mac_and_default_route_have_reasons() -> None:
    assert "ipvlan shares the MAC of its parent" in words(
        spec(backend=Backend.IPVLAN), ask(BLUE.key)
    )
    assert "asks MAC 02:00:00:00:00:09" in words(spec(), ask(BLUE.key, mac="02:00:00:00:00:09"))
    routed = spec(default_gateways=(ip_address("10.10.0.1"),))
    named = PluginAsk(gateways=(ip_address("10.20.0.1"),))
    for asked in (ask(BLUE.key, default_route=True), ask(BLUE.key, plugin=named)):
        assert "the entry asks the default route" in words(routed, asked)
    assert "the first interface has it" in words(routed, ask(BLUE.key))


def test_routes_are_listed_with_their_tables_default_first() -> None:
    made = spec(
        network=replace(BLUE, rt_table=77),
        default_gateways=(ip_address("10.10.0.1"),),
        routes=(route("10.20.0.0/16", "10.10.0.2"),),
        proutes=(route("10.30.0.0/16", "10.10.0.3"),),
    )
    assert future_routes(made) == [
        {"destination": "0.0.0.0/0", "gateway": "10.10.0.1", "table": 254},
        {"destination": "10.20.0.0/16", "gateway": "10.10.0.2", "table": 254},
        {"destination": "10.30.0.0/16", "gateway": "10.10.0.3", "table": 77},
    ]


def test_an_interface_without_a_declaration_still_has_every_field() -> None:
    link = PodLink(name="eth0", kind="macvlan", parent="vx700", mtu=1450)
    item = bare_item(LinkRecord(name="eth0", network="TenantNetwork/blue/internal", link=link))
    assert (item["interface"], item["backend"], item["mtu"]) == ("eth0", "macvlan", 1450)
    assert item["reasons"] == []
    bare = bare_item(LinkRecord(name="eth0", network="TenantNetwork/blue/internal"))
    assert bare["backend"] is None
    assert set(bare) == set(item)


NAD = NetworkKey(kind=NetworkKind.NAD, namespace="blue", name="net-a")
CONF = NetworkKey(kind=NetworkKind.NAD, name="flannel")


@pytest.mark.parametrize(
    ("made", "asked", "dialect", "said"),
    [
        (spec(), None, Dialect.SILENT, "the pod declares no interfaces, so it gets the default"),
        (spec(), None, Dialect.NPWG, "the default network comes first"),
        (spec(), None, Dialect.KNITTER, "the default network comes first"),
        (spec(index=1), None, Dialect.NPWG, "npwg.more_networks gives this network to every pod"),
        (
            spec(index=1, name="net1"),
            ask(NAD, name="net1"),
            Dialect.NPWG,
            f"the Network Plumbing Working Group, which is {BLUE.key}; named by position 1",
        ),
        (spec(index=1, name="x0"), ask(NAD, name="x0"), Dialect.NPWG, "the entry names it x0"),
        (
            spec(index=1, name="eth1"),
            ask(CONF, name="eth1"),
            Dialect.GENIE,
            "CNI-Genie, which is a CNI configuration of this node; named by position 1",
        ),
        (
            spec(network=replace(BLUE, key=NAD, conf="{}"), backend=Backend.DELEGATE),
            ask(NAD),
            Dialect.NPWG,
            "made by the CNI configuration in NetworkAttachmentDefinition/blue/net-a",
        ),
    ],
)
def test_other_dialects_have_reasons_in_their_words(
    made: InterfaceSpec, asked: InterfaceAsk | None, dialect: Dialect, said: str
) -> None:
    assert said in "; ".join(reasons(made, asked, "", dialect))

"""What is ours to give, and what only a plugin could."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from danmpy.api.specs import AddressAsk, AddressMode, InterfaceAsk, PluginAsk
from danmpy.attach.deciding.plugin_asks import plugin_part, static_asks
from danmpy.errors import IntentError
from support.specs import ask, network, static, tenant_key

KEY = tenant_key("internal")
ANY = AddressAsk(mode=AddressMode.ANY)


def refuse(problem: str, hint: str) -> IntentError:
    return IntentError(problem, hint=hint, subject="Pod/blue/web-0")


def asking(**plugin: object) -> InterfaceAsk:
    return ask(KEY, ANY, ip6=ANY, plugin=PluginAsk(**plugin))  # type: ignore[arg-type]


def test_addresses_of_our_own_subnets_are_asked_of_our_database_and_of_no_plugin() -> None:
    wanted = asking(ips=("10.0.0.9/24",), cni_args={"a": 1})
    made = static_asks(wanted, network(KEY, v4="10.0.0.0/24", v6="fd00::/64"), refuse)
    assert (made.ip, made.ip6) == (static("10.0.0.9"), ANY)
    assert made.plugin == PluginAsk(cni_args={"a": 1})


def test_a_plugin_with_an_ipam_of_its_own_is_asked_itself() -> None:
    wanted = asking(ips=("10.0.0.9/24", "fd00::9"))
    assert static_asks(wanted, network(KEY), refuse) is wanted


def test_two_addresses_of_one_family_are_refused_and_named() -> None:
    wanted = asking(ips=("10.0.0.9", "10.0.0.10"))
    with pytest.raises(IntentError, match=r"10\.0\.0\.9 and 10\.0\.0\.10"):
        static_asks(wanted, network(KEY, v4="10.0.0.0/24"), refuse)


def test_what_only_a_plugin_can_do_is_named_and_the_rest_is_no_matter() -> None:
    gateways = (ip_address("10.0.0.1"),)
    wanted = asking(
        infiniband_guid="02:00:00:00:00:00:00:01",
        port_mappings=({"hostPort": 80},),
        bandwidth={"ingressRate": 1},
        cni_args={"a": 1},
        gateways=gateways,
    )
    assert plugin_part(wanted) == (
        PluginAsk(gateways=gateways),
        ("infiniband-guid", "portMappings", "bandwidth"),
    )
    assert plugin_part(asking(cni_args={"a": 1})) == (PluginAsk(), ())

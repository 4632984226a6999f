"""The values about links."""

from __future__ import annotations

from ipaddress import ip_address

from danmpy.errors import HostError
from danmpy.kernel.hostlinks import HostFacts, LinkFacts, LinkKindError, VxlanAttributes


def test_a_link_is_found_by_index_name_and_alternative_name() -> None:
    link = LinkFacts(index=7, name="vx7", altnames=frozenset({"vx_blue"}))
    facts = HostFacts(links=(link,))
    assert facts.named("vx7") == facts.named("vx_blue") == facts.at(7) == link
    assert facts.named("x") is facts.at(8) is None


def test_the_family_of_a_tunnel_is_that_of_its_addresses_and_4_without_any() -> None:
    local = ip_address("2001:db8::1")
    assert VxlanAttributes(vni=1, port=1, local=local).family == 6
    assert VxlanAttributes(vni=1, port=1, local=None, group=ip_address("ff02::1")).family == 6
    assert VxlanAttributes(vni=1, port=1, local=None).family == 4


def test_an_unknown_kind_is_a_refusal_of_the_kernel() -> None:
    assert issubclass(LinkKindError, HostError)

"""IPAMClaims by their text, and which attachment may use one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.ipam_claims import API_VERSION, contradiction, judge_ipam_claim
from danmpy.api.specs import IpamClaimSpec
from support.specs import network, tenant_key

CLAIM = IpamClaimSpec(namespace="blue", name="vm-0", network="internal", interface="net1")
NET = network(tenant_key("internal"), v4="10.0.0.0/24", conf='{"cniVersion":"1.0.0","name":"l2"}')


def manifest(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "IPAMClaim", "spec": spec}


def test_a_claim_names_network_and_interface() -> None:
    found, wrong = judge_ipam_claim("blue", "vm-0", manifest(network="internal", interface="net1"))
    assert (found, wrong) == (CLAIM, ())
    assert CLAIM.claim == "IPAMClaim/vm-0"


@pytest.mark.parametrize(
    ("broken", "codes"),
    [
        ({}, ["ApiVersionUnknown", "NetworkMissing", "InterfaceInvalid"]),
        (manifest(network="", interface="net1"), ["NetworkMissing"]),
        (manifest(network="internal", interface="net/1"), ["InterfaceInvalid"]),
        (manifest(network=1, interface="a name that is too long"), 2),
        ({"apiVersion": "k8s.cni.cncf.io/v1", "spec": []}, 3),
    ],
)
def test_what_is_wrong_is_told_by_field(broken: dict[str, Any], codes: Any) -> None:
    found, wrong = judge_ipam_claim("blue", "vm-0", broken)
    assert found is None
    told = [each.code for each in wrong]
    assert told == codes or len(told) == codes
    assert all(each.path and each.message and each.hint for each in wrong)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_spec_is_a_claim_or_refused(spec: Any) -> None:
    found, wrong = judge_ipam_claim("blue", "vm-0", {"apiVersion": API_VERSION, "spec": spec})
    assert (found is None) is bool(wrong)


@pytest.mark.parametrize(
    "name", ["internal", "blue/internal", "TenantNetwork/blue/internal", "l2", "alias", "red/alias"]
)
def test_a_network_goes_by_each_of_its_names(name: str) -> None:
    claim = IpamClaimSpec(namespace="blue", name="vm-0", network=name, interface="net1")
    assert contradiction(claim, NET, "net1", asked="red/alias") == ""


def test_another_network_or_interface_contradicts() -> None:
    other = network(tenant_key("other"), v4="10.0.0.0/24")
    assert "spec.network is internal" in contradiction(CLAIM, other, "net1")
    assert "spec.interface is net1" in contradiction(CLAIM, NET, "net2")
    broken = network(tenant_key("other"), conf="no JSON")
    assert "spec.network" in contradiction(CLAIM, broken, "net1")

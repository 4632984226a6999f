"""What pods, claims and slices say of devices."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.attach.devices.resource_claims import (
    DEVICE_ID,
    RESOURCE_NAME,
    PoolDevice,
    allocated_devices,
    claim_names,
    offer_of,
)
from danmpy.attach.values import ClaimedDevice

VF = "vendor/vf"


def device(name: str, pool: str = "p", driver: str = "d") -> PoolDevice:
    return PoolDevice(driver=driver, pool=pool, device=name)


def piece(
    devices: dict[str, dict[str, str]], generation: int = 1, pool: str = "p", *, basic: bool = False
) -> dict[str, Any]:
    """A slice; device -> its attributes."""
    listed = []
    for name, attributes in devices.items():
        content = {"attributes": {key: {"string": text} for key, text in attributes.items()}}
        listed.append({"name": name, **({"basic": content} if basic else content)})
    spec = {"driver": "d", "pool": {"name": pool, "generation": generation}, "devices": listed}
    return {"spec": spec}


def vf(number: str, resource: str = VF) -> dict[str, str]:
    return {DEVICE_ID: number, RESOURCE_NAME: resource}


def test_the_claims_of_a_pod_are_those_of_its_spec_of_templates_and_of_extended_resources() -> None:
    pod = {
        "spec": {
            "resourceClaims": [
                {"name": "a", "resourceClaimName": "named"},
                {"name": "b", "resourceClaimTemplateName": "template"},
            ]
        },
        "status": {
            "resourceClaimStatuses": [
                {"name": "b", "resourceClaimName": "web-b-x7k2p"},
                {"name": "c"},
            ],
            "extendedResourceClaimStatus": {"resourceClaimName": "web-extended"},
        },
    }
    assert claim_names(pod) == ("named", "web-b-x7k2p", "web-extended")
    assert claim_names({"spec": {}, "status": None}) == ()


def test_a_claim_to_which_nothing_is_allocated_has_no_devices() -> None:
    results = [{"request": "nic", "driver": "d", "pool": "p", "device": "vf0"}]
    claim = {"status": {"allocation": {"devices": {"results": results}}}}
    assert allocated_devices(claim) == (device("vf0"),)
    assert allocated_devices({"status": {}}) == ()
    assert allocated_devices({}) == ()


@pytest.mark.parametrize("basic", [False, True])
def test_devices_for_networks_are_offered_by_their_resource_and_others_passed_over(
    basic: bool,
) -> None:
    slices = [
        piece({"vf0": vf("0000:3b:02.0"), "vf1": vf("0000:3b:02.1"), "gpu": {}}, basic=basic),
        piece({"nic": vf("x", "vendor/nic"), "half": {DEVICE_ID: "y"}}, pool="q", basic=basic),
    ]
    claims = {
        "one": (device("vf1"), device("gpu"), device("unknown")),
        "two": (device("nic", "q"), device("half", "q"), device("vf0", driver="other")),
    }
    offer = offer_of(claims, slices)
    assert offer.ids == {VF: ["0000:3b:02.1"], "vendor/nic": ["x"]}
    named = ClaimedDevice(claim="one", driver="d", pool="p", device="vf1")
    assert offer.claimed[VF, "0000:3b:02.1"] == named


@pytest.mark.parametrize("turn", [1, -1])
def test_of_a_pool_only_the_newest_generation_counts(turn: int) -> None:
    slices = [
        piece({"vf0": vf("old"), "gone": vf("gone")}, 1),
        piece({"vf0": vf("new")}, 2),
        piece({"vf1": vf("beside")}, 2),
    ][::turn]
    offer = offer_of({"c": (device("vf0"), device("gone"), device("vf1"))}, slices)
    assert offer.of(VF) == ("beside", "new")


def test_a_device_that_two_claims_of_a_pod_share_is_one() -> None:
    claims = {"one": (device("vf0"),), "two": (device("vf0"),)}
    offer = offer_of(claims, [piece({"vf0": vf("a")})])
    assert offer.ids == {VF: ["a"]}
    assert offer.claimed[VF, "a"].claim == "one"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["spec", "status", "devices", "pool", "attributes", "results", "name"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(JSON.filter(lambda value: isinstance(value, dict)))
def test_objects_of_any_shape_are_read_without_an_error(value: dict[str, Any]) -> None:
    claim_names(value)
    devices = allocated_devices(value)
    offer_of({"c": devices}, [value, piece({"vf0": vf("a")})])

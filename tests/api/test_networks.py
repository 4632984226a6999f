from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from danmpy.api.networks import NetworkBody, NetworkManifest, NetworkStatus


def test_an_empty_spec_is_a_network_of_defaults() -> None:
    body = NetworkManifest.model_validate({"spec": {}}).spec
    assert body == NetworkBody()
    assert (body.network_type, body.options.vlan, body.options.mtu) == ("", 0, None)


def test_the_empties_that_danm_writes_count_as_absent() -> None:
    written = {
        "spec": {
            "NetworkID": "",
            "AllowedTenants": [],
            "Options": {
                "cidr": "",
                "allocation_pool": {"start": "", "end": "", "lastIp": ""},
                "allocation_pool_v6": {"start": "", "end": "", "cidr": "", "lastIp": ""},
                "alloc": "",
                "alloc6": "",
                "routes": {},
                "vlan": 0,
            },
        }
    }
    assert NetworkManifest.model_validate(written).spec == NetworkBody()


@pytest.mark.parametrize("place", ["spec", "options", "pool"])
def test_null_is_absence_everywhere(place: str) -> None:
    spec: dict[str, Any] = {
        "spec": {"AllowedTenants": None},
        "options": {"Options": {"routes": None, "cidr": None, "vlan": None, "mtu": None}},
        "pool": {"Options": {"allocation_pool": {"start": None}, "allocation_pool_v6": None}},
    }[place]
    assert NetworkManifest.model_validate({"spec": spec}).spec == NetworkBody()


def test_python_names_are_no_json_names() -> None:
    with pytest.raises(ValidationError):
        NetworkManifest.model_validate({"spec": {"network_id": "x"}})


def test_kubernetes_may_write_what_it_likes_into_metadata_and_status() -> None:
    manifest = {"metadata": {"managedFields": [1]}, "spec": {}, "status": {"any": "thing"}}
    NetworkManifest.model_validate(manifest)
    NetworkManifest.model_validate({"metadata": None, "spec": {}, "status": None})


def test_the_status_has_room_for_all_that_is_reported() -> None:
    status = NetworkStatus.model_validate(
        {
            "conditions": [{"type": "Ready", "status": "True", "reason": "Made"}],
            "device": "vx700",
            "segment": {"parent": "ens4", "kind": "vxlan", "id": 700},
            "v6": {"cidr": "2001:db8::/64", "capacity": str(2**64)},
            "nodes": [{"name": "node-a", "ready": True}],
        }
    )
    assert int(status.v6.capacity) == 2**64

from __future__ import annotations

from danmpy.api.endpoints import EndpointManifest


def test_an_endpoint_as_danm_writes_it_is_understood() -> None:
    written = {
        "apiVersion": "danm.k8s.io/v1",
        "kind": "DanmEp",
        "metadata": {"name": "9c5b", "namespace": "blue", "labels": {"app": "web"}},
        "spec": {
            "NetworkName": "internal",
            "NetworkType": "ipvlan",
            "EndpointID": "9c5b",
            "apiType": "TenantNetwork",
            "Interface": {
                "Name": "eth0",
                "Address": "10.0.0.7/24",
                "AddressIPv6": "none",
                "MacAddress": "",
                "proutes": None,
                "DeviceID": "",
            },
            "Host": "node-a",
            "Pod": "web-0",
            "PodUID": "u",
            "CID": "c",
            "netns": "/proc/5/ns/net",
        },
    }
    endpoint = EndpointManifest.model_validate(written)
    assert endpoint.spec.interface.address == "10.0.0.7/24"
    assert endpoint.spec.container_id == "c"

"""The manifest of DanmEp: one attached interface, as DANM's tools know it.

A mirror of the database for people and scripts. danmpy writes it and never reads it back.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from danmpy.api.networks import Manifest


class EndpointInterface(Manifest):
    """The interface inside the pod."""

    name: str = Field(default="", alias="Name", description="Name inside the pod.")
    address: str = Field(
        default="", alias="Address", description="IPv4 address with prefix length, or none."
    )
    address_ipv6: str = Field(
        default="", alias="AddressIPv6", description="IPv6 address with prefix length, or none."
    )
    mac_address: str = Field(default="", alias="MacAddress", description="MAC address.")
    proutes: dict[str, str] = Field(
        default_factory=dict, description="IPv4 policy routes: destination CIDR to gateway."
    )
    proutes6: dict[str, str] = Field(
        default_factory=dict, description="IPv6 policy routes: destination CIDR to gateway."
    )
    device_id: str = Field(default="", alias="DeviceID", description="PCI address of a device.")


class EndpointBody(Manifest):
    """Which interface of which pod, and where."""

    network_name: str = Field(default="", alias="NetworkName", description="Name of the network.")
    network_type: str = Field(default="", alias="NetworkType", description="Backend.")
    endpoint_id: str = Field(default="", alias="EndpointID", description="Same as metadata.name.")
    api_type: str = Field(
        default="",
        alias="apiType",
        description="Kind of the network; empty means DanmNet.",
        json_schema_extra={"enum": ["", "DanmNet", "TenantNetwork", "ClusterNetwork"]},
    )
    interface: EndpointInterface = Field(
        default_factory=EndpointInterface,
        alias="Interface",
        description="The interface inside the pod.",
    )
    host: str = Field(default="", alias="Host", description="Node that the pod runs on.")
    pod: str = Field(default="", alias="Pod", description="Name of the pod.")
    pod_uid: str = Field(default="", alias="PodUID", description="UID of the pod.")
    container_id: str = Field(default="", alias="CID", description="Id of the pod's sandbox.")
    netns: str = Field(default="", description="Path of the pod's network namespace.")


class EndpointManifest(Manifest):
    """A whole DanmEp object."""

    api_version: str = Field(default="", alias="apiVersion")
    kind: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: EndpointBody = Field(description="The attached interface.")

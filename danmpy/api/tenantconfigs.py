"""The manifest of TenantConfig. DANM puts its fields at the top level: there is no spec."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from danmpy.api.limits import QUOTA_MAX
from danmpy.api.networks import Manifest


class HostDevice(Manifest):
    """One interface profile that TenantNetworks can be put on."""

    name: str = Field(
        default="",
        description="NIC name on every node, or a device plugin resource (vendor/resource).",
    )
    vni_type: str = Field(
        default="",
        alias="vniType",
        description="vlan or vxlan; empty: networks sit on the NIC itself.",
        json_schema_extra={"enum": ["", "vlan", "vxlan"]},
    )
    vni_range: str = Field(
        default="",
        alias="vniRange",
        description="VLAN ids or VNIs to assign from, such as 2000-2500,2601.",
    )
    alloc: str = Field(default="", description="DANM's bitmap. Must be empty: do not set it.")


class Quotas(Manifest):
    """What each namespace may have at most. If several TenantConfigs count, the smallest does."""

    addresses: int | None = Field(
        default=None,
        ge=0,
        le=QUOTA_MAX,
        description="Addresses that the pods of one namespace may hold together.",
    )
    networks: int | None = Field(
        default=None,
        ge=0,
        le=QUOTA_MAX,
        description="TenantNetworks and DanmNets of one namespace.",
    )
    interfaces_per_pod: int | None = Field(
        default=None, ge=1, le=QUOTA_MAX, description="Interfaces of one pod."
    )


class TenantConfigManifest(Manifest):
    """A whole TenantConfig object."""

    api_version: str = Field(default="", alias="apiVersion")
    kind: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)
    host_devices: list[HostDevice] = Field(
        default_factory=list,
        alias="hostDevices",
        description="Interface profiles that TenantNetworks are put on.",
    )
    network_ids: dict[str, str] = Field(
        default_factory=dict,
        alias="networkIds",
        description="NetworkType to the NetworkID that TenantNetworks of this type get.",
    )
    namespaces: list[str] | None = Field(
        default=None,
        description="Namespaces that this TenantConfig alone serves, with others that name them. "
        "Without it: all namespaces that no TenantConfig names.",
    )
    quotas: Quotas = Field(
        default_factory=Quotas,
        description="Limits of each namespace that this TenantConfig counts for.",
    )
    status: dict[str, Any] = Field(default_factory=dict, description="What came of it.")

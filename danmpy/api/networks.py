"""The manifests of TenantNetwork, ClusterNetwork and DanmNet, field by field as people write them.

Names, types and meanings are DANM 4.3's; `mtu`, `gateway`, `gateway6`, `ranges`,
`exclude` and `vxlan_remotes` are ours. These models only know the shape: what the values mean
together is in `rules`. Empty text, empty lists, empty pools and 0 count as absent, because DANM
writes them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from danmpy.api.limits import MTU_MAX, MTU_MIN, RT_TABLE_MAX, VLAN_MAX, VNI_MAX


def _empty_if_null(value: Any) -> Any:
    return {} if value is None else value


class Manifest(BaseModel):
    """Base of every model here: a closed list of fields, exact types, null means absent."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, populate_by_name=False, ser_json_inf_nan="null"
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        """JSON null is absence, for Kubernetes and for Go."""
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


class AllocationPool(Manifest):
    """The IPv4 range that dynamic requests are served from."""

    start: str = Field(default="", description="First address; default: the second of cidr.")
    end: str = Field(
        default="", description="Last address, inclusive; default: the last but one of cidr."
    )
    last_ip: str = Field(
        default="", alias="lastIp", description="DANM's cursor. Accepted and not used."
    )


class AllocationPoolV6(Manifest):
    """The IPv6 range that dynamic requests are served from."""

    cidr: str = Field(default="", description="Part of net6 that start and end default from.")
    start: str = Field(
        default="", description="First address; default: the second of this cidr, else of net6."
    )
    end: str = Field(
        default="",
        description="Last address, inclusive; default: the last but one of this cidr or of net6.",
    )
    last_ip: str = Field(
        default="", alias="lastIp", description="DANM's cursor. Accepted and not used."
    )


class NetworkOptions(Manifest):
    """Where the network lives on a host, and what it gives to a pod."""

    host_device: str = Field(
        default="",
        description="Parent NIC, by its name on every node. Not together with device_pool.",
    )
    device_pool: str = Field(
        default="",
        description="Device plugin resource (vendor/resource). Mandatory for NetworkType sriov.",
    )
    vlan: int = Field(
        default=0, ge=0, le=VLAN_MAX, description="VLAN id, 1 to 4094; 0 is none. Not with vxlan."
    )
    vxlan: int = Field(
        default=0, ge=0, le=VNI_MAX, description="VNI, 1 to 16777215; 0 is none. Not with vlan."
    )
    container_prefix: str = Field(
        default="",
        description="Prefix of the interface name in the pod; its position follows. Default: eth.",
    )
    rt_tables: int = Field(
        default=0,
        ge=0,
        le=RT_TABLE_MAX,
        description="Routing table for proutes and proutes6 of pods; 0 is none.",
    )
    cidr: str = Field(default="", description="IPv4 subnet; empty: no IPv4.")
    allocation_pool: AllocationPool = Field(
        default_factory=AllocationPool, description="Range for dynamic IPv4 requests."
    )
    alloc: str = Field(default="", description="DANM's bitmap. Must be empty: do not set it.")
    routes: dict[str, str] = Field(
        default_factory=dict, description="IPv4 routes of the pod: destination CIDR to gateway."
    )
    net6: str = Field(default="", description="IPv6 subnet; empty: no IPv6.")
    allocation_pool_v6: AllocationPoolV6 = Field(
        default_factory=AllocationPoolV6, description="Range for dynamic IPv6 requests."
    )
    alloc6: str = Field(default="", description="DANM's bitmap. Must be empty: do not set it.")
    routes6: dict[str, str] = Field(
        default_factory=dict, description="IPv6 routes of the pod: destination CIDR to gateway."
    )
    mtu: int | None = Field(
        default=None,
        ge=MTU_MIN,
        le=MTU_MAX,
        description="MTU in bytes of the pod's interface; at least 1280 with IPv6.",
    )
    gateway: str = Field(
        default="", description="IPv4 default gateway, inside cidr; handed out to no pod."
    )
    gateway6: str = Field(
        default="", description="IPv6 default gateway, inside net6; handed out to no pod."
    )
    ranges: list[str] = Field(
        default_factory=list,
        description="Ranges for dynamic requests, instead of the allocation pool of their family:"
        " address, first-last, or CIDR; both families.",
    )
    exclude: list[str] = Field(
        default_factory=list,
        description="Addresses handed out to nobody: address, first-last, or CIDR; both families.",
    )
    vxlan_remotes: list[str] = Field(
        default_factory=list,
        description="Addresses of VXLAN tunnel ends outside the cluster.",
    )


class NetworkBody(Manifest):
    """What a network is."""

    network_id: str = Field(
        default="",
        alias="NetworkID",
        description="Second name of the network; for a static NetworkType the name, without"
        " suffix, of the CNI configuration file on the node.",
    )
    network_type: str = Field(
        default="",
        alias="NetworkType",
        description="Backend: ipvlan (default), macvlan, sriov, bridge, or the name of another"
        " CNI plugin.",
    )
    allowed_tenants: list[str] = Field(
        default_factory=list,
        alias="AllowedTenants",
        description="Namespaces whose pods may attach; empty: all. Only on a ClusterNetwork.",
    )
    options: NetworkOptions = Field(
        default_factory=NetworkOptions,
        alias="Options",
        description="Host device, addresses, routes.",
    )


class Condition(Manifest):
    """One condition (Kubernetes API conventions)."""

    type: str = Field(description="What it is about, in one word.")
    status: str = Field(
        description="True, False or Unknown.",
        json_schema_extra={"enum": ["True", "False", "Unknown"]},
    )
    reason: str = Field(default="", description="Why, in one word.")
    message: str = Field(default="", description="Why, for a person, with the way out.")
    last_transition_time: str = Field(
        default="",
        alias="lastTransitionTime",
        description="When the status changed last.",
        json_schema_extra={"format": "date-time"},
    )
    observed_generation: int = Field(
        default=0,
        alias="observedGeneration",
        description="metadata.generation that was looked at.",
        json_schema_extra={"format": "int64"},
    )


class SegmentStatus(Manifest):
    """The wire of the network: parent device, vlan or vxlan, id."""

    parent: str = Field(default="", description="Parent NIC.")
    kind: str = Field(default="", description="vlan or vxlan; empty: the NIC itself.")
    id: int = Field(default=0, ge=0, le=VNI_MAX, description="VLAN id or VNI.")


class PoolStatus(Manifest):
    """How full one family is. Counts are text because an IPv6 pool outgrows 64 bits."""

    cidr: str = Field(default="", description="Subnet.")
    capacity: str = Field(default="", description="Addresses that can be handed out.")
    held: str = Field(default="", description="Addresses that pods hold.")
    cooling: str = Field(default="", description="Released addresses that rest before reuse.")
    free: str = Field(default="", description="Addresses that can be handed out now.")


class NodeStatus(Manifest):
    """The host device on one node."""

    name: str = Field(description="Node.")
    ready: bool = Field(default=False, description="Is the device there as wanted?")
    reason: str = Field(default="", description="Why not, in one word.")
    message: str = Field(default="", description="Why not, for a person.")


class NetworkStatus(Manifest):
    """What came of the network. Written by danmpy, never read back as truth."""

    observed_generation: int = Field(
        default=0,
        alias="observedGeneration",
        description="metadata.generation that was looked at.",
        json_schema_extra={"format": "int64"},
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Conditions, one a type.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    device: str = Field(default="", description="Name of the host device.")
    mtu: int = Field(
        default=0,
        ge=0,
        le=MTU_MAX,
        description="MTU in bytes that the manifest asks for; 0: as much as the device carries, "
        "which each node decides for itself.",
    )
    segment: SegmentStatus = Field(
        default_factory=SegmentStatus, description="The wire that the network is on."
    )
    v4: PoolStatus = Field(default_factory=PoolStatus, description="IPv4 addresses.")
    v6: PoolStatus = Field(default_factory=PoolStatus, description="IPv6 addresses.")
    nodes_ready: int = Field(
        default=0, ge=0, alias="nodesReady", description="Nodes that realised the network."
    )
    nodes_failed: int = Field(
        default=0, ge=0, alias="nodesFailed", description="Nodes that could not."
    )
    realised: str = Field(
        default="", description="Both in one text: nodes that realised it/nodes that reported."
    )
    attached: int = Field(
        default=0, ge=0, description="Interfaces of pods on the network, as the nodes report them."
    )
    nodes: list[NodeStatus] = Field(
        default_factory=list,
        description="The first few nodes that could not realise the network, and why.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )


class NetworkManifest(Manifest):
    """A whole network object; metadata is Kubernetes' and read elsewhere."""

    api_version: str = Field(default="", alias="apiVersion")
    kind: str = ""
    metadata: Annotated[dict[str, Any], BeforeValidator(_empty_if_null)] = Field(
        default_factory=dict
    )
    spec: NetworkBody = Field(description="What a person wants.")
    status: dict[str, Any] = Field(default_factory=dict, description="What came of it.")

"""The trusted values that every room works with, made by `intent.parse` and by nobody else.

A manifest that has passed the rules becomes one of these. They are frozen, hold parsed addresses
instead of text, and are never checked again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, Literal

from danmpy.api.limits import DYNAMIC_TYPES

Family = Literal[4, 6]
IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


class NetworkKind(StrEnum):
    """The kinds of object that a pod's interface can be on."""

    TENANT = "TenantNetwork"
    CLUSTER = "ClusterNetwork"
    DANM = "DanmNet"
    NAD = "NetworkAttachmentDefinition"


DANM_KINDS: Final = (NetworkKind.TENANT, NetworkKind.CLUSTER, NetworkKind.DANM)
"""The network kinds of ``danm.k8s.io/v1``; the fourth is the Network Plumbing Working Group's."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class NetworkKey:
    """Identity of a network; prints as ``Kind/namespace/name`` or ``Kind/name``.

    A NetworkAttachmentDefinition without a namespace is no object: it stands for the CNI
    configuration of that name in the node's configuration folder.
    """

    kind: NetworkKind
    namespace: str = ""
    name: str

    @property
    def is_object(self) -> bool:
        """Is it an object's, and not a CNI configuration's on the node?"""
        return self.kind is not NetworkKind.NAD or bool(self.namespace)

    def __str__(self) -> str:
        middle = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind}/{middle}{self.name}"


class SegmentKind(StrEnum):
    """How a segment is told apart on its parent device."""

    VLAN = "vlan"
    VXLAN = "vxlan"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SegmentKey:
    """One wire: parent device, kind and id. Prints as ``vxlan:ens4:700``."""

    parent: str
    kind: SegmentKind
    id: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.parent}:{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """The addresses of one family on one network. Ranges are inclusive integers.

    `first`..`last` without `gaps` is what dynamic requests get; static requests may use all of
    `subnet`.
    `reserved` (network and broadcast address, gateways) and `excluded` are handed out to nobody;
    all three are sorted, merged and disjoint ranges inside `subnet`.
    """

    family: Family
    subnet: IPNetwork
    first: int
    last: int
    gaps: tuple[tuple[int, int], ...] = ()
    reserved: tuple[tuple[int, int], ...] = ()
    excluded: tuple[tuple[int, int], ...] = ()

    def address(self, value: int) -> IPAddress:
        """The address object of the integer `value`."""
        return IPv4Address(value) if self.family == 4 else IPv6Address(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """One route: destination and next hop."""

    destination: IPNetwork
    gateway: IPAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """One accepted network.

    `backend` is NetworkType in lower case when it is one of the built-in words, else verbatim.
    `segment` is what the manifest asks for, or, for a TenantNetwork, what was assigned to it
    (`with_assignment`). `uid` is the object's UID, or a stable stand-in in a folder.
    `terminating`: it is being deleted, and waits for the pods that are on it; no new ones come.
    `conf` is the CNI configuration in a NetworkAttachmentDefinition, verbatim; empty: the one in
    the node's configuration folder is meant. `resource` is the device plugin's resource of which
    each of its interfaces gets one device. `alias`: a NetworkAttachmentDefinition that only names
    another network.
    """

    key: NetworkKey
    uid: str
    network_id: str
    backend: str
    host_device: str = ""
    device_pool: str = ""
    segment: SegmentKey | None = None
    container_prefix: str = ""
    rt_table: int = 0
    v4: PoolSpec | None = None
    v6: PoolSpec | None = None
    routes: tuple[RouteSpec, ...] = ()
    routes6: tuple[RouteSpec, ...] = ()
    gateway: IPv4Address | None = None
    gateway6: IPv6Address | None = None
    mtu: int | None = None
    vxlan_remotes: tuple[IPAddress, ...] = ()
    allowed_tenants: frozenset[str] | None = None
    terminating: bool = False
    conf: str = ""
    resource: str = ""
    alias: NetworkKey | None = None

    @property
    def is_dynamic(self) -> bool:
        """Does DANM derive the backend's configuration from this object?"""
        return self.backend in DYNAMIC_TYPES

    @property
    def domain(self) -> str:
        """The collision domain of its addresses: the segment, else the network."""
        return str(self.segment) if self.segment else str(self.key)

    def pool(self, family: Family) -> PoolSpec | None:
        """The pool of `family`, or None when the network has no subnet of it."""
        return self.v4 if family == 4 else self.v6

    def with_assignment(self, *, host_device: str, segment: SegmentKey | None) -> NetworkSpec:
        """The same network on the device and segment that were assigned to it."""
        return replace(self, host_device=host_device, segment=segment)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDeviceProfile:
    """One entry of TenantConfig.hostDevices. `ids` are inclusive ranges; empty without a kind."""

    name: str
    kind: SegmentKind | None = None
    ids: tuple[tuple[int, int], ...] = ()

    @property
    def is_pool(self) -> bool:
        """Is this a device-plugin resource (DANM: a name with a "/") and not a NIC?"""
        return "/" in self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaSpec:
    """What one namespace may have at most; None: no limit.

    `addresses` are those that its pods hold together, `networks` its TenantNetworks and DanmNets.
    """

    addresses: int | None = None
    networks: int | None = None
    interfaces_per_pod: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantConfigSpec:
    """One accepted TenantConfig; `network_ids` has lower-case keys (NetworkType -> NetworkID).

    `namespaces` are those that it serves; None: all that no TenantConfig names. `quotas` are the
    limits of each of them.
    """

    name: str
    host_devices: tuple[HostDeviceProfile, ...] = ()
    network_ids: Mapping[str, str] = field(default_factory=dict)
    namespaces: frozenset[str] | None = None
    quotas: QuotaSpec = QuotaSpec()


class AddressMode(StrEnum):
    """What a pod asks of one family on one interface (DANM: ip, ip6).

    ``any`` is dynamic where the network has a subnet, else absent: what a pod gets that names a
    network and no address. No pod asks for ``reserved``: so an operator holds an address
    (`ipam.reserving`).
    """

    ABSENT = "absent"
    NONE = "none"
    ANY = "any"
    DYNAMIC = "dynamic"
    STATIC = "static"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressAsk:
    """One family's request; `address` is set exactly when the mode is static."""

    mode: AddressMode = AddressMode.ABSENT
    address: IPAddress | None = None

    @property
    def is_leased(self) -> bool:
        """Does it ask for an address of the network's own subnet, whichever or a certain one?"""
        return self.mode in {AddressMode.DYNAMIC, AddressMode.STATIC}


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginAsk:
    """What an interface asks of the plugins that make it (NPWG 1.3, section 4.1.1.2).

    `ips` are literal addresses with or without prefix length. `port_mappings`, `bandwidth` and
    `cni_args` are JSON as the plugins take it (CNI conventions: ``runtimeConfig``, ``args.cni``).
    `gateways` are the next hops of the default route; None: not said, empty: the plugin's own.
    """

    ips: tuple[str, ...] = ()
    infiniband_guid: str = ""
    port_mappings: tuple[Mapping[str, Any], ...] = ()
    bandwidth: Mapping[str, int] = field(default_factory=dict)
    cni_args: Mapping[str, Any] = field(default_factory=dict)
    gateways: tuple[IPAddress, ...] | None = None


IPAM_CLAIM: Final = "IPAMClaim/"
"""What a claim begins with whose name is that of an IPAMClaim object (NPWG 1.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceAsk:
    """One interface that a pod asks for, in whichever dialect.

    `place` is where the pod says so, for the words of an error; empty: in DANM's annotation,
    where the position tells, or nowhere. `others` are tried in order when `network` does not
    exist. `claim` is the name for which the addresses of this interface are kept, `IPAM_CLAIM`
    before it when it is an object; empty: the pod's. `plugin` is what only plugins are asked.
    `needs_device`: only a device of a device plugin will do (Knitter: a NIC of type direct or
    physical, or one to be accelerated).
    """

    network: NetworkKey
    others: tuple[NetworkKey, ...] = ()
    ip: AddressAsk = AddressAsk()
    ip6: AddressAsk = AddressAsk()
    proutes: tuple[RouteSpec, ...] = ()
    proutes6: tuple[RouteSpec, ...] = ()
    mac: str | None = None
    name: str | None = None
    default_route: bool | None = None
    claim: str = ""
    plugin: PluginAsk = PluginAsk()
    place: str = field(default="", compare=False)
    needs_device: bool = False

    @property
    def candidates(self) -> tuple[NetworkKey, ...]:
        """The networks of which it gets the first that exists."""
        return (self.network, *self.others)


@dataclass(frozen=True, slots=True, kw_only=True)
class IpamClaimSpec:
    """An IPAMClaim (NPWG 1.3): while it is there its addresses are nobody else's.

    `network` is the name of a network or of its CNI configuration, `interface` that in the pod.
    """

    namespace: str
    name: str
    network: str
    interface: str

    @property
    def claim(self) -> str:
        """The name in the namespace for which addresses are kept."""
        return f"{IPAM_CLAIM}{self.name}"


class Dialect(StrEnum):
    """In whose words a pod asks for its interfaces."""

    SILENT = "silent"
    DANM = "danm"
    NPWG = "npwg"
    GENIE = "genie"
    KNITTER = "knitter"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodAsks:
    """All that a pod asks for, in order; the first is what the runtime calls by CNI_IFNAME, unless
    a plugin before us in the chain has made that one (`has_primary` False).
    """

    dialect: Dialect
    interfaces: tuple[InterfaceAsk, ...]
    has_primary: bool = True

    @property
    def answers_primary_only(self) -> bool:
        """Is the runtime told of the first interface only (NPWG 1.3, section 3.3.1), and not of
        all, as DANM does?
        """
        return self.dialect is Dialect.NPWG


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    """One pod as far as networks are concerned.

    `annotations` holds only the annotations that are about its interfaces; they are parsed when the
    pod is attached, so that a broken one refuses that pod with its reason and touches nothing else.
    `config_hash` is set for static pods: what the node and the runtime know as the pod's UID, while
    the object in the API server (the mirror pod) has one of its own. `stateful`: it is one of a
    StatefulSet, so the next pod of its name goes on where it ended.
    """

    namespace: str
    name: str
    uid: str = ""
    node: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    config_hash: str = ""
    stateful: bool = False

    def is_uid(self, uid: str) -> bool:
        """Does `uid` name this pod? A pod without a UID, as in a folder, goes by its name alone."""
        return not self.uid or uid == self.uid or (uid != "" and uid == self.config_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One node and where its VXLAN tunnels end: parent device -> VTEP addresses.

    The parent ``*`` stands for every parent that is not named (the node's internal addresses).
    `observed` is what the node's daemon found on parents for which no person wrote anything.
    """

    name: str
    vteps: Mapping[str, tuple[IPAddress, ...]] = field(default_factory=dict)
    observed: Mapping[str, tuple[IPAddress, ...]] = field(default_factory=dict)

    def vteps_on(self, parent: str) -> tuple[IPAddress, ...]:
        """The VTEP addresses of this node for segments on `parent`."""
        return self.observed.get(parent) or self.declared_on(parent)

    def declared_on(self, parent: str) -> tuple[IPAddress, ...]:
        """As `vteps_on`, without what the node found itself: it must not follow its own echo."""
        return self.vteps.get(parent, self.vteps.get("*", ()))


class ConditionStatus(StrEnum):
    """Status of a condition (Kubernetes API conventions)."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Condition:
    """One condition of a network: type, status, one-word reason, message with the way out."""

    type: str
    status: ConditionStatus
    reason: str
    message: str

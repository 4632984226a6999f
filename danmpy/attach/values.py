"""The values that flow through an attachment: what is wanted, what was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any, Final

from danmpy.api.cni import CniRequest
from danmpy.api.dialects.danm import parse_claim
from danmpy.api.specs import (
    AddressAsk,
    IPAddress,
    NetworkKey,
    NetworkSpec,
    PluginAsk,
    PodSpec,
    QuotaSpec,
    RouteSpec,
)
from danmpy.ipam.values import LeaseOwner

IPInterface = IPv4Interface | IPv6Interface

_NOTHING: Final = PluginAsk()


class Backend(StrEnum):
    """Who makes the interface."""

    IPVLAN = "ipvlan"
    MACVLAN = "macvlan"
    BRIDGE = "bridge"
    DELEGATE = "delegate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedDevice:
    """A device of a ResourceClaim of the pod's namespace, by its names there (resource.k8s.io)."""

    claim: str
    driver: str
    pool: str
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceSpec:
    """One interface that a pod is to get, complete and accepted; addresses still to be leased.

    `index` is the position in the annotation (0 is the first). `mac` is None where the backend has
    none to choose (ipvlan shares its parent's; a delegate may choose). `owns_addresses`: do
    the addresses come from our leases? No only for a delegate that keeps its own IPAM.
    `default_gateways` are the next hops of the default routes this interface gets, several of one
    family with rising metrics. `takes_default`: they are set once everything is made, and the
    default routes of the others go then, which plugins may have set that know nothing of it; when
    the plugin's own is to stay (NPWG 1.3: an empty ``default-route``), `default_gateways` is empty.
    `ipv6` says whether IPv6 stays enabled on the interface (an address or ``none`` was asked).
    `plugin` is what only the delegate is asked, `ignored` the keys of what is asked in vain
    (``npwg.strict: false``), `runtime` what the runtime offers to the pod's
    default network (CNI conventions: ``runtimeConfig``). `claim` is the name for which the
    addresses of this interface are kept; empty: the pod's. `asked` is what the pod calls the
    network by when that is not its own name (``namespace/name``). `device` is the node's link that
    it is made on, known once it is there; `device_id` the device of a device plugin that it gets,
    `device_info_file` where its delegate may write what that is, and `claimed` the same device when
    it came by a ResourceClaim.
    `wish` is all that the pod asks of it (`wishes.wish_of`). `barred` are the files of the node's
    configuration folder, by stem, that its delegate must not be read from, and whose they are.
    """

    index: int
    name: str
    network: NetworkSpec
    backend: Backend
    ip: AddressAsk
    ip6: AddressAsk
    mac: str | None
    owns_addresses: bool
    ipv6: bool
    mtu: int | None
    routes: tuple[RouteSpec, ...] = ()
    proutes: tuple[RouteSpec, ...] = ()
    default_gateways: tuple[IPAddress, ...] = ()
    takes_default: bool = False
    delegate_conf: str = ""
    plugin: PluginAsk = _NOTHING
    ignored: tuple[str, ...] = ()
    runtime: Mapping[str, Any] = field(default_factory=dict)
    claim: str = ""
    asked: str = ""
    device: str = ""
    device_id: str = ""
    device_info_file: str = ""
    claimed: ClaimedDevice | None = None
    wish: str = ""
    barred: Mapping[str, NetworkKey] = field(default_factory=dict)

    @property
    def is_leased(self) -> bool:
        """Does our database give it an address?"""
        return self.owns_addresses and (self.ip.is_leased or self.ip6.is_leased)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """Who is attached: pod, sandbox, namespace path, and the interface name the runtime asked.

    `claim` and `quota` as in `LeaseOwner`.
    """

    namespace: str
    pod: str
    uid: str
    container_id: str
    netns: str
    ifname: str
    claim: str = ""
    quota: int | None = None

    @classmethod
    def of(cls, request: CniRequest, pod: PodSpec, quotas: QuotaSpec) -> PodIdentity:
        """The pod and the sandbox that `request` is about, under the quotas of the namespace.

        Raises:
            IntentError: the claim of the pod is no name.
        """
        return cls(
            namespace=pod.namespace,
            pod=pod.name,
            uid=request.pod_uid or pod.uid,
            container_id=request.container_id,
            netns=request.netns,
            ifname=request.ifname,
            claim=parse_claim(pod),
            quota=quotas.addresses,
        )

    def owner(self, node: str) -> LeaseOwner:
        """Who asks for the leases, on `node`."""
        return LeaseOwner(
            namespace=self.namespace,
            pod=self.pod,
            pod_uid=self.uid,
            container_id=self.container_id,
            node=node,
            claim=self.claim,
            quota=self.quota,
        )

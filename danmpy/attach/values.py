"""The values that flow through an attachment: what is wanted, what was made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface

from danmpy.api.cni import CniRequest
from danmpy.api.dialects.danm import parse_claim
from danmpy.api.specs import AddressAsk, IPAddress, NetworkSpec, PodSpec, QuotaSpec, RouteSpec
from danmpy.ipam.values import LeaseOwner

IPInterface = IPv4Interface | IPv6Interface


class Backend(StrEnum):
    """Who makes the interface."""

    IPVLAN = "ipvlan"
    MACVLAN = "macvlan"
    BRIDGE = "bridge"
    DELEGATE = "delegate"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceSpec:
    """One interface that a pod is to get, complete and accepted; addresses still to be leased.

    `index` is the position in the annotation (0 is the first). `mac` is None where the backend has
    none to choose (ipvlan shares its parent's; a delegate may choose). `owns_addresses`: do
    the addresses come from our leases? No only for a delegate that keeps its own IPAM.
    `default_gateways` are the next hops of the default routes this interface gets (one a family).
    `ipv6` says whether IPv6 stays enabled on the interface (an address or ``none`` was asked).
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
    delegate_conf: str = ""

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

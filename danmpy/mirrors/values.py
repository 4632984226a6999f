"""What the mirrors tell of: attached pods, interface by interface. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from danmpy.api.cni import CniDns
from danmpy.api.specs import DANM_KINDS, Family, NetworkKey
from danmpy.attach.values import ClaimedDevice


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceFacts:
    """One interface as it was made. Addresses as ``10.0.0.5/24``; `mtu` in bytes, 0 is unknown.

    `without` are the families for which the pod wanted no address. `gateways` are the next hops of
    its default routes, `policy_routes` pairs of destination and gateway. `is_pods`: it is the one
    that the runtime asked for and reports. `is_extra`: a delegate made it beside the one that the
    pod asked for. `is_foreign`: a plugin before us in the chain made it, and `network` is the CNI
    network that the runtime calls. `asked` is what the pod calls the network by, empty when that is
    the network's own name. `device_id` is the device of a device plugin that it has, `device_info`
    what is known of that (NPWG device information), `claimed` what a ResourceClaim calls it.
    """

    name: str
    network: NetworkKey
    backend: str = ""
    addresses: tuple[str, ...] = ()
    without: tuple[int, ...] = ()
    mac: str = ""
    mtu: int = 0
    gateways: tuple[str, ...] = ()
    policy_routes: tuple[tuple[str, str], ...] = ()
    dns: CniDns = field(default_factory=CniDns)
    is_pods: bool = False
    is_extra: bool = False
    is_foreign: bool = False
    asked: str = ""
    infiniband_guid: str = ""
    device_id: str = ""
    device_info: Mapping[str, Any] = field(default_factory=dict)
    claimed: ClaimedDevice | None = None

    @property
    def has_endpoint(self) -> bool:
        """Is there a DanmEp for it? DANM's are about networks of DANM's kinds: the definition of
        DanmEp knows no other ``apiType``.
        """
        return self.network.kind in DANM_KINDS and not self.is_extra

    def address(self, family: Family) -> str:
        """Its first address of `family`, or an empty text."""
        return next((each for each in self.addresses if family_of(each) == family), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentFacts:
    """One sandbox and its interfaces; `pod_uid` is what the runtime calls the pod by, and
    `began_at` is in microseconds since the epoch."""

    namespace: str
    pod: str
    pod_uid: str
    container_id: str
    netns: str = ""
    began_at: int = 0
    interfaces: tuple[InterfaceFacts, ...] = ()


def family_of(text: str) -> Family:
    """The IP version of an address or subnet that is known to be one."""
    return 6 if ":" in text else 4

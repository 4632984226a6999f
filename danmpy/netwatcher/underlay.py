"""Where VXLAN tunnels end: this node's VTEP, the other nodes', the multicast group. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from danmpy.api.limits import VXLAN_OVERHEAD_V4, VXLAN_OVERHEAD_V6
from danmpy.api.specs import IPAddress, NetworkSpec, NodeSpec, SegmentKey
from danmpy.kernel.hostlinks import LinkFacts
from danmpy.netwatcher.values import Desired, Flooding, WatchContext

_GROUP_BASE_V4: Final = IPv4Address("239.0.0.0")
_GROUP_BASE_V6: Final = IPv6Address("ff02::")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Who gets the frames without a known receiver, and which nodes' tunnel ends are unknown."""

    remotes: frozenset[IPAddress] = frozenset()
    missing: tuple[str, ...] = ()


def group_of(vni: int, family: int) -> IPAddress:
    """DANM's group rule: 239.0.0.0 or ff02:: plus the VNI, which has 24 bits."""
    if family == 4:
        return _GROUP_BASE_V4 + vni
    return _GROUP_BASE_V6 + vni


def overhead_of(family: int) -> int:
    """The bytes that VXLAN adds to a packet over an underlay of `family`."""
    return VXLAN_OVERHEAD_V4 if family == 4 else VXLAN_OVERHEAD_V6


def local_vtep(
    parent: LinkFacts, segment: SegmentKey, context: WatchContext, link: LinkFacts | None = None
) -> IPAddress | None:
    """This node's end of the tunnels on `parent`; None when it has no usable address.

    An address that the node publishes and that the parent really has comes first; without one the
    rule is DANM's: the first global IPv4 address, then the first global IPv6 address.

    `link` is the segment's device. To take its tunnels to the other family is to make it anew, and
    the pods' interfaces go along. So that takes more than an address that is away for a moment: a
    DHCP lease ends, and a NIC that goes down loses its IPv6 addresses (ip-sysctl.rst,
    keep_addr_on_down). Only IPv4 that came late replaces IPv6 where nothing is published.
    """
    present = [address.ip for address in parent.addresses]
    own = _node(context.nodes, context.node_name)
    published = own.declared_on(segment.parent) if own else ()
    by_rule = sorted(present, key=lambda address: address.version)
    family = family_of(link)
    if family:
        may_move = not published and family == 6
        by_rule = [address for address in by_rule if may_move or address.version == family]
    return next((a for a in (*published, *by_rule) if a in present), None)


def own_vteps(desired: Desired) -> Mapping[str, tuple[IPAddress, ...]]:
    """This node's ends of tunnels, by the parent's name in the networks; IPv4 first.

    More than one only while tunnels of both families stand on one parent.
    """
    found: dict[str, set[IPAddress]] = defaultdict(set)
    for device in desired.devices:
        if device.vxlan is not None and device.vxlan.local is not None:
            for network in device.networks:
                found[desired.segment_of[network].parent].add(device.vxlan.local)
    return {
        parent: tuple(sorted(found[parent], key=lambda one: (one.version, int(one))))
        for parent in sorted(found)
    }


def family_of(link: LinkFacts | None) -> int:
    """The IP version that the tunnels of `link` are over; 0 where nothing tells."""
    local = link.vxlan.local if link is not None and link.vxlan is not None else None
    return local.version if local else 0


def flood_of(
    segment: SegmentKey,
    local: IPAddress,
    networks: Iterable[NetworkSpec],
    context: WatchContext,
) -> Flood:
    """The all-zero FDB entries of `segment`: other nodes (unicast flooding) and listed remotes.

    A tunnel has one family; of a node with several addresses of it the first one counts.
    """
    remotes: set[IPAddress] = set()
    missing: list[str] = []
    if context.flooding is Flooding.UNICAST:
        for node in context.nodes:
            if node.name == context.node_name:
                continue
            of_family = [a for a in node.vteps_on(segment.parent) if a.version == local.version]
            if of_family:
                remotes.add(of_family[0])
            else:
                missing.append(f"node {node.name}")
    for network in networks:
        for remote in network.vxlan_remotes:
            if remote.version == local.version:
                remotes.add(remote)
            else:
                missing.append(f"remote {remote}")
    return Flood(remotes=frozenset(remotes), missing=tuple(sorted(set(missing))))


def _node(nodes: Sequence[NodeSpec], name: str) -> NodeSpec | None:
    return next((node for node in nodes if node.name == name), None)

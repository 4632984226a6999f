"""Names and ownership marks of our devices. Pure.

A device is called after its segment, so that every node agrees. Its alias says that it is ours and
what for; only links with such an alias, or with our link group, are ever changed or removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from danmpy.api.limits import IFALIAS_MAX_BYTES, IFNAME_MAX_BYTES
from danmpy.api.specs import DANM_KINDS, NetworkKey, NetworkSpec, SegmentKey, SegmentKind
from danmpy.kernel.hostlinks import OWN_GROUP, HostFacts, LinkFacts
from danmpy.netwatcher.values import DeviceKind

MARK_PREFIX: Final = "danmpy "

ALTNAME_MAX_BYTES: Final = 127
"""linux/if.h: ALTIFNAMSIZ is 128 with the closing NUL."""

_KINDS: Final = frozenset(str(kind) for kind in DeviceKind)


def segment_mark(segment: SegmentKey) -> str:
    """The alias of the device of `segment`: ``danmpy vxlan:ens4:700``."""
    return _mark(str(segment))


def bridge_mark(owner: SegmentKey | NetworkKey) -> str:
    """The alias of the bridge on a segment, or of a network that has none."""
    return _mark(f"bridge:{owner}")


def _mark(text: str) -> str:
    mark = MARK_PREFIX + text
    if len(mark.encode()) <= IFALIAS_MAX_BYTES:
        return mark
    kind = text.partition(":")[0]
    return f"{MARK_PREFIX}{kind}:{_digest(text)}"


def mark_of(link: LinkFacts) -> str:
    """The mark that `link` bears, "" for none.

    The kind must fit the mark: an alias that a person copied to a NIC does not make it ours. Links
    of pods have the alias ``danmpy pod=...`` and are none of this room's.
    """
    if link.kind in _KINDS and link.alias.startswith(f"{MARK_PREFIX}{link.kind}:"):
        return link.alias
    return ""


def is_ours(link: LinkFacts) -> bool:
    """Did we make `link`? Half made, it has only the group; afterwards either is enough."""
    return bool(mark_of(link)) or (link.kind in _KINDS and link.group == OWN_GROUP)


def segment_names(segment: SegmentKey) -> tuple[str, ...]:
    """The names that the device of `segment` may have, the best first.

    The second name of a VXLAN is for a VNI that lives on several parents.
    """
    digest = _digest(str(segment))
    if segment.kind is SegmentKind.VXLAN:
        return (f"vx{segment.id}", f"vx{segment.id}-{digest[:4]}")
    plain = f"{segment.parent}.{segment.id}"
    if len(plain.encode()) <= IFNAME_MAX_BYTES:
        return (plain,)
    return (f"vl{digest[:8]}.{segment.id}",)


def device_name(network: NetworkSpec) -> str:
    """What nodes call the device of `network` if no other link has that name; "" for no device.

    What one node really has is in its report; this holds for all of them.
    """
    if network.device_pool or network.backend == "sriov":
        return ""
    if network.backend == "bridge":
        return bridge_name(network.segment or network.key)
    if network.segment is not None:
        return segment_names(network.segment)[0]
    return network.host_device if network.is_dynamic else ""


def bridge_name(owner: SegmentKey | NetworkKey) -> str:
    """The name of the bridge on a segment, or of a network that has none."""
    return f"br-{_digest(f'bridge:{owner}')[:10]}"


def danm_name(network: NetworkSpec, segment: SegmentKey) -> str:
    """What DANM 4.3 calls the device of `network`; "" where that is no possible name, and for
    networks that DANM does not know.
    """
    if network.key.kind not in DANM_KINDS:
        return ""
    if segment.kind is SegmentKind.VXLAN:
        name = f"vx_{network.network_id}"
    else:
        name = f"{network.network_id}.{segment.id}"
    unfit = any(character.isspace() or character in "/:%" for character in name)
    if not network.network_id or unfit or len(name.encode()) > ALTNAME_MAX_BYTES:
        return ""
    return name


def is_danm_name(altname: str) -> bool:
    """Could `altname` be one that we gave? Others on our devices (udev's, a person's) stay."""
    head, dot, tail = altname.rpartition(".")
    return altname.startswith("vx_") or (bool(head and dot) and tail.isdecimal())


def marks_in_use(host: HostFacts, names: frozenset[str]) -> Iterator[str]:
    """The marks of our links among `names`, and of what they stand on: the port of a bridge, the
    parent of a VLAN. A link is also known by its alternative names."""
    waiting = [link for link in host.links if not names.isdisjoint((link.name, *link.altnames))]
    seen: set[int] = set()
    while waiting:
        link = waiting.pop()
        if link.index in seen:
            continue
        seen.add(link.index)
        if mark := mark_of(link):
            yield mark
            waiting += [
                each
                for each in host.links
                if each.master == link.index or each.index == link.parent
            ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

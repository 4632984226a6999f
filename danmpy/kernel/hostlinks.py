"""Values about the links of the node: what the kernel shows, and what can be changed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from types import MappingProxyType
from typing import Final

from danmpy.errors import HostError

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface

OWN_GROUP: Final = 0x64616E6D
"""The link group ("danm") that our links are born with.

The kernel takes the group in the request that makes a link and the alias only afterwards
(net/core/rtnetlink.c, rtnl_create_link), so between the two only the group says whose link it is.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class VxlanAttributes:
    """What makes a VXLAN link; `group` is the multicast group that it floods to, if any."""

    vni: int
    port: int
    local: IPAddress | None
    group: IPAddress | None = None
    learning: bool = True

    @property
    def family(self) -> int:
        """The IP version of the underlay: 4 or 6; the kernel takes 4 where nothing tells."""
        address = self.local or self.group
        return address.version if address else 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFacts:
    """One link as the kernel shows it.

    `parent` is the index of the lower device in this namespace, 0 for none; `master` the index of
    the bridge (or bond) that it is a port of. `mtu` is in bytes. `addresses` are those of global
    scope that can be used now, in the kernel's order. `flooding` are the remote VTEPs of a VXLAN
    link's all-zero FDB entries, without its multicast group.
    """

    index: int
    name: str
    kind: str = ""
    alias: str = ""
    altnames: frozenset[str] = frozenset()
    mtu: int = 1500
    up: bool = False
    group: int = 0
    mac: str = ""
    parent: int = 0
    master: int = 0
    vlan_id: int | None = None
    vxlan: VxlanAttributes | None = None
    addresses: tuple[IPInterface, ...] = ()
    flooding: frozenset[IPAddress] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """All links of the node at one moment."""

    links: tuple[LinkFacts, ...] = ()
    _by_name: Mapping[str, LinkFacts] = field(init=False, repr=False, compare=False)
    _by_index: Mapping[int, LinkFacts] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = {alias: link for link in self.links for alias in link.altnames}
        names.update((link.name, link) for link in self.links)
        object.__setattr__(self, "_by_name", MappingProxyType(names))
        indices = {link.index: link for link in self.links}
        object.__setattr__(self, "_by_index", MappingProxyType(indices))

    def named(self, name: str) -> LinkFacts | None:
        """The link of that name or alternative name."""
        return self._by_name.get(name)

    def at(self, index: int) -> LinkFacts | None:
        """The link of that index."""
        return self._by_index.get(index)


# Changes. Each is applied whole or raises; each is found done by the next reading. `index` 0 means
# "the link that is called so now"; else the change is for that very link, whatever its name.


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateLink:
    """Make a link, down, and mark it with `alias`. `parent` and `master` are names, "" for none."""

    name: str
    kind: str
    alias: str
    mtu: int
    parent: str = ""
    master: str = ""
    vlan_id: int | None = None
    vxlan: VxlanAttributes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeLink:
    """Change what is not None. `master` "" takes the link out of its bridge.

    `rename` is the new name of the link that is called `name` now (or has `index`).

    `vxlan` changes local address, group and learning; VNI, port and parent of a link are for life
    (drivers/net/vxlan, vxlan_changelink).
    """

    name: str
    index: int = 0
    up: bool | None = None
    mtu: int | None = None
    alias: str | None = None
    master: str | None = None
    vxlan: VxlanAttributes | None = None
    rename: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAltnames:
    """Add and remove alternative names (man ip-link, property altname)."""

    name: str
    index: int = 0
    add: frozenset[str] = frozenset()
    remove: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFlooding:
    """Add and remove all-zero FDB entries of a VXLAN link: who gets what has no known receiver."""

    name: str
    index: int = 0
    add: frozenset[IPAddress] = frozenset()
    remove: frozenset[IPAddress] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveLink:
    """Remove a link; absent is success."""

    name: str
    index: int = 0


LinkChange = CreateLink | ChangeLink | ChangeAltnames | ChangeFlooding | RemoveLink


class LinkKindError(HostError):
    """The kernel knows no links of the wanted kind: a module is missing."""

"""What admission asks of the world: wishes, the database, and now and then the API server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from danmpy.api.specs import NetworkKey, SegmentKind
from danmpy.intent.values import Intent
from danmpy.ipam.profiles import Holding
from danmpy.ipam.values import Lease


class Holders(Protocol):
    """Who holds addresses of a network: how many there are, and one of them."""

    @property
    def count(self) -> int:
        """Addresses that are held."""

    @property
    def example(self) -> Lease | None:
        """One of the leases; None when there is none."""


class Facts(Protocol):
    """What is recorded in the database.

    Raises (all methods):
        StoreError: the database cannot be asked now.
    """

    def holders(self, network: NetworkKey) -> Holders:
        """Who holds addresses of `network` now."""

    def attached(self, network: NetworkKey) -> int:
        """Interfaces on `network` as the nodes report them, with addresses or without."""

    def open_leases(self, network: NetworkKey) -> Sequence[Lease]:
        """Every address of `network` that is held now."""

    def assigned(self) -> Sequence[Holding]:
        """What every TenantNetwork has got."""

    def owners(self, kind: SegmentKind, number: int) -> Sequence[Holding]:
        """The TenantNetworks that have this VLAN id or VNI, on whichever device."""


class Wishes(Protocol):
    """What people want, from a cache that may be a moment late."""

    def read(self) -> Intent:
        """All of it. Never raises and never waits."""


class Lookups(Protocol):
    """Single questions to the API server, asked only before something would be refused.

    Raises (all methods):
        ClusterError: the API server cannot be asked now.
    """

    def network(self, network: NetworkKey) -> Mapping[str, Any] | None:
        """The object as it is; None when there is none."""

    def tenant_configs(self) -> Sequence[Mapping[str, Any]]:
        """All TenantConfigs as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionPorts:
    """The three together."""

    wishes: Wishes
    facts: Facts
    lookups: Lookups

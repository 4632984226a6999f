"""Segments of TenantNetworks: which device and which VLAN id or VNI each one has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine

from danmpy.api.specs import Condition, NetworkKey, NetworkSpec, TenantConfigSpec
from danmpy.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignments:
    """All networks that can be used, resolved, and the reasons for those that cannot.

    `networks` holds every network given, TenantNetworks with their device, segment and NetworkID
    filled in. A network with a problem is in `problems` and not in `networks`.
    """

    networks: Mapping[NetworkKey, NetworkSpec] = field(default_factory=dict)
    problems: Mapping[NetworkKey, Condition] = field(default_factory=dict)


class SegmentStore:
    """Assigns segments and remembers them."""

    def __init__(self, engine: Engine, clock: Clock, cooldown_seconds: int = 600) -> None:
        self._engine = engine
        self._clock = clock
        self._cooldown = cooldown_seconds

    def assign(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
    ) -> Assignments:
        """Give every TenantNetwork that needs one its segment; close those of networks gone.

        `networks` must be complete: one that is missing has its assignment closed. Asked again
        with the same input, it changes nothing.

        Raises:
            StoreError: the database cannot be used.
        """
        raise NotImplementedError

    def current(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
    ) -> Assignments:
        """What `assign` would answer now, without writing anything.

        Raises:
            StoreError: the database cannot be used.
        """
        raise NotImplementedError

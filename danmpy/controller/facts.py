"""The answers to what admission asks: from the database, and from the API server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from danmpy.api.specs import NetworkKey, SegmentKind
from danmpy.controller.ports import Holders
from danmpy.ipam.profiles import Holding
from danmpy.ipam.values import Lease
from danmpy.kube.client import KubeClient
from danmpy.kube.errors import MissingError
from danmpy.kube.resources import RESOURCE_OF, TENANT_CONFIGS

TIMEOUT_S: Final = 2.0
"""Seconds for one question to the API server: the review itself has to be answered within 5."""


class _Registry(Protocol):
    def holders(self, network: NetworkKey) -> Holders: ...

    def open_leases(self, network: NetworkKey) -> Sequence[Lease]: ...


class _Reports(Protocol):
    def attached(self, network: NetworkKey) -> int: ...


class _Segments(Protocol):
    def assigned(self) -> Sequence[Holding]: ...

    def owners(self, kind: SegmentKind, number: int) -> Sequence[Holding]: ...


class DatabaseFacts:
    """`ports.Facts` out of the stores of `ipam`: its registry, node reports and segments."""

    def __init__(self, registry: _Registry, reports: _Reports, segments: _Segments) -> None:
        self._registry = registry
        self._reports = reports
        self._segments = segments

    def holders(self, network: NetworkKey) -> Holders:
        """See `ports.Facts`."""
        return self._registry.holders(network)

    def attached(self, network: NetworkKey) -> int:
        """See `ports.Facts`."""
        return self._reports.attached(network)

    def open_leases(self, network: NetworkKey) -> Sequence[Lease]:
        """See `ports.Facts`."""
        return self._registry.open_leases(network)

    def assigned(self) -> Sequence[Holding]:
        """See `ports.Facts`."""
        return self._segments.assigned()

    def owners(self, kind: SegmentKind, number: int) -> Sequence[Holding]:
        """See `ports.Facts`."""
        return self._segments.owners(kind, number)


class LiveLookups:
    """`ports.Lookups`, put to the API server."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def network(self, network: NetworkKey) -> Mapping[str, Any] | None:
        """See `ports.Lookups`."""
        resource = RESOURCE_OF[str(network.kind)]
        try:
            return self._client.get(resource, network.name, network.namespace, timeout_s=TIMEOUT_S)
        except MissingError:
            return None

    def tenant_configs(self) -> Sequence[Mapping[str, Any]]:
        """See `ports.Lookups`."""
        return self._client.list(TENANT_CONFIGS, timeout_s=TIMEOUT_S).items

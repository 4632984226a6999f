"""What networks on one wire owe each other: what one keeps back, no other one gives away. Pure.

The collision domain of addresses is the segment. A gateway or an excluded address of one network
is a machine on that wire, whichever network a pod on it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from danmpy.api.addresses import bounds, merged
from danmpy.api.specs import NetworkKey, NetworkSpec, PoolSpec


def with_kept_back(networks: Mapping[NetworkKey, NetworkSpec]) -> dict[NetworkKey, NetworkSpec]:
    """The same networks; each excludes what the others on its wire reserve or exclude."""
    wires: dict[str, list[NetworkSpec]] = {}
    for network in networks.values():
        if network.segment is not None:
            wires.setdefault(network.domain, []).append(network)
    shared = dict(networks)
    for together in wires.values():
        if len(together) > 1:
            shared |= {network.key: _considerate(network, together) for network in together}
    return shared


def _considerate(network: NetworkSpec, together: list[NetworkSpec]) -> NetworkSpec:
    others = [other for other in together if other.key != network.key]
    return replace(
        network,
        v4=_without(network.v4, [other.v4 for other in others]),
        v6=_without(network.v6, [other.v6 for other in others]),
    )


def _without(pool: PoolSpec | None, others: list[PoolSpec | None]) -> PoolSpec | None:
    if pool is None:
        return None
    low, high = bounds(pool.subnet)
    theirs = [
        (max(first, low), min(last, high))
        for other in others
        if other is not None
        for first, last in (*other.reserved, *other.excluded)
        if first <= high and last >= low
    ]
    return replace(pool, excluded=merged([*pool.excluded, *theirs])) if theirs else pool

"""Does a changed network still fit what pods hold on it? Pure.

Refused is what would leave a pod with an address that is no longer one of its network's, or that
the network keeps for somebody else. Everything else may change under running pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from danmpy.api.drafts import FIELDS, OPTIONS
from danmpy.api.findings import Finding
from danmpy.api.specs import AddressMode, Family, IPAddress, NetworkSpec, PoolSpec
from danmpy.ipam.values import Lease

_FAMILIES: Final[tuple[Family, Family]] = (4, 6)


def narrows(old: NetworkSpec | None, new: NetworkSpec) -> bool:
    """Can `new` have a quarrel with a lease or a tenant that `old` had none with?

    Only then is it worth asking who holds what.
    """
    if old is None:
        return True
    before, after = old.allowed_tenants, new.allowed_tenants
    shut_out = after is not None and (before is None or not before <= after)
    return shut_out or any(_pool_narrows(old.pool(f), new.pool(f)) for f in _FAMILIES)


def judge_leases(
    old: NetworkSpec | None,
    new: NetworkSpec,
    leases: Iterable[Lease],
    neighbours: Iterable[Lease] = (),
) -> Iterator[Finding]:
    """One finding for each field of `new` that goes against `leases`, naming one pod and the count.

    `neighbours` are leases of other networks on the same wire: what this network reserves or
    excludes is kept back from them as well. What was as bad with `old` is not held against `new`.
    """
    groups: dict[tuple[str, str], list[Lease]] = {}
    for lease in leases:
        fault = _fault(new, lease)
        if fault is not None and fault != (_fault(old, lease) if old is not None else None):
            groups.setdefault(fault, []).append(lease)
    for lease in neighbours:
        fault = _kept_back(new, lease)
        if fault is not None and fault != (_kept_back(old, lease) if old is not None else None):
            groups.setdefault(fault, []).append(lease)
    for (path, code), found in groups.items():
        yield _finding(path, code, found)


def judge_tenants(new: NetworkSpec, leases: Sequence[Lease]) -> Iterator[Finding]:
    """AllowedTenants must not shut out a namespace whose pods hold addresses."""
    if new.allowed_tenants is None:
        return
    outside = [
        lease
        for lease in leases
        if not lease.is_reservation and lease.namespace not in new.allowed_tenants
    ]
    namespaces = sorted({lease.namespace for lease in outside})
    if outside:
        yield Finding(
            path="spec.AllowedTenants",
            code="TenantInUse",
            message=f"{', '.join(namespaces)} {'is' if len(namespaces) == 1 else 'are'} left out, "
            f"and {_who(outside)}",
            hint="keep the namespace in the list, or delete its pods first",
        )


def _pool_narrows(old: PoolSpec | None, new: PoolSpec | None) -> bool:
    if old == new or old is None:
        return False
    if new is None or not _inside(old, new):
        return True
    kept = (*new.gaps, *new.reserved, *new.excluded)
    return any(span not in (*old.gaps, *old.reserved, *old.excluded) for span in kept)


def _inside(old: PoolSpec, new: PoolSpec) -> bool:
    """Is everything that `old` could give still given by `new`?"""
    low, high = int(new.subnet.network_address), int(new.subnet.broadcast_address)
    covers = low <= int(old.subnet.network_address) and int(old.subnet.broadcast_address) <= high
    return covers and new.first <= old.first and old.last <= new.last


def _fault(network: NetworkSpec, lease: Lease) -> tuple[str, str] | None:
    """Field and code of what `network` says against `lease`; None when it fits."""
    pool = network.pool(lease.family)
    names = FIELDS[lease.family]
    address = lease.address.ip
    if pool is None or address not in pool.subnet:
        return names.subnet, "SubnetInUse"
    if kept := _kept_back(network, lease):
        return kept
    if lease.mode is not AddressMode.DYNAMIC:
        return None
    if _covers(pool.gaps, int(address)):
        return "ranges", "PoolInUse"
    if not pool.first <= int(address) <= pool.last:
        return names.pool, "PoolInUse"
    return None


def _kept_back(network: NetworkSpec, lease: Lease) -> tuple[str, str] | None:
    pool = network.pool(lease.family)
    address = lease.address.ip
    if pool is None or address not in pool.subnet:
        return None
    if _covers(pool.reserved, int(address)):
        return _reserving_field(network, lease.family, address), "GatewayInUse"
    if _covers(pool.excluded, int(address)):
        return "exclude", "ExcludeInUse"
    return None


def _reserving_field(network: NetworkSpec, family: Family, address: IPAddress) -> str:
    """The field by which an address became reserved: a gateway, or else the subnet's ends."""
    names = FIELDS[family]
    if address in {network.gateway, network.gateway6}:
        return names.gateway
    routes = network.routes if family == 4 else network.routes6
    if any(route.gateway == address for route in routes):
        return names.routes
    return names.subnet


def _covers(ranges: Iterable[tuple[int, int]], number: int) -> bool:
    return any(first <= number <= last for first, last in ranges)


_PROBLEMS: Final = {
    "SubnetInUse": ("the subnet leaves out addresses that are in use", "keep them inside"),
    "PoolInUse": ("the pool leaves out addresses that were given from it", "keep them inside"),
    "GatewayInUse": ("it keeps an address that a pod has", "choose another address"),
    "ExcludeInUse": ("it excludes addresses that are in use", "leave them out of the list"),
}


def _finding(field: str, code: str, leases: Sequence[Lease]) -> Finding:
    problem, hint = _PROBLEMS[code]
    return Finding(
        path=f"{OPTIONS}.{field}",
        code=code,
        message=f"{problem}: {_who(leases)}",
        hint=f"{hint}, or delete the pods first",
    )


def _who(leases: Sequence[Lease]) -> str:
    first = leases[0]
    more = f" and {len(leases) - 1} more" if len(leases) > 1 else ""
    return f"{first.holder} holds {first.address.ip}{more}"

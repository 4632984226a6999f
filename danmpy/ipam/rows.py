"""Rows of `lease` as values, and the events that tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from sqlalchemy import Row

from danmpy.api.specs import AddressMode
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.values import Lease


def to_lease(row: Row[Any]) -> Lease:
    """The value of a row of the table `lease`."""
    return lease_from(row._mapping)  # noqa: SLF001 - documented as public by SQLAlchemy


def lease_from(row: Mapping[Any, Any]) -> Lease:
    """The value of the columns of the table `lease`."""
    make = IPv4Interface if row["family"] == 4 else IPv6Interface
    return Lease(
        id=row["id"],
        network=row["network"],
        domain=row["domain"],
        family=row["family"],
        address=make((bytes(row["address"]), row["prefix"])),
        interface=row["interface"],
        namespace=row["namespace"],
        pod=row["pod"],
        pod_uid=row["pod_uid"],
        container_id=row["container_id"],
        node=row["node"],
        mac=row["mac"],
        mode=AddressMode(row["mode"]),
        from_=row["held_from"],
        to=row["held_to"],
        end_reason=row["end_reason"],
        note=row["note"],
        claim=row["claim"],
        shared_by=tuple(row["shared_by"].split()),
        network_uid=row["network_uid"],
    )


def event_of(lease: Lease, kind: EventKind, at: int, **more: Any) -> dict[str, Any]:
    """The event of `kind` about `lease`, recorded at `at`; `more` overrides or adds columns.

    `detail` carries what the lease row says beyond the columns, so that the row can be checked:
    how it began here, how it ended in the event of its release.
    """
    detail: dict[str, Any] = {"mode": str(lease.mode), "prefix": lease.address.network.prefixlen}
    further = {
        "note": lease.note,
        "claim": lease.claim,
        "shared_by": " ".join(lease.shared_by),
    }
    detail |= {name: value for name, value in further.items() if value}
    return {
        "at": at,
        "effective_at": lease.from_,
        "kind": str(kind),
        "lease_id": lease.id,
        "network": lease.network,
        "domain": lease.domain,
        "family": lease.family,
        "address": str(lease.address.ip),
        "interface": lease.interface,
        "namespace": lease.namespace,
        "pod": lease.pod,
        "pod_uid": lease.pod_uid,
        "container_id": lease.container_id,
        "node": lease.node,
        "mac": lease.mac,
        "detail": detail,
        **more,
    }

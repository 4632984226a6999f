"""What is taken over from another tool that handed addresses out, and when it may not be. Pure.

Adopted is only what nobody else has: an address that another container holds here, or that still
rests after one, stays as it is, and a person decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from danmpy.api.specs import AddressMode, IPAddress, NetworkSpec
from danmpy.clock import to_rfc3339
from danmpy.ipam.pools import pack
from danmpy.ipam.values import Lease, LeaseOwner

Place = tuple[str, bytes]
"""A collision domain and an address as it is stored."""


class Verdict(StrEnum):
    """What became of one address of another tool, or what would become of it."""

    ADOPTED = "adopted"
    HELD = "held"
    ENDED = "ended"
    RESERVED = "reserved"
    UNOWNED = "unowned"
    CONFLICT = "conflict"
    OUTSIDE = "outside"
    UNKNOWN_NETWORK = "unknown network"

    @property
    def is_finding(self) -> bool:
        """Must a person look at it?"""
        return self in _FINDINGS


_FINDINGS = frozenset({Verdict.UNOWNED, Verdict.CONFLICT, Verdict.OUTSIDE, Verdict.UNKNOWN_NETWORK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """One address in the hand of a container that another tool gave it to.

    `network` is resolved, and `address` is one of its subnet. `source` is the tool; `since` is when
    it handed the address out, in microseconds, where it tells that.
    """

    network: NetworkSpec
    address: IPAddress
    owner: LeaseOwner
    interface: str
    mac: str | None = None
    mode: AddressMode = AddressMode.DYNAMIC
    source: str
    since: int | None = None

    @property
    def place(self) -> Place:
        """Where no two may be."""
        return self.network.domain, pack(self.address.version, int(self.address))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resting:
    """An address that was released, and by whom; times in microseconds."""

    namespace: str
    pod: str
    claim: str
    released_at: int
    ready_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the database says about the place of an adoption, and about its owner.

    `holder` holds the address now; `last` is a lease of this container and address that ended;
    `own` are the open leases of the container, of the pod with this UID, and under its claim.
    """

    holder: Lease | None = None
    resting: Resting | None = None
    last: Lease | None = None
    own: tuple[Lease, ...] = ()
    retired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an adoption, and why in words (empty where nothing is to be said)."""

    verdict: Verdict
    message: str = ""


def judge(adoption: Adoption, standing: Standing, now: int) -> Outcome | None:
    """Why `adoption` is not made; None when it is to be made."""
    if standing.holder is not None:
        return _held(adoption, standing.holder)
    last = standing.last
    if last is not None and last.to is not None:
        # A dump that is older than the end: nobody has the address any more.
        return Outcome(
            verdict=Verdict.ENDED,
            message=f"the container had it until {to_rfc3339(last.to)} ({last.end_reason})",
        )
    if standing.retired:
        return Outcome(verdict=Verdict.CONFLICT, message="the network is being deleted")
    resting = standing.resting
    if resting is not None and resting.ready_at > now and not _is_same_pod(adoption, resting):
        after = f"Pod/{resting.namespace}/{resting.pod}" if resting.pod else "its last holder"
        kept = f", kept for its claim {resting.claim}," if resting.claim else ""
        return Outcome(
            verdict=Verdict.CONFLICT,
            message=f"it rests after {after}{kept} until {to_rfc3339(resting.ready_at)}",
        )
    newer = next((each for each in standing.own if _is_newer_sandbox(adoption, each)), None)
    if newer is not None:
        return Outcome(
            verdict=Verdict.CONFLICT,
            message=f"the pod has {newer.address.ip} on {newer.interface} by now, in container "
            f"{newer.container_id[:12]}",
        )
    return None


def named_apart(adoption: Adoption, own: tuple[Lease, ...]) -> Adoption:
    """`adoption` under an interface name that the container has no other address of the family on.

    Other tools may give an interface two addresses of a family, or not name the interface. Then the
    address stands in the name: a container has one lease per interface and family.
    """
    name = adoption.interface or f"?:{adoption.address}"
    taken = any(
        (each.container_id, each.interface, each.family)
        == (adoption.owner.container_id, name, adoption.address.version)
        for each in own
    )
    if not taken:
        return replace(adoption, interface=name)
    # No pod asks for an interface of such a name, so no claim brings it back.
    owner = replace(adoption.owner, claim="")
    return replace(adoption, interface=f"{name}:{adoption.address}", owner=owner)


def vacant(adoption: Adoption, own: tuple[Lease, ...]) -> Adoption:
    """`adoption` under its claim only where that keeps no other address in the same place."""
    owner = adoption.owner
    place = (str(adoption.network.key), adoption.interface, adoption.address.version)
    taken = any(
        (each.namespace, each.claim) == (owner.namespace, owner.claim)
        and (each.network, each.interface, each.family) == place
        for each in own
    )
    # As in a bind: an address that was asked for by name is not kept.
    if adoption.mode is AddressMode.DYNAMIC and not taken:
        return adoption
    return replace(adoption, owner=replace(owner, claim=""))


def _held(adoption: Adoption, holder: Lease) -> Outcome:
    owner = adoption.owner
    since = f"since {to_rfc3339(holder.from_)}"
    if holder.container_id == owner.container_id:
        return Outcome(verdict=Verdict.HELD, message=f"{since}, in the same container")
    names = (holder.namespace, holder.pod) == (owner.namespace, owner.pod)
    same_uid = not owner.pod_uid or not holder.pod_uid or owner.pod_uid == holder.pod_uid
    if owner.pod and names and same_uid:
        return Outcome(
            verdict=Verdict.HELD,
            message=f"{since}, by container {holder.container_id[:12]} of the same pod",
        )
    return Outcome(
        verdict=Verdict.CONFLICT, message=f"{holder.holder} holds it ({holder.network}) {since}"
    )


def _is_same_pod(adoption: Adoption, resting: Resting) -> bool:
    owner = adoption.owner
    return owner.pod != "" and (owner.namespace, owner.pod) == (resting.namespace, resting.pod)


def _is_newer_sandbox(adoption: Adoption, other: Lease) -> bool:
    """Does another container of the same pod have the place that the unique index keeps?"""
    owner = adoption.owner
    return (
        owner.pod_uid != ""
        and other.container_id != owner.container_id
        and (other.pod_uid, other.namespace, other.pod)
        == (owner.pod_uid, owner.namespace, owner.pod)
        and (other.network, other.interface, other.family)
        == (str(adoption.network.key), adoption.interface, adoption.address.version)
    )

"""What one bind asks for, address by address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from danmpy.api.specs import AddressAsk, AddressMode, Family, IPAddress, NetworkSpec, PoolSpec
from danmpy.errors import IntentError
from danmpy.ipam.picking import PoolKey
from danmpy.ipam.pools import pack, require_assignable
from danmpy.ipam.values import LeaseRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """One address that is asked for: an interface and a family of it.

    `claim` is the name in the pod's namespace that dynamic addresses are kept for; empty: none.
    """

    interface: str
    network: NetworkSpec
    pool: PoolSpec
    family: Family
    ask: AddressAsk
    mac: str | None
    claim: str = ""

    @property
    def key(self) -> PoolKey:
        """Which pool it comes from."""
        return str(self.network.key), self.family, self.network.domain

    @property
    def is_claimed(self) -> bool:
        """Is the address kept for the claim? One that is asked for by name need not be."""
        return self.claim != "" and self.ask.mode is AddressMode.DYNAMIC

    @property
    def slot(self) -> tuple[str, Family]:
        """Interface and family: at most one lease of a container has them."""
        return self.interface, self.family

    @property
    def packed(self) -> bytes | None:
        """The static address as it is stored; None when any will do."""
        return None if self.ask.address is None else pack(self.family, int(self.ask.address))


def parse_wants(requests: Sequence[LeaseRequest], claim: str = "") -> tuple[Want, ...]:
    """The addresses that `requests` ask for, all of them possible by themselves.

    `claim` is that of the pod, for interfaces without one of their own.

    Raises:
        IntentError: no subnet of the family; outside it, reserved or excluded; asked twice.
    """
    wants = tuple(_wants(requests, claim))
    slots: set[tuple[str, Family]] = set()
    statics: set[tuple[str, bytes]] = set()
    for want in wants:
        place = (want.network.domain, want.packed or b"")
        if want.slot in slots or (want.packed and place in statics):
            raise IntentError(
                f"interface {want.interface} asks for an IPv{want.family} address that "
                "this pod asks for already",
                hint="every interface needs its own name and its own static address",
                subject=str(want.network.key),
            )
        slots.add(want.slot)
        statics.add(place)
    return wants


def _wants(requests: Sequence[LeaseRequest], claim: str) -> Iterator[Want]:
    for request in requests:
        for family, ask in request.asks():
            pool = request.network.pool(family)
            field = "cidr" if family == 4 else "net6"
            if pool is None:
                raise IntentError(
                    f"interface {request.interface} asks for an IPv{family} address, but the "
                    f"network has no IPv{family} subnet",
                    hint=f"set Options.{field} on the network or do not ask for the address",
                    subject=str(request.network.key),
                )
            if ask.address is not None:
                require_assignable(pool, ask.address, str(request.network.key))
            yield Want(
                interface=request.interface,
                network=request.network,
                pool=pool,
                family=family,
                ask=ask,
                mac=request.mac,
                claim=request.claim or claim,
            )


def static_address(want: Want) -> IPAddress:
    """The address that a static want names.

    Raises:
        IntentError: it names none.
    """
    if want.ask.address is None:
        raise IntentError(
            f"interface {want.interface} asks for a static IPv{want.family} address without "
            "saying which",
            hint="name the address",
            subject=str(want.network.key),
        )
    return want.ask.address

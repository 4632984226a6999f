"""Addresses, subnets and ranges out of text; each refusal says what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from danmpy.api.specs import Family, IPAddress, IPNetwork

Range = tuple[int, int]
"""First and last address as integers, both inclusive."""

_PREFIX: Final = re.compile(r"[0-9]{1,3}", re.ASCII)
_MAC: Final = re.compile(r"[0-9a-f]{2}([:-])[0-9a-f]{2}(\1[0-9a-f]{2}){4}", re.ASCII)
_EXAMPLE: Final[dict[Family, str]] = {4: "10.20.0.0/24", 6: "2001:db8:20::/64"}
_ADDRESS_EXAMPLE: Final[dict[Family, str]] = {4: "10.20.0.7", 6: "2001:db8:20::7"}


class TextError(ValueError):
    """A text that is not what it should be: what is wrong, and what to write."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def parse_subnet(text: str, family: Family) -> IPNetwork:
    """The subnet `text`; host bits are dropped, as DANM does (Go's net.ParseCIDR).

    Raises:
        TextError: it has no prefix length, is no address, or is of the other family.
    """
    address, slash, prefix = text.partition("/")
    try:
        if not slash or not _PREFIX.fullmatch(prefix) or "%" in text:
            raise ValueError(text)
        subnet = ip_network(f"{address}/{prefix}", strict=False)
    except ValueError:
        raise TextError(
            f"{text!r} is no IPv{family} subnet", f"write it as {_EXAMPLE[family]}"
        ) from None
    if subnet.version != family:
        raise TextError(
            f"{text} is an IPv{subnet.version} subnet where IPv{family} belongs",
            f"write it as {_EXAMPLE[family]}",
        )
    return subnet


def parse_exact_subnet(text: str, family: Family) -> IPNetwork:
    """As `parse_subnet`, but host bits are an error that names the subnet without them."""
    subnet = parse_subnet(text, family)
    if ip_address(text.partition("/")[0]) != subnet.network_address:
        raise TextError(f"{text} has host bits set", f"write {subnet}")
    return subnet


def parse_one(text: str, family: Family) -> IPAddress:
    """One address of `family`.

    Raises:
        TextError: it is none, or of the other family.
    """
    try:
        if "%" in text:
            raise ValueError(text)
        address = ip_address(text)
    except ValueError:
        raise TextError(
            f"{text!r} is no IPv{family} address", f"write it as {_ADDRESS_EXAMPLE[family]}"
        ) from None
    if address.version != family:
        raise TextError(
            f"{text} is an IPv{address.version} address where IPv{family} belongs",
            f"write it as {_ADDRESS_EXAMPLE[family]}",
        )
    return address


def parse_unicast(text: str) -> IPAddress:
    """One address of either family that a single host can have.

    Raises:
        TextError: it is none, or a multicast, loopback, unspecified or broadcast address.
    """
    address = parse_one(text, 6 if ":" in text else 4)
    special = address.is_multicast or address.is_loopback or address.is_unspecified
    if special or str(address) == "255.255.255.255":
        raise TextError(f"{address} is no address of one host", "write a unicast address")
    return address


def parse_ranges(text: str) -> tuple[Family, Range]:
    """One entry of `exclude`: an address, ``first-last``, or a CIDR.

    Raises:
        TextError: it is none of the three, its ends are of two families or the wrong way round.
    """
    family: Family = 6 if ":" in text else 4
    if "/" in text:
        subnet = parse_exact_subnet(text, family)
        return family, bounds(subnet)
    first_text, dash, last_text = (part.strip() for part in text.partition("-"))
    first = parse_one(first_text, family)
    last = parse_one(last_text, family) if dash else first
    if int(last) < int(first):
        raise TextError(f"{text} ends before it starts", f"write {last}-{first}")
    return family, (int(first), int(last))


def parse_mac(text: str) -> str:
    """A unicast MAC address in lower case with colons.

    Raises:
        TextError: it is none, or a group or the zero address (IEEE 802, I/G bit).
    """
    lowered = text.lower()
    if not _MAC.fullmatch(lowered):
        raise TextError(f"{text!r} is no MAC address", "write it as 02:00:5e:10:00:07")
    mac = lowered.replace("-", ":")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise TextError(
            f"{mac} is a group or the zero address", "write a unicast address: even first octet"
        )
    return mac


def bounds(subnet: IPv4Network | IPv6Network) -> Range:
    """First and last address of `subnet` as integers."""
    return int(subnet.network_address), int(subnet.broadcast_address)


def merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same addresses as sorted ranges that neither overlap nor touch."""
    result: list[Range] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return tuple(result)

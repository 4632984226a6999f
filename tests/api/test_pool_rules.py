from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from danmpy.api.drafts import draft_network
from danmpy.api.findings import Finding
from danmpy.api.networks import NetworkBody
from danmpy.api.pool_rules import FAMILY_RULES, exclude_inside, ranges_usable
from danmpy.api.specs import NetworkKind

V4: dict[str, Any] = {"cidr": "10.0.0.0/24"}
V6: dict[str, Any] = {"net6": "2001:db8::/64"}


def findings(**options: Any) -> list[Finding]:
    body = NetworkBody.model_validate({"Options": options})
    draft = draft_network(NetworkKind.CLUSTER, body)
    found = [one for family in draft.families for rule in FAMILY_RULES for one in rule(family)]
    found += [*exclude_inside(draft), *ranges_usable(draft)]
    assert all(one.message and one.hint for one in found)
    return found


def codes(**options: Any) -> list[tuple[str, str]]:
    return [(one.code, one.path.removeprefix("spec.Options.")) for one in findings(**options)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        V4,
        V6,
        V4 | V6,
        V4 | {"allocation_pool": {"start": "10.0.0.5", "end": "10.0.0.9", "lastIp": "10.0.0.6/24"}},
        V4 | {"allocation_pool": {"start": "10.0.0.5"}},
        V4 | {"allocation_pool": {"end": "10.0.0.5"}},
        V4
        | {"routes": {"10.20.0.0/16": "10.0.0.1", "0.0.0.0/0": "10.0.0.1"}, "gateway": "10.0.0.1"},
        V4 | {"routes": {"10.20.0.1/16": "10.0.0.1"}},
        V6 | {"routes6": {"::/0": "2001:db8::1"}, "gateway6": "2001:db8::"},
        V6 | {"allocation_pool_v6": {"cidr": "2001:db8::/105"}},
        V4 | V6 | {"exclude": ["10.0.0.9", "10.0.0.20-10.0.0.30", "2001:db8::/80"]},
        V4 | V6 | {"ranges": ["10.0.0.9", "10.0.0.20-10.0.0.30", "2001:db8::/80"]},
        V4 | V6 | {"ranges": ["10.0.0.9"], "allocation_pool_v6": {"start": "2001:db8::9"}},
        {"cidr": "10.0.0.7/24"},
        {"cidr": "10.0.0.0/8"},
    ],
)
def test_good_addresses_have_no_findings(options: dict[str, Any]) -> None:
    assert codes(**options) == []


@pytest.mark.parametrize("prefix", [30, 31, 32])
def test_small_ipv4_subnets_work(prefix: int) -> None:
    assert codes(cidr=f"10.0.0.0/{prefix}") == []


@pytest.mark.parametrize("prefix", [126, 127, 128])
def test_small_ipv6_subnets_work(prefix: int) -> None:
    assert codes(net6=f"2001:db8::/{prefix}") == []


def test_a_pool_of_one_address_works() -> None:
    assert codes(**V4, allocation_pool={"start": "10.0.0.5", "end": "10.0.0.5"}) == []


@pytest.mark.parametrize(
    ("options", "code", "path"),
    [
        # rules 1, 4, 8, 13
        ({"routes": {"10.0.0.0/8": "10.0.0.1"}}, "SubnetMissing", "routes"),
        ({"routes6": {"::/0": "2001:db8::1"}}, "SubnetMissing", "routes6"),
        ({"allocation_pool": {"start": "10.0.0.5"}}, "SubnetMissing", "allocation_pool.start"),
        ({"allocation_pool": {"end": "10.0.0.5"}}, "SubnetMissing", "allocation_pool.end"),
        (
            {"allocation_pool_v6": {"cidr": "2001:db8::/105"}},
            "SubnetMissing",
            "allocation_pool_v6.cidr",
        ),
        ({"gateway": "10.0.0.1"}, "SubnetMissing", "gateway"),
        ({"gateway6": "2001:db8::1"}, "SubnetMissing", "gateway6"),
        # rules 2, 5, 9, 14
        ({"cidr": "nonsense"}, "SubnetInvalid", "cidr"),
        ({"cidr": "2001:db8::/64"}, "SubnetInvalid", "cidr"),
        ({"net6": "nonsense"}, "SubnetInvalid", "net6"),
        ({"net6": "10.0.0.0/24"}, "SubnetInvalid", "net6"),
        # rules 3, 6
        (V4 | {"routes": {"10.9.0.0/16": "10.0.1.1"}}, "GatewayOutside", "routes.10.9.0.0/16"),
        (V6 | {"routes6": {"::/0": "2001:db9::1"}}, "GatewayOutside", "routes6.::/0"),
        (V4 | {"routes": {"10.9.0.0/16": "x"}}, "GatewayInvalid", "routes.10.9.0.0/16"),
        (V4 | {"routes": {"10.9.0.1": "10.0.0.1"}}, "RouteInvalid", "routes.10.9.0.1"),
        # rule 7
        (V4 | {"alloc": "gAAAAAAAAAE="}, "AllocSet", "alloc"),
        (V6 | {"alloc6": "gAAAAAAAAAE="}, "AllocSet", "alloc6"),
        # rule 10
        ({"cidr": "10.0.0.0/7"}, "SubnetTooLarge", "cidr"),
        # rules 11, 18
        (V4 | {"allocation_pool": {"start": "10.0.1.0"}}, "PoolOutside", "allocation_pool.start"),
        (V4 | {"allocation_pool": {"start": "x"}}, "PoolInvalid", "allocation_pool.start"),
        (V6 | {"allocation_pool_v6": {"end": "10.0.0.1"}}, "PoolInvalid", "allocation_pool_v6.end"),
        (
            V6 | {"allocation_pool_v6": {"cidr": "2001:db8::/120", "end": "2001:db8::1:0"}},
            "PoolOutside",
            "allocation_pool_v6.end",
        ),
        # rules 12, 20
        (
            V4 | {"allocation_pool": {"start": "10.0.0.9", "end": "10.0.0.8"}},
            "PoolReversed",
            "allocation_pool.end",
        ),
        (
            V6 | {"allocation_pool_v6": {"start": "2001:db8::9", "end": "2001:db8::8"}},
            "PoolReversed",
            "allocation_pool_v6.end",
        ),
        # rules 15, 16, 19
        (V6 | {"allocation_pool_v6": {"cidr": "x"}}, "PoolInvalid", "allocation_pool_v6.cidr"),
        (
            V6 | {"allocation_pool_v6": {"cidr": "10.0.0.0/24"}},
            "PoolInvalid",
            "allocation_pool_v6.cidr",
        ),
        (
            V6 | {"allocation_pool_v6": {"cidr": "2001:db9::/80"}},
            "PoolOutside",
            "allocation_pool_v6.cidr",
        ),
        (
            V6 | {"allocation_pool_v6": {"cidr": "2001:db8::/48"}},
            "PoolOutside",
            "allocation_pool_v6.cidr",
        ),
        # ours
        (V4 | {"gateway": "10.0.1.1"}, "GatewayOutside", "gateway"),
        (V4 | {"gateway": "x"}, "GatewayInvalid", "gateway"),
        (V4 | {"gateway": "10.0.0.0"}, "GatewayInvalid", "gateway"),
        (V4 | {"gateway": "10.0.0.255"}, "GatewayInvalid", "gateway"),
        (V4 | {"exclude": ["10.0.1.1"]}, "ExcludeOutside", "exclude[0]"),
        (V4 | {"exclude": ["10.0.0.200-10.0.1.5"]}, "ExcludeOutside", "exclude[0]"),
        (V4 | {"exclude": ["10.0.0.1", "2001:db8::1"]}, "ExcludeOutside", "exclude[1]"),
        (V4 | {"exclude": ["nonsense"]}, "ExcludeInvalid", "exclude[0]"),
    ],
)
def test_a_broken_rule_is_told_once_with_its_field(
    options: dict[str, Any], code: str, path: str
) -> None:
    assert codes(**options) == [(code, path)]


def test_a_destination_is_routed_once() -> None:
    routes = {"2001:db8:1::/48": "2001:db8::1", "2001:db8:1::5/48": "2001:db8::2"}
    assert codes(**V6, routes6=routes) == [("RouteInvalid", "routes6.2001:db8:1::5/48")]


def test_what_follows_from_a_broken_subnet_is_not_told_again() -> None:
    broken = {"cidr": "x", "gateway": "10.0.0.1", "exclude": ["10.0.0.1"]}
    assert codes(**broken, allocation_pool={"start": "10.0.0.1"}) == [("SubnetInvalid", "cidr")]


def test_the_gateway_of_a_point_to_point_subnet_may_be_either_address() -> None:
    assert codes(cidr="10.0.0.0/31", gateway="10.0.0.0") == []


def test_several_rules_are_told_together() -> None:
    options = {"cidr": "10.0.0.0/24", "alloc": "x", "gateway": "1.1.1.1", "exclude": ["x"]}
    assert len(codes(**options)) == 3


def test_a_field_of_the_wrong_type_never_reaches_the_rules() -> None:
    with pytest.raises(ValidationError):
        findings(cidr=5)


@pytest.mark.parametrize(
    ("options", "code", "path"),
    [
        (V4 | {"ranges": ["10.0.0.9", "10.0.1.1"]}, "RangesOutside", "ranges[1]"),
        (V4 | {"ranges": ["10.0.0.9-x"]}, "RangesInvalid", "ranges[0]"),
        (V4 | {"ranges": ["10.0.0.9-10.0.0.5"]}, "RangesInvalid", "ranges[0]"),
        (V4 | {"ranges": ["10.0.0.9/25"]}, "RangesInvalid", "ranges[0]"),
        (V4 | {"ranges": ["2001:db8::7"]}, "RangesOutside", "ranges[0]"),
        (
            V4 | {"ranges": ["10.0.0.9"], "allocation_pool": {"end": "10.0.0.20"}},
            "RangesBesidePool",
            "ranges",
        ),
        (
            V6 | {"ranges": ["2001:db8::9"], "allocation_pool_v6": {"cidr": "2001:db8::/80"}},
            "RangesBesidePool",
            "ranges",
        ),
    ],
)
def test_ranges_that_cannot_be_are_refused(options: dict[str, Any], code: str, path: str) -> None:
    assert codes(**options) == [(code, path)]

"""Leases, requests and usage as values: what they ask, and what scripts see of them."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.specs import AddressAsk, AddressMode
from danmpy.ipam.values import Lease, LeaseRequest, PoolUsage
from support.specs import DYNAMIC, NONE, network, static, tenant_key

BLUE = network(tenant_key("internal"), v4="10.0.0.0/24", v6="fd00::/64")

LEASE = Lease(
    id=1,
    network="TenantNetwork/blue/internal",
    domain="ens4/vxlan/700",
    family=4,
    address=ip_interface("10.0.0.5/24"),
    interface="eth0",
    namespace="blue",
    pod="web-0",
    pod_uid="u",
    container_id="c",
    node="n",
    mac=None,
    mode=AddressMode.DYNAMIC,
    from_=1_000_000,
)


@pytest.mark.parametrize(
    ("ip", "ip6", "families"),
    [
        (DYNAMIC, DYNAMIC, [4, 6]),
        (DYNAMIC, AddressAsk(), [4]),
        (AddressAsk(), static("fd00::5"), [6]),
        (NONE, DYNAMIC, [6]),
        (NONE, NONE, []),
        (AddressAsk(), AddressAsk(), []),
    ],
)
def test_only_dynamic_and_static_requests_make_leases(
    ip: AddressAsk, ip6: AddressAsk, families: list[int]
) -> None:
    request = LeaseRequest(interface="eth0", network=BLUE, ip=ip, ip6=ip6)
    assert [family for family, _ in request.asks()] == families


def test_a_held_lease_has_no_end_and_its_times_are_utc_texts() -> None:
    shown = LEASE.to_json()
    assert set(shown) == {
        "address", "family", "network", "namespace", "pod", "pod_uid", "container_id", "interface",
        "node", "mac", "mode", "from", "to", "end_reason",
        "note", "claim", "shared_by",
    }  # fmt: skip
    assert (shown["address"], shown["mode"]) == ("10.0.0.5/24", "dynamic")
    assert (shown["from"], shown["to"]) == ("1970-01-01T00:00:01.000000Z", None)


@given(capacity=st.integers(0, 2**64), data=st.data())
def test_the_percentage_is_that_of_what_cannot_be_had_now(
    capacity: int, data: st.DataObject
) -> None:
    free = data.draw(st.integers(0, capacity))
    usage = PoolUsage(cidr="::/64", capacity=capacity, held=0, outside=0, cooling=0, free=free)
    assert 0.0 <= usage.percent <= 100.0
    assert (usage.percent == 0.0) or free < capacity or capacity == 0


def test_an_empty_pool_is_full() -> None:
    usage = PoolUsage(cidr="10.0.0.0/32", capacity=0, held=0, outside=0, cooling=0, free=0)
    assert usage.percent == 100.0
    assert usage.to_json()["percent"] == 100.0

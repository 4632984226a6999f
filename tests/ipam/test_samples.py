"""Samples of use on both engines: two grains, peaks, bounded rows, and a forecast."""

from __future__ import annotations

import pytest

from danmpy.clock import MICROSECONDS
from danmpy.ipam import samples
from danmpy.ipam.retaining import DAY
from danmpy.ipam.samples import UsageSamples
from danmpy.ipam.values import NetworkUsage, PoolUsage
from support.leasing import World

HOUR = DAY // 24
NET = "TenantNetwork/blue/internal"


class Time:
    """A time for both engines that a test sets."""

    now = 20_000 * DAY


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(samples, "database_now", lambda *_: made.now)
    return made


@pytest.fixture
def store(world: World) -> UsageSamples:
    return UsageSamples(world.engine, world.clock)


def usage(held: int, network: str = NET, capacity: int = 100) -> NetworkUsage:
    pool = PoolUsage(
        cidr="10.0.0.0/24",
        capacity=capacity,
        held=held,
        outside=0,
        cooling=1,
        free=capacity - held - 1,
    )
    return NetworkUsage(network=network, v4=pool, v6=None)


def test_samples_of_five_minutes_and_the_peak_of_the_hour(store: UsageSamples, time: Time) -> None:
    for minute, held in ((0, 3), (2, 5), (6, 9), (11, 4)):
        time.now = 20_000 * DAY + minute * 60 * MICROSECONDS
        assert store.record([usage(held)]) == 1
    fine = list(store.series([NET], 20_000 * DAY, None))
    assert [(each.step, each.held, each.peak, each.free) for each in fine] == [
        (300, 5, 5, 94),
        (300, 9, 9, 90),
        (300, 4, 4, 95),
    ]
    (hour,) = store.series([NET], time.now - 3 * DAY, time.now + 1)
    assert (hour.step, hour.at, hour.held, hour.peak) == (3600, 20_000 * DAY, 4, 9)
    assert list(store.series([NET], None, 20_000 * DAY)) == []
    assert list(store.series(["TenantNetwork/red/a"], None, None)) == []


def test_a_long_series_is_read_in_pages(
    store: UsageSamples, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_PAGE", 2)
    for _ in range(5):
        store.record([usage(1), usage(2, "TenantNetwork/red/a")])
        time.now += 300 * MICROSECONDS
    read = [(each.network, each.at) for each in store.series([NET, "TenantNetwork/red/a"], 0, None)]
    assert len(read) == 2
    fine = list(store.series([NET, "TenantNetwork/red/a"], time.now - HOUR, None))
    assert len(fine) == 10
    assert [(each.network, each.at) for each in fine] == sorted(
        (each.network, each.at) for each in fine
    )


def test_old_samples_go_and_the_number_of_rows_is_bounded(
    world: World, store: UsageSamples, time: Time
) -> None:
    for _ in range(30):
        store.record([usage(1)])
        time.now += 6 * HOUR
    store.forget_old()
    rows = dict(world.rows("SELECT step, count(*) FROM usage_sample GROUP BY step"))
    assert rows == {300: 8, 3600: 30}
    time.now += 401 * DAY
    assert store.forget_old() == 38
    assert world.rows("SELECT 1 FROM usage_sample") == []


def test_the_forecast_goes_by_the_last_week(store: UsageSamples, time: Time) -> None:
    for held in range(10, 34):
        store.record([usage(held), usage(7, "TenantNetwork/red/a")])
        time.now += HOUR
    now = [usage(33), usage(7, "TenantNetwork/red/a"), usage(1, "TenantNetwork/new/a")]
    told = store.forecasts(now)
    assert told[NET, 4] == pytest.approx(time.now + 66 * HOUR, abs=MICROSECONDS)
    assert told["TenantNetwork/red/a", 4] is None
    assert told["TenantNetwork/new/a", 4] is None


def test_the_addresses_of_a_big_subnet_fit(store: UsageSamples, time: Time) -> None:
    store.record([usage(3, capacity=2**64)])
    (sample,) = store.series([NET], None, None)
    assert (sample.capacity, sample.held) == (2**63 - 1, 3)
    assert sample.to_json()["peak"] == 3

"""`danmpy audit usage --from|--to|--forecast`: use over time, and when a pool is full."""

from __future__ import annotations

import csv
import io

import pytest

from danmpy.bootstrap.readers import open_samples
from danmpy.clock import from_rfc3339, to_rfc3339, wall_clock
from danmpy.ipam import samples
from danmpy.ipam.retaining import DAY
from danmpy.ipam.values import NetworkUsage, PoolUsage
from support.console import World

NET = "TenantNetwork/blue/internal"
HOUR = DAY // 24


def sampled(world: World, monkeypatch: pytest.MonkeyPatch, used: list[int]) -> int:
    """A sample an hour until now; the time of the first."""
    store = open_samples(world.settings)
    now = wall_clock()
    begin = now - (len(used) - 1) * HOUR
    with monkeypatch.context() as patch:
        for place, held in enumerate(used):
            patch.setattr(samples, "database_now", lambda *_, at=begin + place * HOUR: at)
            pool = PoolUsage(
                cidr="10.10.0.0/24", capacity=10, held=held, outside=0, cooling=0, free=10 - held
            )
            store.record([NetworkUsage(network=NET, v4=pool, v6=None)])
    return begin


def test_a_series_has_every_sample_and_its_peak(
    blue: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = sampled(blue, monkeypatch, [1, 5, 2])
    since = to_rfc3339(begin - 1)
    items = blue.ask("audit", "usage", "--network", "internal", "--from", since)["items"]
    assert [(each["held"], each["free"], each["family"]) for each in items] == [
        (1, 9, 4),
        (5, 5, 4),
        (2, 8, 4),
    ]
    text = blue.danmpy("audit", "usage", "--from", since).out
    assert f"{NET} IPv4: peak 5 held, {items[1]['at']}" in text
    rows = list(
        csv.DictReader(
            io.StringIO(
                blue.danmpy(
                    "audit", "usage", "--to", items[2]["at"], "--from", since, "-o", "csv"
                ).out
            )
        )
    )
    assert [row["peak"] for row in rows] == ["1", "5"]
    assert (
        "no sample"
        in blue.danmpy("audit", "usage", "--to", "2020-01-01", "--from", "2019-01-01").out
    )


def test_the_forecast_says_when_a_pool_is_full_or_null(
    blue: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled(blue, monkeypatch, [0, 1, 2, 3])
    items = blue.ask("audit", "usage", "--forecast")["items"]
    by_name = {each["network"]: each for each in items}
    pool = by_name[NET]["v4"]
    ahead = from_rfc3339(pool["exhausted_at"]) - wall_clock()
    assert ahead == pytest.approx(pool["free"] * HOUR, rel=0.05)
    assert by_name[NET]["v6"]["exhausted_at"] is None
    assert by_name["ClusterNetwork/shared"]["v4"]["exhausted_at"] is None
    assert "EXHAUSTED" in blue.danmpy("audit", "usage", "--forecast").out
    assert "exhausted_at" not in blue.ask("audit", "usage")["items"][0]["v4"]


@pytest.mark.parametrize("more", [("--forecast",), ("--from", "2026-01-01")])
def test_one_time_and_a_window_do_not_go_together(blue: World, more: tuple[str, ...]) -> None:
    answer = blue.danmpy("audit", "usage", "--at", "2026-01-01", *more)
    assert (answer.code, len(answer.lines)) == (2, 1)

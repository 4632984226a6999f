"""A clock that jumps an hour back and forth: no overlap, an honest history, rests that end."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from danmpy.errors import ConflictError, ExhaustedError, NotReadyError
from danmpy.ipam.leases import LeaseRequest
from support.databases import PostgresServer
from support.leasing import COOLDOWN, World, owner
from support.specs import DYNAMIC, network, pool, static, tenant_key

HOUR = 3600
_WHOLE = pool("10.0.0.0/24")
NET = replace(
    network(tenant_key("small"), v4="10.0.0.0/24", vni=700),
    v4=replace(_WHOLE, last=_WHOLE.first + 5),
)
OTHER = replace(NET, key=tenant_key("other"), uid="uid-other")
"""On the same wire, with the same addresses."""


class Jumps:
    """The clock that the database goes by."""

    def __init__(self, world: World) -> None:
        self.world = world

    def by(self, seconds: float) -> None:
        """Let it jump."""
        if self.world.is_postgresql:
            self.world.sql("UPDATE fake.jump SET seconds = seconds + :by", by=seconds)
        else:
            self.world.clock.now += int(seconds * 1_000_000)


@pytest.fixture
def jumps(world: World, request: pytest.FixtureRequest) -> Jumps:
    """PostgreSQL asks the machine; here a function of that name comes before its own."""
    if world.is_postgresql:
        server: PostgresServer = request.getfixturevalue("postgresql")
        name = str(world.engine.url.database)
        server.run_sql(
            "CREATE SCHEMA fake",
            "CREATE TABLE fake.jump (seconds float8)",
            "INSERT INTO fake.jump VALUES (0)",
            "CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
            "'SELECT pg_catalog.clock_timestamp() + seconds * interval ''1 s'' FROM fake.jump'",
            f"ALTER DATABASE {name} SET search_path = fake, public, pg_catalog",
            database=name,
        )
        world.engine.dispose()
        before = world.now()
        Jumps(world).by(HOUR)
        assert world.now() - before >= HOUR * 1_000_000
        Jumps(world).by(-HOUR)
    return Jumps(world)


def is_sound(world: World) -> None:
    assert world.audit.violations() == ()
    world.ledger.seal()
    report = world.ledger.verify()
    assert report.ok, str(report)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_clock_does_no_two_leases_of_an_address_overlap(
    world: World, jumps: Jumps, seed: int
) -> None:
    dice = random.Random(seed)
    holding: dict[str, str] = {}
    refused = done = 0
    way = HOUR
    for turn in range(150):
        if dice.random() < 0.2:
            way = -way  # wrong by an hour, and right again
            jumps.by(way)
        elif dice.random() < 0.3:
            jumps.by(dice.choice((-1, COOLDOWN + 1, 5 * 60)))
        if holding and dice.random() < 0.45:
            pod = dice.choice(sorted(holding))
            world.leases.release(f"container-{pod}", at=dice.choice((None, world.now() - 1)))
            del holding[pod]
            continue
        pod = f"p{turn}"
        ask = static("10.0.0.3") if dice.random() < 0.2 else DYNAMIC
        request = LeaseRequest(interface="n", network=dice.choice((NET, OTHER)), ip=ask)
        try:
            (lease,) = world.leases.bind(owner(pod), [request])
        except (ExhaustedError, NotReadyError, ConflictError):  # full, resting, held
            refused += 1
        else:
            assert str(lease.address) not in holding.values()
            holding[pod] = str(lease.address)
            done += 1
    assert done > 20
    assert refused
    is_sound(world)


def test_a_clock_that_is_set_back_does_not_cut_a_rest_short(world: World, jumps: Jumps) -> None:
    for number in range(6):
        world.bind(NET, f"p{number}")
    world.leases.release("container-p0")
    jumps.by(-HOUR)
    with pytest.raises(ExhaustedError):
        world.bind(NET, "next")
    is_sound(world)


def test_a_rest_ends_when_the_clock_is_right_again(world: World, jumps: Jumps) -> None:
    """It lasts longer by as much as the clock was wrong, and not for ever."""
    for number in range(6):
        world.bind(NET, f"p{number}")
    jumps.by(HOUR)
    world.leases.release("container-p0")
    jumps.by(-HOUR)
    with pytest.raises(ExhaustedError, match="ready in"):
        world.bind(NET, "next")
    jumps.by(HOUR + COOLDOWN + 1)
    assert world.bind(NET, "next").pod == "next"
    is_sound(world)


def test_a_lease_that_began_in_the_future_ends_no_earlier_than_it_began(
    world: World, jumps: Jumps
) -> None:
    jumps.by(HOUR)
    began = world.bind(NET, "web")
    jumps.by(-HOUR)
    assert world.bind(NET, "web") == began
    (ended,) = world.leases.release("container-web")
    assert ended.to is not None
    assert ended.to >= began.from_
    is_sound(world)


def test_a_pod_that_has_its_address_back_at_once_begins_after_its_last_end(
    world: World, jumps: Jumps
) -> None:
    """It need not rest for its own pod, so only the end of the last lease keeps the order."""
    jumps.by(HOUR)
    world.bind(NET, "web", ip=static("10.0.0.3"))
    (ended,) = world.leases.release("container-web")
    jumps.by(-HOUR)
    again = world.bind(NET, "web", ip=static("10.0.0.3"))
    assert ended.to is not None
    assert again.from_ >= ended.to
    is_sound(world)

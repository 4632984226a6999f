"""Connections as operators set them: how many stay, and none remembers statements if told so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from danmpy.bootstrap.readers import open_database
from danmpy.clock import wall_clock
from danmpy.db import migrate
from danmpy.db.engine import open_engine, read
from danmpy.ipam.epoch import EpochStore
from danmpy.ipam.invariants import violations
from danmpy.ipam.leases import LeaseRequest, LeaseStore
from danmpy.ipam.sealing import Ledger
from danmpy.settings import Settings
from danmpy.settings_groups import DatabaseSettings
from support.databases import PostgresServer
from support.leasing import owner
from support.poolers import run_pooler
from support.specs import DYNAMIC, network, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/16", v6="fd00::/64", vni=700)
ASK = [LeaseRequest(interface="net1", network=NET, ip=DYNAMIC, ip6=DYNAMIC)]
PREPARED = text("SELECT count(*) FROM pg_prepared_statements")

Open = Callable[..., Engine]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens databases as the processes do, and closes them at the end."""
    engines: list[Engine] = []

    def make(url: str, **given: object) -> Engine:
        database = DatabaseSettings.model_validate(given)
        engines.append(open_database(Settings(database_url=url, database=database)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


def work(store: LeaseStore, number: int) -> None:
    """The life of a pod, the plain way and the long ways."""
    who = owner(f"p{number}", claim="" if number % 2 else f"p{number}", quota=None)
    store.bind(who, ASK)
    store.bind(replace(who, container_id=f"second-{number}"), ASK)
    store.record_mac(f"second-{number}", "net1", "02:00:00:00:00:01")
    store.release(f"second-{number}")


@pytest.mark.parametrize("prepare", [True, False])
def test_statements_are_remembered_only_if_allowed(
    postgresql_url: str, opened: Open, prepare: bool
) -> None:
    engine = opened(postgresql_url, prepare=prepare, pool_size=1)
    store = LeaseStore(engine, wall_clock, 0)
    for number in range(12):
        work(store, number)
    with read(engine) as connection:
        assert bool(connection.execute(PREPARED).scalar_one()) is prepare


@pytest.mark.parametrize("size", [1, 3])
def test_as_many_connections_stay_as_the_settings_say(
    postgresql_url: str, opened: Open, size: int
) -> None:
    engine = opened(postgresql_url, pool_size=size)
    connections = [engine.connect() for _ in range(2 * size)]
    for connection in connections:
        connection.close()
    assert engine.pool.checkedin() == size  # type: ignore[attr-defined]


def test_pods_are_served_through_a_pooler_of_transactions(
    postgresql: PostgresServer, postgresql_url: str, opened: Open
) -> None:
    with run_pooler(postgresql, 2) as port:
        url = make_url(postgresql_url).set(port=port).render_as_string(hide_password=False)
        assert migrate.upgrade(url) == (migrate.HEAD, migrate.HEAD)
        engines = [opened(url, prepare=False) for _ in range(3)]
        stores = [LeaseStore(each, wall_clock, 0) for each in engines]
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda number: work(stores[number % 3], number), range(120)))
        EpochStore(engines[0], wall_clock, 0).look(None)
        assert Ledger(engines[0], wall_clock).seal() > 0
        # Whatever connection answers: danmpy has prepared nothing on it.
        for engine in engines:
            with read(engine) as connection:
                assert connection.execute(PREPARED).scalar_one() == 0
        for engine in engines:
            engine.dispose()
    direct = open_engine(postgresql_url)
    try:
        assert violations(direct) == ()
        assert Ledger(direct, wall_clock).verify().ok
    finally:
        direct.dispose()

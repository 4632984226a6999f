"""Binding in one round trip: the same as the long way, or nothing at all."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from sqlalchemy import text

from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine, read
from danmpy.errors import NotReadyError
from danmpy.ipam.leases import EndReason, LeaseRequest, LeaseStore
from danmpy.ipam.registry import NetworkRegistry
from danmpy.ipam.shortcut import Shortcut
from danmpy.ipam.wants import parse_wants
from support.leasing import COOLDOWN, World, owner
from support.specs import DYNAMIC, network, static, tenant_key

NET = network(tenant_key("net"), v4="10.0.0.0/24", v6="2001:db8::/64", vni=700)
OTHER = network(tenant_key("other"), v4="10.1.0.0/16", vni=701)


@pytest.fixture
def database_url(postgresql_url: str) -> str:
    """Only here; SQLite has no round trips to save."""
    return postgresql_url


@pytest.fixture
def shortcut(world: World) -> Shortcut:
    return Shortcut(world.engine)


def asks(*networks, ip=DYNAMIC, **more) -> list[LeaseRequest]:
    return [
        LeaseRequest(interface=f"net{number + 1}", network=each, ip=ip, **more)
        for number, each in enumerate(networks)
    ]


def try_bind(shortcut: Shortcut, requests, pod="web-0", **more):
    return shortcut.bind(owner(pod, **more), parse_wants(requests))


def test_what_is_plain_is_bound_as_the_long_way_binds_it(world, shortcut) -> None:
    requests = [
        LeaseRequest(interface="a", network=NET, ip=DYNAMIC, ip6=DYNAMIC, mac="02:00:00:00:00:01"),
        *asks(OTHER, NET),
    ]
    names = {"pod": 'we"b-%s-é', "node": "node-%1$s"}
    short = shortcut.bind(owner(**names), parse_wants(requests))
    assert short is not None
    assert world.leases.held_by(short[0].container_id) == tuple(
        sorted(short, key=lambda lease: lease.id)
    )
    world.leases.release(short[0].container_id)
    world.sql("DELETE FROM freed")
    world.sql(
        "UPDATE pool SET next ="
        " (SELECT address FROM lease WHERE pool_id = pool.id ORDER BY address LIMIT 1)"
    )
    world.leases._shortcut = None
    long = world.leases.bind(owner(**names), requests)

    def plain(leases):
        return [replace(lease, id=0, from_=0) for lease in leases]

    assert plain(short) == plain(long)
    events = world.rows(
        "SELECT network, domain, family, address, interface, namespace, pod, pod_uid, container_id,"
        " node, mac, reason, detail FROM event WHERE kind = 'ALLOCATE' ORDER BY seq"
    )
    assert sorted(map(repr, events[:4])) == sorted(map(repr, events[4:]))
    rows = world.rows(
        "SELECT pool_id, network_uid, address_text, prefix, mode, pooled, note, claim FROM lease"
        " ORDER BY id"
    )
    assert sorted(map(repr, rows[:4])) == sorted(map(repr, rows[4:]))


def test_the_ledger_of_it_is_intact(world, shortcut) -> None:
    for number in range(40):
        assert try_bind(shortcut, asks(NET, OTHER), f'p"%{number}')
    world.ledger.seal()
    assert world.ledger.verify().ok
    assert world.audit.violations() == ()


def test_addresses_come_in_order_and_the_cursor_follows(world, shortcut) -> None:
    got = [str(try_bind(shortcut, asks(OTHER), f"p{n}")[0].address.ip) for n in range(300)]
    assert got == [f"10.1.{n // 256}.{n % 256}" for n in range(1, 301)]
    ((cursor,),) = world.rows("SELECT next FROM pool")
    assert 301 - 20 <= int.from_bytes(bytes(cursor)[2:], "big") <= 301


def test_another_node_that_knows_nothing_goes_on_where_the_cursor_is(world, shortcut) -> None:
    for number in range(300):
        try_bind(shortcut, asks(OTHER), f"p{number}")
    (lease,) = try_bind(Shortcut(world.engine), asks(OTHER), "late")
    assert str(lease.address.ip) == "10.1.1.45"


@pytest.mark.parametrize("more", [{"claim": "web"}, {"quota": 5}])
def test_claims_and_quotas_go_the_long_way(world, shortcut, more) -> None:
    wants = parse_wants(asks(NET), more.get("claim", ""))
    assert shortcut.bind(replace(owner(), **more), wants) is None
    assert world.rows("SELECT id FROM lease") == []


def test_static_addresses_go_the_long_way(world, shortcut) -> None:
    assert try_bind(shortcut, asks(NET, ip=static("10.0.0.9"))) is None


def test_a_repeated_call_goes_the_long_way(world, shortcut) -> None:
    assert try_bind(shortcut, asks(NET))
    assert try_bind(shortcut, asks(NET)) is None
    assert try_bind(shortcut, asks(NET), container_id="second-sandbox") is None
    assert len(world.rows("SELECT id FROM lease")) == 1


def test_an_address_that_a_failed_try_gave_back_goes_the_long_way(world, shortcut) -> None:
    (first,) = try_bind(shortcut, asks(NET))
    world.leases.release(first.container_id, reason=EndReason.ROLLBACK)
    assert try_bind(shortcut, asks(NET)) is None
    assert world.bind(NET).address == first.address


def test_a_retired_network_goes_the_long_way(world, shortcut) -> None:
    try_bind(shortcut, asks(NET))
    world.leases.release("container-web-0")
    NetworkRegistry(world.engine, wall_clock).retire(NET.key, NET.uid)
    assert try_bind(shortcut, asks(NET), "web-1") is None


def test_a_network_whose_addresses_were_changed_goes_the_long_way(world, shortcut) -> None:
    try_bind(shortcut, asks(NET))
    smaller = replace(NET, v4=replace(NET.v4, last=NET.v4.last - 50))
    assert try_bind(shortcut, asks(smaller), "web-1") is None
    assert str(world.bind(smaller, "web-1").address.ip) == "10.0.0.2"


def test_what_others_hold_or_rest_from_is_passed_over(world, shortcut) -> None:
    world.bind(NET, "still", ip=static("10.0.0.2"))
    world.bind(NET, "gone", ip=static("10.0.0.3"))
    world.leases.release("container-gone")
    got = [str(try_bind(shortcut, asks(NET), f"p{n}")[0].address.ip) for n in range(3)]
    assert got == ["10.0.0.1", "10.0.0.4", "10.0.0.5"]


def test_a_used_up_pool_goes_the_long_way(world, shortcut) -> None:
    tiny = replace(NET, v6=None, v4=replace(NET.v4, last=NET.v4.first + 2))
    for number in range(3):
        assert try_bind(shortcut, asks(tiny), f"p{number}")
    assert try_bind(shortcut, asks(tiny), "late") is None
    world.leases.release("container-p1")
    world.wait(COOLDOWN + 1)
    assert str(world.bind(tiny, "late").address.ip) == "10.0.0.2"


def test_an_address_that_somebody_is_just_binding_is_passed_over(world, shortcut) -> None:
    try_bind(shortcut, asks(NET))
    with world.engine.connect() as other:
        other.connection.driver_connection.read_only = False
        key = "hashtextextended('vxlan:ens4:700' || '0a000002', 0)"
        other.execute(text(f"SELECT pg_advisory_xact_lock({key})"))
        (lease,) = try_bind(shortcut, asks(NET), "web-1")
        other.rollback()
    assert str(lease.address.ip) == "10.0.0.3"
    (lease,) = try_bind(shortcut, asks(NET), "web-2")
    assert str(lease.address.ip) == "10.0.0.2"


def test_both_ways_at_once_never_give_an_address_twice_nor_lose_one(postgresql_url, world) -> None:
    small = replace(NET, v6=None, v4=replace(NET.v4, last=NET.v4.first + 119))
    got, errors = [], []

    def run(number: int) -> None:
        engine = open_engine(postgresql_url)
        store = LeaseStore(engine, wall_clock, COOLDOWN)
        if number % 2:
            store._shortcut = None
        try:
            for turn in range(15):
                (lease,) = store.bind(owner(f"p{number}-{turn}"), asks(small))
                got.append(lease.address.ip)
        except Exception as error:
            errors.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(got) == len(set(got)) == 120
    assert world.audit.violations() == ()
    with read(world.engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM event")).scalar_one() == 120


def test_while_an_epoch_is_closed_nothing_is_handed_out(world, shortcut) -> None:
    try_bind(shortcut, asks(NET))
    world.sql("INSERT INTO meta (key, value) VALUES ('closed', '1')")
    assert try_bind(shortcut, asks(NET), "web-1") is None
    with pytest.raises(NotReadyError):
        world.bind(NET, "web-1")
    assert len(world.rows("SELECT id FROM lease")) == 1


def test_a_connection_that_is_not_trusted_binds_nothing(world) -> None:
    trusted = [True]

    def guard(connection) -> None:
        connection.execute(text("SELECT 1"))
        if not trusted:
            raise NotReadyError("unsure", hint="none", subject="database")

    guarded = Shortcut(world.engine, guard)
    assert try_bind(guarded, asks(NET))
    trusted.clear()
    with pytest.raises(NotReadyError):
        try_bind(guarded, asks(NET), "web-1")
    assert len(world.rows("SELECT id FROM lease")) == 1

"""The ledger: sealing it, and finding what somebody changed behind our back; on both engines."""

from __future__ import annotations

import json
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from danmpy.api.specs import HostDeviceProfile, SegmentKind, TenantConfigSpec
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine
from danmpy.ipam import sealing
from danmpy.ipam.leases import LeaseRequest
from danmpy.ipam.ledger import digest_of
from danmpy.ipam.sealing import Ledger
from support.leasing import World, owner
from support.specs import DYNAMIC, network, tenant_key

NET = network(tenant_key("internal"), v4="10.0.0.0/24", v6="2001:db8::/64", vni=700)


OFFER = TenantConfigSpec(
    name="tc",
    host_devices=(HostDeviceProfile(name="ens4", kind=SegmentKind.VXLAN, ids=((700, 702),)),),
)


def some_history(world: World) -> None:
    """Three pods: one is gone, one has a new sandbox, one told its MAC. 12 events, two seals."""
    for name in ("gone", "again", "stays"):
        world.leases.bind(
            owner(name), [LeaseRequest(interface="net1", network=NET, ip=DYNAMIC, ip6=DYNAMIC)]
        )
    world.ledger.seal()
    world.leases.release("container-gone")
    world.leases.bind(
        owner("again", container_id="second"),
        [LeaseRequest(interface="net1", network=NET, ip=DYNAMIC, ip6=DYNAMIC)],
    )
    world.leases.record_mac("container-stays", "net1", "02:00:00:00:00:01")
    world.ledger.seal()


def forge(world: World, seq: int, **changes: object) -> None:
    """Change an event together with its digest, as somebody would who knows how it is made."""
    with world.engine.connect() as connection:
        row = dict(
            connection.execute(text("SELECT * FROM event WHERE seq = :seq"), {"seq": seq})
            .one()
            ._mapping
        )
    row |= changes
    names = ", ".join(f"{name} = :{name}" for name in changes)
    world.sql(
        f"UPDATE event SET {names}, digest = :digest WHERE seq = :seq",
        seq=seq,
        digest=digest_of(row),
        **changes,
    )


def test_an_empty_ledger_is_intact(world) -> None:
    assert world.ledger.seal() == 0
    report = world.ledger.verify()
    assert (report.ok, report.seals, report.root) == (True, 0, "")


def test_many_that_seal_make_no_seal_within_the_pause_after_the_last_one(world) -> None:
    world.bind(NET)
    assert world.ledger.seal(pause_s=3600) == 1
    world.bind(NET, "web-1")
    assert world.ledger.seal(pause_s=3600) == 0
    assert world.ledger.seal(pause_s=0.000001) == 1


def test_a_seal_of_the_future_does_not_hold_up_the_next_one(world) -> None:
    world.bind(NET)
    world.ledger.seal()
    world.unlock_ledger()
    world.sql("UPDATE seal SET at = at + 7200000000")
    world.bind(NET, "web-1")
    assert world.ledger.seal(pause_s=3600) == 1


def test_what_was_sealed_is_verified_and_counted(world) -> None:
    some_history(world)
    world.bind(NET, "late")

    report = world.ledger.verify()

    assert report.ok, str(report)
    assert (report.seals, report.sealed, report.unsealed, report.leases) == (2, 12, 1, 9)
    assert report.to_json()["ok"] is True
    assert report.root in str(report)


def test_sealing_again_without_news_writes_nothing(world) -> None:
    some_history(world)
    before = world.rows("SELECT * FROM seal")

    assert world.ledger.seal() == 0
    assert world.rows("SELECT * FROM seal") == before


def test_a_long_backlog_is_sealed_in_batches_that_split_no_transaction(world, monkeypatch) -> None:
    monkeypatch.setattr(sealing, "BATCH", 3)
    for number in range(5):
        world.leases.bind(
            owner(f"p{number}"),
            [LeaseRequest(interface="net1", network=NET, ip=DYNAMIC, ip6=DYNAMIC)],
        )
    world.leases.bind(
        owner("big"),
        [LeaseRequest(interface=f"net{n}", network=NET, ip=DYNAMIC) for n in range(8)],
    )

    assert world.ledger.seal() == 18
    report = world.ledger.verify()
    assert (report.ok, report.sealed, report.unsealed) == (True, 18, 0)
    assert report.seals > 3


def test_several_sealers_at_once_make_one_chain(world, database_url) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        engine = open_engine(database_url)
        try:
            ledger = Ledger(engine, wall_clock)
            for _ in range(15):
                ledger.seal()
        except BaseException as error:
            errors.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(15):
        world.bind(NET, f"p{number}")
    for thread in threads:
        thread.join(timeout=60)
    world.ledger.seal()

    assert not errors
    report = world.ledger.verify()
    assert (report.ok, report.sealed, report.unsealed) == (True, 15, 0), str(report)


def test_events_of_a_transaction_that_still_runs_are_not_sealed_and_not_forgotten(world) -> None:
    world.bind(NET, "first")
    if not world.is_postgresql:
        # One writer: whoever has the next number has committed before anybody else writes.
        assert world.ledger.seal() == 1
        return
    with world.engine.connect() as connection, connection.begin():
        driver = connection.connection.driver_connection
        driver.read_only = False
        connection.execute(text("SELECT pg_current_xact_id()"))
        world.bind(NET, "second")
        assert world.ledger.seal() == 1
    assert world.ledger.seal() == 1
    assert world.ledger.verify().ok


def test_the_database_itself_refuses_to_change_the_ledger(world) -> None:
    some_history(world)
    for statement in (
        "UPDATE event SET pod = 'x' WHERE seq = 1",
        "DELETE FROM event WHERE seq = 1",
        "UPDATE seal SET at = 0",
        "DELETE FROM seal",
    ):
        with pytest.raises(DBAPIError, match="append-only"):
            world.sql(statement)


ADD_EVENT = """
    INSERT INTO event (txid, uid, at, effective_at, kind, digest)
    SELECT txid, 'new', at, at, kind, digest FROM event WHERE seq = 2
"""
COPIED = """
    pool_id, network, network_uid, domain, family, address, address_text, prefix, interface,
    namespace, pod_uid, container_id, node, mode, pooled
"""
ADD_LEASE = f"""
    INSERT INTO lease ({COPIED}, pod, held_from, held_to, end_reason)
    SELECT {COPIED}, 'invented', held_from - 10, held_from - 5, 'released' FROM lease WHERE id = 1
"""

TAMPERING = {
    "a changed event": (
        "UPDATE event SET pod = 'nobody' WHERE seq = 2",
        "EventChanged",
        "event 2",
    ),
    "a changed event that is not sealed": (
        "UPDATE event SET pod = 'nobody' WHERE seq = 13",
        "EventChanged",
        "event 13",
    ),
    "a removed event": ("DELETE FROM event WHERE seq = 2", "EventsRemoved", "seal 1"),
    "a removed event of a release": (
        "DELETE FROM event WHERE seq = 7",
        "EventsRemoved",
        "seal 2",
    ),
    "an added event": (ADD_EVENT, "LeaseRemoved", "event 15"),
    "two events that changed their places": (
        "UPDATE event SET seq = CASE seq WHEN 2 THEN 1000 ELSE seq END WHERE seq = 2",
        "EventsRewritten",
        "seal 1",
    ),
    "a removed seal": ("DELETE FROM seal WHERE no = 1", "SealMissing", "seal 1"),
    "a changed seal": ("UPDATE seal SET at = at + 1 WHERE no = 1", "ChainBroken", "seal 1"),
    "a lease with another address": (
        "UPDATE lease SET address = address_next WHERE id = 1",
        "LeaseChanged",
        "lease 1",
    ),
    "a lease of another pod": (
        "UPDATE lease SET pod = 'innocent' WHERE id = 1",
        "LeaseChanged",
        "lease 1",
    ),
    "a lease that began at another time": (
        "UPDATE lease SET held_from = held_from - 1 WHERE id = 3",
        "LeaseChanged",
        "lease 3",
    ),
    "a lease that ended at another time": (
        "UPDATE lease SET held_to = held_to + 1 WHERE id = 1",
        "LeaseChanged",
        "lease 1",
    ),
    "a lease that is held again": (
        "UPDATE lease SET held_to = NULL, end_reason = NULL WHERE id = 1",
        "LeaseChanged",
        "lease 1",
    ),
    "a lease with another MAC": (
        "UPDATE lease SET mac = '02:00:00:00:00:99' WHERE id = 5",
        "LeaseChanged",
        "lease 5",
    ),
    "a lease with a broken address": (
        "UPDATE lease SET address = address_broken WHERE id = 1",
        "LeaseChanged",
        "lease 1",
    ),
    "an event whose detail is no JSON": (
        "UPDATE event SET detail = 'nonsense' WHERE seq = 2",
        "EventChanged",
        "event 2",
    ),
    "an event with a number below zero": (
        "UPDATE event SET seq = -2 WHERE seq = 2",
        "EventsRewritten",
        "seal 1",
    ),
    "an event that hides from the seals": (
        "UPDATE event SET txid = -2 WHERE seq = 13",
        "EventChanged",
        "event 13",
    ),
    "an event that no seal would ever cover": (
        "UPDATE event SET txid = 999999999999 WHERE seq = 13",
        "EventChanged",
        "event 13",
    ),
    "a seal with a number below zero": (
        "UPDATE seal SET no = -1 WHERE no = 1",
        "SealMissing",
        "seal 1",
    ),
    "a ledger without its id": ("DELETE FROM meta", "ChainBroken", "ledger"),
    "an address that rests for another time": (
        "UPDATE lease SET cool_until = cool_until + 1 WHERE id = 1",
        "LeaseChanged",
        "lease 1",
    ),
    "an invented lease with a number below zero": (
        ADD_LEASE.replace("lease (", "lease (id, ").replace("SELECT", "SELECT -7, "),
        "LeaseChanged",
        "lease -7",
    ),
    "a segment that was exchanged": (
        "UPDATE segment_assignment SET number = 701",
        "SegmentChanged",
        "TenantNetwork/blue/assigned",
    ),
    "a removed segment": (
        "DELETE FROM segment_assignment",
        "SegmentChanged",
        "TenantNetwork/blue/assigned",
    ),
    "a removed event of a segment that is not sealed": (
        "DELETE FROM event WHERE seq = 14",
        "SegmentChanged",
        "TenantNetwork/blue/assigned",
    ),
    "a removed lease": ("DELETE FROM lease WHERE id = 3", "LeaseRemoved", "event 3"),
    "an invented lease": (ADD_LEASE, "LeaseChanged", "lease 10"),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_verify_finds(world, what) -> None:
    statement, kind, subject = TAMPERING[what]
    some_history(world)
    world.bind(NET, "late")
    assigned = network(tenant_key("assigned"), host_device="")
    world.segments.assign({assigned.key: assigned}, [OFFER])
    assert world.ledger.verify().ok
    world.unlock_ledger()
    for name, data in (("address_next", b"\x0a\x00\x00\x63"), ("address_broken", b"\x0a")):
        literal = f"'\\x{data.hex()}'::bytea" if world.is_postgresql else f"x'{data.hex()}'"
        statement = statement.replace(name, literal)

    world.sql(statement)
    report = world.ledger.verify()

    assert not report.ok
    found = [(item.kind, item.subject) for item in report.findings]
    assert (kind, subject) in found, str(report)
    assert report.first.subject in str(report)
    assert json.dumps(report.to_json())


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        ("event SET pod = x'00' WHERE seq = 2", "event 2"),
        ("event SET digest = 'x' WHERE seq = 2", "event 2"),
        ("event SET digest = 5 WHERE seq = 13", "event 13"),
        ("event SET txid = 'x' WHERE seq = 13", "event 13"),
        ("seal SET root = 'x' WHERE no = 1", "seal 1"),
        ("seal SET merkle_root = 'x' WHERE no = 1", "seal 1"),
        ("seal SET count = 'x' WHERE no = 1", "seal 1"),
        ("seal SET last_seq = 'x', txid_to = 'y' WHERE no = 1", "seal 1"),
        ("lease SET address = 'x' WHERE id = 3", "lease 3"),
    ],
)
def test_values_of_another_kind_are_found_and_break_nothing(world, change, subject) -> None:
    if world.is_postgresql:
        return  # it keeps the kinds of its columns by itself
    some_history(world)
    world.bind(NET, "late")
    world.unlock_ledger()
    world.sql(f"UPDATE {change}")

    report = world.ledger.verify()

    assert report.first.subject == subject
    assert json.dumps(report.to_json())


def test_an_event_that_was_forged_with_its_digest_breaks_the_seal(world) -> None:
    some_history(world)
    world.unlock_ledger()

    forge(world, 2, node="elsewhere")
    report = world.ledger.verify()

    assert (report.first.kind, report.first.subject) == ("EventsRewritten", "seal 1")
    assert ("LeaseChanged", "lease 2") in [(item.kind, item.subject) for item in report.findings]


def test_a_removed_event_is_named_where_the_numbers_have_no_holes(world) -> None:
    some_history(world)
    world.unlock_ledger()
    world.sql("DELETE FROM event WHERE seq = 9")

    found = [(item.kind, item.subject) for item in world.ledger.verify().findings]

    assert ("EventsRemoved", "seal 2") in found
    assert (("EventsRemoved", "event 9") in found) is not world.is_postgresql


def test_an_event_that_is_removed_from_the_end_is_missed_where_the_numbers_have_no_holes(
    world,
) -> None:
    if world.is_postgresql:
        return  # numbers of transactions that were undone are missing there as well
    some_history(world)
    world.leases.record_mac("container-stays", "net1", "02:00:00:00:00:02")
    world.leases.record_mac("container-stays", "net1", "02:00:00:00:00:01")
    world.unlock_ledger()
    world.sql("DELETE FROM event WHERE seq > 12")

    assert [str(item) for item in world.ledger.verify().findings] == [
        "event 13: it is gone, and perhaps others after it [EventsRemoved]"
    ]


def test_verify_beside_running_work_reports_nothing(world) -> None:
    stop = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for number in range(10_000):
                if stop.is_set():
                    return
                world.bind(NET, f"p{number}")
                world.leases.release(f"container-p{number}", reason="rollback")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        reports = []
        for _ in range(10):
            reports.append(world.ledger.verify())
            world.ledger.seal()
    finally:
        stop.set()
        thread.join(timeout=30)

    # A full pool ends the work early; that is no matter here.
    assert all("full" in str(error) for error in errors)
    assert all(report.ok for report in reports), [str(r) for r in reports if not r.ok]

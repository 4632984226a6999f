"""Every released schema goes forwards with data in it, while the release before works on."""

from __future__ import annotations

import subprocess
import threading
import time

import pytest
from sqlalchemy import Connection, Engine, text

from danmpy.clock import wall_clock
from danmpy.db import migrate
from danmpy.db.engine import open_engine, read, run_write, write
from danmpy.ipam import ledger
from danmpy.ipam.audit import Audit
from danmpy.ipam.leases import LeaseRequest, LeaseStore
from danmpy.ipam.ledger import EventKind
from danmpy.ipam.sealing import Ledger
from support.databases import PostgresServer
from support.leasing import owner
from support.processes import clean_environment, danmpy_argv
from support.specs import DYNAMIC, network, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/20", vni=700)
KEY, DOMAIN = str(NET.key), NET.domain
HELD, ENDED = 40, 20
OLD_ID = 2_000_000

# As the first release wrote them; the later ones still accept it.
_POOL = (
    "INSERT INTO pool (id, network, family, domain, subnet, shape) "
    "VALUES (1, :network, 4, :domain, '10.0.0.0/20', 'x')"
)
_BIND = (
    "INSERT INTO lease (id, pool_id, network, network_uid, domain, family, address, address_text, "
    "prefix, interface, namespace, pod, pod_uid, container_id, node, mac, mode, pooled, held_from) "
    "VALUES (:id, 1, :network, 'uid', :domain, 4, :address, :shown, 20, 'net1', 'blue', :pod, "
    ":uid, :container, 'n', NULL, 'dynamic', 1, :at)"
)
_END = (
    "UPDATE lease SET held_to = :at, cool_until = :rests, end_reason = 'released' "
    "WHERE container_id = :container AND held_to IS NULL"
)
_FREE = (
    "INSERT INTO freed (domain, address, pool_id, family, released_at, ready_at, network, "
    "interface, namespace, pod, pod_uid, end_reason) VALUES (:domain, :address, 1, 4, :at, :rests, "
    ":network, 'net1', 'blue', :pod, :uid, 'released')"
)
_SEGMENT = (
    "INSERT INTO segment_assignment (network, network_uid, profile, kind, number, assigned_at) "
    "VALUES (:network, 'uid', 'ens4', 'vxlan', 700, 1)"
)


def upgrade_to(revision: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "HEAD", revision)
        migrate.upgrade(url)


class OldCode:
    """What a daemon of an earlier release does to the tables, event by event."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def begin(self, number: int) -> None:
        run_write(self.engine, lambda connection: self._begin(connection, number))

    def _begin(self, connection: Connection, number: int) -> None:
        asked = self._values(number)
        connection.execute(text(_BIND), asked)
        self._tell(
            connection, EventKind.ALLOCATE, asked, lease_id=OLD_ID + number, effective_at=1000
        )

    def end(self, number: int) -> None:
        run_write(self.engine, lambda connection: self._end(connection, number))

    def _end(self, connection: Connection, number: int) -> None:
        asked = {**self._values(number), "at": 2000, "rests": 3000}
        connection.execute(text(_END), asked)
        connection.execute(text(_FREE), asked)
        more = {"lease_id": OLD_ID + number, "closed_id": OLD_ID + number, "effective_at": 2000}
        self._tell(connection, EventKind.RELEASE, asked, reason="released", **more)

    def _values(self, number: int) -> dict[str, object]:
        address = 0x0A000000 + number
        return {
            "id": OLD_ID + number,  # far above what the database numbers itself
            "network": KEY,
            "domain": DOMAIN,
            "address": address.to_bytes(4, "big"),
            "shown": ".".join(map(str, address.to_bytes(4, "big"))),
            "pod": f"p{number}",
            "uid": f"u{number}",
            "container": f"c{number}",
            "at": 1000,
        }

    def _tell(
        self, connection: Connection, kind: EventKind, asked: dict[str, object], **more: object
    ) -> None:
        detail: dict[str, object] = {"mode": "dynamic", "prefix": 20}
        if kind is EventKind.RELEASE:
            detail["cool_until"] = asked["rests"]
        row = {
            "at": 1000,
            "kind": str(kind),
            "network": KEY,
            "domain": DOMAIN,
            "family": 4,
            "address": asked["shown"],
            "interface": "net1",
            "namespace": "blue",
            "pod": asked["pod"],
            "pod_uid": asked["uid"],
            "container_id": asked["container"],
            "node": "n",
            "detail": detail,
            **more,
        }
        ledger.append(connection, [row])


def is_sound(engine: Engine) -> None:
    assert Audit(engine, wall_clock).violations() == ()
    book = Ledger(engine, wall_clock)
    book.seal()
    report = book.verify()
    assert not [item for item in report.findings if "Segment" not in item.kind], str(report)


def contents(engine: Engine, tables: tuple[str, ...]) -> dict[str, list[dict[str, object]]]:
    with read(engine) as connection:
        return {
            table: [
                dict(row._mapping)
                for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2"))
            ]
            for table in tables
        }


@pytest.mark.parametrize("revision", migrate.REVISIONS)
def test_every_schema_goes_forwards_with_data_in_place(
    empty_url: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade_to(revision, empty_url, monkeypatch)
    engine = open_engine(empty_url)
    try:
        old = OldCode(engine)
        with write(engine) as connection:
            connection.execute(text(_POOL), {"network": KEY, "domain": DOMAIN})
            connection.execute(text(_SEGMENT), {"network": KEY})
        for number in range(1, HELD + ENDED + 1):
            old.begin(number)
        for number in range(1, ENDED + 1):
            old.end(number)
        Ledger(engine, wall_clock).seal()
        tables = ("pool", "lease", "freed", "event", "seal", "segment_assignment", "meta")
        before = contents(engine, tables)

        assert migrate.upgrade(empty_url) == (revision, migrate.HEAD)

        after = contents(engine, tables)
        for table in tables:
            assert len(after[table]) == len(before[table]), table
            for was, now in zip(before[table], after[table], strict=True):
                assert {name: now[name] for name in was} == was, table
        is_sound(engine)
        leases = LeaseStore(engine, wall_clock, 120)
        (kept,) = leases.held_by(f"c{ENDED + 1}")
        assert leases.release(kept.container_id)[0].id == kept.id
        request = LeaseRequest(interface="n", network=NET, ip=DYNAMIC)
        (made,) = leases.bind(owner("new"), [request])
        assert made.address != kept.address
        is_sound(engine)
    finally:
        engine.dispose()


@pytest.fixture
def crowded(
    postgresql: PostgresServer, empty_postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A database of the schema before, with 50,000 leases that have ended."""
    upgrade_to(migrate.REVISIONS[-2], empty_postgresql_url, monkeypatch)
    name = empty_postgresql_url.rpartition("/")[2]
    postgresql.run_sql(
        "INSERT INTO pool (id, network, family, domain, subnet, shape) "
        f"VALUES (1, '{KEY}', 4, '{DOMAIN}', '10.0.0.0/20', 'x')",
        "INSERT INTO lease (id, pool_id, network, network_uid, domain, family, address, "
        "address_text, prefix, interface, namespace, pod, pod_uid, container_id, node, mode, "
        "pooled, held_from, held_to, cool_until, end_reason) SELECT 1000000 + i, 1, "
        f"'{KEY}', 'uid', '{DOMAIN}', 4, decode(lpad(to_hex(184549376 + i), 8, '0'), 'hex'), "
        "'11.x', 20, 'net1', 'blue', 'p' || i, 'u' || i, 'old' || i, 'n', 'dynamic', 1, 1, 2, 3, "
        "'released' FROM generate_series(1, 50000) AS i",
        database=name,
    )
    return empty_postgresql_url


def test_writers_of_the_release_before_go_on_while_the_schema_is_upgraded(crowded: str) -> None:
    """Locks are short: no write fails, and none takes longer than an ADD may."""
    over = threading.Event()
    failed: list[BaseException] = []
    slowest: list[float] = []
    done: list[int] = []

    def work(writer: int) -> None:
        engine = open_engine(crowded)
        old = OldCode(engine)
        number = writer * 400
        try:
            while not over.is_set() and number < writer * 400 + 399:
                number += 1
                for step in (old.begin, old.end):
                    began = time.monotonic()
                    step(number)
                    slowest.append(time.monotonic() - began)
                    done.append(number)
        except BaseException as error:
            failed.append(error)
        finally:
            engine.dispose()

    writers = [threading.Thread(target=work, args=(writer,)) for writer in range(8)]
    for writer in writers:
        writer.start()
    try:
        while len(done) < 40 and not failed:
            time.sleep(0.02)
        before = len(done)
        assert migrate.upgrade(crowded) == (migrate.REVISIONS[-2], migrate.HEAD)
        after = len(done)
        time.sleep(0.3)
    finally:
        over.set()
        for writer in writers:
            writer.join(20)
    assert not failed, failed
    assert len(done) > after >= before
    assert max(slowest) < 3.0
    engine = open_engine(crowded)
    try:
        assert Audit(engine, wall_clock).violations() == ()
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    "words", [("node",), ("audit", "history"), ("db", "upgrade"), ("db", "epoch")]
)
def test_whatever_meets_a_newer_schema_ends_with_a_clear_word(
    database_url: str, engine: Engine, words: tuple[str, ...], tmp_path: object
) -> None:
    with write(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    environment = {
        "DANMPY_DATABASE_URL": database_url,
        "DANMPY_STATE_DIR": f"{tmp_path}/state",
        "DANMPY_SOCKET": f"{tmp_path}/s",
        "DANMPY_METRICS__LISTEN": "",
    }
    done = subprocess.run(
        danmpy_argv(*words),
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(environment),
        check=False,
    )
    assert done.returncode == 3
    assert f"has schema 9999, newer than this release ({migrate.HEAD})" in done.stderr
    assert "use the danmpy release that made it, or a later one" in done.stderr

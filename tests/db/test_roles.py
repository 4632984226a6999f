"""The roles on a real server: what a node does works, what it must not do is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy.engine import make_url

from danmpy.db import migrate, roles
from danmpy.db.engine import open_engine
from danmpy.ipam.audit import Audit
from danmpy.ipam.epoch import EpochStore, Trouble
from danmpy.ipam.leases import LeaseRequest, LeaseStore
from danmpy.ipam.nodereports import NodeNetwork, NodeReports
from danmpy.ipam.reserving import Cause
from danmpy.ipam.retaining import Hold
from danmpy.ipam.retention import Retention
from danmpy.ipam.samples import UsageSamples
from danmpy.ipam.schema import metadata
from danmpy.ipam.sealing import Ledger
from danmpy.ipam.segments import SegmentStore
from support.databases import PASSWORD, PostgresServer
from support.leasing import MovingClock, World, owner
from support.specs import DYNAMIC, network, tenant_key

NET = network(tenant_key("internal"), v4="10.0.0.0/24", v6="2001:db8::/64", vni=700)
REPORT = NodeNetwork(network="TenantNetwork/blue/a", ready=True)
CAUSE = Cause(actor="alice@here", reason="case 7")


@pytest.fixture
def database(postgresql: PostgresServer, postgresql_url: str) -> Iterator[str]:
    """A migrated database with the roles, applied twice, and a login for each."""
    name = make_url(postgresql_url).database or ""
    logins = [f"{role.removeprefix('danmpy_')}_{name}" for role in ROLES]
    try:
        for _ in range(2):
            postgresql.run_sql(roles.roles_sql(), database=name)
        for login, role in zip(logins, ROLES, strict=True):
            postgresql.run_sql(f"CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' IN ROLE {role}")
        postgresql.run_sql(f"ALTER ROLE {logins[-1]} SET role = '{roles.OWNER}'")
        yield postgresql_url
    finally:
        postgresql.drop_database(name)
        postgresql.run_sql(*(f"DROP ROLE IF EXISTS {login}" for login in (*logins, *ROLES)))


ROLES = (roles.NODE, roles.CONTROLLER, roles.READER, roles.OWNER)


def url_of(database: str, role: str) -> str:
    url = make_url(database)
    login = f"{role.removeprefix('danmpy_')}_{url.database}"
    return url.set(username=login).render_as_string(hide_password=False)


def world_of(database: str, role: str) -> World:
    engine, clock = open_engine(url_of(database, role)), MovingClock()
    return World(
        engine=engine,
        clock=clock,
        leases=LeaseStore(engine, clock, 0),
        segments=SegmentStore(engine, clock),
        audit=Audit(engine, clock),
        ledger=Ledger(engine, clock),
    )


@pytest.fixture
def node(database: str) -> Iterator[World]:
    made = world_of(database, roles.NODE)
    try:
        yield made
    finally:
        made.engine.dispose()


@pytest.fixture
def controller(database: str) -> Iterator[World]:
    made = world_of(database, roles.CONTROLLER)
    try:
        yield made
    finally:
        made.engine.dispose()


def use(world: World) -> None:
    """All that a node does with addresses."""
    ask = [LeaseRequest(interface="net1", network=NET, ip=DYNAMIC, ip6=DYNAMIC)]
    for pod in ("gone", "stays"):
        world.leases.bind(owner(pod), ask)
    world.leases.record_mac("container-stays", "net1", "02:00:00:00:00:01")
    world.leases.release("container-gone")
    world.leases.bind(owner("next"), ask)
    world.leases.bind(replace(owner("next"), container_id="second"), ask)
    assert world.ledger.seal() > 0


def refused(database: str, role: str, statement: str) -> str:
    """The error that the server gives."""
    url = make_url(url_of(database, role))
    with psycopg.connect(
        host=url.host,
        port=url.port,
        user=url.username,
        password=url.password,
        dbname=url.database,
        autocommit=True,
    ) as connection:
        try:
            connection.execute(statement.encode())
        except psycopg.Error as error:
            return str(error)
    return ""


def test_every_table_has_its_rights() -> None:
    assert set(roles.TABLES) == {*metadata.tables, "alembic_version"}


def test_a_node_binds_releases_records_seals_and_reports(node: World) -> None:
    migrate.require_current(node.engine)
    use(node)
    reports = NodeReports(node.engine, node.clock)
    reports.write("node-a", {"TenantNetwork/blue/a": REPORT})
    reports.write("node-a", {})
    assert reports.summary() == {}
    node.segments.stored({}, ())


def test_a_node_begins_and_ends_an_epoch(node: World) -> None:
    use(node)
    epochs = EpochStore(node.engine, node.clock, 0)
    seen = epochs.look(None).mark(0)
    epochs.look(replace(seen, seq=seen.seq + 100))  # one that is not there: was it pruned?
    epochs.settle_home(epochs.look(seen))
    assert epochs.begin(Trouble(why="behind", strict=True), None, "node-a").closed
    epochs.told("node-a", 1)
    assert not epochs.settle(by="alice").closed


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET pod = 'other'",
        "DELETE FROM event",
        "TRUNCATE event",
        "UPDATE seal SET count = 0",
        "DELETE FROM seal",
        "DELETE FROM lease",
        "UPDATE lease SET pod = 'other'",
        "UPDATE lease SET address = '\\x0a000009'",
        "UPDATE lease SET held_from = 0",
        "UPDATE lease SET container_id = 'other' WHERE held_to IS NULL",
        "UPDATE segment_assignment SET number = 1",
        "INSERT INTO pruned VALUES (1, 1, 0, 5, 1, 1)",
        "UPDATE retention SET days = 1",
        "DELETE FROM legal_hold",
        "DROP TABLE event",
        "ALTER TABLE event DISABLE TRIGGER ALL",
        "DROP TRIGGER event_append_only ON event",
        "DROP FUNCTION danmpy_append_only() CASCADE",
        "ALTER TABLE lease ADD COLUMN more text",
        "CREATE TABLE mine (a int)",
        "SET session_replication_role = replica",
        "SET ROLE danmpy_owner",
        "SET ROLE danmpy_controller",
    ],
)
def test_a_node_cannot_change_history_or_the_schema(
    node: World, database: str, statement: str
) -> None:
    use(node)
    error = refused(database, roles.NODE, statement)
    assert "permission denied" in error or "must be owner" in error, error


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE lease SET held_to = NULL, end_reason = NULL WHERE held_to IS NOT NULL",
        "UPDATE lease SET held_to = held_to + 1 WHERE held_to IS NOT NULL",
        "UPDATE lease SET mac = '02:00:00:00:00:99' WHERE held_to IS NOT NULL",
    ],
)
def test_a_node_cannot_change_a_lease_that_ended(
    node: World, database: str, statement: str
) -> None:
    use(node)
    assert "is history" in refused(database, roles.NODE, statement)


def test_the_controller_keeps_history_and_cannot_change_it(
    controller: World, database: str
) -> None:
    use(controller)
    keeper = Retention(controller.engine, controller.clock, 400)
    keeper.lift(keeper.hold(Hold(namespace="blue"), CAUSE).id, CAUSE)
    keeper.set_days("blue", 30, CAUSE)
    keeper.run_once()
    samples = UsageSamples(controller.engine, controller.clock)
    samples.record(controller.audit.usage([NET]))
    samples.forget_old()
    assert controller.ledger.verify().ok
    assert "append-only" in refused(database, roles.CONTROLLER, "DELETE FROM event")
    assert "is history" in refused(database, roles.CONTROLLER, "DELETE FROM lease")
    for statement in ("UPDATE event SET pod = ''", "DELETE FROM seal", "DROP TABLE seal"):
        error = refused(database, roles.CONTROLLER, statement)
        assert "permission denied" in error or "must be owner" in error, error


def test_a_reader_reads_everything_and_writes_nothing(node: World, database: str) -> None:
    use(node)
    reader = world_of(database, roles.READER)
    try:
        assert reader.ledger.verify().ok
        assert reader.audit.violations() == ()
        for name in metadata.tables:
            for statement in (f"DELETE FROM {name}", f"INSERT INTO {name} DEFAULT VALUES"):
                assert "permission denied" in refused(database, roles.READER, statement)
    finally:
        reader.engine.dispose()


def test_the_owner_migrates(database: str) -> None:
    assert migrate.upgrade(url_of(database, roles.OWNER)) == (migrate.HEAD, migrate.HEAD)
    assert not refused(database, roles.OWNER, "ALTER TABLE event ADD COLUMN more text")


def test_rights_that_were_added_by_hand_go_when_the_roles_are_made_anew(
    database: str, postgresql: PostgresServer, node: World
) -> None:
    name = make_url(database).database or ""
    postgresql.run_sql(f"GRANT DELETE ON seal TO {roles.NODE}", database=name)
    postgresql.run_sql(roles.roles_sql(), database=name)
    assert "permission denied" in refused(database, roles.NODE, "DELETE FROM seal")

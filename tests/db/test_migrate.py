"""Migrations: from nothing to the models, once, by one, and never backwards."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from danmpy.db import migrate
from danmpy.db.engine import open_engine, read, write
from danmpy.db.errors import SchemaTooNewError
from danmpy.errors import StoreError
from danmpy.ipam.leases import LeaseRequest, LeaseStore
from danmpy.ipam.registry import NetworkRegistry
from danmpy.ipam.schema import metadata
from danmpy.ipam.segments import SegmentStore
from support.leasing import MovingClock, owner
from support.processes import REPOSITORY, clean_environment, danmpy_argv
from support.specs import DYNAMIC, network, tenant_key


def test_an_empty_database_becomes_what_the_models_say(empty_url) -> None:
    assert migrate.upgrade(empty_url) == ("", migrate.HEAD)

    engine = open_engine(empty_url)
    try:
        with read(engine) as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": False}
            )
            differences = compare_metadata(context, metadata)
            if engine.dialect.name == "sqlite":  # which cannot drop a key
                kept = {
                    (each[0], each[1].parent.name) for each in differences if each[0] == "remove_fk"
                }
                assert kept == {("remove_fk", "lease"), ("remove_fk", "freed")}
                differences = [each for each in differences if each[0] != "remove_fk"]
            assert differences == []
        migrate.require_current(engine)
    finally:
        engine.dispose()


def test_partial_indexes_have_the_conditions_of_the_models(database_url, engine) -> None:
    """compare_metadata does not look at them, and uniqueness hangs on them."""
    if engine.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    else:
        query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    with read(engine) as connection:
        stored = {row[0]: row[1] for row in connection.execute(text(query))}
    for table in metadata.tables.values():
        for index in table.indexes:
            definition = stored[index.name]
            where = index.dialect_options[engine.dialect.name]["where"]
            assert ("UNIQUE" in definition) == index.unique
            assert ("WHERE" in definition) == (where is not None)
            if where is not None:
                assert _bare(str(where)) in _bare(definition), index.name


def _bare(condition: str) -> str:
    kept = condition.lower().replace("::text", "")
    return "".join(letter for letter in kept if letter not in "() \n")


def test_upgrading_twice_changes_nothing(empty_url) -> None:
    migrate.upgrade(empty_url)

    assert migrate.upgrade(empty_url) == (migrate.HEAD, migrate.HEAD)
    assert migrate.current(empty_url) == (migrate.HEAD, migrate.HEAD)


def test_of_several_upgraders_at_once_one_works_and_the_others_find_it_done(empty_url) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(migrate.upgrade, [empty_url] * 4))

    assert sorted(results) == [("", migrate.HEAD), *[(migrate.HEAD, migrate.HEAD)] * 3]


def test_a_new_file_is_prepared_by_many_at_once_and_none_fails(tmp_path) -> None:
    """SQLite answers "locked" at once to who comes while another one sets the WAL mode."""
    for turn in range(60):
        start = threading.Barrier(6)

        def prepare(_, path=tmp_path / f"{turn}" / "danmpy.db", start=start) -> None:
            start.wait(timeout=10)
            migrate._prepare_file(path)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(prepare, range(6)))


def test_an_upgrader_waits_for_another_writer_longer_than_an_add_would(sqlite_url) -> None:
    with sqlite3.connect(
        sqlite_url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
    ) as holder:
        holder.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(2.5, holder.rollback)
        timer.start()
        try:
            assert migrate.upgrade(sqlite_url) == (migrate.HEAD, migrate.HEAD)
        finally:
            timer.join()
    holder.close()


def test_the_command_upgrades_and_upgrades_again(empty_url) -> None:
    environment = clean_environment({"DANMPY_DATABASE_URL": empty_url})
    outputs = []
    for _ in range(2):
        done = subprocess.run(
            danmpy_argv("db", "upgrade"),
            capture_output=True,
            text=True,
            env=environment,
            cwd=REPOSITORY,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert migrate.HEAD in outputs[1]
    assert "correct-horse-battery" not in "".join(outputs)


def test_a_database_of_a_later_release_is_refused_and_left_alone(database_url, engine) -> None:
    with write(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(SchemaTooNewError, match="9999, newer than this release"):
        migrate.require_current(engine)
    with pytest.raises(SchemaTooNewError, match="9999"):
        migrate.upgrade(database_url)
    assert migrate.current(database_url)[0] == "9999"


def test_a_database_without_schema_is_refused_with_the_way_out(empty_postgresql_url) -> None:
    engine = open_engine(empty_postgresql_url)
    try:
        with pytest.raises(StoreError, match="is empty") as caught:
            migrate.require_current(engine)
    finally:
        engine.dispose()
    assert "danmpy db upgrade" in caught.value.hint


def test_a_missing_file_is_refused_and_not_made(tmp_path) -> None:
    path = tmp_path / "danmpy.db"
    engine = open_engine(f"sqlite:///{path}")
    try:
        with pytest.raises(StoreError, match="does not exist"):
            migrate.require_current(engine)
    finally:
        engine.dispose()
    with pytest.raises(StoreError, match="does not exist"):
        migrate.current(f"sqlite:///{path}")
    assert not path.exists()


def test_a_file_that_is_no_database_is_not_touched(tmp_path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes.\n" * 100)
    before = path.read_bytes()

    with pytest.raises(StoreError, match=r"notes\.txt"):
        migrate.upgrade(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_reported(tmp_path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="file") as caught:
        migrate.upgrade(f"sqlite:///{tmp_path}/file/danmpy.db")
    assert "writable" in caught.value.hint


def test_a_migration_that_fails_leaves_nothing_behind(empty_url, tmp_path, monkeypatch) -> None:
    broken = tmp_path / "migrations"
    shutil.copytree(migrate.scripts_folder(), broken)
    (script,) = (broken / "versions").glob("0001_*.py")
    script.write_text(
        script.read_text() + "\n_whole = upgrade\n\n\ndef upgrade():\n    _whole()\n    1 / 0\n"
    )
    monkeypatch.setattr(migrate, "scripts_folder", lambda: broken)

    with pytest.raises(ZeroDivisionError):
        migrate.upgrade(empty_url)
    assert migrate.current(empty_url)[0] == ""
    monkeypatch.undo()
    assert migrate.upgrade(empty_url) == ("", migrate.HEAD)


def test_the_list_of_revisions_is_that_of_the_scripts() -> None:
    scripts = ScriptDirectory(str(migrate.scripts_folder()))

    listed = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(listed)) == migrate.REVISIONS


def test_the_wheel_carries_the_migrations_where_the_package_looks_for_them() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]

    assert included == {"migrations": "danmpy/migrations"}
    assert (REPOSITORY / "migrations" / "env.py").is_file()


def test_migrations_inside_the_package_come_first(tmp_path, monkeypatch) -> None:
    package = tmp_path / "danmpy"
    (package / "db").mkdir(parents=True)
    monkeypatch.setattr(migrate, "__file__", str(package / "db" / "migrate.py"))

    assert migrate.scripts_folder() == tmp_path / "migrations"
    (package / "migrations").mkdir()
    assert migrate.scripts_folder() == package / "migrations"


def test_a_database_of_the_first_schema_goes_forwards_with_its_data(empty_url, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "HEAD", "0001")
        migrate.upgrade(empty_url)
    engine = open_engine(empty_url)
    clock = MovingClock()
    net = network(tenant_key("a"), v4="10.0.0.0/24", vni=700)
    try:
        with pytest.raises(StoreError, match="has schema 0001, older than"):
            migrate.require_current(engine)
        with write(engine) as connection:
            connection.execute(text(_POOL))
            connection.execute(text(_LEASE.format(address=_BYTES[engine.dialect.name])))
            connection.execute(text(_ASSIGNMENT))

        assert migrate.upgrade(empty_url) == ("0001", migrate.HEAD)

        migrate.require_current(engine)
        leases = LeaseStore(engine, clock, 120)
        (kept,) = leases.held_by("c0")
        assert str(kept.address) == "10.0.0.1/24"
        assert NetworkRegistry(engine, clock).retire(net.key, net.uid).example == kept
        (next_one,) = leases.bind(owner(), [LeaseRequest(interface="n", network=net, ip=DYNAMIC)])
        assert str(next_one.address) == "10.0.0.2/24"
        assert [each.id for each in SegmentStore(engine, clock).assigned()] == [700]
    finally:
        engine.dispose()


# As release 1 wrote them.
_POOL = (
    "INSERT INTO pool (id, network, family, domain, subnet, shape) "
    "VALUES (1, 'TenantNetwork/blue/a', 4, 'vxlan:ens4:700', '10.0.0.0/24', 'x')"
)
_BYTES = {"sqlite": "x'0a000001'", "postgresql": "'\\x0a000001'::bytea"}
_LEASE = (
    "INSERT INTO lease (id, pool_id, network, network_uid, domain, family, address, address_text, "
    "prefix, interface, namespace, pod, container_id, node, mode, pooled, held_from) "
    "VALUES (1000, 1, 'TenantNetwork/blue/a', 'uid-a', 'vxlan:ens4:700', 4, {address}, '10.0.0.1', "
    "24, 'net1', 'blue', 'old', 'c0', 'n', 'dynamic', 1, 1)"
)
_ASSIGNMENT = (
    "INSERT INTO segment_assignment (network, network_uid, profile, kind, number, assigned_at) "
    "VALUES ('TenantNetwork/blue/a', 'uid-a', 'ens4', 'vxlan', 700, 1)"
)


def test_the_release_before_goes_on_beside_the_schema_with_claims(empty_url, monkeypatch) -> None:
    """Its statements name no new column: what it holds, ends and frees stays right for both."""
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "HEAD", "0002")
        migrate.upgrade(empty_url)
    engine = open_engine(empty_url)
    clock = MovingClock()
    net = network(tenant_key("a"), v4="10.0.0.0/24", vni=700)
    old = _LEASE.format(address=_BYTES[engine.dialect.name])
    try:
        with write(engine) as connection:
            connection.execute(text(_POOL))
            connection.execute(text(old))
        migrate.upgrade(empty_url)

        with write(engine) as connection:
            connection.execute(text(_END_OLD))
            connection.execute(text(_FREED_OLD.format(address=_BYTES[engine.dialect.name])))
            connection.execute(text(old.replace("1000", "1001").replace("'c0'", "'c1'")))
        leases = LeaseStore(engine, clock, 120)
        (held,) = leases.held_by("c1")
        assert (held.note, held.claim, held.shared_by) == ("", "", ())
        asks = replace(owner("db-0"), claim="db-0", quota=2)
        (made,) = leases.bind(asks, [LeaseRequest(interface="n", network=net, ip=DYNAMIC)])
        assert (str(made.address), made.claim) == ("10.0.0.2/24", "db-0")
        assert len(leases.release("c1")) == 1
    finally:
        engine.dispose()


_END_OLD = (
    "UPDATE lease SET held_to = 2, cool_until = 3, end_reason = 'released' "
    "WHERE container_id = 'c0' AND held_to IS NULL"
)
_FREED_OLD = (
    "INSERT INTO freed (domain, address, pool_id, family, released_at, ready_at, network, "
    "interface, namespace, pod, pod_uid, end_reason) VALUES ('vxlan:ens4:700', {address}, 1, 4, 2, "
    "3, 'TenantNetwork/blue/a', 'net1', 'blue', 'old', '', 'released')"
)

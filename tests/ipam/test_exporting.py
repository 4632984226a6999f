"""What a pruning takes is on the disk before it goes, or it does not go."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from danmpy.db.engine import read
from danmpy.errors import HostError
from danmpy.ipam import retention
from danmpy.ipam.exporting import PruneExport
from danmpy.ipam.ledger import EVENT_FIELDS, canonical
from danmpy.ipam.retaining import DAY
from danmpy.ipam.retention import Pruning, Retention
from danmpy.ipam.schema import seal
from support.leasing import World
from support.specs import network, tenant_key

NET = network(tenant_key("internal"), v4="10.0.0.0/24", vni=700)


@pytest.fixture(autouse=True)
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper of the history is two years ahead."""
    real = retention.database_now
    monkeypatch.setattr(retention, "database_now", lambda *asked: real(*asked) + 800 * DAY)


def history(world: World) -> None:
    for pod in ("first", "second"):
        world.bind(NET, pod)
        world.leases.release(f"container-{pod}")
        world.ledger.seal()


def prune(world: World, folder: Path) -> Pruning:
    keeper = Retention(world.engine, world.clock, 400, "node-a", PruneExport(folder))
    return keeper.run_once()


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_everything_that_goes_is_in_a_file_that_proves_itself(world: World, tmp_path: Path) -> None:
    history(world)
    events = world.rows("SELECT seq, uid, kind FROM event ORDER BY seq")
    leases = world.rows("SELECT id, address_text FROM lease ORDER BY id")

    done = prune(world, tmp_path / "new" / "folder")

    assert (done.seals, done.events, done.leases) == (2, 4, 2)
    (path,) = (tmp_path / "new" / "folder").iterdir()
    told = lines_of(path)
    kinds = [each["is"] for each in told]
    assert kinds == ["seal"] * 2 + ["event"] * 4 + ["lease"] * 2
    assert [(e["seq"], e["uid"], e["kind"]) for e in told if e["is"] == "event"] == events
    assert [(e["id"], e["address_text"]) for e in told if e["is"] == "lease"] == leases
    for each in told:
        if each["is"] == "event":
            text = canonical({name: each[name] for name in EVENT_FIELDS})
            assert hashlib.sha256(text.encode()).hexdigest() == each["digest"]
    assert world.rows("SELECT count(*) FROM lease") == [(0,)]
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert path.name.endswith("-1-2.jsonl.gz")


def test_what_cannot_be_written_is_not_pruned(world: World, tmp_path: Path) -> None:
    history(world)
    before = world.rows("SELECT count(*) FROM event")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(HostError, match="cannot be written"):
            prune(world, folder)
    assert world.rows("SELECT count(*) FROM event") == before
    assert prune(world, tmp_path / "good").events == 4


def test_a_run_that_is_written_again_is_the_same_file(world: World, tmp_path: Path) -> None:
    history(world)
    export = PruneExport(tmp_path)
    with read(world.engine) as connection:
        seals = connection.execute(select(seal)).all()
    first = export.write("ledger", seals, [], []).read_bytes()
    assert export.write("ledger", seals, [], []).read_bytes() == first
    assert [path.name for path in tmp_path.glob("ledger*")] == ["ledger-1-2.jsonl.gz"]


def test_without_a_folder_nothing_is_written(world: World) -> None:
    history(world)
    assert Retention(world.engine, world.clock, 400).run_once().events == 4

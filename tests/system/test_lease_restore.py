"""A database that comes back without its last commits: by dump, by backup, by a standby."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from danmpy.attach.fence import Fence, FencedLeases
from danmpy.attach.journal import Journal
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine, read
from danmpy.db.migrate import upgrade
from danmpy.errors import StoreError
from danmpy.ipam.audit import Audit
from danmpy.ipam.epoch import EpochStore
from danmpy.ipam.leases import LeaseRequest, LeaseStore
from danmpy.ipam.sealing import Ledger
from support.databases import PostgresServer
from support.leasing import owner
from support.netns import wait_until
from support.node import Node, Nodes, cluster_network, pod_manifest
from support.ownserver import OwnServer, own_server
from support.requirements import POSTGRESQL_BIN
from support.specs import DYNAMIC, network, tenant_key

pytestmark = pytest.mark.system

NET = network(tenant_key("a"), v4="10.0.0.0/24", vni=700)


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as made:
        yield made


def bind(store: LeaseStore | FencedLeases, pod: str) -> str:
    request = LeaseRequest(interface="net1", network=NET, ip=DYNAMIC)
    (lease,) = store.bind(owner(pod), [request])
    return str(lease.address.ip)


def copy_over(source: PostgresServer, name: str, target: PostgresServer, to: str) -> None:
    """``pg_dump | psql``, as a person moves a database to a new server."""
    dump = subprocess.run(
        [*_words("pg_dump", source), name], capture_output=True, check=True, timeout=60
    )
    words = [*_words("psql", target), "-q", "-v", "ON_ERROR_STOP=1", to]
    subprocess.run(words, input=dump.stdout, capture_output=True, check=True, timeout=60)


def _words(program: str, server: PostgresServer) -> list[str]:
    at = ["-h", str(server.folder), "-p", str(server.port), "-U", "danmpy"]
    return [str(POSTGRESQL_BIN / program), *at]


@pytest.fixture
def moved(
    postgresql: PostgresServer, postgresql_url: str, server: OwnServer
) -> Iterator[tuple[Engine, Engine]]:
    """A database with a sealed past of high transaction numbers, and its copy on a new server."""
    name = postgresql_url.rpartition("/")[2]
    old = open_engine(postgresql_url)
    # The server's numbers are high for sure once it has worked for a while.
    for _ in range(500):
        postgresql.run_sql("SELECT pg_current_xact_id()", database=name)
    bind(LeaseStore(old, wall_clock, 120), "before")
    epochs = EpochStore(old, wall_clock, 120)
    epochs.settle_home(epochs.look(None))
    Ledger(old, wall_clock).seal()
    to = server.server.make_database()
    copy_over(postgresql, name, server.server, to)
    new = open_engine(server.server.url(to))
    with read(old) as before, read(new) as after:
        numbers = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        assert after.execute(numbers).scalar_one() < before.execute(numbers).scalar_one()
    yield old, new
    old.dispose()
    new.dispose()


def fenced(engine: Engine, folder: Path) -> tuple[Fence, FencedLeases]:
    journal = Journal(folder / "attachments")
    journal.open()
    journal.close()  # the lock is of no use here
    epochs = EpochStore(engine, wall_clock, 120)
    store = LeaseStore(engine, wall_clock, 120)
    fence = Fence(epochs, journal, "node-a", store.release)
    guarded = LeaseStore(engine, wall_clock, 120, guard=fence.guard)
    return fence, FencedLeases(guarded, fence)


def is_sealed_whole(engine: Engine) -> None:
    ledger = Ledger(engine, wall_clock)
    ledger.seal()
    report = ledger.verify()
    assert report.ok, str(report)
    assert report.unsealed == 0, str(report)
    assert Audit(engine, wall_clock).violations() == ()


def test_after_a_dump_to_a_new_server_new_events_are_sealed_behind_the_old_ones(
    moved: tuple[Engine, Engine], tmp_path: Path
) -> None:
    _, new = moved
    fence, leases = fenced(new, tmp_path)
    fence.look()
    EpochStore(new, wall_clock, 120).settle(by="a test: nothing is lost")
    fence.look()
    assert bind(leases, "after") == "10.0.0.2"
    is_sealed_whole(new)
    assert bind(leases, "later") == "10.0.0.3"
    is_sealed_whole(new)


def test_before_anybody_has_looked_nothing_is_written_among_what_is_sealed(
    moved: tuple[Engine, Engine],
) -> None:
    """A command that is faster than the node daemons would spoil an old seal."""
    _, new = moved
    with pytest.raises(StoreError, match="txid") as caught:
        bind(LeaseStore(new, wall_clock, 120), "too-early")
    assert "restored" in caught.value.hint
    report = Ledger(new, wall_clock).verify()
    assert report.ok, str(report)


# With a daemon


@pytest.fixture
def declared(node: Node) -> Node:
    node.write(
        "networks.yaml", cluster_network("ext", host_device="ens4", vxlan=900, cidr="172.16.0.0/24")
    )
    for number in range(5):
        wish = {"clusterNetwork": "ext", "ip": "dynamic"}
        node.write(f"p{number}.yaml", pod_manifest("blue", f"p{number}", wish, uid=f"u{number}"))
    return node


def test_a_running_daemon_notices_a_server_that_was_put_back_and_loses_no_address(
    declared: Node, nodes: Nodes, server: OwnServer, tmp_path: Path
) -> None:
    """The data folder of an hour ago: the same server, the same timeline, and commits are gone."""
    name = server.server.make_database()
    upgrade(server.server.url(name))
    declared.environment["DANMPY_DATABASE_URL"] = server.server.socket_url(name)
    pods = [nodes.pod(f"p{number}", uid=f"u{number}") for number in range(5)]
    declared.start()
    assert declared.add(pods[0]).ok
    server.close()
    server.copy_data(tmp_path / "backup")
    server.start()
    wait_until(declared.serves, seconds=10, what="the daemon is back")
    got = {}
    for pod in pods[1:3]:
        answer = declared.add(pod)
        assert answer.ok, answer.error
        got[pod.name] = answer.addresses
    time.sleep(2.5)  # the daemon looks every 2 s
    server.crash()

    began = time.monotonic()
    answer = declared.add(pods[3])
    assert time.monotonic() - began < 5
    assert answer.document["code"] == 11
    assert name in answer.document["msg"]
    assert declared.delete(pods[0]).ok  # kept for the database that comes back

    server.put_back(tmp_path / "backup")
    server.start()
    answer = declared.add(pods[3])
    assert answer.document["code"] == 11, answer.stdout
    assert "until the nodes have told" in answer.document["msg"]
    assert declared.danmpy("db", "epoch").returncode == 1
    wait_until(lambda: declared.add(pods[3]).ok, seconds=25, what="addresses are handed out again")
    held = {item["pod"]: [item["address"]] for item in declared.leases()}
    for pod_name, addresses in got.items():
        assert held[pod_name] == addresses
    assert "p0" not in held
    assert len({tuple(addresses) for addresses in held.values()}) == 3
    for words in (("audit", "diff"), ("audit", "verify")):
        done = declared.danmpy(*words)
        assert done.returncode == 0, done.stdout
    for pod in pods[1:4]:
        assert declared.delete(pod).ok
    assert declared.leases() == []

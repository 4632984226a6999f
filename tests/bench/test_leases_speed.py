"""Leases beside the floor: `pgbench` on the same server, in the same run, in turns with ours.

The server is durable (fsync on). The floor is one insert of one row that is a transaction of its
own. What counts are the ratios; figures of different machines or times say nothing to each other.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from danmpy.api.specs import NetworkSpec
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine, run_write
from danmpy.db.migrate import upgrade
from danmpy.errors import StoreError
from danmpy.ipam.leases import LeaseRequest, LeaseStore
from danmpy.ipam.pools import layout
from support.databases import PostgresServer, run_server
from support.leasing import owner
from support.requirements import POSTGRESQL_BIN
from support.specs import DYNAMIC, network, tenant_key

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

fork = multiprocessing.get_context("fork")

TABLE = "CREATE TABLE floor (id bigserial PRIMARY KEY, number bigint NOT NULL, words text NOT NULL)"
INSERT = "INSERT INTO floor (number, words) VALUES (1, 'danmpy');\n"


@dataclass(slots=True)
class Series:
    """Milliseconds of one thing, done many times."""

    name: str
    values: list[float] = field(default_factory=list)

    @property
    def p50(self) -> float:
        return statistics.median(self.values)

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.values, n=100)[98]

    def __str__(self) -> str:
        return f"{self.name:<40} p50 {self.p50:8.3f} ms   p99 {self.p99:8.3f} ms"


def report(*lines: object) -> None:
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print("", *lines, f"load average {load}", sep="\n", flush=True)


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that `work` takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Durable, and with room for 128 nodes."""
    with run_server("max_connections=300", "shared_buffers=256MB") as made:
        yield made


@pytest.fixture(scope="module")
def template(server: PostgresServer) -> str:
    name = server.make_database()
    upgrade(server.url(name))
    server.run_sql(TABLE, database=name)
    return name


@pytest.fixture
def url(server: PostgresServer, template: str) -> Iterator[str]:
    name = server.make_database(template=template)
    try:
        yield server.url(name)
    finally:
        server.drop_database(name)


@pytest.fixture
def open_store() -> Iterator[Callable[[str], LeaseStore]]:
    """Makes stores, and closes their connections at the end."""
    engines = []

    def make(url: str) -> LeaseStore:
        engines.append(open_engine(url))
        return LeaseStore(engines[-1], wall_clock, 120)

    yield make
    for engine in engines:
        engine.dispose()


@dataclass(frozen=True, slots=True)
class Floor:
    """`pgbench` on the same database, over TCP as we are."""

    server: PostgresServer
    database: str
    folder: Path

    def run(self, clients: int, each: int) -> tuple[list[float], float]:
        """Milliseconds of every transaction, and transactions a second."""
        script = self.folder / "insert.sql"
        script.write_text(INSERT)
        log = self.folder / "log"
        done = subprocess.run(
            [
                str(POSTGRESQL_BIN / "pgbench"),
                *("--host", "127.0.0.1", "--port", str(self.server.port), "--username", "danmpy"),
                *("--no-vacuum", "--file", str(script), "--client", str(clients), "--jobs", "2"),
                *("--transactions", str(each), "--log", f"--log-prefix={log}", self.database),
            ],
            check=True,
            capture_output=True,
            text=True,
            env={"PGPASSWORD": "correct-horse-battery", "PATH": "/usr/bin"},
        )
        values = []
        for path in self.folder.glob("log.*"):
            values += [int(line.split()[2]) / 1000 for line in path.read_text().splitlines()]
            path.unlink()
        (line,) = (each for each in done.stdout.splitlines() if each.startswith("tps = "))
        return values, float(line.split()[2])


@pytest.fixture
def floor(server: PostgresServer, url: str, tmp_path: Path) -> Floor:
    return Floor(server, url.rpartition("/")[2], tmp_path)


def bind(store: LeaseStore, pod: str, networks: Sequence[NetworkSpec], uid: str = "") -> list[str]:
    requests = [
        LeaseRequest(interface=f"net{number}", network=each, ip=DYNAMIC)
        for number, each in enumerate(networks)
    ]
    made = store.bind(owner(pod, pod_uid=uid or f"uid-{pod}"), requests)
    return [str(lease.address.ip) for lease in made]


def collect_statistics(url: str) -> None:
    """What autovacuum does within a minute of the first pods."""
    engine = open_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()


def three_networks() -> list[NetworkSpec]:
    return [
        network(tenant_key(f"net-{number}"), v4=f"10.{number}.0.0/16", vni=700 + number)
        for number in range(3)
    ]


def test_a_pod_with_three_interfaces(url: str, floor: Floor, open_store: Any) -> None:
    store = open_store(url)
    networks = three_networks()
    for number in range(100):
        bind(store, f"warm-{number}", networks)
    collect_statistics(url)
    ours, theirs = Series("a pod with three interfaces"), Series("pgbench, one row")
    floor.run(1, 100)
    for turn in range(12):
        theirs.values += floor.run(1, 150)[0]
        for number in range(100):
            pod = f"pod-{turn}-{number}"
            ours.values.append(timed(lambda pod=pod: bind(store, pod, networks)))
    p50, p99 = ours.p50 / theirs.p50, ours.p99 / theirs.p99
    report(theirs, ours, f"ratio p50 {p50:.2f} (at most 4), p99 {p99:.2f} (at most 20)")
    assert p50 <= 4
    assert p99 <= 20


def wait_until_connected(store: LeaseStore) -> None:
    """Daemons are connected before a pod comes; here all of them start in one moment."""
    for attempt in range(30):
        try:
            store.ping()
        except StoreError:
            time.sleep(attempt / 10)
        else:
            return


def work_in_turns(
    url: str, networks: Sequence[NetworkSpec], number: int, turns: Sequence[int], start: Any
) -> list[tuple[float, float, list[str]]]:
    """A node's daemon: so many pods in each turn; begin, end and addresses of each turn."""
    store = LeaseStore(open_engine(url), wall_clock, 120)
    wait_until_connected(store)
    told = []
    for turn, pods in enumerate(turns):
        start.wait()
        began = time.monotonic()
        got = []
        for pod in range(pods):
            got += bind(store, f"pod-{number}-{turn}-{pod}", networks)
        told.append((began, time.monotonic(), got))
        start.wait()
    return told


class Crowd:
    """Processes that have imported everything; all work when they are told."""

    def __init__(
        self, url: str, networks: Sequence[NetworkSpec], size: int, turns: Sequence[int]
    ) -> None:
        self._size = size
        self._start = fork.Barrier(size + 1, timeout=120)
        self._answers = fork.Queue()

        def run(number: int) -> None:
            try:
                self._answers.put(work_in_turns(url, networks, number, turns, self._start))
            except BaseException as error:
                self._start.abort()
                self._answers.put(repr(error))
                raise

        self._children = [
            fork.Process(target=run, args=(number,), daemon=True) for number in range(size)
        ]
        for child in self._children:
            child.start()

    def turn(self) -> None:
        """Let all of them work, until the last one is through."""
        self._start.wait()
        self._start.wait()

    def told(self) -> list[Any]:
        answers = [self._answers.get(timeout=60) for _ in range(self._size)]
        for child in self._children:
            child.join(timeout=60)
        return answers

    def end(self) -> None:
        for child in self._children:
            child.kill()
            child.join()


def test_pods_a_second_of_thirty_two_on_one_network(url: str, floor: Floor) -> None:
    each, turns = 60, 5
    one = [network(tenant_key("one"), v4="10.0.0.0/8", vni=700)]
    crowd = Crowd(url, one, 32, [10, *[each] * turns])
    rates = []
    try:
        crowd.turn()
        collect_statistics(url)
        for _ in range(turns):
            rates.append(floor.run(32, 400)[1])
            crowd.turn()
        told = crowd.told()
    finally:
        crowd.end()
    addresses = [address for turns_of in told for *_, got in turns_of for address in got]
    assert len(addresses) == len(set(addresses)) == 32 * (10 + turns * each)
    ours = []
    for turn in range(1, turns + 1):
        took = max(one[turn][1] for one in told) - min(one[turn][0] for one in told)
        ours.append(32 * each / took)
    theirs, mine = statistics.median(rates), statistics.median(ours)
    report(
        f"pgbench, 32 clients {theirs:8.0f} rows/s",
        f"32 processes, one network {mine:8.0f} pods/s",
        f"ratio {mine / theirs:.3f} (at least 0.333)",
    )
    assert mine / theirs >= 1 / 3


def test_128_pods_of_16_interfaces_at_once_on_one_network(url: str) -> None:
    one = [network(tenant_key("one"), v4="10.0.0.0/16", vni=700)] * 16
    crowd = Crowd(url, one, 128, [1])
    try:
        crowd.turn()
        told = crowd.told()
    finally:
        crowd.end()
    addresses = [address for ((_, _, got),) in told for address in got]
    took = max(one[0][1] for one in told) - min(one[0][0] for one in told)
    report(f"128 pods x 16 interfaces, 128 processes: {took:.2f} s (under 10)")
    assert len(addresses) == len(set(addresses)) == 2048
    assert took < 10


FILL = """
INSERT INTO lease (pool_id, network, network_uid, domain, family, address, address_text, prefix,
  interface, namespace, pod, pod_uid, container_id, node, mode, pooled, held_from)
SELECT pool.id, pool.network, 'uid', pool.domain, 4, substring(int8send(n) FROM 5),
  host('0.0.0.0'::inet + n), {prefix}, 'net0', 'ns-' || n % 97, 'held-' || n, 'uid-held-' || n,
  'held-' || n, 'node-' || n % 1000, 'dynamic', 1, n
FROM pool, generate_series({first}::bigint, {last}::bigint) AS n
"""
MOVE = "UPDATE pool SET next = substring(int8send({after}::bigint) FROM 5)"


def fill(server: PostgresServer, database: str, spec: NetworkSpec, held: int) -> None:
    """Hold so many addresses more, from the cursor on."""
    assert spec.v4 is not None
    first = layout(spec.v4).ranges[0][0] + 1  # the first one has the pod that made the pool
    words = {
        "prefix": spec.v4.subnet.prefixlen,
        "first": first,
        "last": first + held - 1,
        "after": first + held,
    }
    server.run_sql(FILL.format(**words), MOVE.format(**words), database=database)


def test_cost_against_fill(server: PostgresServer, template: str, open_store: Any) -> None:
    big = network(tenant_key("big"), v4="10.0.0.0/8", vni=700)
    tight = network(tenant_key("tight"), v4="10.0.0.0/16", vni=700)
    six = network(tenant_key("six"), v6="2001:db8:1::/64", vni=700)
    cases = [
        ("/8, 0 held", big, 0),
        ("/8, 10 k held", big, 10_000),
        ("/8, 100 k held", big, 100_000),
    ]
    cases += [("/8, 1 M held", big, 1_000_000), ("/16, 99.9 % held", tight, 65_468)]
    stores: dict[str, tuple[LeaseStore, NetworkSpec, Series]] = {}
    databases = []
    try:
        for name, spec, held in [*cases, ("/64, 0 held", six, 0)]:
            databases.append(server.make_database(template=template))
            url = server.url(databases[-1])
            store = open_store(url)
            stores[name] = (store, spec, Series(name))
            bind_one(store, spec, "first")
            if held:
                fill(server, databases[-1], spec, held)
            server.run_sql("ANALYZE", database=databases[-1])
            for number in range(100 if held != 65_468 else 5):
                bind_one(store, spec, f"warm-{number}")
            server.run_sql("ANALYZE", "CHECKPOINT", database=databases[-1])
        for turn in range(-5, 100):
            for name, (store, spec, series) in stores.items():
                if name.startswith("/16") and turn >= 50:
                    continue  # the last of its addresses
                took = timed(lambda s=store, n=spec, t=turn: bind_one(s, n, f"pod-{t}"))
                if turn >= 0:
                    series.values.append(took)
        report(*(series for *_, series in stores.values()))
        empty = stores["/8, 0 held"][2].p50
        for name, (*_, series) in stores.items():
            assert series.p50 <= 2 * empty, name
    finally:
        for name in databases:
            server.drop_database(name)


def bind_one(store: LeaseStore, spec: NetworkSpec, pod: str) -> None:
    ask = {"ip": DYNAMIC} if spec.v4 else {"ip6": DYNAMIC}
    (lease,) = store.bind(owner(pod), [LeaseRequest(interface="net0", network=spec, **ask)])
    assert lease.to is None


def test_the_queue_of_sqlite_beside_the_same_rows_in_equal_batches(
    sqlite_url: str, tmp_path: Path
) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    threads, each = 32, 60
    engine = open_engine(sqlite_url)
    engine_rows = text("INSERT INTO meta (key, value) VALUES (:key, 'x')")

    def through_the_queue(turn: int) -> None:
        def run(number: int) -> None:
            for count in range(each):
                key = f"{turn}-{number}-{count}"
                run_write(engine, lambda c, key=key: c.execute(engine_rows, {"key": key}))

        crowd = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()

    def raw(turn: int) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA synchronous=FULL")
        for count in range(each):
            connection.execute("BEGIN IMMEDIATE")
            for number in range(threads):
                connection.execute("SAVEPOINT one")
                connection.execute(
                    "INSERT INTO meta (key, value) VALUES (?, 'x')", (f"r{turn}-{number}-{count}",)
                )
                connection.execute("RELEASE one")
            connection.execute("COMMIT")
        connection.close()

    ours, theirs = [], []
    through_the_queue(0)
    for turn in range(1, 8):
        theirs.append(timed(lambda turn=turn: raw(turn)))
        ours.append(timed(lambda turn=turn: through_the_queue(turn)))
    total = threads * each
    theirs_rate, rate = total / min(theirs) * 1000, total / min(ours) * 1000
    report(
        f"raw, {threads} savepoints a transaction {theirs_rate:8.0f} rows/s",
        f"{threads} threads through the queue {rate:8.0f} rows/s",
        f"ratio {rate / theirs_rate:.3f} (at least 0.5)",
    )
    engine.dispose()
    assert rate >= theirs_rate / 2

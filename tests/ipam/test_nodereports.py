"""What nodes say of networks: written when it changes, added up for the controller."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from danmpy.api.specs import HostDeviceProfile, SegmentKind, TenantConfigSpec
from danmpy.db.engine import open_engine
from danmpy.ipam.nodereports import NodeNetwork, NodeReports
from danmpy.ipam.realised import NodeFailure, Realised
from support.processes import REPOSITORY, clean_environment
from support.specs import network, tenant_key


def row(name: str, **more) -> NodeNetwork:
    values = {"segment": f"vxlan:ens4:{name}", "device": f"vx{name}", "ready": True}
    return NodeNetwork(network=name, **(values | more))


def rows(*made: NodeNetwork) -> dict[str, NodeNetwork]:
    return {each.network: each for each in made}


@pytest.fixture
def reports(world) -> NodeReports:
    return NodeReports(world.engine, world.clock)


def test_a_node_has_exactly_the_rows_that_it_wrote_last(reports) -> None:
    first = rows(row("1"), row("2"), row("3", ready=False, reason="ParentMissing", message="no"))
    reports.write("a", first)
    reports.write("b", rows(row("1")))
    assert reports.read("a") == first

    second = rows(row("2", attached=4), row("4"), first["3"])
    reports.write("a", second)
    assert reports.read("a") == second
    assert reports.read("b") == rows(row("1"))
    assert reports.nodes() == {"a", "b"}

    reports.write("a", {})
    assert reports.read("a") == {}
    assert reports.read("nobody") == {}
    assert reports.nodes() == {"b"}


def test_what_stands_there_is_not_written_again_and_soon_not_even_looked_at(
    world, reports, statements
) -> None:
    same = rows(row("1"), row("2"))
    reports.write("a", same)
    statements.clear()

    reports.write("a", dict(same))
    assert statements == []
    another = NodeReports(world.engine, world.clock)
    another.write("a", same)
    assert not {"INSERT", "UPDATE", "DELETE"} & set(statements)


def test_rows_that_somebody_took_away_come_back_within_a_minute(world, reports) -> None:
    reports.write("a", rows(row("1")))
    assert reports.forget(frozenset({"b"})) == 1

    reports.write("a", rows(row("1")))
    assert reports.read("a") == {}
    world.clock.now += 61_000_000
    reports.write("a", rows(row("1")))
    assert reports.read("a") == rows(row("1"))


def test_a_clock_that_was_set_back_does_not_keep_rows_away(world, reports) -> None:
    reports.write("a", rows(row("1")))
    reports.forget(frozenset({"b"}))

    world.clock.now -= 3600_000_000
    reports.write("a", rows(row("1")))
    assert reports.read("a") == rows(row("1"))


def test_only_what_changed_is_written(world, reports, statements) -> None:
    many = rows(*(row(f"{number:03}") for number in range(100)))
    reports.write("a", many)
    statements.clear()

    reports.write("a", many | rows(row("050", attached=1)))
    assert statements.count("INSERT") == 1
    assert "DELETE" not in statements


@pytest.mark.parametrize("message", ["long " * 1000, "a\0b", "\ud800", "two\nlines"])
def test_any_message_can_be_told(reports, message) -> None:
    reports.write("a", rows(row("1", ready=False, message=message)))

    stored = reports.read("a")["1"].message
    assert 0 < len(stored) <= 500
    assert stored[0] == message[0] or message == "\ud800"


def test_the_summary_counts_nodes_and_interfaces_and_names_the_first_failures(reports) -> None:
    for number in range(9):
        failed = number % 4 != 0
        told = {"reason": "KernelRefused", "message": f"m{number}"} if failed else {}
        reports.write(
            f"node-{number}", rows(row("1", ready=not failed, attached=number, **told), row("2"))
        )

    assert reports.summary() == {
        "1": Realised(
            ready=3,
            failed=6,
            attached=36,
            failures=tuple(
                NodeFailure(node=f"node-{number}", reason="KernelRefused", message=f"m{number}")
                for number in (1, 2, 3, 5, 6)
            ),
        ),
        "2": Realised(ready=9, failed=0, attached=0),
    }


def test_nodes_that_are_gone_are_forgotten_and_no_others(reports) -> None:
    for node in ("a", "b", "c"):
        reports.write(node, rows(row("1"), row("2")))

    assert reports.forget(frozenset({"a", "b", "c", "d"})) == 0
    assert reports.forget(frozenset({"b"})) == 4
    assert set(reports.read("b")) == {"1", "2"}
    assert reports.summary()["1"].ready == 1


def test_an_empty_list_of_nodes_takes_nothing_away(reports) -> None:
    reports.write("a", rows(row("1")))

    assert reports.forget(frozenset()) == 0
    assert reports.read("a") == rows(row("1"))


def test_a_thousand_rows_are_written_in_as_many_statements_as_ten(reports, statements) -> None:
    few, many = (
        rows(*(row(f"{number}", message="x" * 100) for number in range(count)))
        for count in (10, 1000)
    )
    reports.write("a", few)
    for_ten = len(statements)
    statements.clear()

    reports.write("b", many)

    assert len(statements) == for_ten
    assert reports.read("b") == many


LAUNCHER = """
import json, multiprocessing, random, sys
from danmpy.clock import wall_clock
from danmpy.api.specs import HostDeviceProfile, SegmentKind, TenantConfigSpec
from danmpy.db.engine import open_engine
from danmpy.errors import DanmpyError
from danmpy.ipam.nodereports import NodeNetwork, NodeReports

url, processes, nodes, turns = sys.argv[1], *map(int, sys.argv[2:])
fork = multiprocessing.get_context("fork")

def work(number, start, answers):
    engine = open_engine(url)
    chance = random.Random(number)
    start.wait(60)
    for turn in range(turns):
        names = chance.sample(range(60), 40)
        rows = {
            f"n{name}": NodeNetwork(network=f"n{name}", ready=True, attached=number * 100 + turn)
            for name in names
        }
        try:
            NodeReports(engine, wall_clock).write(f"node-{number % nodes}", rows)
            NodeReports(engine, wall_clock).forget(frozenset(f"node-{n}" for n in range(nodes)))
            answers.put("")
        except DanmpyError as error:
            answers.put(str(error))

start, answers = fork.Barrier(processes), fork.Queue()
children = [
    fork.Process(target=work, args=(number, start, answers), daemon=True)
    for number in range(processes)
]
for child in children:
    child.start()
print(json.dumps([answers.get(timeout=100) for _ in range(processes * turns)]), flush=True)
for child in children:
    child.join()
"""


@pytest.mark.parametrize("nodes", [16, 8])
def test_sixteen_processes_write_at_once_and_none_fails(database_url, nodes) -> None:
    """With 8 nodes, two daemons write for each: one is just being replaced by the other."""
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, database_url, "16", str(nodes), "5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment({"PYTHONPATH": str(REPOSITORY / "tests")}),
        start_new_session=True,
    )
    try:
        output, errors = launcher.communicate(timeout=110)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(launcher.pid, signal.SIGKILL)
        launcher.communicate()
    assert output, errors
    assert set(json.loads(output)) == {""}
    engine = open_engine(database_url)
    try:
        reports = NodeReports(engine, lambda: 0)
        for number in range(nodes):
            found = reports.read(f"node-{number}")
            # All rows of one write and none of another: two writers never mix.
            assert len(found) == 40
            assert len({each.attached for each in found.values()}) == 1
    finally:
        engine.dispose()


def test_a_row_that_differs_only_in_what_is_cut_off_counts_as_the_same(reports, statements) -> None:
    told = row("1", ready=False, message="x" * 600)
    reports.write("a", rows(told))
    statements.clear()

    reports.write("a", rows(replace(told, message="x" * 500 + "y")))
    assert statements == []


@pytest.mark.bench
def test_two_hundred_nodes_with_a_thousand_networks_are_added_up(world, reports) -> None:
    names = [f"TenantNetwork/namespace-{number % 50}/network-{number}" for number in range(1000)]
    start = time.perf_counter()
    for node in range(200):
        reports.write(
            f"node-{node:03}",
            {
                name: NodeNetwork(
                    network=name,
                    segment=f"vxlan:ens4:{number}",
                    device=f"vx{number}",
                    ready=(node + number) % 10 != 0,
                    reason="KernelRefused" if (node + number) % 10 == 0 else "DeviceReady",
                    message="the kernel said that this cannot be, and why it cannot be so",
                    attached=1,
                )
                for number, name in enumerate(names)
            },
        )
    print(f"\n{time.perf_counter() - start:.1f} s for 200 nodes to write 1,000 rows each")
    for turn in ("first", "second"):
        start = time.perf_counter()
        summary = reports.summary()
        print(f"{turn} summary: {(time.perf_counter() - start) * 1000:.0f} ms")
    assert len(summary) == 1000
    assert all(
        (each.ready, each.failed, len(each.failures)) == (180, 20, 5) for each in summary.values()
    )
    nodes = frozenset(f"node-{node:03}" for node in range(200))
    offers = [TenantConfigSpec(name="tc", host_devices=(PROFILE,))]
    wanted = network(tenant_key("a"), host_device="")
    start = time.perf_counter()
    answer = world.segments.assign({wanted.key: wanted}, offers, nodes=nodes)
    print(f"an assignment beside them: {(time.perf_counter() - start) * 1000:.0f} ms")
    assert answer.networks[wanted.key].segment.id == 1000
    start = time.perf_counter()
    assert reports.forget(nodes - {"node-007"}) == 1000
    print(f"a node forgotten: {(time.perf_counter() - start) * 1000:.0f} ms")


PROFILE = HostDeviceProfile(name="ens4", kind=SegmentKind.VXLAN, ids=((1, 5000),))

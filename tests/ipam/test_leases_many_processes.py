"""Many processes on a small pool, and on each other's toes, on both engines."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from support.processes import REPOSITORY, clean_environment

PROCESSES = 20
BINDS = 5
ADDRESSES = 80

# One process that has imported everything makes the twenty others, so that they start at once.
LAUNCHER = """
import json, multiprocessing, sys
from dataclasses import replace
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine
from danmpy.errors import DanmpyError
from danmpy.ipam.leases import LeaseRequest, LeaseStore
from support.leasing import owner
from support.specs import DYNAMIC, network, pool, tenant_key

url, processes, binds, addresses = sys.argv[1], *map(int, sys.argv[2:])
whole = pool("10.0.0.0/24")
net = network(tenant_key("small"), v4="10.0.0.0/24", vni=700)
net = replace(net, v4=replace(whole, last=whole.first + addresses - 1))
fork = multiprocessing.get_context("fork")

def bind(number, start, answers):
    store = LeaseStore(open_engine(url), wall_clock, 120)
    start.wait()
    for turn in range(binds):
        pod = f"p{number}-{turn}"
        request = LeaseRequest(interface="n", network=net, ip=DYNAMIC)
        try:
            (lease,) = store.bind(owner(pod), [request])
            answers.put([pod, str(lease.address.ip)])
        except DanmpyError as error:
            answers.put([pod, f"{type(error).__name__}: {error}"])

def release(number, start, answers):
    store = LeaseStore(open_engine(url), wall_clock, 120)
    start.wait()
    for turn in range(binds):
        answers.put(len(store.release(f"container-p{number}-{turn}")))

def run(target):
    start, answers = fork.Barrier(processes), fork.Queue()
    children = [
        fork.Process(target=target, args=(number, start, answers), daemon=True)
        for number in range(processes)
    ]
    for child in children:
        child.start()
    print(json.dumps([answers.get(timeout=60) for _ in range(processes * binds)]), flush=True)
    for child in children:
        child.join()

run(bind)
sys.stdin.readline()
run(release)
"""


@pytest.fixture
def crowd(database_url: str):
    words = [database_url, *map(str, (PROCESSES, BINDS, ADDRESSES))]
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment({"PYTHONPATH": str(REPOSITORY / "tests")}),
        start_new_session=True,
    )
    try:
        yield launcher
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(launcher.pid, signal.SIGKILL)
        launcher.communicate()


def answers_of(launcher) -> list:
    line = launcher.stdout.readline()
    assert line, launcher.stderr.read()
    return json.loads(line)


def test_a_pool_is_handed_out_to_the_last_address_and_never_twice(world, crowd) -> None:
    answers = answers_of(crowd)

    bound = [got for _, got in answers if got.startswith("10.")]
    refused = [got for _, got in answers if not got.startswith("10.")]
    assert len(bound) == len(set(bound)) == ADDRESSES, refused
    assert len(refused) == PROCESSES * BINDS - ADDRESSES
    for words in refused:
        assert "ExhaustedError: TenantNetwork/blue/small: the IPv4 pool 10.0.0.1-10.0.0.80" in words
        assert "80 of 80 addresses held" in words
    assert world.audit.violations() == ()

    crowd.stdin.write("go on\n")
    crowd.stdin.flush()
    assert sum(answers_of(crowd)) == ADDRESSES
    assert world.held_on("node-a") == ()
    assert world.audit.violations() == ()
    world.ledger.seal()
    report = world.ledger.verify()
    assert report.ok, str(report)

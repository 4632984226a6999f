"""``danmpy db epoch`` and ``danmpy db accept-epoch``."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from danmpy.clock import wall_clock
from danmpy.ipam.epoch import EpochStore, Trouble
from danmpy.ipam.leases import LeaseRequest, LeaseStore
from support.leasing import owner
from support.processes import clean_environment, danmpy_argv
from support.specs import DYNAMIC, network, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/24", vni=700)


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def epochs(engine: Engine) -> EpochStore:
    return EpochStore(engine, wall_clock, 120)


@pytest.fixture
def run(database_url: str) -> Run:
    """``danmpy db words...``: exit code and output."""

    def command(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            danmpy_argv("db", *words),
            capture_output=True,
            text=True,
            timeout=60,
            env=clean_environment({"DANMPY_DATABASE_URL": database_url}),
            check=False,
        )
        return done.returncode, done.stdout

    return command


def test_without_trouble_addresses_are_handed_out(run: Run) -> None:
    assert run("epoch") == (0, "epoch 0: addresses are handed out\n")
    status, words = run("accept-epoch", "--reason", "why not")
    assert (status, words) == (0, "epoch 0: addresses were handed out already\n")


def test_a_closed_epoch_names_the_nodes_and_a_person_goes_on_without_them(
    epochs: EpochStore, engine: Engine, run: Run
) -> None:
    request = LeaseRequest(interface="net1", network=NET, ip=DYNAMIC)
    LeaseStore(engine, wall_clock, 120).bind(owner("web"), [request])
    epochs.begin(Trouble(why="it ends at event 3", strict=True), None, "node-z")
    status, words = run("epoch")
    assert status == 1
    assert "epoch 1: no address is handed out: it ends at event 3" in words
    assert "have not told what their pods have: node-a" in words
    assert run("accept-epoch")[0] == 2
    status, words = run("accept-epoch", "--reason", "node-a burned down")
    assert (status, words) == (0, "epoch 1: addresses are handed out again, without node-a\n")
    assert run("epoch")[0] == 0

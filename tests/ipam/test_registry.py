"""Networks that end: nobody is left behind on one, whatever happens at the same moment."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from danmpy.api.specs import AddressAsk
from danmpy.clock import MICROSECONDS
from danmpy.errors import BugError, IntentError
from danmpy.ipam.leases import LeaseRequest
from danmpy.ipam.registry import RETIRED_FOR, Holders, NetworkRegistry
from support.leasing import owner
from support.processes import REPOSITORY, clean_environment
from support.specs import DYNAMIC, network, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/24", v6="fd00::/64", vni=700)
OTHER = network(tenant_key("b"), v4="10.0.1.0/24", vni=700)


@pytest.fixture
def registry(world) -> NetworkRegistry:
    return NetworkRegistry(world.engine, world.clock)


def test_holders_are_counted_exactly_and_the_oldest_is_the_example(world, registry) -> None:
    assert registry.holders(NET.key) == Holders(count=0, example=None)
    first = world.bind(NET, "web-0")
    world.bind(NET, "web-1")
    world.bind(OTHER, "web-2")

    assert registry.holders(NET.key) == Holders(count=2, example=first)
    world.leases.release("container-web-0")
    found = registry.holders(NET.key)
    assert (found.count, found.example and found.example.pod) == (1, "web-1")


def test_a_network_in_use_is_not_retired(world, registry) -> None:
    lease = world.bind(NET)

    assert registry.retire(NET.key, NET.uid) == Holders(count=1, example=lease)
    assert world.rows("SELECT count(*) FROM retired_network") == [(0,)]
    world.bind(NET, "web-1")


def test_a_retired_network_gives_no_address_ever_again(world, registry) -> None:
    world.bind(NET)
    world.leases.release("container-web-0")
    for _ in range(2):
        assert registry.retire(NET.key, NET.uid).count == 0

    with pytest.raises(IntentError, match="is being deleted") as caught:
        world.bind(NET)
    assert caught.value.subject == str(NET.key)
    assert caught.value.hint
    assert world.rows("SELECT uid, network FROM retired_network") == [(NET.uid, str(NET.key))]
    assert world.leases.held_by("container-web-0") == ()
    assert world.audit.violations() == ()


def test_one_retired_network_refuses_the_whole_pod_and_is_the_one_named(world, registry) -> None:
    registry.retire(NET.key, NET.uid)
    asks = [
        LeaseRequest(interface="net1", network=OTHER, ip=DYNAMIC),
        LeaseRequest(interface="net2", network=NET, ip=AddressAsk(), ip6=DYNAMIC),
    ]

    with pytest.raises(IntentError) as caught:
        world.leases.bind(owner(), asks)
    assert caught.value.subject == str(NET.key)
    assert world.leases.held_by("container-web-0") == ()
    world.bind(OTHER)


def test_who_takes_no_address_is_told_too_that_a_network_is_retired(world, registry) -> None:
    world.leases.require_open([NET, OTHER])
    world.leases.require_open([])
    registry.retire(NET.key, NET.uid)
    with pytest.raises(IntentError, match="is being deleted") as caught:
        world.leases.require_open([OTHER, NET])
    assert caught.value.subject == str(NET.key)
    world.leases.require_open([OTHER, replace(NET, uid="another")])


def test_a_network_of_the_same_name_that_is_made_anew_gives_addresses(world, registry) -> None:
    registry.retire(NET.key, NET.uid)
    again = network(NET.key, v4="10.0.0.0/24", uid="another")

    assert world.bind(again).network == str(NET.key)


def test_a_network_without_uid_is_not_retired(registry) -> None:
    with pytest.raises(BugError):
        registry.retire(NET.key, "")


def test_an_open_lease_of_a_retired_network_is_a_violation(world, registry) -> None:
    world.bind(NET)
    world.sql(
        "INSERT INTO retired_network (uid, network, retired_at) VALUES (:uid, 'x', 1)", uid=NET.uid
    )

    (found,) = world.audit.violations()
    assert found.kind == "LeaseOfDeletedNetwork"
    assert found.subject == "Pod/blue/web-0"
    assert str(NET.key) in found.message
    world.leases.release("container-web-0")
    assert world.audit.violations() == ()


BINDERS = 10
RETIRERS = 2
ROUNDS = 20

# Everybody starts each round at once. The binders bind several networks of the round in one
# transaction, in any order; the retirers end them one by one.
LAUNCHER = """
import json, multiprocessing, random, sys, time
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine
from danmpy.errors import DanmpyError
from danmpy.ipam.leases import LeaseRequest, LeaseStore
from danmpy.ipam.registry import NetworkRegistry
from support.leasing import owner
from support.specs import DYNAMIC, network, tenant_key

url, binders, retirers, rounds = sys.argv[1], *map(int, sys.argv[2:])
fork = multiprocessing.get_context("fork")

def networks(turn):
    return [
        network(tenant_key(f"n{turn}-{part}"), v4="10.0.0.0/24", vni=1000 + 3 * turn + part)
        for part in range(3)
    ]

def bind(number, start, answers):
    store = LeaseStore(open_engine(url), wall_clock, 120)
    chance = random.Random(number)
    for turn in range(rounds):
        wanted = networks(turn)
        chance.shuffle(wanted)
        asked = [
            LeaseRequest(interface=f"i{place}", network=net, ip=DYNAMIC)
            for place, net in enumerate(wanted)
        ]
        start.wait(60)
        time.sleep(chance.random() / 20)  # sometimes the first bind, sometimes the end comes first
        try:
            store.bind(owner(f"p{number}-{turn}"), asked)
            answers.put(["bound", turn, ""])
        except DanmpyError as error:
            answers.put([type(error).__name__, turn, str(error)])

def retire(number, start, answers):
    registry = NetworkRegistry(open_engine(url), wall_clock)
    chance = random.Random(-number)
    for turn in range(rounds):
        start.wait(60)
        time.sleep(chance.random() / 100)
        for net in networks(turn)[:: 1 if number else -1]:
            try:
                left = registry.retire(net.key, net.uid).count
                answers.put(["retired" if not left else "in use", turn, net.uid])
            except DanmpyError as error:
                answers.put([type(error).__name__, turn, str(error)])

start, answers = fork.Barrier(binders + retirers), fork.Queue()
children = [
    fork.Process(target=target, args=(number, start, answers), daemon=True)
    for target, count in ((bind, binders), (retire, retirers))
    for number in range(count)
]
for child in children:
    child.start()
total = rounds * (binders + 3 * retirers)
print(json.dumps([answers.get(timeout=100) for _ in range(total)]), flush=True)
for child in children:
    child.join()
"""


@pytest.fixture
def race(database_url: str):
    words = [database_url, *map(str, (BINDERS, RETIRERS, ROUNDS))]
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, *words],
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


def test_no_lease_ever_begins_on_a_network_that_was_retired(world, race) -> None:
    """Every lease of a retired UID would show up, open or closed: nobody held one before."""
    line = race.stdout.readline()
    assert line, race.stderr.read()
    answers = json.loads(line)

    kinds = [kind for kind, _, _ in answers]
    assert set(kinds) <= {"bound", "IntentError", "retired", "in use"}, answers
    retired = {uid for kind, _, uid in answers if kind == "retired"}
    stored = {uid for (uid,) in world.rows("SELECT uid FROM retired_network")}
    assert stored == retired
    leased = {uid for (uid,) in world.rows("SELECT DISTINCT network_uid FROM lease")}
    assert not leased & retired
    for kind, turn, words in answers:
        if kind == "IntentError":
            assert "is being deleted" in words
            assert any(uid.startswith(f"uid-n{turn}-") for uid in retired)
    # Both ways must have been gone, or nothing was proved.
    assert kinds.count("bound")
    assert kinds.count("retired")
    assert world.audit.violations() == ()


def test_a_retirement_is_forgotten_a_day_later_when_nothing_asks_for_it(world, registry) -> None:
    keys = [tenant_key(f"n{number}") for number in range(5)]
    world.bind(network(keys[0], v4="10.0.0.0/24", uid="u-0"))
    for number, key in enumerate(keys):
        world.sql(
            "INSERT INTO retired_network (uid, network, retired_at) VALUES (:uid, :network, :at)",
            uid=f"u-{number}",
            network=str(key),
            at=world.now(),
        )
    speak = [str(keys[1]), f"{keys[2]}#vxlan:ens4:700"]
    assert registry.purge(speak) == 0

    world.wait(RETIRED_FOR / MICROSECONDS + 1)
    registry.retire(tenant_key("late"), "u-late")
    assert registry.purge(speak) == 2
    stored = {uid for (uid,) in world.rows("SELECT uid FROM retired_network")}
    assert stored == {"u-0", "u-1", "u-2", "u-late"}
    assert registry.purge(()) == 2

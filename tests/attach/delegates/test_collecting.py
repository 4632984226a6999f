"""GC of delegates: by a real plugin that writes down what it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from danmpy.attach.builder import PodBuilder
from danmpy.attach.delegates.calling import Delegates
from danmpy.attach.delegates.collecting import GRACE_S, DelegateGc
from danmpy.attach.delegates.confs import DelegateConf
from danmpy.attach.journal import AttachmentRecord, Journal, LinkRecord, Phase
from danmpy.attach.locks import ContainerLocks
from danmpy.attach.ports import AttachPorts
from danmpy.clock import wall_clock
from danmpy.errors import DelegateError, NotReadyError
from support.attaching import View
from support.recording import Bench

EVERY_S = 3600.0


class World:
    """A journal, a recording plugin called first, and what asks it to clean up."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder)
        self.bench.plugin("first")
        self.journal = Journal(folder / "journal")
        self.journal.open()
        self.locks = ContainerLocks(wait_s=0.1)
        delegates = Delegates(folder, (folder,))
        leases: Any = None
        ports = AttachPorts(
            view=View(),
            leases=leases,
            delegates=delegates,
            builder=PodBuilder(delegates),
            journal=self.journal,
            clock=wall_clock,
        )
        self.gc = DelegateGc(ports, self.locks)

    def put(
        self,
        container: str,
        *,
        net: str = "net",
        link: str = "eth1",
        pending: bool = False,
        adopted: str = "",
    ) -> AttachmentRecord:
        conf = DelegateConf(
            name=net, version="1.1.0", plugins=({"type": "first"},), source=adopted or net
        )
        links = (LinkRecord(name=link, network="ClusterNetwork/x", delegate=conf.to_json()),)
        record = AttachmentRecord(
            container_id=container,
            ifname="eth0",
            phase=Phase.ATTACHED,
            netns="/n",
            links=() if pending else links,
            pending=links if pending else (),
            adopted_files=(adopted,) if adopted else (),
        )
        self.journal.write(record)
        return record

    def told(self) -> dict[str, list[str]]:
        """The containers that each GC call named, by network."""
        calls = [each for each in self.bench.all_calls if each["verb"] == "GC"]
        return {
            each["stdin"]["name"]: [
                item["containerID"] for item in each["stdin"]["cni.dev/valid-attachments"]
            ]
            for each in calls
        }


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.journal.close()


def test_a_runtime_asks_for_all_configurations_at_once(world: World) -> None:
    world.put("c1")
    world.put("c2", net="other")
    assert world.gc.collect_now() == []
    assert world.told() == {"net": ["c1"], "other": ["c2"]}


def test_a_configuration_is_asked_once_however_many_of_its_attachments_were_adopted(
    world: World,
) -> None:
    for container in ("c1", "c2", "c3"):
        world.put(container, adopted=f"/cache/results/net-{container}-eth1")
    assert world.gc.collect_now() == []
    assert world.told() == {"net": ["c1", "c2", "c3"]}
    assert len(world.bench.all_calls) == 1


def test_without_delegates_nobody_is_waited_for(world: World) -> None:
    with world.locks.container("c9"):
        assert world.gc.collect_now() == []


def test_by_itself_it_waits_its_time_and_looks_twice(world: World) -> None:
    world.put("c1")
    gone = world.put("c2")
    asked = [world.gc.run(float(now), EVERY_S) for now in range(0, int(EVERY_S), 10)]
    assert sum(asked) == 0
    # Seen in the first of the two looks, and gone in the second: still counts as there.
    world.journal.remove(gone)
    assert world.gc.run(EVERY_S, EVERY_S) == 1
    assert world.told() == {"net": ["c1", "c2"]}
    for now in (EVERY_S + 10, 2 * EVERY_S - GRACE_S, 2 * EVERY_S):
        world.gc.run(now, EVERY_S)
    assert world.told() == {"net": ["c1"]}


def test_what_comes_or_leaves_just_now_is_there(world: World) -> None:
    world.put("c1", pending=True)
    for now in (0.0, EVERY_S - GRACE_S, EVERY_S):
        world.gc.run(now, EVERY_S)
    assert world.told() == {"net": ["c1"]}


def test_with_a_damaged_record_nobody_is_asked(world: World, tmp_path: Path) -> None:
    world.put("c1")
    (tmp_path / "journal" / "c7@eth0.json").write_text("{")
    world.journal.close()
    world.journal.open()
    for now in (0.0, EVERY_S - GRACE_S, EVERY_S, 3 * EVERY_S):
        assert world.gc.run(now, EVERY_S) == 0
    assert world.gc.collect_now() == []
    assert world.bench.all_calls == []


def test_while_pods_of_another_tool_are_not_known_nobody_is_asked(world: World) -> None:
    world.put("c1")
    world.journal.note_strangers()
    for now in (0.0, EVERY_S - GRACE_S, EVERY_S, 3 * EVERY_S):
        assert world.gc.run(now, EVERY_S) == 0
    assert world.gc.collect_now() == []
    assert world.bench.all_calls == []


def test_while_an_add_is_under_way_nobody_is_asked(world: World) -> None:
    world.put("c1")
    for now in (0.0, EVERY_S - GRACE_S):
        world.gc.run(now, EVERY_S)
    with world.locks.container("c3"), pytest.raises(NotReadyError):
        world.gc.run(EVERY_S, EVERY_S)
    assert world.bench.all_calls == []


def test_a_delegate_that_fails_does_not_stop_the_others(world: World) -> None:
    world.put("c1")
    world.put("c2", net="other")
    world.bench.fails("first", "GC", msg="no")
    for now in (0.0, EVERY_S - GRACE_S):
        world.gc.run(now, EVERY_S)
    with pytest.raises(DelegateError):
        world.gc.run(EVERY_S, EVERY_S)
    assert sorted(world.told()) == ["net", "other"]
    assert json.loads((world.bench.folder / "first.GC").read_text())["status"] == 1

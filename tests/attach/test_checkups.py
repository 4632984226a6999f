"""Checks that nobody asks for: all in their time, one after the other, told when they change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from danmpy.api.cni import Verb
from danmpy.attach.checkups import Checkups
from danmpy.attach.journal import AttachmentRecord, Journal, Phase
from danmpy.attach.plugging.news import NewsKind, PodNews
from danmpy.errors import StoreError
from support.attaching import AttachNode, request
from support.netns import Namespace

EVERY_S = 300.0


@dataclass
class World:
    """A journal whose attachments are as `found` says."""

    journal: Journal
    found: dict[str, tuple[str, ...] | StoreError | None] = field(default_factory=dict)
    looked: list[str] = field(default_factory=list)
    news: list[PodNews] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.checkups = Checkups(
            journal=self.journal, examiner=self, tell=self.news.append, every_s=EVERY_S
        )

    def examine(self, record: AttachmentRecord) -> tuple[str, ...] | None:
        self.looked.append(record.container_id)
        found = self.found.get(record.container_id, ())
        if isinstance(found, StoreError):
            raise found
        return found

    def put(self, *containers: str, phase: Phase = Phase.ATTACHED, began_at: int = 0) -> None:
        for container in containers:
            self.journal.write(
                AttachmentRecord(
                    container_id=container,
                    ifname="eth0",
                    phase=phase,
                    netns="/n",
                    namespace="blue",
                    pod=container,
                    began_at=began_at,
                )
            )

    def run(self, first: int, last: int) -> None:
        """A call each second."""
        for now in range(first, last):
            self.checkups.run(float(now), 1.0)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal")
    journal.open()
    yield World(journal)
    journal.close()


def test_every_attachment_is_looked_at_once_in_its_time(world: World) -> None:
    names = [f"c{number}" for number in range(40)]
    world.put(*names)
    world.run(0, int(EVERY_S))
    assert sorted(world.looked) == sorted(names)
    world.run(int(EVERY_S), 2 * int(EVERY_S))
    assert sorted(world.looked) == sorted([*names, *names])


def test_many_attachments_are_spread_and_never_a_burst(world: World) -> None:
    world.put(*(f"c{number}" for number in range(900)))
    world.checkups.run(0.0, 1.0)
    assert len(world.looked) == 3
    world.run(1, int(EVERY_S))
    assert len(set(world.looked)) == 900


def test_a_pod_that_has_just_come_is_looked_at_after_its_time(world: World) -> None:
    world.checkups.run(0.0, 1.0)
    world.put("c1")
    world.run(1, int(EVERY_S))
    assert world.looked == []
    world.run(int(EVERY_S), int(EVERY_S) + 2)
    assert world.looked == ["c1"]


def test_what_breaks_and_what_mends_is_told_once(world: World) -> None:
    world.put("c1")
    for turn, found in enumerate((("a is gone",), ("a is gone",), ("b is gone",), (), ())):
        world.found["c1"] = found
        world.checkups.run(turn * EVERY_S, 1.0)
    assert [(each.kind, each.pod) for each in world.news] == [
        (NewsKind.BROKEN, "c1"),
        (NewsKind.BROKEN, "c1"),
        (NewsKind.MENDED, "c1"),
    ]
    assert [each.message for each in world.news][:2] == ["a is gone", "b is gone"]


def test_the_number_of_the_broken_is_shown_until_they_are_whole_or_gone(world: World) -> None:
    registry = CollectorRegistry()
    world.checkups.show(registry)

    def shown() -> float | None:
        return registry.get_sample_value("danmpy_attachments_broken")

    world.put("c1", "c2")
    world.found = {"c1": ("a is gone",), "c2": ("b is gone",)}
    world.run(0, 2)
    assert shown() == 2
    world.found["c1"] = ()
    world.run(int(EVERY_S), int(EVERY_S) + 2)
    assert shown() == 1
    world.put("c2", phase=Phase.DETACHING)
    world.run(1000, 1001)
    assert shown() == 0


def test_what_cannot_be_asked_or_is_busy_is_not_broken(world: World) -> None:
    world.put("c1", "c2")
    world.found = {"c1": StoreError("away", hint="wait"), "c2": None}
    world.run(0, 3)
    assert sorted(world.looked) == ["c1", "c2"]
    assert (world.news, world.checkups.broken) == ([], 0)


def test_a_link_that_somebody_takes_away_is_found(three: AttachNode, pod: Namespace) -> None:
    three.attacher.add(request(Verb.ADD, "web", pod))
    news: list[PodNews] = []
    checkups = Checkups(
        journal=three.journal, examiner=three.attacher, tell=news.append, every_s=EVERY_S
    )
    assert checkups.run(0.0, 1.0) == 1
    assert (news, checkups.broken) == ([], 0)
    pod.ip("link", "delete", "eth1")
    checkups.run(EVERY_S, 1.0)
    assert checkups.broken == 1
    assert "interface eth1 is gone" in news[0].message
    three.leases.away = True
    checkups.run(2 * EVERY_S, 1.0)
    assert checkups.broken == 1

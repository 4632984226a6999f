"""Annotations of running pods: who is looked at, who is asked to change, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import process_time

import pytest

from danmpy.api.dialects.keys import CLAIM, INTERFACES
from danmpy.api.specs import PodSpec
from danmpy.attach.journal import AttachmentRecord, Journal, Phase
from danmpy.attach.plugging.doing import Wished
from danmpy.attach.plugging.following import FIRST_S, MOST_S, Follower
from danmpy.attach.plugging.news import NewsKind, PodNews
from danmpy.attach.plugging.plan import Change
from danmpy.attach.plugging.wishes import wishes_of, wishes_when_attached
from danmpy.errors import DanmpyError, NotReadyError
from danmpy.intent.values import Intent

COMES = Change(coming=("net1",))
AWAY = NotReadyError("no device", hint="wait")


def pod(name: str = "web", said: str = "a", uid: str = "u-web") -> PodSpec:
    annotations = {INTERFACES: said} if said else {}
    return PodSpec(namespace="blue", name=name, uid=uid, annotations=annotations)


@dataclass
class World:
    """A journal and wishes; the engine is played, and does what `answer` says."""

    journal: Journal
    pods: dict[tuple[str, str], PodSpec] = field(default_factory=dict)
    asked: list[Wished] = field(default_factory=list)
    news: list[PodNews] = field(default_factory=list)
    answer: Change | DanmpyError | None = COMES

    def __post_init__(self) -> None:
        self.follower = Follower(
            journal=self.journal, source=self, changer=self, tell=self.news.append
        )

    def read(self) -> Intent:
        return Intent(pods=self.pods)

    def change(self, wished: Wished) -> Change | None:
        self.asked.append(wished)
        if isinstance(self.answer, DanmpyError):
            raise self.answer
        if self.answer is not None:
            record = replace(wished.record, wishes=wishes_of(wished.pod))
            self.journal.write(record)
        return self.answer

    def attach(self, spec: PodSpec, container: str = "c1", **more: object) -> AttachmentRecord:
        """The pod is attached by what it says now."""
        self.pods[spec.namespace, spec.name] = spec
        values: dict[str, object] = {
            "phase": Phase.ATTACHED,
            "pod_uid": spec.uid,
            "wishes": wishes_when_attached(spec),
            **more,
        }
        record = AttachmentRecord(
            container_id=container,
            ifname="eth0",
            netns="/n",
            namespace=spec.namespace,
            pod=spec.name,
            **values,  # type: ignore[arg-type]
        )
        self.journal.write(record)
        return record

    def say(self, spec: PodSpec) -> None:
        self.pods[spec.namespace, spec.name] = spec


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal")
    journal.open()
    yield World(journal)
    journal.close()


def test_a_pod_that_asks_otherwise_is_changed_once_and_told(world: World) -> None:
    world.attach(pod())
    assert world.follower.look(0.0) == 0
    world.say(pod(said="b"))
    assert world.follower.look(1.0) == 1
    assert [each.kind for each in world.news] == [NewsKind.CHANGED]
    assert "net1" in world.news[0].message
    assert world.follower.look(2.0) == 0
    assert len(world.asked) == 1


def test_a_change_that_was_made_while_the_daemon_was_down_is_seen(world: World) -> None:
    world.attach(pod())
    world.say(pod(said="b"))
    assert world.follower.look(0.0) == 1


def test_a_pod_that_had_no_annotation_and_gets_one_is_changed(world: World) -> None:
    world.attach(pod(said=""))
    assert world.follower.look(0.0) == 0
    world.say(pod(said="b"))
    assert world.follower.look(1.0) == 1


def test_an_annotation_that_is_taken_away_asks_for_nothing_to_go(world: World) -> None:
    world.attach(pod())
    world.say(pod(said=""))
    assert world.follower.look(0.0) == 0
    world.say(pod())
    assert world.follower.look(1.0) == 0
    assert world.asked == []
    world.say(pod(said="b"))
    assert world.follower.look(2.0) == 1


def test_other_annotations_change_nothing(world: World) -> None:
    world.attach(pod())
    world.say(replace(pod(), annotations={**pod().annotations, CLAIM: "mine"}))
    world.follower.look(0.0)
    assert world.asked == []


@pytest.mark.parametrize("phase", [each for each in Phase if each is not Phase.ATTACHED])
def test_only_what_stands_is_changed(world: World, phase: Phase) -> None:
    world.attach(pod(), phase=phase)
    world.say(pod(said="b"))
    world.follower.look(0.0)
    assert world.asked == []


def test_a_pod_of_the_same_name_and_another_uid_is_somebody_else(world: World) -> None:
    world.attach(pod())
    world.say(pod(said="b", uid="u-2"))
    world.follower.look(0.0)
    world.pods.clear()
    world.follower.look(1.0)
    assert world.asked == []


def test_of_two_sandboxes_of_a_pod_only_the_newest_is_changed(world: World) -> None:
    world.attach(pod(), "c2", began_at=2)
    world.attach(pod(), "c1", began_at=1)
    world.say(pod(said="b"))
    world.follower.look(0.0)
    assert [each.record.container_id for each in world.asked] == ["c2"]


def test_what_cannot_be_done_is_told_once_and_tried_ever_more_seldom(world: World) -> None:
    world.attach(pod())
    world.say(pod(said="b"))
    world.answer = AWAY
    tries = []
    for now in range(400):
        before = len(world.asked)
        world.follower.look(float(now))
        tries += [now] * (len(world.asked) - before)
    assert tries[:4] == [0, FIRST_S, 3 * FIRST_S, 7 * FIRST_S]
    assert tries[-1] - tries[-2] == MOST_S
    assert [each.kind for each in world.news] == [NewsKind.REFUSED]
    assert "no device" in world.news[0].message
    world.answer = NotReadyError("another reason", hint="wait")
    world.follower.look(1000.0)
    assert len(world.news) == 2


def test_another_annotation_is_tried_at_once_and_the_old_one_ends_the_matter(world: World) -> None:
    world.attach(pod())
    world.answer = AWAY
    for turn, said in enumerate(("b", "b", "c", "a", "a", "c")):
        world.say(pod(said=said))
        world.follower.look(0.01 * turn)
    assert [each.pod.annotations[INTERFACES] for each in world.asked] == ["b", "c", "c"]


def test_a_container_that_is_busy_is_asked_again_the_next_time(world: World) -> None:
    world.attach(pod())
    world.say(pod(said="b"))
    world.answer = None
    world.follower.look(0.0)
    world.answer = Change(leaving=("net1",))
    assert world.follower.look(1.0) == 1


def test_an_attachment_of_which_nobody_knows_the_wishes_is_only_compared(world: World) -> None:
    world.attach(pod(), wishes="")
    assert world.follower.look(0.0) == 0
    (asked,) = world.asked
    assert asked.only_compare
    assert [each.kind for each in world.news] == [NewsKind.REFUSED]
    assert "left so until its annotation changes" in world.news[0].message
    assert world.follower.look(1.0) == 0
    world.say(pod(said="b"))
    assert world.follower.look(2.0) == 1
    assert not world.asked[-1].only_compare


def test_a_comparison_that_fails_is_told_and_touches_nothing(world: World) -> None:
    world.attach(pod(), wishes="")
    world.answer = AWAY
    world.follower.look(0.0)
    world.follower.look(100.0)
    assert len(world.asked) == len(world.news) == 1


def test_what_has_gone_is_forgotten(world: World) -> None:
    record = world.attach(pod())
    world.say(pod(said="b"))
    world.answer = AWAY
    world.follower.look(0.0)
    world.journal.remove(record)
    world.follower.look(1.0)
    assert world.follower._failures == {}
    assert world.follower._settled == {}


def test_a_look_at_many_pods_that_did_not_change_costs_next_to_nothing(world: World) -> None:
    """500 pods cost less than 5 ms; as a ratio, since machines differ: less than reading all wishes
    anew, which one look does."""
    for number in range(500):
        world.attach(pod(f"web-{number}"), f"c{number}")

    def spent(times: int) -> float:
        began = process_time()
        for _ in range(times):
            world.follower.look(0.0)
        return (process_time() - began) / times

    first = spent(1)
    assert spent(20) < first
    assert world.asked == []

"""Jobs in their rhythm, and sandboxes that are gone together with their pod."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from danmpy.api.specs import AddressMode, PodSpec
from danmpy.attach.journal import AttachmentRecord, Journal, Phase
from danmpy.attach.upkeep import GRACE_S, Job, LeaseSweeper, Sweeper, Upkeep
from danmpy.errors import ClusterError, DanmpyError, StoreError
from danmpy.intent.values import Intent
from danmpy.ipam.values import Lease
from danmpy.kernel.netns import netns_id_of

HERE = "/proc/self/ns/net"
"""A namespace that is there, for sandboxes that live."""

GONE = "/run/netns/dt-gone-for-good"


def job(name: str, every_s: float, run: Callable[[], object]) -> Job:
    return Job(name=name, every_s=every_s, run=run)


def test_every_job_runs_at_once_and_then_in_its_own_rhythm() -> None:
    ran: list[str] = []
    upkeep = Upkeep(
        [job("often", 2.0, lambda: ran.append("o")), job("rarely", 5.0, lambda: ran.append("r"))]
    )
    waits = [upkeep.run_due(now) for now in (100.0, 101.0, 102.0, 104.0, 105.0)]
    assert "".join(ran) == "oroor"
    assert waits == [2.0, 1.0, 2.0, 1.0, 1.0]


def test_a_job_that_fails_is_tried_again_and_does_not_stop_the_others() -> None:
    ran: list[str] = []

    def fails() -> None:
        ran.append("fails")
        raise StoreError("the database is away", hint="start it")

    def breaks() -> None:
        ran.append("breaks")
        raise ZeroDivisionError

    upkeep = Upkeep(
        [job("a", 1.0, fails), job("b", 1.0, breaks), job("c", 1.0, lambda: ran.append("works"))]
    )
    for now in (0.0, 1.0):
        upkeep.run_due(now)
    assert ran == ["fails", "breaks", "works"] * 2


def test_closing_waits_for_the_running_job_and_starts_no_other() -> None:
    running, may_end = threading.Event(), threading.Event()
    ran: list[str] = []

    def long() -> None:
        running.set()
        may_end.wait(10)
        ran.append("long")

    upkeep = Upkeep([job("long", 60.0, long), job("next", 60.0, lambda: ran.append("next"))])
    upkeep.start()
    assert running.wait(10)
    closer = threading.Thread(target=upkeep.close)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    may_end.set()
    closer.join(10)
    assert ran == ["long"]


def test_upkeep_that_was_never_started_can_be_closed() -> None:
    Upkeep([]).close()


@dataclass(slots=True)
class Wishes:
    """Intent that a test changes; counts how often it is read."""

    intent: Intent = field(default_factory=Intent)
    reads: int = 0
    error: DanmpyError | None = None

    def read_for(self, namespace: str, name: str, uid: str) -> Intent:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self.intent


@dataclass(slots=True)
class Taken:
    """What the sweeper let go of."""

    journal: Journal
    records: list[AttachmentRecord] = field(default_factory=list)

    def expire(self, record: AttachmentRecord) -> None:
        self.records.append(record)
        self.journal.remove(record)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "attachments")
    made.open()
    yield made
    made.close()


def record(container: str = "c1", *, netns: str = GONE, **more: object) -> AttachmentRecord:
    base = AttachmentRecord(
        container_id=container,
        ifname="eth0",
        phase=Phase.ATTACHED,
        netns=netns,
        netns_device=4,
        netns_inode=77,
        namespace="blue",
        pod="web-0",
        pod_uid="uid-1",
    )
    return replace(base, **more)


def sweeper_of(journal: Journal, intent: Intent | None = None) -> tuple[Sweeper, Wishes, Taken]:
    wishes, taken = Wishes(intent or Intent()), Taken(journal)
    return Sweeper(journal=journal, source=wishes, detacher=taken), wishes, taken


def wanted(uid: str = "uid-1") -> Intent:
    return Intent(pods={("blue", "web-0"): PodSpec(namespace="blue", name="web-0", uid=uid)})


def test_a_sandbox_goes_only_when_two_looks_apart_agree(journal: Journal) -> None:
    journal.write(record())
    sweeper, _, taken = sweeper_of(journal)
    assert sweeper.sweep(0.0) == 0
    assert sweeper.sweep(GRACE_S - 1) == 0
    assert sweeper.sweep(GRACE_S) == 1
    assert [each.container_id for each in taken.records] == ["c1"]
    assert sweeper.sweep(2 * GRACE_S) == 0


def test_the_grace_begins_again_when_the_namespace_was_seen_in_between(journal: Journal) -> None:
    here = netns_id_of(HERE)
    alive = record(netns=HERE, netns_device=here.device, netns_inode=here.inode)
    journal.write(record())
    sweeper, _, taken = sweeper_of(journal)
    sweeper.sweep(0.0)
    journal.write(alive)
    sweeper.sweep(GRACE_S / 2)
    journal.write(record())
    assert sweeper.sweep(GRACE_S) == 0
    assert sweeper.sweep(2 * GRACE_S) == 1
    assert len(taken.records) == 1


def test_a_sandbox_whose_pod_is_still_wanted_keeps_its_addresses(journal: Journal) -> None:
    journal.write(record())
    sweeper, wishes, taken = sweeper_of(journal, wanted())
    for now in (0.0, GRACE_S, 10 * GRACE_S):
        assert sweeper.sweep(now) == 0
    wishes.intent = Intent()
    assert sweeper.sweep(11 * GRACE_S) == 1
    assert len(taken.records) == 1


@pytest.mark.parametrize(("uid", "goes"), [("uid-1", 0), ("", 0), ("uid-2", 1)])
def test_a_new_pod_of_the_same_name_does_not_keep_the_old_ones_sandbox(
    journal: Journal, uid: str, goes: int
) -> None:
    journal.write(record())
    sweeper, _, _ = sweeper_of(journal, wanted(uid))
    sweeper.sweep(0.0)
    assert sweeper.sweep(GRACE_S) == goes


def test_nothing_is_taken_while_the_manifests_cannot_all_be_read(journal: Journal) -> None:
    journal.write(record())
    sweeper, wishes, _ = sweeper_of(journal, Intent(complete=False))
    sweeper.sweep(0.0)
    assert sweeper.sweep(GRACE_S) == 0
    wishes.intent = Intent()
    assert sweeper.sweep(GRACE_S + 1) == 1


def test_nothing_is_taken_while_the_pod_cannot_be_looked_up(journal: Journal) -> None:
    journal.write(record())
    sweeper, wishes, taken = sweeper_of(journal)
    wishes.error = ClusterError("no answer", hint="wait", subject="Pod/blue/web-0")
    sweeper.sweep(0.0)
    assert sweeper.sweep(GRACE_S) == 0
    assert taken.records == []
    wishes.error = None
    assert sweeper.sweep(GRACE_S + 1) == 1


def test_a_static_pod_is_known_by_the_hash_that_the_runtime_gave(journal: Journal) -> None:
    journal.write(record(pod_uid="the-hash"))
    static = PodSpec(namespace="blue", name="web-0", uid="the-mirrors", config_hash="the-hash")
    sweeper, wishes, _ = sweeper_of(journal, Intent(pods={("blue", "web-0"): static}))
    sweeper.sweep(0.0)
    assert sweeper.sweep(GRACE_S) == 0
    changed = replace(static, config_hash="another")
    wishes.intent = Intent(pods={("blue", "web-0"): changed})
    assert sweeper.sweep(GRACE_S + 1) == 1


def test_a_namespace_made_anew_at_the_same_path_is_another_one(journal: Journal) -> None:
    here = netns_id_of(HERE)
    journal.write(record("old", netns=HERE))
    journal.write(
        record("new", netns=HERE, netns_device=here.device, netns_inode=here.inode, pod="web-1")
    )
    sweeper, _, taken = sweeper_of(journal)
    sweeper.sweep(0.0)
    sweeper.sweep(GRACE_S)
    assert [each.container_id for each in taken.records] == ["old"]


@pytest.mark.parametrize("phase", [Phase.ADDING, Phase.DETACHING, Phase.DETACHED])
def test_what_is_half_done_is_left_to_the_repair(journal: Journal, phase: Phase) -> None:
    journal.write(record(phase=phase))
    sweeper, _, _ = sweeper_of(journal)
    sweeper.sweep(0.0)
    assert sweeper.sweep(GRACE_S) == 0


def test_the_manifests_are_read_only_when_something_is_ripe(journal: Journal) -> None:
    journal.write(record())
    sweeper, wishes, _ = sweeper_of(journal)
    sweeper.sweep(0.0)
    assert wishes.reads == 0
    sweeper.sweep(GRACE_S)
    assert wishes.reads == 1


# Leases that the journal knows nothing of


@dataclass(slots=True)
class Held:
    """The leases of this node in the database."""

    leases: list[Lease]
    ended: list[Lease] = field(default_factory=list)

    def held_on(self, nodes: Iterable[str]) -> tuple[Lease, ...]:
        assert list(nodes) == ["node-a"]
        return tuple(self.leases)

    def end(self, item: Lease, why: str) -> bool:
        assert why
        self.leases.remove(item)
        self.ended.append(item)
        return True


def lease(container: str = "c1", **more: object) -> Lease:
    base = Lease(
        id=1,
        network="TenantNetwork/blue/a",
        domain="d",
        family=4,
        address=IPv4Interface("10.0.0.1/24"),
        interface="net1",
        namespace="blue",
        pod="web-0",
        pod_uid="u1",
        container_id=container,
        node="node-a",
        mac=None,
        mode=AddressMode.DYNAMIC,
        from_=1,
    )
    return replace(base, **more)  # type: ignore[arg-type]


@dataclass(slots=True)
class Books:
    """Journal, wishes and leases, and who compares them."""

    journal: Journal
    wishes: Wishes
    held: Held
    sweeper: LeaseSweeper


@pytest.fixture
def books(journal: Journal) -> Books:
    wishes, held = Wishes(), Held([lease()])
    sweeper = LeaseSweeper(journal=journal, source=wishes, leases=held, node="node-a")
    return Books(journal=journal, wishes=wishes, held=held, sweeper=sweeper)


def test_a_lease_without_record_and_pod_is_ended_at_the_second_look(books: Books) -> None:
    """Its record was damaged after the pod had gone, so that nobody would release it."""
    assert books.sweeper.sweep(100.0) == 0
    assert books.sweeper.sweep(100.0 + GRACE_S - 1) == 0
    assert books.wishes.reads == 0
    assert books.sweeper.sweep(100.0 + GRACE_S) == 1
    assert [item.container_id for item in books.held.ended] == ["c1"]


def test_a_lease_whose_record_is_there_is_its_record_s_affair(books: Books) -> None:
    books.journal.write(record("c1"))
    for now in (100.0, 100.0 + GRACE_S, 100.0 + 2 * GRACE_S):
        assert books.sweeper.sweep(now) == 0


@pytest.mark.parametrize("uid", ["u1", ""])
def test_a_lease_of_a_pod_that_is_there_stays_whoever_attached_it(books: Books, uid: str) -> None:
    """Another daemon of this name, or another tool whose leases were taken over."""
    books.held.leases = [lease(pod_uid=uid)]
    books.wishes.intent = Intent(
        pods={("blue", "web-0"): PodSpec(namespace="blue", name="web-0", uid="u1")}
    )
    for now in (100.0, 100.0 + GRACE_S):
        assert books.sweeper.sweep(now) == 0


def test_a_lease_of_an_earlier_pod_of_the_name_is_ended(books: Books) -> None:
    books.wishes.intent = Intent(
        pods={("blue", "web-0"): PodSpec(namespace="blue", name="web-0", uid="u2")}
    )
    books.sweeper.sweep(100.0)
    assert books.sweeper.sweep(100.0 + GRACE_S) == 1


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(error=ClusterError("the API server is away", hint="wait")),
        Wishes(intent=Intent(complete=False)),
    ],
)
def test_while_the_pod_cannot_be_looked_up_its_lease_stays(books: Books, wishes: Wishes) -> None:
    books.sweeper.source = wishes
    for now in (100.0, 100.0 + GRACE_S):
        assert books.sweeper.sweep(now) == 0


def test_a_record_that_comes_between_two_looks_begins_the_grace_anew(books: Books) -> None:
    books.sweeper.sweep(100.0)
    books.journal.write(record("c1"))
    books.sweeper.sweep(130.0)
    known = books.journal.read("c1", "eth0")
    assert known is not None
    books.journal.remove(known)
    assert books.sweeper.sweep(100.0 + GRACE_S) == 0

"""Nodes, a database that is put back to an earlier moment, and no address in two hands."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from danmpy.attach.fence import MARK_FILE, Fence, FencedLeases
from danmpy.attach.journal import AttachmentRecord, Journal, Phase
from danmpy.db.engine import open_engine, read
from danmpy.errors import HostError, NotReadyError, StoreError
from danmpy.ipam.audit import Audit
from danmpy.ipam.epoch import EpochStore
from danmpy.ipam.leases import Lease, LeaseRequest, LeaseStore
from danmpy.ipam.sealing import Ledger
from support.leasing import COOLDOWN, MovingClock, owner
from support.ownserver import Past
from support.specs import DYNAMIC, network, tenant_key

NET = network(tenant_key("a"), v4="10.0.0.0/24", vni=700)


class Member:
    """One node: its journal, its connections, its side of the fence."""

    def __init__(self, name: str, url: str, folder: Path, clock: MovingClock) -> None:
        self.name = name
        self.engine: Engine = open_engine(url)
        self.journal = Journal(folder / name / "attachments")
        self.journal.open()
        self.epochs = EpochStore(self.engine, clock, COOLDOWN)
        self.clock = clock
        self.renew()

    def renew(self) -> None:
        """As a daemon that was started anew."""
        self.fence = Fence(self.epochs, self.journal, self.name, self.release)
        self.store = LeaseStore(self.engine, self.clock, COOLDOWN, guard=self.fence.guard)
        self.leases = FencedLeases(self.store, self.fence)

    def release(self, container_id: str) -> object:
        return self.store.release(container_id)

    def add(self, pod: str) -> Lease:
        """What an ADD does to database and journal."""
        asked = [LeaseRequest(interface="net1", network=NET, ip=DYNAMIC)]
        (lease,) = self.leases.bind(owner(pod, node=self.name), asked)
        self.journal.write(
            AttachmentRecord(
                container_id=lease.container_id,
                ifname="eth0",
                phase=Phase.ATTACHED,
                netns="",
                namespace=lease.namespace,
                pod=pod,
                pod_uid=lease.pod_uid,
                leases=(lease,),
            )
        )
        return lease

    def delete(self, pod: str) -> None:
        """What a DEL does."""
        record = self.journal.read(f"container-{pod}", "eth0")
        assert record is not None
        self.leases.release(record.container_id)
        self.journal.remove(record)

    def close(self) -> None:
        self.journal.close()
        self.engine.dispose()


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def past(database_url: str, request: pytest.FixtureRequest) -> Iterator[Past]:
    is_file = database_url.startswith("sqlite")
    made = Past(database_url, None if is_file else request.getfixturevalue("postgresql"))
    yield made
    made.forget()


Members = Callable[..., list[Member]]


@pytest.fixture
def members(database_url: str, tmp_path: Path, clock: MovingClock) -> Iterator[Members]:
    made: list[Member] = []

    def make(*names: str) -> list[Member]:
        made.extend(Member(name, database_url, tmp_path, clock) for name in names)
        return made[-len(names) :]

    yield make
    for member in made:
        member.close()


def wait_out(member: Member) -> None:
    """Let the time pass that an epoch is closed at least."""
    began = member.epochs.look(None).epoch.began_at
    member.clock.now += 11_000_000
    if member.engine.dialect.name == "postgresql":
        with member.engine.begin() as connection:
            connection.connection.driver_connection.read_only = False
            connection.execute(
                text("UPDATE meta SET value = replace(value, :a, :b) WHERE key = 'epoch'"),
                {"a": str(began), "b": str(began - 11_000_000)},
            )


def is_sound(member: Member) -> None:
    """No address twice, and the ledger tells the same story."""
    assert Audit(member.engine, member.clock).violations() == ()
    ledger = Ledger(member.engine, member.clock)
    ledger.seal()
    report = ledger.verify()
    assert report.ok, str(report)
    assert report.unsealed == 0


def held(member: Member) -> dict[str, str]:
    """Pod to address, of all open leases."""
    with read(member.engine) as connection:
        rows = connection.execute(
            text("SELECT pod, address_text FROM lease WHERE held_to IS NULL")
        ).all()
    return {row.pod: row.address_text for row in rows}


def test_in_ordinary_times_the_fence_changes_nothing(members: Members) -> None:
    (node,) = members("node-a")
    for number in range(3):
        node.add(f"p{number}")
        node.fence.look()
    node.renew()
    node.fence.look()
    node.leases.ping()
    node.delete("p0")
    assert not node.epochs.look(None).epoch.number
    assert len(held(node)) == 2
    is_sound(node)


def test_after_a_restore_what_was_forgotten_is_told_before_anything_is_handed_out(
    members: Members, past: Past
) -> None:
    a, b = members("node-a", "node-b")
    before = {a.add("p0").pod: "", b.add("p1").pod: ""}
    for node in (a, b):
        node.fence.look()
    past.remember()
    late = [a.add("p2"), b.add("p3"), b.add("p4")]
    for node in (a, b):
        node.fence.look()
    before |= dict.fromkeys(("p2", "p3", "p4"), "")
    truth = held(a)
    assert set(truth) == set(before)
    past.put_back()
    for node in (a, b):
        with pytest.raises(NotReadyError, match="no address is handed out"):
            node.add("new")
        with pytest.raises(NotReadyError, match="no address is handed out"):
            node.leases.ping()
    assert held(a) == truth
    wait_out(a)
    for node in (a, b):
        node.fence.look()
    new = {node.add(f"new-{node.name}").address.ip for node in (a, b)}
    assert len(new) == 2
    assert not new & {lease.address.ip for lease in late}
    is_sound(a)


def test_a_lost_commit_that_no_look_saw_shows_in_the_journal(members: Members, past: Past) -> None:
    """Answered after the last look: the database is not behind of what was noted."""
    (node,) = members("node-a")
    node.add("p0")
    node.fence.look()
    past.remember()
    lost = node.add("p1")
    past.put_back()
    with pytest.raises(NotReadyError, match="does not know 1 leases of pods on node-a"):
        node.add("p2")
    wait_out(node)
    node.fence.look()
    assert held(node)["p1"] == str(lost.address.ip)
    assert node.add("p2").address != lost.address
    is_sound(node)


def test_a_bind_that_reconnects_to_an_older_database_is_not_answered(
    members: Members, past: Past
) -> None:
    (node,) = members("node-a")
    node.add("p0")
    node.fence.look()
    past.remember()
    lost = node.add("p1")
    node.fence.look()
    node.fence.require_open()
    past.put_back()
    with pytest.raises(NotReadyError):
        node.add("p2")  # its first statement is the one that finds the connection dead
    assert node.journal.read("container-p2", "eth0") is None
    assert held(node).get("p1", str(lost.address.ip)) == str(lost.address.ip)


def test_a_restart_does_not_make_a_node_forget_what_it_saw(members: Members, past: Past) -> None:
    (node,) = members("node-a")
    node.add("p0")
    past.remember()
    node.add("p1")
    node.fence.look()
    node.delete("p1")  # nothing in the journal tells of it
    node.fence.look()
    past.put_back()
    node.renew()
    with pytest.raises(NotReadyError, match="ends at event"):
        node.add("p2")


def test_a_node_that_is_away_keeps_the_pools_closed_until_a_person_decides(
    members: Members, past: Past
) -> None:
    a, b = members("node-a", "node-b")
    for node in (a, b):
        node.add(f"p-{node.name}")
        node.fence.look()
    past.remember()
    a.add("late")
    a.fence.look()
    past.put_back()
    a.fence.look()
    wait_out(a)
    a.fence.look()
    assert a.epochs.missing() == ("node-b",)
    with pytest.raises(NotReadyError):
        a.add("p2")
    a.epochs.settle(by="alice@here: node-b burned down")
    a.fence.look()
    a.add("p2")
    is_sound(a)


def test_a_node_that_comes_back_after_the_epoch_tells_what_it_has(
    members: Members, past: Past
) -> None:
    a, b = members("node-a", "node-b")
    b.add("p0")
    for node in (a, b):
        node.fence.look()
    past.remember()
    a.add("p1")
    lost = b.add("p2")
    for node in (a, b):
        node.fence.look()
    past.put_back()
    a.fence.look()
    a.epochs.settle(by="alice@here: go on")
    a.fence.look()
    b.fence.look()
    assert not b.epochs.look(None).epoch.closed
    assert held(b)["p2"] == str(lost.address.ip)
    is_sound(a)


def test_an_address_that_went_to_another_pod_meanwhile_is_told_and_not_taken(
    members: Members, past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = members("node-a", "node-b")
    a.fence.look()
    b.fence.look()
    past.remember()
    lost = b.add("lost")
    past.put_back()
    new = a.add("new")  # node-a has seen nothing of what the other one got
    assert new.address == lost.address
    b.fence.look()
    assert held(b)["new"] == str(lost.address.ip)
    assert "in other hands" in capsys.readouterr().out
    b.fence.look()
    assert "in other hands" not in capsys.readouterr().out  # once is enough
    is_sound(a)


def test_a_release_that_was_forgotten_is_not_made_again_by_its_own_pod(
    members: Members, past: Past
) -> None:
    """The restored lease of a pod that is gone stays: a leak, and never a second holder."""
    (node,) = members("node-a")
    gone = node.add("gone")
    node.fence.look()
    past.remember()
    node.delete("gone")
    node.fence.look()
    past.put_back()
    node.fence.look()
    wait_out(node)
    node.fence.look()
    assert node.add("new").address != gone.address
    is_sound(node)


def test_a_del_while_its_lease_is_stored_again_leaves_nothing(
    members: Members, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node,) = members("node-a")
    node.fence.look()
    past.remember()
    node.add("p0")
    node.fence.look()
    past.put_back()
    store_again = node.epochs.assert_leases

    def meanwhile(leases: tuple[Lease, ...], epoch: int) -> tuple[Lease, ...]:
        node.delete("p0")
        return store_again(leases, epoch)

    monkeypatch.setattr(node.epochs, "assert_leases", meanwhile)
    node.fence.look()
    assert held(node) == {}
    is_sound(node)


def test_what_was_seen_is_written_when_it_changes_and_survives_damage(
    members: Members, tmp_path: Path
) -> None:
    (node,) = members("node-a")
    node.add("p0")
    node.fence.look()
    file = tmp_path / "node-a" / MARK_FILE
    first = file.stat().st_ino
    node.fence.look()
    assert file.stat().st_ino == first
    node.add("p1")
    node.fence.look()
    assert file.stat().st_ino != first
    file.write_text("{")
    node.renew()
    node.fence.look()
    assert len(held(node)) == 2
    node.add("p2")


def test_a_state_folder_that_cannot_be_written_is_told(members: Members, tmp_path: Path) -> None:
    (node,) = members("node-a")
    shutil.rmtree(tmp_path / "node-a")
    with pytest.raises(HostError, match=r"seen\.json cannot be written") as caught:
        node.fence.look()
    assert "state_dir" in caught.value.hint


def test_with_the_database_away_the_fence_says_so_and_names_it(
    members: Members, database_url: str, past: Past
) -> None:
    (node,) = members("node-a")
    node.fence.look()
    past.remember()
    if database_url.startswith("sqlite"):
        Path(database_url.removeprefix("sqlite:///")).unlink()
    else:
        past._server.drop_database(database_url.rpartition("/")[2])  # type: ignore[union-attr]
    with pytest.raises(StoreError) as caught:
        node.add("p0")
    assert database_url.rpartition("/")[2] in str(caught.value)
    past.put_back()
    node.add("p0")

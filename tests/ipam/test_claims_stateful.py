"""Any sequence of lives of claimed pods, strangers, reservations and releases by hand, against a
simple model of who has a right to which address."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from danmpy.clock import MICROSECONDS
from danmpy.db.engine import open_engine
from danmpy.errors import ConflictError, ExhaustedError, IntentError, NotReadyError
from danmpy.ipam.audit import Audit, HistoryFilter
from danmpy.ipam.leases import Lease, LeaseRequest, LeaseStore
from danmpy.ipam.reserving import Cause, OperatorStore
from danmpy.ipam.sealing import Ledger
from support.leasing import COOLDOWN, MovingClock, owner
from support.specs import DYNAMIC, network, pool, tenant_key

LOW = int(ip_address("10.0.0.0"))
KEPT_S = 1000
BASE = network(tenant_key("n"), v4="10.0.0.0/29", vni=700)
KEY = str(BASE.key)
POOLS = {
    "whole": pool("10.0.0.0/29"),
    "holed": replace(pool("10.0.0.0/29"), excluded=((LOW + 2, LOW + 3),)),
}
NAMES = st.sampled_from(["c0", "c1", "s0", "s1", "s2"])
"""c: the pods of a claim; s: strangers."""
HOSTS = st.integers(1, 6)
WHY = Cause(actor="ada@desk", reason="x")


class ClaimMachine(RuleBasedStateMachine):
    """The model: who holds which address, which one a claim keeps and until when, what rests."""

    template: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="dt-claims-"))
        shutil.copyfile(self.template, self.folder / "danmpy.db")
        self.engine = open_engine(f"sqlite:///{self.folder}/danmpy.db")
        self.clock = MovingClock()
        self.store = LeaseStore(self.engine, self.clock, COOLDOWN, KEPT_S)
        self.hand = OperatorStore(self.engine, self.clock, COOLDOWN, KEPT_S)
        self.audit = Audit(self.engine, self.clock)
        self.shape = "whole"
        self.life = dict.fromkeys(["c0", "c1", "s0", "s1", "s2"], 0)
        self.held: dict[str, Lease] = {}
        self.reserved: dict[int, Lease] = {}
        self.rests: dict[int, int] = {}
        self.kept: dict[int, str] = {}
        self.order: list[int] = []

    def teardown(self) -> None:
        try:
            assert Ledger(self.engine, self.clock).verify().ok
            assert self.audit.violations() == ()
        finally:
            self.engine.dispose()
            shutil.rmtree(self.folder)

    def spec(self):
        return replace(BASE, v4=POOLS[self.shape])

    def allowed(self, value: int) -> bool:
        holes = POOLS[self.shape].excluded
        return not any(low <= value <= high for low, high in holes)

    def taken(self) -> set[int]:
        return {int(lease.address.ip) for lease in self.held.values()} | set(self.reserved)

    def free(self) -> set[int]:
        now = self.clock.now
        values = {value for value in range(LOW + 1, LOW + 7) if self.allowed(value)}
        resting = {value for value, until in self.rests.items() if until > now}
        return values - self.taken() - resting

    def right_of(self, name: str) -> int | None:
        """The address that the claim has a right to: what it had last and nobody had since."""
        mine = [v for v in self.order if self.kept.get(v) == name and self.allowed(v)]
        return mine[-1] if mine else None

    def owner(self, name: str):
        number = self.life[name]
        return owner(
            name,
            container_id=f"{name}-{number}",
            pod_uid=f"uid-{name}-{number}",
            claim=name if name.startswith("c") else "",
        )

    @rule(name=NAMES)
    def bind(self, name: str) -> None:
        right, free, before = self.right_of(name), self.free(), self.held.get(name)
        ask = [LeaseRequest(interface="net1", network=self.spec(), ip=DYNAMIC)]
        try:
            (lease,) = self.store.bind(self.owner(name), ask)
        except ExhaustedError:
            assert before is None
            assert right is None
            assert not free
            return
        value = int(lease.address.ip)
        if before is not None:
            assert lease == before
        elif right is not None:
            assert value == right
        else:
            assert value in free
        self.hold(name, lease)

    def hold(self, name: str, lease: Lease) -> None:
        value = int(lease.address.ip)
        self.held[name] = lease
        self.rests.pop(value, None)
        self.kept.pop(value, None)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), by_hand=st.booleans())
    def end(self, data, by_hand: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        lease = self.held.pop(name)
        if by_hand:
            (ended,) = self.hand.end([lease], WHY)
        else:
            (ended,) = self.store.release(lease.container_id)
        self.life[name] += 1
        value = int(lease.address.ip)
        rest = KEPT_S if lease.claim else COOLDOWN
        self.rests[value] = ended.to + rest * MICROSECONDS
        self.order = [each for each in self.order if each != value] + [value]
        if lease.claim:
            self.kept[value] = name

    @precondition(lambda self: any(name.startswith("c") for name in self.held))
    @rule(data=st.data())
    def come_too_early(self, data) -> None:
        """The next pod of a claim starts while the sandbox of the last one is there."""
        names = sorted(name for name in self.held if name.startswith("c"))
        name = data.draw(st.sampled_from(names))
        self.life[name] += 1
        ask = [LeaseRequest(interface="net1", network=self.spec(), ip=DYNAMIC)]
        with pytest.raises(NotReadyError, match=f"claim {name} still has"):
            self.store.bind(self.owner(name), ask)
        self.life[name] -= 1

    @rule(host=HOSTS)
    def reserve(self, host: int) -> None:
        value = LOW + host
        kept = value in self.kept and self.rests[value] > self.clock.now
        try:
            made = self.hand.reserve(self.spec(), IPv4Address(value), WHY)
        except ConflictError:
            assert value in self.taken() or kept
        except IntentError:
            assert not self.allowed(value)
        else:
            assert self.allowed(value)
            assert value not in self.taken()
            self.reserved[value] = made
            self.rests.pop(value, None)
            self.kept.pop(value, None)

    @precondition(lambda self: self.reserved)
    @rule(data=st.data())
    def unreserve(self, data) -> None:
        value = data.draw(st.sampled_from(sorted(self.reserved)))
        (ended,) = self.hand.end([self.reserved.pop(value)], WHY)
        self.rests[value] = ended.to + COOLDOWN * MICROSECONDS

    @rule(host=HOSTS)
    def unclaim(self, host: int) -> None:
        value = LOW + host
        gone = self.hand.unclaim(KEY, IPv4Address(value), WHY)
        assert bool(gone) is (self.kept.pop(value, None) is not None)
        if gone:
            until = gone[0].released_at + COOLDOWN * MICROSECONDS
            self.rests[value] = min(self.rests[value], until)

    @rule(seconds=st.sampled_from([1, COOLDOWN + 1, KEPT_S + 1]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds * MICROSECONDS

    @rule(shape=st.sampled_from(sorted(POOLS)))
    def change_pool(self, shape: str) -> None:
        self.shape = shape

    @invariant()
    def the_store_and_the_model_agree(self) -> None:
        known = [each for each in self.audit.history(HistoryFilter()) if each.to is None]
        assert {each.pod: each for each in known if each.pod} == self.held
        assert {int(each.address.ip): each for each in known if not each.pod} == self.reserved


@pytest.fixture
def machine(sqlite_template: Path) -> type[ClaimMachine]:
    return type("Machine", (ClaimMachine,), {"template": sqlite_template})


def test_claims_behave_as_the_model_says(machine) -> None:
    run_machine(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

"""Any sequence of binds, releases, restarts and pool changes, against a simple model."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from danmpy.api.specs import AddressMode
from danmpy.clock import MICROSECONDS
from danmpy.db.engine import open_engine
from danmpy.errors import ConflictError, ExhaustedError, NotReadyError
from danmpy.ipam.audit import Audit, HistoryFilter
from danmpy.ipam.leases import EndReason, Lease, LeaseRequest, LeaseStore
from danmpy.ipam.sealing import Ledger
from support.leasing import COOLDOWN, MovingClock, owner
from support.specs import DYNAMIC, cluster_key, network, pool, static, tenant_key

LOW = int(ip_address("10.0.0.0"))
POOLS = {
    "whole": pool("10.0.0.0/29"),
    "upper": replace(pool("10.0.0.0/29"), first=LOW + 4, last=LOW + 6),
    "holed": replace(pool("10.0.0.0/29"), excluded=((LOW + 2, LOW + 3),)),
}
PODS = st.sampled_from(["p0", "p1", "p2", "p3"])
HOSTS = st.integers(1, 6)


class LeaseMachine(RuleBasedStateMachine):
    """The model: who holds which address, since when, and until when the others rest."""

    template: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="dt-leases-"))
        shutil.copyfile(self.template, self.folder / "danmpy.db")
        self.engine = open_engine(f"sqlite:///{self.folder}/danmpy.db")
        self.clock = MovingClock()
        self.store = LeaseStore(self.engine, self.clock, COOLDOWN)
        self.audit = Audit(self.engine, self.clock)
        self.shape = "whole"
        self.sandbox = dict.fromkeys(["p0", "p1", "p2", "p3"], 0)
        self.held: dict[str, Lease] = {}
        self.rests: dict[int, tuple[int, str]] = {}

    def teardown(self) -> None:
        try:
            assert Ledger(self.engine, self.clock).verify().ok
            assert self.audit.violations() == ()
        finally:
            self.engine.dispose()
            shutil.rmtree(self.folder)

    def owner(self, pod: str):
        return owner(pod, container_id=f"{pod}-{self.sandbox[pod]}")

    def networks(self):
        spec = {"v4": "10.0.0.0/29", "vni": 700}
        return {
            "tenant": replace(network(tenant_key("n"), **spec), v4=POOLS[self.shape]),
            "twin": replace(network(cluster_key("twin"), **spec), v4=POOLS[self.shape]),
        }

    def allowed(self, value: int) -> bool:
        chosen = POOLS[self.shape]
        holes = chosen.excluded
        inside = chosen.first <= value <= chosen.last
        return inside and not any(low <= value <= high for low, high in holes)

    def taken(self) -> set[int]:
        return {int(lease.address.ip) for lease in self.held.values()}

    def free(self) -> set[int]:
        now = self.clock.now
        resting = {value for value, (until, _) in self.rests.items() if until > now}
        values = {value for value in range(LOW + 1, LOW + 7) if self.allowed(value)}
        return values - self.taken() - resting

    @rule(pod=PODS, net=st.sampled_from(["tenant", "twin"]))
    def bind(self, pod: str, net: str) -> None:
        spec = self.networks()[net]
        before = self.held.get(pod)
        free = self.free()
        ask = [LeaseRequest(interface="net1", network=spec, ip=DYNAMIC)]
        try:
            (lease,) = self.store.bind(self.owner(pod), ask)
        except ConflictError:
            assert before is not None
            assert before.network != str(spec.key)
        except ExhaustedError:
            assert before is None
            given_back = {v for v, (_, who) in self.rests.items() if who == f"{pod}@{net}"}
            assert not free
            assert not {value for value in given_back if self.allowed(value)} - self.taken()
        else:
            value = int(lease.address.ip)
            if before is not None:
                assert lease == before
            else:
                mine = self.rests.get(value, (0, ""))[1] == f"{pod}@{net}"
                assert value in free or (mine and self.allowed(value))
            self.hold(pod, lease)

    @rule(pod=PODS, host=HOSTS)
    def bind_static(self, pod: str, host: int) -> None:
        value = LOW + host
        spec = self.networks()["tenant"]
        excluded = any(low <= value <= high for low, high in spec.v4.excluded)
        if excluded or pod in self.held:
            return
        ask = [LeaseRequest(interface="net1", network=spec, ip=static(f"10.0.0.{host}"))]
        until, who = self.rests.get(value, (0, ""))
        try:
            (lease,) = self.store.bind(self.owner(pod), ask)
        except ConflictError:
            assert value in self.taken()
        except NotReadyError:
            assert until > self.clock.now - 10_000
            assert who.split("@")[0].split("#")[0] != pod
        else:
            assert value not in self.taken()
            assert lease.mode is AddressMode.STATIC
            self.hold(pod, lease)

    def hold(self, pod: str, lease: Lease) -> None:
        self.held[pod] = lease
        self.rests.pop(int(lease.address.ip), None)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), rollback=st.booleans())
    def release(self, data, rollback: bool) -> None:
        pod = data.draw(st.sampled_from(sorted(self.held)))
        reason = EndReason.ROLLBACK if rollback else EndReason.RELEASED
        (ended,) = self.store.release(self.held[pod].container_id, reason=reason)
        lease = self.held.pop(pod)
        net = "tenant" if lease.network.startswith("Tenant") else "twin"
        who = f"{pod}@{net}" if rollback else f"{pod}#"
        self.rests[int(lease.address.ip)] = (ended.to + COOLDOWN * MICROSECONDS, who)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def restart_sandbox(self, data) -> None:
        """The pod's sandbox dies; the next ADD comes before the DEL of the old one."""
        pod = data.draw(st.sampled_from(sorted(self.held)))
        old = self.held[pod]
        if not self.allowed(int(old.address.ip)) or old.mode is AddressMode.STATIC:
            return
        self.sandbox[pod] += 1
        net = "tenant" if old.network.startswith("Tenant") else "twin"
        ask = [LeaseRequest(interface="net1", network=self.networks()[net], ip=DYNAMIC)]
        (lease,) = self.store.bind(self.owner(pod), ask)
        assert lease.address == old.address
        assert self.store.release(old.container_id) == ()
        self.held[pod] = lease

    @rule(pod=PODS)
    def delete_again(self, pod: str) -> None:
        if pod not in self.held:
            assert self.store.release(f"{pod}-{self.sandbox[pod]}") == ()

    @rule(seconds=st.sampled_from([1, 60, 121]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds * MICROSECONDS

    @rule(shape=st.sampled_from(sorted(POOLS)))
    def change_pool(self, shape: str) -> None:
        self.shape = shape

    @invariant()
    def the_store_and_the_model_agree(self) -> None:
        known = self.audit.history(HistoryFilter(node="node-a"))
        assert {lease.pod: lease for lease in known if lease.to is None} == self.held
        (usage, _) = self.audit.usage(self.networks().values())
        assert usage.v4.capacity == sum(self.allowed(LOW + host) for host in range(8))


@pytest.fixture
def machine(sqlite_template: Path) -> type[LeaseMachine]:
    return type("Machine", (LeaseMachine,), {"template": sqlite_template})


def test_leases_behave_as_the_model_says(machine) -> None:
    run_machine(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

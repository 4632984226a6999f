"""The loop: one look at everything, failures kept apart, pokes, waiting; then the real kernel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest
from sqlalchemy import create_engine
from structlog.testing import CapturedCall, CapturingLogger

from danmpy.api.specs import (
    ConditionStatus,
    HostDeviceProfile,
    NetworkKey,
    NetworkSpec,
    NodeSpec,
    SegmentKey,
    SegmentKind,
    TenantConfigSpec,
)
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine
from danmpy.errors import ClusterError, HostError, StoreError
from danmpy.intent.values import Intent, Problem
from danmpy.ipam.profiles import Assignments
from danmpy.ipam.segments import SegmentStore
from danmpy.kernel.hostlinks import ChangeLink, CreateLink, LinkChange, RemoveLink
from danmpy.kernel.links import HostLinks, LinkMonitor
from danmpy.kernel.netns import inside, open_netns
from danmpy.netwatcher.loop import Netwatcher, WatchPorts, WatchSettings
from danmpy.netwatcher.values import DEVICE_READY, Flooding, LookReport, Reason
from support.fakehost import FakeHost
from support.nads import nad_key
from support.netns import FabricNode, Namespaces, make_fabric, wait_until
from support.specs import cluster_key, danm_key, network, tenant_key
from support.watching import by_key, node, on, vlan, vxlan

BLUE, RED, SHARED = tenant_key("blue"), tenant_key("red", "red"), cluster_key("shared")
S700, S701 = vxlan("ens4", 700), vxlan("ens4", 701)


@dataclass
class Wishes:
    """An intent that tests change, and an assigner that gives every network what it asks for."""

    intent: Intent = field(default_factory=Intent)
    read_error: ClusterError | None = None
    store_error: StoreError | None = None
    refused: Mapping[NetworkKey, Any] = field(default_factory=dict)
    reads: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)

    def want(self, *networks: NetworkSpec, **more: Any) -> None:
        self.intent = Intent(networks=by_key(networks), **more)

    def read(self) -> Intent:
        self.reads += 1
        if self.read_error:
            raise self.read_error
        return self.intent

    def assign(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        **more: Any,
    ) -> Assignments:
        self.asked.append(more)
        return self.current(networks, tenant_configs, keep=more["keep"])

    def current(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        keep: frozenset[NetworkKey] = frozenset(),
        claims: frozenset[SegmentKey] = frozenset(),
        nodes: frozenset[str] = frozenset(),
    ) -> Assignments:
        if self.store_error:
            raise self.store_error
        left = {key: each for key, each in networks.items() if key not in self.refused}
        return Assignments(networks=left, problems=self.refused)


@dataclass
class Bench:
    wishes: Wishes
    fake: FakeHost
    watcher: Netwatcher


SETTINGS = WatchSettings(node_name="n1")


@pytest.fixture
def bench() -> Iterator[Bench]:
    wishes, fake = Wishes(), FakeHost()
    fake.put("ens4", addresses=("192.0.2.1/24",), up=True)
    watcher = Netwatcher(WatchPorts(source=wishes, assigner=wishes, host=fake), SETTINGS)
    yield Bench(wishes, fake, watcher)
    watcher.close()


def reason(report: LookReport, key: NetworkKey) -> str:
    (found,) = [c.reason for c in report.conditions[key] if c.type == DEVICE_READY]
    return found


def test_a_report_says_where_this_node_s_tunnels_end(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE), on(vlan("ens4", 7), SHARED))
    assert bench.watcher.look().vteps == {"ens4": (ip_address("192.0.2.1"),)}
    bench.wishes.read_error = ClusterError("away", hint="wait")
    assert bench.watcher.look().vteps == {"ens4": (ip_address("192.0.2.1"),)}


# One look.


def test_a_look_makes_what_is_wanted_and_reports_it(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE), network(SHARED))
    report = bench.watcher.look()
    assert report.device_of == {BLUE: "vx700", SHARED: "ens4"}
    assert report.mtu_of == {"vx700": 1450, "ens4": 1500}
    assert (report.error, report.failures, report.kept_orphans) == ("", (), ())
    assert report.intent is bench.wishes.intent
    assert report == bench.watcher.report
    assert bench.fake.link("vx700").up


def test_the_second_look_has_nothing_to_do(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE))
    bench.watcher.look()
    assert bench.watcher.look().steps == ()


def test_the_assigner_hears_of_refusals_claims_completeness_and_nodes(
    bench: Bench,
) -> None:
    problem = Problem(where="a:1", subject="x", code="C", message="m", hint="h")
    bench.wishes.want(
        rejected={BLUE: (problem,)},
        claims=frozenset({S700}),
        complete=False,
        nodes=(NodeSpec(name="n1"), NodeSpec(name="n2")),
    )
    bench.watcher.look()
    assert bench.wishes.asked == [
        {
            "keep": frozenset({BLUE}),
            "claims": frozenset({S700}),
            "complete": False,
            "nodes": frozenset({"n1", "n2"}),
        }
    ]


def test_a_network_that_got_no_assignment_is_told_and_not_attachable(bench: Bench) -> None:
    from danmpy.netwatcher.conditions import not_ready

    bench.wishes.want(on(S700, BLUE))
    bench.wishes.refused = {BLUE: not_ready(Reason.NO_HOST_DEVICE, "range full")}
    report = bench.watcher.look()
    assert report.conditions[BLUE][0].message == "range full"
    assert (report.device_of, report.networks) == ({}, {})


def test_what_a_half_read_intent_does_not_name_stays(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE))
    bench.watcher.look()
    bench.wishes.want(complete=False)
    report = bench.watcher.look()
    assert (report.steps, report.kept_orphans) == ((), ("vx700",))
    bench.wishes.want()
    bench.watcher.look()
    assert bench.fake.read().named("vx700") is None


@pytest.mark.parametrize("segment", [None, S700])
def test_a_bridge_stays_while_the_manifest_of_its_network_is_refused(
    bench: Bench, segment: SegmentKey | None
) -> None:
    bridged = network(SHARED, backend="bridge", segment=segment)
    bench.wishes.want(bridged)
    device = bench.watcher.look().device_of[SHARED]
    problem = Problem(where="a:1", subject="x", code="C", message="m", hint="h")
    claims = frozenset({segment} if segment else ())
    bench.wishes.want(rejected={SHARED: (problem,)}, claims=claims)
    report = bench.watcher.look()
    assert report.steps == ()
    assert bench.fake.link(device).up


def test_an_ipv4_address_that_is_away_for_a_moment_moves_no_tunnel_to_ipv6(bench: Bench) -> None:
    both = bench.fake.alter(
        "ens4", addresses=(ip_interface("192.0.2.1/24"), ip_interface("2001:db8::1/64"))
    ).addresses
    bench.wishes.want(on(S700, BLUE))
    bench.watcher.look()
    before = bench.fake.link("vx700")
    bench.fake.alter("ens4", addresses=both[1:])
    report = bench.watcher.look()
    assert (report.steps, reason(report, BLUE)) == ((), Reason.NO_VTEP_ADDRESS)
    bench.fake.alter("ens4", addresses=both)
    assert bench.watcher.look().device_of == {BLUE: "vx700"}
    assert bench.fake.link("vx700") == before


def test_orphans_of_an_earlier_run_are_removed(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE), on(S701, RED))
    bench.watcher.look()
    bench.wishes.want()
    ports = WatchPorts(source=bench.wishes, assigner=bench.wishes, host=bench.fake)
    report = Netwatcher(ports, SETTINGS).look()
    assert sorted(step.device for step in report.steps) == ["vx700", "vx701"]
    assert [link.name for link in bench.fake.read().links] == ["lo", "ens4"]


# What fails.


def refuse(*names: str) -> Callable[[LinkChange], None]:
    def broken(change: LinkChange) -> None:
        if change.name in names:
            raise HostError("the kernel says no", hint="ask it nicely", subject=change.name)

    return broken


def test_a_refused_device_keeps_no_other_from_its_own(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE), on(S701, RED))
    bench.fake.broken = refuse("vx700")
    report = bench.watcher.look()
    assert report.device_of == {RED: "vx701"}
    assert reason(report, BLUE) == Reason.KERNEL_REFUSED
    assert "the kernel says no (ask it nicely)" in report.conditions[BLUE][0].message
    assert [failure.step.device for failure in report.failures] == ["vx700"]


def test_a_refusal_is_tried_again_and_gone_when_it_works(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE))
    bench.fake.broken = refuse("vx700")
    bench.watcher.look()
    bench.fake.broken = lambda change: None
    assert bench.watcher.look().device_of == {BLUE: "vx700"}


def test_a_kernel_without_vlans_is_told_with_the_module_and_serves_the_others() -> None:
    wishes, fake = Wishes(), FakeHost(kinds={"vxlan", "bridge"})
    fake.put("ens4", addresses=("192.0.2.1/24",), up=True)
    wishes.want(on(vlan("ens4", 7), BLUE), on(S700, RED))
    report = Netwatcher(WatchPorts(source=wishes, assigner=wishes, host=fake), SETTINGS).look()
    assert reason(report, BLUE) == Reason.KERNEL_MODULE_MISSING
    assert report.device_of == {RED: "vx700"}


def test_one_removal_that_fails_does_not_stop_the_others(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE), on(S701, RED))
    bench.watcher.look()
    bench.wishes.want()

    def broken(change: LinkChange) -> None:
        if isinstance(change, RemoveLink) and change.name == "vx700":
            raise HostError("busy", hint="wait", subject="vx700")

    bench.fake.broken = broken
    report = bench.watcher.look()
    assert [failure.step.device for failure in report.failures] == ["vx700"]
    assert bench.fake.read().named("vx701") is None


def test_a_device_that_could_not_be_made_is_not_configured(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE))
    seen: list[LinkChange] = []

    def broken(change: LinkChange) -> None:
        seen.append(change)
        raise HostError("no", hint="", subject="")

    bench.fake.broken = broken
    bench.watcher.look()
    assert [type(change) for change in seen] == [CreateLink]


def test_an_intent_that_cannot_be_read_changes_nothing_and_keeps_the_report(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE))
    before = bench.watcher.look()
    bench.wishes.read_error = ClusterError("no answer", hint="later")
    bench.fake.drop("vx700")
    report = bench.watcher.look()
    assert "no answer" in report.error
    assert (report.device_of, report.steps) == (before.device_of, ())
    assert bench.fake.read().named("vx700") is None
    bench.wishes.read_error = None
    assert bench.watcher.look().error == ""


def test_a_kernel_that_cannot_be_read_is_an_error_of_the_look(bench: Bench) -> None:
    bench.fake.unreadable = HostError("no netlink", hint="check rights")
    report = bench.watcher.look()
    assert "no netlink" in report.error


def test_without_the_database_networks_with_fixed_segments_are_served(bench: Bench) -> None:
    bench.wishes.want(on(S700, SHARED), on(S701, danm_key("d")), network(BLUE))
    bench.wishes.store_error = StoreError("locked", hint="wait")
    report = bench.watcher.look()
    assert report.device_of == {SHARED: "vx700", danm_key("d"): "vx701"}
    assert reason(report, BLUE) == Reason.STORE_UNAVAILABLE
    assert "locked" in report.conditions[BLUE][0].message
    assert report.error == ""


def test_without_the_database_nobody_gets_a_wire_that_may_be_a_tenants(bench: Bench) -> None:
    profile = HostDeviceProfile(name="ens4", kind=SegmentKind.VXLAN, ids=((701, 710),))
    configs = (TenantConfigSpec(name="tc", host_devices=(profile,)),)
    known, late, elsewhere = on(S701, SHARED), danm_key("late"), danm_key("else")
    bench.wishes.want(known, tenant_configs=configs)
    bench.watcher.look()
    bench.wishes.store_error = StoreError("locked", hint="wait")
    bench.wishes.want(
        known,
        on(vxlan("ens4", 702), late),
        on(vxlan("ens4", 711), elsewhere),
        tenant_configs=configs,
    )
    report = bench.watcher.look()
    assert report.device_of == {SHARED: "vx701", elsewhere: "vx711"}
    assert reason(report, late) == Reason.STORE_UNAVAILABLE


def test_without_the_database_a_nad_gets_no_wire_that_it_had_not_before(bench: Bench) -> None:
    known, late, bare = nad_key("known"), nad_key("late"), nad_key("bare")
    bench.wishes.want(on(S700, known, backend="nad"))
    bench.watcher.look()
    bench.wishes.store_error = StoreError("locked", hint="wait")
    bench.wishes.want(
        on(S700, known, backend="nad"),
        on(S701, late, backend="nad"),
        network(bare, backend="nad", host_device=""),
    )
    report = bench.watcher.look()
    assert report.device_of == {known: "vx700", bare: ""}
    assert reason(report, late) == Reason.STORE_UNAVAILABLE


def test_without_the_database_known_assignments_hold_and_nothing_is_removed(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE), on(S701, RED))
    bench.watcher.look()
    bench.wishes.store_error = StoreError("locked", hint="wait")
    bench.wishes.want(on(S700, BLUE))
    bench.fake.alter("vx700", up=False)
    report = bench.watcher.look()
    assert report.device_of == {BLUE: "vx700"}
    assert bench.fake.link("vx700").up
    assert report.kept_orphans == ("vx701",)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[CapturedCall]:
    logger = CapturingLogger()
    monkeypatch.setattr("danmpy.netwatcher.loop._log", logger)
    return logger.calls


def test_what_was_done_is_logged_and_a_refusal_once(
    bench: Bench, logged: list[CapturedCall]
) -> None:
    bench.wishes.want(on(S700, BLUE), on(S701, RED))
    bench.fake.broken = refuse("vx700")
    for _ in range(2):
        bench.watcher.look()
    lines = [(call.args[0], call.kwargs["device"]) for call in logged]
    assert lines == [("refused", "vx700"), *[("applied", "vx701")] * 3]


def test_many_refusals_do_not_fill_the_log(bench: Bench, logged: list[CapturedCall]) -> None:
    bench.wishes.want(*(on(vxlan("ens4", vni), cluster_key(f"n{vni}")) for vni in range(1, 101)))
    bench.fake.broken = refuse(*(f"vx{vni}" for vni in range(1, 101)))
    bench.watcher.look()
    assert len(logged) == 21
    assert logged[-1].kwargs == {"steps": 80}


def test_a_look_that_is_blind_is_logged_once(bench: Bench, logged: list[CapturedCall]) -> None:
    bench.fake.unreadable = HostError("no netlink", hint="check rights")
    for _ in range(3):
        bench.watcher.look()
    assert [call.args[0] for call in logged] == ["cannot look"]


def test_many_steps_are_one_line(bench: Bench, logged: list[CapturedCall]) -> None:
    bench.wishes.want(*(on(vxlan("ens4", vni), cluster_key(f"n{vni}")) for vni in range(1, 31)))
    bench.watcher.look()
    (call,) = logged
    assert call.kwargs["steps"] == 90


# Previews.


def test_a_preview_shows_the_steps_and_changes_nothing(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE))
    report = bench.watcher.preview(bench.wishes.intent)
    assert [step.device for step in report.steps][:1] == ["vx700"]
    assert report.device_of == {BLUE: "vx700"}
    assert (bench.fake.applied, bench.wishes.asked) == ([], [])
    assert bench.watcher.report.intent is None


def test_a_preview_without_the_database_says_what_it_does_not_know(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE), on(S701, SHARED))
    bench.wishes.store_error = StoreError("locked", hint="wait")
    report = bench.watcher.preview(bench.wishes.intent)
    assert reason(report, BLUE) == Reason.STORE_UNAVAILABLE
    assert report.device_of == {SHARED: "vx701"}


# The thread.


def test_started_it_looks_at_once_and_again_when_poked(bench: Bench) -> None:
    bench.watcher.start()
    wait_until(lambda: bench.wishes.reads == 1)
    bench.wishes.want(on(S700, BLUE))
    began = time.monotonic()
    bench.watcher.poke()
    wait_until(lambda: BLUE in bench.watcher.report.device_of)
    assert time.monotonic() - began < 1


def test_many_pokes_are_few_looks(bench: Bench) -> None:
    bench.watcher.start()
    wait_until(lambda: bench.wishes.reads == 1)
    for _ in range(1000):
        bench.watcher.poke()
    time.sleep(0.3)
    assert 2 <= bench.wishes.reads < 30


def test_without_a_poke_it_looks_once_a_period() -> None:
    wishes, fake = Wishes(), FakeHost()
    settings = replace(SETTINGS, period_seconds=0.1)
    watcher = Netwatcher(WatchPorts(source=wishes, assigner=wishes, host=fake), settings)
    watcher.start()
    try:
        wait_until(lambda: wishes.reads >= 3)
    finally:
        watcher.close()


def test_waiting_ends_with_a_look_that_began_afterwards(bench: Bench) -> None:
    bench.watcher.start()
    wait_until(lambda: bench.wishes.reads == 1)
    bench.wishes.want(on(S700, BLUE))
    report = bench.watcher.wait_for(lambda report: True, 5)
    assert BLUE in report.device_of


def test_waiting_gives_up_after_its_time_with_the_last_report(bench: Bench) -> None:
    bench.watcher.start()
    began = time.monotonic()
    report = bench.watcher.wait_for(lambda report: BLUE in report.device_of, 0.3)
    assert 0.3 <= time.monotonic() - began < 2
    assert report.device_of == {}


def test_waiting_without_a_thread_is_a_look(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE))
    assert BLUE in bench.watcher.wait_for(lambda report: True, 0).device_of


def test_waiting_is_served_although_the_last_look_failed(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE))
    bench.fake.broken = refuse("vx700")
    bench.watcher.start()
    wait_until(lambda: bool(bench.watcher.report.failures))
    bench.fake.broken = lambda change: None
    began = time.monotonic()
    assert bench.watcher.wait_for(lambda seen: BLUE in seen.device_of, 5).device_of
    assert time.monotonic() - began < 0.4


def test_a_failure_is_tried_again_sooner_than_a_period(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE))
    bench.fake.broken = refuse("vx700")
    bench.watcher.start()
    wait_until(lambda: bool(bench.watcher.report.failures))
    bench.fake.broken = lambda change: None
    wait_until(lambda: BLUE in bench.watcher.report.device_of, seconds=3)


def test_looks_never_overlap(bench: Bench) -> None:
    inside_now: list[int] = []
    most = 0

    def broken(change: LinkChange) -> None:
        nonlocal most
        inside_now.append(1)
        most = max(most, len(inside_now))
        time.sleep(0.01)
        inside_now.pop()

    bench.fake.broken = broken
    bench.wishes.want(*(on(vxlan("ens4", vni), cluster_key(f"n{vni}")) for vni in range(1, 6)))
    threads = [threading.Thread(target=bench.watcher.look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_bug_in_a_look_does_not_end_the_thread(bench: Bench) -> None:
    def broken(change: LinkChange) -> None:
        raise ValueError("a bug")

    bench.fake.broken = broken
    bench.wishes.want(on(S700, BLUE))
    bench.watcher.start()
    wait_until(lambda: bench.wishes.reads >= 1)
    bench.fake.broken = lambda change: None
    wait_until(lambda: BLUE in bench.watcher.wait_for(lambda report: True, 1).device_of)


def test_closing_ends_a_waiter(bench: Bench) -> None:
    bench.watcher.start()
    waiter = threading.Thread(target=bench.watcher.wait_for, args=(lambda report: False, 30))
    waiter.start()
    time.sleep(0.1)
    bench.watcher.close()
    waiter.join(5)
    assert not waiter.is_alive()


# With the real store.


def test_tenants_get_their_segments_from_the_real_store(sqlite_url: str) -> None:
    engine = open_engine(sqlite_url)
    wishes, fake = Wishes(), FakeHost()
    fake.put("ens4", addresses=("192.0.2.1/24",), up=True)
    profile = HostDeviceProfile(name="ens4", kind=SegmentKind.VXLAN, ids=((900, 910),))
    config = TenantConfigSpec(name="tc", host_devices=(profile,))
    wishes.want(network(BLUE), network(RED), tenant_configs=(config,))
    ports = WatchPorts(source=wishes, assigner=SegmentStore(engine, wall_clock), host=fake)
    watcher = Netwatcher(ports, SETTINGS)
    preview = watcher.preview(wishes.intent)
    report = watcher.look()
    assert sorted(report.device_of.values()) == ["vx900", "vx901"]
    assert preview.device_of == report.device_of
    assert watcher.look().steps == ()
    engine.dispose()


def test_the_device_of_a_tenant_whose_manifest_is_refused_stays_also_after_a_restart(
    sqlite_url: str,
) -> None:
    engine = open_engine(sqlite_url)
    wishes, fake = Wishes(), FakeHost()
    fake.put("ens4", addresses=("192.0.2.1/24",), up=True)
    profile = HostDeviceProfile(name="ens4", kind=SegmentKind.VXLAN, ids=((900, 910),))
    configs = (TenantConfigSpec(name="tc", host_devices=(profile,)),)
    wishes.want(network(BLUE), tenant_configs=configs)
    ports = WatchPorts(source=wishes, assigner=SegmentStore(engine, wall_clock), host=fake)
    Netwatcher(ports, SETTINGS).look()
    problem = Problem(where="a:1", subject="x", code="C", message="m", hint="h")
    wishes.want(rejected={BLUE: (problem,)}, tenant_configs=configs)
    restarted = Netwatcher(ports, SETTINGS)
    assert restarted.preview(wishes.intent).steps == ()
    assert restarted.look().steps == ()
    assert fake.link("vx900").up
    engine.dispose()


def test_a_missing_database_is_no_reason_to_give_up(bench: Bench) -> None:
    engine = create_engine("sqlite:////nowhere/at/all.db")
    bench.wishes.want(on(S700, SHARED), network(BLUE))
    ports = WatchPorts(
        source=bench.wishes, assigner=SegmentStore(engine, wall_clock), host=bench.fake
    )
    report = Netwatcher(ports, SETTINGS).look()
    assert report.device_of == {SHARED: "vx700"}
    assert reason(report, BLUE) == Reason.STORE_UNAVAILABLE
    engine.dispose()


# With the real kernel.


class RealNode:
    """A netwatcher with its monitor on one node of a fabric."""

    def __init__(self, place: FabricNode, wishes: Wishes, settings: WatchSettings) -> None:
        self.place = place
        fd = open_netns(str(place.namespace.path))
        with inside(fd):
            self.links = HostLinks()
        ports = WatchPorts(source=wishes, assigner=wishes, host=self.links)
        self.watcher = Netwatcher(ports, settings)
        with inside(fd):
            self.monitor = LinkMonitor(self.watcher.poke)

    def close(self) -> None:
        self.watcher.close()
        self.monitor.close()
        self.links.close()


@pytest.fixture
def real_node(namespaces: Namespaces) -> Iterator[tuple[RealNode, Wishes]]:
    wishes = Wishes()
    (place,) = make_fabric(namespaces, nodes=1).nodes
    made = RealNode(place, wishes, SETTINGS)
    yield made, wishes
    made.close()


def is_settled(made: RealNode) -> bool:
    return not made.watcher.preview(made.watcher.report.intent or Intent()).steps


@pytest.mark.parametrize(
    "by_hand",
    [
        "link set vx700 down",
        "link set vx700 mtu 1300",
        "link set vx700 alias mine",
        "link delete vx700",
        "link set vx700 name strange",
        "link property del dev vx700 altname vx_blue",
        "link set vx700 type vxlan local 192.0.2.99",
        "link set ens4 down",
        "link set ens4 mtu 1400",
        "address add 192.0.2.50/24 dev ens4",
    ],
)
def test_drift_on_the_real_kernel_is_repaired_within_a_second(
    real_node: tuple[RealNode, Wishes], by_hand: str
) -> None:
    made, wishes = real_node
    wishes.want(on(S700, BLUE), nodes=(node("n2", ens4="192.0.2.2"),))
    made.monitor.start()
    made.watcher.start()
    made.watcher.wait_for(lambda report: BLUE in report.device_of, 5)
    made.place.namespace.batch(by_hand)
    wait_until(lambda: is_settled(made), seconds=1, what=by_hand)
    link = made.links.read().named("vx700")
    assert link is not None
    assert (link.up, link.alias, link.altnames) == (
        True,
        "danmpy vxlan:ens4:700",
        frozenset({"vx_blue"}),
    )
    assert link.vxlan is not None
    assert link.vxlan.local == ip_address("192.0.2.1")
    assert link.flooding == {ip_address("192.0.2.2")}


def test_a_foreign_forwarding_entry_is_removed_at_the_next_look(
    real_node: tuple[RealNode, Wishes],
) -> None:
    made, wishes = real_node
    wishes.want(on(S700, BLUE))
    made.watcher.look()
    made.place.namespace.run(
        "bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "vx700", "dst", "203.0.113.9"
    )
    (step,) = made.watcher.look().steps
    assert step.attributes == {"remove": ["203.0.113.9"]}
    assert made.watcher.look().steps == ()


def test_a_strangers_vxlan_on_the_real_kernel_is_left_alone(
    real_node: tuple[RealNode, Wishes],
) -> None:
    made, wishes = real_node
    made.place.namespace.batch("link add mine type vxlan id 700 dstport 4789 local 192.0.2.1")
    wishes.want(on(S700, BLUE), on(S701, RED))
    report = made.watcher.look()
    assert reason(report, BLUE) == Reason.VNI_TAKEN
    assert report.device_of == {RED: "vx701"}
    assert made.watcher.look().steps == ()


def test_a_bridge_network_on_the_real_kernel(real_node: tuple[RealNode, Wishes]) -> None:
    made, wishes = real_node
    wishes.want(on(S700, BLUE, backend="bridge"), network(RED, backend="bridge", host_device=""))
    report = made.watcher.look()
    assert report.failures == ()
    facts = made.links.read()
    bridge, device = facts.named(report.device_of[BLUE]), facts.named("vx700")
    assert bridge is not None
    assert device is not None
    assert (bridge.kind, device.master) == ("bridge", bridge.index)
    assert made.watcher.look().steps == ()
    wishes.want()
    made.watcher.look()
    assert {link.name for link in made.links.read().links} == {"lo", "ens4"}


def test_a_change_of_flooding_keeps_the_device_and_what_stands_on_it(
    real_node: tuple[RealNode, Wishes],
) -> None:
    made, wishes = real_node
    wishes.want(on(S700, BLUE), nodes=(node("n2", ens4="192.0.2.2"),))
    made.watcher.look()
    made.place.namespace.batch("link add mv0 link vx700 type macvlan", "link set mv0 up")
    settings = replace(SETTINGS, flooding=Flooding.MULTICAST)
    ports = WatchPorts(source=wishes, assigner=wishes, host=made.links)
    for flooding in (settings, SETTINGS):
        watcher = Netwatcher(ports, flooding)
        assert watcher.look().failures == ()
        assert watcher.look().steps == ()
    facts = made.links.read()
    assert facts.named("mv0") is not None


@pytest.mark.uml
def test_vlans_on_the_real_kernel_are_made_repaired_and_removed(
    real_node: tuple[RealNode, Wishes],
) -> None:
    made, wishes = real_node
    wishes.want(on(vlan("ens4", 7), BLUE, network_id="ext"), on(vlan("ens4", 8), RED, mtu=1400))
    report = made.watcher.look()
    assert report.failures == ()
    assert report.device_of == {BLUE: "ens4.7", RED: "ens4.8"}
    assert made.watcher.look().steps == ()
    made.place.namespace.batch("link set ens4 down", "link set ens4.7 mtu 1000", "link del ens4.8")
    made.watcher.look()
    assert made.watcher.look().steps == ()
    link = made.links.read().named("ext.7")
    assert link is not None
    assert (link.name, link.up, link.mtu, link.vlan_id) == ("ens4.7", True, 1500, 7)
    wishes.want()
    made.watcher.look()
    assert {link.name for link in made.links.read().links} == {"lo", "ens4"}


@pytest.mark.system
@pytest.mark.parametrize("flooding", Flooding)
@pytest.mark.parametrize("family", [4, 6])
def test_two_nodes_reach_each_other_through_the_tunnel_and_other_vnis_do_not(
    namespaces: Namespaces, flooding: Flooding, family: int
) -> None:
    fabric = make_fabric(namespaces, nodes=2)
    if family == 6:
        for each in fabric.nodes:
            each.namespace.ip("address", "del", str(each.address), "dev", "ens4")
    ends = {
        f"n{number}": str(each.address.ip if family == 4 else each.address6.ip)
        for number, each in enumerate(fabric.nodes, 1)
    }
    wishes = Wishes()
    nodes = tuple(node(name, ens4=end) for name, end in ends.items())
    wishes.want(on(S700, BLUE), on(S701, RED), nodes=nodes)
    made = [
        RealNode(place, wishes, WatchSettings(node_name=name, flooding=flooding))
        for name, place in zip(ends, fabric.nodes, strict=True)
    ]
    try:
        for number, each in enumerate(made, 1):
            report = each.watcher.look()
            assert (report.failures, report.error) == ((), "")
            assert all(
                condition.status is ConditionStatus.TRUE
                for conditions in report.conditions.values()
                for condition in conditions
            )
            each.place.namespace.batch(f"address add 10.7.0.{number}/24 dev vx700")
        made[1].place.namespace.batch("address add 10.8.0.2/24 dev vx701")
        made[0].place.namespace.batch("address add 10.8.0.1/24 dev vx700")
        first = made[0].place.namespace
        size = 1500 - (50 if family == 4 else 70) - 28
        assert first.ping("10.7.0.2", size=size, fragment=False)
        assert not first.ping("10.8.0.2", seconds=1)
    finally:
        for each in made:
            each.close()


@pytest.mark.bench
def test_five_hundred_networks_are_made_from_nothing_in_one_look(
    real_node: tuple[RealNode, Wishes],
) -> None:
    made, wishes = real_node
    peers = tuple(node(f"n{number}", ens4=f"192.0.2.{number}") for number in range(2, 5))
    wishes.want(*(on(vxlan("ens4", v), cluster_key(f"n{v}")) for v in range(1, 501)), nodes=peers)
    first, second = made.watcher.look(), made.watcher.look()
    wishes.want()
    third = made.watcher.look()
    print(
        f"\nmade {first.seconds:.2f} s, looked {second.seconds:.3f} s, gone {third.seconds:.2f} s"
    )
    assert (len(first.device_of), first.failures, second.steps) == (500, (), ())
    assert first.seconds < 5
    assert second.seconds < 0.15


def test_a_parent_that_is_set_down_again_and_again_does_not_eat_a_processor(bench: Bench) -> None:
    bench.wishes.want(on(S700, BLUE))

    def broken(change: LinkChange) -> None:
        if isinstance(change, ChangeLink):
            bench.watcher.poke()  # as the monitor does when the kernel tells of every try
            raise HostError("down again", hint="", subject=change.name)

    bench.fake.broken = broken
    bench.watcher.start()
    time.sleep(1.2)
    assert bench.wishes.reads <= 5

"""What people are told about each network."""

from __future__ import annotations

from danmpy.api.specs import ConditionStatus
from danmpy.kernel.hostlinks import ChangeAltnames, ChangeFlooding, ChangeLink, LinkChange
from danmpy.netwatcher.conditions import judge_networks, not_ready
from danmpy.netwatcher.values import DEVICE_READY, PEERS_KNOWN, Desired, Reason, Step, StepFailure
from support.fakehost import FakeHost
from support.nads import nad_key
from support.specs import cluster_key, network, tenant_key
from support.watching import Want, by_key, on, vxlan

BLUE, RED = tenant_key("blue"), tenant_key("red", "red")
SEGMENT = vxlan("ens4", 700)
PAIR = by_key([on(SEGMENT, BLUE), network(RED, backend="flannel", host_device="")])


def desired() -> Desired:
    fake = FakeHost()
    fake.put("ens4", addresses=("192.0.2.1/24",), up=True)
    return Want(*PAIR.values()).desired(fake.read())


def failed(change: LinkChange, device: str = "vx700") -> StepFailure:
    step = Step(device=device, reason="because", change=change)
    return StepFailure(step=step, reason=Reason.KERNEL_REFUSED, message="no")


def test_every_network_has_one_device_ready_condition() -> None:
    verdict = judge_networks(PAIR, desired())
    assert {key: [(c.type, c.reason) for c in cs] for key, cs in verdict.conditions.items()} == {
        BLUE: [(DEVICE_READY, Reason.READY)],
        RED: [(DEVICE_READY, Reason.NOT_NEEDED)],
    }
    assert verdict.device_of == {BLUE: "vx700", RED: ""}


def test_a_nad_without_a_wire_is_ready_in_words_that_fit_it() -> None:
    spec = network(nad_key("n"), backend="nad", host_device="")
    verdict = judge_networks({spec.key: spec}, Want(spec).desired(FakeHost().read()))
    ((condition,),) = verdict.conditions.values()
    assert (condition.status, condition.reason) == (ConditionStatus.TRUE, Reason.NOT_NEEDED)
    assert condition.message == "its plugins find what they need on the node by themselves"


def test_a_failed_step_stands_against_the_networks_of_its_device_only() -> None:
    verdict = judge_networks(PAIR, desired(), [failed(ChangeLink(name="vx700", up=True))])
    (condition,) = verdict.conditions[BLUE]
    assert (condition.status, condition.reason, condition.message) == (
        ConditionStatus.FALSE,
        Reason.KERNEL_REFUSED,
        "no",
    )
    assert verdict.device_of == {RED: ""}


def test_a_parent_that_cannot_be_set_up_stands_against_the_networks_on_it() -> None:
    change = ChangeLink(name="ens4", up=True)
    verdict = judge_networks(PAIR, desired(), [failed(change, "ens4")])
    assert verdict.device_of == {RED: ""}


def test_missing_alternative_names_keep_nobody_from_attaching() -> None:
    change = ChangeAltnames(name="vx700", add=frozenset({"vx_blue"}))
    assert judge_networks(PAIR, desired(), [failed(change)]).device_of[BLUE] == "vx700"


def test_a_refused_forwarding_entry_is_told_and_keeps_nobody_from_attaching() -> None:
    verdict = judge_networks(PAIR, desired(), [failed(ChangeFlooding(name="vx700"))])
    ready, peers = verdict.conditions[BLUE]
    assert (ready.type, ready.status) == (DEVICE_READY, ConditionStatus.TRUE)
    assert (peers.type, peers.status) == (PEERS_KNOWN, ConditionStatus.FALSE)
    assert verdict.device_of[BLUE] == "vx700"


def test_two_failures_are_still_one_condition_of_a_type() -> None:
    failures = [failed(ChangeLink(name="vx700", up=True)), failed(ChangeLink(name="ens4"), "ens4")]
    assert len(judge_networks(PAIR, desired(), failures).conditions[BLUE]) == 1


def test_a_failed_bridge_stands_against_its_networks() -> None:
    fake = FakeHost()
    fake.put("ens4", addresses=("192.0.2.1/24",), up=True)
    networks = [on(SEGMENT, BLUE, backend="bridge")]
    found = Want(*networks).desired(fake.read())
    failure = failed(ChangeLink(name="x"), found.devices[0].name)
    assert judge_networks(by_key(networks), found, [failure]).device_of == {}


def test_a_bridge_network_is_told_that_its_nic_is_left_alone() -> None:
    key = cluster_key("lan")
    networks = [network(key, backend="bridge")]
    found = Want(*networks).desired(FakeHost().read())
    (condition,) = judge_networks(by_key(networks), found).conditions[key]
    assert condition.status is ConditionStatus.TRUE
    assert "ens4 is left alone" in condition.message


def test_not_ready_is_false_with_its_reason() -> None:
    condition = not_ready(Reason.STORE_UNAVAILABLE, "later")
    assert (condition.type, condition.status) == (DEVICE_READY, ConditionStatus.FALSE)

"""What a CNI call sees of manifests and devices: never older than the manifests of now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from danmpy.api.specs import Condition, ConditionStatus, InterfaceAsk, NetworkSpec, PodSpec
from danmpy.attach.view import WAIT_S, LiveView
from danmpy.errors import ClusterError, NotReadyError
from danmpy.intent.values import Intent, Problem
from danmpy.ipam.profiles import ASSIGNMENT_PENDING
from danmpy.netwatcher.values import LookReport
from support.nads import nad_key
from support.specs import network, tenant_key

BLUE = tenant_key("internal")
SPEC = network(BLUE, v4="10.0.0.0/24")
INTENT = Intent(networks={BLUE: SPEC})
LOOK = LookReport(at=1, intent=INTENT, networks={BLUE: SPEC}, device_of={BLUE: "vx700"})
NO_MODULE = Condition(
    type="Ready", status=ConditionStatus.FALSE, reason="HostError", message="no VLAN in this kernel"
)


@dataclass(slots=True)
class Node:
    """Intent as it is now, the last look, and the looks that follow when somebody waits."""

    intent: Intent = field(default_factory=Intent)
    report: LookReport = LookReport(at=0)  # noqa: RUF009 - a frozen value
    coming: list[LookReport] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def read_for(self, namespace: str, name: str, uid: str) -> Intent:
        return self.intent

    def wait_for(self, condition: Callable[[LookReport], bool], seconds: float) -> LookReport:
        self.waits.append(seconds)
        while self.coming and not condition(self.report):
            self.report = self.coming.pop(0)
        return self.report

    def hear(self, intent: Intent, pod: PodSpec, asks: Sequence[InterfaceAsk]) -> Intent:
        return replace(intent, pods={(pod.namespace, pod.name): pod})


def view_of(node: Node) -> LiveView:
    return LiveView(node, node)


def test_the_wishes_are_those_of_now() -> None:
    node = Node()
    view = view_of(node)
    assert view.read_for("blue", "web", "") is node.intent
    node.intent = Intent(pods={("blue", "web-0"): PodSpec(namespace="blue", name="web-0", uid="u")})
    assert view.read_for("blue", "web", "") is node.intent


def test_a_pod_that_cannot_be_looked_up_is_no_silent_nothing() -> None:
    class Away(Node):
        def read_for(self, namespace: str, name: str, uid: str) -> Intent:
            raise ClusterError("no answer", hint="wait", subject=f"Pod/{namespace}/{name}")

    with pytest.raises(ClusterError, match="Pod/blue/web"):
        view_of(Away()).read_for("blue", "web", "u")


def test_what_the_source_hears_of_a_pod_s_networks_is_the_answer() -> None:
    pod = PodSpec(namespace="blue", name="web", uid="u")
    assert view_of(Node()).hear(INTENT, pod, ()).pods == {("blue", "web"): pod}


def test_a_node_that_waits_says_for_what_and_then_no_more() -> None:
    reasons = ["the API server does not answer"]
    view = LiveView(Node(), Node(), lambda: "".join(reasons))
    with pytest.raises(NotReadyError, match="the API server does not answer") as caught:
        view.require_ready()
    assert caught.value.cni_code == 11
    reasons.clear()
    view.require_ready()
    view_of(Node()).require_ready()


def test_a_look_that_went_by_the_manifests_of_now_is_not_waited_for() -> None:
    node = Node(intent=INTENT, report=LOOK)
    assert view_of(node).read_networks(node.intent).networks == {BLUE: SPEC}
    assert node.waits == []


def test_manifests_that_only_changed_their_pods_need_no_new_look() -> None:
    pod = PodSpec(namespace="blue", name="p", uid="u")
    node = Node(intent=replace(INTENT, pods={("blue", "p"): pod}), report=LOOK)
    view_of(node).read_networks(node.intent)
    assert node.waits == []


def test_a_network_written_a_moment_ago_is_waited_for() -> None:
    node = Node(intent=INTENT, report=LookReport(at=0, intent=Intent()), coming=[LOOK])
    assert view_of(node).read_networks(node.intent).networks == {BLUE: SPEC}
    assert node.waits == [WAIT_S]


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (LookReport(at=0), "the last look hangs"),
        (LookReport(at=0, error="the kernel does not answer"), "the kernel does not answer"),
        (LookReport(at=0, intent=Intent()), "the last look hangs"),
    ],
)
def test_without_a_look_in_time_the_call_is_told_to_try_again_and_why(
    last: LookReport, words: str
) -> None:
    node = Node(intent=INTENT, report=last)
    with pytest.raises(NotReadyError, match=words) as caught:
        view_of(node).read_networks(node.intent)
    assert caught.value.subject == "netwatcher"


def test_a_rejected_network_is_refused_with_the_words_of_its_problems() -> None:
    problem = Problem(
        where="a.yaml:3",
        subject=str(BLUE),
        code="SubnetInvalid",
        message="10.0.0.0/33 is no subnet",
        hint="use at most /32",
    )
    intent = Intent(rejected={BLUE: (problem,)})
    node = Node(intent=intent, report=LookReport(at=1, intent=intent))
    seen = view_of(node).read_networks(node.intent)
    assert seen.networks == {}
    assert seen.refused == {BLUE: "10.0.0.0/33 is no subnet (use at most /32)"}


def test_an_accepted_network_without_an_assignment_is_refused_by_its_condition() -> None:
    report = LookReport(at=1, intent=INTENT, conditions={BLUE: (NO_MODULE,)})
    seen = view_of(Node(intent=INTENT, report=report)).read_networks(INTENT)
    assert seen.refused == {BLUE: "no VLAN in this kernel"}


def test_the_device_of_a_ready_network_is_known_at_once_also_when_it_needs_none() -> None:
    node = Node(intent=INTENT, report=replace(LOOK, device_of={BLUE: ""}))
    assert view_of(node).ready_device(BLUE) == ""
    assert node.waits == []


def test_a_device_that_is_about_to_be_made_is_waited_for() -> None:
    node = Node(intent=INTENT, report=replace(LOOK, device_of={}), coming=[LOOK])
    assert view_of(node).ready_device(BLUE) == "vx700"
    assert node.waits == [WAIT_S]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conditions": {BLUE: (NO_MODULE,)}}, "no VLAN in this kernel"),
        ({"error": "the folder is gone"}, "the folder is gone"),
        ({}, "no look has got to it yet"),
    ],
)
def test_a_device_that_does_not_come_is_explained(change: dict[str, object], words: str) -> None:
    node = Node(intent=INTENT, report=replace(LOOK, device_of={}, **change))
    with pytest.raises(NotReadyError, match=words) as caught:
        view_of(node).ready_device(BLUE)
    assert caught.value.subject == "TenantNetwork/blue/internal"


def other(spec: NetworkSpec) -> NetworkSpec:
    return replace(spec, mtu=1400)


def test_a_network_changed_since_the_look_is_waited_for() -> None:
    changed = Intent(networks={BLUE: other(SPEC)})
    new = replace(LOOK, intent=changed, networks={BLUE: other(SPEC)})
    node = Node(intent=changed, report=LOOK, coming=[new])
    assert view_of(node).read_networks(node.intent).networks[BLUE].mtu == 1400


PENDING = Condition(
    type="SegmentAssigned",
    status=ConditionStatus.FALSE,
    reason=ASSIGNMENT_PENDING,
    message="no segment is assigned yet",
)
WAITING = LookReport(at=1, intent=INTENT, conditions={BLUE: (PENDING,)})


def test_a_network_that_is_given_its_segment_just_now_is_waited_for_if_it_is_asked_for() -> None:
    node = Node(intent=INTENT, report=WAITING, coming=[LOOK])
    assert BLUE in view_of(node).read_networks(INTENT).refused
    assert node.waits == []
    assert view_of(node).read_networks(INTENT, [BLUE]).networks == {BLUE: SPEC}
    assert node.waits == [WAIT_S]


def test_a_network_that_gets_no_segment_in_time_is_tried_again() -> None:
    with pytest.raises(NotReadyError, match="no segment is assigned yet"):
        view_of(Node(intent=INTENT, report=WAITING)).read_networks(INTENT, [BLUE])


BARE = network(nad_key("bare"), segment=None, backend="nad", conf="{}")
WIRED = network(nad_key("wired"), vni=700, backend="nad", conf="{}")


def test_a_nad_without_a_device_is_seen_before_any_look_went_by_it() -> None:
    node = Node(intent=Intent(networks={BLUE: SPEC, BARE.key: BARE}), report=LOOK)
    seen = view_of(node).read_networks(node.intent, [BARE.key])
    assert seen.networks == {BLUE: SPEC, BARE.key: BARE}
    assert (seen.refused, node.waits) == ({}, [])
    changed = replace(BARE, conf='{"type": "macvlan"}')
    node.intent = Intent(networks={BLUE: SPEC, BARE.key: changed})
    assert view_of(node).read_networks(node.intent, [BARE.key]).networks[BARE.key] == changed


def test_a_nad_with_a_device_is_waited_for_like_every_network() -> None:
    node = Node(intent=Intent(networks={WIRED.key: WIRED}), report=LOOK)
    with pytest.raises(NotReadyError):
        view_of(node).read_networks(node.intent, [WIRED.key])
    assert node.waits == [WAIT_S]


def test_what_a_nad_stands_for_is_waited_for_with_it() -> None:
    alias = replace(BARE, alias=BLUE)
    intent = Intent(networks={BLUE: SPEC, alias.key: alias})
    whole = replace(LOOK, intent=intent)
    empty = LookReport(at=0, intent=Intent(networks={alias.key: alias}))
    node = Node(intent=intent, report=empty, coming=[whole])
    assert view_of(node).read_networks(intent, [alias.key]).networks[BLUE] == SPEC
    assert node.waits == [WAIT_S]

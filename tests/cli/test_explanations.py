"""The answer of `danmpy explain` as a value."""

from __future__ import annotations

from danmpy.api.specs import PodSpec
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.cli.explanations import Decided, Explanation, Still, Trouble
from danmpy.errors import IntentError
from danmpy.intent.values import Intent
from danmpy.netwatcher.values import LookReport
from support.specs import ask, cluster_key, network


def test_an_explanation_of_nothing_still_has_every_field() -> None:
    answer = Explanation(namespace="blue", name="web", declared=False, attached=False).to_json()
    assert answer == {
        "pod": "blue/web",
        "uid": None,
        "node": None,
        "declared": False,
        "attached": False,
        "container_id": None,
        "since": None,
        "interfaces": [],
        "problems": [],
        "notes": [],
        "last": None,
    }


def test_a_problem_keeps_the_words_of_the_error_that_it_tells_of() -> None:
    trouble = Trouble.of(IntentError("wrong", hint="correct it", subject="Pod/blue/web"))
    assert trouble.to_json() == {
        "subject": "Pod/blue/web",
        "message": "wrong",
        "hint": "correct it",
    }


def test_an_interface_finds_its_entry_and_the_default_network_has_none() -> None:
    spec = InterfaceSpec(
        index=1,
        name="eth1",
        network=network(cluster_key("b")),
        backend=Backend.MACVLAN,
        ip=ask(cluster_key("b")).ip,
        ip6=ask(cluster_key("b")).ip6,
        mac=None,
        owns_addresses=True,
        ipv6=False,
        mtu=None,
    )
    asks = (ask(cluster_key("a")), ask(cluster_key("b")))
    assert Decided(asks=asks, specs=(spec,)).ask_of(spec) is asks[1]
    assert Decided(specs=(spec,)).ask_of(spec) is None
    assert Decided(asks=asks, given=asks[1:], specs=(spec,)).ask_of(spec) is None


def test_a_look_that_is_over_does_not_wait_for_another() -> None:
    report = LookReport(at=1)
    still = Still(intent=Intent(), report=report)
    assert still.wait_for(lambda _: False, 60.0) is report
    assert still.read_for("blue", "web-0", "") is still.intent
    pod = PodSpec(namespace="blue", name="web-0", uid="u")
    assert still.hear(still.intent, pod, ()) is still.intent

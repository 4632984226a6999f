from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.words import is_object_name
from danmpy.clock import from_rfc3339
from danmpy.mirrors.attachments import facts_of
from danmpy.mirrors.events import (
    EventReason,
    Occurrence,
    about_network,
    about_pod,
    attached_message,
    device_failures,
    device_occurrences,
    event_body,
    event_name,
    event_time,
    full_bucket,
    repeated,
    shortened,
)
from support.mirroring import EXT, INTERNAL, look, record, vxlan_network
from support.nads import nad_key

AT = from_rfc3339("2026-05-04T10:15:00.700000Z")
SECOND = 1_000_000


def failed(message: str = "no room", at: int = AT, **more: object) -> Occurrence:
    values = {
        "about": about_pod("blue", "web-1", "uid-1"),
        "reason": EventReason.ATTACH_FAILED,
        "message": message,
        "first": at,
        "last": at,
    }
    return Occurrence(**{**values, **more})  # type: ignore[arg-type]


def test_an_event_on_a_pod_is_in_its_namespace_and_says_who_tells() -> None:
    body = event_body(failed(), "node-a")
    assert body["metadata"]["namespace"] == "blue"
    assert body["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "blue",
        "name": "web-1",
        "uid": "uid-1",
    }
    assert (body["type"], body["reason"], body["message"]) == ("Warning", "AttachFailed", "no room")
    assert body["source"] == {"component": "danmpy-node", "host": "node-a"}
    assert body["firstTimestamp"] == body["lastTimestamp"] == "2026-05-04T10:15:00Z"
    assert body["count"] == 1


def test_an_event_on_a_nad_names_its_own_group() -> None:
    assert about_network(nad_key("n"), "u").api_version == "k8s.cni.cncf.io/v1"
    assert about_network(INTERNAL, "u").api_version == "danm.k8s.io/v1"


def test_an_event_on_a_network_without_a_namespace_is_in_default() -> None:
    body = event_body(failed(about=about_network(EXT, "u")), "node-a")
    assert body["metadata"]["namespace"] == "default"
    assert "namespace" not in body["involvedObject"]
    assert about_network(INTERNAL, "u").event_namespace == "blue"


@given(name=st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", fullmatch=True))
def test_the_name_of_an_event_is_one_for_every_object(name: str) -> None:
    if is_object_name(name):
        about = about_pod("blue", name, "u")
        assert is_object_name(event_name(failed(about=about), "node-a"))


def test_the_same_thing_has_one_name_and_another_thing_another() -> None:
    same = {event_name(failed(), "n"), event_name(failed("other words", AT + 5), "n")}
    others = {
        event_name(failed(), "m"),
        event_name(failed(reason=EventReason.ATTACHED), "n"),
        event_name(failed(about=about_pod("blue", "web-1", "uid-2")), "n"),
    }
    assert len(same) == 1
    assert len(same | others) == 4


def test_what_happens_again_raises_the_count_and_moves_the_time() -> None:
    both = failed("first").joined(failed("second", AT + SECOND))
    assert (both.first, both.last, both.count, both.message) == (AT, AT + SECOND, 2, "second")
    patch = repeated({"count": 3, "lastTimestamp": "2026-05-04T10:00:00Z"}, both)
    assert patch == {"count": 5, "message": "second", "lastTimestamp": "2026-05-04T10:15:01Z"}
    assert repeated({"count": None}, both)["count"] == 2


def test_what_is_told_again_after_a_restart_is_not_counted_twice() -> None:
    once = failed(once=True)
    assert repeated({"count": 1, "lastTimestamp": event_time(AT)}, once) == {}
    assert repeated({"count": 1, "lastTimestamp": event_time(AT - SECOND)}, once)["count"] == 2
    assert repeated({"count": 1, "lastTimestamp": None}, once)["count"] == 2
    assert repeated({"count": 1, "lastTimestamp": event_time(AT)}, failed())["count"] == 2


@pytest.mark.parametrize(
    ("namespace", "name", "sound"),
    [("blue", "web-1", True), ("", "ext", True), ("Blue", "web", False), ("blue", "we/b", False),
     ("blue", "", False), ("../x", "web", False)],
)  # fmt: skip
def test_objects_that_cannot_be_are_known(namespace: str, name: str, sound: bool) -> None:
    assert about_pod(namespace, name, "u").is_sound is sound


def test_messages_are_one_line_that_fits() -> None:
    assert shortened("a\nb\t c\x1b[1m") == "a b c\\x1b[1m"
    assert len(shortened("x" * 5000)) == 1024
    assert shortened("x" * 5000).endswith("...")


def test_an_attachment_is_told_with_its_addresses() -> None:
    bare = replace(facts_of(record()).interfaces[1], addresses=())
    facts = replace(facts_of(record()), interfaces=(facts_of(record()).interfaces[0], bare))
    assert attached_message(facts) == (
        "attached eth0 [10.0.0.2/24] on TenantNetwork/blue/internal; "
        "net1 [no address] on ClusterNetwork/ext"
    )


def test_a_device_is_told_of_when_it_fails_and_when_it_is_ready_again() -> None:
    one, two = vxlan_network(INTERNAL, 700), vxlan_network(EXT, 701)
    fine = look(one, two, at=1)
    broken = look(one, two, failed={EXT: "ens4 is down"}, at=2)
    assert list(device_occurrences({}, fine, "node-a")) == []
    (failure,) = device_occurrences(device_failures(fine), broken, "node-a")
    assert (failure.reason, failure.about.name, failure.last) == ("DeviceFailed", "ext", 2)
    assert "node-a" in failure.message
    assert "ens4 is down" in failure.message
    assert list(device_occurrences(device_failures(broken), broken, "node-a")) == []
    (ready,) = device_occurrences(device_failures(broken), fine, "node-a")
    assert (ready.reason, ready.reason.type) == ("DeviceReady", "Normal")
    assert "vx701" in ready.message


def test_a_network_that_waits_for_its_segment_or_is_gone_is_no_event() -> None:
    broken = look(vxlan_network(EXT, 701), failed={EXT: "ens4 is down"})
    waiting = replace(broken, networks={})
    assert list(device_occurrences({}, waiting, "node-a")) == []
    assert list(device_occurrences(device_failures(broken), waiting, "node-a")) == []


@given(
    burst=st.integers(1, 30),
    period=st.floats(0.1, 10),
    waits=st.lists(st.floats(-1, 20), max_size=60),
)
def test_a_bucket_gives_its_burst_and_then_no_more_than_its_rate(
    burst: int, period: float, waits: list[float]
) -> None:
    now, given = 100.0, 0
    bucket = full_bucket(burst, period, now)
    for wait in waits:
        now += wait  # also back: a clock that jumps gives nothing away
        bucket = bucket.refilled(now)
        after = bucket.taken()
        if after is None:
            assert bucket.patience_s > 0
            assert bucket.refilled(now + bucket.patience_s + 1e-6).taken() is not None
        else:
            bucket, given = after, given + 1
    forward = sum(wait for wait in waits if wait > 0)
    assert given <= burst + forward / period + 1e-6

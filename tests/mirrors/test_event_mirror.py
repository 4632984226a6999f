from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from danmpy.api.cni import CniRequest, Verb
from danmpy.attach.plugging.news import NewsKind, PodNews
from danmpy.clock import MICROSECONDS, wall_clock
from danmpy.errors import ExhaustedError
from danmpy.kube.client import KubeClient
from danmpy.kube.errors import UnreachableError
from danmpy.mirrors.attachments import AttachmentReader
from danmpy.mirrors.event_mirror import FRESH_S, MANY, OBJECT_BURST, EventMirror, EventPorts
from danmpy.netwatcher.values import LookReport
from support.mirroring import EXT, INTERNAL, ApiPods, Records, look, vxlan_network

pytestmark = pytest.mark.system

FULL = ExhaustedError("no address is left", hint="wait", subject="TenantNetwork/blue/internal")


class Told:
    """An event mirror and what it is made of."""

    def __init__(self, client: KubeClient, pods: ApiPods) -> None:
        self.pods = pods
        self.records = Records()
        self.report = LookReport(at=0)
        self.now = wall_clock()
        self.client: Any = client
        self.restart()

    def restart(self) -> None:
        ports = EventPorts(
            intent=self.pods.intent, report=lambda: self.report, clock=lambda: self.now
        )
        reader = AttachmentReader(self.records, self.pods.intent)
        self.mirror = EventMirror(self.client, reader, ports, "node-a")

    def fail(self, number: int = 1, uid: str = "", **more: Any) -> None:
        """An ADD of pod `number` that found no address."""
        args = {"K8S_POD_NAMESPACE": "blue", "K8S_POD_NAME": f"web-{number}", **more}
        if spec := self.pods.specs.get(("blue", f"web-{number}")):
            args["K8S_POD_UID"] = uid or spec.uid
        self.mirror.attach_failed(CniRequest(verb=Verb.ADD, version="1.1.0", args=args), FULL)


@pytest.fixture
def told(client: KubeClient, pods: ApiPods) -> Told:
    return Told(client, pods)


def test_an_attached_pod_has_an_event_with_its_addresses_also_over_restarts(told: Told) -> None:
    told.records.put(told.pods.make(1))
    told.mirror.run(0.0)
    told.mirror.run(1.0)
    told.restart()
    told.mirror.run(2.0)
    (event,) = told.pods.events("NetworksAttached")
    assert (event["count"], event["type"]) == (1, "Normal")
    assert "eth0 [10.0.0.2/24] on TenantNetwork/blue/internal" in event["message"]
    assert event["involvedObject"]["uid"] == told.pods.specs["blue", "web-1"].uid
    assert event["source"] == {"component": "danmpy-node", "host": "node-a"}
    again = told.records.records["c-1", "eth0"]
    told.records.put(replace(again, began_at=again.began_at + 5 * MICROSECONDS))
    told.mirror.run(3.0)
    (event,) = told.pods.events("NetworksAttached")
    assert event["count"] == 2


def test_news_of_the_daemon_about_a_pod_are_events_of_their_own(told: Told) -> None:
    record = told.pods.make(1)
    told.mirror.run(0.0)
    for kind, reason, severity in (
        (NewsKind.CHANGED, "InterfacesChanged", "Normal"),
        (NewsKind.REFUSED, "InterfacesRefused", "Warning"),
        (NewsKind.BROKEN, "NetworksBroken", "Warning"),
        (NewsKind.MENDED, "NetworksMended", "Normal"),
    ):
        told.mirror.tell(PodNews.of(record, kind, f"this is {kind}"))
        told.mirror.run(1.0)
        (event,) = told.pods.events(reason)
        assert (event["type"], event["message"]) == (severity, f"this is {kind}")
        assert event["involvedObject"]["uid"] == told.pods.specs["blue", "web-1"].uid


def test_what_was_attached_long_ago_is_not_told_again_after_a_restart(told: Told) -> None:
    old = told.pods.make(1)
    told.records.put(replace(old, began_at=told.now - (FRESH_S + 1) * MICROSECONDS))
    assert told.mirror.run(0.0) is None
    assert told.pods.events("NetworksAttached") == []


def test_an_attachment_whose_pod_is_not_known_yet_is_told_later(told: Told) -> None:
    told.records.put(told.pods.make(1))
    known = dict(told.pods.specs)
    told.pods.specs.clear()
    assert told.mirror.run(0.0) == 1.0
    told.pods.specs.update(known)
    assert told.mirror.run(1.0) is None
    assert len(told.pods.events("NetworksAttached")) == 1


def test_failures_of_one_pod_are_one_event_with_a_count_and_a_bounded_rate(told: Told) -> None:
    told.pods.make(1)
    for turn in range(OBJECT_BURST + 20):
        told.fail()
        told.now += MICROSECONDS
        wait = told.mirror.run(0.001 * turn)
    assert wait is not None
    assert 0 < wait <= 5
    (event,) = told.pods.events("AttachFailed")
    assert event["count"] == OBJECT_BURST
    assert "no address is left" in event["message"]
    assert told.mirror.run(5.1) is None  # the rest comes with the next permit
    (event,) = told.pods.events("AttachFailed")
    assert event["count"] == OBJECT_BURST + 20
    assert event["type"] == "Warning"
    assert event["firstTimestamp"] < event["lastTimestamp"]


def test_a_count_goes_on_after_a_restart_and_begins_anew_when_the_event_has_expired(
    told: Told,
) -> None:
    told.pods.make(1)
    told.fail()
    told.mirror.run(0.0)
    told.restart()
    told.now += MICROSECONDS
    told.fail()
    told.mirror.run(1.0)
    (event,) = told.pods.events("AttachFailed")
    assert event["count"] == 2
    told.pods.api.delete("Event", event["metadata"]["name"], "blue")
    told.fail()
    told.mirror.run(2.0)
    (event,) = told.pods.events("AttachFailed")
    assert event["count"] == 1


def test_a_static_pod_is_found_by_its_object(told: Told) -> None:
    told.pods.make(1)
    key = ("blue", "web-1")
    told.pods.specs[key] = replace(told.pods.specs[key], config_hash="of-the-node")
    told.fail(uid="of-the-node")
    told.mirror.run(0.0)
    (event,) = told.pods.events("AttachFailed")
    assert event["involvedObject"]["uid"] == told.pods.specs[key].uid


def test_what_has_no_place_for_an_event_is_dropped_and_stops_no_other(told: Told) -> None:
    told.pods.make(1)
    told.fail(K8S_POD_NAMESPACE="no-such-namespace")
    told.fail(K8S_POD_NAMESPACE="../../etc")
    told.fail()
    assert told.mirror.run(0.0) is None
    assert len(told.pods.events("AttachFailed")) == 1


def test_a_device_is_told_on_its_network_at_changes_only(told: Told) -> None:
    one, two = vxlan_network(INTERNAL, 700), vxlan_network(EXT, 701)
    told.report = look(one, two, failed={EXT: "ens4 is down"}, at=told.now)
    told.mirror.run(0.0)
    told.report = look(one, two, failed={EXT: "ens4 is down"}, at=told.now + 1)
    told.mirror.run(1.0)
    (event,) = told.pods.events("DeviceFailed", "default")
    assert (event["count"], event["involvedObject"]["name"]) == (1, "ext")
    told.report = look(one, two, failed={INTERNAL: "no room"}, at=told.now + 2)
    told.mirror.run(2.0)
    assert len(told.pods.events("DeviceReady", "default")) == 1
    (event,) = told.pods.events("DeviceFailed")
    assert event["involvedObject"]["namespace"] == "blue"


class Away:
    """An API server that does not answer."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*_args: Any, **_more: Any) -> Any:
            raise UnreachableError("away", hint="wait", subject=name)

        return refuse


def test_what_waits_while_the_server_is_away_is_bounded_and_written_when_it_is_back(
    told: Told, client: KubeClient
) -> None:
    told.mirror._cluster = Away()
    for number in range(MANY + 50):
        told.fail(number)
        if number % 100 == 0:
            with pytest.raises(UnreachableError):
                told.mirror.run(float(number))
    with pytest.raises(UnreachableError):
        told.mirror.run(0.0)
    told.fail(MANY + 49)
    told.mirror._cluster = client
    now = 10_000.0
    while (wait := told.mirror.run(now)) is not None:
        now += wait
    found = told.pods.events("AttachFailed")
    assert len(found) == MANY
    assert sum(each["count"] for each in found) == MANY + 1

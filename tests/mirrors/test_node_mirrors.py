from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from danmpy.api.nodes import OBSERVED_VTEPS
from danmpy.api.specs import NetworkSpec
from danmpy.errors import StoreError
from danmpy.intent.documents import Document
from danmpy.intent.parse import parse_documents
from danmpy.intent.values import Intent
from danmpy.kube.client import KubeClient
from danmpy.kube.errors import MissingError
from danmpy.mirrors.node_mirrors import LOST_S, REST_S, ReportMirror, VtepMirror
from danmpy.netwatcher.values import LookReport
from support.apiserver import ApiServer
from support.mirroring import EXT, INTERNAL, Records, look, record, vxlan_network
from support.mirrornode import Reports
from support.watching import node

ON_ENS4 = vxlan_network(INTERNAL, 700)


class Reported:
    """A report mirror on a real database."""

    def __init__(self, url: str) -> None:
        self.reports = Reports(url)
        self.records = Records()
        self.report = LookReport(at=0)
        self.restart()

    def restart(self) -> None:
        self.mirror = ReportMirror(self.reports, self.records, lambda: self.report, "node-a")

    def look(self, *networks: NetworkSpec) -> None:
        self.report = look(*networks, at=self.report.at + 1)

    def attached(self, network: str = str(INTERNAL)) -> int:
        return self.reports.store.read("node-a")[network].attached


@pytest.fixture
def told(sqlite_url: str) -> Iterator[Reported]:
    made = Reported(sqlite_url)
    yield made
    made.reports.close()


def test_nothing_is_said_before_the_first_look(told: Reported) -> None:
    assert told.mirror.run(0.0) is None
    assert told.reports.changes == 0


def test_rows_are_written_when_they_changed_and_only_then(told: Reported) -> None:
    told.look(ON_ENS4)
    told.mirror.run(0.0)
    assert told.attached() == 0
    told.look(ON_ENS4)
    told.mirror.run(REST_S)
    told.mirror.run(2 * REST_S)
    told.restart()
    told.mirror.run(3 * REST_S)
    assert told.reports.changes == 1
    told.records.put(record(1))
    told.mirror.run(4 * REST_S)
    assert (told.attached(), told.attached(str(EXT)), told.reports.changes) == (1, 1, 2)


def test_many_attachments_in_a_moment_are_one_write(told: Reported) -> None:
    told.look(ON_ENS4)
    told.mirror.run(0.0)
    waits = []
    for number in range(10):
        told.records.put(record(number))
        waits.append(told.mirror.run(0.05 * number + 0.01))
    assert all(wait is not None and wait > 0 for wait in waits)
    told.mirror.run(REST_S)
    assert (told.attached(), told.reports.changes) == (10, 2)


def test_a_database_that_is_away_is_written_when_it_is_back(told: Reported) -> None:
    told.look(ON_ENS4)
    told.reports.away = True
    for turn in range(3):
        with pytest.raises(StoreError):
            told.mirror.run(turn * REST_S)
    told.reports.away = False
    told.mirror.run(3 * REST_S)
    told.reports.away = True
    told.look()
    with pytest.raises(StoreError):
        told.mirror.run(4 * REST_S)
    told.reports.away = False
    told.mirror.run(5 * REST_S)
    assert told.reports.store.read("node-a") == {}


def test_a_device_that_an_earlier_daemon_made_is_reported_until_it_is_gone(told: Reported) -> None:
    told.look(ON_ENS4)
    told.mirror.run(0.0)
    told.restart()
    told.report = look(at=told.report.at + 1, kept_orphans=("vx700",))
    told.mirror.run(REST_S)
    assert told.reports.store.read("node-a")[str(INTERNAL)].segment == "vxlan:ens4:700"
    told.look()
    told.mirror.run(2 * REST_S)
    assert told.reports.store.read("node-a") == {}


@pytest.mark.system
class TestTunnelEnds:
    """On a real Node object."""

    def annotation(self, api: ApiServer) -> Any:
        found = api.get("Node", "node-a")
        assert found is not None
        text = found["metadata"].get("annotations", {}).get(OBSERVED_VTEPS)
        return None if text is None else json.loads(text)

    def intent(self, api: ApiServer) -> Intent:
        """What the source of a node reads of the objects."""
        items = [{**each, "kind": "Node", "apiVersion": "v1"} for each in api.list("Node")]
        return parse_documents([Document(where="api", body=each) for each in items])

    def test_they_are_published_kept_and_taken_back(
        self, apiserver: ApiServer, client: KubeClient
    ) -> None:
        apiserver.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}})
        one = node("n", ens4="192.0.2.1").vteps
        report = look(ON_ENS4, vteps=one, intent=self.intent(apiserver))
        mirror = VtepMirror(client, lambda: report, "node-a")
        mirror.run(0.0)
        assert self.annotation(apiserver) == {"ens4": ["192.0.2.1"]}
        intent = self.intent(apiserver)
        assert intent.problems == ()
        assert intent.nodes[0].vteps_on("ens4") == one["ens4"]
        version = self.version(apiserver)
        mirror.run(1.0)
        # The next daemon, whose parent has no address just now.
        report = look(ON_ENS4, vteps={}, intent=intent)
        mirror = VtepMirror(client, lambda: report, "node-a")
        mirror.run(0.0)
        assert self.version(apiserver) == version
        report = look(vteps={}, intent=replace(intent, complete=False))
        mirror.run(1.0)
        assert self.annotation(apiserver) == {"ens4": ["192.0.2.1"]}
        report = look(vteps={}, intent=intent)
        mirror.run(2.0)
        assert self.annotation(apiserver) is None

    def version(self, api: ApiServer) -> str:
        found = api.get("Node", "node-a")
        assert found is not None
        return str(found["metadata"]["resourceVersion"])

    def test_a_node_that_is_registered_anew_gets_them_again(
        self, apiserver: ApiServer, client: KubeClient
    ) -> None:
        manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}
        apiserver.apply(manifest)
        vteps = node("n", ens4="192.0.2.1").vteps
        report = look(ON_ENS4, vteps=vteps, intent=self.intent(apiserver))
        mirror = VtepMirror(client, lambda: report, "node-a")
        mirror.run(1000.0)
        apiserver.delete("Node", "node-a")
        apiserver.apply(manifest)
        report = look(ON_ENS4, vteps=vteps, intent=self.intent(apiserver))
        mirror.run(1000.0 + LOST_S + 1)
        assert self.annotation(apiserver) == {"ens4": ["192.0.2.1"]}

    def test_a_node_that_is_not_registered_is_tried_again(
        self, apiserver: ApiServer, client: KubeClient
    ) -> None:
        report = look(ON_ENS4, vteps=node("n", ens4="192.0.2.1").vteps)
        mirror = VtepMirror(client, lambda: report, "node-a")
        with pytest.raises(MissingError):
            mirror.run(0.0)
        apiserver.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}})
        mirror.run(1.0)
        assert self.annotation(apiserver) == {"ens4": ["192.0.2.1"]}

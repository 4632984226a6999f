"""All mirrors of a node on a real journal and a real API server that comes and goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from danmpy.api.cni import CniRequest, Verb
from danmpy.attach.journal import AttachmentRecord, Journal, Phase
from danmpy.attach.plugging.news import NewsKind, PodNews
from danmpy.clock import monotonic
from danmpy.errors import ExhaustedError
from danmpy.intent.values import Intent
from danmpy.kube.client import KubeClient, open_client
from danmpy.mirrors.service import MirrorPorts, Mirrors
from support.apiserver import ApiServer
from support.mirroring import ApiPods, look, record, vxlan_network
from support.mirrornode import MirrorNode, Reports, running
from support.netns import wait_until
from support.processes import REPOSITORY
from support.specs import tenant_key

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

MANY = 110


def told(pods: ApiPods, count: int) -> bool:
    """Is everything told of so many pods, and of no others?"""
    return (
        len(pods.endpoints()) == 3 * count
        and sum(len(pods.status(number)) == 3 for number in range(count)) >= count
    )


def detached(node: MirrorNode, shown: AttachmentRecord) -> None:
    node.journal.write(shown.with_phase(Phase.DETACHING))
    node.journal.remove(shown)


def test_an_attachment_is_told_within_a_second(
    tmp_path: Path, client: KubeClient, pods: ApiPods, sqlite_url: str
) -> None:
    with running(tmp_path, client, sqlite_url) as node:
        shown = pods.make(0)
        began = time.monotonic()
        node.journal.write(shown.with_phase(Phase.ADDING))
        node.journal.write(shown)
        wait_until(lambda: told(pods, 1), what="told")
        wait_until(lambda: pods.events("NetworksAttached"), what="event")
        assert time.monotonic() - began < 2.5
        detached(node, shown)
        wait_until(lambda: not pods.endpoints(), what="endpoints gone")


def test_a_server_that_is_away_during_a_hundred_pods_is_told_everything_later(
    tmp_path: Path, client: KubeClient, pods: ApiPods, sqlite_url: str
) -> None:
    records = [pods.make(number) for number in range(MANY)]
    with running(tmp_path, client, sqlite_url) as node:
        wait_until(lambda: len(node.source.read().pods) == MANY, what="cache")
        for number, shown in enumerate(records):
            if number == 30:
                pods.api.kill()
            node.journal.write(shown)
            time.sleep(0.01)
        for shown in records[:10]:  # detached while nobody can be told
            detached(node, shown)
        time.sleep(3)
        pods.api.start()
        left = records[10:]
        wait_until(lambda: len(pods.endpoints()) == 3 * len(left), seconds=30, what="endpoints")
        assert {each["spec"]["CID"] for each in pods.endpoints()} == {
            each.container_id for each in left
        }
        wait_until(
            lambda: all(len(pods.status(number)) == 3 for number in range(10, MANY)),
            seconds=30,
            what="network-status",
        )
        wait_until(
            lambda: len(pods.events("NetworksAttached")) >= len(left), seconds=60, what="events"
        )
        assert all(each["count"] == 1 for each in pods.events("NetworksAttached"))


SCRIPT = """
import sys, threading
from pathlib import Path
from danmpy.kube.client import open_client
from support.mirrornode import MirrorNode
node = MirrorNode(Path(sys.argv[1]), open_client(Path(sys.argv[2])), sys.argv[3])
threading.Event().wait()
"""


def test_a_daemon_that_is_killed_in_the_middle_leaves_nothing_that_the_next_does_not_settle(
    tmp_path: Path, client: KubeClient, pods: ApiPods, sqlite_url: str
) -> None:
    records = [pods.make(number) for number in range(40)]
    with running(tmp_path, client, sqlite_url) as node:
        for shown in records[:20]:
            node.journal.write(shown)
        wait_until(lambda: len(pods.endpoints()) == 60, seconds=20, what="first half")
    journal = Journal(tmp_path)
    journal.open()
    for shown in records[20:]:
        journal.write(shown)
    for shown in records[:10]:
        journal.remove(shown)
    journal.close()
    argv = [sys.executable, "-c", SCRIPT, str(tmp_path), str(pods.api.kubeconfig()), sqlite_url]
    path = os.pathsep.join((str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")))
    with subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": path}) as process:
        try:
            wait_until(
                lambda: any(
                    each["spec"]["CID"] == records[20].container_id for each in pods.endpoints()
                ),
                seconds=30,
                every=0.005,
                what="it has begun with the second half",
            )
        finally:
            process.send_signal(signal.SIGKILL)
    with running(tmp_path, client, sqlite_url):
        left = sorted(each.container_id for each in records[10:] for _ in range(3))
        wait_until(
            lambda: sorted(each["spec"]["CID"] for each in pods.endpoints()) == left,
            seconds=30,
            what="settled",
        )
        wait_until(
            lambda: all(len(pods.status(number)) == 3 for number in range(10, 40)),
            seconds=30,
            what="network-status",
        )
        wait_until(
            lambda: (
                {each["involvedObject"]["name"] for each in pods.events("NetworksAttached")}
                >= {f"web-{number}" for number in range(10, 40)}
            ),
            seconds=30,
            what="events",
        )
        assert all(each["count"] == 1 for each in pods.events("NetworksAttached"))


def test_a_failed_add_is_an_event_and_costs_the_runtime_nothing(
    tmp_path: Path, client: KubeClient, pods: ApiPods, sqlite_url: str
) -> None:
    pods.make(1)
    call = CniRequest(
        verb=Verb.ADD,
        version="1.1.0",
        args={
            "K8S_POD_NAMESPACE": "blue",
            "K8S_POD_NAME": "web-1",
            "K8S_POD_UID": pods.specs["blue", "web-1"].uid,
        },
    )
    error = ExhaustedError("no address is left", hint="wait", subject="TenantNetwork/blue/a")
    with running(tmp_path, client, sqlite_url) as node:
        costs = []
        for _ in range(200):
            began = monotonic()
            node.mirrors.attach_failed(call, error)
            costs.append(monotonic() - began)
        assert sorted(costs)[100] < 0.0002
        wait_until(lambda: pods.events("AttachFailed"), what="event")
        wait_until(lambda: pods.events("AttachFailed")[0]["count"] == 200, what="all are counted")
        node.mirrors.tell(PodNews.of(record(1), NewsKind.BROKEN, "eth1 is gone"))
        wait_until(lambda: pods.events("NetworksBroken"), what="event of the daemon's own")


def test_a_node_without_an_api_server_only_reports_its_rows(
    tmp_path: Path, sqlite_url: str
) -> None:
    journal = Journal(tmp_path)
    journal.open()
    journal.write(record(1))
    reports = Reports(sqlite_url)
    report = look(vxlan_network(tenant_key("internal"), 700))
    mirrors = Mirrors(
        MirrorPorts(records=journal, intent=Intent, report=lambda: report, reports=reports),
        "node-a",
    )
    journal.listen(mirrors.wake)
    mirrors.start()
    try:
        mirrors.attach_failed(
            CniRequest(verb=Verb.ADD, version="1.1.0"), ExhaustedError("x", hint="")
        )

        def attached() -> Any:
            row = reports.read("node-a").get("TenantNetwork/blue/internal")
            return row and row.attached

        wait_until(lambda: attached() == 1, what="row")
        journal.write(record(2))
        wait_until(lambda: attached() == 2, what="row of the second pod")
    finally:
        mirrors.close()
        journal.close()
        reports.close()


def test_a_token_without_rights_stops_nothing_but_itself(
    tmp_path: Path, apiserver: ApiServer, pods: ApiPods, sqlite_url: str
) -> None:
    stranger = open_client(apiserver.kubeconfig("stranger"))
    with running(tmp_path, stranger, sqlite_url) as node:
        node.journal.write(pods.make(0))
        wait_until(lambda: node.reports.store.read("node-a"), what="rows in the database")
    stranger.close()
    assert pods.endpoints() == []

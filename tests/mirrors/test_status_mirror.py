from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from danmpy.api.dialects.keys import GENIE_PREFERENCES
from danmpy.attach.journal import Phase
from danmpy.kube.client import KubeClient
from danmpy.mirrors.attachments import AttachmentReader
from danmpy.mirrors.status_mirror import StatusMirror
from support.mirroring import STATUS, ApiPods, Records, record

pytestmark = pytest.mark.system


def mirror(client: KubeClient, records: Records, pods: ApiPods) -> StatusMirror:
    return StatusMirror(client, AttachmentReader(records, pods.intent))


def stored(pods: ApiPods, number: int) -> dict[str, Any]:
    found = pods.api.get("Pod", f"web-{number}", "blue")
    assert found is not None
    return found


def test_a_pod_is_told_its_networks_and_keeps_its_other_annotations(
    client: KubeClient, pods: ApiPods
) -> None:
    records = Records()
    records.put(pods.make(1))
    pods.api.patch("Pod", "web-1", {"metadata": {"annotations": {"a": "b"}}}, "blue")
    assert mirror(client, records, pods).run(0.0) is None
    entries = pods.status(1)
    assert [each["interface"] for each in entries] == ["eth0", "net1", "net2"]
    assert [each["default"] for each in entries] == [True, False, False]
    assert entries[0]["name"] == "blue/internal"
    assert entries[0]["ips"] == ["10.0.0.2"]
    assert stored(pods, 1)["metadata"]["annotations"]["a"] == "b"


def test_the_next_daemon_writes_only_what_differs(client: KubeClient, pods: ApiPods) -> None:
    records = Records()
    records.put(pods.make(1), pods.make(2))
    mirror(client, records, pods).run(0.0)
    before = [stored(pods, number)["metadata"]["resourceVersion"] for number in (1, 2)]
    pods.api.patch("Pod", "web-2", {"metadata": {"annotations": {STATUS: "[]"}}}, "blue")
    mirror(client, records, pods).run(0.0)
    assert stored(pods, 1)["metadata"]["resourceVersion"] == before[0]
    assert len(pods.status(2)) == 3


def test_a_new_sandbox_is_told_in_place_of_the_old_one(client: KubeClient, pods: ApiPods) -> None:
    records = Records()
    old = pods.make(1)
    records.put(old)
    written = mirror(client, records, pods)
    written.run(0.0)
    other = record(7)
    new = replace(
        old,
        container_id="c-new",
        began_at=old.began_at + 1,
        links=other.links,
        result=other.result,
    )
    records.put(new)
    written.run(1.0)
    assert pods.status(1)[0]["ips"] == ["10.0.0.8"]
    records.put(old.with_phase(Phase.DETACHING))
    written.run(2.0)
    assert pods.status(1)[0]["ips"] == ["10.0.0.8"]


def test_a_pod_of_the_same_name_is_not_told_of_another_ones_networks(
    client: KubeClient, pods: ApiPods
) -> None:
    records = Records()
    records.put(pods.make(1))
    pods.api.delete("Pod", "web-1", "blue")
    old = dict(pods.specs)
    pods.make(1)
    pods.specs.update(old)  # the watch has not told of the new one yet
    written = mirror(client, records, pods)
    assert written.run(0.0) is None
    assert pods.status(1) == []


def test_a_pod_that_is_gone_is_fine(client: KubeClient, pods: ApiPods) -> None:
    records = Records()
    records.put(pods.make(1), pods.make(2))
    pods.api.delete("Pod", "web-1", "blue")
    assert mirror(client, records, pods).run(0.0) is None
    assert len(pods.status(2)) == 3


def test_what_is_refused_for_one_pod_is_written_for_the_others(
    client: KubeClient, pods: ApiPods
) -> None:
    records = Records()
    big = pods.make(1)
    link = replace(big.links[0], name="x" * 300_000)  # annotations end at 256 KiB
    records.put(replace(big, links=(link,), result={}), pods.make(2))
    written = mirror(client, records, pods)
    wait = written.run(0.0)
    assert wait is not None
    assert 0 < wait <= 1
    assert (pods.status(1), len(pods.status(2))) == ([], 3)


def test_a_pod_that_is_not_known_yet_is_waited_for(client: KubeClient, pods: ApiPods) -> None:
    records = Records()
    records.put(pods.make(1))
    known = dict(pods.specs)
    pods.specs.clear()
    written = mirror(client, records, pods)
    assert written.run(0.0) == 1.0
    pods.specs.update(known)
    assert written.run(1.0) is None
    assert len(pods.status(1)) == 3


def test_a_pod_that_has_cni_genies_annotation_finds_its_addresses_there(
    client: KubeClient, pods: ApiPods
) -> None:
    records = Records()
    records.put(pods.make(1), pods.make(2))
    before = {GENIE_PREFERENCES: '{"multi_entry": 0, "ips": {"": {"ip": "", "interface": ""}}}'}
    pods.api.patch("Pod", "web-1", {"metadata": {"annotations": before}}, "blue")
    one = pods.specs["blue", "web-1"]
    pods.specs["blue", "web-1"] = replace(one, annotations=before)
    written = mirror(client, records, pods)
    written.run(0.0)
    filled = stored(pods, 1)["metadata"]["annotations"][GENIE_PREFERENCES]
    assert json.loads(filled) == {
        "multi_entry": 3,
        "ips": {
            "ip1": {"ip": "10.0.0.2", "interface": "eth0"},
            "ip2": {"ip": "10.1.0.2", "interface": "net1"},
            "ip3": {"ip": "10.2.0.2", "interface": "net2"},
        },
    }
    assert len(pods.status(1)) == 3
    assert GENIE_PREFERENCES not in stored(pods, 2)["metadata"]["annotations"]
    version = stored(pods, 1)["metadata"]["resourceVersion"]
    pods.specs["blue", "web-1"] = replace(one, annotations={GENIE_PREFERENCES: filled})
    written.run(1.0)
    assert stored(pods, 1)["metadata"]["resourceVersion"] == version, (
        "what we wrote changes nothing"
    )

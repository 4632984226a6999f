from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from danmpy.attach.journal import Phase
from danmpy.kube.client import KubeClient
from danmpy.kube.errors import UnreachableError
from danmpy.mirrors.attachments import AttachmentReader
from danmpy.mirrors.endpoint_mirror import RELIST_S, EndpointMirror
from danmpy.mirrors.endpoints import NODE_LABEL
from support.mirroring import ApiPods, Records

pytestmark = pytest.mark.system


def mirror(
    client: KubeClient, records: Records, pods: ApiPods, node: str = "node-a"
) -> EndpointMirror:
    return EndpointMirror(client, AttachmentReader(records, pods.intent), node)


def versions(pods: ApiPods) -> dict[str, str]:
    return {
        each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in pods.endpoints()
    }


def test_an_endpoint_is_made_for_each_interface_and_goes_with_the_attachment(
    client: KubeClient, pods: ApiPods
) -> None:
    records = Records()
    records.put(pods.make(1, tier="front"), pods.make(2))
    written = mirror(client, records, pods)
    assert (written.run(0.0) or 0) > RELIST_S - 1
    found = pods.endpoints()
    assert len(found) == 6
    (first,) = [
        each
        for each in found
        if (each["spec"]["Pod"], each["spec"]["Interface"]["Name"]) == ("web-1", "eth0")
    ]
    assert first["metadata"]["labels"] == {"app": "web", "tier": "front", NODE_LABEL: "node-a"}
    (owner,) = first["metadata"]["ownerReferences"]
    assert owner["uid"] == pods.specs["blue", "web-1"].uid
    assert first["spec"]["EndpointID"] == first["metadata"]["name"]
    assert first["spec"]["Interface"]["proutes"] == {}  # the schema keeps every field
    del records.records["c-1", "eth0"]
    written.run(1.0)
    assert {each["spec"]["Pod"] for each in pods.endpoints()} == {"web-2"}


def test_what_is_as_it_should_be_is_not_written_again_also_by_the_next_daemon(
    client: KubeClient, pods: ApiPods
) -> None:
    records = Records()
    records.put(pods.make(1))
    first = mirror(client, records, pods)
    first.run(0.0)
    before = versions(pods)
    first.run(1.0)
    mirror(client, records, pods).run(0.0)
    assert versions(pods) == before


def test_a_label_that_changes_on_the_pod_changes_on_its_endpoints(
    client: KubeClient, pods: ApiPods
) -> None:
    records = Records()
    records.put(pods.make(1, tier="front"))
    written = mirror(client, records, pods)
    written.run(0.0)
    key = ("blue", "web-1")
    pods.specs[key] = replace(pods.specs[key], labels={"app": "db"})
    written.run(1.0)
    for each in pods.endpoints():
        assert each["metadata"]["labels"] == {"app": "db", NODE_LABEL: "node-a"}


def test_what_is_left_of_attachments_that_ended_while_no_daemon_ran_is_taken_away(
    client: KubeClient, pods: ApiPods
) -> None:
    records = Records()
    records.put(pods.make(1), pods.make(2))
    mirror(client, records, pods).run(0.0)
    del records.records["c-1", "eth0"]
    records.complete = False  # then absence proves nothing
    written = mirror(client, records, pods)
    written.run(0.0)
    assert len(pods.endpoints()) == 6
    del records.records["c-2", "eth0"]  # of that it knows for certain
    written.run(1.0)
    assert {each["spec"]["Pod"] for each in pods.endpoints()} == {"web-1"}
    records.complete = True
    mirror(client, records, pods).run(0.0)
    assert pods.endpoints() == []


def stranger(like: dict[str, Any], name: str, **labels: str) -> dict[str, Any]:
    made = copy.deepcopy(like)
    made["metadata"] = {"name": name, "namespace": "blue", "labels": labels}
    return made


def test_endpoints_of_others_are_left_alone(client: KubeClient, pods: ApiPods) -> None:
    records = Records()
    records.put(pods.make(1))
    written = mirror(client, records, pods)
    written.run(0.0)
    one = pods.endpoints()[0]
    # DANM's own of a pod that has our label, one without labels, one of another node.
    pods.api.create(stranger(one, "danms-own", **{NODE_LABEL: "node-a"}))
    pods.api.create(stranger(one, "by-hand"))
    others = Records()
    others.put(replace(pods.make(2), container_id="c-other"))
    mirror(client, others, pods, "node-b").run(0.0)
    records.records.clear()
    mirror(client, records, pods).run(0.0)
    left = {each["metadata"]["name"] for each in pods.endpoints()} - {"danms-own", "by-hand"}
    assert {"danms-own", "by-hand"} < {each["metadata"]["name"] for each in pods.endpoints()}
    assert len(left) == 3


def test_a_stranger_with_the_name_of_ours_stays_and_stops_no_other(
    client: KubeClient, pods: ApiPods
) -> None:
    records = Records()
    records.put(pods.make(1))
    mirror(client, records, pods).run(0.0)
    one, *_ = pods.endpoints()
    name = one["metadata"]["name"]
    pods.api.delete("DanmEp", name, "blue")
    pods.api.create(stranger(one, name))
    written = mirror(client, records, pods)
    wait = written.run(0.0)
    assert wait is not None
    assert 0 < wait <= 1  # it is tried again, but not at once
    kept = pods.api.get("DanmEp", name, "blue")
    assert kept is not None
    assert NODE_LABEL not in kept["metadata"].get("labels", {})
    records.put(pods.make(2))
    written.run(0.1)
    assert len(pods.endpoints()) == 6


def test_a_write_whose_answer_was_lost_is_found_out(client: KubeClient, pods: ApiPods) -> None:
    class Lossy:
        """The server does as asked, and the answer does not arrive."""

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def create(self, *args: Any) -> Any:
            client.create(*args)
            raise UnreachableError("lost", hint="wait", subject="x")

    records = Records()
    records.put(pods.make(1))
    reader = AttachmentReader(records, pods.intent)
    lossy = Lossy()
    written = EndpointMirror(lossy, reader, "node-a")
    with pytest.raises(UnreachableError):
        written.run(0.0)
    written._cluster = client
    assert written.run(1.0) == 0.0
    written.run(1.0)
    assert len(pods.endpoints()) == 3
    before = versions(pods)
    written.run(2.0)
    assert versions(pods) == before


def test_one_that_a_person_deleted_or_changed_comes_back(client: KubeClient, pods: ApiPods) -> None:
    records = Records()
    records.put(pods.make(1))
    written = mirror(client, records, pods)
    written.run(0.0)
    gone, changed, _ = pods.endpoints()
    pods.api.delete("DanmEp", gone["metadata"]["name"], "blue")
    pods.api.patch("DanmEp", changed["metadata"]["name"], {"spec": {"Host": "mars"}}, "blue")
    written.run(RELIST_S * 2 + 1.0)
    assert {each["spec"]["Host"] for each in pods.endpoints()} == {"node-a"}
    assert len(pods.endpoints()) == 3
    # Deleted without a listing in between: the next change of it finds out.
    pods.api.delete("DanmEp", gone["metadata"]["name"], "blue")
    key = ("blue", "web-1")
    pods.specs[key] = replace(pods.specs[key], labels={"app": "db"})
    assert written.run(RELIST_S * 2 + 2.0) == 0.0
    written.run(RELIST_S * 2 + 3.0)
    assert len(pods.endpoints()) == 3


def test_a_pod_that_is_not_known_yet_is_waited_for_and_one_that_is_gone_is_not_written(
    client: KubeClient, pods: ApiPods
) -> None:
    records = Records()
    records.put(pods.make(1))
    known = dict(pods.specs)
    pods.specs.clear()
    written = mirror(client, records, pods)
    assert written.run(0.0) == 1.0
    assert pods.endpoints() == []
    pods.specs.update(known)
    written.run(1.0)
    assert len(pods.endpoints()) == 3
    pods.specs.clear()  # its object is gone, and the runtime has not detached it yet
    written.run(2.0)
    assert len(pods.endpoints()) == 3
    # Made again with the same name: the old attachment is none of the new pod's.
    pods.specs["blue", "web-1"] = replace(known["blue", "web-1"], uid="new")
    written.run(3.0)
    assert len(pods.endpoints()) == 3


def test_an_attachment_that_is_made_again_keeps_its_endpoints(
    client: KubeClient, pods: ApiPods
) -> None:
    records = Records()
    shown = pods.make(1)
    records.put(shown)
    written = mirror(client, records, pods)
    written.run(0.0)
    before = versions(pods)
    records.put(shown.with_phase(Phase.ADDING))
    written.run(1.0)
    assert versions(pods) == before
    records.put(shown.with_phase(Phase.DETACHED))
    written.run(2.0)
    assert pods.endpoints() == []


def test_a_namespace_that_ends_refuses_its_own_and_no_other(
    client: KubeClient, pods: ApiPods
) -> None:
    records = Records()
    shown = pods.make(1)
    records.put(shown, replace(shown, container_id="c-9", namespace="gone"))
    pods.specs["gone", "web-1"] = replace(pods.specs["blue", "web-1"], namespace="gone")
    written = mirror(client, records, pods)
    wait = written.run(0.0)
    assert wait is not None
    assert 0 < wait <= 1
    assert len(pods.endpoints()) == 3

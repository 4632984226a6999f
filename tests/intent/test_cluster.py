"""The wishes in a real API server: followed, kept while it is away, looked up for one pod."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from danmpy.api.dialects.reading import read_pod
from danmpy.api.specs import NetworkKind, PodSpec
from danmpy.errors import ClusterError, NotReadyError
from danmpy.intent.cluster import ClusterSource
from danmpy.intent.values import Intent
from danmpy.kube.client import KubeClient, open_client
from danmpy.kube.reflector import Pace
from danmpy.kube.resources import Resource
from support.apiserver import ApiServer, ApiServers, free_port
from support.following import soon, threads_named
from support.interpose import Interposer
from support.manifests import config_manifest, network_manifest
from support.specs import cluster_key, danm_key, tenant_key

pytestmark = pytest.mark.system

NODE = "node-a"


def pod(name: str, *interfaces: dict[str, str], node: str = NODE, **metadata: Any) -> Any:
    annotations = {"danm.k8s.io/interfaces": json.dumps(interfaces)} if interfaces else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "blue",
            "annotations": annotations | metadata.pop("annotations", {}),
            **metadata,
        },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "none"}],
        },
    }


class Watched:
    """A source that watches in a thread, and how often it asked for a look."""

    def __init__(self, source: ClusterSource) -> None:
        self.source = source
        self.asked = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=source.watch, args=(self._ask, self._stop), daemon=True
        )

    def _ask(self) -> None:
        self.asked += 1

    def start(self) -> Watched:
        self._thread.start()
        soon(lambda: self.asked > 0)
        return self

    def close(self) -> float:
        began = time.monotonic()
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)
        return time.monotonic() - began

    @property
    def intent(self) -> Intent:
        return self.source.read()


class Watches:
    """Makes sources that watch, and ends them after the test."""

    def __init__(self) -> None:
        self._made: list[Watched] = []

    def __call__(
        self,
        client: KubeClient,
        *,
        node: str | None = NODE,
        keep_status: bool = False,
        pace: Pace | None = None,
    ) -> Watched:
        source = ClusterSource(client, node_name=node, keep_status=keep_status, pace=pace)
        self._made.append(Watched(source).start())
        return self._made[-1]

    def close(self) -> None:
        for each in self._made:
            each.close()


@pytest.fixture
def watches(apiserver: ApiServer) -> Iterator[Watches]:
    made = Watches()
    yield made
    made.close()


@pytest.fixture
def blue(apiserver: ApiServer) -> ApiServer:
    """The server with a namespace, a node, networks of every kind and a config."""
    apiserver.make_namespace("blue")
    apiserver.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    addresses = [{"type": "InternalIP", "address": "192.0.2.1"}]
    apiserver.patch_status("Node", NODE, {"addresses": addresses})
    for manifest in (
        network_manifest("TenantNetwork", "internal", "blue", cidr="10.1.0.0/24"),
        network_manifest("ClusterNetwork", "front", host_device="ens4", vxlan=700),
        network_manifest("DanmNet", "old", "blue"),
        config_manifest({"name": "ens4", "vniType": "vxlan", "vniRange": "800-899"}),
    ):
        apiserver.create(manifest)
    return apiserver


def hear(source: ClusterSource, uid: str) -> Intent:
    """What an ADD of the pod blue/web goes by."""
    intent = source.read_for("blue", "web", uid)
    found = intent.pods["blue", "web"]
    return source.hear(intent, found, read_pod(found).interfaces)


def whole(watched: Watched) -> Intent:
    soon(lambda: watched.intent.complete)
    return watched.intent


# Reading


def test_everything_that_people_want_is_heard(
    blue: ApiServer, client: KubeClient, watches: Watches
) -> None:
    blue.create(pod("here", {"tenantNetwork": "internal"}, labels={"app": "x"}))
    blue.create(pod("there", node="node-b"))
    watched = watches(client)
    intent = whole(watched)
    assert set(intent.networks) == {
        tenant_key("internal"),
        cluster_key("front"),
        danm_key("old"),
    }
    assert intent.problems == ()
    assert [config.name for config in intent.tenant_configs] == ["tenants"]
    assert [(node.name, bool(node.vteps)) for node in intent.nodes] == [(NODE, True)]
    assert list(intent.pods) == [("blue", "here")]
    assert intent.pods["blue", "here"].labels == {"app": "x"}
    stored = blue.get("TenantNetwork", "internal", "blue")
    assert stored is not None
    assert intent.networks[tenant_key("internal")].uid == stored["metadata"]["uid"]
    assert watched.source.network_objects() == {}


def test_a_controller_hears_of_the_pods_of_all_nodes_and_keeps_networks(
    blue: ApiServer, client: KubeClient, watches: Watches
) -> None:
    blue.create(pod("here"))
    blue.create(pod("there", node="node-b"))
    watched = watches(client, node=None, keep_status=True)
    assert set(whole(watched).pods) == {("blue", "here"), ("blue", "there")}
    objects = watched.source.network_objects()
    assert set(objects) == set(watched.intent.networks)
    blue.patch_status("TenantNetwork", "internal", {"device": "vx800"}, "blue")
    key = tenant_key("internal")
    soon(lambda: watched.source.network_objects()[key].status.get("device") == "vx800")
    before = watched.source.network_objects()[key].resource_version
    assert int(before) > int(objects[key].resource_version)


def test_commands_list_once_and_each_time(blue: ApiServer, client: KubeClient) -> None:
    source = ClusterSource(client, node_name=None)
    first = source.read()
    assert first.complete
    assert len(first.networks) == 3
    assert source.read() is first
    blue.create(network_manifest("ClusterNetwork", "new"))
    assert cluster_key("new") in source.read().networks
    blue.delete("ClusterNetwork", "new")
    assert cluster_key("new") not in source.read().networks
    assert not threads_named("watch-")


def test_commands_are_told_in_words_that_nobody_answers(blue: ApiServer, tmp_path: Path) -> None:
    path = tmp_path / "config"
    nowhere = blue.kubeconfig().read_text().replace(str(blue.port), str(free_port()))
    path.write_text(nowhere)
    source = ClusterSource(open_client(path), node_name=None)
    began = time.monotonic()
    intent = source.read()
    assert time.monotonic() - began < 2
    assert not intent.complete
    (problem,) = intent.problems
    assert "does not answer" in problem.message
    assert problem.subject.startswith("API server https://127.0.0.1:")
    assert "check that it runs" in problem.hint
    began = time.monotonic()
    assert source.with_pod(intent, ("blue", "web")) is intent, "it is not asked again"
    assert time.monotonic() - began < 0.1


def test_what_was_listed_before_does_not_make_a_failed_list_complete(
    blue: ApiServer, through: KubeClient, interposer: Interposer
) -> None:
    source = ClusterSource(through, node_name=None)
    assert source.read().complete
    interposer.refusing = True
    interposer.cut()
    assert not source.read().complete
    interposer.refusing = False
    assert source.read().complete


def test_a_missing_kind_of_ours_makes_it_incomplete_until_it_comes(
    apiservers: ApiServers, watches: Watches
) -> None:
    server = apiservers.make(crds=False)
    client = open_client(server.kubeconfig())
    watched = watches(client, pace=Pace(missing_after=0.3, missing_wait=0.3))
    soon(lambda: any(each.code == "KindNotServed" for each in watched.intent.problems))
    assert not watched.intent.complete
    hints = {each.code: each.hint for each in watched.intent.problems}
    assert "danmpy crds" in hints["KindNotServed"]
    intent = ClusterSource(client).read()
    assert not intent.complete
    (problem,) = intent.problems
    assert problem.subject == "TenantConfig, ClusterNetwork, DanmNet, TenantNetwork"
    assert "KindNotServed" in watched.source.waits_for()
    server.apply_crds()
    soon(lambda: watched.intent.complete, 10)
    assert watched.intent.problems == ()
    assert watched.source.waits_for() == ""
    watches.close()
    client.close()


def test_several_configs_are_merged_in_the_order_of_their_names(
    apiserver: ApiServer, client: KubeClient, watches: Watches
) -> None:
    for number, name in enumerate(("c", "a", "b")):
        ids = f"{100 * number + 100}-{100 * number + 150}"
        manifest = config_manifest({"name": "ens4", "vniType": "vlan", "vniRange": ids})
        manifest["metadata"]["name"] = name
        apiserver.create(manifest)
    intent = whole(watches(client))
    assert [config.name for config in intent.tenant_configs] == ["a", "b", "c"]


def test_what_breaks_is_refused_and_keeps_its_wire(
    blue: ApiServer, client: KubeClient, watches: Watches
) -> None:
    watched = watches(client)
    wire = whole(watched).networks[cluster_key("front")].segment
    blue.patch("ClusterNetwork", "front", {"spec": {"Options": {"cidr": "no subnet"}}})
    soon(lambda: cluster_key("front") in watched.intent.rejected)
    assert watched.intent.problems[0].where == "ClusterNetwork/front"
    blue.patch("ClusterNetwork", "front", {"spec": {"Options": {"host_device": None}}})
    time.sleep(0.3)
    assert wire in watched.intent.claims
    assert watched.intent.complete


# Changes


def test_only_what_a_look_needs_asks_for_one(
    blue: ApiServer, client: KubeClient, watches: Watches
) -> None:
    watched = watches(client)
    whole(watched)
    time.sleep(0.3)
    before, asked = watched.intent, watched.asked
    blue.patch_status("Node", NODE, {"conditions": [{"type": "Ready", "status": "True"}]})
    conditions = [{"type": "Ready", "status": "True"}]
    blue.patch_status("TenantNetwork", "internal", {"conditions": conditions}, "blue")
    blue.patch("TenantConfig", "tenants", {"metadata": {"labels": {"any": "thing"}}})
    time.sleep(0.5)
    assert watched.intent is before
    assert watched.asked == asked
    blue.create(pod("web"))
    soon(lambda: ("blue", "web") in watched.intent.pods)
    assert watched.asked == asked
    assert watched.intent.networks is before.networks
    segment = {"parent": "ens4", "kind": "vxlan", "id": 800}
    blue.patch_status("TenantNetwork", "internal", {"segment": segment}, "blue")
    soon(lambda: watched.asked == asked + 1)
    with_web = watched.intent
    assert with_web is not before
    blue.create(network_manifest("ClusterNetwork", "new"))
    soon(lambda: watched.asked == asked + 2)
    assert cluster_key("new") in watched.intent.networks


def test_a_network_that_is_being_deleted_says_so(
    blue: ApiServer, client: KubeClient, watches: Watches
) -> None:
    watched = watches(client, keep_status=True)
    key = tenant_key("internal")
    assert not whole(watched).networks[key].terminating
    finalizers = {"metadata": {"finalizers": ["danm.k8s.io/network"]}}
    blue.patch("TenantNetwork", "internal", finalizers, "blue")
    blue.delete("TenantNetwork", "internal", "blue")
    soon(lambda: watched.intent.networks[key].terminating)
    assert watched.source.network_objects()[key].terminating
    blue.patch("TenantNetwork", "internal", {"metadata": {"finalizers": []}}, "blue")
    soon(lambda: key not in watched.intent.networks)


# The server goes


def test_a_lost_server_changes_nothing_and_is_caught_up_when_it_is_back(
    blue: ApiServer, client: KubeClient, watches: Watches
) -> None:
    blue.create(pod("web"))
    watched = watches(client)
    before = whole(watched)
    asked = watched.asked
    blue.kill()
    time.sleep(3)
    assert watched.source.waits_for() == ""
    assert watched.intent is before
    assert before.complete
    assert watched.asked == asked
    blue.start()
    blue.create(network_manifest("ClusterNetwork", "new"))
    blue.delete("Pod", "web", "blue")
    soon(lambda: cluster_key("new") in watched.intent.networks)
    soon(lambda: not watched.intent.pods)
    assert watched.intent.complete


def test_a_server_that_comes_late_is_waited_for(apiservers: ApiServers, watches: Watches) -> None:
    server = apiservers.make()
    server.create(network_manifest("ClusterNetwork", "front"))
    server.stop()
    client = open_client(server.kubeconfig())
    watched = watches(client)
    time.sleep(1)
    assert not watched.intent.complete
    assert len(watched.intent.problems) == 1
    assert "the API server does not answer" in watched.source.waits_for()
    server.start()
    soon(lambda: watched.intent.complete)
    assert cluster_key("front") in watched.intent.networks
    watches.close()
    client.close()


def test_watching_ends_within_a_second_and_leaves_no_thread(
    blue: ApiServer, client: KubeClient, watches: Watches
) -> None:
    watched = watches(client)
    whole(watched)
    assert len(threads_named("watch-")) == 7
    assert watched.close() < 1
    assert threads_named("watch-") == []
    assert watched.intent.complete


# One pod


def test_a_pod_that_no_watch_told_of_is_looked_up(
    blue: ApiServer, through: KubeClient, interposer: Interposer, watches: Watches
) -> None:
    watched = watches(through)
    whole(watched)
    interposer.hush()
    made = blue.create(pod("web", {"clusterNetwork": "front"}))
    interposer.speak_anew()  # the watches stay silent
    uid = made["metadata"]["uid"]
    intent = watched.source.read_for("blue", "web", uid)
    assert intent.pods["blue", "web"].uid == uid
    assert intent.pods["blue", "web"].annotations
    assert ("blue", "web") not in watched.intent.pods
    assert intent.networks is watched.intent.networks


def test_a_pod_that_is_known_costs_no_request(
    blue: ApiServer, through: KubeClient, interposer: Interposer, watches: Watches
) -> None:
    uid = blue.create(pod("web", {"clusterNetwork": "front"}))["metadata"]["uid"]
    watched = watches(through)
    assert ("blue", "web") in whole(watched).pods
    interposer.refusing = True
    interposer.cut()
    assert watched.source.read_for("blue", "web", uid) is watched.intent
    assert watched.source.read_for("blue", "web", "") is watched.intent


def test_a_pod_that_is_not_there_is_not_in_the_answer(
    blue: ApiServer, client: KubeClient, watches: Watches
) -> None:
    watched = watches(client)
    whole(watched)
    assert watched.source.read_for("blue", "nobody", "u") == watched.intent
    assert watched.source.read_for("nowhere", "nobody", "u") == watched.intent
    assert watched.source.read_for("", "", "") is watched.intent


def test_a_pod_of_another_uid_is_shown_as_the_server_has_it(
    blue: ApiServer, client: KubeClient, watches: Watches
) -> None:
    uid = blue.create(pod("web"))["metadata"]["uid"]
    watched = watches(client)
    assert ("blue", "web") in whole(watched).pods
    found = watched.source.read_for("blue", "web", "another").pods["blue", "web"]
    assert found.uid == uid
    assert not found.is_uid("another")


def test_a_pod_that_was_replaced_unheard_is_the_new_one(
    blue: ApiServer, through: KubeClient, interposer: Interposer, watches: Watches
) -> None:
    old = blue.create(pod("web"))["metadata"]["uid"]
    watched = watches(through)
    assert whole(watched).pods["blue", "web"].uid == old
    interposer.hush()
    blue.delete("Pod", "web", "blue")
    new = blue.create(pod("web"))["metadata"]["uid"]
    interposer.speak_anew()
    assert watched.source.read_for("blue", "web", new).pods["blue", "web"].uid == new


def test_a_pod_that_went_unheard_is_gone_for_who_asks_for_another(
    blue: ApiServer, through: KubeClient, interposer: Interposer, watches: Watches
) -> None:
    blue.create(pod("web"))
    watched = watches(through)
    assert ("blue", "web") in whole(watched).pods
    interposer.hush()
    blue.delete("Pod", "web", "blue")
    interposer.speak_anew()
    assert ("blue", "web") not in watched.source.read_for("blue", "web", "another").pods


def test_a_static_pod_goes_by_the_hash_that_the_runtime_knows(
    blue: ApiServer, client: KubeClient, watches: Watches
) -> None:
    marks = {"kubernetes.io/config.hash": "abc123", "kubernetes.io/config.mirror": "abc123"}
    made = blue.create(pod("static", {"clusterNetwork": "front"}, annotations=marks))
    watched = watches(client)
    for attempt in (watched.intent, whole(watched)):
        found = watched.source.read_for("blue", "static", "abc123").pods["blue", "static"]
        assert found.is_uid("abc123"), attempt
        assert found.uid == made["metadata"]["uid"]
        assert found.config_hash == "abc123"


def test_an_unknown_pod_cannot_be_looked_up_while_the_server_is_away(
    blue: ApiServer, client: KubeClient, watches: Watches
) -> None:
    watched = watches(client)
    whole(watched)
    blue.kill()
    began = time.monotonic()
    with pytest.raises(ClusterError) as raised:
        watched.source.read_for("blue", "web", "u")
    assert raised.value.cni_code == 11
    assert raised.value.subject == "Pod/blue/web"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("interfaces", [[{"tenantNetwork": "late"}], []])
def test_a_network_that_no_watch_told_of_is_waited_for(
    blue: ApiServer,
    through: KubeClient,
    interposer: Interposer,
    watches: Watches,
    interfaces: list[dict[str, str]],
) -> None:
    watched = watches(through, pace=Pace(silence=1.0))
    whole(watched)
    interposer.hush()
    name = "late" if interfaces else "default"
    blue.create(network_manifest("TenantNetwork", name, "blue"))
    uid = blue.create(pod("web", *interfaces))["metadata"]["uid"]
    interposer.speak()
    intent = hear(watched.source, uid)
    assert tenant_key(name) in intent.networks
    assert ("blue", "web") in intent.pods


def test_a_network_that_exists_and_is_not_told_of_in_time_is_tried_again(
    blue: ApiServer, through: KubeClient, interposer: Interposer, watches: Watches
) -> None:
    watched = watches(through)
    whole(watched)
    interposer.hush()
    blue.create(network_manifest("TenantNetwork", "late", "blue"))
    uid = blue.create(pod("web", {"tenantNetwork": "late"}))["metadata"]["uid"]
    interposer.speak_anew()
    began = time.monotonic()
    with pytest.raises(NotReadyError, match="TenantNetwork/blue/late exists"):
        hear(watched.source, uid)
    assert 0.9 < time.monotonic() - began < 5


def test_a_network_that_does_not_exist_is_not_waited_for(
    blue: ApiServer, client: KubeClient, watches: Watches
) -> None:
    uid = blue.create(pod("web", {"tenantNetwork": "never"}))["metadata"]["uid"]
    watched = watches(client)
    whole(watched)
    began = time.monotonic()
    intent = hear(watched.source, uid)
    assert time.monotonic() - began < 0.5
    assert ("blue", "web") in intent.pods
    assert all(key.kind is not NetworkKind.TENANT or key.name != "never" for key in intent.networks)


def test_made_up_names_cost_no_more_questions_than_the_first_of_them(
    blue: ApiServer, client: KubeClient, watches: Watches, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watches(client)
    whole(watched)
    asked: list[str] = []
    get = client.get

    def count(kind: Resource, name: str, *more: Any, **others: Any) -> Any:
        asked.append(name)
        return get(kind, name, *more, **others)

    monkeypatch.setattr(client, "get", count)
    asking = PodSpec(
        namespace="blue",
        name="web",
        annotations={"k8s.v1.cni.cncf.io/networks": ",".join(f"made-up{n}" for n in range(300))},
    )
    watched.source.hear(watched.intent, asking, read_pod(asking).interfaces)
    assert {name for name in asked if name != "default"} <= {"made-up0"}

    asked.clear()
    claiming = [
        {"name": "internal", "ipam-claim-reference": f"claim-{n}", "interface": f"if{n}"}
        for n in range(300)
    ]
    asking = replace(asking, annotations={"k8s.v1.cni.cncf.io/networks": json.dumps(claiming)})
    watched.source.hear(watched.intent, asking, read_pod(asking).interfaces)
    assert [name for name in asked if name.startswith("claim-")] == ["claim-0"]


def test_commands_look_a_pod_up_too(blue: ApiServer, client: KubeClient) -> None:
    blue.create(pod("there", {"tenantNetwork": "internal"}, node="node-b"))
    source = ClusterSource(client, node_name=NODE)
    assert ("blue", "there") in source.read_for("blue", "there", "").pods


def test_a_source_without_pods_neither_lists_nor_follows_any_and_is_whole_without(
    blue: ApiServer, client: KubeClient
) -> None:
    blue.create(pod("web", {"tenantNetwork": "internal"}))
    source = ClusterSource(client, pods=False)
    intent = source.read()
    assert intent.complete
    assert intent.pods == {}
    assert list(source.with_pod(intent, ("blue", "web")).pods) == [("blue", "web")]
    assert source.with_pod(intent, ("blue", "nobody")) is intent
    watched = Watched(source).start()
    try:
        whole(watched)
        followed = {thread.name.partition("-")[2] for thread in threads_named("watch-")}
        assert followed == {
            "tenantconfigs",
            "clusternetworks",
            "danmnets",
            "tenantnetworks",
            "network-attachment-definitions",
            "nodes",
        }
        assert watched.intent.pods == {}
        assert ("blue", "web") in source.read_for("blue", "web", "").pods
    finally:
        watched.close()


def test_a_pod_that_cannot_be_looked_up_is_a_problem_of_what_was_read(
    blue: ApiServer, through: KubeClient, interposer: Interposer
) -> None:
    source = ClusterSource(through, pods=False)
    intent = source.read()
    interposer.refusing = True
    interposer.cut()
    found = source.with_pod(intent, ("blue", "web"))
    assert not found.complete
    (problem,) = found.problems
    assert (problem.subject, problem.code) == ("Pod/blue/web", "PodUnread")

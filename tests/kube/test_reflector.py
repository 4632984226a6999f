"""Reflectors against a real API server that is killed, restarted, hushed and late.

No test moves a clock: only durations are measured, with a clock that cannot be set.
"""

from __future__ import annotations

import ast
import base64
import inspect
import threading
import time
from pathlib import Path

import pytest
import structlog

from danmpy.kube import client as client_module
from danmpy.kube import reflector as reflector_module
from danmpy.kube import stream as stream_module
from danmpy.kube.client import KubeClient, Scope, open_client
from danmpy.kube.errors import ExpiredError, MissingError, UnreachableError
from danmpy.kube.reflector import Pace
from danmpy.kube.resources import NADS, NODES, PODS
from support.apiserver import ApiServer, ApiServers
from support.following import ALL, Followed, network, soon, threads_named
from support.interpose import Interposer

pytestmark = pytest.mark.system


def test_what_is_there_is_listed_and_what_changes_is_told(
    apiserver: ApiServer, client: KubeClient, follow: Followed
) -> None:
    apiserver.create(network("first"))
    kept = follow(client)
    soon(lambda: kept.names == {"first"})
    assert kept.bodies["first"]["kind"] == "ClusterNetwork"
    apiserver.create(network("second"))
    soon(lambda: kept.names == {"first", "second"})
    apiserver.patch("ClusterNetwork", "first", {"spec": {"NetworkID": "other"}})
    soon(lambda: kept.bodies["first"]["spec"]["NetworkID"] == "other")
    apiserver.delete("ClusterNetwork", "second")
    soon(lambda: kept.names == {"first"})
    assert kept.lists == 1
    assert kept.failures == []


def test_an_object_of_one_moment_leaves_nothing(
    apiserver: ApiServer, client: KubeClient, follow: Followed
) -> None:
    kept = follow(client)
    soon(lambda: kept.lists == 1)
    apiserver.create(network("moment"))
    apiserver.delete("ClusterNetwork", "moment")
    apiserver.create(network("last"))
    soon(lambda: kept.names == {"last"})


def test_selectors_choose(apiserver: ApiServer, client: KubeClient, follow: Followed) -> None:
    for name, node in (("here", "node-a"), ("there", "node-b")):
        apiserver.create(_pod(name, node))
    kept = follow(client, Scope(resource=PODS, field_selector="spec.nodeName=node-a"))
    soon(lambda: kept.names == {"here"})
    apiserver.create(_pod("also-there", "node-b"))
    apiserver.create(_pod("also-here", "node-a"))
    soon(lambda: kept.names == {"here", "also-here"})


def test_a_killed_server_takes_nothing_and_is_followed_again(
    apiserver: ApiServer, client: KubeClient, follow: Followed
) -> None:
    apiserver.create(network("kept"))
    kept = follow(client)
    soon(lambda: kept.names == {"kept"})
    for number in (1, 2):
        apiserver.kill()
        soon(lambda: bool(kept.failures))
        time.sleep(3)
        assert kept.names >= {"kept"}
        apiserver.start()
        apiserver.create(network(f"after-{number}"))
        soon(lambda n=number: f"after-{n}" in kept.names)
        kept.failures.clear()


def test_a_restart_in_good_order_loses_no_change(
    apiserver: ApiServer, client: KubeClient, follow: Followed
) -> None:
    kept = follow(client)
    soon(lambda: kept.lists == 1)
    apiserver.create(network("before"))
    apiserver.restart()
    apiserver.delete("ClusterNetwork", "before")
    apiserver.create(network("after"))
    soon(lambda: kept.names == {"after"}, 10)


def test_what_went_while_the_server_was_away_is_gone(
    apiserver: ApiServer, client: KubeClient, follow: Followed
) -> None:
    apiserver.create(network("goes"))
    kept = follow(client)
    soon(lambda: kept.names == {"goes"})
    apiserver.kill()
    key = base64.b64encode(b"/registry/danm.k8s.io/clusternetworks/goes").decode()
    assert apiserver._store_call("deleterange", {"key": key})["deleted"] == "1"
    apiserver.start()
    soon(lambda: not kept.names, 10)


def test_a_version_that_is_no_longer_kept_leads_to_a_list(
    apiserver: ApiServer, client: KubeClient, follow: Followed
) -> None:
    apiserver.create(network("a"))
    apiserver.restart()  # its memory of changes begins anew
    with pytest.raises(ExpiredError), client.watch(ALL, "1") as stream:
        next(iter(stream))
    kept = follow(client, version="1")
    soon(lambda: kept.names == {"a"})
    assert isinstance(kept.failures[0][0], ExpiredError)


def test_a_list_that_etcd_forgets_between_two_pages_is_begun_anew(
    apiserver: ApiServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAGE", 2)
    for name in "abcde":
        apiserver.create(network(name))
    assert [item["metadata"]["name"] for item in client.list(ALL.resource).items] == list("abcde")
    pages = client.pages(ALL)
    first = next(pages)
    assert len(first.items) == 2
    apiserver.create(network("f"))
    _compact(apiserver, int(apiserver.get("ClusterNetwork", "f")["metadata"]["resourceVersion"]))
    with pytest.raises(ExpiredError):
        list(pages)
    assert len(client.list(ALL.resource).items) == 6


def test_a_half_open_connection_is_noticed(
    apiserver: ApiServer, through: KubeClient, interposer: Interposer, follow: Followed
) -> None:
    kept = follow(through, pace=Pace(silence=1.0))
    soon(lambda: kept.lists == 1)
    interposer.hush()
    apiserver.create(network("unheard"))
    time.sleep(0.2)
    interposer.speak_anew()
    took = soon(lambda: kept.names == {"unheard"}, 8)
    assert took > 0.3, "the old connection was not silent"
    assert kept.lists == 1, "it goes on from where it was"


def test_a_server_that_accepts_and_is_silent_is_waited_for_and_found_again(
    apiserver: ApiServer, through: KubeClient, interposer: Interposer, follow: Followed
) -> None:
    kept = follow(through, pace=Pace(silence=0.5))
    soon(lambda: kept.lists == 1)
    interposer.hush()
    soon(lambda: any(isinstance(each, UnreachableError) for each, _ in kept.failures), 10)
    apiserver.create(network("later"))
    interposer.speak_anew()
    soon(lambda: kept.names == {"later"}, 10)


def test_silence_on_a_good_connection_costs_one_request_and_no_word(
    apiserver: ApiServer, client: KubeClient, follow: Followed
) -> None:
    with structlog.testing.capture_logs() as logs:
        kept = follow(client, pace=Pace(silence=0.3))
        soon(lambda: kept.lists == 1)
        time.sleep(1.5)
        apiserver.create(network("a"))
        soon(lambda: kept.names == {"a"})
    assert (kept.lists, kept.failures, logs) == (1, [], [])


def test_an_absent_server_is_asked_rarely_and_told_of_once(
    through: KubeClient, interposer: Interposer, follow: Followed
) -> None:
    with structlog.testing.capture_logs() as logs:
        kept = follow(through)
        soon(lambda: kept.lists == 1)
        interposer.refusing = True
        interposer.cut()
        soon(lambda: bool(kept.failures))
        before, cpu = interposer.accepted, time.process_time()
        time.sleep(6)
        assert interposer.accepted - before <= 16  # a GET is tried twice
        assert time.process_time() - cpu < 0.6
        interposer.refusing = False
        soon(lambda: any(each["event"] == "watch is back" for each in logs))
    assert [each["event"] for each in logs] == ["watch fails", "watch is back"]


def test_streams_that_end_at_once_are_not_asked_for_in_a_loop(
    through: KubeClient, interposer: Interposer, follow: Followed
) -> None:
    kept = follow(through)
    soon(lambda: kept.lists == 1)
    stop = threading.Event()

    def cut_for_ever() -> None:
        while not stop.wait(0.01):
            interposer.cut()

    cutter = threading.Thread(target=cut_for_ever)
    cutter.start()
    try:
        time.sleep(1)
        before = interposer.accepted
        time.sleep(4)
        assert interposer.accepted - before <= 16
    finally:
        stop.set()
        cutter.join()


def test_a_server_that_comes_later_is_found(
    apiservers: ApiServers, follow: Followed, tmp_path: Path
) -> None:
    server = apiservers.make()
    server.stop()
    client = open_client(server.kubeconfig())
    kept = follow(client)
    soon(lambda: bool(kept.failures))
    time.sleep(1)
    server.start()
    soon(lambda: kept.lists == 1, 6)
    client.close()


def test_a_kind_that_is_not_served_is_told_once_and_found_when_it_comes(
    apiservers: ApiServers, follow: Followed
) -> None:
    server = apiservers.make(crds=False)
    client = open_client(server.kubeconfig())
    with structlog.testing.capture_logs() as logs:
        kept = follow(client)
        soon(lambda: any(missing for _, missing in kept.failures))
        assert all(isinstance(error, MissingError) for error, _ in kept.failures)
        soon(lambda: sum(missing for _, missing in kept.failures) >= 3)
        assert [each["event"] for each in logs] == ["watch fails"]
        server.apply_crds()
        soon(lambda: kept.lists == 1)
    client.close()


def test_an_optional_kind_that_is_not_served_is_not_worth_a_word(
    client: KubeClient, follow: Followed
) -> None:
    with structlog.testing.capture_logs() as logs:
        kept = follow(client, Scope(resource=NADS), optional=True)
        soon(lambda: any(missing for _, missing in kept.failures))
    assert logs == []


def test_a_restart_does_not_make_a_kind_missing(
    apiserver: ApiServer, client: KubeClient, follow: Followed
) -> None:
    apiserver.create(network("a"))
    kept = follow(client, pace=Pace())
    soon(lambda: kept.names == {"a"})
    for _ in range(3):
        apiserver.kill()
        apiserver.start()
    apiserver.create(network("b"))
    soon(lambda: kept.names == {"a", "b"}, 8)
    assert not any(missing for _, missing in kept.failures)


def test_credentials_that_are_replaced_in_their_file_are_read_anew(
    apiserver: ApiServer, follow: Followed, tmp_path: Path
) -> None:
    path = tmp_path / "config"
    path.write_text(apiserver.kubeconfig(token="outdated").read_text())
    client = open_client(path)
    kept = follow(client)
    soon(lambda: bool(kept.failures))
    path.write_text(apiserver.kubeconfig().read_text())
    soon(lambda: kept.lists == 1)
    client.close()


def test_a_stranger_is_told_what_he_lacks(apiserver: ApiServer, follow: Followed) -> None:
    client = open_client(apiserver.kubeconfig("stranger"))
    kept = follow(client)
    soon(lambda: bool(kept.failures))
    error, missing = kept.failures[0]
    assert "clusternetworks" in error.message
    assert "RBAC" in error.hint
    assert not missing
    client.close()


def test_it_stops_within_a_second_on_a_quiet_watch(client: KubeClient, follow: Followed) -> None:
    kept = follow(client, Scope(resource=NODES))
    soon(lambda: kept.lists == 1)
    time.sleep(0.3)
    assert threads_named("watch-nodes")
    began = time.monotonic()
    follow.last.stop()
    follow.last.join(5)
    assert time.monotonic() - began < 1
    assert threads_named("watch-nodes") == []
    assert kept.failures == []


def test_it_stops_within_a_second_while_it_waits(
    through: KubeClient, interposer: Interposer, follow: Followed
) -> None:
    interposer.refusing = True
    kept = follow(through, pace=Pace(first_wait=30, longest_wait=30))
    soon(lambda: bool(kept.failures))
    began = time.monotonic()
    follow.last.stop()
    follow.last.join(5)
    assert time.monotonic() - began < 1


def test_a_wait_ends_when_somebody_knows_better(
    through: KubeClient, interposer: Interposer, follow: Followed
) -> None:
    interposer.refusing = True
    kept = follow(through, pace=Pace(first_wait=30, longest_wait=30))
    soon(lambda: bool(kept.failures))
    interposer.refusing = False
    time.sleep(0.1)
    follow.last.wake()
    soon(lambda: kept.lists == 1)


def test_an_object_that_breaks_the_sink_does_not_end_the_thread(
    apiserver: ApiServer, client: KubeClient, follow: Followed
) -> None:
    with structlog.testing.capture_logs() as logs:
        kept = follow(client, pace=Pace(longest_wait=0.2))
        soon(lambda: kept.lists == 1)
        kept.breaks = True
        apiserver.create(network("a"))
        soon(lambda: any(each["event"] == "watch broke" for each in logs))
        kept.breaks = False
        soon(lambda: kept.names == {"a"})


@pytest.mark.parametrize("module", [client_module, reflector_module, stream_module])
def test_no_wall_clock_is_read(module: object) -> None:
    """So that setting the time of day changes nothing, and no test has to do it."""
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {each.name for n in ast.walk(tree) if isinstance(n, ast.Import) for each in n.names}
    assert not names & {"time", "datetime", "wall_clock"}
    assert names


def _pod(name: str, node: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}]},
    }


def _compact(apiserver: ApiServer, revision: int) -> None:
    answer = apiserver._store.request(
        "POST", "/v3/kv/compaction", {"revision": revision, "physical": True}
    )
    assert answer.status == 200, answer.body

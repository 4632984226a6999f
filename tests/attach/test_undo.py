"""Letting go: after a DEL, a failure, a kill or a lost database nothing is left."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from danmpy.api.cni import Verb
from danmpy.attach.journal import Phase
from danmpy.errors import HostError, NotReadyError
from danmpy.faults import ADD_POINTS, DEL_POINTS
from danmpy.ipam.leases import Lease
from danmpy.kernel.netns import netns_id_of
from support.attaching import (
    AttachNode,
    assert_empty,
    break_route,
    request,
    with_prev,
)
from support.netns import Namespace, Namespaces, run
from support.processes import without_file_descriptors


def test_del_twice_without_namespace_path_and_without_manifests_succeeds(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.DEL, "web", pod)
    three.attacher.add(call)
    three.view.pods.clear()
    three.view.networks.clear()
    gone = replace(call, netns="", args={})
    for _ in range(2):
        three.attacher.delete(gone)
        assert_empty(pod, three, "c-web")
    assert set(three.end_reasons()) == {"released"}


def test_del_after_the_namespace_has_gone_frees_addresses_and_host_end(
    three: AttachNode, pod: Namespace, namespaces: Namespaces
) -> None:
    call = request(Verb.DEL, "web", pod)
    three.attacher.add(call)
    namespaces.delete(pod)
    three.attacher.delete(call)
    assert three.held("c-web") == set()
    assert three.host_ends() == []


def test_del_of_a_container_that_nobody_knows_is_a_success(
    three: AttachNode, pod: Namespace
) -> None:
    three.attacher.delete(request(Verb.DEL, "web", pod, "stranger"))
    assert three.journal.read_all() == ()


def test_del_without_its_record_finds_links_by_their_mark_and_leases_by_their_owner(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.DEL, "web", pod)
    three.attacher.add(call)
    for record in three.journal.read_all():
        three.journal.remove(record)
    three.attacher.delete(call)
    assert set(pod.links()) == {"lo"}
    assert three.held("c-web") == set()


def test_del_with_the_database_away_succeeds_and_the_release_keeps_its_time(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.DEL, "web", pod)
    three.attacher.add(call)
    three.leases.away = True
    three.attacher.delete(call)
    assert set(pod.links()) == {"lo"}
    (record,) = three.journal.read_all()
    assert (record.phase, record.end_reason) == (Phase.DETACHED, "released")
    three.close()
    three.open()
    assert three.attacher.repair() == 0
    assert_empty(pod, three, "c-web")
    assert {lease.to for lease in three.history()} == {record.detached_at}


def test_releases_that_waited_are_made_in_the_order_in_which_the_links_went(
    three: AttachNode, pod: Namespace, namespaces: Namespaces
) -> None:
    pods = {"web": pod, "b": namespaces.make("pod"), "c": namespaces.make("pod")}
    for name in ("b", "c"):
        three.add_pod(name, {"tenantNetwork": "internal", "ip": "dynamic"})
    for name, each in pods.items():
        three.attacher.add(request(Verb.ADD, name, each))
    three.leases.away = True
    for name in ("c", "web", "b"):
        three.attacher.delete(request(Verb.DEL, name, pods[name]))
    three.leases.away = False
    gone: list[str] = []
    release = three.leases.release

    def noted(container_id: str, **more: Any) -> tuple[Lease, ...]:
        gone.append(container_id)
        return release(container_id, **more)

    three.leases.release = noted
    assert three.attacher.repair() == 0
    assert gone == ["c-c", "c-web", "c-b"]
    assert three.journal.read_all() == ()


def test_a_new_sandbox_takes_the_addresses_over_and_the_old_one_s_del_leaves_it_alone(
    three: AttachNode, pod: Namespace, namespaces: Namespaces
) -> None:
    old = request(Verb.ADD, "web", pod, "old")
    first = three.attacher.add(old)
    new_pod = namespaces.make("pod")
    new = request(Verb.ADD, "web", new_pod, "new")
    second = three.attacher.add(new)
    assert {ip.address for ip in second.ips} == {ip.address for ip in first.ips}
    assert set(pod.links()) == {"lo"}, "an address must not be on two links"
    three.attacher.delete(replace(old, verb=Verb.DEL))
    three.attacher.check(with_prev(new, second))
    assert three.held("old") == set()
    assert len(three.held("new")) == 4
    assert three.attacher.repair() == 0
    three.attacher.check(with_prev(new, second))


def test_a_namespace_made_anew_at_the_same_path_is_not_taken_for_the_old_one(
    three: AttachNode, namespaces: Namespaces
) -> None:
    pod = namespaces.make("pod")
    three.attacher.add(request(Verb.ADD, "web", pod, "old"))
    before = netns_id_of(str(pod.path))
    # The kernel gives the inode of a namespace that is gone to the next one.
    for _ in range(20):
        run("ip", "netns", "delete", pod.name)
        time.sleep(0.3)
        run("ip", "netns", "add", pod.name)
        if netns_id_of(str(pod.path)) == before:
            break
    three.add_pod("other", {"tenantNetwork": "internal", "ip": "dynamic"})
    new = request(Verb.ADD, "other", pod, "new")
    result = three.attacher.add(new)
    three.attacher.delete(request(Verb.DEL, "web", pod, "old"))
    three.attacher.check(with_prev(new, result))


def test_an_undo_without_the_database_is_finished_when_it_is_back(
    three: AttachNode, pod: Namespace
) -> None:
    break_route(three)
    bind = three.leases.bind

    def bind_then_lose(*arguments: object) -> object:
        leases = bind(*arguments)
        three.leases.away = True
        return leases

    three.leases.bind = bind_then_lose  # the database goes in the middle of the ADD
    with pytest.raises(HostError):
        three.attacher.add(request(Verb.ADD, "web", pod))
    assert set(pod.links()) == {"lo"}
    assert len(three.held("c-web")) == 4
    assert three.attacher.repair() == 1
    three.close()
    three.open()
    assert three.attacher.repair() == 0
    assert_empty(pod, three, "c-web")
    assert set(three.end_reasons()) == {"rollback"}


@pytest.mark.parametrize("point", ADD_POINTS)
def test_the_repair_at_start_takes_away_what_a_killed_add_left(
    three: AttachNode, pod: Namespace, point: str
) -> None:
    three.die_at(point, lambda attacher: attacher.add(request(Verb.ADD, "web", pod)))
    assert three.attacher.repair() == 0
    if point == "add:recorded":  # that one was done; only its answer is missing
        assert len(three.held("c-web")) == 4
        return
    assert_empty(pod, three, "c-web")
    assert set(three.end_reasons()) <= {"rollback"}


@pytest.mark.parametrize("point", DEL_POINTS)
def test_a_del_after_one_that_was_killed_ends_with_nothing_left(
    three: AttachNode, pod: Namespace, point: str
) -> None:
    call = request(Verb.DEL, "web", pod)
    three.attacher.add(call)
    three.die_at(point, lambda attacher: attacher.delete(call))
    three.attacher.delete(call)
    assert_empty(pod, three, "c-web")
    assert set(three.end_reasons()) == {"released"}


def test_a_journal_that_cannot_be_written_keeps_no_link_alive(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.DEL, "web", pod)
    three.attacher.add(call)
    in_the_way = three.folder / "journal" / "c-web@eth0.json.tmp"
    in_the_way.mkdir()
    three.leases.away = True
    with pytest.raises(HostError, match="cannot be written"):
        three.attacher.delete(call)
    assert set(pod.links()) == {"lo"}
    assert len(three.held("c-web")) == 4
    three.leases.away = False
    three.attacher.delete(call)
    in_the_way.rmdir()
    assert_empty(pod, three, "c-web")


def test_a_release_that_nobody_replayed_is_replayed_by_the_next_add(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    three.attacher.add(call)
    three.leases.away = True
    three.attacher.delete(call)
    with pytest.raises(NotReadyError, match="waits for the database"):
        three.attacher.add(call)
    three.leases.away = False
    result = three.attacher.add(call)
    three.attacher.check(with_prev(call, result))
    assert three.end_reasons().count("released") == 4


def test_the_repair_does_not_wait_for_a_container_that_is_busy(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.DEL, "web", pod)
    three.attacher.add(call)
    three.leases.away = True
    three.attacher.delete(call)
    three.leases.away = False
    with three.attacher._locks.container("c-web"):
        three.attacher.repair()
        assert len(three.held("c-web")) == 4
    assert three.attacher.repair() == 0
    assert_empty(pod, three, "c-web")


def test_a_del_without_a_file_descriptor_left_fails_and_frees_no_address(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.DEL, "web", pod)
    three.attacher.add(call)
    with without_file_descriptors(), pytest.raises(HostError, match="Too many open files"):
        three.attacher.delete(call)
    assert set(pod.links()) == {"lo", "eth0", "eth1", "front2"}
    assert len(three.held("c-web")) == 4
    three.attacher.delete(call)
    assert_empty(pod, three, "c-web")


def released_with_the_database_away(node: AttachNode, namespaces: Namespaces, count: int) -> None:
    """So many pods that are detached, and whose release waits."""
    for number in range(count):
        node.add_pod(f"p{number}", {"tenantNetwork": "internal", "ip": "dynamic"})
        node.attacher.add(request(Verb.ADD, f"p{number}", namespaces.make("pod")))
    node.leases.away = True
    for number in range(count):
        node.attacher.delete(request(Verb.DEL, f"p{number}", ""))
    node.leases.refused = 0


def test_the_repair_waits_for_the_database_once_and_not_once_a_record(
    three: AttachNode, namespaces: Namespaces
) -> None:
    released_with_the_database_away(three, namespaces, 4)
    files = list((three.folder / "journal").glob("*.json"))
    before = {path: path.stat().st_ino for path in files}
    assert three.attacher.repair() == 4
    assert three.leases.refused == 1
    assert {path: path.stat().st_ino for path in files} == before, "nothing is written anew"
    three.leases.away = False
    assert three.attacher.repair() == 0
    assert set(three.end_reasons()) == {"released"}


def test_gc_waits_for_the_database_once_and_takes_all_links(
    three: AttachNode, namespaces: Namespaces
) -> None:
    pods = [namespaces.make("pod") for _ in range(3)]
    for number, sandbox in enumerate(pods):
        three.add_pod(f"p{number}", {"tenantNetwork": "internal", "ip": "dynamic"})
        three.attacher.add(request(Verb.ADD, f"p{number}", sandbox))
    three.leases.away = True
    three.attacher.collect(request(Verb.GC, "", "", "", valid_attachments=frozenset()))
    assert three.leases.refused == 1
    assert [set(sandbox.links()) for sandbox in pods] == [{"lo"}] * 3
    three.leases.away = False
    assert three.attacher.repair() == 0
    assert set(three.end_reasons()) == {"collected"}

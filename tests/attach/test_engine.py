"""The CNI verbs on a real node: namespaces, links, a SQLite file, a journal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from danmpy.api.cni import Attachment, Verb
from danmpy.clock import wall_clock
from danmpy.errors import (
    ConflictError,
    HostError,
    IntentError,
    NotReadyError,
    StoreError,
    UnavailableError,
    WireError,
)
from danmpy.faults import ADD_POINTS
from danmpy.ipam.registry import NetworkRegistry
from danmpy.kernel.netns import netns_id_of
from support.attaching import (
    EXT,
    FRONT,
    INTERNAL,
    THREE,
    AttachNode,
    assert_empty,
    break_route,
    request,
    with_prev,
)
from support.netns import Namespace, Namespaces, run
from support.specs import cluster_key


def lines(pod: Namespace, *words: str) -> str:
    return pod.ip(*words).stdout


# ADD


def test_the_answer_says_what_the_kernel_shows(three: AttachNode, pod: Namespace) -> None:
    result = three.attacher.add(request(Verb.ADD, "web", pod))
    inside = [link for link in result.interfaces if link.sandbox]
    assert [link.name for link in inside] == ["eth0", "eth1", "front2"]
    assert [link.name for link in result.interfaces if not link.sandbox] == three.host_ends()
    shown = pod.links()
    for link in inside:
        assert link.sandbox == str(pod.path)
        assert (link.mac, link.mtu) == (shown[link.name]["address"], shown[link.name]["mtu"])
        assert shown[link.name]["ifalias"] == "danmpy pod=c-web"
        assert "UP" in shown[link.name]["flags"]
    assert shown["eth1"]["mtu"] == 1400
    by_link: dict[str, set[str]] = {name: set() for name in ("eth0", "eth1", "front2")}
    for ip in result.ips:
        assert ip.interface is not None
        by_link[result.interfaces[ip.interface].name].add(str(ip.address))
    for name, addresses in by_link.items():
        assert addresses == set(pod.addresses(name))
    assert three.held("c-web") == {(n, a) for n, items in by_link.items() for a in items}
    assert [str(ip.gateway) for ip in result.ips][:2] == ["10.1.0.1", "fd01::1"]
    assert "default via 10.1.0.1 dev eth0" in lines(pod, "route", "show", "default")
    assert "default via fd01::1 dev eth0" in lines(pod, "-6", "route", "show", "default")
    assert "from 10.2.0.1 lookup 77" in lines(pod, "rule", "show")
    assert "10.70.0.0/16 via 10.2.0.9" in lines(pod, "route", "show", "table", "77")
    assert "via 10.2.0.9 dev eth1" in lines(pod, "route", "get", "10.70.1.1", "from", "10.2.0.1")
    assert "via 10.1.0.1 dev eth0" in lines(pod, "route", "get", "10.70.1.1")
    assert pod.ping("10.1.0.1")
    assert pod.ping("fd01::1")


def test_a_repeated_add_answers_as_the_first_time_and_changes_nothing(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    first = three.attacher.add(call)
    links, leases = pod.links(), three.held("c-web")
    three.view.pods.clear()  # it must not even have to ask
    assert three.attacher.add(call) == first
    assert pod.links() == links
    assert three.held("c-web") == leases


def test_the_same_add_several_times_at_once_makes_everything_once(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    with ThreadPoolExecutor(4) as crowd:
        results = list(crowd.map(three.attacher.add, [call] * 8))
    assert results == results[:1] * 8
    assert len(three.held("c-web")) == 4
    assert len(three.history()) == 4


def test_adds_and_dels_of_one_sandbox_at_once_leave_either_all_or_nothing(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    verbs = [three.attacher.add, three.attacher.delete] * 6
    with ThreadPoolExecutor(6) as crowd:
        list(crowd.map(lambda verb: verb(call), verbs))
    result = three.attacher.add(call)
    three.attacher.check(with_prev(call, result))
    three.attacher.delete(call)
    assert_empty(pod, three, "c-web")


def test_an_add_after_somebody_broke_the_attachment_makes_it_whole_with_the_same_addresses(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    first = three.attacher.add(call)
    pod.ip("link", "delete", "eth0")
    again = three.attacher.add(call)
    assert {ip.address for ip in again.ips} == {ip.address for ip in first.ips}
    assert set(pod.links()) == {"lo", "eth0", "eth1", "front2"}
    assert len(three.held("c-web")) == 4


@pytest.mark.parametrize("away", [False, True])
def test_made_anew_a_pod_keeps_no_lease_of_an_interface_that_it_no_longer_asks(
    three: AttachNode, pod: Namespace, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    call = request(Verb.ADD, "web", pod)
    three.attacher.add(call)
    three.add_pod("web", *THREE[:2])
    pod.ip("link", "delete", "eth0")
    if away:

        def refuse(*_args: object, **_more: object) -> None:
            raise StoreError("away", hint="wait")

        monkeypatch.setattr(three.leases, "release_interface", refuse)
    three.attacher.add(call)
    assert set(pod.links()) == {"lo", "eth0", "eth1"}
    left = {"front2"} if away else set()
    assert {name for name, _ in three.held("c-web")} == {"eth0", "eth1", *left}
    three.attacher.delete(call)
    assert_empty(pod, three, "c-web")


@pytest.mark.parametrize("point", ADD_POINTS)
def test_an_add_after_one_that_was_killed_makes_everything_once(
    three: AttachNode, pod: Namespace, point: str
) -> None:
    call = request(Verb.ADD, "web", pod)
    three.die_at(point, lambda attacher: attacher.add(call))
    result = three.attacher.add(call)
    three.attacher.check(with_prev(call, result))
    assert len(three.held("c-web")) == 4
    assert len(three.host_ends()) == 1
    three.attacher.delete(call)
    assert_empty(pod, three, "c-web")


def test_a_second_interface_name_for_one_sandbox_is_refused_and_touches_nothing(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    result = three.attacher.add(call)
    other = replace(call, ifname="net1")
    with pytest.raises(ConflictError, match="already attached, with CNI_IFNAME eth0"):
        three.attacher.add(other)
    three.attacher.delete(other)
    three.attacher.check(with_prev(call, result))


def test_the_first_interface_is_called_as_the_runtime_says(
    three: AttachNode, pod: Namespace
) -> None:
    result = three.attacher.add(request(Verb.ADD, "web", pod, ifname="net7"))
    assert [link.name for link in result.interfaces][:2] == ["net7", "eth1"]


def test_the_runtime_s_interface_comes_first_wherever_the_pod_lists_it(
    three: AttachNode, pod: Namespace
) -> None:
    first, second = (
        {"tenantNetwork": "internal", "ip": "dynamic", "name": "data0"},
        {"tenantNetwork": "ext", "ip": "dynamic", "name": "eth0"},
    )
    three.add_pod("web", first, second)
    result = three.attacher.add(request(Verb.ADD, "web", pod))
    assert [link.name for link in result.interfaces] == ["eth0", "data0"]
    assert str(result.ips[0].address) == "10.1.0.2/24"


def test_a_pod_without_the_interface_that_the_runtime_asks_for_is_refused(
    three: AttachNode, pod: Namespace
) -> None:
    three.add_pod("web", {"tenantNetwork": "ext", "ip": "dynamic", "name": "data0"})
    with pytest.raises(IntentError, match="none of its interfaces is called eth0"):
        three.attacher.add(request(Verb.ADD, "web", pod))


def test_container_ids_of_any_length_and_shape_work_and_never_meet(
    three: AttachNode, namespaces: Namespaces
) -> None:
    common = "a" * 64
    ids = (common, common + "1", common + "2", "B._-" + "x" * 300, "x.json", "1.tmp")
    calls = [
        request(Verb.ADD, "web", namespaces.make("pod"), one, args=_args("web", f"uid-{n}"))
        for n, one in enumerate(ids)
    ]
    three.view.pods["blue", "web"] = replace(three.view.pods["blue", "web"], uid="")
    results = [three.attacher.add(call) for call in calls]
    assert len({ip.address for result in results for ip in result.ips}) == 4 * len(ids)
    three.close()
    three.open()
    for n, (call, result) in enumerate(zip(calls, results, strict=True)):
        three.attacher.check(with_prev(call, result))
        three.attacher.delete(call)
        assert len(three.journal.read_all()) == len(ids) - n - 1


def test_a_static_pod_is_attached_by_the_uid_that_the_runtime_knows(
    three: AttachNode, pod: Namespace
) -> None:
    three.add_pod("web", {"tenantNetwork": "ext", "ip": "dynamic"})
    known = three.view.pods["blue", "web"]
    three.view.pods["blue", "web"] = replace(known, uid="of-the-mirror", config_hash="the-hash")
    with pytest.raises(IntentError, match="of-the-mirror"):
        three.attacher.add(request(Verb.ADD, "web", pod, args=_args("web", "another")))
    call = request(Verb.ADD, "web", pod, args=_args("web", "the-hash"))
    three.attacher.add(call)
    (record,) = three.journal.read_all()
    assert record.pod_uid == "the-hash"
    (lease,) = three.leases.held_by(call.container_id)
    assert lease.pod_uid == "the-hash"


def _args(pod: str, uid: str) -> dict[str, str]:
    return {"K8S_POD_NAMESPACE": "blue", "K8S_POD_NAME": pod, "K8S_POD_UID": uid}


def test_the_node_s_own_namespace_is_refused_as_a_sandbox(three: AttachNode) -> None:
    own = "/proc/self/ns/net"
    assert netns_id_of(own) == netns_id_of("/proc/thread-self/ns/net")
    with pytest.raises(WireError, match="node's own network namespace") as caught:
        three.attacher.add(request(Verb.ADD, "web", own))
    assert caught.value.code == 8
    assert three.held("c-web") == set()
    three.attacher.delete(request(Verb.DEL, "web", own))


def test_a_namespace_that_is_gone_is_code_8_and_leaves_nothing(
    three: AttachNode, pod: Namespace
) -> None:
    with pytest.raises(WireError, match=r"cannot be opened|is gone") as caught:
        three.attacher.add(request(Verb.ADD, "web", "/run/netns/dt-nowhere"))
    assert caught.value.code == 8
    assert_empty(pod, three, "c-web")


def test_an_interface_that_somebody_else_made_is_not_touched(
    three: AttachNode, pod: Namespace
) -> None:
    pod.ip("link", "add", "eth1", "type", "veth", "peer", "name", "other")
    with pytest.raises(ConflictError, match="eth1 that is not ours"):
        three.attacher.add(request(Verb.ADD, "web", pod))
    assert set(pod.links()) == {"lo", "eth1", "other"}
    assert three.held("c-web") == set()


def test_a_pod_that_nobody_declared_is_try_again(three: AttachNode, pod: Namespace) -> None:
    with pytest.raises(NotReadyError, match="not known here"):
        three.attacher.add(request(Verb.ADD, "nobody", pod))


def test_a_sandbox_of_a_pod_that_was_replaced_is_refused(three: AttachNode, pod: Namespace) -> None:
    call = request(Verb.ADD, "web", pod, args=_args("web", "older"))
    with pytest.raises(IntentError, match="the runtime attaches UID older"):
        three.attacher.add(call)


# Failures


def test_a_failure_of_the_last_interface_leaves_nothing_of_any(
    three: AttachNode, pod: Namespace
) -> None:
    break_route(three)
    with pytest.raises(HostError, match=r"route 10\.99\.0\.0/16 via 172\.16\.0\.1.*unreachable"):
        three.attacher.add(request(Verb.ADD, "web", pod))
    assert_empty(pod, three, "c-web")
    assert set(three.end_reasons()) == {"rollback"}


def test_the_database_away_at_add_leaves_no_link_and_is_waited_for_once(
    three: AttachNode, pod: Namespace
) -> None:
    three.leases.away = True
    with pytest.raises(StoreError):
        three.attacher.add(request(Verb.ADD, "web", pod))
    assert set(pod.links()) == {"lo"}
    assert three.leases.refused == 1, "waiting a second time would break the five seconds"
    three.leases.away = False
    assert three.attacher.repair() == 0
    assert_empty(pod, three, "c-web")


def test_a_network_that_is_being_deleted_takes_no_interface_without_address_either(
    three: AttachNode, pod: Namespace
) -> None:
    bare = three.add_network(cluster_key("bare"))
    three.add_pod("web", {"tenantNetwork": "ext", "ip": "dynamic"}, {"clusterNetwork": "bare"})
    NetworkRegistry(three.engine, wall_clock).retire(bare.key, bare.uid)
    with pytest.raises(IntentError, match="is being deleted") as caught:
        three.attacher.add(request(Verb.ADD, "web", pod))
    assert caught.value.cni_code == 7
    assert caught.value.subject == "ClusterNetwork/bare"
    assert_empty(pod, three, "c-web")
    assert three.history() == []


def test_only_networks_without_a_lease_are_asked_about_and_a_folder_s_not_at_all(
    three: AttachNode, namespaces: Namespaces
) -> None:
    bare = three.add_network(cluster_key("bare"))
    three.attacher.add(request(Verb.ADD, "web", namespaces.make("pod")))
    assert three.leases.opened.pop() == []
    three.add_pod("both", {"tenantNetwork": "ext", "ip": "dynamic"}, {"clusterNetwork": "bare"})
    three.attacher.add(request(Verb.ADD, "both", namespaces.make("pod")))
    assert three.leases.opened.pop() == [bare.key]
    three.add_network(bare.key, uid=str(bare.key))
    three.leases.away = True
    three.add_pod("bare", {"clusterNetwork": "bare"})
    three.attacher.add(request(Verb.ADD, "bare", namespaces.make("pod")))
    assert three.leases.opened.pop() == []


def test_a_network_without_a_lease_is_not_attached_to_while_nobody_knows_if_it_is_retired(
    three: AttachNode, pod: Namespace
) -> None:
    three.add_network(cluster_key("bare"))
    three.add_pod("web", {"clusterNetwork": "bare"})
    three.leases.away = True
    with pytest.raises(StoreError):
        three.attacher.add(request(Verb.ADD, "web", pod))
    assert set(pod.links()) == {"lo"}


def test_a_missing_parent_is_try_again_and_an_mtu_beyond_it_is_told_in_numbers(
    three: AttachNode, pod: Namespace
) -> None:
    three.add_network(INTERNAL, v4="10.2.0.0/24", rt_table=77, mtu=9000)
    with pytest.raises(ConflictError, match=rf"MTU 9000 .* more than the 1500 of {three.parent}"):
        three.attacher.add(request(Verb.ADD, "web", pod))
    three.add_network(INTERNAL, v4="10.2.0.0/24", rt_table=77, host_device="dtnothere")
    with pytest.raises(NotReadyError, match="device dtnothere"):
        three.attacher.add(request(Verb.ADD, "web", pod))
    three.view.missing.add(EXT)
    with pytest.raises(NotReadyError, match="no device"):
        three.attacher.add(request(Verb.ADD, "web", pod))
    assert_empty(pod, three, "c-web")


def test_a_veth_pair_has_the_mtu_of_its_bridge(three: AttachNode, pod: Namespace) -> None:
    run("ip", "link", "set", three.bridge, "mtu", "1450")
    three.attacher.add(request(Verb.ADD, "web", pod))
    assert pod.links()["front2"]["mtu"] == 1450


def test_two_interfaces_in_one_subnet_each_have_a_rule_of_their_own(
    three: AttachNode, pod: Namespace
) -> None:
    entry = {"tenantNetwork": "internal", "ip": "dynamic"}
    three.add_pod("web", {**entry, "proutes": {"10.70.0.0/16": "10.2.0.9"}}, entry)
    three.attacher.add(request(Verb.ADD, "web", pod))
    rules = lines(pod, "rule", "show")
    assert "from 10.2.0.1 lookup 77" in rules
    assert "from 10.2.0.2 lookup 77" not in rules
    assert len(three.held("c-web")) == 2


# GC, STATUS, expire


def test_gc_takes_what_the_runtime_no_longer_knows_and_only_of_its_own_network(
    three: AttachNode, namespaces: Namespaces
) -> None:
    pods = {name: namespaces.make("pod") for name in ("kept", "stale", "foreign")}
    for name, where in pods.items():
        three.add_pod(name, *THREE)
        network = "elsewhere" if name == "foreign" else "danmpy"
        three.attacher.add(request(Verb.ADD, name, where, network_name=network))
    kept = Attachment(container_id="c-kept", ifname="eth0")
    gc = request(Verb.GC, "", "", "", valid_attachments=frozenset({kept}))
    three.attacher.collect(gc)
    assert {record.pod for record in three.journal.read_all()} == {"kept", "foreign"}
    assert set(pods["stale"].links()) == {"lo"}
    assert "collected" in three.end_reasons()
    three.attacher.collect(replace(gc, valid_attachments=None))
    assert len(three.journal.read_all()) == 2
    three.attacher.collect(replace(gc, valid_attachments=frozenset()))
    assert {record.pod for record in three.journal.read_all()} == {"foreign"}


def test_a_node_that_is_still_starting_attaches_nothing_and_does_all_the_rest(
    three: AttachNode, namespaces: Namespaces
) -> None:
    add = request(Verb.ADD, "web", namespaces.make("pod"))
    result = three.attacher.add(add)
    three.add_pod("late", *THREE)
    three.view.waits_for = "the API server does not answer"
    with pytest.raises(NotReadyError, match="API server does not answer"):
        three.attacher.add(request(Verb.ADD, "late", namespaces.make("pod")))
    with pytest.raises(UnavailableError, match="API server does not answer") as caught:
        three.attacher.status()
    assert caught.value.cni_code == 50
    assert three.attacher.add(add) == result
    three.attacher.check(with_prev(add, result))
    three.attacher.collect(
        request(
            Verb.GC,
            "",
            "",
            "",
            valid_attachments=frozenset({Attachment(container_id="c-web", ifname="eth0")}),
        )
    )
    three.attacher.delete(replace(add, verb=Verb.DEL))
    assert three.journal.read_all() == ()


def test_what_is_broken_is_left_as_it_is_until_the_node_can_make_it_anew(
    three: AttachNode, pod: Namespace
) -> None:
    add = request(Verb.ADD, "web", pod)
    three.attacher.add(add)
    pod.ip("link", "set", "eth0", "down")
    three.view.waits_for = "the API server does not answer"
    with pytest.raises(NotReadyError):
        three.attacher.add(add)
    assert len(three.held("c-web")) == 4
    assert set(pod.links()) >= {"eth0", "eth1", "front2"}
    three.view.waits_for = ""
    three.attacher.add(add)
    assert pod.links()["eth0"]["operstate"] != "DOWN"


def test_what_was_parsed_of_the_declaration_is_handed_on(three: AttachNode, pod: Namespace) -> None:
    three.attacher.add(request(Verb.ADD, "web", pod))
    (asks,) = three.view.heard
    assert [ask.network for ask in asks] == [EXT, INTERNAL, FRONT]


def test_status_is_50_while_the_database_is_away(three: AttachNode) -> None:
    three.attacher.status()
    three.leases.away = True
    with pytest.raises(UnavailableError, match="unreachable") as caught:
        three.attacher.status()
    assert caught.value.cni_code == 50


def test_an_attachment_made_anew_since_it_was_looked_at_does_not_expire(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    three.attacher.add(call)
    (seen,) = three.journal.read_all()
    three.attacher.delete(call)
    three.attacher.add(call)
    three.attacher.expire(seen)
    assert len(three.held("c-web")) == 4
    (seen,) = three.journal.read_all()
    three.attacher.expire(seen)
    assert_empty(pod, three, "c-web")
    assert three.end_reasons()[-1] == "collected"

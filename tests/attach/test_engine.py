"""The CNI verbs on a real node: namespaces, links, a SQLite file, a journal."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from ipaddress import ip_address

import pytest

from danmpy.api.cni import Attachment, CniResult, Verb
from danmpy.attach.journal import Phase
from danmpy.errors import (
    ConflictError,
    DelegateError,
    HostError,
    IntentError,
    NotReadyError,
    StoreError,
    UnavailableError,
    WireError,
)
from danmpy.faults import ADD_POINTS, DEL_POINTS
from danmpy.kernel.netns import netns_id_of
from support.attaching import AttachNode, assert_empty, request, with_prev
from support.netns import Namespace, Namespaces, run
from support.specs import cluster_key, pool, route, tenant_key

EXT, INTERNAL, FRONT = tenant_key("ext"), tenant_key("internal"), cluster_key("front")
THREE = (
    {"tenantNetwork": "ext", "ip": "dynamic", "ip6": "dynamic"},
    {
        "tenantNetwork": "internal",
        "ip": "dynamic",
        "proutes": {"10.70.0.0/16": "10.2.0.9"},
    },
    {"clusterNetwork": "front", "ip": "dynamic", "ip6": "none"},
)


@pytest.fixture
def three(node: AttachNode) -> AttachNode:
    """A node with three networks (macvlan, macvlan with policy routes, bridge) and the pod web."""
    pools = {"v4": pool("10.1.0.0/24"), "v6": pool("fd01::/64")}  # the first one is the gateway's
    ext = node.add_network(
        EXT, gateway=ip_address("10.1.0.1"), gateway6=ip_address("fd01::1")
    )
    behind = {family: replace(one, first=one.first + 1) for family, one in pools.items()}
    node.view.networks[EXT] = replace(ext, **behind)
    node.add_network(INTERNAL, v4="10.2.0.0/24", rt_table=77, mtu=1400)
    node.add_network(FRONT, v4="10.3.0.0/24", backend="bridge", container_prefix="front")
    node.add_pod("web", *THREE)
    return node


@pytest.fixture
def pod(namespaces: Namespaces) -> Namespace:
    return namespaces.make("pod")


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
    by_link = {name: set() for name in ("eth0", "eth1", "front2")}
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
    with pytest.raises(WireError, match="cannot be opened|is gone") as caught:
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


def test_a_sandbox_of_a_pod_that_was_replaced_is_refused(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod, args=_args("web", "older"))
    with pytest.raises(IntentError, match="the runtime attaches UID older"):
        three.attacher.add(call)


# Failures


def broken_route(three: AttachNode) -> None:
    # The kernel finds out only at the very end: no interface reaches this gateway.
    front = three.view.networks[FRONT]
    three.view.networks[FRONT] = replace(front, routes=(route("10.99.0.0/16", "172.16.0.1"),))


def test_a_failure_of_the_last_interface_leaves_nothing_of_any(
    three: AttachNode, pod: Namespace
) -> None:
    broken_route(three)
    with pytest.raises(HostError, match=r"route 10\.99\.0\.0/16 via 172\.16\.0\.1.*unreachable"):
        three.attacher.add(request(Verb.ADD, "web", pod))
    assert_empty(pod, three, "c-web")
    assert set(three.end_reasons()) == {"rollback"}


def test_the_database_away_at_add_touches_nothing(three: AttachNode, pod: Namespace) -> None:
    three.leases.away = True
    with pytest.raises(StoreError):
        three.attacher.add(request(Verb.ADD, "web", pod))
    assert set(pod.links()) == {"lo"}
    three.leases.away = False
    assert three.attacher.repair() == 0
    assert_empty(pod, three, "c-web")


def test_an_undo_without_the_database_is_finished_when_it_is_back(
    three: AttachNode, pod: Namespace
) -> None:
    broken_route(three)
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


# DEL


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


# CHECK

SABOTAGE = {
    "interface eth0 is gone": ("link", "delete", "eth0"),
    "interface eth1 is down": ("link", "set", "eth1", "down"),
    "interface front2 is gone": ("link", "set", "front2", "down", "name", "renamed"),
    "interface eth0 has lost address 10.1.0.2/24": (
        *("address", "delete", "10.1.0.2/24", "dev", "eth0"),
    ),
    "interface eth0 has lost address fd01::2/64": (
        *("address", "delete", "fd01::2/64", "dev", "eth0"),
    ),
    "interface eth0 has lost the route to 0.0.0.0/0 via 10.1.0.1": ("route", "delete", "default"),
    "interface eth1 has lost the route to 10.70.0.0/16 via 10.2.0.9": (
        *("route", "delete", "10.70.0.0/16", "table", "77"),
    ),
    "the rule from 10.2.0.1 into table 77 is gone": ("rule", "delete", "from", "10.2.0.1"),
    "interface eth0 has MTU 1300, not 1500": ("link", "set", "eth0", "mtu", "1300"),
    "interface eth1 has MTU 1300, not 1400": ("link", "set", "eth1", "mtu", "1300"),
    "interface eth0 has MAC 02:00:00:00:00:07, not": (
        *("link", "set", "eth0", "address", "02:00:00:00:00:07"),
    ),
}


@pytest.mark.parametrize("problem", SABOTAGE)
def test_check_names_what_somebody_broke(
    three: AttachNode, pod: Namespace, problem: str
) -> None:
    call = request(Verb.ADD, "web", pod)
    result = three.attacher.add(call)
    check = with_prev(call, result)
    three.attacher.check(check)
    pod.ip(*SABOTAGE[problem])
    with pytest.raises(HostError) as caught:
        three.attacher.check(check)
    assert problem in caught.value.message


def test_check_names_a_lost_host_end_a_lost_lease_and_a_lost_namespace(
    three: AttachNode, pod: Namespace, namespaces: Namespaces
) -> None:
    call = request(Verb.ADD, "web", pod)
    result = three.attacher.add(call)
    check = with_prev(call, result)
    (end,) = three.host_ends()
    run("ip", "link", "set", end, "name", "dtlost")
    with pytest.raises(HostError, match=f"the node's end {end} of front2 is gone"):
        three.attacher.check(check)
    run("ip", "link", "set", "dtlost", "name", end)
    three.leases.store.release("c-web")
    with pytest.raises(HostError, match=r"no longer has the lease of 10\.1\.0\.2/24 for eth0"):
        three.attacher.check(check)
    namespaces.delete(pod)
    with pytest.raises(HostError, match="network namespace .* is gone"):
        three.attacher.check(check)


def test_check_compares_with_what_the_runtime_remembers(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    result = three.attacher.add(call)
    more = replace(result, ips=(*result.ips, replace(result.ips[0], gateway=None)))
    three.attacher.check(with_prev(call, more))
    less = replace(result, ips=result.ips[1:])
    with pytest.raises(HostError, match=r"prevResult lacks address 10\.1\.0\.2/24"):
        three.attacher.check(with_prev(call, less))
    with pytest.raises(HostError, match="it was attached in .* and the runtime says"):
        three.attacher.check(replace(with_prev(call, result), netns="/run/netns/other"))


def test_check_of_an_unknown_container_is_code_3_and_without_prev_result_code_7(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.CHECK, "web", pod)
    with pytest.raises(WireError) as caught:
        three.attacher.check(with_prev(call, CniResult()))
    assert caught.value.code == 3
    three.attacher.add(call)
    with pytest.raises(WireError) as caught:
        three.attacher.check(call)
    assert caught.value.code == 7


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


# Delegates

SCRIPT = """#!/bin/sh
# Writes down each call, and answers as the files beside it say.
folder=$(dirname "$0")/../said
cat > "$folder/stdin.$CNI_COMMAND"
echo "$CNI_COMMAND $CNI_IFNAME $CNI_NETNS" >> "$folder/calls"
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}' ;;
ADD) echo '{"cniVersion":"1.1.0","interfaces":[{"name":"'$CNI_IFNAME'","sandbox":"'$CNI_NETNS'"}]}' ;;
esac
if [ -e "$folder/fail.$CNI_COMMAND" ]; then
    echo '{"cniVersion":"1.1.0","code":111,"msg":"told to fail"}'; exit 1
fi
"""


@pytest.fixture
def delegated(three: AttachNode) -> AttachNode:
    """The pod's third interface is made by a plugin that writes down what it is told."""
    (three.folder / "said").mkdir()
    (three.folder / "said" / "calls").touch()
    plugin = three.bin_dir / "recorder"
    plugin.write_text(SCRIPT)
    plugin.chmod(0o755)
    conf = {"cniVersion": "1.1.0", "name": "rec", "type": "recorder"}
    (three.conf_dir / "rec.conf").write_text(json.dumps(conf))
    three.add_network(tenant_key("rec"), network_id="rec", backend="recorder", host_device="")
    three.add_pod("web", *THREE, {"tenantNetwork": "rec"})
    return three


def calls(node: AttachNode) -> list[str]:
    words = (node.folder / "said" / "calls").read_text().splitlines()
    return [line for line in words if not line.startswith("VERSION")]


def test_a_delegate_s_del_gets_the_configuration_and_the_result_of_its_add(
    delegated: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    result = delegated.attacher.add(call)
    assert result.interfaces[3].name == "eth3"
    delegated.attacher.check(with_prev(call, result))
    (delegated.conf_dir / "rec.conf").unlink()
    delegated.view.networks.clear()
    delegated.attacher.delete(call)
    assert calls(delegated) == [f"{verb} eth3 {pod.path}" for verb in ("ADD", "CHECK", "DEL")]
    told = json.loads((delegated.folder / "said" / "stdin.DEL").read_text())
    assert told["prevResult"]["interfaces"] == [{"name": "eth3", "sandbox": str(pod.path)}]
    assert_empty(pod, delegated, "c-web")


def test_a_delegate_that_fails_undoes_every_interface_before_it(
    delegated: AttachNode, pod: Namespace
) -> None:
    (delegated.folder / "said" / "fail.ADD").touch()
    with pytest.raises(DelegateError, match="told to fail"):
        delegated.attacher.add(request(Verb.ADD, "web", pod))
    assert f"DEL eth3 {pod.path}" in calls(delegated)
    assert_empty(pod, delegated, "c-web")


def test_addresses_stay_held_until_a_delegate_s_del_has_succeeded(
    delegated: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.DEL, "web", pod)
    delegated.attacher.add(call)
    (delegated.folder / "said" / "fail.DEL").touch()
    with pytest.raises(DelegateError, match="told to fail"):
        delegated.attacher.delete(call)
    assert set(pod.links()) == {"lo"}
    assert len(delegated.held("c-web")) == 4
    assert delegated.attacher.repair() == 1
    (delegated.folder / "said" / "fail.DEL").unlink()
    assert delegated.attacher.repair() == 0
    assert_empty(pod, delegated, "c-web")
    assert set(delegated.end_reasons()) == {"released"}


def test_check_tells_what_a_delegate_and_our_own_links_have_lost_together(
    delegated: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    result = delegated.attacher.add(call)
    (delegated.folder / "said" / "fail.CHECK").touch()
    pod.ip("link", "delete", "eth0")
    with pytest.raises(HostError, match=r"eth0 is gone.*told to fail"):
        delegated.attacher.check(with_prev(call, result))


def test_gc_is_passed_on_to_delegates_with_what_is_left(
    delegated: AttachNode, pod: Namespace, namespaces: Namespaces
) -> None:
    delegated.attacher.add(request(Verb.ADD, "web", pod))
    delegated.add_pod("other", *THREE, {"tenantNetwork": "rec"})
    delegated.attacher.add(request(Verb.ADD, "other", namespaces.make("pod")))
    kept = Attachment(container_id="c-web", ifname="eth0")
    gc = request(Verb.GC, "", "", "", valid_attachments=frozenset({kept}))
    delegated.attacher.collect(gc)
    told = json.loads((delegated.folder / "said" / "stdin.GC").read_text())
    assert told["cni.dev/valid-attachments"] == [{"containerID": "c-web", "ifname": "eth3"}]

"""Interfaces that come to running pods and leave them, on real links."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from danmpy.api.cni import CniInterface, CniResult, Verb, parse_result
from danmpy.api.dialects.keys import NPWG_NETWORKS
from danmpy.api.limits import DEFAULT_NETWORK_NAME
from danmpy.api.specs import (
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    PodSpec,
    QuotaSpec,
    TenantConfigSpec,
)
from danmpy.attach.engine import Attacher
from danmpy.attach.journal import AttachmentRecord
from danmpy.attach.plugging.doing import Wished
from danmpy.attach.plugging.following import Follower
from danmpy.attach.plugging.plan import Change
from danmpy.attach.plugging.wishes import wishes_of
from danmpy.errors import ConflictError, DanmpyError, HostError, IntentError, NotReadyError
from danmpy.faults import PLUG_POINTS, UNPLUG_POINTS
from danmpy.intent.values import Intent
from support.attaching import (
    ANNOTATION,
    EXT,
    FRONT,
    AttachNode,
    assert_empty,
    break_route,
    request,
    with_prev,
)
from support.netns import Namespace, Namespaces
from support.specs import danm_key, route, tenant_key

DEFAULT = danm_key(DEFAULT_NETWORK_NAME)

EXT_ASK = {"tenantNetwork": "ext", "ip": "dynamic", "ip6": "dynamic"}
INTERNAL_ASK = {
    "tenantNetwork": "internal",
    "ip": "dynamic",
    "proutes": {"10.70.0.0/16": "10.2.0.9"},
}
FRONT_ASK = {"clusterNetwork": "front", "ip": "dynamic", "ip6": "none"}


def ask(node: AttachNode, *interfaces: dict[str, Any]) -> PodSpec:
    """Let the running pod ask for these from now on."""
    return node.add_pod("web", *interfaces)


def record_of(node: AttachNode) -> AttachmentRecord:
    (record,) = node.journal.read_container("c-web")
    return record


def wished(node: AttachNode, *, only_compare: bool = False) -> Wished:
    return Wished(
        record=record_of(node),
        pod=node.view.pods["blue", "web"],
        intent=node.view.read_for("blue", "web", ""),
        only_compare=only_compare,
    )


def change(node: AttachNode) -> Change:
    made = node.attacher.change(wished(node))
    assert made is not None
    return made


def attach(node: AttachNode, pod: Namespace, *interfaces: dict[str, Any]) -> CniResult:
    ask(node, *interfaces)
    return node.attacher.add(request(Verb.ADD, "web", pod))


class Memory:
    """The wishes of now."""

    def __init__(self, node: AttachNode) -> None:
        self._node = node

    def read(self) -> Intent:
        return self._node.view.read_for("blue", "web", "")


def links(pod: Namespace) -> set[str]:
    return set(pod.links()) - {"lo"}


def check(node: AttachNode, pod: Namespace, result: CniResult) -> None:
    node.attacher.check(with_prev(request(Verb.CHECK, "web", pod), result))


def refuses(node: AttachNode, kind: type[DanmpyError] = IntentError) -> str:
    before = record_of(node)
    with pytest.raises(kind) as caught:
        change(node)
    assert record_of(node) == before, "something was changed"
    return str(caught.value)


def test_an_interface_that_is_added_comes_with_its_address_and_check_agrees(
    three: AttachNode, pod: Namespace
) -> None:
    result = attach(three, pod, EXT_ASK)
    ask(three, EXT_ASK, INTERNAL_ASK, FRONT_ASK)
    made = change(three)
    assert (made.leaving, made.coming) == ((), ("eth1", "front2"))
    assert links(pod) == {"eth0", "eth1", "front2"}
    assert {name for name, _ in three.held("c-web")} == {"eth0", "eth1", "front2"}
    check(three, pod, result)
    record = record_of(three)
    shown = parse_result(record.result)
    assert [each.name for each in shown.interfaces if each.sandbox] == ["eth0", "eth1", "front2"]
    held = {address for _, address in three.held("c-web")}
    assert {str(ip.address) for ip in shown.ips} == held
    assert {lease.interface for lease in record.leases} == {"eth0", "eth1", "front2"}
    assert not change(three)


def test_an_interface_that_is_taken_away_leaves_with_exactly_its_leases(
    three: AttachNode, pod: Namespace
) -> None:
    result = attach(three, pod, EXT_ASK, INTERNAL_ASK, FRONT_ASK)
    before = three.held("c-web")
    ask(three, EXT_ASK, FRONT_ASK)
    made = change(three)
    assert (made.leaving, made.coming) == (("eth1",), ())
    assert links(pod) == {"eth0", "front2"}
    assert "lookup 77" not in pod.ip("rule", "show").stdout
    assert three.held("c-web") == {each for each in before if each[0] != "eth1"}
    assert [each.end_reason for each in three.history() if each.interface == "eth1"] == [
        "unplugged"
    ]
    check(three, pod, result)
    assert "10.2." not in json.dumps(record_of(three).result)
    assert "10.70." not in json.dumps(record_of(three).result)


def test_a_del_after_any_change_removes_everything(three: AttachNode, pod: Namespace) -> None:
    attach(three, pod, EXT_ASK, INTERNAL_ASK)
    ask(three, EXT_ASK, FRONT_ASK)
    change(three)
    ask(three, EXT_ASK, FRONT_ASK, INTERNAL_ASK)
    change(three)
    three.attacher.delete(request(Verb.DEL, "web", pod))
    assert_empty(pod, three, "c-web")


def test_an_entry_that_asks_another_address_goes_and_comes_under_its_name(
    three: AttachNode, pod: Namespace
) -> None:
    attach(three, pod, EXT_ASK, INTERNAL_ASK)
    ask(three, EXT_ASK, {**INTERNAL_ASK, "ip": "10.2.0.77"})
    made = change(three)
    assert (made.leaving, made.coming) == (("eth1",), ("eth1",))
    assert ("eth1", "10.2.0.77/24") in three.held("c-web")
    assert len([name for name, _ in three.held("c-web") if name == "eth1"]) == 1
    assert "10.2.0.77" in pod.ip("addr", "show", "eth1").stdout


def test_another_mac_is_another_interface(three: AttachNode, pod: Namespace) -> None:
    attach(three, pod, EXT_ASK, FRONT_ASK)
    ask(three, EXT_ASK, {**FRONT_ASK, "mac": "02:00:00:00:00:99"})
    assert change(three).coming == ("front1",)
    assert "02:00:00:00:00:99" in pod.ip("link", "show", "front1").stdout
    assert len(three.host_ends()) == 1


def test_the_first_interface_is_never_changed(three: AttachNode, pod: Namespace) -> None:
    attach(three, pod, EXT_ASK, INTERNAL_ASK)
    ask(three, FRONT_ASK, INTERNAL_ASK)
    assert "its first interface eth0 would change" in refuses(three)
    ask(three, {**EXT_ASK, "ip": "10.1.0.99"}, INTERNAL_ASK)
    assert "its first interface eth0 would change" in refuses(three)
    ask(three, INTERNAL_ASK)
    refuses(three)
    assert links(pod) == {"eth0", "eth1"}


def test_a_broken_annotation_changes_nothing(three: AttachNode, pod: Namespace) -> None:
    attach(three, pod, EXT_ASK, INTERNAL_ASK)
    three.view.pods["blue", "web"] = replace(
        three.view.pods["blue", "web"], annotations={ANNOTATION: "[{"}
    )
    assert "danm.k8s.io/interfaces" in refuses(three)
    ask(three, EXT_ASK, {"tenantNetwork": "nowhere", "ip": "dynamic"})
    assert "there is no such network" in refuses(three)
    assert links(pod) == {"eth0", "eth1"}


def test_what_cannot_come_keeps_what_would_leave(three: AttachNode, pod: Namespace) -> None:
    attach(three, pod, EXT_ASK, INTERNAL_ASK)
    ask(three, EXT_ASK, FRONT_ASK)
    three.view.missing.add(FRONT)
    assert "no device" in refuses(three, NotReadyError)
    assert links(pod) == {"eth0", "eth1"}
    three.view.missing.clear()
    assert change(three).leaving == ("eth1",)


def test_a_node_that_is_starting_changes_nothing(three: AttachNode, pod: Namespace) -> None:
    attach(three, pod, EXT_ASK)
    ask(three, EXT_ASK, FRONT_ASK)
    three.view.waits_for = "it starts"
    refuses(three, NotReadyError)


def test_what_fails_halfway_is_taken_away_again(three: AttachNode, pod: Namespace) -> None:
    attach(three, pod, EXT_ASK)
    before = three.held("c-web")
    ask(three, EXT_ASK, INTERNAL_ASK, FRONT_ASK)
    break_route(three)
    refuses(three, HostError)
    assert links(pod) == {"eth0"}
    assert three.held("c-web") == before
    assert three.host_ends() == []
    assert three.end_reasons().count("rollback") == 2


def test_what_has_left_comes_back_when_the_change_that_failed_is_taken_back(
    three: AttachNode, pod: Namespace
) -> None:
    attach(three, pod, EXT_ASK, INTERNAL_ASK)
    ask(three, EXT_ASK, FRONT_ASK)
    break_route(three)
    follower = Follower(
        journal=three.journal,
        source=Memory(three),
        changer=three.attacher,
        tell=lambda _news: None,
    )
    assert follower.look(0.0) == 0
    assert links(pod) == {"eth0"}
    ask(three, EXT_ASK, INTERNAL_ASK)
    assert follower.look(1.0) == 1
    assert links(pod) == {"eth0", "eth1"}
    assert record_of(three).wishes == wishes_of(three.view.pods["blue", "web"])


def test_a_database_that_is_away_leaves_the_rest_of_the_work_to_the_repair(
    three: AttachNode, pod: Namespace
) -> None:
    attach(three, pod, EXT_ASK, INTERNAL_ASK)
    ask(three, EXT_ASK)
    three.leases.away = True
    with pytest.raises(DanmpyError):
        change(three)
    assert links(pod) == {"eth0"}
    assert {name for name, _ in three.held("c-web")} == {"eth0", "eth1"}
    assert three.attacher.repair() == 1
    three.leases.away = False
    assert three.attacher.repair() == 0
    assert {name for name, _ in three.held("c-web")} == {"eth0"}
    assert not change(three)
    assert record_of(three).wishes == wishes_of(three.view.pods["blue", "web"])


def test_a_second_interface_on_a_network_leaves_its_routes_to_the_first(
    three: AttachNode, pod: Namespace
) -> None:
    front = three.view.networks[FRONT]
    three.view.networks[FRONT] = replace(front, routes=(route("10.99.0.0/16", "10.3.0.9"),))
    attach(three, pod, EXT_ASK, FRONT_ASK)
    ask(three, EXT_ASK, FRONT_ASK, FRONT_ASK)
    assert change(three).coming == ("front2",)
    assert "dev front1" in pod.ip("route", "show", "10.99.0.0/16").stdout


def test_a_route_that_another_network_s_interface_has_is_refused_before_anything_is_touched(
    three: AttachNode, pod: Namespace
) -> None:
    for key, gateway in ((EXT, "10.1.0.9"), (FRONT, "10.3.0.9")):
        spec = three.view.networks[key]
        three.view.networks[key] = replace(spec, routes=(route("10.99.0.0/16", gateway),))
    attach(three, pod, EXT_ASK, INTERNAL_ASK)
    ask(three, EXT_ASK, FRONT_ASK)
    told = refuses(three, ConflictError)
    assert "interfaces eth0 on TenantNetwork/blue/ext and front1 on ClusterNetwork/front" in told
    ask(three, EXT_ASK, INTERNAL_ASK, INTERNAL_ASK)
    assert "both route 10.70.0.0/16 in table 77" in refuses(three, ConflictError)
    assert links(pod) == {"eth0", "eth1"}


def test_a_quota_of_interfaces_holds_for_running_pods(three: AttachNode, pod: Namespace) -> None:
    attach(three, pod, EXT_ASK)
    three.view.tenant_configs = (
        TenantConfigSpec(name="few", quotas=QuotaSpec(interfaces_per_pod=2)),
    )
    ask(three, EXT_ASK, INTERNAL_ASK, FRONT_ASK)
    assert "may have 2" in refuses(three)
    ask(three, EXT_ASK, INTERNAL_ASK)
    assert change(three).coming == ("eth1",)


def test_the_default_route_does_not_move(three: AttachNode, pod: Namespace) -> None:
    attach(three, pod, INTERNAL_ASK)
    ask(three, INTERNAL_ASK, {**EXT_ASK, "default_route": True})
    assert "does not move" in refuses(three)
    ask(three, INTERNAL_ASK, EXT_ASK)
    change(three)
    assert "default" not in pod.ip("route", "show").stdout


def test_a_name_that_somebody_else_made_in_the_pod_is_not_taken(
    three: AttachNode, pod: Namespace
) -> None:
    attach(three, pod, EXT_ASK)
    pod.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth9")
    ask(three, EXT_ASK, INTERNAL_ASK)
    assert change(three).coming == ("eth2",)
    ask(three, EXT_ASK, INTERNAL_ASK, {**FRONT_ASK, "name": "eth9"})
    assert "not ours" in refuses(three, ConflictError)
    assert {"eth1", "eth9"} <= links(pod)


def test_nothing_is_done_in_another_namespace(three: AttachNode, pod: Namespace) -> None:
    attach(three, pod, EXT_ASK)
    ask(three, EXT_ASK, FRONT_ASK)
    three.journal.write(replace(record_of(three), netns_inode=1))
    assert "namespace is gone" in refuses(three, NotReadyError)
    assert links(pod) == {"eth0"}


def test_comparing_alone_touches_nothing_and_takes_the_wishes_as_they_are(
    three: AttachNode, pod: Namespace
) -> None:
    attach(three, pod, EXT_ASK)
    three.journal.write(replace(record_of(three), wishes=""))
    ask(three, EXT_ASK, FRONT_ASK)
    made = three.attacher.change(wished(three, only_compare=True))
    assert made is not None
    assert made.coming == ("front1",)
    assert links(pod) == {"eth0"}
    assert record_of(three).wishes == wishes_of(three.view.pods["blue", "web"])


def test_a_container_that_is_busy_is_left_alone(three: AttachNode, pod: Namespace) -> None:
    attach(three, pod, EXT_ASK)
    ask(three, EXT_ASK, FRONT_ASK)
    with three.attacher._locks.container("c-web"):
        assert three.attacher.change(wished(three)) is None
        assert three.attacher.examine(record_of(three)) is None
    assert links(pod) == {"eth0"}


def test_a_repeated_add_answers_with_what_stands(three: AttachNode, pod: Namespace) -> None:
    attach(three, pod, EXT_ASK, INTERNAL_ASK)
    ask(three, EXT_ASK, FRONT_ASK)
    change(three)
    result = three.attacher.add(request(Verb.ADD, "web", pod))
    assert [each.name for each in result.interfaces if each.sandbox] == ["eth0"]
    assert links(pod) == {"eth0", "front1"}


# NetworkAttachmentDefinitions


def declare_nads(node: AttachNode, *names: str) -> None:
    """The default network of DANM, and NADs by macvlan with an IPAM of their own."""
    node.add_network(DEFAULT, v4="10.1.0.0/24")
    for number, name in enumerate(names, start=1):
        key = NetworkKey(kind=NetworkKind.NAD, namespace="blue", name=name)
        ipam = {
            "type": "host-local",
            "dataDir": str(node.folder / "host-local"),
            "subnet": f"10.{number}0.0.0/24",
        }
        conf = {"cniVersion": "1.0.0", "type": "macvlan", "master": node.parent, "ipam": ipam}
        node.view.networks[key] = NetworkSpec(
            key=key, uid=f"uid-{name}", network_id=name, backend="nad", conf=json.dumps(conf)
        )


def ask_npwg(node: AttachNode, text: str) -> None:
    node.view.pods["blue", "web"] = PodSpec(
        namespace="blue", name="web", uid="uid-web", annotations={NPWG_NETWORKS: text}
    )


def local(node: AttachNode) -> list[str]:
    """The addresses that host-local has handed out."""
    return sorted(path.name for path in (node.folder / "host-local").glob("*/10.*"))


def test_interfaces_of_delegates_come_and_go_and_keep_their_names(
    node: AttachNode, pod: Namespace
) -> None:
    declare_nads(node, "a", "b", "c")
    ask_npwg(node, "a, b")
    result = node.attacher.add(request(Verb.ADD, "web", pod))
    assert links(pod) == {"eth0", "net1", "net2"}
    ask_npwg(node, "b, c, a@data")
    made = change(node)
    assert (made.leaving, made.coming) == (("net1",), ("net1", "data"))
    assert links(pod) == {"eth0", "net1", "net2", "data"}
    assert [name.split(".")[1] for name in local(node)] == ["10", "20", "30"]
    check(node, pod, result)
    assert not change(node)
    ask_npwg(node, "b")
    assert set(change(node).leaving) == {"net1", "data"}
    assert links(pod) == {"eth0", "net2"}
    assert [name.split(".")[1] for name in local(node)] == ["20"]
    check(node, pod, result)
    node.attacher.delete(request(Verb.DEL, "web", pod))
    assert_empty(pod, node, "c-web")
    assert local(node) == []


@pytest.mark.parametrize(
    "point", [each for each in (*PLUG_POINTS, *UNPLUG_POINTS) if each != "del:link"]
)
def test_killed_while_a_delegates_interface_changes_nothing_is_left_of_it(
    node: AttachNode, pod: Namespace, point: str
) -> None:
    declare_nads(node, "a", "b")
    ask_npwg(node, "a")
    node.attacher.add(request(Verb.ADD, "web", pod))
    ask_npwg(node, "b")
    node.die_at(point, plug(node))
    assert node.attacher.repair() == 0
    assert links(pod) in ({"eth0"}, {"eth0", "net1"})
    assert len(local(node)) == len(links(pod)) - 1
    change(node)
    assert [name.split(".")[1] for name in local(node)] == ["20"]
    node.attacher.delete(request(Verb.DEL, "web", pod))
    assert_empty(pod, node, "c-web")
    assert local(node) == []


def test_pods_of_genie_and_knitter_are_changed_as_well(node: AttachNode, pod: Namespace) -> None:
    declare_nads(node)
    for name in ("a", "b"):
        node.add_network(tenant_key(name), v4=f"10.{ord(name)}.0.0/24")

    def says(**annotations: str) -> None:
        node.view.pods["blue", "web"] = PodSpec(
            namespace="blue", name="web", uid="uid-web", annotations=annotations
        )

    says(cni="", networks="a")
    result = node.attacher.add(request(Verb.ADD, "web", pod))
    assert links(pod) == {"eth0"}
    says(cni="", networks="a,b")
    assert change(node).coming == ("eth1",)
    check(node, pod, result)
    says(cni="", networks="a")
    assert change(node).leaving == ("eth1",)
    node.attacher.delete(request(Verb.DEL, "web", pod))

    def ports(*names: str) -> str:
        return json.dumps({"ports": [{"attach_to_network": name} for name in names]})

    says(networks=ports("a"))
    result = node.attacher.add(request(Verb.ADD, "web", pod))
    before = links(pod)
    says(networks=ports("a", "b"))
    (came,) = change(node).coming
    assert links(pod) == {*before, came}
    check(node, pod, result)
    says(networks=ports("a"))
    assert change(node).leaving == (came,)
    assert links(pod) == before


def test_what_no_plugin_can_do_keeps_the_interface_that_would_be_changed(
    node: AttachNode, pod: Namespace
) -> None:
    declare_nads(node, "a")
    ask_npwg(node, "a")
    node.attacher.add(request(Verb.ADD, "web", pod))
    ports = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    ask_npwg(node, json.dumps([{"name": "a", "portMappings": ports}]))
    assert "portMappings" in refuses(node)
    assert links(pod) == {"eth0", "net1"}


def test_a_pod_that_asks_for_the_first_time_keeps_its_default_network(
    node: AttachNode, pod: Namespace
) -> None:
    declare_nads(node, "a")
    attach(node, pod)
    ask_npwg(node, "a")
    assert change(node).coming == ("net1",)
    assert links(pod) == {"eth0", "net1"}


def test_behind_another_plugin_its_interface_is_left_alone(
    node: AttachNode, pod: Namespace
) -> None:
    declare_nads(node, "a")
    pod.ip("link", "add", "eth0", "type", "veth", "peer", "name", "far9")
    before = CniResult(interfaces=(CniInterface(name="eth0", sandbox=str(pod.path)),))
    node.add_pod("web")
    result = node.attacher.add(request(Verb.ADD, "web", pod, prev_result=before))
    assert result == before
    ask_npwg(node, "a")
    assert change(node).coming == ("net1",)
    assert "net1" in links(pod)
    check(node, pod, result)
    ask_npwg(node, "[]")
    assert change(node).leaving == ("net1",)
    check(node, pod, result)
    node.attacher.delete(request(Verb.DEL, "web", pod))
    assert links(pod) == {"eth0", "far9"}


def test_changes_beside_all_other_verbs_and_jobs_leave_nothing(
    three: AttachNode, namespaces: Namespaces
) -> None:
    names = [f"p{number}" for number in range(3)]
    sandboxes = {name: namespaces.make("pod") for name in names}
    wishes = ([EXT_ASK], [EXT_ASK, INTERNAL_ASK], [EXT_ASK, FRONT_ASK, INTERNAL_ASK])
    for name in names:
        three.add_pod(name, *wishes[0])
    over, changed = threading.Event(), Counter[str]()

    def come_and_go(name: str) -> None:
        while not over.is_set():
            three.attacher.add(request(Verb.ADD, name, sandboxes[name]))
            time.sleep(0.05)
            three.attacher.delete(request(Verb.DEL, name, sandboxes[name]))

    def ask_otherwise(name: str) -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            spec = three.add_pod(name, *wishes[turn % 3])
            for record in three.journal.read_container(f"c-{name}"):
                intent = three.view.read_for("blue", name, "")
                with suppress(NotReadyError):  # the sandbox may be on its way in or out
                    changed[name] += bool(
                        three.attacher.change(Wished(record=record, pod=spec, intent=intent))
                    )
            time.sleep(0.005)

    def tidy() -> None:
        while not over.is_set():
            three.attacher.repair()
            for record in three.journal.read_all():
                three.attacher.examine(record)

    with ThreadPoolExecutor(8) as threads:
        running = [
            threads.submit(work, name) for name in names for work in (come_and_go, ask_otherwise)
        ]
        running.append(threads.submit(tidy))
        time.sleep(1.5)
        over.set()
    for each in running:
        each.result()
    assert min(changed[name] for name in names) > 1, changed
    for name, sandbox in sandboxes.items():
        three.attacher.delete(request(Verb.DEL, name, sandbox))
        assert_empty(sandbox, three, f"c-{name}")


# Crashes


def plug(node: AttachNode) -> Callable[[Attacher], object]:
    return lambda attacher: attacher.change(wished(node))


@pytest.mark.parametrize("point", PLUG_POINTS)
def test_killed_while_an_interface_comes_the_pod_has_it_whole_or_not_at_all(
    three: AttachNode, pod: Namespace, point: str
) -> None:
    result = attach(three, pod, EXT_ASK)
    before = three.held("c-web")
    ask(three, EXT_ASK, INTERNAL_ASK, FRONT_ASK)
    three.die_at(point, plug(three))
    assert three.attacher.repair() == 0
    whole = point == "plug:recorded"
    assert links(pod) == ({"eth0", "eth1", "front2"} if whole else {"eth0"})
    assert (three.held("c-web") == before) is not whole
    assert len(three.host_ends()) == whole
    assert record_of(three).pending == ()
    check(three, pod, result)
    assert bool(change(three)) is not whole
    assert links(pod) == {"eth0", "eth1", "front2"}
    three.attacher.delete(request(Verb.DEL, "web", pod))
    assert_empty(pod, three, "c-web")


@pytest.mark.parametrize("point", UNPLUG_POINTS)
def test_killed_while_an_interface_leaves_it_is_gone_after_the_start(
    three: AttachNode, pod: Namespace, point: str
) -> None:
    result = attach(three, pod, EXT_ASK, INTERNAL_ASK, FRONT_ASK)
    ask(three, EXT_ASK)
    three.die_at(point, plug(three))
    assert three.attacher.repair() == 0
    assert links(pod) == {"eth0"}
    assert {name for name, _ in three.held("c-web")} == {"eth0"}
    assert three.host_ends() == []
    assert "lookup 77" not in pod.ip("rule", "show").stdout
    check(three, pod, result)
    assert not change(three)


@pytest.mark.parametrize("point", [*PLUG_POINTS, *UNPLUG_POINTS])
def test_killed_while_anything_changes_a_del_removes_everything(
    three: AttachNode, pod: Namespace, point: str
) -> None:
    attach(three, pod, EXT_ASK, INTERNAL_ASK)
    ask(three, EXT_ASK, FRONT_ASK)
    three.die_at(point, plug(three))
    three.attacher.delete(request(Verb.DEL, "web", pod))
    assert_empty(pod, three, "c-web")

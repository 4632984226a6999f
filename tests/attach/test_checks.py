"""CHECK on a real node: whatever somebody broke by hand is found and named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from danmpy.api.cni import CniResult, Verb, render_result
from danmpy.errors import (
    HostError,
    WireError,
)
from support.attaching import (
    AttachNode,
    request,
    with_prev,
)
from support.netns import Namespace, Namespaces, run

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
def test_check_names_what_somebody_broke(three: AttachNode, pod: Namespace, problem: str) -> None:
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
    with pytest.raises(HostError, match=r"network namespace .* is gone"):
        three.attacher.check(check)


def test_check_compares_with_what_the_runtime_remembers(three: AttachNode, pod: Namespace) -> None:
    call = request(Verb.ADD, "web", pod)
    result = three.attacher.add(call)
    more = replace(result, ips=(*result.ips, replace(result.ips[0], gateway=None)))
    three.attacher.check(with_prev(call, more))
    less = replace(result, ips=result.ips[1:])
    with pytest.raises(HostError, match=r"prevResult lacks address 10\.1\.0\.2/24"):
        three.attacher.check(with_prev(call, less))
    with pytest.raises(HostError, match=r"it was attached in .* and the runtime says"):
        three.attacher.check(replace(with_prev(call, result), netns="/run/netns/other"))


def changed(result: CniResult, name: str, **changes: Any) -> CniResult:
    """`result` as a plugin behind us leaves it that changed the link `name`."""
    links = (replace(link, **changes) if link.name == name else link for link in result.interfaces)
    return replace(result, interfaces=tuple(links))


def test_what_a_plugin_behind_us_changed_is_as_the_final_result_says(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    result = three.attacher.add(call)
    final = changed(result, "eth0", mac="02:00:00:00:00:44")
    final = changed(final, "eth1", mtu=1300)
    with pytest.raises(HostError, match=r"eth0 has MAC .*, not 02:00:00:00:00:44; .*not 1300"):
        three.attacher.check(with_prev(call, final))
    pod.ip("link", "set", "eth0", "address", "02:00:00:00:00:44")
    pod.ip("link", "set", "eth1", "mtu", "1300")
    three.attacher.check(with_prev(call, final))
    with pytest.raises(HostError, match=r"eth0 has MAC 02:00:00:00:00:44, not .*not 1400"):
        three.attacher.check(with_prev(call, result))


def test_an_mtu_that_the_final_result_cannot_name_may_be_any(
    three: AttachNode, pod: Namespace
) -> None:
    call = request(Verb.ADD, "web", pod)
    final = changed(three.attacher.add(call), "eth1", mtu=0)
    pod.ip("link", "set", "eth1", "mtu", "1300")
    three.attacher.check(with_prev(call, final))


def test_without_a_final_result_only_links_that_nobody_was_told_of_have_mac_and_mtu(
    three: AttachNode, pod: Namespace
) -> None:
    """An examination reports nothing that CHECK would bear, a repeated ADD makes nothing anew."""
    call = request(Verb.ADD, "web", pod)
    result = three.attacher.add(call)
    (record,) = three.journal.read_all()
    pod.ip("link", "set", "eth0", "address", "02:00:00:00:00:44")
    pod.ip("link", "set", "eth1", "mtu", "1300")
    assert three.attacher.examine(record) == ()
    assert three.attacher.add(call) == result
    assert pod.links()["eth0"]["address"] == "02:00:00:00:00:44"
    told = replace(result, interfaces=result.interfaces[:1], ips=())
    primary = replace(record, answer=render_result(told, "1.1.0"))
    three.journal.write(primary)
    assert three.attacher.examine(primary) == ("interface eth1 has MTU 1300, not 1400",)
    with pytest.raises(HostError) as caught:
        three.attacher.check(with_prev(call, changed(told, "eth0", mac="02:00:00:00:00:44")))
    assert caught.value.message == "interface eth1 has MTU 1300, not 1400"


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

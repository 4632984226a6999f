"""ADD: the result, the kernel, and what a failure leaves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from conformance import shapes
from conformance.driver import NOWHERE, Driver, Sandbox
from conformance.verdicts import (
    ALL,
    INTERFACE,
    STANDALONE,
    VERSIONS,
    check,
    expect,
    not_applicable,
    version_key,
)

AT_ONCE = 4


def own(sandbox: Sandbox) -> dict[str, Any]:
    """What the kernel has under the interface's name."""
    link = sandbox.netns.links().get(sandbox.ifname)
    expect(link, f"the container has no {sandbox.ifname} after ADD")
    assert link is not None
    return link


@check("the result of ADD has the shape of its version", "5 ADD Success", ALL, VERSIONS)
def result_shape(driver: Driver, version: str) -> None:
    result = driver.attach(version=version).result
    assert result is not None
    found = shapes.problems(result, version, driver.subject.kind)
    expect(not found, "; ".join(found))


@check("the result of ADD is what the kernel has", "5 ADD Success", INTERFACE, VERSIONS)
def result_true(driver: Driver, version: str) -> None:
    sandbox = driver.attach(version=version)
    link = own(sandbox)
    assert sandbox.result is not None
    expect("UP" in link["flags"], f"{sandbox.ifname} is not up: {link['flags']}")
    addresses = shapes.addresses(sandbox.result)
    have = list(sandbox.addresses())
    if version_key(version) < (0, 3, 0):
        expect(set(addresses) <= set(have), f"the result has {addresses}, the kernel {have}")
        return
    mine = [
        (index, each)
        for index, each in enumerate(sandbox.result["interfaces"])
        if each["name"] == sandbox.ifname and each.get("sandbox")
    ]
    expect(len(mine) == 1, f"{len(mine)} interfaces of the result are the container's")
    index, interface = mine[0]
    path = str(sandbox.netns.path)
    expect(interface["sandbox"] == path, f"sandbox {interface['sandbox']!r} instead of {path!r}")
    mac = interface.get("mac", "").lower()
    expect(mac == link["address"], f"mac {mac!r}, the kernel has {link['address']!r}")
    mtu = interface.get("mtu", link["mtu"])
    expect(mtu == link["mtu"], f"mtu {mtu}, the kernel has {link['mtu']}")
    listed = sorted(
        ip["address"] for ip in sandbox.result.get("ips", []) if ip.get("interface") == index
    )
    expect(listed == have, f"the result has {listed}, the kernel {have}")


@check("the host's interfaces of the result are on the host", "5 ADD Success", INTERFACE)
def host_interfaces_true(driver: Driver) -> None:
    sandbox = driver.attach()
    assert sandbox.result is not None
    links = driver.subject.host.links()
    listed = [each for each in sandbox.result.get("interfaces", []) if not each.get("sandbox")]
    if not listed:
        not_applicable("its result has no interface of the host")
    for each in listed:
        expect(each["name"] in links, f"the host has no {each['name']}")
        mac, have = each.get("mac", "").lower(), links[each["name"]]["address"]
        expect(mac in {"", have}, f"mac {mac!r} at {each['name']}, the kernel has {have!r}")


@check("the routes of the result are in the container", "5 ADD Success", INTERFACE)
def routes_true(driver: Driver) -> None:
    sandbox = driver.attach()
    assert sandbox.result is not None
    routes = sandbox.result.get("routes", [])
    if not routes:
        not_applicable("its result has no routes")
    for route in routes:
        family = "-6" if ":" in route["dst"] else "-4"
        dst = "default" if route["dst"] in {"0.0.0.0/0", "::/0"} else route["dst"]
        shown = sandbox.netns.ip(family, "route", "show", "table", "all").stdout
        expect(f"{dst} " in shown, f"no route to {dst}: {shown!r}")


@check("containers that are added at once get addresses of their own", "2 ADD", STANDALONE)
def add_at_once(driver: Driver) -> None:
    driver.need_link()
    if 0 < driver.subject.pool < AT_ONCE:
        not_applicable("its pool is too small")
    sandboxes = [driver.sandbox() for _ in range(AT_ONCE)]
    assert driver.newest  # asked for before the crowd asks
    with ThreadPoolExecutor(AT_ONCE) as crowd:
        answers = list(crowd.map(driver.add, sandboxes))
    found = [a for answer in answers for a in shapes.addresses(answer.expect_ok("ADD"))]
    expect(len(found) == len(set(found)), f"addresses twice: {sorted(found)}")


@check("a second interface of the same container is another attachment", "2 ADD", STANDALONE)
def add_second_interface(driver: Driver) -> None:
    driver.need_link()
    if driver.subject.once:
        not_applicable("one ADD makes all interfaces of a container")
    first = driver.attach()
    second = driver.attach(driver.second(first, "net1"))
    ones, others = (shapes.addresses(each.result or {}) for each in (first, second))
    expect(not set(ones) & set(others), f"both have {ones}")
    driver.delete(second).expect_silent("DEL of the second")
    driver.need_check()
    driver.check(first).expect_silent("CHECK of the first")


@check(
    "a second ADD is an error or the same result, and never another address", "2 ADD", STANDALONE
)
def add_twice(driver: Driver) -> None:
    sandbox = driver.attach()
    first = sandbox.result or {}
    before = sandbox.addresses() if driver.subject.kind in INTERFACE else ()
    answer = driver.add(sandbox)
    if answer.ok:
        same = sorted(shapes.addresses(answer.document)) == sorted(shapes.addresses(first))
        expect(same, f"first {shapes.addresses(first)}, then {shapes.addresses(answer.document)}")
    else:
        answer.expect_error("the second ADD")
    sandbox.result = first
    if driver.subject.kind in INTERFACE:
        expect(sandbox.addresses() == before, f"before {before}, after {sandbox.addresses()}")
    driver.delete(sandbox).expect_silent("DEL")


@check("the attachment still works after a refused second ADD", "2 ADD", STANDALONE)
def add_twice_keeps_first(driver: Driver) -> None:
    sandbox = driver.attach()
    first = sandbox.result or {}
    driver.add(sandbox)
    sandbox.result = first
    driver.need_check()
    driver.check(sandbox).expect_silent("CHECK after the second ADD")


@check("an interface that is already there is an error, and is left alone", "2 ADD", INTERFACE)
def ifname_taken(driver: Driver) -> None:
    driver.need_link()
    sandbox = driver.sandbox()
    sandbox.netns.ip("link", "add", sandbox.ifname, "type", "veth", "peer", "name", "other")
    before = sandbox.links()
    driver.add(sandbox).expect_error("ADD with the name taken")
    expect(set(sandbox.links()) == set(before), f"now there are {sorted(sandbox.links())}")
    mac = before[sandbox.ifname]["address"]
    expect(own(sandbox)["address"] == mac, "the foreign interface was changed")
    expect(not sandbox.addresses(), f"the foreign interface has {sandbox.addresses()}")


@check("a failed ADD leaves no link", "2 ADD", INTERFACE)
def failed_add_leaves_no_link(driver: Driver) -> None:
    driver.delete(driver.attach()).expect_silent("DEL")  # what the network shares may stay
    sandbox, taken = driver.sandbox(), driver.sandbox()
    before = driver.host_links()
    driver.add(sandbox, environ={"CNI_NETNS": NOWHERE}).expect_error("ADD into nowhere")
    driver.expect_host_links(before, "after ADD into nowhere")
    if driver.subject.makes_link:
        taken.netns.ip("link", "add", taken.ifname, "type", "veth", "peer", "name", "other")
        driver.add(taken).expect_error("ADD with the name taken")
        driver.expect_host_links(before, "after ADD with the name taken")


@check("failed ADDs keep no address, even without DEL", "4 Plugin delegation", INTERFACE)
def failed_adds_keep_no_address(driver: Driver) -> None:
    for _ in range(driver.need_pool()):
        sandbox = driver.sandbox()
        driver.add(sandbox, environ={"CNI_NETNS": NOWHERE}).expect_error("ADD into nowhere")
    driver.attach()


@check(
    "ADDs that the taken name failed keep no address, even without DEL",
    "4 Plugin delegation",
    INTERFACE,
)
def taken_names_keep_no_address(driver: Driver) -> None:
    for _ in range(driver.need_pool()):
        sandbox = driver.sandbox()
        sandbox.netns.ip("link", "add", sandbox.ifname, "type", "veth", "peer", "name", "other")
        driver.add(sandbox).expect_error("ADD with the name taken")
        sandbox.version = ""  # no DEL for it at the end, which would free what was kept
    driver.attach()


@check("a full pool is an error with a message", "2 ADD", STANDALONE)
def pool_full(driver: Driver) -> None:
    count = driver.need_pool()
    answers = [driver.add(driver.sandbox()) for _ in range(count)]
    refused = [answer for answer in answers if not answer.ok]
    expect(len(refused) == 2, f"{count - len(refused)} of {count} were served, {count - 2} fit")
    for answer in refused:
        expect(answer.expect_error("ADD").get("msg"), "no message")

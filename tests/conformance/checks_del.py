"""DEL: it takes away what is there, and success is its answer to what is not."""

from __future__ import annotations

from conformance.driver import NOWHERE, Driver
from conformance.verdicts import ALL, INTERFACE, STANDALONE, VERSIONS, check, expect


@check("DEL prints nothing, and the interface and all on the host is gone", "2 DEL", ALL, VERSIONS)
def del_clean(driver: Driver, version: str) -> None:
    driver.delete(driver.attach(version=version))  # what the network shares may stay
    sandbox = driver.sandbox()
    before, host = sandbox.links(), driver.host_links()
    driver.attach(sandbox, version)
    driver.delete(sandbox).expect_silent("DEL")
    if driver.subject.kind in STANDALONE:
        more = sorted(set(sandbox.links()) - set(before))
        expect(not more, f"the container still has {', '.join(more)}")
    driver.expect_host_links(host, "after DEL")


@check("DEL twice succeeds", "2 DEL")
def del_twice(driver: Driver) -> None:
    sandbox = driver.attach()
    for time in ("first", "second", "third"):
        driver.delete(sandbox).expect_silent(f"the {time} DEL")


@check("DEL of what was never added succeeds", "2 DEL")
def del_stranger(driver: Driver) -> None:
    driver.delete(driver.sandbox()).expect_silent("DEL")


@check("DEL without prevResult succeeds and takes the interface away", "2 DEL")
def del_without_result(driver: Driver) -> None:
    sandbox = driver.attach()
    driver.delete(sandbox, prev=False).expect_silent("DEL without prevResult")
    if driver.subject.kind in INTERFACE and driver.subject.makes_link:
        expect(sandbox.ifname not in sandbox.links(), f"{sandbox.ifname} is still there")


@check("DEL with a namespace that has vanished succeeds", "2 DEL")
def del_vanished(driver: Driver) -> None:
    host = driver.host_links()
    sandbox = driver.attach()
    shared = driver.host_links() & host
    driver.vanish(sandbox)
    driver.delete(sandbox).expect_silent("DEL")
    expect(not driver.stray(), f"DEL made {driver.stray()}")
    expect(shared <= driver.host_links(), "DEL took away what was there before ADD")


@check("DEL without CNI_NETNS succeeds", "2 DEL")
def del_without_netns(driver: Driver) -> None:
    for value in (None, ""):
        sandbox = driver.attach()
        driver.vanish(sandbox)
        driver.delete(sandbox, environ={"CNI_NETNS": value}).expect_silent("DEL")


@check("DEL of a stranger without CNI_NETNS and prevResult succeeds", "2 DEL")
def del_stranger_nowhere(driver: Driver) -> None:
    sandbox = driver.sandbox()
    driver.delete(sandbox, environ={"CNI_NETNS": NOWHERE}).expect_silent("DEL into nowhere")
    expect(not driver.stray(), f"DEL made {driver.stray()}")
    driver.delete(sandbox, environ={"CNI_NETNS": None}).expect_silent("DEL without CNI_NETNS")


@check("DEL frees the address", "2 DEL", STANDALONE)
def del_frees(driver: Driver) -> None:
    for _ in range(driver.need_pool()):
        driver.delete(driver.attach()).expect_silent("DEL")


@check("DEL with a namespace that has vanished frees the address", "2 DEL", STANDALONE)
def del_vanished_frees(driver: Driver) -> None:
    for _ in range(driver.need_pool()):
        sandbox = driver.attach()
        driver.vanish(sandbox)
        driver.delete(sandbox).expect_silent("DEL")


@check("DEL without CNI_NETNS and prevResult frees the address", "2 DEL", STANDALONE)
def del_bare_frees(driver: Driver) -> None:
    for _ in range(driver.need_pool()):
        sandbox = driver.attach()
        driver.vanish(sandbox)
        driver.delete(sandbox, environ={"CNI_NETNS": None}, prev=False).expect_silent("DEL")


@check("DEL of one container leaves the others alone", "2 DEL", STANDALONE)
def del_only_one(driver: Driver) -> None:
    first, second = driver.attach(), driver.attach()
    before = second.addresses() if driver.subject.kind in INTERFACE else ()
    driver.delete(first).expect_silent("DEL of the first")
    if driver.subject.kind in INTERFACE:
        expect(second.addresses() == before, f"before {before}, after {second.addresses()}")
    driver.need_check()
    driver.check(second).expect_silent("CHECK of the second")


@check("ADD, DEL and ADD again of the same container", "2 DEL")
def add_again(driver: Driver) -> None:
    sandbox = driver.attach()
    driver.delete(sandbox).expect_silent("DEL")
    driver.attach(sandbox)
    driver.delete(sandbox).expect_silent("DEL")

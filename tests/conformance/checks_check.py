"""CHECK: silent about what is well, an error about what is not, and nothing changed."""

from __future__ import annotations

from conformance.driver import Driver, Sandbox
from conformance.verdicts import (
    ALL,
    INTERFACE,
    STANDALONE,
    check,
    expect,
    not_applicable,
)

SINCE = ("0.4.0", "1.0.0", "1.1.0")


def attached(driver: Driver) -> Sandbox:
    """A container whose CHECK succeeds."""
    driver.need_check()
    sandbox = driver.attach()
    driver.check(sandbox).expect_silent("CHECK right after ADD")
    return sandbox


@check("CHECK right after ADD succeeds and prints nothing", "2 CHECK", ALL, SINCE)
def check_silent(driver: Driver, version: str) -> None:
    sandbox = driver.attach(version=version)
    for _ in range(2):
        driver.check(sandbox).expect_silent("CHECK")


@check("CHECK without prevResult is an error", "2 CHECK")
def check_without_result(driver: Driver) -> None:
    driver.need_check()
    driver.check(driver.attach(), prev=False).expect_error("CHECK without prevResult")


@check(
    "CHECK fails when somebody took the address away, and does not put it back",
    "2 CHECK",
    INTERFACE,
)
def check_address_gone(driver: Driver) -> None:
    sandbox = attached(driver)
    if not sandbox.addresses():
        not_applicable("it gives no address")
    sandbox.netns.ip("address", "flush", "dev", sandbox.ifname, "scope", "global")
    sandbox.netns.ip("address", "flush", "dev", sandbox.ifname, "scope", "host")
    driver.check(sandbox).expect_error("CHECK without the address")
    expect(not sandbox.addresses(), "CHECK put the address back")


@check("CHECK fails when the interface is gone", "2 CHECK", INTERFACE)
def check_link_gone(driver: Driver) -> None:
    driver.need_link()
    sandbox = attached(driver)
    sandbox.netns.ip("link", "delete", sandbox.ifname)
    driver.check(sandbox).expect_error("CHECK without the interface")
    expect(sandbox.ifname not in sandbox.links(), "CHECK made the interface")


@check("CHECK fails when another interface has the name", "2 CHECK", INTERFACE)
def check_link_changed(driver: Driver) -> None:
    driver.need_link()
    sandbox = attached(driver)
    had = sandbox.addresses()
    sandbox.netns.ip("link", "delete", sandbox.ifname)
    sandbox.netns.ip("link", "add", sandbox.ifname, "type", "veth", "peer", "name", "other")
    for address in had:
        sandbox.netns.ip("address", "add", address, "dev", sandbox.ifname)
    sandbox.netns.ip("link", "set", sandbox.ifname, "up")
    driver.check(sandbox).expect_error("CHECK of another interface")


@check("CHECK fails when a route of the result is gone", "2 CHECK", INTERFACE)
def check_route_gone(driver: Driver) -> None:
    sandbox = attached(driver)
    routes = (sandbox.result or {}).get("routes", [])
    if not routes:
        not_applicable("its result has no routes")
    family = "-6" if ":" in routes[0]["dst"] else "-4"
    sandbox.netns.ip(family, "route", "delete", routes[0]["dst"])
    driver.check(sandbox).expect_error(f"CHECK without the route to {routes[0]['dst']}")


@check("CHECK tolerates an address and a route that somebody added", "2 CHECK", INTERFACE)
def check_more(driver: Driver) -> None:
    driver.need_link()
    sandbox = attached(driver)
    sandbox.netns.ip("address", "add", "10.66.0.1/24", "dev", sandbox.ifname)
    sandbox.netns.ip("route", "add", "10.67.0.0/16", "dev", sandbox.ifname)
    driver.check(sandbox).expect_silent("CHECK with more than ADD gave")


@check("CHECK fails when the namespace has vanished", "2 CHECK", INTERFACE)
def check_vanished(driver: Driver) -> None:
    sandbox = attached(driver)
    driver.vanish(sandbox)
    driver.check(sandbox).expect_error("CHECK without the namespace")


@check("CHECK fails after DEL", "2 CHECK", STANDALONE)
def check_after_del(driver: Driver) -> None:
    driver.need_link()
    sandbox = attached(driver)
    driver.delete(sandbox).expect_silent("DEL")
    driver.check(sandbox).expect_error("CHECK after DEL")


@check("CHECK of a container that was never added is an error", "2 CHECK", STANDALONE)
def check_stranger(driver: Driver) -> None:
    driver.need_link()
    known = attached(driver)
    stranger = driver.sandbox()
    stranger.result, stranger.version = known.result, known.version
    driver.check(stranger).expect_error("CHECK of a stranger")
    stranger.result, stranger.version = None, ""

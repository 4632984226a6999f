"""Plugins that come after another one: what they were given goes on."""

from __future__ import annotations

from conformance.driver import GIVEN_ADDRESS, Driver
from conformance.verdicts import CHAINED, INTERFACE, VERSIONS, check, expect


@check("what came in prevResult is in the result", "2 ADD", CHAINED, VERSIONS)
def prev_result_kept(driver: Driver, version: str) -> None:
    sandbox = driver.sandbox()
    given = driver.given(sandbox, version)
    result = driver.attach(sandbox, version).result or {}
    for key in sorted(set(given) - {"interfaces"}):
        expect(result.get(key) == given[key], f"{key} was {given[key]}, is {result.get(key)}")
    names = [[each["name"] for each in one.get("interfaces", [])] for one in (given, result)]
    expect(names[1][: len(names[0])] == names[0], f"interfaces were {names[0]}, are {names[1]}")


@check("ADD without prevResult is an error", "3 Lifecycle", CHAINED)
def prev_result_missing(driver: Driver) -> None:
    sandbox = driver.sandbox()
    answer = driver.call("ADD", sandbox, stdin=driver.config())
    answer.expect_error("ADD without prevResult")


@check("the interface of the plugin before stays after DEL", "2 DEL", CHAINED)
def foreign_link_stays(driver: Driver) -> None:
    sandbox = driver.attach()
    driver.delete(sandbox).expect_silent("DEL")
    expect(sandbox.ifname in sandbox.links(), f"{sandbox.ifname} is gone")
    expect(sandbox.addresses() == (GIVEN_ADDRESS,), f"addresses {sandbox.addresses()}")


@check("an interface that comes after another plugin adds to its prevResult", "2 ADD", INTERFACE)
def prev_result_extended(driver: Driver) -> None:
    driver.need_link()
    sandbox = driver.sandbox()
    driver.give(sandbox, "net0")
    given = driver.given(sandbox, driver.newest, "net0")
    result = driver.add(sandbox, prevResult=given).expect_ok("ADD with prevResult")
    names = [each["name"] for each in result.get("interfaces", [])]
    addresses = [each["address"] for each in result.get("ips", [])]
    missing = [each for each in ("net0", sandbox.ifname) if each not in names]
    expect(not missing, f"{', '.join(missing)} not in the result, which has {names}")
    expect(GIVEN_ADDRESS in addresses, f"{GIVEN_ADDRESS} not in the result: {addresses}")
    driver.delete(sandbox).expect_silent("DEL")
    expect("net0" in sandbox.links(), "DEL took net0 away, which the other plugin made")

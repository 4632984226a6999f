"""What comes on stdin, and the errors that answer it."""

from __future__ import annotations

from typing import Any

from conformance.driver import Answer, Driver, Sandbox
from conformance.verdicts import Kind, check, expect

MIB = 1024 * 1024


def send(
    driver: Driver, sandbox: Sandbox, stdin: str | dict[str, Any], verb: str = "ADD"
) -> Answer:
    """`verb` with this on stdin; a chained plugin gets its prevResult too, if it is an object."""
    if isinstance(stdin, dict) and driver.subject.kind is Kind.CHAINED:
        stdin = {**stdin, "prevResult": driver.given(sandbox, driver.newest)}
    return driver.call(verb, sandbox, stdin=stdin)


def refuse(driver: Driver, stdin: str | dict[str, Any], *codes: int) -> dict[str, Any]:
    """ADD with this on stdin is an error with one of `codes` and changes nothing."""
    sandbox = driver.sandbox()
    before = sandbox.state()
    what = f"ADD with {str(stdin)[:60]!r} on stdin"
    error = send(driver, sandbox, stdin).expect_error(what, *codes)
    expect(sandbox.state() == before, f"{what} changed the container")
    return error


@check("nothing on stdin is code 6", "2 Error")
def stdin_empty(driver: Driver) -> None:
    refuse(driver, "", 6)


@check("JSON that is cut off is code 6", "2 Error")
def stdin_cut_off(driver: Driver) -> None:
    refuse(driver, "{", 6)
    refuse(driver, '{"cniVersion": "1.0.0", "name": "net"', 6)


@check("bytes that are no JSON are code 6", "2 Error")
def stdin_no_json(driver: Driver) -> None:
    refuse(driver, "cniVersion: 1.0.0\nname: net\n", 6)


@check("JSON that is no object is code 6", "2 Error")
def stdin_no_object(driver: Driver) -> None:
    for text in ("[]", '"net"', "7"):
        refuse(driver, text, 6)


@check("a cniVersion that is no text is an error (1, 6 or 7)", "1 Network configuration")
def version_no_text(driver: Driver) -> None:
    refuse(driver, {**driver.config(), "cniVersion": 1.1}, 1, 6, 7)


@check("no name is code 7", "1 Network configuration")
def name_missing(driver: Driver) -> None:
    config = driver.config()
    del config["name"]
    refuse(driver, config, 7)
    refuse(driver, {**config, "name": ""}, 7)


@check("an illegal name is code 7", "1 Network configuration")
def name_illegal(driver: Driver) -> None:
    for name in ("../net", "-net", "a/b", "a b"):
        refuse(driver, {**driver.config(), "name": name}, 7)


@check("an illegal name is code 7 on DEL too", "1 Network configuration")
def name_illegal_on_del(driver: Driver) -> None:
    config = {**driver.config(), "name": "../net"}
    send(driver, driver.sandbox(), config, "DEL").expect_error("DEL with an illegal name", 7)


@check("a name that is no text is an error (6 or 7)", "1 Network configuration")
def name_no_text(driver: Driver) -> None:
    refuse(driver, {**driver.config(), "name": 5}, 6, 7)


@check("keys that the plugin does not know are ignored", "1 Plugin configuration objects")
def unknown_keys(driver: Driver) -> None:
    sandbox = driver.sandbox()
    more: dict[str, Any] = {
        "dance": {"tango": [1, 2, None]},
        "cni.dev/dance": True,
        "args": {"cni": {"labels": [{"key": "a", "value": "b"}]}, "example.org": 1},
        "capabilities": {"dance": True},
    }
    driver.add(sandbox, **more).expect_ok("ADD with unknown keys")
    driver.delete(sandbox).expect_silent("DEL")


@check("a configuration of 1 MiB is served", "practice")
def stdin_big(driver: Driver) -> None:
    sandbox = driver.sandbox()
    driver.add(sandbox, padding="x" * MIB).expect_ok("ADD with 1 MiB on stdin")
    driver.delete(sandbox).expect_silent("DEL")


@check("a configuration of 24 MiB is served, or refused with an error object", "practice")
def stdin_huge(driver: Driver) -> None:
    sandbox = driver.sandbox()
    answer = driver.add(sandbox, padding="x" * (24 * MIB))
    if answer.ok:
        expect(answer.document, "an empty result")
    else:
        answer.expect_error("ADD with 24 MiB on stdin")


@check("deeply nested JSON is served, or refused with an error object", "practice")
def stdin_deep(driver: Driver) -> None:
    text = '{"name":"net","cniVersion":"%s","deep":%s%s}'
    deep = text % (driver.newest, "[" * 100_000, "]" * 100_000)
    answer = driver.call("DEL", driver.sandbox(), stdin=deep)
    if not answer.ok:
        answer.expect_error("DEL with deeply nested JSON")


@check("an error is one JSON object on stdout, with code and msg, and exit status not 0", "5 Error")
def error_object(driver: Driver) -> None:
    error = refuse(driver, {**driver.config(), "name": ""})
    expect(isinstance(error.get("msg"), str) and error["msg"], f"no msg: {error}")
    expect(isinstance(error.get("details", ""), str), f"details is no text: {error}")
    more = sorted(set(error) - {"cniVersion", "code", "msg", "details"})
    expect(not more, f"the error object has {', '.join(more)}")


@check("an error object has the cniVersion of the configuration", "5 Error")
def error_version(driver: Driver) -> None:
    for version in driver.claims:
        error = refuse(driver, {**driver.config(version), "name": ""})
        found = error.get("cniVersion")
        expect(found == version, f"cniVersion {found!r} instead of {version!r}")

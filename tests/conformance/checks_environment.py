"""The variables: what must be there, and what may stand in them."""

from __future__ import annotations

from conformance.driver import NOWHERE, Driver, Sandbox
from conformance.verdicts import INTERFACE, Kind, check, expect

BAD_CONTAINER_IDS = ("../c", "-c", ".c", "a/b", "a b", "a:b", "c\n")
BAD_IFNAMES = ("sixteen-bytes-00", "a/b", "a:b", "a b", "a\tb", ".", "..")


def refuse(driver: Driver, verb: str, sandbox: Sandbox, name: str, value: str | None) -> str:
    """`verb` with variable `name` set to `value` is code 4 and changes nothing: its message."""
    before = sandbox.state()
    config = driver.config()
    if driver.subject.kind is Kind.CHAINED:
        config["prevResult"] = driver.given(sandbox, driver.newest)
    answer = driver.call(verb, sandbox, stdin=config, environ={name: value})
    what = f"{verb} without {name}" if value is None else f"{verb} with {name}={value!r}"
    error = answer.expect_error(what, 4)
    expect(sandbox.state() == before, f"{what} changed the container")
    return str(error.get("msg"))


@check("no CNI_COMMAND: code 4, or a plugin that introduces itself on stderr", "2 Parameters")
def command_missing(driver: Driver) -> None:
    answer = driver.call(
        "ADD", driver.sandbox(), stdin=driver.config(), environ={"CNI_COMMAND": None}
    )
    if answer.ok:
        expect(not answer.stdout.strip(), f"stdout has {answer.stdout[:200]!r}")
        expect(answer.stderr.strip(), "neither an error nor a word")
        return
    answer.expect_error("no CNI_COMMAND", 4)


@check("an unknown CNI_COMMAND is code 4", "2 Parameters")
def command_unknown(driver: Driver) -> None:
    sandbox = driver.sandbox()
    for verb in ("DANCE", "add", "ADD "):
        driver.call(verb, sandbox, stdin=driver.config()).expect_error(f"CNI_COMMAND {verb!r}", 4)


@check("ADD without CNI_CONTAINERID is code 4", "2 Parameters")
def add_no_container_id(driver: Driver) -> None:
    for value in (None, ""):
        refuse(driver, "ADD", driver.sandbox(), "CNI_CONTAINERID", value)


@check("ADD without CNI_NETNS is code 4", "2 Parameters")
def add_no_netns(driver: Driver) -> None:
    for value in (None, ""):
        refuse(driver, "ADD", driver.sandbox(), "CNI_NETNS", value)


@check("ADD without CNI_IFNAME is code 4", "2 Parameters")
def add_no_ifname(driver: Driver) -> None:
    for value in (None, ""):
        refuse(driver, "ADD", driver.sandbox(), "CNI_IFNAME", value)


@check("DEL without CNI_CONTAINERID or CNI_IFNAME is code 4", "2 Parameters")
def del_missing(driver: Driver) -> None:
    for name in ("CNI_CONTAINERID", "CNI_IFNAME"):
        refuse(driver, "DEL", driver.sandbox(), name, None)


@check("CHECK without CNI_CONTAINERID, CNI_NETNS or CNI_IFNAME is code 4", "2 Parameters")
def check_missing(driver: Driver) -> None:
    driver.need_check()
    sandbox = driver.attach()
    for name in ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"):
        driver.check(sandbox, environ={name: None}).expect_error(f"CHECK without {name}", 4)


@check("the message names every variable that is missing", "2 Error")
def missing_are_named(driver: Driver) -> None:
    error = driver.call("ADD", stdin=driver.config()).expect_error("ADD without variables", 4)
    names = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME")
    unnamed = [name for name in names if name not in str(error.get("msg"))]
    expect(not unnamed, f"{', '.join(unnamed)} not in the message {error.get('msg')!r}")


@check("an illegal CNI_CONTAINERID is code 4", "2 Parameters")
def bad_container_id(driver: Driver) -> None:
    sandbox = driver.sandbox()
    for value in BAD_CONTAINER_IDS:
        refuse(driver, "ADD", sandbox, "CNI_CONTAINERID", value)


@check("an illegal CNI_IFNAME is code 4", "2 Parameters")
def bad_ifname(driver: Driver) -> None:
    sandbox = driver.sandbox()
    for value in BAD_IFNAMES:
        refuse(driver, "ADD", sandbox, "CNI_IFNAME", value)


@check("DEL with an illegal CNI_CONTAINERID or CNI_IFNAME is code 4", "2 Parameters")
def bad_names_on_del(driver: Driver) -> None:
    sandbox = driver.sandbox()
    refuse(driver, "DEL", sandbox, "CNI_CONTAINERID", "../c")
    refuse(driver, "DEL", sandbox, "CNI_IFNAME", "a/b")


@check("the message names the variable that is illegal", "2 Error")
def illegal_are_named(driver: Driver) -> None:
    sandbox = driver.sandbox()
    for name, value in (("CNI_CONTAINERID", "../c"), ("CNI_IFNAME", "a/b")):
        said = refuse(driver, "ADD", sandbox, name, value)
        expect(name in said, f"{name} not in the message {said!r}")


@check("ADD into a namespace that is not there is an error", "2 ADD", INTERFACE)
def add_nowhere(driver: Driver) -> None:
    answer = driver.add(driver.sandbox(), environ={"CNI_NETNS": NOWHERE})
    answer.expect_error("ADD into a namespace that is not there")


@check("unknown keys of CNI_ARGS do no harm beside IgnoreUnknown", "practice")
def unknown_args(driver: Driver) -> None:
    sandbox = driver.sandbox()
    sandbox.args = ";".join(filter(None, (sandbox.args, "DANCE=tango;K8S_POD_COLOUR=blue")))
    expect("IgnoreUnknown=" in sandbox.args, "the subject's own CNI_ARGS must have IgnoreUnknown")
    driver.attach(sandbox)
    driver.delete(sandbox).expect_silent("DEL")


@check("empty CNI_ARGS do no harm on DEL", "practice")
def empty_args(driver: Driver) -> None:
    sandbox = driver.attach()
    driver.delete(sandbox, environ={"CNI_ARGS": ""}).expect_silent("DEL")

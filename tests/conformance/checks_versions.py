"""VERSION, and what a plugin does with versions that it claims and that it does not."""

from __future__ import annotations

import re

from conformance.driver import Driver
from conformance.verdicts import VERSIONS, Kind, check, expect, not_applicable, version_key

IMPOSSIBLE = "9.9.9"


@check("VERSION needs nothing but CNI_COMMAND", "2 VERSION")
def version_alone(driver: Driver) -> None:
    config = {"cniVersion": driver.newest}
    answer = driver.call("VERSION", stdin=config, environ={"CNI_PATH": None})
    found = answer.expect_ok("VERSION")
    expect(isinstance(found.get("cniVersion"), str), f"no cniVersion: {found}")
    versions: list[object] = found.get("supportedVersions", [])
    expect(isinstance(versions, list) and versions, f"no supportedVersions: {found}")
    expect(len(versions) == len(set(versions)), f"a version is there twice: {versions}")
    bad = [each for each in versions if not re.fullmatch(r"\d+\.\d+\.\d+", str(each))]
    expect(not bad, f"these are no versions: {bad}")


@check("VERSION with the variables of an attachment, empty and full, is the same", "2 VERSION")
def version_with_variables(driver: Driver) -> None:
    config = {"cniVersion": driver.newest}
    plain = driver.call("VERSION", stdin=config)
    names = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS")
    empty = driver.call("VERSION", stdin=config, environ=dict.fromkeys(names, ""))
    full = driver.call("VERSION", driver.sandbox(), stdin=driver.config())
    for answer in (empty, full):
        expect(answer.expect_ok("VERSION") == plain.document, f"not the same: {answer.stdout!r}")


@check("VERSION with nothing on stdin", "practice")
def version_empty_stdin(driver: Driver) -> None:
    answer = driver.call("VERSION", stdin="")
    expect("supportedVersions" in answer.expect_ok("VERSION"), f"no versions: {answer.stdout!r}")


@check("every claimed version is served", "2 VERSION")
def claimed_versions_served(driver: Driver) -> None:
    for version in driver.claims:
        driver.delete(driver.attach(version=version)).expect_silent(f"DEL in {version}")


@check("a released version that is not claimed is code 1", "2 Error")
def unclaimed_version(driver: Driver) -> None:
    unclaimed = [version for version in VERSIONS if version not in driver.claims]
    if not unclaimed:
        not_applicable("it claims every released version")
    for version in unclaimed:
        sandbox = driver.sandbox()
        before = sandbox.state()
        driver.add(sandbox, version).expect_error(f"ADD in {version}", 1)
        expect(sandbox.state() == before, "the refused ADD changed the container")


@check("a version that nobody knows is code 1, and nothing is made", "2 Error")
def impossible_version(driver: Driver) -> None:
    sandbox = driver.sandbox()
    before = sandbox.state()
    for verb in ("ADD", "DEL"):
        config = {**driver.config(), "cniVersion": IMPOSSIBLE}
        answer = driver.call(verb, sandbox, stdin=config)
        answer.expect_error(f"{verb} in {IMPOSSIBLE}", 1)
    expect(sandbox.state() == before, "the refused ADD changed the container")


@check("CHECK before 0.4.0 is code 1", "2 CHECK")
def check_too_early(driver: Driver) -> None:
    driver.need_check()
    early = [version for version in driver.claims if version_key(version) < (0, 4, 0)]
    if not early:
        not_applicable("no version before 0.4.0 is claimed")
    for version in early:
        driver.check(driver.attach(version=version)).expect_error(f"CHECK in {version}", 1)


@check("GC and STATUS before 1.1.0 are code 1 (code 4 without 1.1.0)", "2 GC")
def upkeep_too_early(driver: Driver) -> None:
    early = [version for version in driver.claims if version_key(version) < (1, 1, 0)]
    if not early:
        not_applicable("no version before 1.1.0 is claimed")
    code = 1 if "1.1.0" in driver.claims else 4
    for version in early:
        for verb in ("GC", "STATUS"):
            config = {**driver.config(version), "cni.dev/valid-attachments": []}
            driver.call(verb, stdin=config).expect_error(f"{verb} in {version}", code)


@check("a configuration without cniVersion is served as 0.1.0 or 0.2.0, or is code 1", "practice")
def version_absent(driver: Driver) -> None:
    sandbox = driver.sandbox()
    old = {"0.1.0", "0.2.0"} & set(driver.claims)
    version = driver.claims[0]
    config = {**driver.config(version)}
    del config["cniVersion"]
    if driver.subject.kind is Kind.CHAINED:
        config["prevResult"] = driver.given(sandbox, version)
    answer = driver.call("ADD", sandbox, stdin=config)
    if not old:
        answer.expect_error("ADD without cniVersion", 1)
        return
    sandbox.version, sandbox.result = version, answer.expect_ok("ADD without cniVersion")
    found = sandbox.result.get("cniVersion")
    expect(found in {"0.1.0", "0.2.0", None}, f"the result has cniVersion {found}")

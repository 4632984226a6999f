"""Honest skips: a test may be skipped only through `need`, which says why and what would help.

A skip is an excuse. Here every excuse names what is missing and whether this machine could have
it (a Debian package, being root) or not (a link kind that its kernel was built without). In CI, or
with ``--no-unexplained-skips``, a skip without an excuse and a skip that could have been helped
are failures.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

POSTGRESQL_BIN = Path("/usr/lib/postgresql/15/bin")
CNI_PLUGINS = Path("/usr/lib/cni")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """Something of the machine that a test stands on; no `remedy`: nothing can be done."""

    name: str
    met: Callable[[], bool]
    remedy: str = ""


class UnmetRequirementError(pytest.skip.Exception):  # type: ignore[misc, name-defined]
    """A skip that says what is missing and whether this machine could have it."""

    def __init__(self, requirement: Requirement) -> None:
        self.requirement = requirement
        way_out = requirement.remedy or "this machine cannot have it"
        super().__init__(f"needs {requirement.name} ({way_out})")


def _runs(*argv: str) -> bool:
    return subprocess.run(argv, capture_output=True).returncode == 0


@functools.cache
def has_link_kind(kind: str) -> bool:
    """Can this kernel make links of `kind` (``vlan``, ``ipvlan``...)? Asks it, in a namespace."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    scratch = f"dt-probe-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    details = {
        "vlan": ["id", "2"],
        "vrf": ["table", "2"],
        "vxlan": ["id", "2", "dstport", "4789"],
    }.get(kind, [])
    parent = ["link", "p0"] if kind in {"vlan", "ipvlan", "macvlan", "macvtap", "ipvtap"} else []
    if not _runs("ip", "netns", "add", scratch):
        return False
    try:
        return _runs(
            "ip", "-n", scratch, "link", "add", "p0", "type", "veth", "peer", "name", "p1"
        ) and _runs(
            "ip", "-n", scratch, "link", "add", *parent, "name", "probe", "type", kind, *details
        )
    finally:
        _runs("ip", "netns", "delete", scratch)


def has_uml() -> bool:
    """Is User-Mode Linux here, with its modules and what some processors need beside it?"""
    from support import uml

    return uml.unavailable_because() == ""


@functools.cache
def has_apiserver() -> bool:
    """Are kube-apiserver, its etcd, and openssl for its keys here?"""
    from support import apiserver

    return all((apiserver.kube_apiserver(), apiserver.etcd(), shutil.which("openssl")))


@functools.cache
def has_kustomize() -> bool:
    """Is there a kubectl with kustomize 4 or later? Since then it tells; Debian's does not."""
    if shutil.which("kubectl") is None:
        return False
    argv = ("kubectl", "version", "--client", "--output", "json")
    done = subprocess.run(argv, capture_output=True, text=True)
    return "kustomizeVersion" in done.stdout


REQUIREMENTS = {
    each.name: each
    for each in (
        Requirement(name="root", met=lambda: os.geteuid() == 0, remedy="run the tests as root"),
        Requirement(
            name="namespaces",
            met=lambda: os.geteuid() == 0 and has_link_kind("bridge"),
            remedy="run the tests as root, with Debian's iproute2",
        ),
        Requirement(
            name="postgresql",
            met=(POSTGRESQL_BIN / "initdb").exists,
            remedy="install Debian's postgresql",
        ),
        Requirement(
            name="pgbouncer",
            met=lambda: any(map(shutil.which, ("pgbouncer", "/usr/sbin/pgbouncer"))),
            remedy="install Debian's pgbouncer",
        ),
        Requirement(
            name="cni-plugins",
            met=(CNI_PLUGINS / "host-local").exists,
            remedy="install Debian's containernetworking-plugins",
        ),
        Requirement(
            name="dnsmasq",
            met=lambda: shutil.which("dnsmasq") is not None,
            remedy="install Debian's dnsmasq-base",
        ),
        Requirement(
            name="tcpdump",
            met=lambda: shutil.which("tcpdump") is not None,
            remedy="install Debian's tcpdump",
        ),
        Requirement(
            name="ping",
            met=lambda: shutil.which("ping") is not None,
            remedy="install Debian's iputils-ping",
        ),
        Requirement(
            name="compiler",
            met=lambda: any(map(shutil.which, ("cc", "tcc"))),
            remedy="install Debian's tcc and libc6-dev",
        ),
        Requirement(
            name="cc",
            met=lambda: shutil.which("cc") is not None,
            remedy="install Debian's gcc and libc6-dev: tcc links nothing statically with glibc",
        ),
        Requirement(
            name="uml",
            met=has_uml,
            remedy="install Debian's user-mode-linux, kmod, tcc and libc6-dev",
        ),
        Requirement(
            name="apiserver",
            met=has_apiserver,
            remedy="run .ci/kube-apiserver and install Debian's etcd-server and openssl",
        ),
        Requirement(name="kustomize", met=has_kustomize),
    )
}


def need(*names: str) -> None:
    """Skip the calling test or fixture unless the machine has everything in `names`.

    A name is one of REQUIREMENTS, or ``link:KIND`` for a kind of link that this kernel must know
    (nothing can be done about those: mark the test ``uml`` instead where User-Mode Linux has it).
    """
    for name in names:
        if name.startswith("link:"):
            kind = name.removeprefix("link:")
            requirement = Requirement(
                name=f"links of kind {kind}", met=functools.partial(has_link_kind, kind)
            )
        else:
            requirement = REQUIREMENTS[name]
        if not requirement.met():
            skip_for(requirement)


def skip_for(requirement: Requirement) -> NoReturn:
    """Skip the calling test for want of `requirement`."""
    raise UnmetRequirementError(requirement)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-unexplained-skips",
        action="store_true",
        default=os.environ.get("CI") == "true",
        help="fail tests that are skipped without need(), or that this machine could run "
        "(default in CI)",
    )


def _objection(excuse: BaseException | None) -> str:
    """Why a skip with this exception is no good; empty when it is."""
    if not isinstance(excuse, UnmetRequirementError):
        return f"skipped without support.requirements.need: {excuse}"
    if excuse.requirement.remedy:
        return f"skipped, but this machine could run it: {excuse}"
    return ""


def _refuse(report: pytest.TestReport | pytest.CollectReport, excuse: BaseException | None) -> None:
    objection = _objection(excuse)
    if objection:
        report.outcome = "failed"
        report.longrepr = objection


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    strict = item.config.getoption("--no-unexplained-skips")
    if strict and report.skipped and not hasattr(report, "wasxfail"):
        _refuse(report, call.excinfo.value if call.excinfo else None)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, Any, pytest.CollectReport]:
    report: pytest.CollectReport = yield
    if collector.config.getoption("--no-unexplained-skips") and report.skipped:
        call = getattr(report, "call", None)
        _refuse(report, call.excinfo.value if call and call.excinfo else None)
    return report

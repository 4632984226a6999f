"""The hands of a runtime: start a plugin with an environment and a configuration, read its answer.

A plugin runs in a network namespace that stands for its host, so that what it leaves there is seen
and goes away; containers are namespaces of their own. What the kernel has is read with iproute2.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from conformance.verdicts import VERSIONS, Kind, expect, fail, not_applicable, version_key
from support.netns import NETNS_FOLDER, Namespace, Namespaces

SECONDS: Final = 60
"""A plugin that needs longer for one call hangs."""

NOWHERE: Final = str(NETNS_FOLDER / f"dt-nowhere-{os.getpid()}")
"""A path on which nothing is."""

GIVEN_ADDRESS: Final = "10.77.0.2/24"
"""Of what the plugin before a chained one is said to have made."""

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call came to."""

    status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Exit status 0."""
        return self.status == 0

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object that is all of stdout; anything else is a deviation."""
        try:
            found = json.loads(self.stdout)
        except ValueError:
            fail(f"stdout is no JSON: {self.stdout[:200]!r} (stderr {self.stderr[-300:]!r})")
        if not isinstance(found, dict):
            fail(f"stdout is no JSON object: {self.stdout[:200]!r}")
        return found

    @property
    def said(self) -> str:
        """For messages: the status, and code and message of the error object, if it is one."""
        try:
            found = json.loads(self.stdout)
            return f"exit {self.status}, code {found['code']}: {found['msg']}"
        except (ValueError, KeyError, TypeError):
            return f"exit {self.status}, stdout {self.stdout[:200]!r}"

    def expect_ok(self, what: str) -> dict[str, Any]:
        """The result of a success."""
        expect(self.ok, f"{what} failed: {self.said}")
        return self.document

    def expect_silent(self, what: str) -> None:
        """A success that prints nothing on stdout."""
        expect(self.ok, f"{what} failed: {self.said}")
        expect(not self.stdout.strip(), f"{what} printed {self.stdout[:200]!r}")

    def expect_error(self, what: str, *codes: int) -> dict[str, Any]:
        """The error object of a failure, with one of `codes` if there are any."""
        expect(not self.ok, f"{what} succeeded")
        found = self.document
        code = found.get("code")
        expect(isinstance(code, int), f"{what}: no error object: {self.stdout[:200]!r}")
        if codes:
            wanted = " or ".join(map(str, codes))
            expect(code in codes, f"{what} has code {code} instead of {wanted}: {found.get('msg')}")
        return found


@dataclass(slots=True)
class Sandbox:
    """A container: its namespace, its id, the name of its interface, and the last result of ADD."""

    netns: Namespace
    container_id: str
    ifname: str
    args: str = ""
    result: dict[str, Any] | None = None
    version: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    """What the configuration says of this container alone: its host device, say."""
    peers: dict[str, str] = field(default_factory=dict)
    """Of the interfaces that another plugin made: the host's end of each."""

    def links(self) -> dict[str, dict[str, Any]]:
        """Its links but loopback."""
        return {name: link for name, link in self.netns.links().items() if name != "lo"}

    def state(self) -> list[tuple[Any, ...]]:
        """All that a plugin may change of its links; not what the kernel changes by itself."""
        shown = json.loads(self.netns.ip("-j", "address", "show").stdout or "[]")
        return [
            (
                link["ifindex"],
                link["ifname"],
                link["address"],
                link["mtu"],
                "UP" in link["flags"],
                [each["local"] for each in link["addr_info"] if each["scope"] != "link"],
            )
            for link in shown
        ]

    def addresses(self) -> tuple[str, ...]:
        """The addresses of its interface, sorted."""
        return tuple(sorted(self.netns.addresses(self.ifname)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A plugin under test; `config` lacks only cniVersion.

    `declare` tells whoever has to know of a container before it comes, gives it what it needs (a
    device of the host, say), and gives its CNI_ARGS.
    `makes_link`: ADD makes CNI_IFNAME. `pool`: how many containers fit; 0: nobody knows.
    `once`: one ADD makes all interfaces of a container. `leases`: the folder of host-local's files,
    which each check finds empty.
    """

    name: str
    path: Path
    config: Mapping[str, Any]
    host: Namespace
    kind: Kind = Kind.INTERFACE
    ifname: str = "eth0"
    makes_link: bool = True
    pool: int = 0
    once: bool = False
    leases: Path | None = None
    cni_path: str = "/usr/lib/cni"
    declare: Callable[[Sandbox], str] = lambda _sandbox: "IgnoreUnknown=1"
    claims: list[str] = field(default_factory=list)


class Driver:
    """Drives one plugin for one check; `close` takes everything away again."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._namespaces = Namespaces()
        self._sandboxes: list[Sandbox] = []
        self._veths = self._host_veths()

    def close(self) -> None:
        """DEL whatever was added, then the namespaces."""
        try:
            for sandbox in self._sandboxes:
                if sandbox.version and self.subject.kind is not Kind.CHAINED:
                    self.delete(sandbox)
        finally:
            self._namespaces.close()
            for path in self.stray():
                Path(path).unlink()
            for lease in self.subject.leases.glob("*/*.*.*.*") if self.subject.leases else ():
                lease.unlink()
            # The kernel takes the peers away in its own time, and never while a daemon of the
            # plugin holds the namespace; the next check must not see that.
            for peer in self._host_veths() - self._veths:
                self.subject.host.ip("link", "delete", peer, check=False)
            deadline = time.monotonic() + 3
            while self._host_veths() - self._veths and time.monotonic() < deadline:
                time.sleep(0.02)

    def _host_veths(self) -> set[str]:
        shown = self.subject.host.ip("-j", "link", "show", "type", "veth").stdout
        return {link["ifname"] for link in json.loads(shown or "[]") if link}

    # Versions

    @property
    def claims(self) -> list[str]:
        """The versions that the plugin says it supports, lowest first."""
        if not self.subject.claims:
            answer = self.call("VERSION", stdin='{"cniVersion":"1.0.0"}')
            found = answer.expect_ok("VERSION").get("supportedVersions", [])
            known = [version for version in VERSIONS if version in found]
            expect(known, f"VERSION claims none of the released versions: {found}")
            self.subject.claims.extend(known)
        return self.subject.claims

    @property
    def newest(self) -> str:
        """The newest version that the plugin supports."""
        return self.claims[-1]

    def need_version(self, version: str) -> None:
        """Only for plugins that support `version`."""
        if version not in self.claims:
            not_applicable(f"{version} is not claimed")

    def need_check(self) -> None:
        """Only for plugins that support a version with CHECK."""
        if version_key(self.newest) < (0, 4, 0):
            not_applicable("no version with CHECK is claimed")

    def need_link(self) -> None:
        """Only for plugins that make an interface."""
        if not self.subject.makes_link:
            not_applicable("it makes no link")

    def need_pool(self) -> int:
        """Only for plugins whose pool is known: how often it would run over."""
        if not self.subject.pool:
            not_applicable("it has no pool of known size")
        return self.subject.pool + 2

    # Containers

    def sandbox(self, ifname: str = "") -> Sandbox:
        """A new container, known to whoever has to know."""
        number = next(_numbers)
        sandbox = Sandbox(
            netns=self._namespaces.make("pod"),
            container_id=f"conformance-{os.getpid()}-{number}",
            ifname=ifname or self.subject.ifname,
        )
        sandbox.args = self.subject.declare(sandbox)
        self._sandboxes.append(sandbox)
        if self.subject.kind is Kind.CHAINED:
            self.give(sandbox, sandbox.ifname)
        return sandbox

    def second(self, first: Sandbox, ifname: str) -> Sandbox:
        """Another interface for the container of `first`."""
        sandbox = Sandbox(first.netns, first.container_id, ifname)
        sandbox.args = self.subject.declare(sandbox)
        return sandbox

    def give(self, sandbox: Sandbox, ifname: str) -> None:
        """What the plugin before a chained one made in the container."""
        name = sandbox.peers[ifname] = f"base{next(_numbers)}"
        self.subject.host.batch(
            f"link add {name} type veth peer name {ifname} netns {sandbox.netns.name}",
            f"link set {name} up",
        )
        sandbox.netns.batch(f"address add {GIVEN_ADDRESS} dev {ifname}", f"link set {ifname} up")

    def vanish(self, sandbox: Sandbox) -> None:
        """The container's namespace goes, as after a crash or a reboot."""
        self._namespaces.delete(sandbox.netns)

    def stray(self) -> list[str]:
        """Files on paths where there is no namespace: a plugin made them."""
        paths = [Path(NOWHERE), *(each.netns.path for each in self._sandboxes)]
        folder = NETNS_FOLDER.stat().st_dev  # a namespace is mounted, so it has another device
        return [str(path) for path in paths if path.exists() and path.stat().st_dev == folder]

    def given(self, sandbox: Sandbox, version: str, ifname: str = "") -> dict[str, Any]:
        """What the plugin before a chained one answered, in the shape of `version`."""
        ifname = ifname or sandbox.ifname
        key = version_key(version)
        if key < (0, 3, 0):
            return {
                "cniVersion": version,
                "ip4": {"ip": GIVEN_ADDRESS, "gateway": "10.77.0.1"},
                "dns": {"nameservers": ["10.77.0.53"]},
            }
        link = {"name": ifname, "mac": sandbox.netns.links()[ifname]["address"]}
        ip = {"address": GIVEN_ADDRESS, "gateway": "10.77.0.1", "interface": 0}
        interfaces = [{**link, "sandbox": str(sandbox.netns.path)}]
        if peer := sandbox.peers.get(ifname):
            mac = self.subject.host.links()[peer]["address"]
            interfaces.append({"name": peer, "mac": mac})
        return {
            "cniVersion": version,
            "interfaces": interfaces,
            "ips": [{"version": "4", **ip} if key < (1, 0, 0) else ip],
            "routes": [{"dst": "10.78.0.0/16", "gw": "10.77.0.1"}],
            "dns": {"nameservers": ["10.77.0.53"]},
        }

    # Calls

    def config(self, version: str = "") -> dict[str, Any]:
        """The configuration that a runtime passes, without prevResult."""
        return {"cniVersion": version or self.newest, **self.subject.config}

    def call(
        self,
        verb: str,
        sandbox: Sandbox | None = None,
        *,
        stdin: str | Mapping[str, Any],
        environ: Mapping[str, str | None] | None = None,
    ) -> Answer:
        """Start the plugin; in `environ` None takes a variable away."""
        wanted: dict[str, str | None] = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CNI_COMMAND": verb,
            "CNI_PATH": self.subject.cni_path,
        }
        if sandbox is not None:
            wanted |= {
                "CNI_CONTAINERID": sandbox.container_id,
                "CNI_NETNS": str(sandbox.netns.path),
                "CNI_IFNAME": sandbox.ifname,
                "CNI_ARGS": sandbox.args,
            }
        if not isinstance(stdin, str):
            stdin = json.dumps({**stdin, **(sandbox.config if sandbox else {})})
        wanted |= environ or {}
        try:
            done = subprocess.run(
                self.subject.host.argv(str(self.subject.path)),
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
                env={key: value for key, value in wanted.items() if value is not None},
            )
        except subprocess.TimeoutExpired:
            fail(f"{verb} did not end within {SECONDS} s")
        return Answer(done.returncode, done.stdout, done.stderr)

    def add(
        self,
        sandbox: Sandbox,
        version: str = "",
        *,
        environ: Mapping[str, str | None] | None = None,
        **more: Any,
    ) -> Answer:
        """ADD with `more` in the configuration; a success is remembered for CHECK and DEL."""
        version = version or self.newest
        config = self.config(version)
        if self.subject.kind is Kind.CHAINED:
            config["prevResult"] = self.given(sandbox, version)
        answer = self.call("ADD", sandbox, stdin={**config, **more}, environ=environ)
        sandbox.version = sandbox.version or version
        if answer.ok:
            sandbox.result = answer.document
        return answer

    def attach(self, sandbox: Sandbox | None = None, version: str = "") -> Sandbox:
        """A container on which ADD has succeeded."""
        sandbox = sandbox or self.sandbox()
        answer = self.add(sandbox, version)
        answer.expect_ok(f"ADD in {version or self.newest}")
        return sandbox

    def delete(
        self,
        sandbox: Sandbox,
        *,
        environ: Mapping[str, str | None] | None = None,
        prev: bool = True,
    ) -> Answer:
        """DEL in the version of ADD, with its result if `prev`."""
        config = self._with_result(sandbox, prev=prev)
        return self.call("DEL", sandbox, stdin=config, environ=environ)

    def check(
        self,
        sandbox: Sandbox,
        *,
        environ: Mapping[str, str | None] | None = None,
        prev: bool = True,
    ) -> Answer:
        """CHECK in the version of ADD, with its result if `prev`."""
        config = self._with_result(sandbox, prev=prev)
        return self.call("CHECK", sandbox, stdin=config, environ=environ)

    def collect(self, *valid: Sandbox) -> Answer:
        """GC: these attachments stay."""
        listed = [{"containerID": each.container_id, "ifname": each.ifname} for each in valid]
        config = {**self.config(), "cni.dev/valid-attachments": listed}
        return self.call("GC", stdin={**config, "cni.dev/attachments": listed})

    def _with_result(self, sandbox: Sandbox, *, prev: bool) -> dict[str, Any]:
        config = self.config(sandbox.version)
        if prev and sandbox.result is not None:
            config["prevResult"] = sandbox.result
        return config

    # What is left

    def host_links(self) -> set[str]:
        """The links of the plugin's host."""
        return set(self.subject.host.links())

    def expect_host_links(self, wanted: set[str], what: str) -> None:
        """The host has these links and no others; the kernel has 3 s to take the others away."""
        deadline = time.monotonic() + 3
        while (found := self.host_links()) != wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        more, fewer = sorted(found - wanted), sorted(wanted - found)
        expect(found == wanted, f"{what}: the host has {more} too much and lacks {fewer}")

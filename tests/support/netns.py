"""Network namespaces as nodes and pods, a fabric between nodes, and the check for what stays.

Made with iproute2 and not with our own netlink code: a test must not look through the eyes of
what it tests. Names are ``dt-<label>-<pid>-<n>``, so that runs beside each other never meet and
the leak check knows what is its own.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from support.requirements import need

_numbers = itertools.count(1)
NETNS_FOLDER = Path("/run/netns")


def run(*argv: str, check: bool = True, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Run a command; a failure carries what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace."""

    name: str

    @property
    def path(self) -> Path:
        """Where it is mounted: what a runtime gives as CNI_NETNS."""
        return NETNS_FOLDER / self.name

    def argv(self, *argv: str) -> list[str]:
        """The command line that runs `argv` inside, with a /sys that fits; the process id stays."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(
        self, *argv: str, check: bool = True, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return run(*self.argv(*argv), check=check, timeout=timeout)

    def ip(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``ip -n NAME words...``: cheaper than `run`, for links, addresses and routes."""
        return run("ip", "-n", self.name, *words, check=check)

    def batch(self, *lines: str) -> None:
        """Many ``ip`` commands in one process; the first failure stops it."""
        text = "".join(f"{line}\n" for line in lines)
        done = subprocess.run(
            ["ip", "-n", self.name, "-batch", "-"], input=text, capture_output=True, text=True
        )
        assert done.returncode == 0, f"ip -batch in {self.name}:\n{text}\n{done.stderr}"

    def links(self) -> dict[str, dict[str, Any]]:
        """All links with details, as ``ip -j -d link`` shows them, by name."""
        found = json.loads(self.ip("-j", "-d", "link", "show").stdout or "[]")
        return {link["ifname"]: link for link in found}

    def addresses(self, link: str) -> tuple[str, ...]:
        """The addresses of `link` with prefix length, link-local ones left out."""
        found = json.loads(self.ip("-j", "address", "show", "dev", link).stdout or "[]")
        return tuple(
            f"{address['local']}/{address['prefixlen']}"
            for address in found[0]["addr_info"]
            if address["scope"] != "link"
        )

    def ping(
        self,
        target: str,
        *,
        size: int = 56,
        count: int = 1,
        seconds: int = 3,
        fragment: bool = True,
    ) -> bool:
        """Does `target` answer? `size`: ICMP payload in bytes; not `fragment`: must fit whole."""
        whole = [] if fragment else ["-M", "do"]
        options = ["-n", "-q", "-c", str(count), "-w", str(seconds), "-s", str(size), *whole]
        return self.run("ping", *options, target, check=False, timeout=seconds + 5).returncode == 0


class Namespaces:
    """Makes namespaces and takes every one of them away again."""

    def __init__(self) -> None:
        self._made: list[Namespace] = []

    def make(self, label: str = "ns") -> Namespace:
        """A new namespace with its loopback up."""
        namespace = Namespace(f"dt-{label}-{os.getpid()}-{next(_numbers)}")
        run("ip", "netns", "add", namespace.name)
        self._made.append(namespace)
        namespace.ip("link", "set", "lo", "up")
        return namespace

    def delete(self, namespace: Namespace) -> None:
        """Delete `namespace` now (a pod whose sandbox is gone); deleting it twice is fine."""
        if namespace in self._made:
            self._made.remove(namespace)
        if namespace.path.exists():
            run("ip", "netns", "delete", namespace.name)

    def close(self) -> None:
        """Delete all that are left."""
        for namespace in reversed(tuple(self._made)):
            self.delete(namespace)


@dataclass(frozen=True, slots=True)
class FabricNode:
    """One node of a fabric: a namespace whose underlay NIC is `nic`."""

    namespace: Namespace
    nic: str
    address: IPv4Interface
    address6: IPv6Interface


@dataclass(frozen=True, slots=True)
class Fabric:
    """Nodes joined by one switch. `switch` is the namespace of the bridge ``fabric``."""

    switch: Namespace
    nodes: tuple[FabricNode, ...]


def make_fabric(  # six knobs of one value, each with a sensible default
    namespaces: Namespaces,
    *,
    nodes: int = 2,
    nic: str = "ens4",
    subnet: str = "192.0.2.0/24",
    subnet6: str = "2001:db8:feed::/64",
    mtu: int = 1500,
) -> Fabric:
    """`nodes` namespaces whose `nic` hangs on one switch, with an IPv4 and an IPv6 address each.

    The switch is a plain bridge: it floods what it does not know and carries tagged frames as they
    are, as a trunk does.
    """
    switch = namespaces.make("switch")
    switch.batch(
        f"link add fabric mtu {mtu} type bridge mcast_snooping 0 stp_state 0 forward_delay 0",
        "link set fabric up",
    )
    net4, net6 = IPv4Network(subnet), IPv6Network(subnet6)
    made = []
    for number in range(1, nodes + 1):
        node = FabricNode(
            namespace=namespaces.make(f"node{number}"),
            nic=nic,
            address=IPv4Interface((net4[number], net4.prefixlen)),
            address6=IPv6Interface((net6[number], net6.prefixlen)),
        )
        port = f"port{number}"
        switch.batch(
            f"link add {port} mtu {mtu} type veth "
            f"peer name {nic} mtu {mtu} netns {node.namespace.name}",
            f"link set {port} master fabric up",
        )
        node.namespace.batch(
            f"link set {nic} up",
            f"address add {node.address} dev {nic}",
            f"address add {node.address6} dev {nic} nodad",
        )
        made.append(node)
    return Fabric(switch=switch, nodes=tuple(made))


def wait_until(
    condition: Callable[[], object], *, seconds: float = 10, what: str = "", every: float = 0.02
) -> None:
    """Return as soon as `condition` holds; fail with `what` when `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds} s still not: {what or condition}")
        time.sleep(every)


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    """Makes namespaces for one test."""
    need("namespaces")
    made = Namespaces()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def session_namespaces() -> Iterator[Namespaces]:
    """Makes namespaces that live as long as the test run."""
    need("namespaces")
    made = Namespaces()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def fabric(namespaces: Namespaces) -> Fabric:
    """Two nodes on one switch."""
    return make_fabric(namespaces)


# The leak check: what the run made and did not take away fails the run.

OWNER_VARIABLE = "PYTEST_OWNER_SESSION"
"""Set in the environment of the run and so in all its descendants, orphans too."""


def _root_links() -> frozenset[str]:
    if shutil.which("ip") is None:  # then no test of this run can have made one
        return frozenset()
    done = subprocess.run(["ip", "-o", "link", "show"], capture_output=True, text=True)
    return frozenset(re.findall(r"^\d+: ([^:@]+)", done.stdout, flags=re.MULTILINE))


def _own_namespaces() -> tuple[str, ...]:
    mark = re.compile(rf"^dt-.*-{os.getpid()}(-|$)")
    if not NETNS_FOLDER.is_dir():
        return ()
    return tuple(sorted(each.name for each in NETNS_FOLDER.iterdir() if mark.match(each.name)))


def _own_processes() -> dict[int, str]:
    mark = f"{OWNER_VARIABLE}={os.getpid()}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            continue  # it ended while we looked, or is none of ours
        if mark in environment and pid != os.getpid() and state != "Z":
            found[pid] = command
    return found


def leaks(links_before: frozenset[str]) -> tuple[str, ...]:
    """What this run has left behind, one line each."""
    return (
        *(f"network namespace {name}" for name in _own_namespaces()),
        *(f"process {pid}: {command}" for pid, command in sorted(_own_processes().items())),
        *(f"link {name} in the root namespace" for name in sorted(_root_links() - links_before)),
    )


def _clean_up() -> None:
    for pid in _own_processes():
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    for name in _own_namespaces():
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


_LEAKS = "danmpy_leaks"


class LeakCheck:
    """The plugin of the check. Links count only in CI: elsewhere a neighbour may make some."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._links_before: frozenset[str] = frozenset()
        self._found: tuple[str, ...] = ()
        self._of_workers: tuple[str, ...] = ()

    def pytest_sessionstart(self) -> None:
        os.environ[OWNER_VARIABLE] = str(os.getpid())
        self._links_before = _root_links()

    # The innermost wrapper: what is found must be known to those who print and send it.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        result = yield
        deadline = time.monotonic() + 3  # the kernel takes a namespace apart in its own time
        while (found := leaks(self._links_before)) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._found = found
        _clean_up()
        self._count(session)
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """One of several processes of this run has ended (pytest-xdist)."""
        self._of_workers += tuple(getattr(node, "workeroutput", {}).get(_LEAKS, ()))

    def _count(self, session: pytest.Session) -> None:
        worker = getattr(session.config, "workeroutput", None)
        if worker is not None:  # its exit status would be lost: the process that collects counts
            worker[_LEAKS] = list(self._found)
            return
        self._found += self._of_workers
        counted = [line for line in self._found if self._strict or not line.startswith("link ")]
        if counted and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._found:
            terminalreporter.section("left behind by this run", red=True)
            for line in self._found:
                terminalreporter.line(line)


def link_names(namespace: Namespace, prefixes: Sequence[str] = ("",)) -> tuple[str, ...]:
    """The links of `namespace` whose name starts with one of `prefixes`, sorted; never loopback."""
    return tuple(
        sorted(
            name for name in namespace.links() if name != "lo" and name.startswith(tuple(prefixes))
        )
    )

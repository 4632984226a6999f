"""The suite itself: a plugin with one fault fails the checks that look for it.

Each fault is put in front of a plugin that passes these checks: a script that passes the call on.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from conformance.checks import BY_NAME, TABLE
from conformance.deviations import DEVIATIONS
from conformance.driver import Driver, Subject
from conformance.subjects import OURS, open_ours, open_reference
from conformance.verdicts import Outcome

pytestmark = pytest.mark.system

PRELUDE = """#!/bin/sh
input=$(cat)
inside=$(basename "$CNI_NETNS")
pass() { printf '%s' "$input" | "$real"; }
refuse() { echo '{"cniVersion": "1.0.0", "code": 999, "msg": "no"}'; exit 1; }
edited() { out=$(pass); status=$?; printf '%s\\n' "$out" | sed "$1"; exit $status; }
has() { printf '%s' "$input" | grep -q "$1"; }
say_yes() { [ "$CNI_COMMAND" = VERSION ] || { echo '{}'; exit 0; }; pass; exit; }
"""

ENVIRONMENT = (
    "unclaimed-version", "impossible-version", "check-too-early", "command-missing",
    "command-unknown", "add-no-container-id", "add-no-netns", "add-no-ifname", "del-missing",
    "check-missing", "missing-are-named", "bad-container-id", "bad-ifname", "bad-names-on-del",
    "add-nowhere", "stdin-empty", "stdin-cut-off", "stdin-no-json", "stdin-no-object",
    "version-no-text", "name-missing", "name-illegal", "name-illegal-on-del", "name-no-text",
    "error-object",
)  # fmt: skip

CHECKING = (
    "check-without-result", "check-address-gone", "check-link-gone", "check-link-changed",
    "check-route-gone", "check-vanished", "check-after-del", "check-stranger",
)  # fmt: skip

FAULTS = {
    "says yes to everything": ("bridge", "say_yes", ENVIRONMENT),
    "VERSION in words": (
        "bridge",
        "[ $CNI_COMMAND != VERSION ] || exec echo 1.0.0",
        ("version-alone",),
    ),
    "VERSION by the interface's name": (
        "bridge",
        '[ -z "$CNI_IFNAME" ] || [ $CNI_COMMAND != VERSION ] || refuse; pass',
        ("version-with-variables",),
    ),
    "VERSION wants stdin": ("bridge", '[ -n "$input" ] || refuse; pass', ("version-empty-stdin",)),
    "claims too much": (
        "bridge",
        'edited \'s/"0.4.0"/"0.4.0","1.1.0"/\'',
        ("claimed-versions-served", "result-shape-1.1.0"),
    ),
    "errors without code": (
        "bridge",
        'edited \'s/"code"/"kode"/\'',
        ("error-object", "bad-ifname"),
    ),
    "all errors are 999": (
        "bridge",
        'edited \'s/"code": *[0-9]*/"code": 999/\'',
        (*ENVIRONMENT[:2], *ENVIRONMENT[4:10], "stdin-empty", "name-missing"),
    ),
    "a line of log before the result": (
        "bridge",
        "[ $CNI_COMMAND = VERSION ] || echo note: all is well; pass",
        ("result-shape-1.0.0", "del-clean-1.0.0", "check-silent-1.0.0", "error-object"),
    ),
    "always the same version in the result": (
        "bridge",
        'edited \'s/"cniVersion": *"[^"]*",$/"cniVersion": "0.4.0",/\'',
        ("result-shape-0.3.1", "result-shape-1.0.0", "version-absent"),
    ),
    "made-up MACs": (
        "bridge",
        'edited \'s/"mac": *"[^"]*"/"mac": "02:00:00:00:00:01"/\'',
        ("result-true-1.0.0", "host-interfaces-true"),
    ),
    "made-up addresses": (
        "bridge",
        'edited \'s/"\\(address\\|ip\\)": *"[^"]*"/"\\1": "10.1.2.3\\/24"/\'',
        ("result-true-0.2.0", "result-true-1.0.0", "add-at-once", "add-second-interface"),
    ),
    "made-up routes": ("bridge", "edited 's/10.99/10.98/'", ("routes-true",)),
    "an address twice": (
        "bridge",
        (
            "[ $CNI_COMMAND = ADD ] || { pass; exit; }; pass && exit; "
            'ip -n "$inside" address add 10.88.0.77/29 dev $CNI_IFNAME; exit 1'
        ),
        ("add-twice", "ifname-taken"),
    ),
    "a refused ADD takes the interface away": (
        "bridge",
        (
            "[ $CNI_COMMAND = ADD ] || { pass; exit; }; pass && exit; "
            'ip -n "$inside" link delete $CNI_IFNAME; exit 1'
        ),
        ("add-twice-keeps-first", "ifname-taken"),
    ),
    "a failed ADD leaves a link": (
        "bridge",
        (
            "[ $CNI_COMMAND = ADD ] || { pass; exit; }; pass && exit; "
            "ip link add left$$ type veth peer name right$$; exit 1"
        ),
        ("failed-add-leaves-no-link",),
    ),
    "a failed ADD keeps its address": (
        "bridge",
        (
            "[ $CNI_COMMAND = ADD ] || { pass; exit; }; pass && exit; "
            "printf '%s' \"$input\" | /usr/lib/cni/host-local >/dev/null; exit 1"
        ),
        ("failed-adds-keep-no-address", "taken-names-keep-no-address"),
    ),
    "a full pool is a success": (
        "bridge",
        "[ $CNI_COMMAND = ADD ] || { pass; exit; }; pass >/dev/null || echo '{}'",
        ("pool-full",),
    ),
    "DEL does nothing": (
        "bridge",
        "[ $CNI_COMMAND != DEL ] || exit 0; pass",
        (
            "del-clean-1.0.0",
            "del-without-result",
            "del-frees",
            "del-vanished-frees",
            "del-bare-frees",
            "check-after-del",
            "add-again",
        ),
    ),
    "DEL wants the namespace": (
        "bridge",
        '[ $CNI_COMMAND != DEL ] || [ -e "$CNI_NETNS" ] || refuse; pass',
        ("del-vanished", "del-without-netns", "del-stranger-nowhere"),
    ),
    "DEL makes a file": (
        "bridge",
        '[ -z "$CNI_NETNS" ] || : >>"$CNI_NETNS"; pass',
        ("del-vanished", "del-stranger-nowhere"),
    ),
    "DEL works once": (
        "bridge",
        "[ $CNI_COMMAND != DEL ] || mkdir $state/$CNI_CONTAINERID || refuse; pass",
        ("del-twice",),
    ),
    "DEL wants to know the container": (
        "bridge",
        (
            "[ $CNI_COMMAND != ADD ] || mkdir $state/$CNI_CONTAINERID; "
            "[ $CNI_COMMAND != DEL ] || [ -e $state/$CNI_CONTAINERID ] || refuse; pass"
        ),
        ("del-stranger",),
    ),
    "DEL frees everybody's address": (
        "bridge",
        "[ $CNI_COMMAND != DEL ] || rm -rf $leases/conformance/10*; pass",
        ("del-only-one",),
    ),
    "CHECK is content": ("bridge", "[ $CNI_COMMAND != CHECK ] || exit 0; pass", CHECKING),
    "CHECK talks": (
        "bridge",
        "[ $CNI_COMMAND != CHECK ] || echo '{}'; pass",
        ("check-silent-0.4.0", "check-silent-1.0.0"),
    ),
    "CHECK wants nothing more than there was": (
        "bridge",
        '[ $CNI_COMMAND != CHECK ] || ! ip -n "$inside" address | grep -q 10.66 || refuse; pass',
        ("check-more",),
    ),
    "CHECK repairs": (
        "bridge",
        (
            "[ $CNI_COMMAND != CHECK ] || pass || "
            '{ ip -n "$inside" address add 10.88.0.77/29 dev $CNI_IFNAME; exit 1; }; pass'
        ),
        ("check-address-gone",),
    ),
    "strict about arguments": (
        "bridge",
        'case "$CNI_ARGS" in *DANCE*) refuse;; "") [ $CNI_COMMAND != DEL ] || refuse;; esac; pass',
        ("unknown-args", "empty-args"),
    ),
    "strict about keys": ("bridge", "! has dance || refuse; pass", ("unknown-keys",)),
    "small of mind": (
        "bridge",
        "[ ${#input} -lt 65536 ] || exit 2; pass",
        ("stdin-big", "stdin-huge", "stdin-deep"),
    ),
    "STATUS needs an attachment": (
        "danmpy-native",
        '[ $CNI_COMMAND != STATUS ] || [ -n "$CNI_IFNAME" ] || refuse; pass',
        ("status-silent",),
    ),
    "STATUS resets": (
        "danmpy-native",
        "[ $CNI_COMMAND != STATUS ] || ip link add dt0 type veth peer name dt1; pass",
        ("status-reads",),
    ),
    "GC does nothing": (
        "danmpy-native",
        "[ $CNI_COMMAND != GC ] || exit 0; pass",
        ("gc-frees", "gc-frees-all", "gc-by-interface", "gc-takes-link"),
    ),
    "GC takes everything away": (
        "danmpy-native",
        (
            "[ $CNI_COMMAND != GC ] || input=$(printf '%s' \"$input\" | "
            "sed 's/\\[.*\\]/[]/; s/}$/, \"cni.dev\\/valid-attachments\": []}/'); pass"
        ),
        ("gc-keeps", "gc-without-list"),
    ),
    "GC talks": ("danmpy-native", "[ $CNI_COMMAND != GC ] || echo '{}'; pass", ("gc-twice",)),
    "GC and STATUS in any version": (
        "danmpy-native",
        "case $CNI_COMMAND in GC|STATUS) exit 0;; esac; pass",
        ("upkeep-too-early",),
    ),
    "names nothing": (
        "danmpy-native",
        "edited 's/CNI_CONTAINERID/it/'",
        ("missing-are-named", "illegal-are-named"),
    ),
    "errors without version": (
        "danmpy-native",
        'edited \'s/"cniVersion": *"[^"]*",//\'',
        ("error-version",),
    ),
    "forgets prevResult": (
        "tuning",
        (
            "[ $CNI_COMMAND = ADD ] || { pass; exit; }; "
            'pass >/dev/null; echo \'{"cniVersion": "1.0.0"}\''
        ),
        ("prev-result-kept-0.2.0", "prev-result-kept-1.0.0"),
    ),
    "does without prevResult": (
        "tuning",
        "has prevResult || say_yes; pass",
        ("prev-result-missing",),
    ),
    "takes away what it did not make": (
        "tuning",
        '[ $CNI_COMMAND != DEL ] || ip -n "$inside" link delete $CNI_IFNAME; pass',
        ("foreign-link-stays",),
    ),
}
"""What the plugin does wrong: in front of which one, how, and which checks must see it."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Subject]]:
    """Opens a sound plugin, once."""
    with ExitStack() as stack:

        @functools.cache
        def open_it(name: str) -> Subject:
            how = open_ours if name in OURS else open_reference
            return how(name, tmp_path_factory.mktemp(name), stack)

        yield open_it


def with_fault(subject: Subject, script: str, folder: Path) -> Subject:
    """`subject` with the fault in front of it."""
    state = folder / "state"
    state.mkdir()
    leases = subject.config.get("ipam", {}).get("dataDir", state)
    wrapper = folder / "plugin"
    variables = f"real={subject.path}\nstate={state}\nleases={leases}\n"
    shebang, _, rest = PRELUDE.partition("\n")
    wrapper.write_text(f"{shebang}\n{variables}{rest}{script}\n")
    wrapper.chmod(0o755)
    return dataclasses.replace(subject, path=wrapper, claims=[])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.replace(" ", "-"))
def test_a_fault_is_seen_by_the_checks_that_look_for_it(
    original: Callable[[str], Subject], tmp_path: Path, fault: str
) -> None:
    name, script, checks = FAULTS[fault]
    sound = original(name)
    faulty = with_fault(sound, script, tmp_path)
    missed = {}
    for check in checks:
        with closing(Driver(faulty)) as driver:
            verdict = BY_NAME[check].run(driver)
        if verdict.outcome is not Outcome.FAIL:
            missed[check] = verdict
        clean_up(sound)
    assert missed == {}


def clean_up(subject: Subject) -> None:
    """Take away what a faulty plugin has left on the host and in the lease files."""
    for link in subject.host.links():
        if link.startswith(("left", "dt0", "veth")):
            subject.host.ip("link", "delete", link, check=False)
    folder = Path(subject.config.get("ipam", {}).get("dataDir", "/nonexistent")) / "conformance"
    for lease in folder.glob("10.*"):
        lease.unlink()


def test_every_check_has_been_seen_to_fail() -> None:
    seen = {check for _, _, checks in FAULTS.values() for check in checks}
    seen |= {check for each in DEVIATIONS for check in each.checks}
    functions = {BY_NAME[name].function for name in seen}
    assert [check.name for check in TABLE if check.function not in functions] == []

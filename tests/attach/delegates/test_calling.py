"""Delegate plugins: called as the specification says, whatever they answer.

Here they are plugins that write down what they are told; the machine's own are in
tests/system/test_delegates.py.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from danmpy.api.specs import PluginAsk
from danmpy.attach.delegates.answers import STDERR_KEPT
from danmpy.attach.delegates.calling import Delegates
from danmpy.attach.delegates.confs import DelegateConf
from danmpy.attach.delegates.processes import ProcessOutcome, run_process
from danmpy.attach.delegates.tracing import tracing
from danmpy.errors import (
    DanmpyError,
    DelegateError,
    IntentError,
    NotReadyError,
    UnavailableError,
)
from support.netns import wait_until
from support.recording import CHAIN, NET, Bench, identity, nad


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    for name in ("first", "second"):
        made.plugin(name)
    return made


def test_add_walks_forward_with_the_last_result_and_the_whole_environment(bench: Bench) -> None:
    conf = bench.conf(**CHAIN)
    result = bench.delegates(environ={"PATH": "/bin", "EXTRA": "e", "CNI_NETNS": "x"}).add(
        conf, identity(), "net1"
    )
    assert [str(ip.address) for ip in result.result.ips] == ["10.0.0.5/24"]
    first, second = bench.calls
    assert first["stdin"] == {"type": "first", "name": "net", "cniVersion": "1.1.0"}
    assert second["stdin"]["key"] == [1]
    assert second["stdin"]["prevResult"]["ips"] == [{"address": "10.0.0.5/24"}]
    environ = {k: v for k, v in first["environ"].items() if k not in {"LC_CTYPE", "PWD"}}
    assert environ == {
        "PATH": "/bin",
        "EXTRA": "e",
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/proc/self/ns/net",
        "CNI_IFNAME": "net1",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web-0;"
        "K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1",
        "CNI_PATH": str(bench.folder),
    }


def test_del_walks_backward_with_the_final_result_and_goes_on_past_failures(bench: Bench) -> None:
    conf = bench.conf(**CHAIN)
    delegates = bench.delegates()
    result = delegates.add(conf, identity(), "net1")
    bench.fails("second", "DEL", msg="stuck")
    with pytest.raises(DelegateError, match="second failed DEL with code 100: stuck"):
        delegates.delete(conf, identity(), "net1", result.text)
    assert bench.order[2:] == ["second DEL", "first DEL"]
    assert all(call["stdin"]["prevResult"] == json.loads(result.text) for call in bench.calls[2:])


def test_del_after_the_namespace_has_gone_does_not_name_it(bench: Bench) -> None:
    conf = bench.conf(**CHAIN)
    bench.delegates().delete(conf, identity("/run/netns/dt-nowhere"), "net1")
    assert [call["environ"]["CNI_NETNS"] for call in bench.calls] == ["", ""]
    assert all("prevResult" not in call["stdin"] for call in bench.calls)


def test_a_failed_add_is_undone_backward_from_the_plugin_that_failed(bench: Bench) -> None:
    bench.plugin("third")
    plugins = [{"type": "first"}, {"type": "second"}, {"type": "third"}]
    conf = bench.conf(cniVersion="1.1.0", plugins=plugins)
    bench.fails("second", "ADD", msg="no", details="really")
    with pytest.raises(DelegateError, match="code 100: no; really"):
        bench.delegates().add(conf, identity(), "net1")
    assert bench.order == ["first ADD", "second ADD", "second DEL", "first DEL"]
    bench.fails("first", "DEL", msg="stays")
    with pytest.raises(DelegateError, match=r"no; really; and undoing it failed: .*stays"):
        bench.delegates().add(conf, identity(), "net1")


@pytest.mark.parametrize(
    ("code", "kind"), [(11, NotReadyError), (50, UnavailableError), (51, UnavailableError)]
)
def test_the_plugin_s_code_decides_whether_trying_again_helps(
    bench: Bench, code: int, kind: type[DanmpyError]
) -> None:
    conf = bench.conf(**CHAIN)
    bench.fails("first", "ADD", code, msg="wait")
    with pytest.raises(kind, match="wait"):
        bench.delegates().add(conf, identity(), "net1")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"status": 2, "stderr": "boom\n  trace"}, "exit status 2: boom trace"),
        ({"status": 2}, "exit status 2: it said nothing"),
        ({"status": 0, "stdout": "hello"}, "printed no JSON object: hello"),
        ({"status": 0, "stdout": '{"ips":[{"address":"x"}]}'}, "plugin first: 'ips'"),
    ],
)
def test_nonsense_from_a_plugin_is_quoted_and_undone(
    bench: Bench, said: dict[str, Any], words: str
) -> None:
    conf = bench.conf(cniVersion="1.0.0", type="first")
    bench.says("first", "ADD", **said)
    with pytest.raises(DelegateError) as caught:
        bench.delegates().add(conf, identity(), "net1")
    assert words in caught.value.message
    assert bench.order == ["first ADD", "first DEL"]


def test_a_plugin_that_hangs_is_killed_and_undone(bench: Bench) -> None:
    conf = bench.conf(cniVersion="1.0.0", type="first")
    bench.says("first", "ADD", sleep=30)
    with pytest.raises(DelegateError, match=r"did not finish ADD within 0\.5 s and was killed"):
        bench.delegates(timeout_s=0.5).add(conf, identity(), "net1")
    assert bench.order == ["first ADD", "first DEL"]


def test_a_plugin_that_says_nothing_changes_nothing(bench: Bench) -> None:
    conf = bench.conf(**CHAIN)
    bench.says("second", "ADD", status=0)
    result = bench.delegates().add(conf, identity(), "net1")
    assert [str(ip.address) for ip in result.result.ips] == ["10.0.0.5/24"]
    bench.says("first", "ADD", status=0)
    assert bench.delegates().add(conf, identity(), "net1").result.ips == ()


@pytest.mark.parametrize(
    ("version", "answer", "address"),
    [
        ("0.2.0", {"ip4": {"ip": "10.0.0.7/24", "gateway": "10.0.0.1"}}, "10.0.0.7/24"),
        (
            "0.3.1",
            {
                "interfaces": [{"name": "net1", "sandbox": "/x"}],
                "ips": [{"version": "4", "address": "10.0.0.7/24", "interface": 0}],
            },
            "10.0.0.7/24",
        ),
        ("1.0.0", {"ips": [{"address": "fd00::7/64", "interface": -1}]}, "fd00::7/64"),
    ],
)
def test_results_of_every_version_are_understood(
    bench: Bench, version: str, answer: dict[str, Any], address: str
) -> None:
    bench.plugin("first", version)
    bench.says("first", "ADD", {"cniVersion": version, **answer})
    conf = bench.conf(cniVersion=version, type="first")
    assert conf.version == version
    result = bench.delegates().add(conf, identity(), "net1").result
    assert [str(ip.address) for ip in result.ips] == [address]


def test_a_delegate_that_ignores_our_address_or_mac_is_undone_and_told_apart(
    bench: Bench,
) -> None:
    conf = replace(bench.conf(**CHAIN), addresses=(ip_interface("10.0.0.9/24"),))
    with pytest.raises(DelegateError, match=r"did not assign 10\.0\.0\.9/24"):
        bench.delegates().add(conf, identity(), "net1")
    assert bench.order[-2:] == ["second DEL", "first DEL"]
    bench.says(
        "second",
        "ADD",
        {"interfaces": [{"name": "net1", "sandbox": "/x", "mac": "02:00:00:00:00:09"}]},
    )
    conf = replace(bench.conf(**CHAIN), mac="02:00:00:00:00:01")
    with pytest.raises(DelegateError, match="did not set the MAC 02:00:00:00:00:01 but 02:"):
        bench.delegates().add(conf, identity(), "net1")


def test_check_walks_forward_and_is_not_asked_of_those_that_cannot_tell(bench: Bench) -> None:
    conf = bench.conf(**CHAIN)
    prev = json.dumps({"cniVersion": "1.1.0", "ips": []})
    bench.delegates().check(conf, identity(), "net1", prev)
    assert bench.order == ["first CHECK", "second CHECK"]
    assert all(call["stdin"]["prevResult"] == json.loads(prev) for call in bench.calls)
    for silent in (replace(conf, version="0.3.1"), replace(conf, disable_check=True)):
        bench.delegates().check(silent, identity(), "net1", prev)
    assert len(bench.calls) == 2
    bench.fails("first", "CHECK", msg="route lost")
    with pytest.raises(DelegateError, match="route lost"):
        bench.delegates().check(conf, identity(), "net1", prev)


def test_gc_is_asked_from_1_1_0_on(bench: Bench) -> None:
    conf = bench.conf(**CHAIN)
    old = replace(conf, version="1.0.0")
    bench.delegates().collect(old, {("c1", "net1")})
    assert bench.calls == []
    bench.delegates().collect(conf, {("c2", "net1"), ("c1", "net1")})
    assert bench.order == ["first GC", "second GC"]
    valid = [{"containerID": cid, "ifname": "net1"} for cid in ("c1", "c2")]
    assert bench.calls[-1]["stdin"]["cni.dev/valid-attachments"] == valid
    bench.fails("first", "GC", msg="no")
    with pytest.raises(DelegateError, match="no"):
        bench.delegates().collect(conf, ())
    assert bench.order[-1] == "second GC"


def test_a_missing_binary_is_named_with_the_folders_that_were_searched(bench: Bench) -> None:
    with pytest.raises(NotReadyError, match=f"plugin third is not in {bench.folder}"):
        bench.conf(cniVersion="1.0.0", type="third")
    conf = bench.conf(**CHAIN)
    (bench.folder / "second").unlink()
    with pytest.raises(NotReadyError, match="plugin second is not in"):
        bench.delegates().check(conf, identity(), "net1", "{}")


def test_a_plugin_is_asked_for_its_versions_again_only_when_its_file_changes(
    bench: Bench,
) -> None:
    delegates = bench.delegates()
    (bench.folder / "net.conf").write_text(json.dumps({"cniVersion": "1.1.0", "type": "first"}))

    def probes() -> int:
        text = (bench.folder / "calls").read_text()
        return sum(json.loads(line)["verb"] == "VERSION" for line in text.splitlines())

    assert [delegates.render(NET).version for _ in range(3)] == ["1.1.0"] * 3
    assert probes() == 1
    bench.plugin("first", "0.4.0")
    os.utime(bench.folder / "first", (1, 1))
    assert delegates.render(NET).version == "0.4.0"
    assert probes() == 2


def test_our_addresses_without_the_static_plugin_are_refused_before_anything_runs(
    bench: Bench,
) -> None:
    (bench.folder / "net.conf").write_text(json.dumps({"cniVersion": "1.0.0", "type": "first"}))
    with pytest.raises(NotReadyError, match=r"IPAM plugin static .* is not in"):
        bench.delegates().render(NET, addresses=(ip_interface("10.0.0.5/24"),))
    assert bench.calls == []


def test_a_file_that_no_plugin_can_speak_is_the_file_s_fault(bench: Bench) -> None:
    bench.plugin("first", "1.0.0")
    with pytest.raises(IntentError, match="no CNI version suits the file"):
        bench.conf(cniVersion="0.4.0", type="first")


# Every verb, whatever the plugin does

PREV = json.dumps({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.5/24"}]})


def perform(verb: str, delegates: Delegates, conf: DelegateConf) -> object:
    """One call of `verb`, as the engine makes it."""
    match verb:
        case "ADD":
            return delegates.add(conf, identity(), "net1")
        case "DEL":
            return delegates.delete(conf, identity(), "net1", PREV)
        case "CHECK":
            return delegates.check(conf, identity(), "net1", PREV)
        case "GC":
            return delegates.collect(conf, {("c1", "net1")})
        case _:
            return delegates.status(conf)


VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS")
ATTACHMENT = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS")


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_tells_a_plugin_all_that_the_specification_asks_for_and_no_more(
    bench: Bench, verb: str
) -> None:
    conf = bench.conf(cniVersion="1.1.0", type="first", key={"deep": [1]})
    perform(verb, bench.delegates(), conf)
    (call,) = bench.calls
    assert call["environ"]["CNI_COMMAND"] == verb
    assert call["environ"]["CNI_PATH"] == str(bench.folder)
    named = {name for name in ATTACHMENT if call["environ"][name]}
    assert named == (set() if verb in {"GC", "STATUS"} else set(ATTACHMENT))
    expected = {"type": "first", "name": "net", "cniVersion": "1.1.0", "key": {"deep": [1]}}
    valid = [{"containerID": "c1", "ifname": "net1"}]
    expected |= {
        "DEL": {"prevResult": json.loads(PREV)},
        "CHECK": {"prevResult": json.loads(PREV)},
        "GC": {"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid},
    }.get(verb, {})
    assert call["stdin"] == expected


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_says_what_the_plugin_said_when_it_failed(bench: Bench, verb: str) -> None:
    conf = bench.conf(cniVersion="1.1.0", type="first")
    bench.fails("first", verb, 7, msg="no such thing", details="look there")
    with pytest.raises(
        DelegateError, match=f"failed {verb} with code 7: no such thing; look there"
    ):
        perform(verb, bench.delegates(), conf)
    bench.says("first", verb, status=3, stdout="not JSON", stderr="the reason\n")
    with pytest.raises(DelegateError, match=f"failed {verb} with exit status 3: the reason"):
        perform(verb, bench.delegates(), conf)
    bench.says("first", verb, status=3)
    with pytest.raises(DelegateError, match="it said nothing"):
        perform(verb, bench.delegates(), conf)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_kills_a_plugin_that_hangs_with_the_processes_it_started(
    bench: Bench, verb: str
) -> None:
    conf = bench.conf(cniVersion="1.1.0", type="first")
    bench.says("first", verb, sleep=60, child=True, deaf=True, stderr="waiting for a lock\n")
    words = rf"did not finish {verb} within 0\.6 s and was killed: waiting for a lock"
    with pytest.raises(DelegateError, match=words):
        perform(verb, bench.delegates(timeout_s=0.6), conf)
    child = Path("/proc", (bench.folder / "child").read_text(), "stat")
    wait_until(
        lambda: not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z",
        what="the plugin's child to be gone",
    )


@pytest.mark.parametrize("verb", ["DEL", "CHECK", "GC", "STATUS"])
@pytest.mark.parametrize("said", ["", "garbage", '{"cniVersion": "1.1.0"}'])
def test_what_a_plugin_prints_where_nothing_is_asked_is_nobodys_business(
    bench: Bench, verb: str, said: str
) -> None:
    conf = bench.conf(cniVersion="1.1.0", type="first")
    bench.says("first", verb, stdout=said)
    perform(verb, bench.delegates(), conf)
    assert bench.order == [f"first {verb}"]


def test_status_stops_at_the_first_plugin_that_says_no_and_keeps_its_code(bench: Bench) -> None:
    conf = bench.conf(**CHAIN)
    bench.delegates().status(conf)
    bench.delegates().status(replace(conf, version="1.0.0"))
    assert bench.order == ["first STATUS", "second STATUS"]
    bench.fails("first", "STATUS", 50, msg="no address left")
    with pytest.raises(UnavailableError, match="no address left"):
        bench.delegates().status(conf)
    assert bench.order[2:] == ["first STATUS"]


def test_check_and_gc_that_are_switched_off_are_asked_of_nobody(bench: Bench) -> None:
    conf = bench.conf(**CHAIN, disableCheck="TRUE", disableGC=True)
    bench.delegates().check(conf, identity(), "net1", PREV)
    bench.delegates().collect(conf, ())
    assert bench.calls == []
    conf = bench.conf(**CHAIN, disableCheck=False, disableGC="false")
    bench.delegates().check(conf, identity(), "net1", PREV)
    bench.delegates().collect(conf, ())
    assert len(bench.calls) == 4


def test_a_plugin_that_succeeds_and_warns_is_heard_and_kept_short(bench: Bench) -> None:
    conf = bench.conf(cniVersion="1.1.0", type="first")
    bench.says("first", "ADD", {"ips": []}, stderr="long ago\n" + "x" * 2000 + "\nlease is short\n")
    with capture_logs() as logs:
        bench.delegates().add(conf, identity(), "net1")
    (line,) = logs
    assert (line["plugin"], line["verb"], line["interface"]) == ("first", "ADD", "net1")
    assert line["container"] == "c1"
    assert line["stderr"].endswith("x lease is short")
    assert len(line["stderr"]) == STDERR_KEPT
    bench.says("first", "CHECK", stderr="every few seconds\n")
    with capture_logs() as logs:
        bench.delegates().check(conf, identity(), "net1", PREV)
    assert logs == []


def test_the_trace_context_of_the_call_reaches_every_plugin(bench: Bench) -> None:
    conf = bench.conf(**CHAIN)
    trace = {"TRACEPARENT": "00-ab-cd-01", "TRACESTATE": "a=b"}
    with tracing(trace):
        bench.delegates().add(conf, identity(), "net1")
    for call in bench.calls:
        assert trace.items() <= call["environ"].items()


# What it costs


def test_an_attachment_starts_each_plugin_once_and_nothing_else(bench: Bench) -> None:
    starts: list[str] = []

    def counting(
        binary: Path, environ: Mapping[str, str], stdin: bytes, timeout_s: float
    ) -> ProcessOutcome:
        starts.append(f"{binary.name} {environ['CNI_COMMAND']}")
        return run_process(binary, environ, stdin, timeout_s)

    delegates = bench.delegates(run=counting)
    spec = nad({"type": "first"}, {"type": "second"})
    delegates.render(spec)
    assert starts == ["first VERSION", "second VERSION"]
    starts.clear()
    for _ in range(3):
        conf = delegates.render(spec, ask=PluginAsk(cni_args={"a": 1}), device="vx", mac="")
        result = delegates.add(conf, identity(), "net1")
        delegates.check(conf, identity(), "net1", result.text)
        delegates.delete(conf, identity(), "net1", result.text)
    once = [f"{name} {verb}" for verb in ("ADD", "CHECK") for name in ("first", "second")]
    assert starts == [*once, "second DEL", "first DEL"] * 3


def test_a_network_that_brings_its_configuration_needs_no_file(bench: Bench) -> None:
    delegates = bench.delegates()
    spec = nad({"type": "first", "ipam": {"type": "second"}})
    delegates.render(spec)
    touched: list[object] = []
    watching = True

    def watch(event: str, args: tuple[object, ...]) -> None:
        if watching and event in {"open", "os.listdir", "os.scandir"}:
            touched.append(args[0])

    sys.addaudithook(watch)  # stays until the process ends, and is deaf from here on
    try:
        delegates.render(spec)
        assert touched == []
        (bench.folder / "lan.conf").write_text('{"cniVersion": "1.0.0", "type": "first"}')
        touched.clear()
        delegates.render(replace(spec, conf=""))
        assert touched != [], "or the hook sees nothing"
    finally:
        watching = False

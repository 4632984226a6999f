"""Delegate plugins: the machine's reference plugins, and one that writes down what it is told."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from danmpy.attach.delegate_confs import DelegateConf
from danmpy.attach.delegates import Delegates
from danmpy.attach.values import PodIdentity
from danmpy.errors import (
    DanmpyError,
    DelegateError,
    IntentError,
    NotReadyError,
    UnavailableError,
)
from support.netns import Namespace, Namespaces, run
from support.requirements import CNI_PLUGINS, need
from support.specs import network, tenant_key

RECORDER = """#!{python} -IS
# Appends each call to the file calls and answers as the file says/NAME.VERB says.
import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
name, verb = os.path.basename(__file__), os.environ["CNI_COMMAND"]
text = sys.stdin.read()
call = {{"plugin": name, "verb": verb, "stdin": json.loads(text), "environ": dict(os.environ)}}
with open(os.path.join(here, "calls"), "a") as calls:
    calls.write(json.dumps(call) + "\\n")
try:
    with open(os.path.join(here, name + "." + verb)) as said:
        answer = json.load(said)
except FileNotFoundError:
    answer = {{}}
time.sleep(answer.get("sleep", 0))
sys.stderr.write(answer.get("stderr", ""))
sys.stdout.write(answer.get("stdout", ""))
sys.exit(answer.get("status", 0))
"""


@dataclass
class Bench:
    """A folder of recording plugins and their configurations."""

    folder: Path

    def plugin(self, name: str, *versions: str) -> None:
        path = self.folder / name
        path.write_text(RECORDER.format(python="/usr/bin/python3"))
        path.chmod(0o755)
        known = list(versions or ("0.4.0", "1.0.0", "1.1.0"))
        self.says(name, "VERSION", {"cniVersion": "1.0.0", "supportedVersions": known})
        self.says(name, "ADD", {"cniVersion": known[-1], "ips": [{"address": "10.0.0.5/24"}]})

    def says(self, name: str, verb: str, document: object = None, **more: Any) -> None:
        said = more if document is None else {"stdout": json.dumps(document), **more}
        (self.folder / f"{name}.{verb}").write_text(json.dumps(said))

    def fails(self, name: str, verb: str, code: int = 100, **error: Any) -> None:
        self.says(name, verb, {"cniVersion": "1.0.0", "code": code, **error}, status=1)

    @property
    def calls(self) -> list[dict[str, Any]]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call for call in map(json.loads, lines) if call["verb"] != "VERSION"]

    @property
    def order(self) -> list[str]:
        return [f"{call['plugin']} {call['verb']}" for call in self.calls]

    def conf(self, **document: Any) -> DelegateConf:
        (self.folder / "net.conf").write_text(json.dumps({"name": "net", **document}))
        return self.delegates().render(NET)

    def delegates(self, **more: Any) -> Delegates:
        return Delegates(self.folder, (self.folder,), **more)


NET = network(tenant_key("net"), network_id="net", backend="first")
CHAIN = {"cniVersion": "1.1.0", "plugins": [{"type": "first"}, {"type": "second", "key": [1]}]}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    for name in ("first", "second"):
        made.plugin(name)
    return made


def identity(netns: str = "/proc/self/ns/net") -> PodIdentity:
    return PodIdentity(
        namespace="blue",
        pod="web-0",
        uid="u1",
        container_id="c1",
        netns=netns,
        ifname="eth0",
    )


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


# The reference plugins


@pytest.fixture
def pod(namespaces: Namespaces) -> Namespace:
    need("cni-plugins")
    return namespaces.make("pod")


def render(folder: Path, document: dict[str, Any], **more: Any) -> tuple[Delegates, DelegateConf]:
    (folder / "net.conflist").write_text(json.dumps(document))
    delegates = Delegates(folder, (CNI_PLUGINS,))
    net = network(
        tenant_key("net"),
        network_id="net",
        backend="bridge",
        v4="10.0.0.0/24",
        gateway=ip_address("10.0.0.1"),
    )
    return delegates, delegates.render(net, **more)


def test_macvlan_and_tuning_get_our_addresses_and_mac_from_a_file_of_1_1_0(
    tmp_path: Path, pod: Namespace
) -> None:
    parent = f"dtde{os.getpid()}"
    plugins = [
        {
            "type": "macvlan",
            "master": parent,
            "ipam": {"type": "host-local", "subnet": "10.9.0.0/16"},
            "capabilities": {"mac": True},
        },
        {"type": "tuning", "mtu": 1300},
    ]
    delegates, conf = render(
        tmp_path,
        {"cniVersion": "1.1.0", "name": "net", "plugins": plugins},
        addresses=(ip_interface("10.0.0.5/24"), ip_interface("fd00::5/64")),
        mac="02:00:00:00:00:05",
    )
    assert conf.version == "1.0.0", "Debian's plugins know no newer one"
    run("ip", "link", "add", parent, "type", "veth", "peer", "name", "far", "netns", pod.name)
    try:
        run("ip", "link", "set", parent, "up")
        who = replace(identity(str(pod.path)), container_id="c-macvlan")
        result = delegates.add(conf, who, "net1")
        assert {str(ip.address) for ip in result.result.ips} == {"10.0.0.5/24", "fd00::5/64"}
        link = pod.links()["net1"]
        assert (link["address"], link["mtu"]) == ("02:00:00:00:00:05", 1300)
        assert pod.addresses("net1") == ("10.0.0.5/24", "fd00::5/64")
        delegates.check(conf, who, "net1", result.text)
        pod.ip("address", "delete", "10.0.0.5/24", "dev", "net1")
        with pytest.raises(DelegateError, match="plugin macvlan failed CHECK"):
            delegates.check(conf, who, "net1", result.text)
        for _ in range(2):
            delegates.delete(conf, who, "net1", result.text)
        assert "net1" not in pod.links()
    finally:
        run("ip", "link", "delete", parent, check=False)


def test_bridge_keeps_its_own_ipam_and_gives_the_address_back(
    tmp_path: Path, pod: Namespace
) -> None:
    bridge = f"dtdb{os.getpid()}"
    ipam = {
        "type": "host-local",
        "subnet": "10.77.0.0/24",
        "dataDir": str(tmp_path / "leases"),
    }
    delegates, conf = render(
        tmp_path,
        {
            "cniVersion": "0.3.1",
            "name": "own",
            "plugins": [{"type": "bridge", "bridge": bridge, "ipam": ipam}],
        },
    )
    who = replace(identity(str(pod.path)), container_id="c-bridge")
    held = tmp_path / "leases" / "own" / "10.77.0.2"
    try:
        result = delegates.add(conf, who, "net1").result
        assert [str(ip.address) for ip in result.ips] == ["10.77.0.2/24"]
        index = result.ips[0].interface
        assert index is not None
        assert result.interfaces[index].name == "net1"
        assert pod.addresses("net1") == ("10.77.0.2/24",)
        assert held.exists()
        pod.ip("link", "delete", "net1")
        delegates.delete(conf, who, "net1")
        assert not held.exists()
    finally:
        run("ip", "link", "delete", bridge, check=False)


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

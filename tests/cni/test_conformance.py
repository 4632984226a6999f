"""The plugin as a runtime sees it, by the CNI specification 1.1.0: shim, socket, engine, kernel.

Every call is a process start with an environment and a configuration on stdin; what counts is its
exit status and what it printed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from danmpy.api.cni import SUPPORTED_VERSIONS, version_key
from danmpy.attach.handler import CniHandler
from danmpy.attach.metrics import CniMetrics
from danmpy.attach.server import CniServer
from support.attaching import (
    THREE,
    AttachNode,
    alone,
    assert_empty,
    declare_three,
    make_node,
    remove_node,
)
from support.netns import Namespace, Namespaces
from support.requirements import CNI_PLUGINS, need
from support.shims import BOTH, make_shim


@dataclass
class Ended:
    """What a call came to."""

    status: int
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        assert self.status == 0, self.stdout + self.stderr
        found = json.loads(self.stdout)
        assert isinstance(found, dict)
        return found

    @property
    def nothing(self) -> bool:
        """A success that prints nothing."""
        assert (self.status, self.stderr) == (0, ""), self.stdout + self.stderr
        return self.stdout == ""

    @property
    def error(self) -> dict[str, Any]:
        """The error, which is exactly one JSON object on stdout and nothing on stderr."""
        assert self.status == 1
        assert self.stderr == ""
        found = json.loads(self.stdout)
        assert set(found) == {"cniVersion", "code", "msg"}
        assert "\n" not in found["msg"]
        return dict(found)


@dataclass
class Runtime:
    """Calls the plugin as containerd does."""

    node: AttachNode
    plugin: Path
    socket: Path

    def config(self, version: str = "1.1.0", **more: Any) -> dict[str, Any]:
        own = {"type": "danmpy-cni", "name": "danmpy", "socket": str(self.socket)}
        return {"cniVersion": version, **own, **more}

    def run(self, stdin: str | dict[str, Any], **environ: str) -> Ended:
        text = stdin if isinstance(stdin, str) else json.dumps(stdin)
        done = subprocess.run(
            [self.plugin], input=text, capture_output=True, text=True, env=environ, timeout=30
        )
        return Ended(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def call(
        self, verb: str, pod: Namespace | None, config: dict[str, Any] | None = None, **more: str
    ) -> Ended:
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c-web",
            "CNI_NETNS": str(pod.path) if pod else "",
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web;"
            "K8S_POD_INFRA_CONTAINER_ID=c-web;K8S_POD_UID=uid-web",
            "CNI_PATH": "/opt/cni/bin",
        }
        return self.run(self.config() if config is None else config, **{**environ, **more})


@pytest.fixture(params=BOTH)
def runtime(
    request: pytest.FixtureRequest, tmp_path: Path, namespaces: Namespaces
) -> Iterator[Runtime]:
    """A node with three networks, the pod web on all of them, and everything in front of it."""
    with alone():
        node = make_node(tmp_path, namespaces)
        try:
            node.open()
            declare_three(node)
            plugin = make_shim(request.param, tmp_path)
            handler = CniHandler(node.attacher, CniMetrics(CollectorRegistry()))
            server = CniServer(tmp_path / "cni.sock", handler.answer)
            server.start()
            try:
                yield Runtime(node=node, plugin=plugin, socket=tmp_path / "cni.sock")
            finally:
                server.close()
            node.close()
        finally:
            remove_node(node)


@pytest.fixture
def pod(namespaces: Namespaces) -> Namespace:
    return namespaces.make("pod")


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_a_result_has_the_shape_of_the_version_that_was_asked_and_nothing_more(
    runtime: Runtime, pod: Namespace, version: str
) -> None:
    result = runtime.call("ADD", pod, runtime.config(version)).result
    key = version_key(version)
    assert result["cniVersion"] == version
    known = {"cniVersion", "interfaces", "ips", "routes"} | ({"dns"} if key < (1, 0, 0) else set())
    assert set(result) == known
    modern = {"mtu"} if key >= (1, 1, 0) else set()
    inside = [link for link in result["interfaces"] if "sandbox" in link]
    assert [link["name"] for link in inside] == ["eth0", "eth1", "front2"]
    for link in inside:
        assert set(link) == {"name", "mac", "sandbox"} | modern
    for ip in result["ips"]:
        family = {"version"} if key < (1, 0, 0) else set()
        assert set(ip) - {"gateway"} == {"address", "interface"} | family
        assert ip.get("version", "4") in {"4", "6"}
        name = result["interfaces"][ip["interface"]]["name"]
        assert str(ip_interface(ip["address"])) in pod.addresses(name)
    first = [ip for ip in result["ips"] if ip["interface"] == 0]
    assert [ip_interface(ip["address"]).version for ip in first] == [4, 6]
    tables = {route.get("table") for route in result["routes"]}
    assert tables == ({None, 77} if key >= (1, 1, 0) else {None})
    if key >= (0, 4, 0):
        assert runtime.call("CHECK", pod, runtime.config(version, prevResult=result)).nothing
    assert runtime.call("DEL", pod, runtime.config(version, prevResult=result)).nothing
    assert_empty(pod, runtime.node, "c-web")


def test_the_result_is_one_that_a_reference_plugin_of_the_chain_takes_up(
    runtime: Runtime, pod: Namespace
) -> None:
    need("cni-plugins")
    result = runtime.call("ADD", pod, runtime.config("1.0.0")).result
    environ = {
        "CNI_CONTAINERID": "c-web",
        "CNI_NETNS": str(pod.path),
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(CNI_PLUGINS),
    }
    chained = {"cniVersion": "1.0.0", "name": "danmpy", "type": "tuning", "mtu": 1350}
    done = subprocess.run(
        [CNI_PLUGINS / "tuning"],
        input=json.dumps({**chained, "prevResult": result}),
        capture_output=True,
        text=True,
        env={**environ, "CNI_COMMAND": "ADD"},
    )
    final = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert final["ips"] == result["ips"]
    assert runtime.call("DEL", pod, runtime.config("1.0.0", prevResult=final)).nothing
    assert_empty(pod, runtime.node, "c-web")


def test_missing_variables_are_code_4_and_all_of_them_are_named(runtime: Runtime) -> None:
    error = runtime.run(runtime.config(), CNI_COMMAND="ADD").error
    assert error["code"] == 4
    for name in (
        *("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
        *("K8S_POD_NAMESPACE", "K8S_POD_NAME"),
    ):
        assert name in error["msg"]
    error = runtime.run(runtime.config(), CNI_COMMAND="DEL", CNI_IFNAME="").error
    assert error["code"] == 4
    assert "CNI_NETNS" not in error["msg"]
    assert runtime.run(runtime.config(), CNI_COMMAND="DANCE").error["code"] == 4


@pytest.mark.parametrize(
    "bad",
    [
        {"CNI_CONTAINERID": "../c"},
        {"CNI_CONTAINERID": "-c"},
        {"CNI_IFNAME": "x" * 16},
        {"CNI_IFNAME": "a/b"},
        {"CNI_IFNAME": "a b"},
        {"CNI_IFNAME": ".."},
        {"CNI_IFNAME": "\udcff"},
    ],
    ids=str,
)
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_illegal_variables_are_code_4(
    runtime: Runtime, pod: Namespace, verb: str, bad: dict[str, str]
) -> None:
    error = runtime.call(verb, pod, **bad).error
    assert error["code"] == 4
    assert next(iter(bad)) in error["msg"]


@pytest.mark.parametrize(
    ("stdin", "code"),
    [
        ("", 6),
        ("{", 6),
        ("[]", 6),
        ('"x"', 6),
        ({"cniVersion": "9.9.9"}, 1),
        ({"cniVersion": ""}, 1),
        ({"cniVersion": "0.2.0"}, 1),
        ({"cniVersion": 1.1}, 1),
        ({"name": ""}, 7),
        ({"name": "../x"}, 7),
        ({"name": None}, 7),
    ],
    ids=str,
)
def test_a_bad_configuration_has_the_code_of_what_is_wrong_with_it(
    runtime: Runtime, pod: Namespace, stdin: str | dict[str, Any], code: int
) -> None:
    if isinstance(stdin, str):
        environ = {"DANMPY_SOCKET": str(runtime.socket), "CNI_COMMAND": "ADD"}
        who = {"CNI_CONTAINERID": "c", "CNI_NETNS": str(pod.path), "CNI_IFNAME": "eth0"}
        args = {"CNI_ARGS": "K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web"}
        error = runtime.run(stdin, **environ, **who, **args).error
    else:
        error = runtime.call("ADD", pod, {**runtime.config(), **stdin}).error
    assert error["code"] == code
    assert set(pod.links()) == {"lo"}


@pytest.mark.parametrize(
    ("verb", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")]
)
def test_a_verb_that_its_version_does_not_have_is_code_1_in_that_version(
    runtime: Runtime, pod: Namespace, verb: str, version: str
) -> None:
    error = runtime.call(verb, pod, runtime.config(version, prevResult={})).error
    assert (error["code"], error["cniVersion"]) == (1, version)


def test_check_without_prev_result_is_code_7_and_of_a_stranger_code_3(
    runtime: Runtime, pod: Namespace
) -> None:
    assert runtime.call("CHECK", pod).error["code"] == 7
    assert runtime.call("CHECK", pod, runtime.config(prevResult={})).error["code"] == 3


def test_del_is_a_success_for_what_never_was_and_with_a_ruined_prev_result(
    runtime: Runtime, pod: Namespace
) -> None:
    assert runtime.call("DEL", None).nothing
    assert runtime.call("ADD", pod).status == 0
    assert runtime.call("DEL", pod, runtime.config(prevResult={"ips": "rubbish"})).nothing
    assert_empty(pod, runtime.node, "c-web")


def test_status_and_version_need_no_attachment_and_change_nothing(runtime: Runtime) -> None:
    assert runtime.call("STATUS", None, CNI_CONTAINERID="", CNI_IFNAME="", CNI_ARGS="").nothing
    versions = runtime.call("VERSION", None).result
    assert versions["supportedVersions"] == list(SUPPORTED_VERSIONS)
    runtime.node.leases.away = True
    error = runtime.call("STATUS", None).error
    assert error["code"] == 50
    assert "unreachable" in error["msg"]


def test_gc_with_both_names_of_its_list_null_absent_or_empty(
    runtime: Runtime, pod: Namespace
) -> None:
    assert runtime.call("ADD", pod).status == 0
    mine = [{"containerID": "c-web", "ifname": "eth0"}]
    keys = ("cni.dev/valid-attachments", "cni.dev/attachments")
    for harmless in ({}, dict.fromkeys(keys, mine), {keys[1]: mine}):
        assert runtime.call("GC", None, runtime.config(**harmless)).nothing
        assert len(runtime.node.held("c-web")) == 4
    assert runtime.call("GC", None, runtime.config(**{keys[0]: None})).nothing
    assert_empty(pod, runtime.node, "c-web")
    assert runtime.call("GC", None, runtime.config(**{keys[0]: [1]})).error["code"] == 6


def test_what_a_person_has_to_change_is_named_in_the_message(
    runtime: Runtime, pod: Namespace
) -> None:
    runtime.node.add_pod("web", {"tenantNetwork": "internl", "ip": "dynamic"})
    error = runtime.call("ADD", pod).error
    assert error["code"] == 7
    assert "Pod/blue/web" in error["msg"]
    assert "internal" in error["msg"]
    assert_empty(pod, runtime.node, "c-web")


def test_twenty_pods_at_once_all_get_addresses_of_their_own_and_all_give_them_back(
    runtime: Runtime, namespaces: Namespaces
) -> None:
    pods = {f"p{number}": namespaces.make("pod") for number in range(20)}
    for name in pods:
        runtime.node.add_pod(name, *THREE)

    def call(verb: str, name: str) -> Ended:
        who = f"K8S_POD_NAMESPACE=blue;K8S_POD_NAME={name};K8S_POD_UID=uid-{name}"
        return runtime.call(verb, pods[name], CNI_CONTAINERID=f"c-{name}", CNI_ARGS=who)

    with ThreadPoolExecutor(20) as crowd:
        results = [ended.result for ended in crowd.map(lambda name: call("ADD", name), pods)]
        addresses = [ip["address"] for result in results for ip in result["ips"]]
        assert len(addresses) == len(set(addresses)) == 80
        assert all(ended.nothing for ended in crowd.map(lambda name: call("DEL", name), pods))
    for name, namespace in pods.items():
        assert_empty(namespace, runtime.node, f"c-{name}")

"""The state folders of host-local: as the real plugin writes them, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.importing.hostlocal import (
    Sandbox,
    StateFile,
    is_state,
    parse_host_local,
    parse_sandboxes,
    with_pods,
)
from danmpy.importing.values import Parsed
from support.hostlocal import add
from support.requirements import need

CRICTL = {
    "items": [
        {
            "id": "c1",
            "metadata": {"name": "web-0", "uid": "uid-web-0", "namespace": "blue", "attempt": 0},
            "state": "SANDBOX_READY",
            "createdAt": "1714550400000000000",
            "labels": {"app": "web"},
            "annotations": {},
            "runtimeHandler": "",
        }
    ]
}


def file(name: str, content: bytes) -> StateFile:
    return StateFile(path=f"/state/{name}", name=name, content=content, modified=7)


def parsed(*files: StateFile) -> Parsed:
    return parse_host_local("net", files, "node-a")


def read(folder: Path) -> Parsed:
    files = [
        StateFile(path=str(path), name=path.name, content=path.read_bytes())
        for path in sorted(folder.iterdir())
    ]
    return parse_host_local(folder.name, files, "node-a")


def test_what_the_real_plugin_writes_is_read(tmp_path: Path) -> None:
    need("cni-plugins")
    given_out = add(tmp_path, "blue-net", "c1", "eth0")
    given_out += add(tmp_path, "blue-net", "c2", "net1")
    assert len(given_out) == 4
    found = read(tmp_path / "blue-net")
    assert found.problems == ()
    assert {str(item.address) for item in found.holdings} == set(given_out)
    assert {(item.container_id, item.interface) for item in found.holdings} == {
        ("c1", "eth0"),
        ("c2", "net1"),
    }
    assert {item.network for item in found.holdings} == {"blue-net"}
    assert {path.name for path in (tmp_path / "blue-net").iterdir() if not is_state(path.name)} == {
        "lock",
        "last_reserved_ip.0",
        "last_reserved_ip.1",
    }


def test_a_file_is_an_address_with_container_and_interface() -> None:
    (holding,) = parsed(file("10.0.0.5", b"c1\r\neth0")).holdings
    assert (str(holding.address), holding.container_id, holding.interface) == (
        "10.0.0.5",
        "c1",
        "eth0",
    )
    assert (holding.node, holding.since, holding.where) == ("node-a", 7, "/state/10.0.0.5")


def test_files_of_older_releases_and_of_windows_are_read() -> None:
    old, lines, windows = parsed(
        file("10.0.0.5", b"c1"), file("10.0.0.6", b"c2\neth0\n"), file("fd00__5", b"c3\r\neth0")
    ).holdings
    assert (old.container_id, old.interface) == ("c1", "")
    assert (lines.container_id, lines.interface) == ("c2", "eth0")
    assert str(windows.address) == "fd00::5"


def test_an_empty_file_keeps_an_address_that_nobody_is_known_to_have() -> None:
    (holding,) = parsed(file("10.0.0.5", b"")).holdings
    assert not holding.is_owned


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"c1\r\neth0"),
        ("10.0.0.5", b"\xff\xfe"),
        ("10.0.0.5", b"a\nb\nc\nd\ne"),
        ("10.0.0.5", b"\x1b[2J\neth0"),
        ("10.0.0.5", b"x" * 4096),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_read(name: str, content: bytes) -> None:
    found = parsed(file(name, content), file("10.0.0.9", b"c9\r\neth0"))
    assert [str(item.address) for item in found.holdings] == ["10.0.0.9"]
    assert [problem.where for problem in found.problems] == [f"/state/{name}"]


@given(st.text(min_size=1, max_size=20), st.binary(max_size=60))
def test_whatever_a_file_is_it_is_read_or_named(name: str, content: bytes) -> None:
    found = parsed(file(name, content), file("10.0.0.5", content))
    assert len(found.holdings) + len(found.problems) == 1 + is_state(name)


def test_the_runtime_says_which_pods_the_containers_are() -> None:
    sandboxes, problems = parse_sandboxes(json.dumps(CRICTL).encode(), "pods.json")
    assert problems == ()
    assert sandboxes == {"c1": Sandbox(namespace="blue", pod="web-0", pod_uid="uid-web-0")}
    known, unknown = with_pods(
        parsed(file("10.0.0.5", b"c1\r\neth0"), file("10.0.0.6", b"c2\r\neth0")), sandboxes
    ).holdings
    assert (known.namespace, known.pod, known.pod_uid) == ("blue", "web-0", "uid-web-0")
    assert (unknown.namespace, unknown.pod) == ("", "")


@given(st.binary(max_size=40) | st.sampled_from([b'{"items": 7}', b'{"items": [7, {"id": 7}]}']))
def test_a_list_of_sandboxes_that_is_none_is_named(data: bytes) -> None:
    sandboxes, problems = parse_sandboxes(data, "pods.json")
    assert sandboxes == {}
    assert problems
    assert {problem.where for problem in problems} == {"pods.json"}

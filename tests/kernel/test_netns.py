"""Entering network namespaces from a thread, and telling one from another."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from danmpy.errors import WireError
from danmpy.kernel.netns import (
    inside,
    netns_id,
    netns_id_of,
    open_netns,
    read_netns_id,
    require_other_than_home,
)
from support.netns import Namespaces

OWN = "/proc/thread-self/ns/net"


def test_a_thread_works_inside_and_is_home_again_also_after_a_failure(
    namespaces: Namespaces,
) -> None:
    pod = namespaces.make("pod")
    home = netns_id_of(OWN)
    fd = open_netns(str(pod.path))
    try:
        with inside(fd):
            assert netns_id_of(OWN) == netns_id(fd) == netns_id_of(str(pod.path))
        assert netns_id_of(OWN) == home
        with pytest.raises(KeyError), inside(fd):
            raise KeyError
        assert netns_id_of(OWN) == home
    finally:
        os.close(fd)


def test_other_threads_stay_where_they_are(namespaces: Namespaces) -> None:
    pod = namespaces.make("pod")
    home = netns_id_of(OWN)
    seen = []
    fd = open_netns(str(pod.path))
    try:
        with inside(fd):
            thread = threading.Thread(target=lambda: seen.append(netns_id_of(OWN)))
            # A new thread inherits where it was started; one that runs already does not move.
            started = threading.Event()
            runner = threading.Thread(target=lambda: (started.wait(5), thread.run()))
        runner.start()
        with inside(fd):
            started.set()
            runner.join()
    finally:
        os.close(fd)
    assert seen == [home]


def test_a_socket_stays_in_the_namespace_in_which_it_was_opened(namespaces: Namespaces) -> None:
    pod = namespaces.make("pod")
    pod.ip("address", "add", "10.5.5.5/32", "dev", "lo")
    fd = open_netns(str(pod.path))
    try:
        with inside(fd):
            there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with there, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
            there.bind(("10.5.5.5", 0))
            with pytest.raises(OSError, match="assign requested address"):
                here.bind(("10.5.5.5", 0))
    finally:
        os.close(fd)


def test_two_paths_of_one_namespace_are_the_same_and_two_namespaces_are_not(
    namespaces: Namespaces,
) -> None:
    one, other = namespaces.make("pod"), namespaces.make("pod")
    assert netns_id_of(str(one.path)) == read_netns_id(str(one.path))
    assert netns_id_of(str(one.path)) != netns_id_of(str(other.path))
    assert netns_id_of(OWN) == netns_id_of("/proc/self/ns/net")


def test_the_node_s_own_namespace_is_told_from_a_pod_s(namespaces: Namespaces) -> None:
    require_other_than_home(str(namespaces.make("pod").path))
    with pytest.raises(WireError, match="node's own") as caught:
        require_other_than_home("/proc/self/ns/net")
    assert caught.value.code == 8


def test_a_path_where_nothing_is_is_code_8_and_none_for_who_only_looks(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert read_netns_id(nowhere) is None
    for look in (open_netns, netns_id_of, require_other_than_home):
        with pytest.raises(WireError, match="nowhere") as caught:
            look(nowhere)
        assert caught.value.code == 8


@pytest.mark.parametrize("kind", ["file", "ipc namespace"])
def test_what_is_no_network_namespace_is_code_8_and_the_thread_stays_home(
    tmp_path: Path, kind: str
) -> None:
    path = "/proc/self/ns/ipc" if kind != "file" else str(tmp_path / "file")
    if kind == "file":
        Path(path).touch()
    fd = open_netns(path)
    home = netns_id_of(OWN)
    try:
        with pytest.raises(WireError, match="no network namespace") as caught, inside(fd):
            pytest.fail("entered")
    finally:
        os.close(fd)
    assert caught.value.code == 8
    assert netns_id_of(OWN) == home

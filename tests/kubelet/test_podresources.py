"""Asking a kubelet, over a real socket, which devices a pod has."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from danmpy.errors import NotReadyError, cni_code_of
from danmpy.kubelet.podresources import PodResources
from support.kubelet import Given, Kubelet, run_kubelet

PODS: Given = {
    ("blue", "web"): [("vendor/vf", ["b", "a"]), ("vendor/vf", ["c", "a"]), ("vendor/gpu", ["g"])],
    ("blue", "idle"): [],
    ("red", "web"): [("vendor/vf", ["z"])],
}
OF_WEB = {"vendor/vf": ("a", "b", "c"), "vendor/gpu": ("g",)}


def made(tmp_path: Path, **more: object) -> Kubelet:
    return Kubelet(socket=tmp_path / "kubelet.sock", pods=dict(PODS), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("get", ["serve", "disabled", "missing"])
def test_the_devices_of_all_containers_of_a_pod_are_told_sorted_and_once(
    tmp_path: Path, get: str
) -> None:
    with run_kubelet(made(tmp_path, get=get)) as kubelet:
        resources = PodResources(kubelet.socket)
        assert resources.read_devices("blue", "web") == OF_WEB
        assert resources.read_devices("red", "web") == {"vendor/vf": ("z",)}
        assert resources.read_devices("blue", "idle") == {}
        assert resources.read_devices("blue", "nobody") is None


def test_a_kubelet_without_get_is_asked_for_it_once_only(tmp_path: Path) -> None:
    with run_kubelet(made(tmp_path, get="missing")) as kubelet:
        resources = PodResources(kubelet.socket)
        for _ in range(3):
            resources.read_devices("blue", "web")
        assert kubelet.asked == ["List"] * 3
        assert not resources._knows_get


def test_where_get_is_served_nobody_asks_for_all_pods(tmp_path: Path) -> None:
    with run_kubelet(made(tmp_path)) as kubelet:
        PodResources(kubelet.socket).read_devices("blue", "web")
        assert kubelet.asked == ["Get"]


def test_a_kubelet_that_hangs_is_not_waited_for_longer_than_the_deadline(tmp_path: Path) -> None:
    kubelet = made(tmp_path, get="missing", hang=threading.Event())
    with run_kubelet(kubelet):
        began = time.monotonic()
        with pytest.raises(NotReadyError, match="DEADLINE_EXCEEDED") as caught:
            PodResources(kubelet.socket, timeout_s=0.3).read_devices("blue", "web")
        assert time.monotonic() - began < 5
    assert cni_code_of(caught.value) == 11
    assert caught.value.subject == str(kubelet.socket)
    assert "devices.pod_resources_socket" in caught.value.hint


def test_without_a_kubelet_the_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="no such socket"):
        PodResources(tmp_path / "none.sock").read_devices("blue", "web")


def test_a_socket_that_nobody_listens_on_any_more_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "kubelet.sock").write_text("")
    resources = PodResources(tmp_path / "kubelet.sock")
    with pytest.raises(NotReadyError, match="UNAVAILABLE"):
        resources.read_devices("blue", "web")
    (tmp_path / "kubelet.sock").unlink()
    with run_kubelet(made(tmp_path)):  # it is back: no waiting that grew meanwhile
        assert resources.read_devices("blue", "web") == OF_WEB


def test_several_threads_may_ask_at_once(tmp_path: Path) -> None:
    with run_kubelet(made(tmp_path)) as kubelet, ThreadPoolExecutor(8) as crowd:
        resources = PodResources(kubelet.socket)
        answers = list(crowd.map(lambda _: resources.read_devices("blue", "web"), range(40)))
    assert answers == [OF_WEB] * 40


def test_who_asks_for_no_device_does_not_load_grpc() -> None:
    words = (
        "import sys; from pathlib import Path; from danmpy.kubelet.podresources import PodResources"
        "; PodResources(Path('/none')); import danmpy.bootstrap.node"
        "; sys.exit(any(name.startswith(('grpc', 'google.protobuf')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", words], timeout=60).returncode == 0

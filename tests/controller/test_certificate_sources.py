"""Certificates out of a Secret on a real API server, and out of a folder."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from danmpy.clock import MICROSECONDS
from danmpy.controller.certificate_sources import (
    FolderCertificates,
    SecretCertificates,
    hosts_of,
    secret_name,
)
from danmpy.controller.certificates import ServedCertificate, renewed
from danmpy.controller.registration import Registration
from danmpy.errors import ClusterError, IntentError
from danmpy.kube.client import open_client
from danmpy.kube.errors import DeniedError
from support.apiclient import STRANGER
from support.apiserver import ApiServer

NAMESPACE = "danmpy-system"
OURS = Registration(namespace=NAMESPACE)
DAY = 86_400 * MICROSECONDS
NOW = 1_777_000_000 * MICROSECONDS


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(apiserver: ApiServer) -> ApiServer:
    apiserver.make_namespace(NAMESPACE)
    return apiserver


def replica(server: ApiServer, clock: Clock, *, user: str = "admin") -> SecretCertificates:
    return SecretCertificates(open_client(server.kubeconfig(user)), OURS, clock=clock)


def secret(server: ApiServer) -> dict[str, bytes]:
    found = server.get("Secret", "danmpy-webhook-tls", NAMESPACE)
    assert found is not None
    return {key: base64.b64decode(value) for key, value in found["data"].items()}


def test_the_certificate_is_for_the_name_by_which_the_server_calls() -> None:
    assert secret_name(OURS) == "danmpy-webhook-tls"
    assert hosts_of(OURS)[0] == "danmpy-webhook.danmpy-system.svc"
    outside = Registration(url="https://[2001:db8::1]:9443")
    assert hosts_of(outside)[0] == "2001:db8::1"
    assert "danmpy-webhook.danmpy.svc" in hosts_of(outside)


@pytest.mark.system
def test_it_is_made_once_and_found_by_the_others(server: ApiServer, clock: Clock) -> None:
    first = replica(server, clock).read()
    assert replica(server, clock).read() == first
    stored = secret(server)
    assert (stored["tls.crt"], stored["tls.key"]) == (first.certificate, first.key)
    assert stored["ca.crt"] == first.ca_bundle
    found = server.get("Secret", "danmpy-webhook-tls", NAMESPACE)
    assert found is not None
    assert found["type"] == "kubernetes.io/tls"


@pytest.mark.system
def test_replicas_that_start_together_end_with_one_certificate(
    server: ApiServer, clock: Clock
) -> None:
    for _ in range(3):
        server.delete("Secret", "danmpy-webhook-tls", NAMESPACE)
        replicas = [replica(server, clock) for _ in range(6)]
        with ThreadPoolExecutor(len(replicas)) as pool:
            list(pool.map(lambda each: each.read(), replicas))
        served = {each.read().certificate for each in replicas}
        assert served == {secret(server)["tls.crt"]}


@pytest.mark.system
def test_it_is_renewed_by_one_and_followed_by_the_others(server: ApiServer, clock: Clock) -> None:
    one, other = replica(server, clock), replica(server, clock)
    before = one.read()
    clock.now += 61 * DAY
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: each.read(), (one, other)))
    after = one.read()
    assert after.certificate != before.certificate
    assert after.ca_bundle == before.ca_bundle
    assert other.read() == after


@pytest.mark.system
@pytest.mark.parametrize("data", [{}, {"tls.crt": "", "tls.key": "", "ca.crt": "x"}])
def test_a_secret_with_something_else_in_it_is_written_anew(
    server: ApiServer, clock: Clock, data: dict[str, str]
) -> None:
    server.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "danmpy-webhook-tls", "namespace": NAMESPACE},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
        }
    )
    served = replica(server, clock).read()
    assert secret(server)["tls.crt"] == served.certificate
    assert replica(server, clock).read() == served


@pytest.mark.system
def test_whoever_may_not_read_it_is_told(server: ApiServer, clock: Clock) -> None:
    with pytest.raises(DeniedError):
        replica(server, clock, user=STRANGER).read()
    server.kill()
    with pytest.raises(ClusterError):
        replica(server, clock).read()


# A folder


def write(folder: Path, served: ServedCertificate) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tls.crt").write_bytes(served.certificate)
    (folder / "tls.key").write_bytes(served.key)
    (folder / "ca.crt").write_bytes(served.ca_bundle)


def test_a_folder_is_read_at_every_look_also_behind_a_link_that_moves(tmp_path: Path) -> None:
    """As the kubelet replaces a mounted Secret: the files link into a folder that is swapped."""
    one, other = (renewed(None, ("a",), NOW).served for _ in range(2))
    write(tmp_path / "..1", one)
    write(tmp_path / "..2", other)
    (tmp_path / "..data").symlink_to("..1")
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    source = FolderCertificates(tmp_path)
    assert source.read() == one
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert source.read() == other


def test_without_an_authority_nobody_else_is_told_of_one(tmp_path: Path) -> None:
    write(tmp_path, renewed(None, ("a",), NOW).served)
    (tmp_path / "ca.crt").unlink()
    assert FolderCertificates(tmp_path).read().ca_bundle == b""


def test_a_folder_that_is_half_written_is_refused_in_words(tmp_path: Path) -> None:
    one, other = (renewed(None, ("a",), NOW).served for _ in range(2))
    with pytest.raises(IntentError, match=r"tls\.crt.*cannot be read"):
        FolderCertificates(tmp_path / "none").read()
    write(tmp_path, one)
    (tmp_path / "tls.key").write_bytes(other.key)
    with pytest.raises(IntentError, match="does not belong"):
        FolderCertificates(tmp_path).read()

"""Where the configuration comes from, and what is said when there is none."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from danmpy.errors import ClusterError
from danmpy.kube.access import Access, loader
from danmpy.kube.client import open_client
from danmpy.kube.resources import NODES
from support.apiserver import ApiServer

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443/"}}],
    "users": [{"name": "u", "user": {"token": "secret-token"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


def write(path: Path, config: object) -> Path:
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_kubeconfig_says_where_and_who(tmp_path: Path) -> None:
    access = Access(loader(write(tmp_path / "config", KUBECONFIG))())
    assert access.host == "https://127.0.0.1:6443"
    assert access.headers() == {"authorization": "Bearer secret-token"}


def test_a_token_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file")
    users = [{"name": "u", "user": {"tokenFile": str(tmp_path / "token")}}]
    access = Access(loader(write(tmp_path / "config", KUBECONFIG | {"users": users}))())
    assert access.headers() == {"authorization": "Bearer from-file"}


@pytest.mark.parametrize(
    "content",
    ["", "{", "just text", "[]", "clusters: 7", yaml.safe_dump(KUBECONFIG | {"contexts": []})],
)
def test_a_broken_kubeconfig_is_named_with_the_way_out(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(ClusterError, match=str(path)) as raised:
        open_client(path)
    assert "intent.kubeconfig" in raised.value.hint
    assert "\n" not in raised.value.message


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="nowhere"):
        open_client(tmp_path / "nowhere")


def test_without_any_configuration_the_ways_to_one_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    import kubernetes.config.kube_config as loaded

    monkeypatch.setattr(loaded, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(ClusterError) as raised:
        open_client(None)
    assert "service account" in raised.value.hint


@pytest.mark.system
def test_in_a_pod_its_service_account_is_used(
    apiserver: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kubernetes.config.incluster_config as loaded

    token = tmp_path / "token"
    token.write_text("outdated")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(apiserver.port))
    monkeypatch.setattr(loaded, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(loaded, "SERVICE_CERT_FILENAME", str(apiserver.ca_file))
    client = open_client(None)
    token.write_text(apiserver.tokens["admin"])  # as kubelet replaces it
    time.sleep(1.1)
    assert client.list(NODES).items == []
    token.write_text("")
    client._access = Access(_in_a_minute(client._access._configuration))
    with pytest.raises(ClusterError, match="credentials cannot be read"):
        client.list(NODES)
    token.write_text(apiserver.tokens["admin"])
    assert client.list(NODES).items == []


def _in_a_minute(configuration: Any) -> Any:
    """As if the token was due to be read again."""
    import kubernetes.config.incluster_config as loaded

    made = loaded.InClusterConfigLoader(
        token_filename=loaded.SERVICE_TOKEN_FILENAME, cert_filename=loaded.SERVICE_CERT_FILENAME
    )
    text = Path(loaded.SERVICE_TOKEN_FILENAME).read_text()
    Path(loaded.SERVICE_TOKEN_FILENAME).write_text("due")
    made.load_and_set(configuration)
    Path(loaded.SERVICE_TOKEN_FILENAME).write_text(text)
    made.token_expires_at = dt.datetime.min
    return configuration


def test_a_process_without_a_cluster_does_not_load_the_client() -> None:
    code = (
        "import sys, danmpy.intent.cluster, danmpy.kube.client\n"
        "print([name for name in sys.modules if name.startswith('kubernetes')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr

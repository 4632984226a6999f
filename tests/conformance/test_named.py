"""A plugin that the command line names is asked, and no other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import REPOSITORY, clean_environment
from support.requirements import CNI_PLUGINS, need

pytestmark = pytest.mark.system

CONFIG = {
    "cniVersion": "1.0.0",
    "name": "named",
    "plugins": [{"ipam": {"type": "static", "addresses": [{"address": "10.88.1.2/24"}]}}],
}


def suite(*words: str) -> subprocess.CompletedProcess[str]:
    """A run of the suite of its own."""
    argv = [sys.executable, "-m", "pytest", "tests/conformance", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*argv, *words],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    need("namespaces", "cni-plugins")
    file = tmp_path / "named.conflist"
    file.write_text(json.dumps(CONFIG))
    return file


def test_the_named_plugin_is_asked_alone_and_what_it_does_wrong_fails_the_run(
    config: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table"
    plugin = ("--cni-plugin", str(CNI_PLUGINS / "static"), "--cni-config", str(config))
    words = (*plugin, "--cni-kind", "ipam", "--cni-table", str(table))
    sound = suite(*words, "-k", "named-static and (del-twice or shape-1.0.0 or true)")
    assert sound.returncode == 0, sound.stdout
    assert "2 passed" in sound.stdout, "an IPAM plugin is not asked what interfaces are"
    lines = table.read_text().splitlines()
    assert "| check | section | named-static |" in lines
    assert "| DEL twice succeeds | 2 DEL | ✓ |" in lines
    deviant = suite(*words, "-k", "named-static-error-version")
    assert deviant.returncode == 1, deviant.stdout
    assert "1. named-static: " in table.read_text()
    assert "cniVersion None" in table.read_text()


def test_a_plugin_without_its_configuration_is_refused(config: Path) -> None:
    for words in (("--cni-plugin", "/usr/lib/cni/static"), ("--cni-config", str(config))):
        done = suite(*words)
        assert done.returncode == 4, done.stdout
        assert "--cni-plugin and --cni-config go together" in done.stdout + done.stderr

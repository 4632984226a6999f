"""STATUS of the network that every pod gets first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from danmpy.api.dialects.rules import DialectRules
from danmpy.attach.delegates.default_network import require_default_network
from danmpy.errors import UnavailableError
from support.attaching import AttachNode
from support.recording import Bench

RULES = DialectRules(default_network="lan", more_networks=("other",))


@pytest.fixture
def lan(node: AttachNode) -> Bench:
    """The plugin of the node's default network, whose file is there."""
    node.close()
    node.rules = RULES
    node.open()
    for folder in (node.bin_dir, node.conf_dir):
        folder.mkdir(exist_ok=True)
    bench = Bench(node.bin_dir)
    bench.plugin("first")
    write(node.conf_dir, "1.1.0")
    return bench


def write(conf_dir: Path, version: str) -> Path:
    path = conf_dir / "10-any.conflist"
    document = {"cniVersion": version, "name": "lan", "plugins": [{"type": "first"}]}
    path.write_text(json.dumps(document))
    return path


def refusal(node: AttachNode) -> str:
    with pytest.raises(UnavailableError) as caught:
        node.attacher.status()
    assert caught.value.cni_code == 50
    return caught.value.message


def test_a_node_is_ready_when_the_plugin_of_its_default_network_says_so(
    node: AttachNode, lan: Bench
) -> None:
    node.attacher.status()
    assert lan.order == ["first STATUS"]
    lan.fails("first", "STATUS", 51, msg="no address left")
    assert "plugin first failed STATUS with code 51: no address left" in refusal(node)
    lan.says("first", "STATUS", sleep=30)
    assert "did not finish STATUS within 2 s" in refusal(node)


def test_a_node_is_not_ready_before_its_default_network_is(node: AttachNode, lan: Bench) -> None:
    path = write(node.conf_dir, "1.1.0")
    path.unlink()
    assert "has the name lan" in refusal(node)
    path.write_text('{"name": "lan", "plugins": [{"type": "danmpy-cni"}]}')
    assert "is danmpy itself" in refusal(node)
    write(node.conf_dir, "1.1.0")
    (node.bin_dir / "first").unlink()
    assert "the CNI plugin first is not in" in refusal(node)
    assert lan.calls == []


def test_a_plugin_that_knows_no_status_is_only_looked_for(node: AttachNode, lan: Bench) -> None:
    write(node.conf_dir, "1.0.0")
    node.attacher.status()
    assert lan.calls == []


@pytest.mark.parametrize("name", ["", "blue/lan"])
def test_no_other_kind_of_default_network_is_asked(node: AttachNode, lan: Bench, name: str) -> None:
    require_default_network(DialectRules(default_network=name), node.delegates)
    assert lan.calls == []

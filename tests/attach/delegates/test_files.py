"""Where a delegate's configuration is found, and in which order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from danmpy.api.specs import NetworkKey, NetworkKind
from danmpy.attach.delegates.files import read_conf, read_conf_names
from danmpy.errors import IntentError, NotReadyError
from support.recording import NAD
from support.specs import network, tenant_key

NET = network(tenant_key("flannel"), network_id="flannel", backend="flannel")
LAN = replace(NAD, conf="")
"""A NetworkAttachmentDefinition without a configuration of its own."""

NODE_CONF = replace(NAD, conf="", key=NetworkKey(kind=NetworkKind.NAD, name="lan"))
"""What stands for a configuration of the node, with no object."""


def write(folder: Path, name: str, document: object) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def types(folder: Path, spec: object = LAN) -> list[str]:
    return [plugin["type"] for plugin in read_conf(folder, spec).plugins]  # type: ignore[arg-type]


def test_names_are_those_of_configuration_files_and_a_missing_folder_has_none(
    tmp_path: Path,
) -> None:
    for name in ("a.conf", "b.conflist", "c.json", "d.txt", ".e.conf", "f.conf.tmp"):
        (tmp_path / name).touch()
    assert read_conf_names(tmp_path) == {"a", "b", "c"}
    assert read_conf_names(tmp_path / "nowhere") == frozenset()


# By the name of the file: DANM


def test_a_list_is_preferred_to_a_single_plugin_of_the_same_file_name(tmp_path: Path) -> None:
    write(tmp_path, "flannel.json", {"type": "third"})
    write(tmp_path, "flannel.conf", {"cniVersion": "0.3.1", "name": "single", "type": "second"})
    single = read_conf(tmp_path, NET)
    assert (single.name, types(tmp_path, NET)) == ("single", ["second"])
    path = write(tmp_path, "flannel.conflist", {"plugins": [{"type": "first"}]})
    chain = read_conf(tmp_path, NET)
    assert (chain.source, chain.name, types(tmp_path, NET)) == (str(path), "flannel", ["first"])


def test_a_file_without_type_and_name_runs_the_binary_called_like_the_network_type(
    tmp_path: Path,
) -> None:
    write(tmp_path, "flannel.conf", {"cniVersion": "0.3.1"})
    conf = read_conf(tmp_path, NET)
    assert (conf.name, conf.plugins[0]["type"]) == ("flannel", "flannel")


@pytest.mark.parametrize("network_id", ["missing", "../outside", "inside/x"])
def test_a_network_id_finds_nothing_outside_the_folder(tmp_path: Path, network_id: str) -> None:
    folder = tmp_path / "net.d"
    (folder / "inside").mkdir(parents=True)
    write(tmp_path, "outside.conf", {"type": "a"})
    write(folder / "inside", "x.conf", {"type": "a"})
    lost = network(tenant_key("x"), network_id=network_id, backend="flannel")
    with pytest.raises(NotReadyError, match="neither"):
        read_conf(folder, lost)


def test_a_file_that_is_too_big_or_broken_is_named(tmp_path: Path) -> None:
    for text, problem in ((" " * (2 * 1024 * 1024 + 1), "bigger than"), ("{", "is no JSON")):
        path = write(tmp_path, "flannel.conf", text)
        with pytest.raises(IntentError, match=problem) as caught:
            read_conf(tmp_path, NET)
        assert caught.value.subject == str(path)
    path.unlink()
    path.mkdir()
    path.with_suffix(".json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotReadyError, match="neither"):
        read_conf(tmp_path, NET)


# By the name in the file: NPWG


def test_what_the_object_says_comes_before_every_file(tmp_path: Path) -> None:
    write(tmp_path, "lan.conflist", {"name": "lan", "plugins": [{"type": "file"}]})
    own = replace(LAN, conf='{"type": "own"}')
    conf = read_conf(tmp_path, own)
    assert (conf.source, conf.name, types(tmp_path, own)) == (str(LAN.key), "lan", ["own"])
    named = replace(LAN, conf='{"name": "other", "plugins": [{"type": "own"}]}')
    assert read_conf(tmp_path, named).name == "other"
    with pytest.raises(IntentError, match="is no JSON") as caught:
        read_conf(tmp_path, replace(LAN, conf="{"))
    assert caught.value.subject == str(LAN.key)


def test_lists_come_before_single_plugins_each_in_the_order_of_file_names_then_the_file_name(
    tmp_path: Path,
) -> None:
    order = (
        ("20.conflist", {"name": "lan", "plugins": [{"type": "list-a"}]}),
        ("30.conflist", {"name": "lan", "plugins": [{"type": "list-b"}]}),
        ("00.json", {"name": "lan", "type": "single-a"}),
        ("10.conf", {"name": "lan", "type": "single-b"}),
        ("lan.conflist", {"name": "else", "plugins": [{"type": "stem-list"}]}),
        ("lan.conf", {"name": "else", "type": "stem-single"}),
    )
    for name, document in order:
        write(tmp_path, name, document)
    write(tmp_path, "05.conflist", {"name": "other", "plugins": [{"type": "no"}]})
    write(tmp_path, "06.conf", {"name": "other", "type": "lan"})
    found = []
    for name, _ in order:
        found += types(tmp_path)
        (tmp_path / name).unlink()
    assert found == ["list-a", "list-b", "single-a", "single-b", "stem-list", "stem-single"]
    with pytest.raises(NotReadyError, match="has the name lan"):
        read_conf(tmp_path, LAN)


def test_only_a_configuration_of_the_node_goes_by_the_type_of_its_plugin(tmp_path: Path) -> None:
    write(tmp_path, "05.conflist", {"name": "other", "plugins": [{"type": "x"}, {"type": "lan"}]})
    write(tmp_path, "06.conf", {"name": "other", "type": "lan", "mtu": 1300})
    conf = read_conf(tmp_path, NODE_CONF)
    assert (conf.name, conf.plugins[0]["mtu"]) == ("other", 1300)
    with pytest.raises(NotReadyError):
        read_conf(tmp_path, LAN)


def test_a_malformed_file_stops_only_those_who_mean_it(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path, f"0{number}.conflist", "{ half written")
    with pytest.raises(NotReadyError, match=r"00\.conflist is no JSON.*; and 2 more") as caught:
        read_conf(tmp_path, LAN)
    assert "lan" in caught.value.message
    write(tmp_path, "99.conf", {"name": "lan", "type": "found"})
    assert types(tmp_path) == ["found"]
    (tmp_path / "99.conf").unlink()
    path = write(tmp_path, "lan.conf", "{ half written")
    with pytest.raises(IntentError, match="is no JSON") as chosen:
        read_conf(tmp_path, LAN)
    assert chosen.value.subject == str(path)


# Plugins in the folder beside a list


def test_plugins_in_the_folder_called_like_the_network_come_after_the_list_s_own(
    tmp_path: Path,
) -> None:
    write(tmp_path, "10.conflist", {"name": "lan", "plugins": [{"type": "own"}]})
    assert types(tmp_path) == ["own"]
    for name in ("b.conf", "a.conf", "c.json", ".d.conf", "e.conflist"):
        write(tmp_path / "lan", name, {"type": f"loaded-{name[0]}"})
    assert types(tmp_path) == ["own", "loaded-a", "loaded-b"]
    write(tmp_path, "10.conflist", {"name": "lan"})
    assert types(tmp_path) == ["loaded-a", "loaded-b"]
    write(
        tmp_path,
        "10.conflist",
        {"name": "lan", "plugins": [{"type": "own"}], "loadOnlyInlinedPlugins": "True"},
    )
    assert types(tmp_path) == ["own"]


def test_a_single_plugin_has_no_folder(tmp_path: Path) -> None:
    write(tmp_path / "lan", "a.conf", {"type": "loaded"})
    write(tmp_path, "10.conf", {"name": "lan", "type": "own"})
    assert types(tmp_path) == ["own"]
    (tmp_path / "10.conf").unlink()
    write(tmp_path, "10.conflist", {"name": "lan", "type": "own"})
    assert types(tmp_path) == ["own"]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"name": "lan"}, "no plugin is in it"),
        ({"name": "lan", "plugins": []}, "no plugin is in it"),
        ({"name": "lan", "loadOnlyInlinedPlugins": True}, "'plugins' is missing"),
        ({"name": "lan", "plugins": [], "loadOnlyInlinedPlugins": "x"}, "loadOnlyInlinedPlugins"),
    ],
)
def test_a_list_without_any_plugin_is_refused(
    tmp_path: Path, document: object, problem: str
) -> None:
    path = write(tmp_path, "10.conflist", document)
    with pytest.raises(IntentError, match=problem) as caught:
        read_conf(tmp_path, LAN)
    assert caught.value.subject == str(path)


def test_a_broken_plugin_in_the_folder_is_named_by_its_own_file(tmp_path: Path) -> None:
    write(tmp_path, "10.conflist", {"name": "lan", "plugins": [{"type": "own"}]})
    path = write(tmp_path / "lan", "a.conf", "{")
    with pytest.raises(IntentError) as caught:
        read_conf(tmp_path, LAN)
    assert caught.value.subject == str(path)


def test_a_list_s_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "outside.conf", {"type": "loaded"})
    folder = tmp_path / "net.d"
    write(folder, "lan.conflist", {"name": "..", "plugins": [{"type": "own"}]})
    with pytest.raises(IntentError, match="cannot name a network"):
        read_conf(folder, LAN)

"""Configurations of delegate plugins: found, read, rendered."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.cni import KNOWN_VERSIONS, version_key
from danmpy.attach.delegate_confs import (
    ConfFile,
    DelegateConf,
    choose_version,
    ipam_type,
    read_conf,
    read_conf_names,
    with_addresses,
    with_runtime_config,
)
from danmpy.errors import BugError, IntentError, NotReadyError
from support.specs import network, tenant_key

NET = network(tenant_key("flannel"), network_id="flannel", backend="flannel")


def write(folder: Path, name: str, document: object) -> Path:
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_names_are_those_of_configuration_files_and_a_missing_folder_has_none(
    tmp_path: Path,
) -> None:
    for name in ("a.conf", "b.conflist", "c.json", "d.txt", ".e.conf", "f.conf.tmp"):
        (tmp_path / name).touch()
    assert read_conf_names(tmp_path) == {"a", "b", "c"}
    assert read_conf_names(tmp_path / "nowhere") == frozenset()


def test_a_list_is_preferred_and_a_single_plugin_is_a_list_of_one(tmp_path: Path) -> None:
    write(tmp_path, "flannel.conf", {"cniVersion": "0.3.1", "name": "single", "type": "flannel"})
    single = read_conf(tmp_path, NET)
    assert (single.name, [p["type"] for p in single.plugins]) == ("single", ["flannel"])
    assert single.versions == {"0.3.1"}
    write(
        tmp_path,
        "flannel.conflist",
        {
            "cniVersion": "0.4.0",
            "cniVersions": ["1.0.0"],
            "name": "list",
            "disableCheck": "True",
            "plugins": [{"type": "flannel"}, {"type": "portmap"}],
        },
    )
    chain = read_conf(tmp_path, NET)
    assert [p["type"] for p in chain.plugins] == ["flannel", "portmap"]
    assert (chain.versions, chain.disable_check) == ({"0.4.0", "1.0.0"}, True)


def test_a_file_without_type_and_name_runs_the_binary_called_like_the_network_type(
    tmp_path: Path,
) -> None:
    write(tmp_path, "flannel.conf", {"cniVersion": "0.3.1"})
    conf = read_conf(tmp_path, NET)
    assert (conf.name, conf.plugins[0]["type"]) == ("flannel", "flannel")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no JSON object"),
        ({"plugins": []}, "'plugins' is no list"),
        ({"plugins": ["bridge"]}, "'plugins' is no list"),
        ({"plugins": [{"type": "a"}, {}]}, "is no file name"),
        ({"type": "../bridge"}, "is no file name"),
        ({"type": ".."}, "is no file name"),
        ({"type": 7}, "is no file name"),
        ({"type": "danmpy-cni"}, "is danmpy itself"),
        ({"plugins": [{"type": "danm"}]}, "is danmpy itself"),
        ({"type": "a", "name": 7}, "'name' is no string"),
        ({"type": "a", "cniVersion": "one"}, "is none"),
        ({"type": "a", "cniVersions": "1.0.0"}, "'cniVersions' is no list"),
        ({"type": "a", "capabilities": ["mac"]}, "'capabilities' of a is no object"),
        (" " * (2 * 1024 * 1024 + 1), "bigger than"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_a_broken_file_is_named_with_what_is_wrong(
    tmp_path: Path, document: object, problem: str
) -> None:
    path = write(tmp_path, "flannel.conf", document)
    with pytest.raises(IntentError) as caught:
        read_conf(tmp_path, NET)
    assert problem in caught.value.message
    assert caught.value.subject == str(path)


@pytest.mark.parametrize("network_id", ["missing", "../outside", "inside/x"])
def test_a_network_id_finds_nothing_outside_the_folder(tmp_path: Path, network_id: str) -> None:
    folder = tmp_path / "net.d"
    (folder / "inside").mkdir(parents=True)
    write(tmp_path, "outside.conf", {"type": "a"})
    write(folder / "inside", "x.conf", {"type": "a"})
    lost = network(tenant_key("x"), network_id=network_id, backend="flannel")
    with pytest.raises(NotReadyError, match="neither"):
        read_conf(folder, lost)


def conf(*plugins: dict[str, Any], versions: frozenset[str] = frozenset()) -> ConfFile:
    return ConfFile(path=Path("/x.conf"), name="x", versions=versions, plugins=plugins)


@pytest.mark.parametrize(
    ("allowed", "supported", "chosen"),
    [
        ({"0.3.1"}, {"a": {"0.3.1", "1.0.0"}}, "0.3.1"),
        ({"0.3.1", "1.0.0"}, {"a": {"0.3.1", "1.0.0"}}, "1.0.0"),
        ({"1.1.0"}, {"a": {"0.4.0", "1.0.0"}}, "1.0.0"),
        ({"1.1.0"}, {"a": {"1.1.0"}, "b": {"0.4.0", "1.1.0"}}, "1.1.0"),
        (set(), {"a": {"0.2.0", "0.4.0"}}, "0.4.0"),
        ({"0.3.1"}, {"a": None}, "0.3.1"),
    ],
)
def test_the_highest_version_that_file_and_plugins_share_is_spoken(
    allowed: set[str], supported: dict[str, set[str] | None], chosen: str
) -> None:
    known = {kind: None if v is None else frozenset(v) for kind, v in supported.items()}
    plugins = [{"type": kind} for kind in known]
    assert choose_version(conf(*plugins, versions=frozenset(allowed)), known) == chosen


def test_no_common_version_names_who_knows_what() -> None:
    with pytest.raises(IntentError, match=r"a knows 1\.0\.0; b knows 0\.4\.0"):
        choose_version(
            conf({"type": "a"}, {"type": "b"}),
            {"a": frozenset({"1.0.0"}), "b": frozenset({"0.4.0"})},
        )
    with pytest.raises(IntentError):  # a chain needs prevResult, which 0.2.0 has not
        choose_version(conf({"type": "a"}, {"type": "b"}), {"a": frozenset({"0.2.0"})})


_VERSIONS = st.frozensets(st.sampled_from(KNOWN_VERSIONS), min_size=1)


@given(_VERSIONS, st.lists(_VERSIONS, min_size=1, max_size=3))
def test_a_chosen_version_is_known_to_all_and_never_above_what_the_file_allows(
    allowed: frozenset[str], each: list[frozenset[str]]
) -> None:
    supported = {f"p{n}": versions for n, versions in enumerate(each)}
    file = conf(*({"type": kind} for kind in supported), versions=allowed)
    try:
        chosen = choose_version(file, supported)
    except IntentError:
        return
    assert all(chosen in versions for versions in each)
    assert version_key(chosen) <= max(map(version_key, allowed))


def test_our_addresses_replace_the_ipam_of_the_plugin_that_has_one() -> None:
    net = network(tenant_key("x"), gateway=ip_address("10.0.0.1"))
    plugins = (
        {"type": "tuning"},
        {"type": "bridge", "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}]}},
    )
    addresses = (ip_interface("10.0.0.5/24"), ip_interface("fd00::5/64"))
    first, second = with_addresses(plugins, net, addresses)
    assert first == {"type": "tuning"}
    assert second["ipam"] == {
        "type": "static",
        "addresses": [
            {"address": "10.0.0.5/24", "gateway": "10.0.0.1"},
            {"address": "fd00::5/64"},
        ],
    }
    assert ipam_type(second) == "static"
    assert plugins[1]["ipam"]["type"] == "host-local", "the file's own stays as it was"


def test_runtime_config_holds_what_is_offered_and_declared_and_the_callers_keys_go() -> None:
    plugins = (
        {"type": "a", "capabilities": {"mac": True, "ips": True}, "prevResult": {}, "name": "n"},
        {"type": "b", "capabilities": {"mac": False}, "runtimeConfig": {"mac": "theirs"}},
        {"type": "c", "unknown": [1]},
    )
    rendered = with_runtime_config(plugins, {"mac": "02:00:00:00:00:01"})
    assert rendered == (
        {"type": "a", "runtimeConfig": {"mac": "02:00:00:00:00:01"}},
        {"type": "b"},
        {"type": "c", "unknown": [1]},
    )
    assert with_runtime_config(plugins[:1], {"mac": None}) == ({"type": "a"},)


def test_a_rendered_configuration_survives_the_journal() -> None:
    whole = DelegateConf(
        name="x",
        version="1.0.0",
        plugins=({"type": "a", "deep": {"list": [1, None, "é"]}},),
        source="/x.conf",
        addresses=(ip_interface("10.0.0.5/24"), ip_interface("fd00::5/64")),
        mac="02:00:00:00:00:01",
        disable_check=True,
    )
    assert DelegateConf.from_json(whole.to_json()) == whole
    for text in ("", "{}", "[]", '{"name": 1}'):
        with pytest.raises(BugError):
            DelegateConf.from_json(text)

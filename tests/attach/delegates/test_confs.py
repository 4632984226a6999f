"""Configurations of delegate plugins: judged, a version chosen, kept in the journal."""

from __future__ import annotations

import json
from ipaddress import ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.cni import KNOWN_VERSIONS, version_key
from danmpy.attach.delegates.confs import (
    ConfFile,
    DelegateConf,
    choose_version,
    parse_conf,
    parse_text,
)
from danmpy.errors import BugError, IntentError


def parse(document: object, **more: Any) -> ConfFile:
    text = document if isinstance(document, str) else json.dumps(document)
    return parse_conf(parse_text(text, "here"), "here", name="lan", **more)


def test_a_single_plugin_is_a_list_of_one_and_a_name_is_given_to_what_has_none() -> None:
    single = parse({"cniVersion": "0.3.1", "type": "flannel", "x": [1]})
    assert (single.name, single.source, single.versions) == ("lan", "here", {"0.3.1"})
    assert single.plugins == ({"cniVersion": "0.3.1", "type": "flannel", "x": [1]},)
    chain = parse(
        {
            "cniVersion": "0.4.0",
            "cniVersions": ["1.0.0", "9.9.9"],
            "name": "list",
            "plugins": [{"type": "flannel"}, {"type": "portmap"}],
        }
    )
    assert [plugin["type"] for plugin in chain.plugins] == ["flannel", "portmap"]
    assert (chain.name, chain.versions) == ("list", {"0.4.0", "1.0.0", "9.9.9"})


def test_loaded_plugins_come_after_the_list_s_own() -> None:
    loaded = ({"type": "b"}, {"type": "c"})
    whole = parse({"plugins": [{"type": "a"}]}, loaded=loaded)
    assert [plugin["type"] for plugin in whole.plugins] == ["a", "b", "c"]
    assert [plugin["type"] for plugin in parse({}, loaded=loaded).plugins] == ["b", "c"]
    with pytest.raises(IntentError, match="no plugin"):
        parse({"name": "x"}, loaded=())


@pytest.mark.parametrize(
    ("value", "meant"),
    [(True, True), (False, False), ("true", True), ("TRUE", True), ("False", False)],
)
def test_a_flag_may_be_text(value: object, meant: bool) -> None:
    conf = parse({"type": "a", "disableCheck": value, "disableGC": value})
    assert (conf.disable_check, conf.disable_gc) == (meant, meant)
    assert not parse({"type": "a"}).disable_check


@pytest.mark.parametrize("value", ["yes", "", 1, 0, None, []])
@pytest.mark.parametrize("key", ["disableCheck", "disableGC"])
def test_any_other_flag_is_named(key: str, value: object) -> None:
    with pytest.raises(IntentError, match=f"'{key}' is "):
        parse({"type": "a", key: value})


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no JSON object"),
        ({"plugins": []}, "no plugin is in it"),
        ({"plugins": {}}, "'plugins' is no list"),
        ({"plugins": ["bridge"]}, "'plugins' is no list"),
        ({"plugins": [{"type": "a"}, {}]}, "is no file name"),
        ({}, "is no file name"),
        ({"type": "../bridge"}, "is no file name"),
        ({"type": ".."}, "is no file name"),
        ({"type": 7}, "is no file name"),
        ({"type": "danmpy-cni"}, "is danmpy itself"),
        ({"plugins": [{"type": "danm"}]}, "is danmpy itself"),
        ({"type": "a", "name": 7}, "'name' is no string"),
        ({"type": "a", "name": "../up"}, "cannot name a network"),
        ({"type": "a", "cniVersion": "one"}, "is none"),
        ({"type": "a", "cniVersions": "1.0.0"}, "'cniVersions' is no list"),
        ({"type": "a", "cniVersions": ["1.0.0", "x"]}, "is none"),
        ({"type": "a", "capabilities": ["mac"]}, "'capabilities' of a is no object"),
        ({"type": "a", "args": "x"}, "'args' of a is no object"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_a_broken_configuration_is_named_with_what_is_wrong(document: object, problem: str) -> None:
    with pytest.raises(IntentError) as caught:
        parse(document)
    assert problem in caught.value.message
    assert caught.value.subject == "here"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
_WORDS = st.sampled_from(
    ("type", "name", "plugins", "cniVersion", "cniVersions", "disableGC", "capabilities", "args")
)


@given(st.dictionaries(_WORDS, _JSON | st.just([{"type": "a"}]) | st.just("a")))
def test_any_json_is_a_configuration_or_refused_for_a_reason(document: dict[str, Any]) -> None:
    try:
        conf = parse(document)
    except IntentError:  # anything else would fail the test
        return
    assert conf.plugins
    assert all("/" not in plugin["type"] for plugin in conf.plugins)


def conf(*plugins: dict[str, Any], versions: frozenset[str] = frozenset()) -> ConfFile:
    return ConfFile(source="/x.conf", name="x", versions=versions, plugins=plugins)


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


def test_a_rendered_configuration_survives_the_journal() -> None:
    whole = DelegateConf(
        name="x",
        version="1.0.0",
        plugins=({"type": "a", "deep": {"list": [1, None, "é"]}},),
        source="/x.conf",
        addresses=(ip_interface("10.0.0.5/24"), ip_interface("fd00::5/64")),
        mac="02:00:00:00:00:01",
        disable_check=True,
        disable_gc=True,
        ips=("10.0.0.5", "fd00::5/64"),
        args={"IP": "10.0.0.5"},
    )
    assert DelegateConf.from_json(whole.to_json()) == whole
    for text in ("", "{}", "[]", '{"name": 1}'):
        with pytest.raises(BugError):
            DelegateConf.from_json(text)


def test_what_an_earlier_release_wrote_can_still_be_detached() -> None:
    old = {
        "name": "x",
        "version": "1.0.0",
        "plugins": [{"type": "a"}],
        "source": "/x.conf",
        "addresses": ["10.0.0.5/24"],
        "mac": "",
        "disable_check": False,
    }
    conf = DelegateConf.from_json(json.dumps(old))
    assert (conf.disable_gc, conf.ips, conf.args) == (False, (), {})

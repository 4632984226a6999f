"""Multus's cache as values: what it writes is understood, anything else is named and left."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.convert.multus_cache import (
    CachedResult,
    Delegate,
    match,
    parse_delegates,
    parse_result_file,
)
from danmpy.errors import IntentError
from support.multus import Sandbox, Wanted, delegates_file, result_file

SANDBOX = Sandbox(container_id="c1", netns="/run/netns/x", uid="u1")
LISTED = Wanted(
    config={"cniVersion": "1.0.0", "name": "cbr0", "plugins": [{"type": "bridge"}]},
)
SINGLE = Wanted(
    config={"cniVersion": "0.3.1", "name": "data", "type": "macvlan"},
    nad="blue/lan",
    ifname="fast",
    device_id="0000:01:00.0",
    resource="x/y",
    capability_args={"mac": "02:00:00:00:00:01"},
)
RESULT: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "veth1"}, {"name": "fast", "sandbox": "/run/netns/x"}],
}


def cached(network: str, ifname: str) -> CachedResult:
    return CachedResult(
        path=f"/{ifname}",
        container_id="c1",
        ifname=ifname,
        network=network,
        netns="/n",
        config={},
        result={},
    )


def asked(conf_name: str, ifname: str = "") -> Delegate:
    return Delegate(name=f"blue/{conf_name}", conf_name=conf_name, ifname=ifname)


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(IntentError) as caught:
        read()
    assert caught.value.subject == "/cache/file"
    return caught.value.message


def test_the_list_of_delegates_is_read_as_multus_wrote_it() -> None:
    first, second = parse_delegates(delegates_file([LISTED, SINGLE]).encode(), "/cache/file")
    assert first == Delegate(name="cbr0", conf_name="cbr0")
    assert second == Delegate(
        name="blue/lan",
        conf_name="data",
        ifname="fast",
        device_id="0000:01:00.0",
        resource="x/y",
    )


def test_a_result_is_read_as_libcni_wrote_it() -> None:
    entry = result_file(SANDBOX, SINGLE, "fast", RESULT)
    read = parse_result_file(json.dumps(entry).encode(), "/cache/file")
    assert (read.container_id, read.ifname, read.network) == ("c1", "fast", "data")
    assert (read.netns, read.config, read.result) == ("/run/netns/x", SINGLE.config, RESULT)
    assert read.capability_args == SINGLE.capability_args
    assert (read.args["K8S_POD_NAME"], read.args["K8S_POD_UID"]) == ("web", "u1")
    assert read.args["IgnoreUnknown"] == "true"  # the runtime's comes behind Multus's own


def test_a_pair_that_says_something_beats_an_empty_one() -> None:
    entry = result_file(SANDBOX, SINGLE, "fast", RESULT)
    entry["cniArgs"] = [["K8S_POD_UID", ""], ["K8S_POD_UID", "u2"], ["K8S_POD_UID", "u3"]]
    read = parse_result_file(json.dumps(entry).encode(), "/cache/file")
    assert read.args == {"K8S_POD_UID": "u2"}


def test_the_namespace_is_the_results_where_libcni_does_not_say_it() -> None:
    entry = result_file(SANDBOX, SINGLE, "fast", RESULT, netns=False)
    assert parse_result_file(json.dumps(entry).encode(), "/cache/file").netns == "/run/netns/x"
    entry["result"] = {"interfaces": [3, {"name": "a"}]}
    assert parse_result_file(json.dumps(entry).encode(), "/cache/file").netns == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "cniCacheV2"}, "its kind is 'cniCacheV2'"),
        ({"containerId": None}, "containerId is missing"),
        ({"networkName": ""}, "networkName is missing"),
        ({"networkName": "a\nb"}, "networkName is no text"),
        ({"ifName": "a/b"}, "ifName 'a/b'"),
        ({"ifName": 3}, "ifName is no text"),
        ({"result": None}, "it has no result"),
        ({"result": []}, "it has no result"),
        ({"config": "%%%"}, "no base64"),
        ({"config": 3}, "cannot be parsed"),
        ({"config": base64.b64encode(b"[]").decode()}, "the configuration in it is no object"),
        ({"cniArgs": [["a"]]}, "cniArgs is no list of pairs"),
        ({"cniArgs": [["a", 1]]}, "cniArgs is no list of pairs"),
    ],
)
def test_a_result_that_is_otherwise_is_refused(change: dict[str, Any], words: str) -> None:
    entry = {**result_file(SANDBOX, SINGLE, "fast", RESULT), **change}
    data = json.dumps(entry).encode()
    assert words in refusal(lambda: parse_result_file(data, "/cache/file"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "is no list of delegates"),
        ("[]", "is no list of delegates"),
        ("[3]", "a delegate in it is no object"),
        ('[{"Conf": {"name": 3}}]', "name is no text"),
        ('[{"Conf": {}, "Bytes": "e30="}]', "a delegate in it has no name"),
        ('[{"Conf": ', "cannot be parsed"),
    ],
)
def test_a_list_that_is_otherwise_is_refused(text: str, words: str) -> None:
    assert words in refusal(lambda: parse_delegates(text.encode(), "/cache/file"))


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text(), st.lists).map(repr))
def test_whatever_is_in_a_file_it_is_read_or_refused(data: bytes | str) -> None:
    content = data if isinstance(data, bytes) else data.encode(errors="replace")
    for read in (parse_delegates, parse_result_file):
        try:
            read(content, "/cache/file")
        except IntentError:
            continue


def test_interfaces_go_to_delegates_by_multus_s_names() -> None:
    delegates = (asked("a"), asked("b"), asked("c", "fast"), asked("b"))
    results = [cached("b", "net3"), cached("c", "fast"), cached("a", "eth0"), cached("b", "net1")]
    matched = match(delegates, results)
    assert [link.cached.ifname for link in matched.links] == ["eth0", "net1", "fast", "net3"]
    assert [link.delegate for link in matched.links] == list(delegates)
    assert matched.missing == ()


def test_the_default_network_may_be_wanted_once_more() -> None:
    matched = match((asked("a"), asked("a")), [cached("a", "net1"), cached("a", "eth0")])
    assert [link.cached.ifname for link in matched.links] == ["eth0", "net1"]


def test_what_has_no_result_is_missing_and_nothing_takes_its_place() -> None:
    matched = match(
        (asked("a"), asked("b"), asked("c")), [cached("a", "eth0"), cached("b", "net2")]
    )
    assert matched.missing == ("blue/b", "blue/c")
    assert match((asked("a"),), []).missing == ("blue/a",)
    # Which of two is the runtime's cannot be known.
    two = [cached("a", "eth0"), cached("a", "eth1")]
    assert match((asked("a"),), two).missing == ("blue/a",)


def test_what_is_in_no_list_comes_last_and_is_marked() -> None:
    matched = match((asked("a"),), [cached("z", "hot1"), cached("a", "eth0"), cached("z", "hot0")])
    assert [(link.cached.ifname, link.is_listed) for link in matched.links] == [
        ("eth0", True),
        ("hot0", False),
        ("hot1", False),
    ]
    assert matched.links[1].delegate == Delegate(name="z", conf_name="z")


def test_results_of_one_container_are_told_apart_by_value_alone() -> None:
    one = cached("a", "eth0")
    assert match((asked("a"),), [one, replace(one, path="/other")]).missing == ("blue/a",)

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.dialects.danm import parse_claim, parse_interfaces
from danmpy.api.dialects.keys import CLAIM, INTERFACES, INTERFACES_NEW, NPWG_NETWORKS
from danmpy.api.specs import AddressAsk, AddressMode, InterfaceAsk, NetworkKey, NetworkKind, PodSpec
from danmpy.errors import IntentError

OLD, NEW, NPWG = INTERFACES, INTERFACES_NEW, NPWG_NETWORKS


def pod(**annotations: str) -> PodSpec:
    keys = {"old": OLD, "new": NEW, "npwg": NPWG}
    return PodSpec(
        namespace="blue",
        name="web-0",
        annotations={keys[word]: text for word, text in annotations.items()},
    )


def parse(*entries: Any) -> tuple[InterfaceAsk, ...]:
    return parse_interfaces(pod(old=json.dumps(entries)))


def refusal(*entries: Any) -> IntentError:
    with pytest.raises(IntentError) as caught:
        parse(*entries)
    assert caught.value.subject == "Pod/blue/web-0"
    assert caught.value.hint
    return caught.value


def test_a_pod_without_annotations_asks_for_nothing() -> None:
    assert parse_interfaces(pod()) == ()


def test_an_empty_list_asks_for_nothing() -> None:
    assert parse() == ()


def test_a_whole_entry_is_understood() -> None:
    (ask,) = parse(
        {
            "tenantNetwork": "internal",
            "ip": "10.0.0.7/24",
            "ip6": "dynamic",
            "proutes": {"10.40.0.0/16": "10.0.0.1"},
            "proutes6": {"2001:db8:1::/48": "2001:db8::1"},
            "mac": "02-00-00-00-00-0A",
            "name": "data0",
            "default_route": True,
        }
    )
    assert ask.network == NetworkKey(kind=NetworkKind.TENANT, namespace="blue", name="internal")
    assert ask.ip == AddressAsk(mode=AddressMode.STATIC, address=ip_address("10.0.0.7"))
    assert ask.ip6 == AddressAsk(mode=AddressMode.DYNAMIC)
    assert [(r.destination, r.gateway) for r in ask.proutes] == [
        (ip_network("10.40.0.0/16"), ip_address("10.0.0.1"))
    ]
    assert [(r.destination, r.gateway) for r in ask.proutes6] == [
        (ip_network("2001:db8:1::/48"), ip_address("2001:db8::1"))
    ]
    assert (ask.mac, ask.name, ask.default_route) == ("02:00:00:00:00:0a", "data0", True)


@pytest.mark.parametrize(
    ("field", "kind", "namespace"),
    [
        ("network", NetworkKind.DANM, "blue"),
        ("tenantNetwork", NetworkKind.TENANT, "blue"),
        ("clusterNetwork", NetworkKind.CLUSTER, ""),
    ],
)
def test_each_reference_names_a_network_of_its_kind(
    field: str, kind: NetworkKind, namespace: str
) -> None:
    assert parse({field: "x"})[0].network == NetworkKey(kind=kind, namespace=namespace, name="x")


def test_entries_keep_their_order() -> None:
    asks = parse({"network": "b"}, {"network": "a"})
    assert [ask.network.name for ask in asks] == ["b", "a"]


@pytest.mark.parametrize(
    "entry", [{}, {"network": ""}, {"network": "a", "clusterNetwork": "b"}, {"ip": "none"}]
)
def test_an_entry_names_exactly_one_network(entry: dict[str, str]) -> None:
    assert "name exactly one" in refusal({"network": "ok"}, entry).hint


def test_the_error_names_the_entry() -> None:
    assert "interfaces[1].ip:" in refusal({"network": "a"}, {"network": "b", "ip": "x"}).message


@pytest.mark.parametrize("key", ["tenantNetwrok", "IP", "iP6", "Device", "sequenceId", ""])
def test_an_unknown_key_is_refused(key: str) -> None:
    error = refusal({"network": "a", key: "x"})
    assert repr(key) in error.message
    assert "did you mean" in error.hint or "known here" in error.hint


def test_the_nearest_key_is_suggested() -> None:
    assert refusal({"tenantNetwrok": "a"}).hint == "did you mean tenantNetwork?"


@pytest.mark.parametrize(
    ("value", "mode"),
    [(None, "absent"), ("", "absent"), ("none", "none"), ("dynamic", "dynamic")],
)
def test_the_words_of_an_address_request(value: Any, mode: str) -> None:
    (ask,) = parse({"network": "a", "ip": value, "ip6": value})
    assert (ask.ip.mode, ask.ip6.mode) == (mode, mode)


@pytest.mark.parametrize(
    "entry",
    [
        {"ip": "2001:db8::1"},
        {"ip6": "10.0.0.1"},
        {"ip": "10.0.0.1/33"},
        {"ip": "10.0.0.1/"},
        {"ip": "Dynamic"},
        {"ip": " dynamic"},
        {"ip": 7},
        {"ip": ["dynamic"]},
        {"ip6": "fe80::1%eth0"},
        {"proutes": ["10.0.0.0/8"]},
        {"proutes": {"10.0.0.0": "10.0.0.1"}},
        {"proutes": {"10.0.0.0/8": "2001:db8::1"}},
        {"proutes": {"2001:db8::/64": "10.0.0.1"}},
        {"proutes": {"10.0.0.0/8": 7}},
        {"proutes": {"10.1.0.0/8": "10.0.0.1", "10.2.0.0/8": "10.0.0.2"}},
        {"proutes6": {"10.0.0.0/8": "10.0.0.1"}},
        {"mac": "01:00:5e:00:00:01"},
        {"mac": 5},
        {"name": "a" * 16},
        {"name": "a/b"},
        {"name": "a b"},
        {"name": ".."},
        {"name": "lo"},
        {"name": 5},
        {"default_route": "true"},
        {"default_route": 1},
        {"network": "Upper"},
        {"network": "blue/net"},
        {"network": 5},
    ],
)
def test_a_bad_value_refuses_the_pod(entry: dict[str, Any]) -> None:
    field = next(iter(entry))
    assert f"interfaces[0].{field}" in refusal({"network": "a", **entry}).message


def test_a_word_in_wrong_case_is_told_the_right_one() -> None:
    assert refusal({"network": "a", "ip": "DYNAMIC"}).hint == "write dynamic"


def test_host_bits_of_a_policy_route_are_dropped_as_in_danm() -> None:
    (ask,) = parse({"network": "a", "proutes": {"10.1.2.3/8": "10.0.0.1"}})
    assert ask.proutes[0].destination == ip_network("10.0.0.0/8")


def test_null_is_absence() -> None:
    fields = ("ip", "ip6", "proutes", "proutes6", "mac", "name", "default_route", "clusterNetwork")
    assert parse({"network": "a", **dict.fromkeys(fields)}) == parse({"network": "a"})


@pytest.mark.parametrize("field", ["mac", "name"])
def test_empty_text_is_absence(field: str) -> None:
    assert parse({"network": "a", field: ""}) == parse({"network": "a"})


@pytest.mark.parametrize(
    "text", ["", "  ", "[1", "{}", "null", '"x"', "5", "[NaN]", "[5]", "[null]"]
)
def test_what_is_no_list_of_objects_is_refused(text: str) -> None:
    with pytest.raises(IntentError) as caught:
        parse_interfaces(pod(old=text))
    assert OLD in caught.value.message
    assert caught.value.hint


def test_a_json_error_is_told_with_line_and_column() -> None:
    with pytest.raises(IntentError, match="line 2 column 1"):
        parse_interfaces(pod(old='[{"network": "a"}\n{'))


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(IntentError, match="'network' stands twice"):
        parse_interfaces(pod(old='[{"network": "a", "network": "b"}]'))


def test_the_new_annotation_is_read_as_the_old_one() -> None:
    (ask,) = parse_interfaces(pod(new='[{"network": "a"}]'))
    assert ask.network.name == "a"


def test_both_annotations_may_say_the_same_in_other_words() -> None:
    both = pod(old='[{"network": "a", "ip": "none"}]', new='[ {"ip":"none","network":"a"} ]')
    assert len(parse_interfaces(both)) == 1


@pytest.mark.parametrize(
    "other", ["[]", '[{"network": "b"}]', '[{"network": "a", "default_route": 1}]']
)
def test_annotations_that_differ_are_refused(other: str) -> None:
    with pytest.raises(IntentError, match="differ"):
        parse_interfaces(pod(old='[{"network": "a", "default_route": true}]', new=other))


def test_other_dialects_are_not_danms_to_read() -> None:
    assert parse_interfaces(pod(npwg="net-a")) == ()


def test_only_the_exact_key_is_an_annotation_of_ours() -> None:
    keyed = PodSpec(namespace="b", name="p", annotations={"x.danm.io/interfaces": "nonsense"})
    assert parse_interfaces(keyed) == ()


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
words = st.sampled_from(
    ["network", "clusterNetwork", "ip", "ip6", "proutes", "mac", "name", "default_route"]
)
values = st.recursive(
    scalars | st.sampled_from(["a", "dynamic", "10.0.0.1", "2001:db8::1", "02:00:00:00:00:01"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(words | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def outcome(text: str) -> tuple[InterfaceAsk, ...] | IntentError:
    try:
        return parse_interfaces(pod(old=text))
    except IntentError as error:
        return error


@given(
    st.lists(st.dictionaries(words | st.text(max_size=3), values, max_size=5), max_size=4) | values
)
def test_any_json_is_parsed_or_refused_and_nothing_else(value: Any) -> None:
    result = outcome(json.dumps(value))
    if isinstance(result, IntentError):
        assert result.hint
        str(result).encode()
    else:
        assert len(result) == len(value)


@given(st.text(alphabet=st.characters()))
def test_any_text_is_parsed_or_refused_and_nothing_else(text: str) -> None:
    result = outcome(text)
    assert isinstance(result, tuple) or result.subject == "Pod/blue/web-0"


@pytest.mark.parametrize(
    ("stateful", "written", "claim"),
    [
        (False, None, ""),
        (True, None, "web-0"),
        (False, "vm-7", "vm-7"),
        (True, "vm-7", "vm-7"),
    ],
)
def test_the_claim_of_a_pod(stateful: bool, written: str | None, claim: str) -> None:
    annotations = {} if written is None else {CLAIM: written}
    spec = PodSpec(namespace="blue", name="web-0", annotations=annotations, stateful=stateful)

    assert parse_claim(spec) == claim


@pytest.mark.parametrize("written", ["", "VM", "a.b", "-a", "a" * 64, "a/b", "a b"])
def test_a_claim_is_a_label(written: str) -> None:
    with pytest.raises(IntentError, match=r"danm\.k8s\.io/claim: .* is no name of a claim"):
        parse_claim(PodSpec(namespace="blue", name="web-0", annotations={CLAIM: written}))

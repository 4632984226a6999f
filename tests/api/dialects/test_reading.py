from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.dialects.keys import NO_TEXT
from danmpy.api.dialects.reading import default_ask, read_pod
from danmpy.api.dialects.rules import DialectRules
from danmpy.api.specs import AddressMode, Dialect, PodSpec
from danmpy.errors import IntentError
from support.dialects import SHORT, annotated, read, refusal, shown, written

NAD = "NetworkAttachmentDefinition"
INTERNAL = {"tenantNetwork": "internal", "ip": "dynamic"}
DEFAULT = {"network": "default", "ip": "dynamic"}


def test_the_default_network_is_looked_for_in_danms_order() -> None:
    assert [str(key) for key in default_ask("blue").candidates] == [
        "DanmNet/blue/default",
        "TenantNetwork/blue/default",
        "ClusterNetwork/default",
    ]


def test_a_pod_that_says_nothing_gets_the_default_network_with_what_it_has() -> None:
    asked = read_pod(PodSpec(namespace="blue", name="web-0"))

    assert asked.dialect is Dialect.SILENT
    (ask,) = asked.interfaces
    assert ask == default_ask("blue")
    assert ask.ip.mode is ask.ip6.mode is AddressMode.ANY


def test_behind_a_plugin_that_made_the_first_interface_silence_asks_for_nothing() -> None:
    asked = read_pod(PodSpec(namespace="blue", name="web-0"), has_primary=False)
    assert asked.interfaces == ()
    assert not asked.has_primary


def test_silence_gets_what_the_cluster_decided() -> None:
    asked = read(DialectRules(default_network="flannel"))
    assert (asked.dialect, shown(asked)) == (Dialect.SILENT, [(None, f"{NAD}/flannel")])
    assert shown(read(DialectRules(default_network="flannel"), danm="[]")) == shown(asked)


def test_a_danm_pod_gets_what_it_lists_and_no_more() -> None:
    rules = DialectRules(default_network="flannel", more_networks=("oam",))
    asked = read(rules, danm=[INTERNAL])
    assert (asked.dialect, shown(asked)) == (Dialect.DANM, [(None, "TenantNetwork/blue/internal")])


@pytest.mark.parametrize(
    ("annotations", "first", "second"),
    [
        ({"danm": [INTERNAL], "npwg": "internal"}, "danm.k8s.io/interfaces", "networks"),
        ({"danm": [INTERNAL], "default": "x"}, "danm.k8s.io/interfaces", "default-network"),
        ({"danm": [INTERNAL], "cni": "internal"}, "danm.k8s.io/interfaces", "cni"),
        ({"danm": [INTERNAL], "networks": "other"}, "danm.k8s.io/interfaces", "networks"),
        ({"danm": "[]", "npwg": "a"}, "danm.k8s.io/interfaces", "k8s.v1.cni.cncf.io/networks"),
        ({"npwg": "a", "cni": "a"}, "k8s.v1.cni.cncf.io/networks", "cni"),
        ({"npwg": "a", "networks": "a"}, "k8s.v1.cni.cncf.io/networks", "networks"),
        ({"default": "a", "cni": "b"}, "v1.multus-cni.io/default-network", "cni"),
        (
            {"cni": "a", "networks": {"ports": [{"attach_to_network": "a"}]}},
            "cni",
            "networks",
        ),
        (
            {"danm": [DEFAULT, INTERNAL | {"mac": "02:00:00:00:00:01"}], "npwg": "internal"},
            "danm.k8s.io/interfaces",
            "k8s.v1.cni.cncf.io/networks",
        ),
        (
            {"danm": [DEFAULT, {"tenantNetwork": "internal"}], "npwg": "internal"},
            "danm.k8s.io/interfaces",
            "k8s.v1.cni.cncf.io/networks",
        ),
        (
            {"danm": [DEFAULT, INTERNAL | {"name": "a0"}], "npwg": "internal@b0"},
            "danm.k8s.io/interfaces",
            "k8s.v1.cni.cncf.io/networks",
        ),
    ],
)
def test_dialects_that_contradict_each_other_are_refused_and_not_merged(
    annotations: dict[str, Any], first: str, second: str
) -> None:
    said = refusal(**annotations)
    assert first in said
    assert second in said.removeprefix(first)
    assert "ask for different interfaces, and are not merged" in said


@pytest.mark.parametrize(
    "annotations",
    [
        {"danm": [DEFAULT, INTERNAL], "npwg": "internal"},
        {"danm": [DEFAULT, INTERNAL | {"name": "b0"}], "npwg": "internal@b0"},
        {
            "danm": [DEFAULT, INTERNAL | {"ip": "10.0.0.7", "mac": "02:00:00:00:00:01"}],
            "npwg": [{"name": "internal", "ips": ["10.0.0.7/24"], "mac": "02:00:00:00:00:01"}],
        },
        {"danm": [INTERNAL], "networks": "internal"},
        {
            "danm": [INTERNAL],
            "networks": {
                "ports": [{"attach_to_network": "internal", "attributes": {"nic_name": "eth0"}}]
            },
        },
        {"danm": [INTERNAL], "cni": ""},
        {"danm": [INTERNAL], "npwg": ""},
        {"danm": [INTERNAL], "npwg": "[]", "default": "", "networks": ""},
    ],
)
def test_dialects_that_say_the_same_or_nothing_pass(annotations: dict[str, Any]) -> None:
    assert read(**annotations) == read(danm=annotations["danm"])


def test_a_mistake_in_any_dialect_counts_also_beside_a_good_one() -> None:
    assert "networks[1]" in refusal(danm=[DEFAULT, INTERNAL], npwg="internal,")
    assert "cni[0]" in refusal(danm=[INTERNAL], cni="@")


def test_an_empty_annotation_says_in_whose_words_it_is_silent() -> None:
    assert read(npwg="").dialect is Dialect.NPWG
    assert read(default="").dialect is Dialect.NPWG
    assert read(cni="").dialect is Dialect.GENIE
    assert read(networks="").dialect is Dialect.SILENT


@pytest.mark.parametrize("word", ["danm", "npwg", "default", "cni", "networks"])
def test_an_annotation_that_was_no_text_is_refused_and_not_passed_over(word: str) -> None:
    assert f"{SHORT[word]}: it is no text" in refusal(**{word: NO_TEXT})


def test_preferences_and_claims_ask_for_no_interface() -> None:
    asked = read(preferences={"multi_entry": 0, "ips": {}})
    assert asked.dialect is Dialect.SILENT


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "danm": st.just('[{"tenantNetwork": "a", "ip": "dynamic"}]') | written(["network"]),
            "npwg": written(["name", "interface"]),
            "default": written(["name", "namespace"]),
            "cni": written(["a"]),
            "networks": written(["ports", "attach_to_network"]),
        },
    ),
    st.booleans(),
)
def test_whatever_stands_in_all_annotations_together_is_read_or_refused(
    annotations: dict[str, str], has_primary: bool
) -> None:
    with suppress(IntentError):
        asked = read_pod(annotated(**annotations), has_primary=has_primary)
        assert asked.has_primary is has_primary
        assert not has_primary or asked.interfaces
        if asked.dialect is not Dialect.DANM:
            assert all(ask.name for ask in asked.interfaces[1 if has_primary else 0 :])

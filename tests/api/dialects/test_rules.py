from __future__ import annotations

import pytest

from danmpy.api.dialects.rules import (
    NO_RULES,
    DialectRules,
    danm_networks,
    default_ask,
    more_asks,
    primary_ask,
    reference_key,
)
from danmpy.api.specs import AddressMode, NetworkKey, NetworkKind


def test_without_a_setting_the_first_network_is_danms_default() -> None:
    assert primary_ask(NO_RULES, "blue") == default_ask("blue")
    assert more_asks(NO_RULES, "blue") == ()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("cluster", NetworkKey(kind=NetworkKind.NAD, name="cluster")),
        ("infra/cluster", NetworkKey(kind=NetworkKind.NAD, namespace="infra", name="cluster")),
    ],
)
def test_a_setting_names_a_configuration_of_the_node_or_a_nad(text: str, key: NetworkKey) -> None:
    assert reference_key(text) == key
    ask = primary_ask(DialectRules(default_network=text), "blue")
    assert (ask.network, ask.others) == (key, ())
    assert ask.ip.mode is ask.ip6.mode is AddressMode.ANY


def test_more_networks_spare_the_system_namespaces() -> None:
    rules = DialectRules(more_networks=("oam", "infra/x"))
    assert [str(ask.network) for ask in more_asks(rules, "blue")] == [
        "NetworkAttachmentDefinition/oam",
        "NetworkAttachmentDefinition/infra/x",
    ]
    assert more_asks(rules, "kube-system") == ()


def test_isolation_leaves_the_own_namespace_and_the_global_ones() -> None:
    open_, closed = DialectRules(), DialectRules(namespace_isolation=True)
    assert open_.may_use("blue", "red")
    assert not closed.may_use("blue", "red")
    assert closed.may_use("blue", "blue")
    assert closed.may_use("blue", "default")
    shared = DialectRules(namespace_isolation=True, global_namespaces=frozenset({"red"}))
    assert shared.may_use("blue", "red")
    assert not shared.may_use("blue", "default"), "a list of one's own replaces it, as in Multus"


def test_danms_networks_are_tried_from_the_tenants_to_the_clusters() -> None:
    assert list(map(str, danm_networks("blue", "a"))) == [
        "TenantNetwork/blue/a",
        "DanmNet/blue/a",
        "ClusterNetwork/a",
    ]

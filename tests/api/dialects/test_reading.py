from __future__ import annotations

from danmpy.api.dialects.reading import default_ask, read_pod
from danmpy.api.specs import AddressMode, Dialect, PodSpec


def test_the_default_network_is_looked_for_in_danms_order() -> None:
    assert [str(key) for key in default_ask("blue").candidates] == [
        "DanmNet/blue/default",
        "TenantNetwork/blue/default",
        "ClusterNetwork/default",
    ]


def test_a_pod_that_says_nothing_gets_the_default_network_with_what_it_has() -> None:
    read = read_pod(PodSpec(namespace="blue", name="web-0"))

    assert read.dialect is Dialect.SILENT
    (ask,) = read.interfaces
    assert ask == default_ask("blue")
    assert ask.ip.mode is ask.ip6.mode is AddressMode.ANY


def test_behind_a_plugin_that_made_the_first_interface_silence_asks_for_nothing() -> None:
    assert read_pod(PodSpec(namespace="blue", name="web-0"), has_primary=False).interfaces == ()

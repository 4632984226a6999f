"""The table of Multus's keys."""

from __future__ import annotations

from danmpy.cni.install import CAPABILITIES
from danmpy.convert.multus_keys import (
    DAEMON_KEYS,
    FIXED,
    KNOWN,
    MAPPED_KEYS,
    RUNTIME_CAPABILITIES,
)
from danmpy.convert.values import Verdict


def test_a_key_is_mapped_or_has_a_reason_and_never_both() -> None:
    assert not set(MAPPED_KEYS) & set(FIXED)
    assert set(DAEMON_KEYS) <= {*MAPPED_KEYS, *FIXED}
    assert len(KNOWN) == len(MAPPED_KEYS) + len(FIXED)


def test_every_reason_has_words_and_claims_no_mapping() -> None:
    for key, (verdict, words) in FIXED.items():
        assert words, key
        assert verdict in {Verdict.NOT_NEEDED, Verdict.NOT_SUPPORTED}, key


def test_the_capabilities_are_those_that_the_installed_list_declares() -> None:
    assert RUNTIME_CAPABILITIES == CAPABILITIES


def test_the_log_is_described_as_the_daemon_writes_it() -> None:
    words = FIXED["logFile"][1]
    assert "key=value" in words
    assert "JSON" not in words

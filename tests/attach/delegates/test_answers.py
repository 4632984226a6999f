"""What delegate plugins say."""

from __future__ import annotations

import json
from ipaddress import ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.cni import parse_result
from danmpy.attach.delegates.answers import (
    STDERR_KEPT,
    failure,
    quoted,
    read_result,
    require_obeyed,
)
from danmpy.attach.delegates.confs import DelegateConf
from danmpy.attach.delegates.processes import ProcessOutcome
from danmpy.errors import DanmpyError, DelegateError

CONF = DelegateConf(name="lan", version="1.0.0", plugins=({"type": "a"},), source="/lan.conf")


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_a_result_or_refused_in_the_plugin_s_name(stdout: bytes) -> None:
    error: DelegateError | None = None
    try:
        read_result(CONF, "a", stdout, None)
    except DelegateError as refused:
        error = refused
    assert error is None or error.message.startswith("plugin a")
    assert error is None or error.subject == "/lan.conf"


def test_nothing_passes_the_last_result_on_and_a_result_without_version_has_the_asked_one() -> None:
    last = {"cniVersion": "1.0.0", "ips": []}
    assert read_result(CONF, "a", b" \n", last) is last
    assert read_result(CONF, "a", b'{"ips":[],"extra":1}', last) == {**last, "extra": 1}


def test_a_result_of_another_version_is_translated() -> None:
    said = {
        "cniVersion": "0.4.0",
        "ips": [{"version": "4", "address": "10.0.0.5/24", "interface": 0}],
        "interfaces": [{"name": "net1", "sandbox": "/x"}],
    }
    assert read_result(CONF, "a", json.dumps(said).encode(), None) == {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "sandbox": "/x"}],
        "ips": [{"address": "10.0.0.5/24", "interface": 0}],
    }


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ({"addresses": (ip_interface("10.0.0.9/24"),)}, "did not assign 10.0.0.9/24"),
        ({"ips": ("10.0.0.9",)}, "did not assign 10.0.0.9"),
        ({"ips": ("10.0.0.5/16", "fd00::5")}, "did not assign fd00::5"),
        ({"mac": "02:00:00:00:00:09"}, "did not set the MAC 02:00:00:00:00:09 but 02:"),
        ({"ips": ("10.0.0.5/16",), "mac": "02:00:00:00:00:0A"}, ""),
        ({"addresses": (ip_interface("10.0.0.5/24"),)}, ""),
    ],
)
def test_what_was_given_must_come_back(conf: dict[str, Any], words: str) -> None:
    result = parse_result(
        {
            "interfaces": [{"name": "net1", "sandbox": "/x", "mac": "02:00:00:00:00:0a"}],
            "ips": [{"address": "10.0.0.5/24"}],
        }
    )
    whole = DelegateConf(name="lan", version="1.0.0", plugins=(), **conf)
    if not words:
        require_obeyed(whole, result, "net1")
        return
    with pytest.raises(DelegateError) as caught:
        require_obeyed(whole, result, "net1")
    assert words in caught.value.message


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_whatever_a_plugin_prints_when_it_fails_it_is_an_error(
    stdout: bytes, stderr: bytes
) -> None:
    error = failure(
        "plugin a failed ADD", ProcessOutcome(status=1, stdout=stdout, stderr=stderr), ""
    )
    assert isinstance(error, DanmpyError)
    assert error.message.startswith("plugin a failed ADD with ")


@given(st.binary(max_size=3 * STDERR_KEPT))
def test_a_quotation_is_bounded_and_on_one_line(output: bytes) -> None:
    text = quoted(output)
    assert len(text) <= STDERR_KEPT
    assert "\n" not in text


def test_of_a_long_output_the_end_is_kept() -> None:
    assert quoted(b"x" * 1000 + b"\n  the reason \n").endswith("x the reason")

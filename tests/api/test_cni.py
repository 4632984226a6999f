"""The CNI wire types: every rule of the specification that a runtime can feel."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.cni import (
    SUPPORTED_VERSIONS,
    Attachment,
    CniDns,
    CniInterface,
    CniIp,
    CniResult,
    CniRoute,
    Verb,
    ifname_problem,
    parse_args,
    parse_request,
    parse_result,
    render_error,
    render_result,
    render_versions,
    requested_version,
    version_key,
)
from danmpy.errors import ExhaustedError, WireError

POD_ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web-0;K8S_POD_UID=u-1"


def environ(command: str, **extra: str) -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c0ffee",
        "CNI_NETNS": "/run/netns/x",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": POD_ARGS,
        "CNI_PATH": "/opt/cni/bin:/usr/lib/cni",
        **extra,
    }


def config(**extra: Any) -> bytes:
    document = {"cniVersion": "1.1.0", "name": "danmpy", "type": "danmpy-cni", **extra}
    return json.dumps({k: v for k, v in document.items() if v is not ...}).encode()


def refused(env: dict[str, str], stdin: bytes) -> WireError:
    with pytest.raises(WireError) as caught:
        parse_request(env, stdin)
    return caught.value


def test_add_carries_pod_sandbox_and_path() -> None:
    request = parse_request(environ("ADD", TRACEPARENT="00-1-2-01"), config())
    assert request.verb is Verb.ADD
    assert (request.pod_namespace, request.pod_name, request.pod_uid) == ("blue", "web-0", "u-1")
    assert (request.container_id, request.netns) == ("c0ffee", "/run/netns/x")
    assert (request.ifname, request.network_name) == ("eth0", "danmpy")
    assert request.path == ("/opt/cni/bin", "/usr/lib/cni")
    assert request.trace == {"TRACEPARENT": "00-1-2-01"}
    assert request.version == "1.1.0"


def test_all_missing_variables_are_named_at_once() -> None:
    error = refused({"CNI_COMMAND": "ADD"}, config())
    assert error.code == 4
    names = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "K8S_POD_NAMESPACE", "K8S_POD_NAME")
    assert all(name in error.message for name in names)


def test_an_empty_variable_counts_as_unset() -> None:
    error = refused(environ("ADD", CNI_NETNS=""), config())
    assert error.code == 4
    assert "CNI_NETNS" in error.message
    assert "CNI_IFNAME" not in error.message


@pytest.mark.parametrize("command", ["", "add", "REMOVE"])
def test_an_unknown_command_is_code_4(command: str) -> None:
    assert refused(environ(command), config()).code == 4


def test_del_needs_neither_netns_nor_pod_nor_path() -> None:
    env = environ("DEL", CNI_NETNS="", CNI_ARGS="", CNI_PATH="")
    request = parse_request(env, config())
    assert request.netns == ""
    assert request.pod_name == ""


def test_gc_and_status_come_with_empty_attachment_variables() -> None:
    """libcni sets all six variables, the ones of the attachment to empty strings."""
    blank = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"), "")
    for command in ("GC", "STATUS"):
        assert parse_request(environ(command, **blank), config()).container_id == ""


@pytest.mark.parametrize("name", ["a" * 16, "a/b", "a:b", "a b", ".", "..", "ä" * 8])
def test_an_illegal_ifname_is_code_4_and_named(name: str) -> None:
    error = refused(environ("ADD", CNI_IFNAME=name), config())
    assert error.code == 4
    assert "CNI_IFNAME" in error.message


def test_a_name_of_fifteen_bytes_is_legal() -> None:
    assert ifname_problem("a" * 15) == ""
    assert ifname_problem("") != ""


@pytest.mark.parametrize("container_id", ["a/b", "-a", "a b", "a\n"])
def test_an_illegal_container_id_is_code_4(container_id: str) -> None:
    assert refused(environ("DEL", CNI_CONTAINERID=container_id), config()).code == 4


@pytest.mark.parametrize("stdin", [b"{", b"", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_stdin_that_is_no_config_is_code_6(stdin: bytes) -> None:
    assert refused(environ("ADD"), stdin).code == 6


@pytest.mark.parametrize("name", ["", "-x", "a/b", 7, ...])
def test_a_missing_or_illegal_network_name_is_code_7(name: Any) -> None:
    assert refused(environ("ADD"), config(name=name)).code == 7


@pytest.mark.parametrize("version", ["9.9.9", "0.2.0", "1", "", 1, ..., None, ["1.0.0"]])
def test_an_unsupported_version_is_code_1_and_says_what_is_supported(version: Any) -> None:
    error = refused(environ("ADD"), config(cniVersion=version))
    assert error.code == 1
    assert all(v in str(error) for v in SUPPORTED_VERSIONS)


@pytest.mark.parametrize(
    ("command", "version"),
    [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0"), ("STATUS", "0.4.0")],
)
def test_a_verb_before_its_version_is_code_1(command: str, version: str) -> None:
    error = refused(environ(command), config(cniVersion=version, prevResult={}))
    assert error.code == 1
    assert command in error.message


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_add_and_del_work_in_every_supported_version(command: str, version: str) -> None:
    assert parse_request(environ(command), config(cniVersion=version)).version == version


def test_version_needs_nothing_at_all() -> None:
    request = parse_request({"CNI_COMMAND": "VERSION"}, b"")
    assert request.verb is Verb.VERSION
    assert render_versions("1.0.0") == {
        "cniVersion": "1.0.0",
        "supportedVersions": list(SUPPORTED_VERSIONS),
    }


def test_check_needs_prev_result_and_reads_it() -> None:
    assert refused(environ("CHECK"), config()).code == 7
    prev = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0"}]}
    request = parse_request(environ("CHECK"), config(prevResult=prev))
    assert request.prev_result == CniResult(interfaces=(CniInterface(name="eth0"),))


def test_a_senseless_prev_result_fails_check_but_never_del() -> None:
    broken = config(prevResult={"ips": [{"address": "nowhere"}]})
    assert refused(environ("CHECK"), broken).code == 6
    assert parse_request(environ("DEL"), broken).verb is Verb.DEL


@pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
def test_gc_reads_both_keys_of_the_list(key: str) -> None:
    stdin = config(**{key: [{"containerID": "a", "ifname": "eth0"}]})
    expected = frozenset({Attachment(container_id="a", ifname="eth0")})
    assert parse_request(environ("GC"), stdin).valid_attachments == expected


def test_gc_tells_an_absent_list_from_an_empty_one() -> None:
    key = "cni.dev/valid-attachments"
    assert parse_request(environ("GC"), config()).valid_attachments is None
    assert parse_request(environ("GC"), config(**{key: []})).valid_attachments == frozenset()
    assert parse_request(environ("GC"), config(**{key: None})).valid_attachments == frozenset()
    assert refused(environ("GC"), config(**{key: [{"id": 1}]})).code == 6


def test_args_are_read_leniently() -> None:
    assert parse_args("A=1;B=x=y;;junk; C = 2") == {"A": "1", "B": "x=y", "C": " 2"}


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b'{"cniVersion":"0.4.0"}', "0.4.0"),
        (b'{"cniVersion":"9.9.9"}', "9.9.9"),
        (b'{"cniVersion":4}', "1.1.0"),
        (b"{", "1.1.0"),
        (b"[" * 100_000, "1.1.0"),
    ],
)
def test_errors_are_answered_in_the_version_that_was_asked(stdin: bytes, version: str) -> None:
    assert requested_version(stdin) == version


def test_an_error_is_one_line_with_the_way_out() -> None:
    error = ExhaustedError("pool\nfull", hint="wait", subject="TenantNetwork/blue/a")
    assert render_error("0.4.0", error) == {
        "cniVersion": "0.4.0",
        "code": 11,
        "msg": "TenantNetwork/blue/a: pool full (wait)",
    }
    assert render_error("1.0.0", WireError("x", hint="", code=6))["code"] == 6


FULL = CniResult(
    interfaces=(
        CniInterface(name="br0", mac="02:00:00:00:00:01"),
        CniInterface(name="eth0", mac="02:00:00:00:00:02", sandbox="/run/netns/x", mtu=1450),
    ),
    ips=(
        CniIp(address=ip_interface("10.0.0.5/24"), gateway=ip_address("10.0.0.1"), interface=1),
        CniIp(address=ip_interface("fd00::5/64"), interface=0),
    ),
    routes=(
        CniRoute(dst=ip_network("0.0.0.0/0"), gw=ip_address("10.0.0.1"), mtu=1400, priority=5),
        CniRoute(dst=ip_network("10.9.0.0/16"), gw=ip_address("10.0.0.2"), table=100, scope=0),
    ),
    dns=CniDns(nameservers=("10.0.0.53",), search=("blue.local",)),
)


def test_the_newest_version_says_everything() -> None:
    rendered = render_result(FULL, "1.1.0")
    assert rendered["interfaces"][1] == {
        "name": "eth0",
        "mac": "02:00:00:00:00:02",
        "sandbox": "/run/netns/x",
        "mtu": 1450,
    }
    assert rendered["ips"][1] == {"address": "fd00::5/64", "interface": 0}
    assert rendered["routes"][1] == {
        "dst": "10.9.0.0/16",
        "gw": "10.0.0.2",
        "table": 100,
        "scope": 0,
    }


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_older_versions_get_only_what_they_define(version: str) -> None:
    rendered = render_result(FULL, version)
    assert all(set(i) <= {"name", "mac", "sandbox"} for i in rendered["interfaces"])
    old = version.startswith("0.")
    assert [ip.get("version") for ip in rendered["ips"]] == (["4", "6"] if old else [None, None])
    # A route of another table would be taken for one of the main table.
    assert rendered["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}]


def test_empty_lists_are_left_out() -> None:
    assert render_result(CniResult(), "1.0.0") == {"cniVersion": "1.0.0"}
    assert render_result(CniResult(), "0.4.0") == {"cniVersion": "0.4.0", "dns": {}}


def test_a_result_of_the_newest_version_comes_back_as_it_was() -> None:
    assert parse_result(render_result(FULL, "1.1.0")) == FULL


@given(
    st.lists(st.ip_addresses(), max_size=4),
    st.sampled_from(SUPPORTED_VERSIONS),
    st.integers(min_value=0, max_value=2),
)
def test_addresses_survive_every_version(addresses: list[Any], version: str, index: int) -> None:
    result = CniResult(
        interfaces=tuple(CniInterface(name=f"eth{i}") for i in range(3)),
        ips=tuple(CniIp(address=ip_interface(a), interface=index) for a in addresses),
    )
    assert parse_result(json.loads(json.dumps(render_result(result, version)))) == result


def test_results_before_0_3_0_are_read() -> None:
    old = {
        "cniVersion": "0.2.0",
        "ip4": {
            "ip": "10.0.0.5/24",
            "gateway": "10.0.0.1",
            "routes": [{"dst": "0.0.0.0/0"}],
        },
        "ip6": {"ip": "fd00::5/64"},
    }
    result = parse_result(old)
    assert [str(ip.address) for ip in result.ips] == ["10.0.0.5/24", "fd00::5/64"]
    assert result.ips[0].gateway == ip_address("10.0.0.1")
    assert result.routes == (CniRoute(dst=ip_network("0.0.0.0/0")),)


@pytest.mark.parametrize(("index", "expected"), [(-1, None), (7, None), (0, 0), (None, None)])
def test_a_senseless_interface_index_means_none(index: int | None, expected: int | None) -> None:
    document = {
        "interfaces": [{"name": "eth0"}],
        "ips": [{"address": "10.0.0.5/24", "interface": index}],
    }
    assert parse_result(document).ips[0].interface == expected


def test_the_slip_of_0_3_0_is_read_too() -> None:
    assert len(parse_result({"ip": [{"address": "10.0.0.5/24"}]}).ips) == 1


@pytest.mark.parametrize(
    "document",
    [
        [],
        "x",
        None,
        {"ips": 1},
        {"ips": ["10.0.0.1"]},
        {"ips": [{"address": "x"}]},
        {"routes": [{"dst": "x"}]},
        {"ip4": {"ip": "x"}},
        {"interfaces": [{"name": "a", "mtu": "big"}]},
    ],
)
def test_what_is_no_result_is_code_6(document: object) -> None:
    with pytest.raises(WireError) as caught:
        parse_result(document)
    assert caught.value.code == 6


def test_a_version_is_compared_by_number() -> None:
    assert version_key("0.10.0") > version_key("0.4.0")
    with pytest.raises(ValueError, match="no CNI version"):
        version_key("1.0")

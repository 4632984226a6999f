"""The kernel's messages, as pyroute2 reads them and as we do."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from danmpy.kernel.hostlinks import VxlanAttributes
from danmpy.kernel.linkanswers import index_of, link_facts, usable_address, zero_entry
from danmpy.kernel.rtnl import encode

_PERMANENT = 0x80


def link_message(*attributes: tuple[str, Any], **fields: int) -> bytes:
    return encode(ifinfmsg, 16, 0, attributes, **({"index": 9} | fields))


def of_kind(kind: str, *data: tuple[str, Any]) -> tuple[str, Any]:
    inner = [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": list(data)})]
    return ("IFLA_LINKINFO", {"attrs": inner})


@given(
    name=st.from_regex(r"[a-z][a-z0-9.]{0,14}", fullmatch=True),
    mtu=st.integers(68, 65535),
    alias=st.text(max_size=60).filter(lambda text: "\0" not in text),
    flags=st.integers(0, 0xFFFF),
    vni=st.integers(1, 2**24 - 1),
    port=st.integers(1, 65535),
    local=st.ip_addresses(v=4).filter(lambda address: int(address) > 0),
)
def test_a_link_is_read_as_it_was_written(
    name: str, mtu: int, alias: str, flags: int, vni: int, port: int, local: Any
) -> None:
    message = link_message(
        ("IFLA_IFNAME", name),
        ("IFLA_MTU", mtu),
        ("IFLA_IFALIAS", alias),
        of_kind(
            "vxlan",
            ("IFLA_VXLAN_ID", vni),
            ("IFLA_VXLAN_LINK", 4),
            ("IFLA_VXLAN_LOCAL", str(local)),
            ("IFLA_VXLAN_LEARNING", 0),
            ("IFLA_VXLAN_PORT", port),
        ),
        flags=flags,
    )
    facts = link_facts(message)
    assert (facts.index, facts.name, facts.mtu, facts.alias) == (9, name, mtu, alias)
    assert (facts.up, facts.parent) == (bool(flags & 1), 4)
    assert facts.vxlan == VxlanAttributes(vni=vni, port=port, local=local, learning=False)
    assert index_of(message) == 9


def test_a_vlan_of_the_service_provider_kind_is_another_wire() -> None:
    for protocol, seen in ((0x8100, 7), (0x88A8, None)):
        data = [("IFLA_VLAN_ID", 7), ("IFLA_VLAN_PROTOCOL", protocol)]
        assert link_facts(link_message(of_kind("vlan", *data))).vlan_id == seen


def test_the_parent_of_a_link_from_another_namespace_is_not_told() -> None:
    here = link_message(("IFLA_LINK", 5))
    there = link_message(("IFLA_LINK", 5), ("IFLA_LINK_NETNSID", 0))
    assert (link_facts(here).parent, link_facts(there).parent) == (5, 0)


@pytest.mark.parametrize(
    ("flags", "scope", "usable"),
    [
        (_PERMANENT, 0, True),
        (_PERMANENT | 0x40, 0, False),
        (_PERMANENT | 0x20, 0, False),
        (_PERMANENT | 0x08, 0, False),
        (_PERMANENT, 253, False),
        (_PERMANENT, 254, False),
    ],
)
def test_only_addresses_of_global_scope_that_work_count(
    flags: int, scope: int, usable: bool
) -> None:
    message = encode(
        ifaddrmsg,
        20,
        0,
        [("IFA_ADDRESS", "2001:db8::1"), ("IFA_FLAGS", flags)],
        family=socket.AF_INET6,
        prefixlen=64,
        scope=scope,
        index=3,
    )
    found = usable_address(message)
    assert (found is not None) == usable
    if found:
        assert (found[0], str(found[1])) == (3, "2001:db8::1/64")


def test_of_a_point_to_point_address_the_near_end_is_meant() -> None:
    message = encode(
        ifaddrmsg,
        20,
        0,
        [("IFA_ADDRESS", "192.0.2.2"), ("IFA_LOCAL", "192.0.2.1")],
        family=socket.AF_INET,
        prefixlen=32,
        index=3,
    )
    found = usable_address(message)
    assert found is not None
    assert str(found[1]) == "192.0.2.1/32"


@pytest.mark.parametrize(
    ("mac", "remote", "seen"),
    [
        ("00:00:00:00:00:00", "192.0.2.2", "192.0.2.2"),
        ("00:00:00:00:00:00", "2001:db8::2", "2001:db8::2"),
        ("02:00:00:00:00:01", "192.0.2.2", None),
        ("00:00:00:00:00:00", "0.0.0.0", None),
        ("00:00:00:00:00:00", None, None),
    ],
)
def test_only_all_zero_entries_with_a_remote_are_flooding(
    mac: str, remote: str | None, seen: str | None
) -> None:
    attributes = [("NDA_LLADDR", mac), *([("NDA_DST", remote)] if remote else [])]
    message = encode(ndmsg, 28, 0, attributes, family=socket.AF_BRIDGE, ifindex=4)
    found = zero_entry(message)
    assert (str(found[1]) if found else None) == seen
    assert found is None or found[0] == 4


@given(noise=st.binary(max_size=200))
def test_a_message_with_a_broken_tail_is_read_as_far_as_it_goes(noise: bytes) -> None:
    message = link_message(("IFLA_IFNAME", "ens4"))
    assert link_facts(message + b"\0" * (-len(message) % 4)).name == "ens4"
    link_facts(message[:32] + b"\x03\x00" + noise)

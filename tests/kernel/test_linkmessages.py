"""The requests that we write, read back by pyroute2."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from danmpy.kernel import linkmessages as messages
from danmpy.kernel.hostlinks import OWN_GROUP, CreateLink, VxlanAttributes
from danmpy.kernel.rtnl import decode

V4 = VxlanAttributes(vni=700, port=4789, local=ip_address("192.0.2.1"))
V6 = VxlanAttributes(
    vni=700, port=4789, local=ip_address("2001:db8::1"), group=ip_address("ff02::1")
)


def tunnel(request: bytes) -> dict[str, Any]:
    info = decode(ifinfmsg, request).get_attr("IFLA_LINKINFO")
    return dict(map(tuple, info.get_attr("IFLA_INFO_DATA")["attrs"]))


def test_a_link_is_born_in_our_group_and_down() -> None:
    change = CreateLink(name="vx700", kind="vxlan", alias="a", mtu=1450, parent="e", vxlan=V4)
    message = decode(ifinfmsg, messages.create_link(change, 4, 0))
    assert (message["flags"], message["change"]) == (0, 0)
    assert message.get_attr("IFLA_GROUP") == OWN_GROUP
    assert message.get_attr("IFLA_LINK") is None
    assert message.get_attr("IFLA_MASTER") is None


def test_a_tunnel_names_its_parent_its_end_and_its_family() -> None:
    change = CreateLink(name="vx700", kind="vxlan", alias="a", mtu=1450, parent="e", vxlan=V6)
    seen = tunnel(messages.create_link(change, 4, 0))
    assert (seen["IFLA_VXLAN_LINK"], seen["IFLA_VXLAN_LOCAL6"]) == (4, "2001:db8::1")
    assert seen["IFLA_VXLAN_GROUP6"] == "ff02::1"
    assert "IFLA_VXLAN_LOCAL" not in seen


def test_a_vlan_names_its_parent_as_every_link_does() -> None:
    change = CreateLink(name="e.7", kind="vlan", alias="a", mtu=1500, parent="e", vlan_id=7)
    message = decode(ifinfmsg, messages.create_link(change, 4, 6))
    assert (message.get_attr("IFLA_LINK"), message.get_attr("IFLA_MASTER")) == (4, 6)


def test_a_group_is_taken_away_by_the_unspecified_address() -> None:
    assert tunnel(messages.change_vxlan(9, V4, 4))["IFLA_VXLAN_GROUP"] == "0.0.0.0"
    assert "IFLA_VXLAN_PORT" not in tunnel(messages.change_vxlan(9, V4, 4))


def test_what_is_not_asked_is_not_set() -> None:
    message = decode(ifinfmsg, messages.set_link(9, mtu=1400))
    assert [name for name, _ in message["attrs"]] == ["IFLA_MTU"]
    assert (message["index"], message["change"]) == (9, 0)
    message = decode(ifinfmsg, messages.set_link(9, up=False, master=0))
    assert (message["flags"], message["change"]) == (0, 1)
    assert message.get_attr("IFLA_MASTER") == 0


def test_a_long_name_is_looked_for_among_the_alternative_ones() -> None:
    assert decode(ifinfmsg, messages.read_link("x" * 15)).get_attr("IFLA_IFNAME") == "x" * 15
    assert decode(ifinfmsg, messages.read_link("x" * 16)).get_attr("IFLA_ALT_IFNAME") == "x" * 16


def test_a_flooding_entry_is_permanent_and_the_links_own() -> None:
    request = messages.change_flooding(9, messages.RTM_NEWNEIGH, ip_address("2001:db8::2"))
    message = decode(ndmsg, request)
    assert (message["ifindex"], message["state"], message["flags"]) == (9, 0xC0, 0x02)
    assert message.get_attr("NDA_DST") == "2001:db8::2"
    assert message.get_attr("NDA_LLADDR") == "00:00:00:00:00:00"

"""Every refusal says which object is meant and the way out."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest

from danmpy.kernel.hostlinks import VxlanAttributes
from danmpy.netwatcher.refusals import Refusals
from danmpy.netwatcher.values import DEVICE_READY, PEERS_KNOWN, Reason
from support.fakehost import FakeHost
from support.specs import cluster_key, network, tenant_key
from support.watching import vlan, vxlan

KEY = tenant_key("a")
USERS = [network(KEY, mtu=9000)]
VXLAN = VxlanAttributes(vni=7, port=4789, local=ip_address("192.0.2.1"))

CASES: dict[str, tuple[Callable[[Refusals], None], Reason, list[str]]] = {
    "no host device": (
        lambda r: r.no_host_device(USERS[0]),
        Reason.NO_HOST_DEVICE,
        ["macvlan", "host_device"],
    ),
    "missing parent": (
        lambda r: r.missing_parent("ens9", USERS),
        Reason.MISSING_PARENT,
        ["ens9", "host_device"],
    ),
    "enslaved parent": (
        lambda r: r.enslaved_parent("ens4", "bond0", USERS),
        Reason.BACKEND_CONFLICT,
        ["ens4", "bond0", "take it out"],
    ),
    "no address": (lambda r: r.no_vtep("ens4", USERS), Reason.NO_VTEP_ADDRESS, ["ens4", "give"]),
    "no address any more": (
        lambda r: r.no_vtep("ens4", USERS, lost=4),
        Reason.NO_VTEP_ADDRESS,
        ["ens4", "lost the IPv4", "publish an IPv6"],
    ),
    "one device": (
        lambda r: r.one_device(vlan("ens4", 7), vlan("enp0s4", 7), USERS),
        Reason.VLAN_TAKEN,
        ["ens4 and enp0s4", "another id"],
    ),
    "VLAN taken": (
        lambda r: r.wire_taken(vlan("ens4", 7), None, "link x", USERS),
        Reason.VLAN_TAKEN,
        ["VLAN 7", "ens4", "link x", "another VLAN id"],
    ),
    "VNI taken": (
        lambda r: r.wire_taken(vxlan("ens4", 7), VXLAN, "link x", USERS),
        Reason.VNI_TAKEN,
        ["VNI 7", "4789", "link x", "another VNI"],
    ),
    "name taken": (
        lambda r: r.name_taken("lo", FakeHost().read(), USERS),
        Reason.NAME_TAKEN,
        ["lo", "rename or remove"],
    ),
    "MTU": (
        lambda r: r.mtu_too_big(USERS[0], 9000, 1450, "ens4 carries 1500 bytes less 50"),
        Reason.MTU_TOO_BIG,
        ["mtu 9000", "ens4 carries 1500", "1450", "7550"],
    ),
    "IPv6": (
        lambda r: r.mtu_too_big(network(KEY), 1280, 1200, "ens4 carries 1200 bytes"),
        Reason.MTU_TOO_BIG,
        ["IPv6 needs 1280", "80"],
    ),
    "backends": (
        lambda r: r.backend_conflict(
            USERS[0], "vxlan:ens4:7", ("macvlan", "ipvlan"), cluster_key("b")
        ),
        Reason.BACKEND_CONFLICT,
        ["macvlan", "ipvlan", "ClusterNetwork/b", "another segment"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_names_the_object_and_the_way_out(case: str) -> None:
    say, reason, words = CASES[case]
    refusals = Refusals()
    say(refusals)
    (condition,) = refusals.conditions[KEY]
    assert (condition.type, condition.reason) == (DEVICE_READY, reason)
    assert [word for word in words if word not in condition.message] == []
    assert refusals.is_refused(KEY)


def test_missing_peers_are_told_and_refuse_nobody() -> None:
    refusals = Refusals()
    refusals.missing_peers("ens4", 4, ["node n2"], USERS)
    (condition,) = refusals.conditions[KEY]
    assert condition.type == PEERS_KNOWN
    assert not refusals.is_refused(KEY)

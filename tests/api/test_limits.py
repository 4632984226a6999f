from __future__ import annotations

from danmpy.api import limits


def test_device_names_of_a_vlan_fit_into_a_link_name() -> None:
    assert limits.NETWORK_ID_MAX + len(f".{limits.VLAN_MAX}") == limits.IFNAME_MAX_BYTES


def test_ranges_are_those_of_the_protocols() -> None:
    assert (limits.VLAN_MIN, limits.VLAN_MAX) == (1, 2**12 - 2)
    assert (limits.VNI_MIN, limits.VNI_MAX) == (1, 2**24 - 1)


def test_a_vxlan_costs_its_headers() -> None:
    assert limits.VXLAN_OVERHEAD_V4 == 14 + 8 + 8 + 20
    assert limits.VXLAN_OVERHEAD_V6 == 14 + 8 + 8 + 40

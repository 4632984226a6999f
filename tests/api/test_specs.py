from __future__ import annotations

from ipaddress import ip_address

import pytest

from danmpy.api.specs import (
    HostDeviceProfile,
    NetworkKey,
    NetworkKind,
    NodeSpec,
    PodSpec,
    SegmentKey,
    SegmentKind,
)
from support.specs import cluster_key, network, pool, tenant_key

VXLAN = SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=700)


def test_keys_print_as_people_write_them() -> None:
    assert str(tenant_key("a", "blue")) == "TenantNetwork/blue/a"
    assert str(NetworkKey(kind=NetworkKind.CLUSTER, name="b")) == "ClusterNetwork/b"
    assert str(VXLAN) == "vxlan:ens4:700"


def test_addresses_collide_on_a_segment_and_else_inside_the_network() -> None:
    assert network(cluster_key("a"), vni=700).domain == "vxlan:ens4:700"
    assert network(cluster_key("a")).domain == "ClusterNetwork/a"


def test_an_assignment_moves_a_network_and_changes_nothing_else() -> None:
    plain = network(tenant_key("a"), host_device="")
    assigned = plain.with_assignment(host_device="ens4", segment=VXLAN)
    assert (assigned.host_device, assigned.segment) == ("ens4", VXLAN)
    assert assigned.with_assignment(host_device="", segment=None) == plain


@pytest.mark.parametrize(
    ("backend", "dynamic"), [("ipvlan", True), ("sriov", True), ("flannel", False)]
)
def test_dynamic_backends_are_danms(backend: str, dynamic: bool) -> None:
    assert network(cluster_key("a"), backend=backend).is_dynamic is dynamic


def test_each_family_has_its_pool() -> None:
    spec = network(cluster_key("a"), v4="10.0.0.0/24")
    assert spec.pool(4) == pool("10.0.0.0/24")
    assert spec.pool(6) is None
    assert pool("10.0.0.0/24").address(int(ip_address("10.0.0.7"))) == ip_address("10.0.0.7")
    assert pool("2001:db8::/64").address(1) == ip_address("::1")


def test_a_profile_with_a_slash_is_a_device_pool() -> None:
    assert HostDeviceProfile(name="intel.com/vf").is_pool
    assert not HostDeviceProfile(name="ens4").is_pool


def test_a_parent_without_addresses_of_its_own_has_those_of_the_node() -> None:
    one, other = ip_address("192.0.2.1"), ip_address("198.51.100.1")
    node = NodeSpec(name="n", vteps={"ens4": (one,), "*": (other,)})
    assert node.vteps_on("ens4") == (one,)
    assert node.vteps_on("ens5") == (other,)
    assert NodeSpec(name="n").vteps_on("ens4") == ()


def test_a_pod_goes_by_its_uid_and_a_static_one_by_its_hash_as_well() -> None:
    pod = PodSpec(namespace="blue", name="web", uid="u")
    assert pod.is_uid("u")
    assert not pod.is_uid("v")
    assert not pod.is_uid("")
    static = PodSpec(namespace="blue", name="web", uid="u", config_hash="h")
    assert static.is_uid("u")
    assert static.is_uid("h")
    assert not static.is_uid("v")
    assert PodSpec(namespace="blue", name="web").is_uid("any")


def test_what_a_node_found_itself_is_for_the_others() -> None:
    declared, found = (ip_address("192.0.2.1"),), (ip_address("192.0.2.2"),)
    node = NodeSpec(name="n", vteps={"*": declared}, observed={"ens4": found})
    assert (node.vteps_on("ens4"), node.declared_on("ens4")) == (found, declared)
    assert (node.vteps_on("ens5"), node.declared_on("ens5")) == (declared, declared)

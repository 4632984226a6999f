"""The kernel that the ``uml`` tests run on has every kind of link that they are about."""

import pytest

from support.netns import Namespaces, make_fabric, wait_until

pytestmark = [pytest.mark.uml, pytest.mark.system]

KINDS = {
    "bridge": ([], []),
    "dummy": ([], []),
    "ipvlan": (["link", "parent"], ["mode", "l2"]),
    "macvlan": (["link", "parent"], ["mode", "bridge"]),
    "veth": ([], ["peer", "name", "far"]),
    "vlan": (["link", "parent"], ["id", "100"]),
    "vxlan": (["link", "parent"], ["id", "100", "dstport", "4789"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_makes_links_of_this_kind(namespaces: Namespaces, kind: str) -> None:
    parent, details = KINDS[kind]
    namespace = namespaces.make("kinds")
    namespace.batch("link add parent type veth peer name other")
    namespace.ip("link", "add", *parent, "name", "probe", "type", kind, *details)
    assert namespace.links()["probe"]["linkinfo"]["info_kind"] == kind


def test_the_fabric_is_a_trunk_that_carries_tags_and_keeps_vlans_apart(
    namespaces: Namespaces,
) -> None:
    first, second = make_fabric(namespaces).nodes
    for number, node in enumerate((first, second), start=1):
        for vid in (100, 200):
            node.namespace.batch(
                f"link add link {node.nic} name vlan{vid} type vlan id {vid}",
                f"address add 10.{vid}.0.{number}/24 dev vlan{vid}",
                f"link set vlan{vid} up",
            )
    wait_until(lambda: first.namespace.ping("10.100.0.2"), what="VLAN 100 across the trunk")
    assert first.namespace.ping("10.200.0.2", size=1472, fragment=False)

    second.namespace.batch(
        "address delete 10.200.0.2/24 dev vlan200", "address add 10.200.0.2/32 dev vlan100"
    )
    first.namespace.ip("neighbour", "flush", "all")
    second.namespace.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1")
    assert not first.namespace.ping("10.200.0.2", seconds=2)

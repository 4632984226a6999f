"""A pod's ipvlan interface on a VLAN device, made by our netlink code on a kernel that has both."""

import os
from collections.abc import Iterator

import pytest

from danmpy.kernel.podlinks import PodLink, PodLinkConfig
from danmpy.kernel.podnet import enter_pod, read_host_links
from support.netns import Namespace, Namespaces, run, wait_until

pytestmark = [pytest.mark.uml, pytest.mark.system]

NIC, FAR = f"dtp{os.getpid()}", f"dtf{os.getpid()}"
VLAN = "dtv100"


@pytest.fixture
def far(namespaces: Namespaces) -> Iterator[Namespace]:
    """A neighbour with 10.9.0.1 and fd09::1 on VLAN 100; our end of the VLAN is the link `VLAN`."""
    neighbour = namespaces.make("far")
    try:
        run("ip", "link", "add", NIC, "type", "veth", "peer", "name", FAR)
        run("ip", "link", "set", FAR, "netns", neighbour.name)
        run("ip", "link", "add", "link", NIC, "name", VLAN, "type", "vlan", "id", "100")
        for name in (NIC, VLAN):
            run("ip", "link", "set", name, "up")
        neighbour.batch(
            f"link set {FAR} up",
            f"link add link {FAR} name tagged type vlan id 100",
            "address add 10.9.0.1/24 dev tagged",
            "address add fd09::1/64 dev tagged nodad",
            "link set tagged up",
        )
        yield neighbour
    finally:
        run("ip", "link", "delete", NIC, check=False)


def add_ipvlan(pod: Namespace, name: str, *addresses: str) -> None:
    parent_index = read_host_links(frozenset({VLAN}))[VLAN][0]
    with enter_pod(str(pod.path)) as net:
        net.add_links([(PodLink(name=name, kind="ipvlan", parent=VLAN), parent_index)])
        net.configure_all(
            {name: PodLinkConfig(alias="danmpy pod=t", ipv6=True, addresses=addresses)}
        )


def test_an_ipvlan_reaches_the_neighbour_on_its_vlan_in_both_families_at_full_mtu(
    far: Namespace, namespaces: Namespaces
) -> None:
    pod = namespaces.make("pod")
    add_ipvlan(pod, "eth0", "10.9.0.5/24", "fd09::5/64")
    link = pod.links()["eth0"]
    assert (link["linkinfo"]["info_kind"], link["linkinfo"]["info_data"]["mode"]) == (
        "ipvlan",
        "l2",
    )
    wait_until(lambda: pod.ping("10.9.0.1"), what="IPv4 over the VLAN")
    assert pod.ping("10.9.0.1", size=1500 - 28, fragment=False)
    assert pod.ping("fd09::1", size=1500 - 48, fragment=False)
    assert far.ping("10.9.0.5")


def test_two_pods_on_one_vlan_device_reach_each_other_and_share_its_mac(
    far: Namespace, namespaces: Namespaces
) -> None:
    pods = [namespaces.make("pod") for _ in range(2)]
    for number, pod in enumerate(pods, start=5):
        add_ipvlan(pod, "net1", f"10.9.0.{number}/24")
    wait_until(lambda: pods[0].ping("10.9.0.6"), what="the other pod")
    macs = {pod.links()["net1"]["address"] for pod in pods}
    assert macs == {read_host_links(frozenset({VLAN}))[VLAN][1]}


def test_removal_takes_the_ipvlan_and_leaves_the_vlan_device(
    far: Namespace, namespaces: Namespaces
) -> None:
    pod = namespaces.make("pod")
    add_ipvlan(pod, "eth0", "10.9.0.5/24")
    with enter_pod(str(pod.path)) as net:
        for _ in range(2):
            net.remove_links({"eth0"})
    assert "eth0" not in pod.links()
    assert VLAN in read_host_links(frozenset({VLAN}))

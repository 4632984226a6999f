"""A pod's namespace through netlink, on the real kernel."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from danmpy.errors import ConflictError, WireError
from danmpy.kernel.netns import inside, netns_id_of, open_netns, read_netns_id
from danmpy.kernel.podlinks import PodLink, PodLinkConfig, PodRoute, PodRule
from danmpy.kernel.podnet import enter_pod, read_host_links, remove_host_link

POD = f"dt-podnet-{os.getpid()}"
PATH = f"/run/netns/{POD}"
PARENT, FAR, BRIDGE = "dtpn0", "dtpn1", "dtpnbr0"


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def pod() -> Iterator[str]:
    """A pod's namespace, and a parent link and a bridge on the node's side."""
    try:
        ip("netns", "add", POD)
        ip("link", "add", PARENT, "type", "veth", "peer", "name", FAR)
        ip("link", "add", BRIDGE, "type", "bridge")
        for name in (PARENT, FAR, BRIDGE):
            ip("link", "set", name, "up")
        yield PATH
    finally:
        for words in (("netns", "del", POD), ("link", "del", PARENT), ("link", "del", BRIDGE)):
            subprocess.run(["ip", *words], check=False, capture_output=True)


CONFIG = PodLinkConfig(
    alias="danmpy pod=c1",
    ipv6=True,
    addresses=("10.0.0.5/24", "fd00::5/64"),
    routes=(
        PodRoute(destination="0.0.0.0/0", gateway="10.0.0.1"),
        PodRoute(destination="fd01::/64", gateway="fd00::1"),
        PodRoute(destination="10.7.0.0/16", gateway="10.0.0.1", table=77),
    ),
    rules=(PodRule(source="10.0.0.5", table=77), PodRule(source="fd00::5", table=77)),
)
MACVLAN = PodLink(name="eth0", kind="macvlan", parent=PARENT, mac="02:00:00:00:00:01", mtu=1400)


def index_of(name: str) -> int:
    return read_host_links(frozenset({name}))[name][0]


def test_a_macvlan_appears_in_the_pod_with_everything_that_was_asked(pod: str) -> None:
    with enter_pod(pod) as net:
        facts = net.add_link(MACVLAN, index_of(PARENT))
        assert (facts.mac, facts.mtu, facts.up) == ("02:00:00:00:00:01", 1400, False)
        net.configure("eth0", CONFIG)
        net.announce("eth0", facts.mac, CONFIG.addresses)
        seen = net.read()
    assert seen.links["eth0"].up
    assert seen.links["eth0"].alias == "danmpy pod=c1"
    assert {"10.0.0.5/24", "fd00::5/64"} <= seen.addresses["eth0"]
    assert set(CONFIG.routes) <= seen.routes["eth0"]
    assert seen.rules == frozenset(CONFIG.rules)


def test_ipv6_addresses_are_usable_at_once_and_no_router_can_add_one(pod: str) -> None:
    with enter_pod(pod) as net:
        net.add_link(MACVLAN, index_of(PARENT))
        net.configure("eth0", CONFIG)
    assert "tentative" not in ip("netns", "exec", POD, "ip", "-6", "addr", "show", "dev", "eth0")
    for key in ("accept_ra", "autoconf"):
        shown = ip("netns", "exec", POD, "cat", f"/proc/sys/net/ipv6/conf/eth0/{key}")
        assert shown.strip() == "0"


def test_an_interface_without_ipv6_has_no_link_local_address(pod: str) -> None:
    with enter_pod(pod) as net:
        net.add_link(MACVLAN, index_of(PARENT))
        net.configure("eth0", PodLinkConfig(alias="a", ipv6=False, addresses=("10.0.0.5/24",)))
        assert net.read().addresses["eth0"] == {"10.0.0.5/24"}


def test_a_veth_pair_ends_on_the_bridge_under_its_stable_name(pod: str) -> None:
    link = PodLink(
        name="net1",
        kind="veth",
        parent=BRIDGE,
        mtu=1400,
        host_name="dmptest1",
        host_alias="danmpy pod=c1",
    )
    with enter_pod(pod) as net:
        net.add_link(link, index_of(BRIDGE))
        net.configure("net1", PodLinkConfig(alias="danmpy pod=c1", ipv6=False))
        shown = ip("-d", "link", "show", "dmptest1")
        assert f"master {BRIDGE}" in shown
        assert "alias danmpy pod=c1" in shown
        assert "state UP" in shown
        assert "mtu 1400" in shown
        remove_host_link("dmptest1")
        assert "net1" not in net.read_links()
    remove_host_link("dmptest1")


def test_a_name_that_the_pod_has_already_is_a_conflict(pod: str) -> None:
    with enter_pod(pod) as net:
        net.add_link(MACVLAN, index_of(PARENT))
        with pytest.raises(ConflictError, match="already has an interface called eth0"):
            net.add_link(MACVLAN, index_of(PARENT))


def test_removal_takes_link_and_rules_and_is_no_error_the_second_time(pod: str) -> None:
    with enter_pod(pod) as net:
        net.add_link(MACVLAN, index_of(PARENT))
        net.configure("eth0", CONFIG)
        for _ in range(2):
            net.remove_rules(CONFIG.rules)
            net.remove_link("eth0")
        seen = net.read()
    assert "eth0" not in seen.links
    assert seen.rules == frozenset()


def test_the_thread_is_at_home_while_a_pod_is_open(pod: str) -> None:
    home = netns_id_of("/proc/thread-self/ns/net")
    with enter_pod(pod) as net:
        net.add_link(MACVLAN, index_of(PARENT))
        net.configure("eth0", CONFIG)
        assert netns_id_of("/proc/thread-self/ns/net") == home
        assert net.identity == netns_id_of(pod) != home


def test_a_namespace_that_is_gone_is_code_8_and_names_the_path() -> None:
    with pytest.raises(WireError, match="/run/netns/dt-nowhere") as caught:
        open_netns("/run/netns/dt-nowhere")
    assert caught.value.code == 8
    assert read_netns_id("/run/netns/dt-nowhere") is None
    with pytest.raises(WireError):
        netns_id_of("/run/netns/dt-nowhere")


def test_a_file_that_is_no_namespace_is_code_8() -> None:
    fd = os.open("/etc/hostname", os.O_RDONLY)
    try:
        with pytest.raises(WireError, match="no network namespace") as caught, inside(fd):
            pass
        assert caught.value.code == 8
    finally:
        os.close(fd)


def test_links_that_do_not_exist_are_left_out() -> None:
    assert read_host_links(frozenset({"dt-nolink"})) == {}

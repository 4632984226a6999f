"""A pod's namespace through netlink, on the real kernel."""

import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from danmpy.errors import ConflictError, HostError, NotReadyError, WireError
from danmpy.kernel.netns import inside, netns_id_of, open_netns, read_netns_id
from danmpy.kernel.podlinks import PodLink, PodLinkConfig, PodRoute, PodRule
from danmpy.kernel.podnet import (
    enter_pod,
    read_host_links,
    remove_host_links,
)
from support.netns import wait_until

POD, WIRE = f"dt-podnet-{os.getpid()}", f"dt-wire-{os.getpid()}"
PATH = f"/run/netns/{POD}"
PARENT, FAR, BRIDGE = f"dtpn{os.getpid()}", "far0", f"dtpb{os.getpid()}"


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def pod() -> Iterator[str]:
    """A pod's namespace, a parent link whose other end is in the namespace WIRE, and a bridge."""
    try:
        for name in (POD, WIRE):
            ip("netns", "add", name)
        ip("link", "add", PARENT, "type", "veth", "peer", "name", FAR, "netns", WIRE)
        ip("link", "add", BRIDGE, "type", "bridge")
        for name in (PARENT, BRIDGE):
            ip("link", "set", name, "up")
        ip("-n", WIRE, "link", "set", FAR, "up")
        yield PATH
    finally:
        removals = (("link", PARENT), ("link", BRIDGE), ("netns", POD), ("netns", WIRE))
        for kind, name in removals:
            subprocess.run(["ip", kind, "del", name], check=False, capture_output=True)


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
        facts = net.add_links([(MACVLAN, index_of(PARENT))])[0]
        assert (facts.mac, facts.mtu, facts.up) == ("02:00:00:00:00:01", 1400, False)
        net.configure_all({"eth0": CONFIG})
        net.announce({"eth0": CONFIG.addresses})
        seen = net.read()
    assert seen.links["eth0"].up
    assert seen.links["eth0"].alias == "danmpy pod=c1"
    assert {"10.0.0.5/24", "fd00::5/64"} <= seen.addresses["eth0"]
    assert set(CONFIG.routes) <= seen.routes["eth0"]
    assert seen.rules == frozenset(CONFIG.rules)


def test_ipv6_addresses_are_usable_at_once_and_no_router_can_add_one(pod: str) -> None:
    with enter_pod(pod) as net:
        net.add_links([(MACVLAN, index_of(PARENT))])
        net.configure_all({"eth0": CONFIG})
    assert "tentative" not in ip("netns", "exec", POD, "ip", "-6", "addr", "show", "dev", "eth0")
    for key in ("accept_ra", "autoconf"):
        shown = ip("netns", "exec", POD, "cat", f"/proc/sys/net/ipv6/conf/eth0/{key}")
        assert shown.strip() == "0"


def test_an_interface_without_ipv6_has_no_link_local_address(pod: str) -> None:
    with enter_pod(pod) as net:
        net.add_links([(MACVLAN, index_of(PARENT))])
        net.configure_all(
            {"eth0": PodLinkConfig(alias="a", ipv6=False, addresses=("10.0.0.5/24",))}
        )
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
        net.add_links([(link, index_of(BRIDGE))])
        net.configure_all({"net1": PodLinkConfig(alias="danmpy pod=c1", ipv6=False)})
        shown = ip("-d", "link", "show", "dmptest1")
        assert f"master {BRIDGE}" in shown
        assert "alias danmpy pod=c1" in shown
        assert "state UP" in shown
        assert "mtu 1400" in shown
        remove_host_links(["dmptest1"])
        assert "net1" not in net.read_links()
    remove_host_links(["dmptest1"])


def test_a_name_that_the_pod_has_already_is_a_conflict(pod: str) -> None:
    with enter_pod(pod) as net:
        net.add_links([(MACVLAN, index_of(PARENT))])
        with pytest.raises(ConflictError, match="already has an interface called eth0"):
            net.add_links([(MACVLAN, index_of(PARENT))])


def test_removal_takes_link_and_rules_and_is_no_error_the_second_time(pod: str) -> None:
    with enter_pod(pod) as net:
        net.add_links([(MACVLAN, index_of(PARENT))])
        net.configure_all({"eth0": CONFIG})
        for _ in range(2):
            net.remove_rules(CONFIG.rules)
            net.remove_links({"eth0"})
        seen = net.read()
    assert "eth0" not in seen.links
    assert seen.rules == frozenset()


def test_the_thread_is_at_home_while_a_pod_is_open(pod: str) -> None:
    home = netns_id_of("/proc/thread-self/ns/net")
    with enter_pod(pod) as net:
        net.add_links([(MACVLAN, index_of(PARENT))])
        net.configure_all({"eth0": CONFIG})
        assert netns_id_of("/proc/thread-self/ns/net") == home


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


def listen_on_the_wire() -> socket.socket:
    """A socket that sees every frame on the far end of the parent's wire."""
    fd = open_netns(f"/run/netns/{WIRE}")
    try:
        with inside(fd):
            every = socket.ntohs(0x0003)  # linux/if_ether.h: ETH_P_ALL
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, every)
            wire.bind((FAR, 0))
    finally:
        os.close(fd)
    wire.settimeout(0.2)
    return wire


def frames(wire: socket.socket, seconds: float) -> list[bytes]:
    seen, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            seen.append(wire.recv(2048))
        except TimeoutError:
            continue
    return seen


def test_the_segment_is_told_at_once_who_has_the_addresses_now(pod: str) -> None:
    mac = bytes.fromhex("020000000001")
    with listen_on_the_wire() as wire:
        with enter_pod(pod) as net:
            net.add_links([(MACVLAN, index_of(PARENT))])
            net.configure_all({"eth0": CONFIG})
            net.announce({"eth0": CONFIG.addresses})
        seen = frames(wire, 1.0)
    v4, v6 = ip_address("10.0.0.5").packed, ip_address("fd00::5").packed
    # RFC 5227: sender and target of a gratuitous ARP are the address itself.
    arps = [f for f in seen if f[12:14] == b"\x08\x06" and f[28:32] == f[38:42] == v4]
    assert [f[22:28] for f in arps[:1]] == [mac]
    # RFC 4861, 4.4: type 136, override flag, target, and the option with our MAC, to all nodes.
    told = [f for f in seen if f[12:14] == b"\x86\xdd" and f[54] == 136 and f[62:78] == v6]
    flagged = [f for f in told if struct.unpack("!I", f[58:62])[0] & 0x20000000]
    assert flagged, f"{len(seen)} frames, {len(told)} advertisements"
    first = flagged[0]
    assert first[38:54] == ip_address("ff02::1").packed
    assert first[22:38] == v6
    assert first[21] == 255, "RFC 4861, 7.1.2: others are to be dropped"
    assert first[78:86] == b"\x02\x01" + mac


def test_several_links_are_made_and_configured_together(pod: str) -> None:
    links = [
        (replace(MACVLAN, name=f"net{n}", mac=f"02:00:00:00:00:0{n}"), index_of(PARENT))
        for n in range(3)
    ]
    with enter_pod(pod) as net:
        facts = net.add_links(links)
        assert [link.name for link in facts] == ["net0", "net1", "net2"]
        net.configure_all(
            {
                f"net{n}": PodLinkConfig(alias="a", ipv6=False, addresses=(f"10.0.{n}.5/24",))
                for n in range(3)
            }
        )
        seen = net.read()
    assert all(seen.links[f"net{n}"].up for n in range(3))
    assert [seen.addresses[f"net{n}"] for n in range(3)] == [{f"10.0.{n}.5/24"} for n in range(3)]


def test_a_link_is_known_as_ours_from_its_first_moment(pod: str) -> None:
    with enter_pod(pod) as net:
        assert net.add_links([(MACVLAN, index_of(PARENT))])[0].is_ours("danmpy pod=c1")
        net.configure_all({"eth0": CONFIG})
        assert net.read_links()["eth0"].is_ours("danmpy pod=c1")
        assert not net.read_links()["eth0"].is_ours("danmpy pod=c2")


def test_what_the_kernel_refuses_is_told_with_the_setting_and_its_words(pod: str) -> None:
    with enter_pod(pod) as net:
        net.add_links([(MACVLAN, index_of(PARENT))])
        unreachable = replace(
            CONFIG, routes=(PodRoute(destination="10.9.0.0/16", gateway="172.16.0.1"),)
        )
        with pytest.raises(HostError, match=r"route 10\.9\.0\.0/16 via 172\.16\.0\.1") as caught:
            net.configure_all({"eth0": unreachable})
    assert "subnet of the interface" in caught.value.hint


def test_a_parent_that_vanished_is_try_again_and_a_second_owner_of_a_mac_is_named(
    pod: str,
) -> None:
    with enter_pod(pod) as net:
        with pytest.raises(NotReadyError, match="vanished while eth0 was made"):
            net.add_links([(MACVLAN, 999_999)])
        net.add_links([(MACVLAN, index_of(PARENT))])
        net.configure_all({"eth0": PodLinkConfig(alias="a", ipv6=False)})
        net.add_links([(replace(MACVLAN, name="eth1"), index_of(PARENT))])
        with pytest.raises(HostError, match="bring eth1 up") as caught:
            net.configure_all({"eth1": PodLinkConfig(alias="a", ipv6=False)})
    assert "MAC" in caught.value.hint


def test_links_are_removed_by_name_and_by_mark_also_under_another_name(pod: str) -> None:
    with enter_pod(pod) as net:
        for n in range(3):
            link = replace(MACVLAN, name=f"net{n}", mac=f"02:00:00:00:00:0{n}")
            net.add_links([(link, index_of(PARENT))])
            net.configure_all({f"net{n}": PodLinkConfig(alias=f"pod={n % 2}", ipv6=False)})
        ip("-n", POD, "link", "set", "net2", "down", "name", "renamed")
        net.remove_links({"net1"}, "pod=0")
        net.remove_links({"net1"}, "pod=0")
        assert set(net.read_links()) == {"lo"}


def test_a_foreign_link_gets_only_what_it_lacks_and_keeps_the_rest(pod: str) -> None:
    ip("-n", POD, "link", "add", "ext0", "type", "veth", "peer", "name", "ext1")
    for name in ("ext0", "ext1"):
        ip("-n", POD, "link", "set", name, "up")
    ip("-n", POD, "address", "add", "10.0.0.5/24", "dev", "ext0")
    ip("-n", POD, "route", "add", "default", "via", "10.0.0.1")
    config = PodLinkConfig(
        alias="ours",
        ipv6=False,
        addresses=("10.0.0.5/24",),
        routes=(
            PodRoute(destination="0.0.0.0/0", gateway="10.0.0.1"),
            PodRoute(destination="10.8.0.0/16", gateway="10.0.0.1"),
        ),
        rules=(PodRule(source="10.0.0.5", table=77),),
    )
    with enter_pod(pod) as net:
        net.adopt("ext0", config, settle_ipv6=True)
        seen = net.read()
    assert set(config.routes) <= seen.routes["ext0"]
    assert seen.rules == {PodRule(source="10.0.0.5", table=77)}
    assert seen.links["ext0"].alias == ""
    assert seen.addresses["ext0"] == {"10.0.0.5/24"}, "IPv6 was not asked for"
    assert any(":" in address for address in seen.addresses["ext1"])


def test_routes_are_taken_away_and_given_with_the_metric_that_was_asked(pod: str) -> None:
    for name, net in (("ext0", "10.0.0"), ("ext2", "10.1.0")):
        ip("-n", POD, "link", "add", name, "type", "bridge")
        ip("-n", POD, "address", "add", f"{net}.5/24", "dev", name)
        ip("-n", POD, "link", "set", name, "up")
    ip("-n", POD, "address", "add", "fd00::5/64", "dev", "ext0", "nodad")
    ip("-n", POD, "route", "add", "default", "via", "10.0.0.1", "proto", "dhcp")
    ip("-n", POD, "route", "add", "default", "via", "10.0.0.2", "metric", "50")
    ip("-n", POD, "route", "add", "::/0", "via", "fd00::1")
    wanted = [
        ("ext2", PodRoute(destination="0.0.0.0/0", gateway="10.1.0.1")),
        ("ext2", PodRoute(destination="0.0.0.0/0", gateway="10.1.0.2", metric=1)),
    ]
    with enter_pod(pod) as net:
        there = [("ext0", route) for route in net.read().routes["ext0"] if route.is_default]
        assert {(r.gateway, r.metric) for _, r in there} == {
            ("10.0.0.1", 0),
            ("10.0.0.2", 50),
            ("fd00::1", 0),
        }
        net.change_routes(there, wanted)
        net.change_routes(there, [])  # what is gone already is no error
        seen = net.read()
    assert not any(route.is_default for route in seen.routes["ext0"])
    assert {("ext2", r) for r in seen.routes["ext2"] if r.is_default} == set(wanted)
    unreachable = PodRoute(destination="0.0.0.0/0", gateway="172.16.0.1", metric=9)
    with enter_pod(pod) as net, pytest.raises(HostError, match=r"0\.0\.0\.0/0 via 172\.16\.0\.1"):
        net.change_routes([], [("ext2", unreachable)])


def test_a_router_s_advertisement_gives_no_address_that_nobody_leased(pod: str) -> None:
    with enter_pod(pod) as net:
        net.add_links([(MACVLAN, index_of(PARENT))])
        net.configure_all({"eth0": CONFIG})
    # RFC 4861, 4.2 and 4.6.2: a prefix with the on-link and the autonomous flag.
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + ip_address("fd99::").packed
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix
    ip("-n", WIRE, "address", "add", "fe80::77/64", "dev", FAR, "nodad")
    fd = open_netns(f"/run/netns/{WIRE}")
    try:
        with inside(fd):
            router = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    finally:
        os.close(fd)
    with router:
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        index = int(ip("-n", WIRE, "-o", "link", "show", FAR).split(":")[0])
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        router.bind(("fe80::77", 0, 0, index))
        # A link of the same pod that nobody settled shows that the advertisement arrives at all.
        ip("link", "add", "link", PARENT, "name", "plain", "netns", POD, "type", "macvlan")
        ip("-n", POD, "link", "set", "plain", "up")

        def arrived() -> bool:
            router.sendto(body, ("ff02::1", 0, 0, index))
            time.sleep(0.1)
            return "fd99:" in ip("-n", POD, "-6", "address", "show", "dev", "plain")

        wait_until(arrived, what="the plain link's own address")
    assert "fd99:" not in ip("-n", POD, "-6", "address", "show", "dev", "eth0")


def test_many_host_links_are_read_and_removed_at_once_and_absent_ones_are_no_error(
    pod: str,
) -> None:
    assert set(read_host_links({PARENT, BRIDGE, "dt-nolink"})) == {PARENT, BRIDGE}
    remove_host_links(["dt-nolink", "dt-nolink2"])
    remove_host_links([])
    assert read_host_links(()) == {}


def test_a_host_link_is_found_by_every_name_and_tells_whose_it_is(pod: str) -> None:
    short, long = f"dtalt{os.getpid()}", f"dt-an-alternative-name-{os.getpid()}"
    for name in (short, long):
        ip("link", "property", "add", "dev", BRIDGE, "altname", name)
    ip("link", "set", BRIDGE, "alias", "danmpy bridge:x", "group", "77")
    found = read_host_links({BRIDGE, short, long, "dt-nothing-of-a-name-so-long"})
    assert set(found) == {BRIDGE, short, long}
    assert len(set(found.values())) == 1
    assert found[long][3:] == ("bridge", "danmpy bridge:x", 77)

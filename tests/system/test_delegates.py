"""Debian's CNI plugins as delegates: each one attaches, is checked, and leaves nothing behind.

The plugins run in a namespace that stands for the host, so that the machine's own links, rules and
routes are never touched.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from danmpy.api.specs import PluginAsk
from danmpy.attach.delegates.calling import DelegateResult, Delegates
from danmpy.attach.delegates.confs import DelegateConf
from danmpy.attach.values import PodIdentity
from danmpy.errors import DelegateError
from support.netns import Namespace, Namespaces, wait_until
from support.recording import identity, nad
from support.requirements import CNI_PLUGINS, need
from support.specs import network, tenant_key

pytestmark = pytest.mark.system

WRAPPER = """#!/bin/sh
{first}
exec /sbin/ip netns exec {host} {plugin}
"""
SERVE = """
import socket
with socket.create_server(("", 8080)) as server:
    print("open", flush=True)
    while True:
        server.accept()[0].close()
"""
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 18080), 3).close()"


@dataclass
class Site:
    """A host whose NIC ``ens4`` leads to ``far4`` of a neighbour, and one pod."""

    folder: Path
    host: Namespace
    far: Namespace
    pod: Namespace

    @property
    def delegates(self) -> Delegates:
        return Delegates(self.folder / "net.d", (self.folder / "bin",))

    @property
    def who(self) -> PodIdentity:
        return identity(str(self.pod.path), container_id="c-real")

    def host_local(self, subnet: str, **more: Any) -> dict[str, Any]:
        data = str(self.folder / "leases")
        return {"type": "host-local", "subnet": subnet, "dataDir": data, **more}

    @property
    def leased(self) -> list[str]:
        """The addresses that host-local has given away."""
        found = (self.folder / "leases").rglob("10.*")
        return sorted(path.name for path in found)


@pytest.fixture
def site(tmp_path: Path, namespaces: Namespaces) -> Site:
    need("cni-plugins")
    made = Site(tmp_path, *(namespaces.make(label) for label in ("host", "far", "pod")))
    (tmp_path / "bin").mkdir()
    # The CHECK of portmap 1.1.1 looks for its IPv4 rules in ip6tables too, where there is one.
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "iptables").symlink_to("/usr/sbin/iptables")
    without_ip6tables = f"export PATH={tmp_path / 'path'}"
    for plugin in CNI_PLUGINS.iterdir():
        wrapper = tmp_path / "bin" / plugin.name
        first = without_ip6tables if plugin.name == "portmap" else ""
        text = WRAPPER.format(first=first, host=made.host.name, plugin=plugin)
        wrapper.write_text(text)
        wrapper.chmod(0o755)
    made.host.batch(
        f"link add ens4 type veth peer name far4 netns {made.far.name}",
        "address add 10.9.0.2/24 dev ens4",
        "link set ens4 up",
    )
    made.far.batch("address add 10.9.0.1/24 dev far4", "link set far4 up")
    return made


@dataclass
class Attached:
    """One attachment while it stands."""

    site: Site
    conf: DelegateConf
    result: DelegateResult

    def check(self) -> None:
        self.site.delegates.check(self.conf, self.site.who, "net1", self.result.text)

    def check_fails(self, plugin: str) -> None:
        with pytest.raises(DelegateError, match=f"plugin {plugin} failed CHECK"):
            self.check()

    @property
    def second_alone(self) -> Attached:
        """For the CHECK of a plugin that moved what the CHECK of the first one looks for."""
        conf = replace(self.conf, plugins=self.conf.plugins[1:], disable_check=False)
        return replace(self, conf=conf)

    @property
    def addresses(self) -> list[str]:
        return [str(ip.address) for ip in self.result.result.ips]


@contextmanager
def attached(
    site: Site, *plugins: Mapping[str, Any], conf: DelegateConf | None = None, **asked: Any
) -> Iterator[Attached]:
    """Attach `net1`; CHECK is content; after the test, DEL twice takes everything away again."""
    if conf is None:
        conf = site.delegates.render(nad(*map(dict, plugins), cniVersion="1.0.0"), **asked)
    delegates = site.delegates
    made = Attached(site, conf, delegates.add(conf, site.who, "net1"))
    try:
        made.check()
        yield made
    finally:
        for _ in range(2):
            delegates.delete(conf, site.who, "net1", made.result.text)
    assert "net1" not in site.pod.links()
    assert site.leased == []


def test_a_bridge_with_portmap_bandwidth_and_firewall_lets_a_neighbour_reach_the_pod(
    site: Site,
) -> None:
    bridge = {
        "type": "bridge",
        "bridge": "br0",
        "isGateway": True,
        "ipam": site.host_local("10.77.0.0/24", routes=[{"dst": "0.0.0.0/0"}]),
    }
    chain = (
        bridge,
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
        {"type": "firewall"},
    )
    port = {"hostPort": 18080, "containerPort": 8080, "protocol": "tcp"}
    asked = PluginAsk(port_mappings=(port,), bandwidth={"ingressRate": 8_000_000})
    with attached(site, *chain, ask=asked) as made:
        assert made.addresses == ["10.77.0.2/24"]
        assert site.leased == ["10.77.0.2"]
        assert site.pod.addresses("net1") == ("10.77.0.2/24",)
        assert "rate 8Mbit" in site.host.run("tc", "qdisc", "show").stdout
        server = subprocess.Popen(
            site.pod.argv("/usr/bin/python3", "-c", SERVE), stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "open\n"
            site.far.run("/usr/bin/python3", "-c", CONNECT, "10.9.0.2")
        finally:
            server.kill()
            server.communicate()
        site.host.run("iptables", "-t", "nat", "-F", "CNI-HOSTPORT-DNAT")
        made.check_fails("portmap")
        site.pod.ip("address", "delete", "10.77.0.2/24", "dev", "net1")
        made.check_fails("bridge")
    rules = site.host.run("iptables", "-t", "nat", "-S").stdout
    assert "10.77.0.2" not in rules
    assert "tbf" not in site.host.run("tc", "qdisc", "show").stdout
    assert "10.77.0.2" not in site.host.run("iptables", "-S").stdout


def test_macvlan_gets_the_address_and_mac_that_the_pod_asks_of_static(site: Site) -> None:
    plugin = {
        "type": "macvlan",
        "master": "ens4",
        "ipam": {"type": "static"},
        "capabilities": {"ips": True, "mac": True},
    }
    mac = "02:00:00:00:00:05"
    with attached(site, plugin, ask=PluginAsk(ips=("10.9.0.5/24", "fd09::5/64")), mac=mac) as made:
        assert made.addresses == ["10.9.0.5/24", "fd09::5/64"]
        assert site.pod.links()["net1"]["address"] == mac
        assert site.pod.addresses("net1") == ("10.9.0.5/24", "fd09::5/64")
        wait_until(lambda: site.pod.ping("10.9.0.1"), what="the neighbour to answer")
        site.pod.ip("address", "delete", "10.9.0.5/24", "dev", "net1")
        made.check_fails("macvlan")


def test_macvlan_takes_the_host_device_and_addresses_of_danmpy(site: Site) -> None:
    site.host.batch("link add vx700 type vxlan id 700 dstport 4789 dev ens4", "link set vx700 up")
    plugin = {
        "type": "macvlan",
        "master": "ens4",
        "vxlan": 700,
        "ipam": {"type": "danmpy-cni", "cidr": "10.70.0.0/24"},
    }
    with attached(site, plugin, addresses=(ip_interface("10.70.0.5/24"),), device="vx700") as made:
        assert made.addresses == ["10.70.0.5/24"]
        index = site.host.links()["vx700"]["ifindex"]
        assert site.pod.links()["net1"]["link_index"] == index


def test_a_file_of_danm_with_macvlan_and_tuning_gets_our_addresses_and_mac(site: Site) -> None:
    plugins = [
        {
            "type": "macvlan",
            "master": "ens4",
            "ipam": site.host_local("10.9.0.0/16"),
            "capabilities": {"mac": True},
        },
        {"type": "tuning", "mtu": 1300, "sysctl": {"net.ipv4.conf.net1.arp_filter": "1"}},
    ]
    folder = site.folder / "net.d"
    folder.mkdir()
    text = json.dumps({"cniVersion": "1.1.0", "name": "net", "plugins": plugins})
    (folder / "net.conflist").write_text(text)
    spec = network(
        tenant_key("net"),
        network_id="net",
        backend="macvlan",
        v4="10.0.0.0/24",
        gateway=ip_address("10.0.0.1"),
    )
    addresses = (ip_interface("10.0.0.5/24"), ip_interface("fd00::5/64"))
    conf = site.delegates.render(spec, addresses=addresses, mac="02:00:00:00:00:05")
    assert conf.version == "1.0.0", "Debian's plugins know no newer one"
    with attached(site, conf=conf) as made:
        assert set(made.addresses) == {"10.0.0.5/24", "fd00::5/64"}
        link = site.pod.links()["net1"]
        assert (link["address"], link["mtu"]) == ("02:00:00:00:00:05", 1300)
        sysctl = site.pod.run("sysctl", "-n", "net.ipv4.conf.net1.arp_filter").stdout
        assert sysctl == "1\n"
        site.pod.ip("link", "set", "net1", "mtu", "1400")
        made.check_fails("tuning")


def test_ptp_reaches_its_host_and_keeps_its_own_ipam(site: Site) -> None:
    plugin = {"type": "ptp", "ipam": site.host_local("10.78.0.0/24")}
    with attached(site, plugin) as made:
        assert made.addresses == ["10.78.0.2/24"]
        wait_until(lambda: site.pod.ping("10.78.0.1"), what="the host to answer")
        site.pod.ip("address", "delete", "10.78.0.2/24", "dev", "net1")
        made.check_fails("ptp")


def test_sbr_routes_by_the_address_that_the_plugin_before_it_gave(site: Site) -> None:
    macvlan = {
        "type": "macvlan",
        "master": "ens4",
        "ipam": site.host_local("10.9.0.0/24", rangeStart="10.9.0.7", gateway="10.9.0.1"),
    }
    # The CHECK of macvlan 1.1.1 misses the routes that sbr has moved: a list for disableCheck.
    chain = nad(macvlan, {"type": "sbr"}, cniVersion="1.0.0", disableCheck=True)
    with attached(site, conf=site.delegates.render(chain)) as made:
        made.second_alone.check()
        assert made.addresses == ["10.9.0.7/24"]
        assert "from 10.9.0.7 lookup 100" in site.pod.ip("rule", "show").stdout
        assert "via 10.9.0.1 dev net1" in site.pod.ip("route", "show", "table", "100").stdout
    assert "10.9.0.7" not in site.pod.ip("rule", "show").stdout


def test_a_host_device_comes_and_goes_back_under_its_own_name(site: Site) -> None:
    site.host.batch("link add dev0 type veth peer name dev1")
    plugin = {
        "type": "host-device",
        "device": "dev0",
        "ipam": {"type": "static"},
        "capabilities": {"ips": True},
    }
    with attached(site, plugin, ask=PluginAsk(ips=("10.5.0.5/24",))) as made:
        assert made.addresses == ["10.5.0.5/24"]
        assert "dev0" not in site.host.links()
        assert site.pod.addresses("net1") == ("10.5.0.5/24",)
    assert "dev0" in site.host.links()


@pytest.fixture
def dhcp(site: Site) -> Iterator[Path]:
    """A DHCP server at the neighbour and the daemon of the plugin; the path of its socket."""
    need("dnsmasq")
    socket, leases = site.folder / "dhcp.sock", site.folder / "served"
    server = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping",
        "--interface=far4", "--bind-interfaces", "--dhcp-authoritative", "--user=root",
        "--pid-file=",
        f"--dhcp-leasefile={leases}", "--dhcp-range=10.9.0.100,10.9.0.110,255.255.255.0,2m",
    ]  # fmt: skip
    daemon = [str(CNI_PLUGINS / "dhcp"), "daemon", "-socketpath", str(socket)]
    started = []
    try:
        for argv in (site.far.argv(*server), daemon):
            with (site.folder / "log").open("ab") as log:
                started.append(subprocess.Popen(argv, stdout=log, stderr=log))
        wait_until(socket.exists, what="the daemon of the plugin dhcp to listen")
        yield socket
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_dhcp_gets_an_address_of_a_real_server_and_gives_it_back(site: Site, dhcp: Path) -> None:
    plugin = {
        "type": "macvlan",
        "master": "ens4",
        "ipam": {"type": "dhcp", "daemonSocketPath": str(dhcp)},
    }
    served = site.folder / "served"
    with attached(site, plugin) as made:
        (address,) = made.addresses
        assert address in {f"10.9.0.{number}/24" for number in range(100, 111)}
        assert site.pod.addresses("net1") == (address,)
        assert address.partition("/")[0] in served.read_text()
        wait_until(lambda: site.pod.ping("10.9.0.1"), what="the neighbour to answer")
    wait_until(lambda: served.read_text() == "", what="the server to have the address back")


def test_a_plugin_whose_daemon_is_away_is_quoted_for_add_and_for_its_undoing(site: Site) -> None:
    plugin = {
        "type": "macvlan",
        "master": "ens4",
        "ipam": {"type": "dhcp", "daemonSocketPath": str(site.folder / "nowhere")},
    }
    conf = site.delegates.render(nad(plugin, cniVersion="1.0.0"))
    away = "error dialing DHCP daemon"
    words = f"failed ADD .*{away}.*; and undoing it failed: .*failed DEL .*{away}"
    with pytest.raises(DelegateError, match=words):
        site.delegates.add(conf, site.who, "net1")


def test_a_chain_whose_second_plugin_fails_leaves_nothing(site: Site) -> None:
    bridge = {"type": "bridge", "bridge": "br0", "ipam": site.host_local("10.77.0.0/24")}
    conf = site.delegates.render(
        nad(bridge, {"type": "tuning", "sysctl": {"net.nonsense": "1"}}, cniVersion="1.0.0")
    )
    with pytest.raises(DelegateError, match=r"plugin tuning failed ADD .*net/nonsense"):
        site.delegates.add(conf, site.who, "net1")
    assert "net1" not in site.pod.links()
    assert site.leased == []


def test_a_sandbox_that_has_gone_gives_its_address_back(site: Site, namespaces: Namespaces) -> None:
    bridge = {"type": "bridge", "bridge": "br0", "ipam": site.host_local("10.77.0.0/24")}
    conf = site.delegates.render(nad(bridge, cniVersion="1.0.0"))
    result = site.delegates.add(conf, site.who, "net1")
    assert site.leased == ["10.77.0.2"]
    namespaces.delete(site.pod)
    site.delegates.delete(conf, site.who, "net1", result.text)
    assert site.leased == []


# Kinds of link that not every kernel has


@pytest.mark.uml
def test_a_vlan_reaches_the_neighbour_on_that_wire(site: Site) -> None:
    site.far.batch(
        "link add link far4 name tagged type vlan id 100",
        "address add 10.10.0.1/24 dev tagged",
        "link set tagged up",
    )
    plugin = {
        "type": "vlan",
        "master": "ens4",
        "vlanId": 100,
        "ipam": site.host_local("10.10.0.0/24", rangeStart="10.10.0.7"),
    }
    with attached(site, plugin) as made:
        assert made.addresses == ["10.10.0.7/24"]
        assert site.pod.links()["net1"]["linkinfo"]["info_data"]["id"] == 100
        wait_until(lambda: site.pod.ping("10.10.0.1"), what="the neighbour to answer")
        site.pod.ip("address", "delete", "10.10.0.7/24", "dev", "net1")
        made.check_fails("vlan")


@pytest.mark.uml
def test_ipvlan_shares_the_mac_of_its_master(site: Site) -> None:
    plugin = {
        "type": "ipvlan",
        "master": "ens4",
        "ipam": site.host_local("10.9.0.0/24", rangeStart="10.9.0.7"),
    }
    with attached(site, plugin) as made:
        assert made.addresses == ["10.9.0.7/24"]
        mac = site.host.links()["ens4"]["address"]
        assert site.pod.links()["net1"]["address"] == mac
        wait_until(lambda: site.pod.ping("10.9.0.1"), what="the neighbour to answer")


@pytest.mark.uml
def test_vrf_puts_the_interface_into_its_table_and_goes_with_the_last_one(site: Site) -> None:
    need("link:vrf")
    bridge = {"type": "bridge", "bridge": "br0", "ipam": site.host_local("10.77.0.0/24")}
    # As with sbr: the routes that the bridge's CHECK looks for are in another table then.
    vrf = {"type": "vrf", "vrfname": "red"}
    chain = nad(bridge, vrf, cniVersion="1.0.0", disableCheck=True)
    with attached(site, conf=site.delegates.render(chain)) as made:
        made.second_alone.check()
        assert site.pod.links()["net1"]["master"] == "red"
    assert "red" not in site.pod.links()

"""The plugins under test: ours before a running node daemon, Debian's, and whichever was named."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Final

from conformance.driver import Sandbox, Subject
from conformance.verdicts import Kind
from support.netns import Namespace, Namespaces
from support.node import Nodes, cluster_network, pod_manifest
from support.processes import Daemons
from support.requirements import CNI_PLUGINS, Requirement, need, skip_for
from support.shims import make_shim

OURS: Final = ("danmpy-python", "danmpy-native")
REFERENCE: Final = (
    "bridge",
    "macvlan",
    "ptp",
    "loopback",
    "host-local",
    "static",
    "tuning",
    "portmap",
    "firewall",
    "sbr",
    "bandwidth",
    "host-device",
    "ipvlan",
    "vlan",
    "vrf",
    "dhcp",
)

KINDS: Final = {
    **dict.fromkeys((*OURS, *REFERENCE), Kind.INTERFACE),
    **dict.fromkeys(("host-local", "static", "dhcp"), Kind.IPAM),
    **dict.fromkeys(
        ("tuning", "portmap", "firewall", "sbr", "bandwidth", "vrf"),
        Kind.CHAINED,
    ),
}

LINKS: Final = {"ipvlan": "ipvlan", "vlan": "vlan", "vrf": "vrf", "bandwidth": "ifb"}
"""The kind of link that a reference plugin makes, where not every kernel has it."""

POOL: Final = 5
"""Containers that fit into the addresses of the reference plugins."""

Open = Callable[[str, Path, ExitStack], Subject]

_numbers = count(1)


def make_host(stack: ExitStack) -> tuple[Namespace, Namespaces]:
    """A namespace that stands for a host with the NIC ens4; it goes when `stack` is closed."""
    need("namespaces")
    namespaces = Namespaces()
    stack.callback(namespaces.close)
    host = namespaces.make("host")
    host.batch(
        "link add ens4 type veth peer name far4",
        "address add 192.0.2.1/24 dev ens4",
        "address add 2001:db8:feed::1/64 dev ens4 nodad",
        "link set ens4 up",
        "link set far4 up",
    )
    return host, namespaces


def open_ours(name: str, folder: Path, stack: ExitStack) -> Subject:
    """Our plugin, by the shim of that name, in front of a node daemon with a small network."""
    host, namespaces = make_host(stack)
    daemons = Daemons(folder)
    stack.callback(daemons.close)
    settings = {"DANMPY_IPAM__COOLDOWN_SECONDS": "0"}
    node = Nodes(folder, namespaces, daemons).make("node-a", host, settings=settings)
    node.write(
        "network.yaml",
        cluster_network(
            "net",
            host_device="ens4",
            vxlan=900,
            cidr="10.20.0.0/29",
            net6="fd00:20::/64",
            allocation_pool={"start": "10.20.0.2", "end": "10.20.0.6"},
            gateway="10.20.0.1",
            routes={"10.88.0.0/16": "10.20.0.1"},
        ),
    )
    node.start()

    def declare(sandbox: Sandbox) -> str:
        pod = sandbox.container_id
        wanted = {"clusterNetwork": "net", "ip": "dynamic", "ip6": "dynamic"}
        node.write(f"{pod}.yaml", pod_manifest("blue", pod, wanted))
        words = ("IgnoreUnknown=1", "K8S_POD_NAMESPACE=blue", f"K8S_POD_NAME={pod}")
        return ";".join((*words, f"K8S_POD_INFRA_CONTAINER_ID={pod}"))

    return Subject(
        name=name,
        path=make_shim(name.removeprefix("danmpy-"), folder / "shim"),
        config={"name": "danmpy", "type": "danmpy-cni", "socket": str(node.socket)},
        host=host,
        pool=5,
        once=True,
        declare=declare,
    )


def open_reference(name: str, folder: Path, stack: ExitStack) -> Subject:
    """Debian's plugin of that name."""
    need("cni-plugins", *(f"link:{kind}" for plugin, kind in LINKS.items() if plugin == name))
    if name in {"portmap", "firewall"} and shutil.which("iptables") is None:
        skip_for(
            Requirement(name="iptables", met=lambda: False, remedy="install Debian's iptables")
        )
    host, _ = make_host(stack)
    more = reference_config(name, folder)
    subject = Subject(
        name=name,
        path=CNI_PLUGINS / name,
        config={"name": "conformance", "type": name, **more},
        host=host,
        kind=KINDS[name],
        ifname="lo" if name == "loopback" else "eth0",
        makes_link=name not in {"loopback", "static"},
        leases=folder / "leases",
        pool=POOL if more.get("ipam", {}).get("type") == "host-local" else 0,
    )
    match name:
        case "host-device":
            return replace(subject, declare=functools.partial(give_device, host))
        case "vlan":
            return replace(subject, declare=give_vlan)
        case "dhcp":
            serve_dhcp(host, folder, stack)
            return replace(subject, declare=functools.partial(give_wire, host))
    return subject


def reference_config(name: str, folder: Path) -> dict[str, Any]:
    """What Debian's plugin of that name has to be told."""
    pool = {
        "type": "host-local",
        "dataDir": str(folder / "leases"),
        "ranges": [[{"subnet": "10.88.0.0/29"}]],
        "routes": [{"dst": "10.99.0.0/16", "gw": "10.88.0.1"}],
    }
    fixed = {"type": "static", "addresses": [{"address": "10.88.1.2/24", "gateway": "10.88.1.1"}]}
    mappings = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    rate, burst = 8_000_000, 800_000
    more: dict[str, dict[str, Any]] = {
        "bridge": {"bridge": "cni0", "isGateway": True, "ipam": pool},
        "macvlan": {"master": "ens4", "ipam": pool},
        "ipvlan": {"master": "ens4", "ipam": pool},
        "vlan": {"master": "ens4", "vlanId": 2, "ipam": pool},
        "ptp": {"ipam": pool},
        "host-device": {"device": "ens5", "ipam": pool},
        "host-local": {"ipam": pool},
        "static": {"ipam": fixed},
        "dhcp": {"ipam": {"type": "dhcp", "daemonSocketPath": str(folder / "dhcp.sock")}},
        "tuning": {"mtu": 1400},
        "portmap": {
            "capabilities": {"portMappings": True},
            "runtimeConfig": {"portMappings": mappings},
        },
        "firewall": {"backend": "iptables"},
        "bandwidth": {
            "ingressRate": rate,
            "ingressBurst": burst,
            "egressRate": rate,
            "egressBurst": burst,
        },
        "vrf": {"vrfname": "blue"},
    }
    return more.get(name, {})


def give_device(host: Namespace, sandbox: Sandbox) -> str:
    """A device of the host for this container alone; it goes with the container."""
    device = f"card{next(_numbers)}"
    host.batch(f"link add {device} type veth peer name of-{device} netns {sandbox.netns.name}")
    sandbox.config["device"] = device
    return "IgnoreUnknown=1"


def give_vlan(sandbox: Sandbox) -> str:
    """A VLAN for this container alone: a master has each id once."""
    sandbox.config["vlanId"] = 100 + next(_numbers)
    return "IgnoreUnknown=1"


def give_wire(host: Namespace, sandbox: Sandbox) -> str:
    """An interface at the bridge of the DHCP server."""
    port = f"wire{next(_numbers)}"
    host.batch(
        f"link add {port} type veth peer name {sandbox.ifname} netns {sandbox.netns.name}",
        f"link set {port} master lan0",
        f"link set {port} up",
    )
    sandbox.netns.ip("link", "set", sandbox.ifname, "up")
    return "IgnoreUnknown=1"


def serve_dhcp(host: Namespace, folder: Path, stack: ExitStack) -> None:
    """A DHCP server on the host's bridge lan0, and the daemon that the plugin dhcp asks."""
    need("dnsmasq")
    host.batch("link add lan0 type bridge", "address add 10.88.2.1/24 dev lan0", "link set lan0 up")
    daemons = Daemons(folder)
    stack.callback(daemons.close)
    served = folder / "served"
    daemons.make(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping"),
        *("--interface=lan0", "--bind-interfaces", "--dhcp-authoritative", "--user=root"),
        *("--pid-file=", f"--dhcp-leasefile={served}", "--log-facility=-"),
        "--dhcp-range=10.88.2.2,10.88.2.200,255.255.255.0,1h",
        name="dnsmasq",
        namespace=host,
    ).start(ready=served.exists)
    socket = folder / "dhcp.sock"
    daemons.make(
        *(str(CNI_PLUGINS / "dhcp"), "daemon", "-socketpath", str(socket)),
        *("-timeout", "1s", "-resendmax", "1s"),
        name="dhcp",
    ).start(ready=socket.exists)


def open_named(plugin: Path, config: Path, kind: Kind) -> Open:
    """The plugin of the command line: `config` is a plugin object, or a list with one plugin."""

    def open_it(name: str, _folder: Path, stack: ExitStack) -> Subject:
        host, _ = make_host(stack)
        found = json.loads(config.read_text())
        listed = found.pop("plugins", [{}])
        if len(listed) != 1:
            raise ValueError(f"{config} has {len(listed)} plugins: name one, as a list of one")
        merged = {"type": plugin.name, **found, **listed[0]}
        for key in ("cniVersion", "cniVersions", "disableCheck", "disableGC"):
            merged.pop(key, None)
        return Subject(
            name=name,
            path=plugin.resolve(),
            config=merged,
            host=host,
            kind=kind,
            cni_path=f"{plugin.resolve().parent}:{CNI_PLUGINS}",
            declare=lambda sandbox: (
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;"
                f"K8S_POD_NAME={sandbox.container_id};"
                f"K8S_POD_INFRA_CONTAINER_ID={sandbox.container_id}"
            ),
        )

    return open_it


def reference_release() -> str:
    """The release of Debian's package of reference plugins; empty when they came another way."""
    argv = ["dpkg-query", "--show", "--showformat", "${Version}", "containernetworking-plugins"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    found = re.match(r"\d+\.\d+\.\d+", done.stdout)
    return found[0] if found else ""

"""`make demo`: the main job on one machine, every claim checked.

Two nodes, tenants blue and red with the same subnet on VNIs of their own, a network that both may
use, pods with up to three interfaces; traffic inside the tenants, none between them; then the
question who held an address. Exit status 0 only if everything that it says was seen to be so.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from lab import NODES, PARENT, UNDERLAY_MTU, Lab, LabError, run

OVERHEAD = 50
ICMP_AND_IP = 28
STATIC6 = "fd00:beef::42"

TENANTS = """\
apiVersion: danm.k8s.io/v1
kind: TenantConfig
metadata: {name: tenants}
hostDevices:
- {name: ens4, vniType: vxlan, vniRange: 700-799}
"""

NETWORK = """\
---
apiVersion: danm.k8s.io/v1
kind: TenantNetwork
metadata: {name: internal, namespace: %(tenant)s}
spec:
  NetworkID: %(tenant)s-int
  NetworkType: macvlan
  Options:
    cidr: 10.10.0.0/24
    allocation_pool: {start: 10.10.0.10, end: 10.10.0.200}
    net6: fd00:10::/64
    container_prefix: int
"""

STORAGE = """\
---
apiVersion: danm.k8s.io/v1
kind: TenantNetwork
metadata: {name: storage, namespace: blue}
spec:
  NetworkID: blue-sto
  NetworkType: macvlan
  Options:
    net6: fd00:beef::/64
    container_prefix: sto
"""

SHARED = """\
---
apiVersion: danm.k8s.io/v1
kind: ClusterNetwork
metadata: {name: shared}
spec:
  NetworkID: shared
  NetworkType: macvlan
  AllowedTenants: [blue, red]
  Options:
    host_device: ens4
    vxlan: 900
    cidr: 172.16.0.0/24
    container_prefix: ext
"""

POD = """\
---
apiVersion: v1
kind: Pod
metadata:
  name: %(name)s
  namespace: %(namespace)s
  uid: %(namespace)s-%(name)s-uid
  annotations:
    danm.k8s.io/interfaces: |
      [%(entries)s]
spec: {nodeName: %(node)s}
"""

INTERNAL = '{"tenantNetwork": "internal", "ip": "dynamic", "ip6": "dynamic"}'
EXTERNAL = '{"clusterNetwork": "shared", "ip": "dynamic"}'
STORED = '{"tenantNetwork": "storage", "ip6": "%s"}'

PODS = {
    ("blue", "db"): ("node-a", (INTERNAL, EXTERNAL, STORED % STATIC6)),
    ("blue", "web"): ("node-b", (INTERNAL, EXTERNAL, STORED % "dynamic")),
    ("red", "db"): ("node-a", (INTERNAL,)),
    ("red", "web"): ("node-b", (INTERNAL, EXTERNAL)),
}


class Demo:
    """The story; `failures` are the claims that did not hold."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.failures: list[str] = []
        self.results: dict[tuple[str, str], dict[str, Any]] = {}

    def title(self, text: str) -> None:
        """Begin a chapter."""
        print(f"\n== {text}", flush=True)

    def claim(self, text: str, holds: bool, why: str = "") -> None:
        """Print and remember whether a claim holds."""
        print(f"  [{'ok' if holds else 'FAILED'}] {text}", flush=True)
        if not holds:
            self.failures.append(text)
            if why:
                print("    " + why.strip().replace("\n", "\n    "), flush=True)

    def declare(self) -> None:
        """Tenant admins declare networks; each file is replaced by rename."""
        self.title("Tenant admins declare networks, the cluster admin a shared one")
        networks = [NETWORK % {"tenant": tenant} for tenant in ("blue", "red")]
        self.write("tenants.yaml", TENANTS)
        self.write("nodes.yaml", "".join(node_document(n, a) for n, a in NODES.items()))
        self.write("networks.yaml", "".join([*networks, STORAGE, SHARED]))
        for node in NODES:
            seconds = self.lab.wait_for(
                f"the devices on {node}", lambda n=node: len(self.devices(n)) == 4
            )
            print(f"  {node}: {', '.join(sorted(self.devices(node)))} after {seconds:.1f} s")
        print(self.lab.cli("networks"))

    def write(self, name: str, text: str) -> None:
        """Replace a file of the intent folder."""
        temporary = self.lab.intent / f".{name}"
        temporary.write_text(text)
        temporary.replace(self.lab.intent / name)

    def devices(self, node: str) -> list[str]:
        """VXLAN devices that are up on a node."""
        shown = run("ip", "-br", "-n", self.lab.netns(node), "link", "show", "type", "vxlan").stdout
        return [line.split()[0] for line in shown.splitlines() if "UP" in line]

    def attach(self) -> None:
        """Pods declare interfaces; the runtime calls the CNI plugin."""
        self.title("Pods declare interfaces and are attached through the CNI plugin")
        for (namespace, name), (node, entries) in PODS.items():
            values = {"name": name, "namespace": namespace, "node": node}
            text = POD % {**values, "entries": ", ".join(entries)}
            self.write(f"pod-{namespace}-{name}.yaml", text)
        for (namespace, name), (node, entries) in PODS.items():
            began = time.monotonic()
            result = self.lab.add_pod(namespace, name, node)
            took = (time.monotonic() - began) * 1000
            self.results[namespace, name] = result
            addresses = ", ".join(address(result, n) for n in range(len(result["ips"])))
            print(f"  {namespace}/{name} on {node} in {took:.0f} ms: {addresses}")
            made = [link["name"] for link in result["interfaces"]]
            self.claim(
                f"{namespace}/{name} has {len(entries)} interface(s), eth0 first",
                len(made) == len(entries) and made[0] == "eth0",
                str(made),
            )
        self.claim(
            f"blue/db has the static address {STATIC6}",
            STATIC6 in [address(self.results["blue", "db"], n) for n in range(4)],
        )
        print(self.lab.cli("explain", "blue/db"))

    def address_of(self, pod: tuple[str, str], interface: str, version: int) -> str:
        """The address of one family on one interface."""
        result = self.results[pod]
        names = [link["name"] for link in result["interfaces"]]
        for number, entry in enumerate(result["ips"]):
            text = address(result, number)
            if names[entry["interface"]] == interface and (":" in text) == (version == 6):
                return text
        raise LabError(f"{pod} has no IPv{version} address on {interface}")

    def traffic(self) -> None:
        """Traffic inside each tenant, also with full frames."""
        self.title("Traffic inside each tenant crosses the nodes, also with full frames")
        full = UNDERLAY_MTU - OVERHEAD - ICMP_AND_IP
        for tenant in ("blue", "red"):
            for version in (4, 6):
                target = self.address_of((tenant, "web"), "eth0", version)
                for size in (56, full if version == 4 else full - 20):
                    done = self.ping((tenant, "db"), target, size)
                    self.claim(f"{tenant}/db reaches {tenant}/web at {target}, {size} bytes", done)
        self.claim(
            "blue/web reaches blue/db at its static address",
            self.ping(("blue", "web"), STATIC6, 56),
        )
        shared = self.address_of(("red", "web"), "ext1", 4)
        self.claim(
            f"blue/db reaches red/web at {shared} on the network that both may use",
            self.ping(("blue", "db"), shared, 56),
        )

    def ping(self, pod: tuple[str, str], target: str, size: int) -> bool:
        """Three echo requests that must not be fragmented."""
        command = ("ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", "-M", "do", "-s", str(size))
        return self.lab.inside(*pod, *command, target).returncode == 0

    def apart(self) -> None:
        """No frame of one tenant is seen by the other."""
        self.title("Blue and red have the same addresses and never meet")
        same = self.address_of(("blue", "web"), "eth0", 4)
        twin = self.address_of(("red", "web"), "eth0", 4)
        self.claim(f"blue/web and red/web both have {same}", same == twin)
        blue = self.macs(("blue", "db"), ("blue", "web"))
        red_pod = self.lab.netns("red-web")
        with self.lab.capture(red_pod, "eth0") as frames:
            self.ping(("blue", "db"), same, 56)
            self.ping(("blue", "db"), "10.10.0.199", 56)  # nobody: ARP goes to the whole segment
            self.ping(("red", "db"), same, 56)
        self.claim(
            f"red/web's interface saw red's frames ({len(frames)}) while both tenants talked",
            any(mac in line for line in frames for mac in self.macs(("red", "db"))),
        )
        leaked = [line for line in frames if any(mac in line for mac in blue)]
        self.claim("and not one of blue's", not leaked, "\n".join(leaked[:5]))
        neighbours = self.lab.inside("red", "web", "ip", "neigh", "show", "dev", "eth0").stdout
        self.claim(
            "red/web's neighbour table holds no MAC of blue",
            not any(mac in neighbours for mac in blue),
            neighbours,
        )

    def macs(self, *pods: tuple[str, str]) -> set[str]:
        """The MACs of the first interfaces of pods."""
        return {self.results[pod]["interfaces"][0]["mac"] for pod in pods}

    def remove(self) -> str:
        """Remove the pods; the moment just before."""
        self.title("The pods are deleted")
        before = datetime.now(UTC).isoformat()
        for (namespace, name), (node, _) in PODS.items():
            self.lab.delete_pod(namespace, name, node)
            (self.lab.intent / f"pod-{namespace}-{name}.yaml").unlink()
            links = self.lab.inside(namespace, name, "ip", "-br", "link").stdout.split("\n")
            left = [line for line in links if line and not line.startswith("lo")]
            self.claim(f"{namespace}/{name} has no interface left", not left, str(left))
        return before

    def audit(self, before: str) -> None:
        """Who held the address a moment ago."""
        target = self.address_of(("blue", "web"), "eth0", 4)
        network = "TenantNetwork/blue/internal"
        self.title(f"Who held {target} on {network} a moment ago?")
        then = self.lab.ask("audit", "who", target, "--network", network, "--at", before)
        holder = then["holder"] or {}
        self.claim(
            f"at {before}: blue/web, interface eth0, on node-b",
            (holder.get("namespace"), holder.get("pod"), holder.get("interface"))
            == ("blue", "web", "eth0")
            and holder.get("node") == "node-b",
            str(then),
        )
        now = self.lab.ask("audit", "who", target, "--network", network)
        self.claim(
            "now: nobody, and the last holder is blue/web",
            now["holder"] is None and (now["previous"] or {}).get("pod") == "web",
            str(now),
        )
        usage = self.lab.ask("audit", "usage")["items"]
        held = sum(row[family]["held"] for row in usage for family in ("v4", "v6") if row[family])
        self.claim("no address is held any more", held == 0, str(usage))
        print(self.lab.cli("audit", "history", "--network", network))
        print(self.lab.cli("audit", "usage"))
        print(self.lab.cli("audit", "verify"))

    def withdraw(self) -> None:
        """Without networks there are no devices."""
        self.title("The networks are withdrawn")
        (self.lab.intent / "networks.yaml").unlink()
        for node in NODES:
            self.lab.wait_for(f"the devices of {node} to go", lambda n=node: not self.devices(n))
            self.claim(f"{node} has no VXLAN device left", not self.devices(node))

    def play(self) -> None:
        """All of it, in order."""
        self.title("Two nodes come up, each with a danmpy node daemon")
        self.lab.build()
        self.lab.start_daemons()
        self.declare()
        self.attach()
        self.traffic()
        self.apart()
        before = self.remove()
        self.audit(before)
        self.withdraw()


def node_document(name: str, vtep: str) -> str:
    """A Node of the intent folder, which says where its tunnels end."""
    return (
        "---\napiVersion: v1\nkind: Node\nmetadata:\n"
        f"  name: {name}\n  annotations:\n"
        f'    danm.k8s.io/vteps: \'{{"{PARENT}": "{vtep}"}}\'\n'
    )


def address(result: dict[str, Any], number: int) -> str:
    """The address of one entry of a CNI result, without its prefix length."""
    entries = result["ips"]
    return str(entries[number]["address"]).partition("/")[0] if number < len(entries) else ""


def report(failures: Iterable[str]) -> int:
    """The last words and the exit status."""
    wrong = list(failures)
    if wrong:
        print(f"\n{len(wrong)} claim(s) did not hold:", *wrong, sep="\n  - ")
        return 1
    print("\nEvery claim above was checked and holds.")
    return 0


def main() -> int:
    """Play the demo and clean up."""
    if os.geteuid() != 0:
        print("the demo makes network namespaces and needs root", file=sys.stderr)
        return 3
    lab = Lab()
    demo = Demo(lab)
    try:
        demo.play()
    except (LabError, KeyboardInterrupt) as error:
        demo.failures.append(str(error) or "interrupted")
    finally:
        lab.close()
    return report(demo.failures)


if __name__ == "__main__":
    sys.exit(main())

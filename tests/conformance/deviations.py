"""What is known of the plugins under test: where the reference plugins deviate, and why.

A deviation that vanishes fails the tests as one that appears does: so the table stays true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RELEASE: Final = "1.1.1"
"""Of the reference plugins that were looked at."""

EVERY: Final = (
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """These checks fail for these plugins; what was found contains `says`."""

    plugins: tuple[str, ...]
    checks: tuple[str, ...]
    says: str
    why: str


DEVIATIONS: Final = (
    Known(
        plugins=EVERY,
        checks=("upkeep-too-early",),
        says="has code 3 instead of 4",
        why="the library of CNI 1.0 knows neither GC nor STATUS, and looks at the container id "
        "before it looks at the verb",
    ),
    Known(
        plugins=EVERY,
        checks=("illegal-are-named",),
        says="CNI_CONTAINERID not in the message",
        why="the library says what is wrong with the container id, not which variable has it",
    ),
    Known(
        plugins=EVERY,
        checks=("error-version",),
        says="cniVersion None",
        why="the library of CNI 1.0 writes errors without cniVersion",
    ),
    Known(
        plugins=("loopback",),
        checks=("result-shape-0.1.0", "result-shape-0.2.0"),
        says="neither ip4 nor ip6",
        why="it prints the result of 1.0.0 under whichever version was asked",
    ),
    Known(
        plugins=("loopback",),
        checks=("result-shape-0.3.0", "result-shape-0.3.1", "result-shape-0.4.0"),
        says="version None",
        why="it prints the result of 1.0.0 under whichever version was asked",
    ),
    Known(
        plugins=("loopback",),
        checks=("check-without-result", "check-address-gone"),
        says="succeeded",
        why="its CHECK looks only whether lo is up",
    ),
    Known(
        plugins=("host-local",),
        checks=("check-without-result",),
        says="succeeded",
        why="its CHECK looks only into its own lease files",
    ),
    Known(
        plugins=("ptp",),
        checks=("add-second-interface",),
        says="file exists",
        why="both interfaces want the same route to the gateway",
    ),
    Known(
        plugins=("bridge", "macvlan", "ptp", "host-device", "ipvlan", "vlan"),
        checks=("prev-result-extended",),
        says="net0 not in the result",
        why="it takes itself for the first plugin of a list, and drops prevResult",
    ),
    Known(
        plugins=("portmap",),
        checks=("check-silent-0.4.0", "check-silent-1.0.0"),
        says="could not check ipv6 dnat",
        why="its CHECK looks for the rules of IPv6 though the container has IPv4 alone",
    ),
    Known(
        plugins=("sbr",),
        checks=("del-vanished", "del-stranger-nowhere"),
        says="unknown FS magic",
        why="its DEL wants the namespace to be there",
    ),
    Known(
        plugins=("sbr",),
        checks=("del-without-netns",),
        says="no such file or directory",
        why="its DEL wants the namespace to be there",
    ),
    Known(
        plugins=("sbr",),
        checks=("add-again",),
        says="file exists",
        why="its DEL leaves the routes, which are gone only with the interface",
    ),
    Known(
        plugins=("sbr",),
        checks=("check-without-result",),
        says="succeeded",
        why="its CHECK looks at nothing",
    ),
    Known(
        plugins=("bandwidth",),
        checks=("add-again",),
        says="file exists",
        why="its DEL leaves the queue at the host's end, which is gone only with the interface",
    ),
    Known(
        plugins=("host-device",),
        checks=("ifname-taken",),
        says="now there are",
        why="a device that cannot get its name stays in the container",
    ),
    Known(
        plugins=("ipvlan", "vlan"),
        checks=("ifname-taken",),
        says="now there are",
        why="a link that cannot get its name stays in the container",
    ),
    Known(
        plugins=("host-device",),
        checks=("failed-add-leaves-no-link",),
        says="the name taken: the host has [] too much and lacks",
        why="a device that cannot get its name stays in the container",
    ),
    Known(
        plugins=("host-device",),
        checks=("del-twice", "del-stranger"),
        says="Link not found",
        why="its DEL wants the interface to be there",
    ),
    Known(
        plugins=("host-device",),
        checks=("del-vanished", "del-stranger-nowhere", "del-vanished-frees"),
        says="failed to open netns",
        why="its DEL wants the namespace to be there",
    ),
    Known(
        plugins=("host-device",),
        checks=("del-bare-frees",),
        says="no IP addresses available",
        why="its DEL without CNI_NETNS does nothing, and does not ask its IPAM plugin either",
    ),
    Known(
        plugins=("dhcp",),
        checks=("check-without-result", "check-after-del", "check-stranger"),
        says="succeeded",
        why="its CHECK asks the server for a lease, whether there was one or not",
    ),
)

OURS_NOT_APPLICABLE: Final = {
    **{
        f"{name}-{version}": f"{version} is not claimed"
        for name in ("result-shape", "result-true", "del-clean")
        for version in ("0.1.0", "0.2.0")
    },
    "host-interfaces-true": "its result has no interface of the host",
    "add-second-interface": "one ADD makes all interfaces of a container",
}
"""All that our own plugin cannot be asked: a longer list would be a weaker promise."""


def known(plugin: str, check: str) -> Known | None:
    """What is recorded of this plugin at this check."""
    for each in DEVIATIONS:
        if plugin in each.plugins and check in each.checks:
            return each
    return None

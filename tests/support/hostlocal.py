"""The real CNI plugin host-local in a folder of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from support.requirements import CNI_PLUGINS

RANGES = [
    [{"subnet": "172.16.0.0/24", "rangeStart": "172.16.0.50"}],
    [{"subnet": "fd00:16::/64", "rangeStart": "fd00:16::50"}],
]


def run(command: str, folder: Path, network: str, container: str, interface: str) -> str:
    """Call the plugin; what it printed."""
    conf = {
        "cniVersion": "0.4.0",
        "name": network,
        "type": "macvlan",
        "ipam": {"type": "host-local", "dataDir": str(folder), "ranges": RANGES},
    }
    done = subprocess.run(
        [CNI_PLUGINS / "host-local"],
        input=json.dumps(conf),
        text=True,
        capture_output=True,
        check=True,
        env={
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": "/proc/self/ns/net",
            "CNI_IFNAME": interface,
            "CNI_PATH": str(CNI_PLUGINS),
        },
    )
    return done.stdout


def add(folder: Path, network: str, container: str, interface: str) -> list[str]:
    """Let it hand out addresses: their texts."""
    answer = json.loads(run("ADD", folder, network, container, interface))
    return [item["address"].partition("/")[0] for item in answer["ips"]]

"""Virtual functions without the hardware: links of the host that a plugin like sriov moves.

The id of a device is the name of its link, or begins with ``vfio``: then there is no link.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.netns import run

PLUGIN = """#!/usr/bin/python3 -IS
import json, os, subprocess, sys
environ, conf = os.environ, json.load(sys.stdin)
verb, device = environ["CNI_COMMAND"], conf.get("deviceID", "")
with open(os.path.join(os.path.dirname(__file__), "calls"), "a") as calls:
    calls.write(json.dumps({"verb": verb, "conf": conf}) + "\\n")
def ip(*words, inside=False):
    enter = ["nsenter", "--net=" + environ["CNI_NETNS"]] if inside else []
    return subprocess.run(enter + ["ip", *words], check=True, capture_output=True, text=True).stdout
name = environ.get("CNI_IFNAME")
given = [each["address"] for each in conf.get("ipam", {}).get("addresses", [])]
if verb == "VERSION":
    print(json.dumps({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}))
elif verb == "ADD":
    answer = {"cniVersion": conf["cniVersion"], "ips": [{"address": each} for each in given]}
    if file := conf.get("runtimeConfig", {}).get("CNIDeviceInfoFile"):
        said = json.load(open(file))
        said["pci"]["representor-device"] = "rep0"
        json.dump(said, open(file, "w"))
    if not device.startswith("vfio"):
        ip("link", "set", device, "netns", environ["CNI_NETNS"], "name", name)
        for each in given:
            ip("address", "add", each, "dev", name, inside=True)
        ip("link", "set", name, "up", inside=True)
        (link,) = json.loads(ip("-j", "link", "show", name, inside=True))
        own = {"name": name, "mac": link["address"], "sandbox": environ["CNI_NETNS"]}
        answer["interfaces"] = [own]
        for each in answer["ips"]:
            each["interface"] = 0
    print(json.dumps(answer))
elif verb == "DEL" and environ.get("CNI_NETNS") and not device.startswith("vfio"):
    try:
        ip("link", "set", name, "netns", str(os.getpid()), "name", device, inside=True)
    except subprocess.CalledProcessError:
        pass
"""


def install(bin_dir: Path, name: str = "sriov") -> None:
    """Put the plugin there."""
    path = bin_dir / name
    path.write_text(PLUGIN)
    path.chmod(0o755)


def calls(bin_dir: Path, verb: str) -> list[dict[str, Any]]:
    """What the plugin was told, call by call."""
    lines = (bin_dir / "calls").read_text().splitlines()
    return [call for line in lines if (call := json.loads(line))["verb"] == verb]


@contextmanager
def functions(count: int) -> Iterator[list[str]]:
    """Links that play virtual functions, and their names, which are their ids."""
    names = [f"dtv{os.getpid()}-{number}" for number in range(count)]
    try:
        for name in names:
            run("ip", "link", "delete", name, check=False)
            run("ip", "link", "add", name, "type", "veth", "peer", "name", name.replace("v", "w"))
        yield names
    finally:
        for name in names:
            run("ip", "link", "delete", name.replace("v", "w"), check=False)

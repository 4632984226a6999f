"""The network interface of a device, as sysfs shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from danmpy.errors import HostError
from danmpy.kernel.pcidevices import raise_link, read_netdev
from support.functions import functions
from support.netns import run

RESOURCE = "vendor/vf"


def on_bus(sys: Path, bus: str, device: str, *links: str) -> None:
    folder = sys / "bus" / bus / "devices" / device
    folder.mkdir(parents=True)
    for link in links:
        (folder / "net" / link).mkdir(parents=True)


def test_a_virtual_function_is_the_link_that_hangs_on_its_pci_address(tmp_path: Path) -> None:
    on_bus(tmp_path, "pci", "0000:3b:02.1", "ens4v1")
    assert read_netdev("0000:3b:02.1", RESOURCE, tmp_path) == "ens4v1"


def test_a_scalable_function_is_found_on_its_own_bus(tmp_path: Path) -> None:
    on_bus(tmp_path, "auxiliary", "mlx5_core.sf.4", "enp3s0f0s88")
    assert read_netdev("mlx5_core.sf.4", RESOURCE, tmp_path) == "enp3s0f0s88"


def test_an_id_may_be_the_name_of_a_link_of_this_host() -> None:
    assert read_netdev("lo", RESOURCE) == "lo"


def test_a_device_without_a_link_is_named(tmp_path: Path) -> None:
    on_bus(tmp_path, "pci", "0000:3b:02.2")  # bound to vfio-pci
    with pytest.raises(HostError, match=r"0000:3b:02\.2 has no network interface") as caught:
        read_netdev("0000:3b:02.2", RESOURCE, tmp_path)
    assert caught.value.subject == RESOURCE


@pytest.mark.parametrize("device", ["", ".", "..", "../net/lo", "lo/statistics"])
def test_what_is_no_single_name_is_looked_for_nowhere(device: str) -> None:
    with pytest.raises(HostError):
        read_netdev(device, RESOURCE)


def test_a_link_that_a_device_plugin_left_down_is_set_up() -> None:
    with functions(1) as (name,):
        for _ in range(2):
            raise_link(name)
            (link,) = json.loads(run("ip", "-j", "link", "show", name).stdout)
            assert "UP" in link["flags"]


def test_a_link_that_is_gone_cannot_be_set_up() -> None:
    with pytest.raises(HostError, match="cannot set link dtnone up"):
        raise_link("dtnone")

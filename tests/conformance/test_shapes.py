"""The shapes of results: sound ones of every version, and what is wrong with others."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.shapes import addresses, problems
from conformance.verdicts import VERSIONS, Kind, version_key

ROUTE = {"dst": "10.2.0.0/16", "gw": "10.1.0.1"}


def sound(version: str) -> dict[str, Any]:
    """A result of `version` with everything in it."""
    key = version_key(version)
    dns = {"nameservers": ["10.1.0.53"], "domain": "example.org", "search": [], "options": []}
    if key < (0, 3, 0):
        ip4 = {"ip": "10.1.0.2/24", "gateway": "10.1.0.1", "routes": [ROUTE]}
        return {"cniVersion": version, "ip4": ip4, "ip6": {"ip": "fd00::2/64"}, "dns": dns}
    link: dict[str, Any] = {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/a"}
    ip: dict[str, Any] = {"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 0}
    route: dict[str, Any] = dict(ROUTE)
    if key < (1, 0, 0):
        ip["version"] = "4"
    if key >= (1, 1, 0):
        link["mtu"] = 1500
        route |= {"table": 7, "scope": 0}
    return {"cniVersion": version, "interfaces": [link], "ips": [ip], "routes": [route], "dns": dns}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sound_result_has_no_problems(version: str) -> None:
    result = sound(version)
    assert problems(result, version, Kind.INTERFACE) == []
    assert "10.1.0.2/24" in addresses(result)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("other", VERSIONS)
def test_a_result_of_another_version_has_problems(version: str, other: str) -> None:
    found = problems({**sound(other), "cniVersion": other}, version, Kind.INTERFACE)
    assert bool(found) is (version != other)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"interfaces": []}, "no interfaces"),
        ({"interfaces": [{"mac": "02:00:00:00:00:01"}]}, "without name"),
        ({"interfaces": [{"name": "eth0", "mtu": "big"}]}, "mtu 'big'"),
        ({"interfaces": [{"name": "eth0", "speed": 1}]}, "speed"),
        ({"ips": [{"address": "10.1.0.2", "interface": 0}]}, "without prefix length"),
        ({"ips": [{"address": "10.1.0.2/24", "interface": 1}]}, "interface 1 of 1"),
        ({"ips": [{"address": "10.1.0.2/24", "interface": -1}]}, "interface -1 of 1"),
        ({"ips": [{"address": "10.1.0.2/24"}]}, "without interface"),
        ({"ips": [{"address": "10.1.0.2/24", "interface": 0, "version": "4"}]}, "version"),
        ({"ips": [{"address": "10.1.0.2/24", "interface": 0, "gateway": "fd00::1"}]}, "gateway"),
        ({"ips": [{"address": "somewhere", "interface": 0}]}, "somewhere"),
        ({"ips": {"address": "10.1.0.2/24"}}, "Error"),
        ({"routes": [{"gw": "10.1.0.1"}]}, "dst"),
        ({"routes": [{"dst": "10.2.0.0/16", "dev": "eth0"}]}, "dev"),
        ({"dns": {"servers": []}}, "servers"),
        ({"colour": "blue"}, "colour"),
    ],
    ids=str,
)
def test_each_problem_is_named(change: dict[str, Any], word: str) -> None:
    found = problems({**sound("1.1.0"), **change}, "1.1.0", Kind.INTERFACE)
    assert any(word in each for each in found), found


def test_an_ipam_plugin_knows_no_interfaces() -> None:
    found = problems(sound("1.1.0"), "1.1.0", Kind.IPAM)
    assert len(found) == 2
    assert all("an IPAM plugin knows no interface" in each for each in found)

"""What claims are told, worked out."""

from __future__ import annotations

from typing import Any

from danmpy.attach.values import ClaimedDevice
from danmpy.mirrors.claim_status import ADDRESSES_MAX, desired_devices, network_data
from danmpy.mirrors.values import InterfaceFacts
from support.specs import tenant_key

DATA: dict[str, Any] = {"interfaceName": "net1"}


def device(name: str) -> ClaimedDevice:
    return ClaimedDevice(claim="c", driver="d", pool="p", device=name)


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"driver": "d", "pool": "p", "device": name, **more}


def claim(*allocated: str, devices: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    results = [{"request": "nic", **entry(name)} for name in allocated]
    status: dict[str, Any] = {"allocation": {"devices": {"results": results}}}
    return {"status": status if devices is None else {**status, "devices": devices}}


def facts(**more: Any) -> InterfaceFacts:
    return InterfaceFacts(name="net1", network=tenant_key("ext"), **more)


def test_an_interface_is_told_with_its_addresses_and_its_mac() -> None:
    told = network_data(facts(addresses=("10.0.0.5/24", "fd00::5/64"), mac="02:00:00:00:00:01"))
    assert told == {
        "interfaceName": "net1",
        "ips": ["10.0.0.5/24", "fd00::5/64"],
        "hardwareAddress": "02:00:00:00:00:01",
    }
    assert network_data(facts()) == DATA


def test_no_more_addresses_are_told_than_the_server_takes() -> None:
    many = tuple(f"10.0.0.{number}/24" for number in range(1, 30))
    told = network_data(facts(addresses=many))["ips"]
    assert told == list(many[:ADDRESSES_MAX])
    assert ADDRESSES_MAX == 16


def test_an_allocated_device_gets_an_entry() -> None:
    assert desired_devices(claim("vf0"), {device("vf0"): DATA}) == [entry("vf0", networkData=DATA)]


def test_what_the_driver_wrote_stays() -> None:
    before = [entry("vf0", conditions=[{"type": "Ready"}]), entry("other", data={"a": 1})]
    after = desired_devices(claim("vf0", "other", devices=before), {device("vf0"): DATA})
    assert after == [{**before[0], "networkData": DATA}, before[1]]


def test_what_is_there_already_is_no_change() -> None:
    before = [entry("vf0", networkData=DATA)]
    assert desired_devices(claim("vf0", devices=before), {device("vf0"): DATA}) is None


def test_a_device_that_is_no_longer_allocated_is_not_told_of() -> None:
    assert desired_devices(claim("vf1"), {device("vf0"): DATA}) is None
    assert desired_devices({}, {device("vf0"): DATA}) is None

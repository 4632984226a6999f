"""What the status of a ResourceClaim tells of the interfaces on its devices. Pure.

Kubernetes enhancement 4817 (``status.devices`` of resource.k8s.io/v1, v1beta2 and v1beta1): one
entry for each allocated device, of which ``networkData`` is ours and all the rest is the driver's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from danmpy.attach.values import ClaimedDevice
from danmpy.mirrors.values import InterfaceFacts

Object = dict[str, Any]

ADDRESSES_MAX: Final = 16
"""k8s.io/api/resource/v1, NetworkDeviceData: at most so many ``ips``."""


def network_data(interface: InterfaceFacts) -> Object:
    """What is told of one interface."""
    data: Object = {"interfaceName": interface.name}
    if interface.addresses:
        data["ips"] = list(interface.addresses[:ADDRESSES_MAX])
    if interface.mac:
        data["hardwareAddress"] = interface.mac
    return data


def desired_devices(
    claim: Mapping[str, Any], wanted: Mapping[ClaimedDevice, Object]
) -> list[Object] | None:
    """``status.devices`` of `claim` with the data of the `wanted` devices; None: nothing changes.

    Entries of devices that are no longer allocated to the claim are not made: the server would
    refuse them, and they mean nobody.
    """
    status = claim.get("status") or {}
    results = ((status.get("allocation") or {}).get("devices") or {}).get("results") or []
    allocated = {_names(each) for each in results}
    data = {(each.driver, each.pool, each.device): told for each, told in wanted.items()}
    before: Sequence[Object] = status.get("devices") or []
    known = {_names(each) for each in before}
    after = [
        {**each, "networkData": data[_names(each)]} if _names(each) in data else each
        for each in before
    ]
    after += [
        {"driver": driver, "pool": pool, "device": device, "networkData": told}
        for (driver, pool, device), told in data.items()
        if (driver, pool, device) in allocated - known
    ]
    return after if after != list(before) else None


def _names(each: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(each.get("driver", "")), str(each.get("pool", "")), str(each.get("device", ""))

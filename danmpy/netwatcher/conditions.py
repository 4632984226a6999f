"""What a look tells people about each network. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from danmpy.api.specs import Condition, ConditionStatus, NetworkKey, NetworkKind, NetworkSpec
from danmpy.kernel.hostlinks import ChangeAltnames, ChangeFlooding
from danmpy.netwatcher.values import DEVICE_READY, PEERS_KNOWN, Desired, Reason, StepFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Conditions of all networks, and the devices of those that pods can be attached to."""

    conditions: Mapping[NetworkKey, tuple[Condition, ...]] = field(default_factory=dict)
    device_of: Mapping[NetworkKey, str] = field(default_factory=dict)


def judge_networks(
    networks: Mapping[NetworkKey, NetworkSpec],
    desired: Desired,
    failures: Iterable[StepFailure] = (),
) -> Verdict:
    """One DeviceReady condition for each network, and what else there is to say.

    A failed step stands against every network of its device; alternative names are a convenience
    and stand against none, missing tunnel ends do not keep pods of this node apart.
    """
    failed = _failures_by_network(desired, failures)
    conditions: dict[NetworkKey, tuple[Condition, ...]] = {}
    device_of: dict[NetworkKey, str] = {}
    for key, network in networks.items():
        found = (*desired.conditions.get(key, ()), *failed.get(key, ()))
        if not any(condition.type == DEVICE_READY for condition in found):
            device_of[key] = desired.device_of[key]
            found = (_ready(network, desired.device_of[key]), *found)
        conditions[key] = tuple(sorted(_one_of_a_type(found)))
    return Verdict(conditions=conditions, device_of=device_of)


def not_ready(reason: Reason, message: str) -> Condition:
    """The condition of a network that pods cannot be attached to."""
    return Condition(
        type=DEVICE_READY, status=ConditionStatus.FALSE, reason=reason, message=message
    )


def _ready(network: NetworkSpec, device: str) -> Condition:
    reason, message = Reason.READY, f"its device is {device}"
    if not device:
        reason, message = Reason.NOT_NEEDED, f"{network.backend} needs no device of this node"
        if network.key.kind is NetworkKind.NAD:
            message = "its plugins find what they need on the node by themselves"
    elif network.backend == "bridge" and network.host_device and not network.segment:
        # Enslaving a NIC takes its addresses out of use: it could cut the node off.
        message += (
            f"; host_device {network.host_device} is left alone, because a bridge would take the "
            "NIC from the node: set vlan or vxlan to connect nodes"
        )
    return Condition(type=DEVICE_READY, status=ConditionStatus.TRUE, reason=reason, message=message)


def _failures_by_network(
    desired: Desired, failures: Iterable[StepFailure]
) -> dict[NetworkKey, list[Condition]]:
    users: dict[str, set[NetworkKey]] = defaultdict(set)
    for device in desired.devices:
        users[device.name].update(device.networks)
        users[device.master].update(device.networks if device.master else ())
    for parent, keys in desired.parents.items():
        users[parent].update(keys)
    found: dict[NetworkKey, list[Condition]] = defaultdict(list)
    for failure in failures:
        match failure.step.change:
            case ChangeAltnames():
                continue
            case ChangeFlooding():
                kind = PEERS_KNOWN
            case _:
                kind = DEVICE_READY
        condition = Condition(
            type=kind,
            status=ConditionStatus.FALSE,
            reason=failure.reason,
            message=failure.message,
        )
        for key in users.get(failure.step.device, ()):
            found[key].append(condition)
    return found


def _one_of_a_type(conditions: Iterable[Condition]) -> Iterable[Condition]:
    """The first of each type: conditions are a map by type (Kubernetes API conventions)."""
    first: dict[str, Condition] = {}
    for condition in conditions:
        first.setdefault(condition.type, condition)
    return first.values()

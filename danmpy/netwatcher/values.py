"""The values of this room: devices wanted on this node, steps towards them, what a look found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from danmpy.api.limits import VXLAN_PORT
from danmpy.api.specs import Condition, IPAddress, NetworkKey, NetworkSpec, NodeSpec, SegmentKey
from danmpy.intent.values import Intent
from danmpy.kernel.hostlinks import (
    ChangeAltnames,
    ChangeFlooding,
    ChangeLink,
    CreateLink,
    HostFacts,
    LinkChange,
    RemoveLink,
    VxlanAttributes,
)

DEVICE_READY = "DeviceReady"
"""The condition type that says whether pods can be attached to a network on this node."""

PEERS_KNOWN = "PeersKnown"
"""The condition type that says whether the tunnel ends of all other nodes are known."""


class Reason(StrEnum):
    """Why a network has, or lacks, its host device on this node."""

    READY = "Ready"
    NOT_NEEDED = "NotNeeded"
    NO_HOST_DEVICE = "NoHostDevice"
    MISSING_PARENT = "MissingParent"
    NO_VTEP_ADDRESS = "NoVtepAddress"
    MTU_TOO_BIG = "MtuTooBig"
    BACKEND_CONFLICT = "BackendConflict"
    NAME_TAKEN = "NameTaken"
    VLAN_TAKEN = "VlanTaken"
    VNI_TAKEN = "VniTaken"
    MISSING_VTEP = "MissingVtep"
    KERNEL_REFUSED = "KernelRefused"
    KERNEL_MODULE_MISSING = "KernelModuleMissing"
    STORE_UNAVAILABLE = "StoreUnavailable"


class Flooding(StrEnum):
    """How frames without a known receiver reach the other ends of a VXLAN segment."""

    UNICAST = "unicast"
    MULTICAST = "multicast"


class DeviceKind(StrEnum):
    """The kinds of link that we make; the values are the kernel's words."""

    VLAN = "vlan"
    VXLAN = "vxlan"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchContext:
    """What the decision needs besides the networks.

    `conf_names` are the NetworkIDs that have a delegate configuration on this node: their
    NetworkType ``bridge`` is the CNI plugin of that name and not our own backend. `standing` are
    the networks that pods could be attached to until now: where two cannot go together, they stay.
    `in_use` are links that interfaces of pods are on: those of ours stay, whoever wants them gone,
    because the kernel takes a pod's interface away with its parent.
    """

    node_name: str
    host: HostFacts
    nodes: tuple[NodeSpec, ...] = ()
    flooding: Flooding = Flooding.UNICAST
    port: int = VXLAN_PORT
    conf_names: frozenset[str] = frozenset()
    standing: frozenset[NetworkKey] = frozenset()
    in_use: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """One link that this node should have. `mark` is its alias: whose it is and what for.

    `mtu` is in bytes. `parent` is empty for bridges, `master` is the name of our bridge or empty.
    """

    name: str
    kind: DeviceKind
    mark: str
    mtu: int
    networks: tuple[NetworkKey, ...]
    parent: str = ""
    master: str = ""
    vlan_id: int | None = None
    vxlan: VxlanAttributes | None = None
    altnames: frozenset[str] = frozenset()
    flooding: frozenset[IPAddress] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """Everything that this node should have.

    `parents` are the host devices that must be up, with the networks that need them. `marks` are
    the marks of all segments and bridges that some network asks for, also of those that cannot be
    made now: what exists for them is kept. `conditions` hold only what is wrong; `device_of` names
    the device of every network that has nothing wrong.
    """

    devices: tuple[DeviceSpec, ...] = ()
    parents: Mapping[str, tuple[NetworkKey, ...]] = field(default_factory=dict)
    marks: frozenset[str] = frozenset()
    conditions: Mapping[NetworkKey, tuple[Condition, ...]] = field(default_factory=dict)
    device_of: Mapping[NetworkKey, str] = field(default_factory=dict)
    segment_of: Mapping[NetworkKey, SegmentKey] = field(default_factory=dict)


class Action(StrEnum):
    """The verbs of a plan."""

    CREATE = "create"
    CHANGE = "change"
    ALTNAMES = "altnames"
    FLOODING = "flooding"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of one device, and why."""

    device: str
    reason: str
    change: LinkChange

    @property
    def action(self) -> Action:
        """The verb of this step."""
        match self.change:
            case CreateLink():
                return Action.CREATE
            case ChangeLink():
                return Action.CHANGE
            case ChangeAltnames():
                return Action.ALTNAMES
            case ChangeFlooding():
                return Action.FLOODING
            case RemoveLink():
                return Action.REMOVE
            case _:
                assert_never(self.change)

    @property
    def attributes(self) -> dict[str, object]:
        """What the step sets, as JSON values; what it leaves alone is left out."""
        return _attributes(self.change)

    def to_json(self) -> dict[str, object]:
        """The fields that scripts rely on."""
        return {
            "action": str(self.action),
            "device": self.device,
            "reason": self.reason,
            **self.attributes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailure:
    """A step that the kernel refused; `message` has its words and the way out."""

    step: Step
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LookReport:
    """What one look at intent and kernel came to.

    `at` is in microseconds since the epoch. `intent` are the wishes that the look went by, None
    before the first one. `networks` are the resolved ones, `conditions` has at least one entry for
    each of them and for each that was refused an assignment; `device_of` has exactly the networks
    that pods can be attached to now, with "" where no device is needed. `kept_in_use` are devices
    that no network wants and that stay because pods are on them. `vteps` are this node's
    ends of VXLAN tunnels, by the parent's name in the networks. `error` is set when intent or
    kernel could not be read: then nothing was changed and the rest is from the look before.
    `seconds` is how long the look took.
    """

    at: int
    intent: Intent | None = None
    networks: Mapping[NetworkKey, NetworkSpec] = field(default_factory=dict)
    conditions: Mapping[NetworkKey, tuple[Condition, ...]] = field(default_factory=dict)
    device_of: Mapping[NetworkKey, str] = field(default_factory=dict)
    mtu_of: Mapping[str, int] = field(default_factory=dict)
    vteps: Mapping[str, tuple[IPAddress, ...]] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    failures: tuple[StepFailure, ...] = ()
    kept_orphans: tuple[str, ...] = ()
    kept_in_use: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0


def _attributes(change: LinkChange) -> dict[str, object]:
    match change:
        case CreateLink():
            values = {
                "kind": change.kind,
                "parent": change.parent or None,
                "master": change.master or None,
                "vlan_id": change.vlan_id,
                "mtu": change.mtu,
                "alias": change.alias,
                **_vxlan(change.vxlan),
            }
        case ChangeLink():
            values = {
                "up": change.up,
                "mtu": change.mtu,
                "alias": change.alias,
                "master": change.master,
                "rename": change.rename,
                **_vxlan(change.vxlan),
            }
        case ChangeAltnames():
            values = {"add": sorted(change.add) or None, "remove": sorted(change.remove) or None}
        case ChangeFlooding():
            values = {"add": _texts(change.add), "remove": _texts(change.remove)}
        case RemoveLink():
            values = {}
        case _:
            assert_never(change)
    return {key: value for key, value in values.items() if value is not None}


def _vxlan(vxlan: VxlanAttributes | None) -> dict[str, object]:
    if vxlan is None:
        return {}
    return {
        "vni": vxlan.vni,
        "port": vxlan.port,
        "local": None if vxlan.local is None else str(vxlan.local),
        "group": None if vxlan.group is None else str(vxlan.group),
        "learning": vxlan.learning,
    }


def _texts(addresses: frozenset[IPAddress]) -> list[str] | None:
    ordered = sorted(addresses, key=lambda address: (address.version, int(address)))
    return [str(address) for address in ordered] or None

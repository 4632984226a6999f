"""Events: what happened to a pod or a network on this node, for ``kubectl describe``. Pure.

An event that happens again is the same object with a higher count, so its name follows from what it
is about: object, reason and node. Time comes in as microseconds since the epoch, or as seconds that
only go forward where nothing but distances count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from danmpy.api.nads import API_VERSION as NAD_API_VERSION
from danmpy.api.specs import ConditionStatus, NetworkKey, NetworkKind
from danmpy.api.words import is_namespace, is_object_name, printable
from danmpy.clock import MICROSECONDS, to_rfc3339
from danmpy.mirrors.values import AttachmentFacts
from danmpy.netwatcher.values import DEVICE_READY, LookReport

Object = dict[str, Any]

COMPONENT: Final = "danmpy-node"

CLUSTER_NAMESPACE: Final = "default"
"""Where events of objects without a namespace are (client-go, tools/record)."""

_MESSAGE_MAX: Final = 1024
"""Characters (kubernetes pkg/apis/core/validation/events.go, NoteLengthLimit)."""

_NAME_MAX: Final = 200
"""Characters of the object's name that its events begin with; 253 are allowed with our digest."""


class EventReason(StrEnum):
    """What can happen."""

    ATTACHED = "NetworksAttached"
    ATTACH_FAILED = "AttachFailed"
    CHANGED = "InterfacesChanged"
    REFUSED = "InterfacesRefused"
    BROKEN = "NetworksBroken"
    MENDED = "NetworksMended"
    DEVICE_READY = "DeviceReady"
    DEVICE_FAILED = "DeviceFailed"

    @property
    def type(self) -> str:
        """``Normal`` or ``Warning``."""
        bad = {
            EventReason.ATTACH_FAILED,
            EventReason.REFUSED,
            EventReason.BROKEN,
            EventReason.DEVICE_FAILED,
        }
        return "Warning" if self in bad else "Normal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Involved:
    """The object that an event is about; `namespace` is empty for kinds without one."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    @property
    def event_namespace(self) -> str:
        """Where its events are."""
        return self.namespace or CLUSTER_NAMESPACE

    @property
    def is_sound(self) -> bool:
        """Can there be an object of this name? A runtime may send anything."""
        return is_object_name(self.name) and (not self.namespace or is_namespace(self.namespace))


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """Something that happened, `count` times by now; times in microseconds since the epoch.

    `once`: it is known again by its time, so that a daemon that tells of it again after a restart
    does not count it twice.
    """

    about: Involved
    reason: EventReason
    message: str
    first: int
    last: int
    count: int = 1
    once: bool = False

    def joined(self, later: Occurrence) -> Occurrence:
        """Both, of the same event, in one."""
        return replace(later, first=self.first, count=self.count + later.count)


def about_pod(namespace: str, name: str, uid: str) -> Involved:
    """A pod."""
    return Involved(api_version="v1", kind="Pod", namespace=namespace, name=name, uid=uid)


def about_network(key: NetworkKey, uid: str) -> Involved:
    """A network."""
    return Involved(
        api_version=NAD_API_VERSION if key.kind is NetworkKind.NAD else "danm.k8s.io/v1",
        kind=str(key.kind),
        namespace=key.namespace,
        name=key.name,
        uid=uid,
    )


def event_name(occurrence: Occurrence, node_name: str) -> str:
    """The name of the object that counts such occurrences on this node."""
    about = occurrence.about
    identity = f"{about.kind}/{about.uid}/{occurrence.reason}/{node_name}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return f"{about.name[:_NAME_MAX].rstrip('-.')}.{digest}"


def event_body(occurrence: Occurrence, node_name: str) -> Object:
    """The whole object, when there is none yet."""
    about = occurrence.about
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": event_name(occurrence, node_name),
            "namespace": about.event_namespace,
        },
        "involvedObject": {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "name": about.name,
            "uid": about.uid,
            **({"namespace": about.namespace} if about.namespace else {}),
        },
        "type": occurrence.reason.type,
        "reason": str(occurrence.reason),
        "message": shortened(occurrence.message),
        "source": {"component": COMPONENT, "host": node_name},
        "reportingComponent": COMPONENT,
        "reportingInstance": node_name,
        "firstTimestamp": event_time(occurrence.first),
        "lastTimestamp": event_time(occurrence.last),
        "count": occurrence.count,
    }


def repeated(stored: Mapping[str, Any], occurrence: Occurrence) -> Object:
    """The merge patch of the object that is there; empty when it tells of it already."""
    last = stored.get("lastTimestamp")
    if occurrence.once and isinstance(last, str) and last >= event_time(occurrence.last):
        return {}
    count = stored.get("count")
    return {
        "message": shortened(occurrence.message),
        "lastTimestamp": event_time(occurrence.last),
        "count": (count if isinstance(count, int) else 0) + occurrence.count,
    }


def event_time(micros: int) -> str:
    """Whole seconds, as the API server keeps them (metav1.Time): such texts sort by time."""
    return to_rfc3339(micros - micros % MICROSECONDS).partition(".")[0] + "Z"


def shortened(message: str) -> str:
    """`message` as it may stand in an event."""
    text = printable(" ".join(message.split()))
    return text if len(text) <= _MESSAGE_MAX else text[: _MESSAGE_MAX - 3] + "..."


def attached_message(attachment: AttachmentFacts) -> str:
    """Which interfaces a pod got, with their addresses."""
    parts = (
        f"{interface.name} [{', '.join(interface.addresses) or 'no address'}] "
        f"on {interface.network}"
        for interface in attachment.interfaces
        if not interface.is_extra
    )
    return f"attached {'; '.join(parts)}"


DeviceFailures = Mapping[NetworkKey, str]
"""What is wrong with the devices of networks on this node, as far as it is this node's matter."""


def device_failures(report: LookReport) -> DeviceFailures:
    """The failures of a look. A network that waits for its segment is no failure of the node."""
    return {
        key: condition.message
        for key in report.networks
        for condition in report.conditions.get(key, ())
        if condition.type == DEVICE_READY and condition.status is not ConditionStatus.TRUE
    }


def device_occurrences(
    before: DeviceFailures, report: LookReport, node_name: str
) -> Iterator[Occurrence]:
    """What changed since `before`: a device failed, or is ready after it had failed.

    That a new network became ready is no event: with many nodes and networks it would be a flood,
    and the network's status counts the nodes.
    """
    now = device_failures(report)
    for key, network in report.networks.items():
        was, wrong = before.get(key), now.get(key)
        if (was is None) == (wrong is None):
            continue
        reason, message = EventReason.DEVICE_FAILED, f"on node {node_name}: {wrong}"
        if wrong is None:
            device = report.device_of.get(key, "")
            what = f"its device {device} is ready" if device else "it is ready"
            reason, message = EventReason.DEVICE_READY, f"on node {node_name}: {what}"
        yield Occurrence(
            about=about_network(key, network.uid),
            reason=reason,
            message=message,
            first=report.at,
            last=report.at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Permits that come back with time: `burst` at once, then one each `period_s` seconds."""

    burst: int
    period_s: float
    left: float
    at: float

    def refilled(self, now: float) -> Bucket:
        """The bucket at `now`."""
        gained = max(0.0, now - self.at) / self.period_s
        return replace(self, left=min(float(self.burst), self.left + gained), at=now)

    def taken(self) -> Bucket | None:
        """The bucket after one permit was taken; None when there is none."""
        return replace(self, left=self.left - 1) if self.left >= 1 else None

    @property
    def patience_s(self) -> float:
        """Seconds until there is a permit."""
        return max(0.0, (1 - self.left) * self.period_s)


def full_bucket(burst: int, period_s: float, now: float) -> Bucket:
    """A bucket that nothing was taken from."""
    return Bucket(burst=burst, period_s=period_s, left=float(burst), at=now)

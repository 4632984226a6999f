"""DanmEp objects: one for each interface of a pod that is on a network of DANM's kinds, for people
and for the tools of DANM. Pure.

Desired ones come from the attachments, observed ones from one listing by the label of the node. One
that somebody else made (DANM itself, by hand) is never touched.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

from danmpy.api.specs import Family, PodSpec
from danmpy.mirrors.values import AttachmentFacts, InterfaceFacts, family_of

Object = dict[str, Any]
EndpointKey = tuple[str, str]
"""Namespace and name."""

NODE_LABEL: Final = "danm.k8s.io/node"
"""Label of every DanmEp that danmpy makes: the node whose daemon keeps it."""

_API_VERSION: Final = "danm.k8s.io/v1"
_NAMES: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "endpoints.danm.k8s.io")
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
"""Kubernetes: labels and selectors, "Syntax and character set"."""


def node_label(node_name: str) -> str:
    """What `NODE_LABEL` is on this node: its name, or for one that is no label a digest."""
    if _LABEL_VALUE.fullmatch(node_name):
        return node_name
    return hashlib.sha256(node_name.encode()).hexdigest()[:40]


def endpoint_name(pod_uid: str, container_id: str, interface: str) -> str:
    """The name of an interface's DanmEp: a UUID as in DANM, but the same for every try."""
    return str(uuid.uuid5(_NAMES, f"{pod_uid}/{container_id}/{interface}"))


def desired_endpoints(
    attachment: AttachmentFacts, pod: PodSpec, node_name: str
) -> Mapping[EndpointKey, Object]:
    """The DanmEps of one attachment; `pod` is its object in the API server, which owns them.

    The owner is that object, also for a static pod, whose UID on the node is another one: when the
    owner goes, the cluster removes them.
    """
    metadata: Object = {
        "labels": {**pod.labels, NODE_LABEL: node_label(node_name)},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}],
    }
    found: dict[EndpointKey, Object] = {}
    for interface in attachment.interfaces:
        if not interface.has_endpoint:
            continue
        name = endpoint_name(attachment.pod_uid, attachment.container_id, interface.name)
        found[attachment.namespace, name] = {
            "metadata": metadata,
            "spec": _spec(name, attachment, interface, node_name),
        }
    return found


def _spec(
    name: str, attachment: AttachmentFacts, interface: InterfaceFacts, node_name: str
) -> Object:
    """DANM's fields; `apiType` is the kind also for a DanmNet, which DANM may leave empty."""
    device = {"DeviceID": interface.device_id} if interface.device_id else {}
    return {
        "NetworkName": interface.network.name,
        "NetworkType": interface.backend,
        "EndpointID": name,
        "apiType": str(interface.network.kind),
        "Interface": {
            "Name": interface.name,
            "Address": _address(interface, 4),
            "AddressIPv6": _address(interface, 6),
            "MacAddress": interface.mac,
            "proutes": dict(_routes(interface, 4)),
            "proutes6": dict(_routes(interface, 6)),
            **device,
        },
        "Host": node_name,
        "Pod": attachment.pod,
        "PodUID": attachment.pod_uid,
        "CID": attachment.container_id,
        "netns": attachment.netns,
    }


def _address(interface: InterfaceFacts, family: Family) -> str:
    return interface.address(family) or ("none" if family in interface.without else "")


def _routes(interface: InterfaceFacts, family: Family) -> Iterator[tuple[str, str]]:
    for destination, gateway in interface.policy_routes:
        if family_of(destination) == family:
            yield destination, gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedEndpoint:
    """A DanmEp of ours as the API server has it, reduced to what we write."""

    uid: str
    body: Object


def key_of(stored: Mapping[str, Any]) -> EndpointKey:
    """Namespace and name of an object."""
    metadata = stored.get("metadata") or {}
    return str(metadata.get("namespace", "")), str(metadata.get("name", ""))


def observed_endpoint(stored: Mapping[str, Any], node_name: str) -> ObservedEndpoint | None:
    """`stored` when this node's daemon made it, else None.

    The label is not enough: DANM copies the labels of pods to its own DanmEps, ours among them. A
    name that follows from what the object says is a proof.
    """
    metadata, spec = stored.get("metadata") or {}, stored.get("spec") or {}
    labels = metadata.get("labels") or {}
    interface = spec.get("Interface") or {}
    made = endpoint_name(
        str(spec.get("PodUID", "")), str(spec.get("CID", "")), str(interface.get("Name", ""))
    )
    if labels.get(NODE_LABEL) != node_label(node_name) or metadata.get("name") != made:
        return None
    owners = metadata.get("ownerReferences") or []
    body = {"metadata": {"labels": labels, "ownerReferences": owners}, "spec": spec}
    return ObservedEndpoint(uid=str(metadata.get("uid", "")), body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateEndpoint:
    """Make it."""

    key: EndpointKey
    body: Object

    @property
    def manifest(self) -> Object:
        """The whole object."""
        namespace, name = self.key
        metadata = {"namespace": namespace, "name": name, **self.body["metadata"]}
        return {
            "apiVersion": _API_VERSION,
            "kind": "DanmEp",
            "metadata": metadata,
            "spec": self.body["spec"],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchEndpoint:
    """Make the one with `uid` as it is desired: `body`, by a merge patch (RFC 7386)."""

    key: EndpointKey
    uid: str
    body: Object
    patch: Object


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteEndpoint:
    """Take the one with `uid` away."""

    key: EndpointKey
    uid: str


EndpointStep = CreateEndpoint | PatchEndpoint | DeleteEndpoint


def plan_endpoints(
    desired: Mapping[EndpointKey, Object],
    observed: Mapping[EndpointKey, ObservedEndpoint],
    *,
    backed: AbstractSet[EndpointKey],
    removable: Callable[[EndpointKey], bool],
) -> tuple[EndpointStep, ...]:
    """The steps from `observed` to `desired`.

    `backed` stay although they are not desired now: their attachment exists, and it may be that
    only their pod is not known at this moment. Of the others those go that are `removable`.
    """
    steps: list[EndpointStep] = [
        DeleteEndpoint(key=key, uid=found.uid)
        for key, found in sorted(observed.items())
        if key not in desired and key not in backed and removable(key)
    ]
    for key, body in sorted(desired.items()):
        found = observed.get(key)
        if found is None:
            steps.append(CreateEndpoint(key=key, body=body))
        elif found.body is not body and (patch := merge_patch(found.body, body)):
            patch.setdefault("metadata", {})["uid"] = found.uid
            steps.append(PatchEndpoint(key=key, uid=found.uid, body=body, patch=patch))
    return tuple(steps)


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> Object:
    """The merge patch (RFC 7386) that makes `after` of `before`; neither may have null values."""
    patch: Object = {key: None for key in before if key not in after}
    for key, value in after.items():
        known = before.get(key)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            if inner := merge_patch(known, value):
                patch[key] = inner
        elif known != value:
            patch[key] = value
    return patch

"""Keeps the DanmEps of this node: listed once, and from then on known from what was written."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Final, assert_never

import structlog

from danmpy.api.specs import PodSpec
from danmpy.attach.journal import AttachmentRecord
from danmpy.errors import ClusterError
from danmpy.kube.errors import ClashError, MissingError
from danmpy.kube.resources import DANM_EPS
from danmpy.mirrors.attachments import Attached, AttachmentReader, Attachments
from danmpy.mirrors.endpoints import (
    NODE_LABEL,
    CreateEndpoint,
    DeleteEndpoint,
    EndpointKey,
    EndpointStep,
    ObservedEndpoint,
    PatchEndpoint,
    desired_endpoints,
    endpoint_name,
    key_of,
    node_label,
    observed_endpoint,
    plan_endpoints,
)
from danmpy.mirrors.patience import Delays
from danmpy.mirrors.ports import (
    API_SERVER,
    CALLS,
    REFUSED_MOST_S,
    WAIT_S,
    Cluster,
    Object,
    concerns_all,
    sooner,
)

_log = structlog.get_logger(__name__)

RELIST_S: Final = 1800
"""Seconds between listings at least, and up to twice as many: a listing by label makes the API
server read the DanmEps of all nodes, so it is rare, and not at the same time on every node."""

_Desired = dict[EndpointKey, Object]


class EndpointMirror:
    """One DanmEp for each interface that is attached."""

    name = "endpoints"
    place = API_SERVER

    def __init__(self, cluster: Cluster, reader: AttachmentReader, node_name: str) -> None:
        self._cluster = cluster
        self._reader = reader
        self._node_name = node_name
        self._observed: dict[EndpointKey, ObservedEndpoint] | None = None
        self._list_at = 0.0
        self._known: dict[tuple[str, str], tuple[AttachmentRecord, PodSpec, _Desired]] = {}
        self._wanted_before: set[EndpointKey] = set()
        self._delays: Delays[EndpointKey] = Delays(REFUSED_MOST_S, {})

    def run(self, now: float) -> float | None:
        """As `ports.Target.run`."""
        observed = self._observe(now)
        found = self._reader.read()  # after the listing: what is attached meanwhile is not in it
        desired = self._desire(found)
        backed = self._backed(found)
        steps = plan_endpoints(
            desired,
            observed,
            backed=backed,
            removable=lambda key: found.complete or key in self._wanted_before,
        )
        self._settle(desired, observed, {step.key for step in steps})
        self._delays.keep({step.key for step in steps})
        ready = [step for step in steps if self._delays.may(step.key, now)]
        again = [self._apply(step, observed, now) for step in ready[:CALLS]]
        waiting = any(each.pod is None for each in found.attached)
        return sooner(
            0.0 if any(again) or len(ready) > CALLS else None,
            self._delays.next_s(now),
            WAIT_S if waiting else None,
            self._list_at - now,
        )

    def _observe(self, now: float) -> dict[EndpointKey, ObservedEndpoint]:
        if self._observed is None or now >= self._list_at:
            label = f"{NODE_LABEL}={node_label(self._node_name)}"
            stored = self._cluster.list(DANM_EPS, label_selector=label).items
            ours = ((key_of(one), observed_endpoint(one, self._node_name)) for one in stored)
            self._observed = {key: one for key, one in ours if one is not None}
            self._list_at = now + RELIST_S + zlib.crc32(self._node_name.encode()) % RELIST_S
        return self._observed

    def _desire(self, found: Attachments) -> _Desired:
        known: dict[tuple[str, str], tuple[AttachmentRecord, PodSpec, _Desired]] = {}
        for each in found.attached:
            if each.pod is not None:
                known[each.record.key] = self._worked_out(each, each.pod)
        self._known = known
        return {key: body for _, _, some in known.values() for key, body in some.items()}

    def _worked_out(
        self, each: Attached, pod: PodSpec
    ) -> tuple[AttachmentRecord, PodSpec, _Desired]:
        before = self._known.get(each.record.key)
        if before is not None and before[0] is each.record and before[1] == pod:
            return before
        return each.record, pod, dict(desired_endpoints(each.facts, pod, self._node_name))

    def _backed(self, found: Attachments) -> set[EndpointKey]:
        records = (*(each.record for each in found.attached), *found.half)
        return {
            (record.namespace, endpoint_name(record.pod_uid, record.container_id, link.name))
            for record in records
            for link in record.links
        }

    def _settle(
        self,
        desired: _Desired,
        observed: dict[EndpointKey, ObservedEndpoint],
        differing: set[EndpointKey],
    ) -> None:
        """Remember the desired objects in place of equal ones, which need no comparing then."""
        for key, body in desired.items():
            if key not in differing and observed[key].body is not body:
                observed[key] = replace(observed[key], body=body)
        self._wanted_before = (self._wanted_before & observed.keys()) | desired.keys()

    def _apply(
        self, step: EndpointStep, observed: dict[EndpointKey, ObservedEndpoint], now: float
    ) -> bool:
        """Do `step`; True when it has to be decided anew, because something else was found."""
        try:
            again = self._do(step, observed)
        except ClusterError as error:
            if concerns_all(error):
                raise
            if self._delays.note_failure(step.key, now):
                _log.warning("DanmEp refused", endpoint="/".join(step.key), error=str(error))
            return False
        self._delays.note_success(step.key)
        return again

    def _do(self, step: EndpointStep, observed: dict[EndpointKey, ObservedEndpoint]) -> bool:
        namespace, name = step.key
        match step:
            case CreateEndpoint():
                return self._create(step, observed)
            case PatchEndpoint():
                try:
                    self._cluster.patch(DANM_EPS, name, step.patch, namespace)
                except (MissingError, ClashError):  # gone, or another one by now
                    del observed[step.key]
                    return True
                observed[step.key] = ObservedEndpoint(uid=step.uid, body=step.body)
            case DeleteEndpoint():
                self._cluster.delete(DANM_EPS, name, namespace, uid=step.uid)
                del observed[step.key]
            case _:
                assert_never(step)
        return False

    def _create(self, step: CreateEndpoint, observed: dict[EndpointKey, ObservedEndpoint]) -> bool:
        namespace, name = step.key
        try:
            stored = self._cluster.create(DANM_EPS, step.manifest, namespace)
        except ClashError:
            # Made by a try whose answer was lost; or a stranger, who is left alone.
            known = observed_endpoint(self._cluster.get(DANM_EPS, name, namespace), self._node_name)
            if known is None:
                raise
            observed[step.key] = known
            return True
        uid = str((stored.get("metadata") or {}).get("uid", ""))
        observed[step.key] = ObservedEndpoint(uid=uid, body=step.body)
        return False

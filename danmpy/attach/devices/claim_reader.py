"""Reads the claims of one pod, and the devices in them, from the API server.

Asked for only when a pod's networks need devices that the kubelet's device plugins did not give.
"""

from __future__ import annotations

from typing import Any, Protocol

from danmpy.attach.devices.assigning import Offer
from danmpy.attach.devices.resource_claims import (
    GROUP,
    VERSIONS,
    PoolDevice,
    allocated_devices,
    claim_names,
    offer_of,
)
from danmpy.kube.client import Listing
from danmpy.kube.errors import MissingError, RefusedError
from danmpy.kube.resources import PODS, Resource


class ClaimServer(Protocol):
    """The API server (`kube.client.KubeClient`); every call raises a ClusterError of `kube`."""

    def get(self, resource: Resource, name: str, namespace: str = "") -> dict[str, Any]:
        """One object."""

    def list(
        self, resource: Resource, *, field_selector: str = "", timeout_s: float = ...
    ) -> Listing:
        """All objects."""

    def serves(self, group_version: str) -> bool:
        """Does the server serve this version of a group?"""


def claims_resource(version: str) -> Resource:
    """ResourceClaims in one of their versions."""
    return Resource(
        group=GROUP,
        version=version,
        plural="resourceclaims",
        kind="ResourceClaim",
        namespaced=True,
    )


def _slices_resource(version: str) -> Resource:
    return Resource(
        group=GROUP,
        version=version,
        plural="resourceslices",
        kind="ResourceSlice",
        namespaced=False,
    )


def served_version(server: ClaimServer) -> str:
    """The newest version of the group that is served and known here; empty: none."""
    return next((each for each in VERSIONS if server.serves(f"{GROUP}/{each}")), "")


_TIMEOUT_S = 5.0
"""Seconds for a page of slices: an ADD waits for it."""


class ClaimReader:
    """The claims of the pods of one node."""

    def __init__(self, server: ClaimServer, node_name: str) -> None:
        self._server = server
        self._node = node_name
        self._version = ""

    def read_devices(self, namespace: str, pod: str) -> Offer | None:
        """What the claims of `pod` gave it; None when there is no such pod.

        Raises:
            ClusterError: the API server cannot be asked.
        """
        try:
            names = claim_names(self._server.get(PODS, pod, namespace))
        except MissingError:
            return None
        if not names or not self._known_version():
            return Offer()
        claims = {name: self._allocated(name, namespace) for name in names}
        if not any(claims.values()):
            return Offer()
        return offer_of(claims, self._slices({each for one in claims.values() for each in one}))

    def _known_version(self) -> str:
        """Asked again until there is one; it may come with an upgrade of the server."""
        self._version = self._version or served_version(self._server)
        return self._version

    def _allocated(self, name: str, namespace: str) -> tuple[PoolDevice, ...]:
        resource = claims_resource(self._version)
        try:
            return allocated_devices(self._server.get(resource, name, namespace))
        except MissingError:
            return ()

    def _slices(self, wanted: set[PoolDevice]) -> list[dict[str, Any]]:
        """Slices with the `wanted` devices: of this node, and of pools that no node owns."""
        resource = _slices_resource(self._version)
        try:
            found = self._list(resource, f"spec.nodeName={self._node}")
            pools = {(each.driver, each.pool) for each in wanted}
            missing = {driver for driver, pool in pools - {_pool_of(each) for each in found}}
            for driver in sorted(missing):
                found += self._list(resource, f"spec.driver={driver}")
        except RefusedError:  # a server that cannot select by these fields
            return self._list(resource, "")
        except MissingError:  # an upgrade took this version away
            self._version = ""
            raise
        return found

    def _list(self, resource: Resource, selector: str) -> list[dict[str, Any]]:
        return self._server.list(resource, field_selector=selector, timeout_s=_TIMEOUT_S).items


def _pool_of(each: dict[str, Any]) -> tuple[str, str]:
    spec = each.get("spec") or {}
    return str(spec.get("driver", "")), str((spec.get("pool") or {}).get("name", ""))

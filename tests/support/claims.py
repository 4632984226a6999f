"""The kinds of dynamic resource allocation on a real API server, and objects as drivers make them.

A server that serves the group itself is used as it is. One that is too old gets kinds of the same
names that take everything, and serves them in the version that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from danmpy.kube.client import KubeClient
from danmpy.kube.resources import PODS, Resource
from support.apiserver import ApiServer

GROUP = "resource.k8s.io"
DRIVER, POOL = "net.example.com", "node-a/pf0"
VF = "vendor/vf"


def _crd(plural: str, kind: str, version: str, *, namespaced: bool) -> dict[str, Any]:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, testing"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": anything},
                    "subresources": {"status": {}},
                }
            ],
        },
    }


def serve(api: ApiServer, version: str = "v1") -> None:
    """Have the kinds served."""
    if any(api.serves(f"{GROUP}/{each}") for each in ("v1", "v1beta2", "v1beta1")):
        return
    for known in [each for each in api._resources if each[0].startswith(f"{GROUP}/")]:
        del api._resources[known]  # of another test, in another version
    api.apply(_crd("resourceclaims", "ResourceClaim", version, namespaced=True))
    api.apply(_crd("resourceslices", "ResourceSlice", version, namespaced=False))
    api.wait_crds_established()


class PodsWithClaims(KubeClient):
    """The server, but for pods, whose claims it is too old to store: they name those of `claims`
    (pod -> names)."""

    claims: Mapping[str, Iterable[str]] = {}

    def get(
        self, resource: Resource, name: str, namespace: str = "", *, timeout_s: float = 5.0
    ) -> dict[str, Any]:
        found = super().get(resource, name, namespace, timeout_s=timeout_s)
        if resource == PODS and name in self.claims:
            named = [{"name": each, "resourceClaimName": each} for each in self.claims[name]]
            found["spec"]["resourceClaims"] = named
        return found


def make_slice(
    api: ApiServer,
    name: str,
    devices: Mapping[str, str],
    *,
    version: str = "v1",
    node: str = "node-a",
    generation: int = 1,
    pool: str = POOL,
) -> None:
    """A slice with these devices: name -> id; without an id it is no device for networks."""
    listed = []
    for device, number in devices.items():
        attributes = {
            "k8s.cni.cncf.io/deviceID": {"string": number},
            "k8s.cni.cncf.io/resourceName": {"string": VF},
        }
        content = {"attributes": attributes if number else {"speed": {"int": 25}}}
        basic = {"basic": content} if version == "v1beta1" else content
        listed.append({"name": device, **basic})
    spec = {
        "driver": DRIVER,
        "nodeName": node,
        "pool": {"name": pool, "generation": generation, "resourceSliceCount": 1},
        "devices": listed,
    }
    api.create(
        {
            "apiVersion": f"{GROUP}/{version}",
            "kind": "ResourceSlice",
            "metadata": {"name": name},
            "spec": spec,
        }
    )


def make_claim(
    api: ApiServer, name: str, *devices: str, version: str = "v1", pool: str = POOL
) -> None:
    """A claim of namespace blue to which these devices are allocated, by name."""
    request: dict[str, Any] = {"deviceClassName": "nic"}
    exactly = request if version == "v1beta1" else {"exactly": request}
    api.create(
        {
            "apiVersion": f"{GROUP}/{version}",
            "kind": "ResourceClaim",
            "metadata": {"name": name, "namespace": "blue"},
            "spec": {"devices": {"requests": [{"name": "nic", **exactly}]}},
        }
    )
    results = [{"request": "nic", "driver": DRIVER, "pool": pool, "device": d} for d in devices]
    if devices:
        allocation = {"devices": {"results": results}}
        api.patch_status("ResourceClaim", name, {"allocation": allocation}, "blue")


def told(api: ApiServer, name: str) -> list[dict[str, Any]]:
    """``status.devices`` of a claim."""
    found = api.get("ResourceClaim", name, "blue")
    assert found is not None
    return list((found.get("status") or {}).get("devices") or [])

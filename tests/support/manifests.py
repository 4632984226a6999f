"""Manifests as plain values, in a few words."""

from __future__ import annotations

from typing import Any

from danmpy.intent.documents import Document

GROUP_VERSION = "danm.k8s.io/v1"


def network_manifest(
    kind: str = "ClusterNetwork",
    name: str = "net",
    namespace: str = "",
    *,
    network_id: str = "net",
    network_type: str = "macvlan",
    more: dict[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """A network object; `options` are spec.Options, `more` is added to spec."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    spec: dict[str, Any] = {"NetworkType": network_type, "Options": options} | (more or {})
    if network_id:
        spec["NetworkID"] = network_id
    return {"apiVersion": GROUP_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def config_manifest(*devices: dict[str, Any], name: str = "tenants", **more: Any) -> dict[str, Any]:
    """A TenantConfig with these profiles."""
    manifest: dict[str, Any] = {
        "apiVersion": GROUP_VERSION,
        "kind": "TenantConfig",
        "metadata": {"name": name},
    }
    return manifest | ({"hostDevices": list(devices)} if devices else {}) | more


def core_manifest(kind: str, name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    """A Pod, Node or Namespace; `more` is top level, ``annotations`` goes into metadata."""
    metadata: dict[str, Any] = {"name": name} | ({"namespace": namespace} if namespace else {})
    if "annotations" in more:
        metadata["annotations"] = more.pop("annotations")
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}


def documents(*bodies: Any) -> tuple[Document, ...]:
    """One document each, at ``f.yaml:1``, ``f.yaml:2`` and so on."""
    return tuple(
        Document(where=f"f.yaml:{line}", body=body) for line, body in enumerate(bodies, start=1)
    )

"""deploy/ as tests look at it: overlays as objects, containers with their settings, rights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.apiserver import ApiServer
from support.kustomize import Manifest, build, pod_spec
from support.processes import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
OVERLAYS = ("cluster", "single-node")
NAMESPACE = "danmpy"

DATABASE_URLS = {
    name: f"postgresql+psycopg://{name}:secret@db.example/danmpy"
    for name in (
        "danmpy-database",
        *(f"danmpy-database-{process}" for process in ("node", "controller", "migration")),
    )
}
"""What the Secrets hold in these tests, by their name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container of a workload: an init container too."""

    workload: str
    name: str
    pod: Mapping[str, Any]
    spec: Mapping[str, Any]

    @property
    def mounts(self) -> Mapping[str, Mapping[str, Any]]:
        """Path in the container to its volumeMount."""
        return {each["mountPath"]: each for each in self.spec.get("volumeMounts", ())}

    @property
    def host_paths(self) -> Mapping[str, str]:
        """Path in the container to the path of the host that is there."""
        volumes = {each["name"]: each for each in self.pod["volumes"]}
        return {
            path: volumes[mount["name"]]["hostPath"]["path"]
            for path, mount in self.mounts.items()
            if "hostPath" in volumes[mount["name"]]
        }

    def environment(self, *, node: str = "node-a") -> dict[str, str]:
        """The variables that a kubelet would set."""
        fields = {"spec.nodeName": node, "metadata.namespace": NAMESPACE}
        found = {}
        for each in self.spec.get("env", ()):
            source = each.get("valueFrom", {})
            if "fieldRef" in source:
                found[each["name"]] = fields[source["fieldRef"]["fieldPath"]]
            elif "secretKeyRef" in source:
                assert source["secretKeyRef"]["key"] == "url"
                found[each["name"]] = DATABASE_URLS[source["secretKeyRef"]["name"]]
            else:
                found[each["name"]] = each["value"]
        return found


def overlay(name: str, *components: str) -> list[Manifest]:
    """The objects of an overlay."""
    folders = [DEPLOY / "components" / each for each in components]
    return build(DEPLOY / "overlays" / name, components=folders)


def fitting_overlay(name: str, server: ApiServer) -> list[Manifest]:
    """The objects of an overlay for this server, as the documentation says."""
    old = not server.serves("policy/v1") and name == "cluster"
    return overlay(name, *(["kubernetes-1.20"] if old else []))


def find(manifests: Sequence[Manifest], kind: str, name: str) -> Manifest:
    """The object of this kind and name."""
    (found,) = (
        each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name
    )
    return found


def containers(manifests: Sequence[Manifest]) -> Iterator[Container]:
    """All containers of all workloads."""
    for manifest in manifests:
        spec = pod_spec(manifest)
        for container in [*spec.get("initContainers", ()), *spec["containers"]] if spec else ():
            yield Container(
                workload=manifest["metadata"]["name"],
                name=container["name"],
                pod=spec or {},
                spec=container,
            )


def container(manifests: Sequence[Manifest], name: str) -> Container:
    """The container of this name."""
    (found,) = (each for each in containers(manifests) if each.name == name)
    return found


def write_config(manifests: Sequence[Manifest], folder: Path) -> Path:
    """The configuration file of these manifests as a file."""
    path = folder / "config.yaml"
    path.write_text(find(manifests, "ConfigMap", "danmpy")["data"]["config.yaml"])
    return path


def rights(manifests: Sequence[Manifest], account: str) -> Iterator[Mapping[str, Any]]:
    """The rules of all roles that are bound to a service account."""
    roles = {
        (each["kind"], each["metadata"]["name"]): each
        for each in manifests
        if each["kind"] in {"Role", "ClusterRole"}
    }
    subject = {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
    for manifest in manifests:
        if subject in manifest.get("subjects", ()):
            reference = manifest["roleRef"]
            yield from roles[reference["kind"], reference["name"]]["rules"]


def documents(text: str) -> list[Manifest]:
    """All YAML documents in a text."""
    return [each for each in yaml.safe_load_all(text) if each]

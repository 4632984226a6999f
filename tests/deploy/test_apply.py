"""The manifests on a real API server: all accepted, nothing dropped, fit for every release."""

from __future__ import annotations

from typing import Any

import pytest

from support.apiclient import named
from support.apiserver import ApiServer
from support.deploying import DEPLOY, OVERLAYS, find, fitting_overlay
from support.kustomize import Manifest, build, pod_spec
from support.requirements import Requirement, skip_for


def lost(wanted: Any, stored: Any, path: str = "") -> list[str]:
    """The fields of `wanted` that are not so in `stored`: servers drop what they do not know."""
    if isinstance(wanted, dict) and isinstance(stored, dict):
        return [
            found
            for key, value in wanted.items()
            for found in lost(value, stored.get(key), f"{path}.{key}")
        ]
    if isinstance(wanted, list) and isinstance(stored, list) and len(wanted) == len(stored):
        pairs = enumerate(zip(wanted, stored, strict=True))
        return [found for index, (a, b) in pairs for found in lost(a, b, f"{path}[{index}]")]
    return [] if wanted == stored else [path]


def apply_all(server: ApiServer, manifests: list[Manifest]) -> dict[str, Manifest]:
    """As ``kubectl apply --server-side`` in this order; what was stored, by kind and name."""
    stored = {}
    for manifest in manifests:
        metadata = manifest["metadata"]
        where = (metadata["name"], metadata.get("namespace", ""))
        path = server.path(manifest["apiVersion"], manifest["kind"], *where)
        status, answer = server.request(
            "PATCH",
            f"{path}?fieldManager=tests&force=true",
            manifest,
            content_type="application/apply-patch+yaml",
        )
        assert status < 300, f"{path}: {answer}"
        stored[f"{manifest['kind']}/{metadata['name']}"] = answer
        if manifest["kind"] == "CustomResourceDefinition":
            server.wait_crds_established()
    return stored


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_is_accepted_and_kept_as_written(apiserver: ApiServer, name: str) -> None:
    manifests = fitting_overlay(name, apiserver)
    stored = apply_all(apiserver, manifests)
    dropped = {
        f"{key}{path}"
        for manifest in manifests
        for key in [f"{manifest['kind']}/{manifest['metadata']['name']}"]
        for path in lost(manifest, stored[key])
    }
    said = {key for key in dropped if key.endswith(".spec.preserveUnknownFields")}
    assert all(key.startswith("CustomResourceDefinition/") for key in said), "false is not kept"
    # 1.20 has it behind a switch that is off; it is stable since 1.23.
    assert dropped - said <= {"Job/danmpy-migrate-0-1-0.spec.ttlSecondsAfterFinished"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_applying_twice_changes_nothing(apiserver: ApiServer, name: str) -> None:
    manifests = fitting_overlay(name, apiserver)
    first = apply_all(apiserver, manifests)
    second = apply_all(apiserver, manifests)
    for key, before in first.items():
        assert substance(second[key]) == substance(before)


def substance(stored: Manifest) -> Manifest:
    """Without what the server counts and does by itself."""
    counted = {"resourceVersion", "managedFields"}
    metadata = {key: value for key, value in stored["metadata"].items() if key not in counted}
    return {key: value for key, value in stored.items() if key != "status"} | {"metadata": metadata}


def test_the_budget_is_served_by_every_release(apiserver: ApiServer) -> None:
    apply_all(apiserver, fitting_overlay("cluster", apiserver))
    assert apiserver.get("PodDisruptionBudget", "danmpy-controller", "danmpy") is not None


@pytest.mark.parametrize("folder", ["components/privileged-node", "components/kubernetes-1.20"])
def test_components_are_accepted_on_top_of_the_cluster(apiserver: ApiServer, folder: str) -> None:
    manifests = build(DEPLOY / "overlays/cluster", components=[DEPLOY / folder])
    served = [each for each in manifests if apiserver.serves(each["apiVersion"], each["kind"])]
    left = [each["kind"] for each in manifests if each not in served]
    # Between 1.21 and 1.24 both versions are served; else one of the two components has it.
    assert set(left) <= {"PodDisruptionBudget"}
    apply_all(apiserver, served)


def test_the_uninstaller_is_accepted(apiserver: ApiServer) -> None:
    apiserver.make_namespace("danmpy")
    apply_all(apiserver, build(DEPLOY / "uninstall"))


@pytest.mark.parametrize("workload", ["Deployment/danmpy-controller", "Job/danmpy-migrate-0-1-0"])
def test_a_namespace_of_the_restricted_level_takes_the_pod(
    apiserver: ApiServer, workload: str
) -> None:
    if not enforces_pod_security(apiserver):
        skip_for(Requirement(name="a server with pod security admission", met=lambda: False))
    kind, _, name = workload.partition("/")
    spec = pod_spec(find(fitting_overlay("cluster", apiserver), kind, name))
    apiserver.make_namespace("strict", **{"pod-security.kubernetes.io/enforce": "restricted"})
    apiserver.create({"apiVersion": "v1", "kind": "Pod", "spec": spec} | named("a", "strict"))


def enforces_pod_security(server: ApiServer) -> bool:
    """Does it refuse a plain pod where the restricted level is enforced (1.23 and later)?"""
    server.make_namespace("strict", **{"pod-security.kubernetes.io/enforce": "restricted"})
    pod = {"apiVersion": "v1", "kind": "Pod"} | named("plain", "strict")
    pod["spec"] = {"containers": [{"name": "a", "image": "a"}]}
    status, answer = server.request("POST", "/api/v1/namespaces/strict/pods", pod)
    assert status in {201, 403}, answer
    return status == 403

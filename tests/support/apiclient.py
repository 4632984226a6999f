"""The API as tests use it: a request, and a few words for what is done all the time.

Nothing of the product is in it, and no client library: what a test sees must not depend on what it
tests.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.httpjson import Endpoint
from support.processes import REPOSITORY

ADMIN = "admin"
"""The user who may do everything."""

STRANGER = "stranger"
"""A user whom the server knows and who may do nothing."""


class RefusedError(AssertionError):
    """The server answered a helper's request with an error; `status` is HTTP's."""

    def __init__(self, what: str, status: int, answer: Any) -> None:
        self.status = status
        self.answer = answer
        self.reason = answer.get("reason", "") if isinstance(answer, dict) else ""
        self.message = answer.get("message", "") if isinstance(answer, dict) else str(answer)
        super().__init__(f"{what}: {status} {self.reason}: {self.message}")


class ApiClient:
    """Requests by any user; helpers ask as `ADMIN`.

    `kind` is one word, or ``group/version/Kind`` where two groups have it. `namespace` means
    nothing to kinds without one.
    """

    def __init__(self, endpoint: Endpoint, tokens: Mapping[str, str]) -> None:
        """`tokens`: user to bearer token."""
        self.tokens = dict(tokens)
        self._endpoint = endpoint
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    @property
    def url(self) -> str:
        """Where clients find the server."""
        return self._endpoint.url

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        user: str = ADMIN,
        token: str | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> tuple[int, Any]:
        """HTTP status and decoded answer; what is no JSON stays text. OSError: no connection."""
        answer = self._endpoint.request(
            method,
            path,
            body,
            token=token or self.tokens[user],
            headers={"Content-Type": content_type, "Accept": accept},
        )
        return answer.status, answer.body

    def _must(self, method: str, path: str, body: object = None, **options: str) -> Any:
        status, answer = self.request(method, path, body, **options)
        if status >= 300:
            raise RefusedError(f"{method} {path}", status, answer)
        return answer

    @property
    def server_version(self) -> str:
        """Such as ``v1.20.2``."""
        return str(self._must("GET", "/version")["gitVersion"])

    def serves(self, group_version: str, kind: str = "") -> bool:
        """Does it serve ``discovery.k8s.io/v1`` (and in it `kind`)?"""
        status, answer = self.request("GET", _group_path(group_version))
        if status >= 300:
            return False
        return not kind or any(each["kind"] == kind for each in answer["resources"])

    def path(self, api_version: str, kind: str, name: str = "", namespace: str = "") -> str:
        """The REST path of an object; of the whole collection without `name`."""
        plural, namespaced = self._resource(api_version, kind)
        where = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{_group_path(api_version)}{where}/{plural}" + (f"/{name}" if name else "")

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        """Plural and whether namespaced."""
        if (api_version, kind) not in self._resources:
            for each in self._must("GET", _group_path(api_version))["resources"]:
                if "/" not in each["name"]:
                    found = (each["name"], each["namespaced"])
                    self._resources[api_version, each["kind"]] = found
        try:
            return self._resources[api_version, kind]
        except KeyError:
            raise LookupError(f"the server has no kind {kind} in {api_version}") from None

    def _path_of_kind(self, kind: str, name: str = "", namespace: str = "") -> str:
        """As `path`, in the core group or the first other group that has `kind`.

        Such as ``events.k8s.io/v1/Event`` names the group itself.
        """
        api_version, _, kind = kind.rpartition("/")
        if api_version:
            return self.path(api_version, kind, name, namespace)
        if ("v1", kind) not in self._resources:
            for known_version, known in tuple(self._resources):
                if known == kind:
                    return self.path(known_version, kind, name, namespace)
        groups = self._must("GET", "/apis")["groups"]
        for group_version in ("v1", *(each["preferredVersion"]["groupVersion"] for each in groups)):
            with contextlib.suppress(LookupError, RefusedError):
                return self.path(group_version, kind, name, namespace)
        raise LookupError(f"the server has no kind {kind}")

    # Objects

    def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create it; what was stored."""
        return self._must("POST", self._place(manifest, with_name=False), manifest)  # type: ignore[no-any-return]

    def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create it, or replace the one that is there; what was stored."""
        status, answer = self.request("POST", self._place(manifest, with_name=False), manifest)
        path = self._place(manifest)
        while status == 409:  # it is there, or somebody else wrote between our reading and writing
            current = self._must("GET", path)
            version = {"resourceVersion": current["metadata"]["resourceVersion"]}
            body = {**manifest, "metadata": {**manifest["metadata"], **version}}
            status, answer = self.request("PUT", path, body)
            if status == 409 and answer.get("reason") != "Conflict":
                break
        if status >= 300:
            raise RefusedError(f"apply {path}", status, answer)
        return dict(answer)

    def _place(self, manifest: Mapping[str, Any], *, with_name: bool = True) -> str:
        metadata = manifest["metadata"]
        return self.path(
            manifest["apiVersion"],
            manifest["kind"],
            metadata["name"] if with_name else "",
            metadata.get("namespace", "default"),
        )

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any] | None:
        """The object, or None."""
        path = self._path_of_kind(kind, name, namespace)
        status, answer = self.request("GET", path)
        if status == 404:
            return None
        if status >= 300:
            raise RefusedError(f"GET {path}", status, answer)
        return dict(answer)

    def list(self, kind: str, namespace: str = "", *, labels: str = "") -> list[dict[str, Any]]:
        """All objects of `kind`, of all namespaces unless one is given."""
        selected = f"?labelSelector={labels}" if labels else ""
        answer = self._must("GET", self._path_of_kind(kind, namespace=namespace) + selected)
        return list(answer["items"])

    def delete(self, kind: str, name: str, namespace: str = "default") -> None:
        """Delete it at once; that it is not there is fine. Finalizers still hold it."""
        path = self._path_of_kind(kind, name, namespace)
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        status, answer = self.request("DELETE", path, options)
        if status >= 300 and status != 404:
            raise RefusedError(f"DELETE {path}", status, answer)

    def patch(
        self, kind: str, name: str, patch: Mapping[str, Any], namespace: str = "default"
    ) -> dict[str, Any]:
        """Merge `patch` into the object (RFC 7396)."""
        path = self._path_of_kind(kind, name, namespace)
        return self._merge(path, patch)

    def patch_status(
        self, kind: str, name: str, status: Mapping[str, Any], namespace: str = "default"
    ) -> dict[str, Any]:
        """Merge `status` into the object's, through the status subresource."""
        path = f"{self._path_of_kind(kind, name, namespace)}/status"
        return self._merge(path, {"status": status})

    def _merge(self, path: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self._must("PATCH", path, patch, content_type="application/merge-patch+json"))

    def make_namespace(self, name: str, **labels: str) -> str:
        """A namespace; its name."""
        self.apply({"apiVersion": "v1", "kind": "Namespace"} | named(name, labels=labels))
        return name

    def service_account_token(self, namespace: str, name: str, bound_pod: str | None = None) -> str:
        """A token of the account, which is made when it is missing, good for an hour.

        Bound to `bound_pod`, it dies with that pod, and the server says in its review who the pod
        is. The pod must name the account as its ``serviceAccountName``.
        """
        if self.get("ServiceAccount", name, namespace) is None:
            self.create({"apiVersion": "v1", "kind": "ServiceAccount"} | named(name, namespace))
        spec: dict[str, Any] = {"audiences": [], "expirationSeconds": 3600}
        if bound_pod is not None:
            pod = self.get("Pod", bound_pod, namespace)
            assert pod is not None, f"no pod {namespace}/{bound_pod}"
            spec["boundObjectRef"] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": bound_pod,
                "uid": pod["metadata"]["uid"],
            }
        path = f"{self.path('v1', 'ServiceAccount', name, namespace)}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str(self._must("POST", path, body)["status"]["token"])

    # Our kinds

    def apply_crds(self, folder: Path = REPOSITORY / "crds") -> None:
        """The kinds of this repository, and wait until they are served."""
        for path in sorted(folder.glob("*.yaml")):
            self.apply(yaml.safe_load(path.read_text()))
        self.wait_crds_established()

    def wait_crds_established(self, *, seconds: float = 30) -> None:
        """Wait until every CRD is accepted, established, and its objects can be listed."""
        deadline = time.monotonic() + seconds
        while pending := [
            why for crd in self.list("CustomResourceDefinition") if (why := self._not_served(crd))
        ]:
            if time.monotonic() > deadline:
                pytest.fail(f"after {seconds} s not served: {'; '.join(pending)}")
            time.sleep(0.05)

    def _not_served(self, crd: Mapping[str, Any]) -> str:
        """Why the kind is not served; empty when it is."""
        name = crd["metadata"]["name"]
        conditions = {each["type"]: each for each in crd.get("status", {}).get("conditions") or ()}
        for wanted, status in {"Established": "True", "NonStructuralSchema": "False"}.items():
            found = conditions.get(wanted)
            if found is None and wanted == "NonStructuralSchema":
                continue
            if found is None or found["status"] != status:
                return f"{name}: {found or wanted}"
        spec = crd["spec"]
        for version in spec["versions"]:
            path = f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}?limit=1"
            if version["served"] and self.request("GET", path)[0] != 200:
                return f"{name}: {path} does not answer"
        return ""


def named(
    name: str, namespace: str = "", labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """``{"metadata": ...}``, to join with the rest of a manifest."""
    metadata: dict[str, Any] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    return {"metadata": metadata}


def _group_path(group_version: str) -> str:
    return f"/api/{group_version}" if "/" not in group_version else f"/apis/{group_version}"

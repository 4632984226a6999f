"""The ValidatingWebhookConfiguration: as it is deployed, and kept true while it is in use.

It is deployed without a certificate. The replica that leads fills in the certificates of the
authorities that sign the webhook's own (``caBundle``), and says so again whenever somebody applies
the manifest anew.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from danmpy.controller.admission import HEALING_NAMESPACE
from danmpy.kube.client import KubeClient
from danmpy.kube.errors import MissingError
from danmpy.kube.resources import NADS, WEBHOOKS

PATH: Final = "/admit"
"""Where reviews are answered."""

PORT: Final = 443
"""The port of the Service."""

TIMEOUT_S: Final = 5
"""Seconds that the API server waits for an answer; people wait for it, too."""

LEFT_OUT_LABEL: Final = "danm.k8s.io/admission"
"""Namespaces with this label at ``ignore`` keep their pods to themselves. Servers before 1.21 do
not label namespaces with their names, so there it is the only way to leave one out."""

_NETWORKS: Final = "networks.danm.k8s.io"
_CONFIGS: Final = "tenantconfigs.danm.k8s.io"
_NADS: Final = "net-attach-defs.danm.k8s.io"
_PODS: Final = "pods.danm.k8s.io"
_OWN: Final = frozenset({_NETWORKS, _CONFIGS, _NADS, _PODS})

_LABELS: Final = {
    "app.kubernetes.io/name": "danmpy",
    "app.kubernetes.io/component": "controller",
}
_HEADER: Final = "# Generated from danmpy/controller/registration.py. Do not edit.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Which registration, and how the API server reaches the webhook: by Service, or by `url`."""

    name: str = "danmpy"
    namespace: str = "danmpy"
    service: str = "danmpy-webhook"
    url: str = ""


def render_registration(registration: Registration) -> dict[str, Any]:
    """The manifest, without a certificate.

    Networks and TenantConfigs fail closed: an object that no rule has seen would be refused by the
    nodes later, where nobody looks. Pods fail open: nodes judge them again. So do
    NetworkAttachmentDefinitions: most of them are other plugins', and none of those waits for us.
    """
    danm = "danm.k8s.io"
    networks = ["tenantnetworks", "clusternetworks", "danmnets"]
    names = sorted({HEALING_NAMESPACE, registration.namespace})
    left_out = {
        "matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": names},
            {"key": LEFT_OUT_LABEL, "operator": "NotIn", "values": ["ignore"]},
        ]
    }
    every = ["CREATE", "UPDATE", "DELETE"]
    return {
        "apiVersion": WEBHOOKS.api_version,
        "kind": WEBHOOKS.kind,
        "metadata": {"name": registration.name, "labels": dict(_LABELS)},
        "webhooks": [
            _webhook(registration, _NETWORKS, "Fail") | _rule(danm, networks, every),
            _webhook(registration, _CONFIGS, "Fail") | _rule(danm, ["tenantconfigs"], every),
            _webhook(registration, _NADS, "Ignore")
            | _rule(NADS.group, [NADS.plural], ["CREATE", "UPDATE"]),
            _webhook(registration, _PODS, "Ignore")
            | {"namespaceSelector": left_out}
            | _rule("", ["pods"], ["CREATE"]),
        ],
    }


def registration_file() -> str:
    """The manifest as it is checked in."""
    rendered = render_registration(Registration())
    return _HEADER + yaml.safe_dump(rendered, sort_keys=False, width=100)


def keep_registration(client: KubeClient, registration: Registration, ca_bundle: bytes) -> bool:
    """Let the registration trust `ca_bundle` (PEM); was anything to be changed?

    Only our own webhooks in it are touched. It is never created: who deletes it turns admission
    off.

    Raises:
        MissingError: there is none.
        ClashError: somebody changed it meanwhile; look again.
        ClusterError: the API server refuses or does not answer.
    """
    try:
        found = client.get(WEBHOOKS, registration.name)
    except MissingError as error:
        raise MissingError(
            error.message,
            hint=f"nothing is judged before it is stored: apply {WEBHOOKS.kind} "
            f"{registration.name} (deploy/base/webhook.yaml)",
            subject=error.subject,
        ) from error
    webhooks = found.get("webhooks") or []
    wanted = [_with_client(webhook, registration, ca_bundle) for webhook in webhooks]
    if wanted == webhooks:
        return False
    patch = {
        "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
        "webhooks": wanted,
    }
    client.patch(WEBHOOKS, registration.name, patch)
    return True


def _with_client(
    webhook: Mapping[str, Any], registration: Registration, ca_bundle: bytes
) -> Mapping[str, Any]:
    if webhook.get("name") not in _OWN:
        return webhook
    before = webhook.get("clientConfig") or {}
    config: dict[str, Any] = {"caBundle": base64.b64encode(ca_bundle).decode()}
    if registration.url:
        config["url"] = f"{registration.url.rstrip('/')}{PATH}"
    else:
        config["service"] = before.get("service") or _service(registration)
    return {**webhook, "clientConfig": config}


def _webhook(registration: Registration, name: str, failure_policy: str) -> dict[str, Any]:
    return {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": failure_policy,
        "timeoutSeconds": TIMEOUT_S,
        "clientConfig": {"service": _service(registration)},
    }


def _service(registration: Registration) -> dict[str, Any]:
    return {
        "namespace": registration.namespace,
        "name": registration.service,
        "path": PATH,
        "port": PORT,
    }


def _rule(group: str, resources: list[str], operations: list[str]) -> dict[str, Any]:
    rule = {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "resources": resources,
        "operations": list(operations),
        "scope": "*",
    }
    return {"rules": [rule]}

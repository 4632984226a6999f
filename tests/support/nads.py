"""NetworkAttachmentDefinitions of tests, and the kind itself for a server that lacks it."""

from __future__ import annotations

import json
from typing import Any, Final

from danmpy.api.specs import NetworkKey, NetworkKind

NAD_CRD: Final[dict[str, Any]] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "network-attachment-definitions.k8s.cni.cncf.io"},
    "spec": {
        "group": "k8s.cni.cncf.io",
        "scope": "Namespaced",
        "names": {
            "plural": "network-attachment-definitions",
            "singular": "network-attachment-definition",
            "kind": "NetworkAttachmentDefinition",
            "shortNames": ["net-attach-def"],
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"config": {"type": "string"}},
                            }
                        },
                    }
                },
            }
        ],
    },
}
"""The kind as NPWG 1.3 describes it, section 3.2.2."""


def nad_key(name: str, namespace: str = "blue") -> NetworkKey:
    """The key of a NetworkAttachmentDefinition."""
    return NetworkKey(kind=NetworkKind.NAD, namespace=namespace, name=name)


def nad_manifest(
    name: str = "net",
    namespace: str = "blue",
    *,
    text: str | None = None,
    resource: str = "",
    **config: Any,
) -> dict[str, Any]:
    """One with `config` as its configuration, or with `text` as it is; none of both: without."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if resource:
        metadata["annotations"] = {"k8s.v1.cni.cncf.io/resourceName": resource}
    body: dict[str, Any] = {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": metadata,
    }
    if text is None and config:
        text = json.dumps(config)
    return body if text is None else body | {"spec": {"config": text}}

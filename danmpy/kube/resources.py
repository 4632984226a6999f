"""The kinds that danmpy reads and writes through the API server, and where each is served.

Pure. Only kinds are here, never versions to choose from: a kind that a server may serve in another
version is asked for with `client.KubeClient.serves` first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import quote


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind as the API server names it; `group` is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """What manifests of this kind have in ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of one object, or of all; without a namespace those of the whole cluster.

        Kubernetes API concepts, "Resource URIs".
        """
        root = f"/apis/{self.group}" if self.group else "/api"
        parts = [root, self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def subject(self, namespace: str = "", name: str = "") -> str:
        """How messages name an object: ``TenantNetwork/blue/a``; the path when it has no name."""
        if not name:
            return self.path(namespace)
        middle = f"{namespace}/" if self.namespaced and namespace else ""
        return f"{self.kind}/{middle}{name}"


def _danm(plural: str, kind: str, *, namespaced: bool) -> Resource:
    return Resource(
        group="danm.k8s.io", version="v1", plural=plural, kind=kind, namespaced=namespaced
    )


def _core(plural: str, kind: str, *, namespaced: bool) -> Resource:
    return Resource(group="", version="v1", plural=plural, kind=kind, namespaced=namespaced)


TENANT_NETWORKS: Final = _danm("tenantnetworks", "TenantNetwork", namespaced=True)
CLUSTER_NETWORKS: Final = _danm("clusternetworks", "ClusterNetwork", namespaced=False)
DANM_NETS: Final = _danm("danmnets", "DanmNet", namespaced=True)
TENANT_CONFIGS: Final = _danm("tenantconfigs", "TenantConfig", namespaced=False)
DANM_EPS: Final = _danm("danmeps", "DanmEp", namespaced=True)
PODS: Final = _core("pods", "Pod", namespaced=True)
NODES: Final = _core("nodes", "Node", namespaced=False)
NAMESPACES: Final = _core("namespaces", "Namespace", namespaced=False)
EVENTS: Final = _core("events", "Event", namespaced=True)
SECRETS: Final = _core("secrets", "Secret", namespaced=True)
LEASES: Final = Resource(
    group="coordination.k8s.io", version="v1", plural="leases", kind="Lease", namespaced=True
)
WEBHOOKS: Final = Resource(
    group="admissionregistration.k8s.io",
    version="v1",
    plural="validatingwebhookconfigurations",
    kind="ValidatingWebhookConfiguration",
    namespaced=False,
)
NADS: Final = Resource(
    group="k8s.cni.cncf.io",
    version="v1",
    plural="network-attachment-definitions",
    kind="NetworkAttachmentDefinition",
    namespaced=True,
)

IPAM_CLAIMS: Final = Resource(
    group="k8s.cni.cncf.io",
    version="v1alpha1",
    plural="ipamclaims",
    kind="IPAMClaim",
    namespaced=True,
)

RESOURCE_OF: Final[Mapping[str, Resource]] = MappingProxyType(
    {
        resource.kind: resource
        for resource in (
            TENANT_NETWORKS,
            CLUSTER_NETWORKS,
            DANM_NETS,
            TENANT_CONFIGS,
            DANM_EPS,
            PODS,
            NODES,
            NAMESPACES,
            EVENTS,
            SECRETS,
            LEASES,
            WEBHOOKS,
            NADS,
            IPAM_CLAIMS,
        )
    }
)
"""The resource of a kind."""

"""The nodes and pods of the cluster as the API server has them now (`ipam.reclaiming.Cluster`)."""

from __future__ import annotations

from danmpy.ipam.reclaiming import PodName
from danmpy.kube.client import KubeClient
from danmpy.kube.errors import MissingError
from danmpy.kube.resources import NODES, PODS


class LiveCluster:
    """Asks anew each time.

    Raises (all methods):
        ClusterError: the API server cannot be asked, or not to the end.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def nodes(self) -> frozenset[str]:
        """The names of all nodes."""
        return frozenset(each["metadata"]["name"] for each in self._client.list(NODES).items)

    def pods_on(self, node: str) -> frozenset[PodName]:
        """The pods that are bound to `node`."""
        listed = self._client.list(PODS, field_selector=f"spec.nodeName={node}")
        names = (each["metadata"] for each in listed.items)
        return frozenset((it["namespace"], it["name"], it.get("uid", "")) for it in names)

    def uid_of(self, namespace: str, pod: str) -> str | None:
        """The UID of a pod; None when there is none of that name."""
        try:
            found = self._client.get(PODS, pod, namespace)
        except MissingError:
            return None
        return str(found["metadata"].get("uid", ""))

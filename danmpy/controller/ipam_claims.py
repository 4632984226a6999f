"""The IPAMClaims of the cluster as the API server has them now (`ipam.ipamclaims.ClaimObjects`)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import structlog

from danmpy.errors import ClusterError
from danmpy.ipam.ipamclaims import ClaimName, ClaimObject
from danmpy.kube.client import KubeClient
from danmpy.kube.errors import ClashError, MissingError
from danmpy.kube.resources import IPAM_CLAIMS

_log = structlog.get_logger(__name__)


class LiveIpamClaims:
    """Asks anew each time.

    Raises (all methods):
        ClusterError: the API server cannot be asked, or not to the end.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def listed(self) -> Collection[ClaimObject] | None:
        """All of them; None where the server does not know the kind."""
        try:
            listed = self._client.list(IPAM_CLAIMS)
        except MissingError:
            return None
        return [_to_object(each) for each in listed.items]

    def is_there(self, name: ClaimName) -> bool:
        """Is this one, now?"""
        namespace, claim = name
        try:
            self._client.get(IPAM_CLAIMS, claim, namespace)
        except MissingError:
            return False
        return True

    def tell(self, claim: ClaimObject, ips: tuple[str, ...]) -> bool:
        """Write its status. One that cannot be written keeps no other from being written."""
        namespace, name = claim.name
        # The version is a precondition: what others write meanwhile is looked at first.
        patch = {
            "metadata": {"resourceVersion": claim.resource_version, "uid": claim.uid},
            "status": {"ips": list(ips)},
        }
        try:
            self._client.patch(IPAM_CLAIMS, name, patch, namespace, "status")
        except (ClashError, MissingError):
            return False
        except ClusterError as error:
            _log.warning("status not written", claim=f"{namespace}/{name}", error=str(error))
            return False
        return True


def _to_object(body: dict[str, Any]) -> ClaimObject:
    metadata = body["metadata"]
    status = body.get("status")
    ips = status.get("ips") if isinstance(status, dict) else None
    return ClaimObject(
        name=(metadata["namespace"], metadata["name"]),
        uid=metadata.get("uid", ""),
        resource_version=metadata["resourceVersion"],
        ips=tuple(map(str, ips)) if isinstance(ips, list) else (),
    )

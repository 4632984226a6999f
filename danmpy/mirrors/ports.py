"""What the mirrors ask of the rest: an API server, a database, somebody who runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from danmpy.errors import ClusterError
from danmpy.ipam.nodereports import NodeNetwork
from danmpy.kube.client import Listing
from danmpy.kube.errors import DeniedError, UnreachableError
from danmpy.kube.resources import Resource

Object = dict[str, Any]

CALLS: Final = 40
"""Calls of one target in one turn: others must have theirs, and the daemon must be able to end."""

API_SERVER: Final = "API server"
DATABASE: Final = "database"
"""Where targets write."""

WAIT_S: Final = 1.0
"""Seconds until it is looked again whether a pod is known by now: a watch has told of it then."""

REFUSED_MOST_S: Final = 120.0
"""Seconds at most between two tries of what the API server refuses for reasons of its own."""


class Cluster(Protocol):
    """The API server (`kube.client.KubeClient`); every call raises a ClusterError of `kube`."""

    def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        """One object."""

    def serves(self, group_version: str) -> bool:
        """Does the server serve this version of a group?"""

    def list(self, resource: Resource, *, label_selector: str = "") -> Listing:
        """All objects with that label."""

    def create(self, resource: Resource, body: Object, namespace: str = "") -> Object:
        """Make it."""

    def patch(
        self,
        resource: Resource,
        name: str,
        patch: Object,
        namespace: str = "",
        subresource: str = "",
    ) -> Object:
        """Merge `patch` into it (RFC 7386)."""

    def delete(self, resource: Resource, name: str, namespace: str = "", *, uid: str = "") -> None:
        """Take it away, if it still has that UID."""


class Reports(Protocol):
    """Where the controller reads what nodes say (`ipam.nodereports.NodeReports`)."""

    def write(self, node: str, rows: Mapping[str, NodeNetwork]) -> None:
        """These are all rows of the node. Raises StoreError."""

    def read(self, node: str) -> Mapping[str, NodeNetwork]:
        """The rows of the node. Raises StoreError."""


class Target(Protocol):
    """One mirror, as the thread that writes them sees it."""

    @property
    def name(self) -> str:
        """What log lines call it."""

    @property
    def place(self) -> str:
        """Where it writes: what is away there is away for all that write there."""

    def run(self, now: float) -> float | None:
        """Write what is not written yet; `now` are seconds that only go forward.

        Answers after how many seconds it has something to do again; None: when something changes.

        Raises:
            DanmpyError: it cannot be written now; the thread tries again.
        """


def concerns_all(error: ClusterError) -> bool:
    """Would every other request fail the same way?"""
    return isinstance(error, UnreachableError) or (
        isinstance(error, DeniedError) and error.status == 401
    )


def sooner(*seconds: float | None) -> float | None:
    """The least of the waits; None waits for nothing."""
    return min((each for each in seconds if each is not None), default=None)

"""Ends a daemon whose database is a file that the other nodes of its cluster do not have.

Each node would hand out the same addresses, and the controller would assign VNIs that none of them
hears of. A second node may join later, so they are counted again and again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from danmpy.api.specs import NetworkKey
from danmpy.errors import IntentError
from danmpy.intent.cluster import ClusterSource
from danmpy.intent.objects import NetworkObject
from danmpy.intent.values import Intent
from danmpy.settings import Settings

_WAY_OUT = "set database_url to a PostgreSQL database, postgresql+psycopg://..."


class Census:
    """`read` gives the wishes as they were heard last; `stop` is set to end the daemon."""

    def __init__(
        self, settings: Settings, read: Callable[[], Intent], stop: threading.Event
    ) -> None:
        is_file = settings.database_url.startswith("sqlite")
        self._is_at_stake = is_file and settings.intent.source != "folder"
        self._read = read
        self._stop = stop
        self._refusal: IntentError | None = None

    def count(self) -> None:
        """Look at the nodes now."""
        if self._is_at_stake:
            self._judge(self._read())

    def waits_for(self) -> str:
        """Why nothing may be taken from the database now; empty when it may.

        While the nodes could not be listed there may be two of them.
        """
        if not self._is_at_stake:
            return ""
        intent = self._read()
        self._judge(intent)
        if self._refusal is not None:
            return self._refusal.message
        if not (intent.complete or intent.nodes):
            return "the nodes are not listed yet, and a SQLite file can serve no more than one"
        return ""

    def require_alone(self, intent: Intent) -> None:
        """Look at the nodes of `intent`.

        Raises:
            IntentError: there are too many.
        """
        if self._is_at_stake:
            self._judge(intent)
            self.raise_if_refused()

    def raise_if_refused(self) -> None:
        """Raise what ended the daemon, if this did."""
        if self._refusal is not None:
            raise self._refusal

    def _judge(self, intent: Intent) -> None:
        names = sorted(node.name for node in intent.nodes)
        if len(names) < 2:
            return
        self._refusal = IntentError(
            f"the database is a SQLite file, and the cluster has {len(names)} nodes "
            f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}): each would hand out "
            "the same addresses",
            hint=_WAY_OUT,
            subject="database_url",
        )
        self._stop.set()


class CountedNetworks:
    """The networks of a cluster for the controller's looks; none while it has too many nodes."""

    def __init__(self, source: ClusterSource, census: Census) -> None:
        self._source = source
        self._census = census

    def read(self) -> Intent:
        """As `ClusterSource.read`.

        Raises:
            IntentError: the database cannot serve the nodes of this cluster.
        """
        intent = self._source.read()
        self._census.require_alone(intent)
        return intent

    def network_objects(self) -> Mapping[NetworkKey, NetworkObject]:
        """As `ClusterSource.network_objects`."""
        return self._source.network_objects()

"""Which nodes count as there, of those that come and go. Pure."""

from __future__ import annotations

from typing import Final

ABSENT_S: Final = 120.0
"""Seconds that a node must be missing before it is gone. A Node object is missing for a moment when
somebody makes it anew, as kubeadm and cloud controllers do; its devices stand all the while, and
their ids would be given away."""

_UNSEEN_S: Final = 30.0
"""Seconds without a look after which nothing is known of the time between."""


class Presence:
    """Remembers since when nodes are missing; seconds that only go forward come in."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._missing: dict[str, float] = {}
        self._seen_at = 0.0

    def note(self, listed: frozenset[str], reporting: frozenset[str], now: float) -> frozenset[str]:
        """The nodes that count as there at `now`, when the cluster has those that are `listed`.

        `reporting` are nodes known from elsewhere, such as those whose reports are in the database:
        one of them that is not listed counts as missing from now on.
        """
        if now - self._seen_at > _UNSEEN_S:
            self._missing = {}
        self._seen_at = now
        self._known |= listed | reporting
        self._missing = {
            node: self._missing.get(node, now) for node in self._known if node not in listed
        }
        gone = {node for node, since in self._missing.items() if now - since > ABSENT_S}
        self._known -= gone
        return frozenset(self._known)

"""What the nodes together say of a network. Pure; `nodereports` keeps what each of them says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFailure:
    """Why one node has not realised a network."""

    node: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Realised:
    """One network over all nodes that report it; `failures` are the first 5 by node name."""

    ready: int
    failed: int
    attached: int
    failures: tuple[NodeFailure, ...] = ()

    @property
    def reported(self) -> int:
        """How many nodes say anything of it."""
        return self.ready + self.failed

"""What the daemon finds out about pods by itself, for those who tell people. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from danmpy.attach.journal import AttachmentRecord


class NewsKind(StrEnum):
    """What can be found out about a running pod.

    Its interfaces were changed; it asks for a change that cannot be made; something of it is not as
    it was made; and it is again.
    """

    CHANGED = "changed"
    REFUSED = "refused"
    BROKEN = "broken"
    MENDED = "mended"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNews:
    """One piece of news about a pod that the runtime knows by `pod_uid`."""

    kind: NewsKind
    namespace: str
    pod: str
    pod_uid: str
    message: str

    @classmethod
    def of(cls, record: AttachmentRecord, kind: NewsKind, message: str) -> PodNews:
        """News about the pod of `record`."""
        return cls(
            kind=kind,
            namespace=record.namespace,
            pod=record.pod,
            pod_uid=record.pod_uid,
            message=message,
        )


Tell = Callable[[PodNews], None]
"""Takes news from any thread, in microseconds, and raises nothing."""

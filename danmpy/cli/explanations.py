"""The values of ``danmpy explain``: what is said about one pod, and what it was said from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from danmpy.api.specs import Dialect, InterfaceAsk, PodSpec
from danmpy.attach.values import InterfaceSpec
from danmpy.errors import DanmpyError
from danmpy.intent.values import Intent
from danmpy.ipam.values import Lease
from danmpy.netwatcher.values import LookReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One reason why a pod has not, or would not get, what it declares; with the way out."""

    subject: str
    message: str
    hint: str

    def to_json(self) -> dict[str, str]:
        """The problem as scripts see it."""
        return {"subject": self.subject, "message": self.message, "hint": self.hint}

    @classmethod
    def of(cls, error: DanmpyError) -> Trouble:
        """The problem that `error` tells of."""
        return cls(subject=error.subject, message=error.message, hint=error.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything about one pod. `node` is empty when nobody decided it yet; `since` is RFC 3339.

    `last` is the newest lease of a pod that is no longer there.
    """

    namespace: str
    name: str
    declared: bool
    attached: bool
    uid: str = ""
    node: str = ""
    container_id: str = ""
    since: str | None = None
    interfaces: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[Trouble, ...] = ()
    notes: tuple[str, ...] = ()
    last: Lease | None = None

    def to_json(self) -> dict[str, Any]:
        """The explanation as scripts see it."""
        return {
            "pod": f"{self.namespace}/{self.name}",
            "uid": self.uid or None,
            "node": self.node or None,
            "declared": self.declared,
            "attached": self.attached,
            "container_id": self.container_id or None,
            "since": self.since,
            "interfaces": list(self.interfaces),
            "problems": [problem.to_json() for problem in self.problems],
            "notes": list(self.notes),
            "last": self.last.to_json() if self.last else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Still:
    """A look that is over, for those who would wait for a newer one."""

    intent: Intent
    report: LookReport

    def read_for(self, namespace: str, name: str, uid: str) -> Intent:
        """The wishes that were looked at."""
        del namespace, name, uid
        return self.intent

    def hear(self, intent: Intent, pod: PodSpec, asks: Sequence[InterfaceAsk]) -> Intent:
        """What was looked at is all that there is."""
        del pod, asks
        return intent

    def wait_for(self, condition: Callable[[LookReport], bool], seconds: float) -> LookReport:
        """There is no newer look."""
        del condition, seconds
        return self.report


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What the rules make of the declaration: complete `specs`, or what of them is possible.

    `given` are the asks that are not the pod's own: networks that the cluster gives to every pod.
    """

    dialect: Dialect = Dialect.DANM
    asks: tuple[InterfaceAsk, ...] = ()
    given: tuple[InterfaceAsk, ...] = ()
    specs: tuple[InterfaceSpec, ...] = ()
    problems: tuple[Trouble, ...] = ()

    def ask_of(self, spec: InterfaceSpec) -> InterfaceAsk | None:
        """The entry behind an interface; None for a network that the pod did not ask for."""
        ask = self.asks[spec.index] if self.asks else None
        return None if ask is None or ask in self.given else ask

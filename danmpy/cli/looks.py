"""What several commands look at: the wishes, this node's devices as the netwatcher would see them,
and the database's time. Reads only; works beside a running daemon and without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from danmpy.api.specs import (
    Condition,
    ConditionStatus,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
)
from danmpy.cli.edge import say
from danmpy.clock import to_rfc3339
from danmpy.errors import HostError, StoreError

if TYPE_CHECKING:
    from danmpy.attach.journal import AttachmentRecord
    from danmpy.bootstrap.readers import Source
    from danmpy.intent.values import Intent, PodKey
    from danmpy.ipam.audit import Audit
    from danmpy.netwatcher.mirror import Refusal
    from danmpy.netwatcher.values import LookReport
    from danmpy.settings import Settings

PARAMETERS_VALID: Final = "ParametersValid"
"""The condition type that says whether the manifest of a network keeps the rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The wishes, and what the netwatcher of this node makes of them now.

    `attachments` are this node's. `audit` asks the database; it and `database_time` (RFC 3339) are
    None, and `store_error` is set, when the database could not be read. `refusals` are what the
    kernel refused to the daemon, by device: a preview tries nothing and cannot know.
    """

    intent: Intent
    report: LookReport
    attachments: tuple[AttachmentRecord, ...]
    audit: Audit | None
    database_time: str | None
    store_error: StoreError | None = None
    refusals: Mapping[str, Refusal] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[NetworkKey, ...]:
        """Every network that somebody wishes, refused ones too, in order."""
        return tuple(sorted({*self.intent.networks, *self.intent.rejected}))

    def spec(self, key: NetworkKey) -> NetworkSpec | None:
        """The network with its assignment, without it while it has none; None when refused."""
        return self.report.networks.get(key) or self.intent.networks.get(key)

    def conditions(self, key: NetworkKey) -> tuple[Condition, ...]:
        """Every condition of a network, ParametersValid first."""
        return (self._parameters_valid(key), *self.report.conditions.get(key, ()))

    def wrong(self, key: NetworkKey) -> tuple[Condition, ...]:
        """The conditions that are not True."""
        return tuple(c for c in self.conditions(key) if c.status is not ConditionStatus.TRUE)

    def _parameters_valid(self, key: NetworkKey) -> Condition:
        problems = self.intent.rejected.get(key, ())
        if not problems:
            return Condition(
                type=PARAMETERS_VALID,
                status=ConditionStatus.TRUE,
                reason="Accepted",
                message="the manifest keeps the rules",
            )
        return Condition(
            type=PARAMETERS_VALID,
            status=ConditionStatus.FALSE,
            reason=problems[0].code,
            message="; ".join(f"{problem.message} ({problem.hint})" for problem in problems),
        )

    @property
    def unassigned(self) -> tuple[NetworkKey, ...]:
        """Tenants' networks whose segment only the database knows, while it cannot be read."""
        if self.store_error is None:
            return ()
        return tuple(key for key in self.intent.networks if key.kind is NetworkKind.TENANT)

    def unread(self) -> StoreError:
        """Why the database could not be read; for when `audit` is None."""
        return self.store_error or StoreError(
            "the database was not read", hint="run the command again", subject="database"
        )

    def as_it_stands(self) -> Look:
        """The same look, with the networks not ready whose device is still to be made.

        A preview judges the node as it would be after its steps.
        """
        from danmpy.netwatcher.values import DEVICE_READY, Action

        missing = {step.device for step in self.report.steps if step.action is Action.CREATE}
        late = {key: name for key, name in self.report.device_of.items() if name in missing}
        conditions: dict[NetworkKey, tuple[Condition, ...]] = dict(self.report.conditions)
        for key, name in late.items():
            reason, words = "Pending", "danmpy node makes it; is it running?"
            if refusal := self.refusals.get(name):
                reason, words = refusal.reason, f"{refusal.message}; tried at {refusal.at}"
            pending = Condition(
                type=DEVICE_READY,
                status=ConditionStatus.FALSE,
                reason=reason,
                message=f"device {name} is not there yet ({words})",
            )
            others = tuple(c for c in conditions.get(key, ()) if c.type != DEVICE_READY)
            conditions[key] = (pending, *others)
        device_of = {k: name for k, name in self.report.device_of.items() if k not in late}
        report: LookReport = replace(self.report, conditions=conditions, device_of=device_of)
        return replace(self, report=report)

    def notes(self, *, refused: bool = True) -> Iterator[str]:
        """What a person should know besides the answer: one line each.

        Without `refused`, what is wrong with single networks is left out.
        """
        theirs = {problem for each in self.intent.rejected.values() for problem in each}
        for problem in (*self.intent.problems, *sorted(theirs)):
            if refused or problem not in theirs:
                yield str(problem)
        if self.store_error is not None:
            yield str(self.store_error)
        if self.report.error:
            yield self.report.error


def look_at(
    settings: Settings,
    intent: Intent | None = None,
    *,
    pods: bool = False,
    pod: PodKey | None = None,
) -> Look:
    """Look at this node; `intent` stands in for the wishes of the settings.

    Of a cluster with all its `pods`, or with the one `pod`; a folder is always read whole.

    Raises:
        ClusterError: there is no usable kubeconfig.
    """
    from danmpy.bootstrap import readers
    from danmpy.netwatcher.values import LookReport

    wishes = _wishes(readers.open_intent(settings, pods=pods), pod) if intent is None else intent
    attachments = readers.read_attachments(settings)
    audit: Audit | None = None
    time: str | None = None
    trouble: StoreError | None = None
    try:
        audit = readers.open_audit(settings)
        time = to_rfc3339(audit.database_time())
    except StoreError as error:
        audit, trouble = None, error
    try:
        with readers.open_netwatcher(settings, attachments) as netwatcher:
            report = netwatcher.preview(wishes)
    except HostError as error:
        report = LookReport(at=0, error=str(error))
    return Look(
        intent=wishes,
        report=report,
        attachments=attachments,
        audit=audit,
        database_time=time,
        store_error=trouble,
        refusals=readers.open_refusals(settings),
    )


def _wishes(source: Source, pod: PodKey | None) -> Intent:
    from danmpy.intent.folder import FolderSource

    intent = source.read()
    if pod is None or isinstance(source, FolderSource):
        return intent
    return source.with_pod(intent, pod)


def say_notes(look: Look, *, refused: bool = True) -> None:
    """The notes of a look on standard error, each once."""
    for line in dict.fromkeys(look.notes(refused=refused)):
        say(line)


def condition_item(condition: Condition) -> dict[str, Any]:
    """A condition as scripts see it."""
    return {
        "type": condition.type,
        "status": str(condition.status),
        "reason": condition.reason,
        "message": condition.message,
    }

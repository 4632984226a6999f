"""``danmpy audit diff``: the database against the wishes against the kernel of this node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import typer

from danmpy.cli.args import ConfigOption, OutputOption, read_settings
from danmpy.cli.edge import DONE, FAILED, FINDINGS, say
from danmpy.cli.output import Column, Format, Listing, emit
from danmpy.clock import sleep
from danmpy.errors import DanmpyError

if TYPE_CHECKING:
    from danmpy.cli.looks import Look
    from danmpy.ipam.audit import Audit
    from danmpy.ipam.findings import Finding, SeenInterface
    from danmpy.ipam.values import Lease
    from danmpy.settings import Settings

PAUSE_S: Final = 1.0
"""Seconds between the two looks: longer than an ADD, a DEL or a look of the netwatcher takes."""

FINDING_FIELDS: Final = ("kind", "subject", "message", "hint")

DEVICE_DIFFERS: Final = "DeviceDiffers"
NETWORK_NOT_READY: Final = "NetworkNotReady"


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """What one look found; `unread` says which parts could not be read and why."""

    findings: frozenset[Finding] = frozenset()
    unread: tuple[str, ...] = ()
    database_time: str | None = None


@dataclass(slots=True)
class _Reading:
    """The parts as they are read; one that fails does not stop the others."""

    settings: Settings
    unread: list[str] = field(default_factory=list)

    def failed(self, part: str, error: object) -> None:
        """Note that `part` could not be read."""
        self.unread.append(f"{part}: {error}")


def diff(
    context: typer.Context,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """Where database, manifests and the kernel of this node disagree.

    Exit code 0 clean, 1 differences, 3 when some part could not be looked at.
    """
    settings = read_settings(context, config)
    found = read_differences(settings)
    if found.findings:
        # What is only under way is gone, or is another finding, at the second look.
        sleep(PAUSE_S)
        again = read_differences(settings)
        found = Differences(
            findings=found.findings & again.findings,
            unread=again.unread,
            database_time=again.database_time,
        )
    for line in found.unread:
        say(line)
    listing = Listing(
        items=[finding.to_json() for finding in sorted(found.findings)],
        columns=[
            Column(title="KIND", text=lambda item: item["kind"], style=lambda _: "red"),
            Column(title="SUBJECT", text=lambda item: item["subject"]),
            Column(title="MESSAGE", text=lambda item: item["message"]),
            Column(title="HINT", text=lambda item: item["hint"]),
        ],
        fields=FINDING_FIELDS,
        database_time=found.database_time,
        extra={"unread": list(found.unread)},
        empty="no difference in what could be looked at" if found.unread else "no differences",
    )
    emit(listing, output)
    if found.unread:
        return FAILED
    return FINDINGS if found.findings else DONE


def read_differences(settings: Settings) -> Differences:
    """One look at everything."""
    from danmpy.cli.looks import look_at

    reading = _Reading(settings)
    findings: set[Finding] = set()
    look: Look | None = None
    try:
        look = look_at(settings, pods=True)
    except DanmpyError as error:
        reading.failed("manifests", error)
    if look is not None:
        findings |= _devices(reading, look)
    findings |= _database(reading, look)
    return Differences(
        findings=frozenset(findings),
        unread=tuple(dict.fromkeys(reading.unread)),
        database_time=look.database_time if look else None,
    )


def _devices(reading: _Reading, look: Look) -> set[Finding]:
    """This node's devices against the networks."""
    from danmpy.ipam.findings import Finding

    report = look.report
    if not look.intent.complete:
        for problem in look.intent.problems:
            reading.failed("manifests", problem)
    if report.error:
        reading.failed("host devices", report.error)
        return set()
    steps: dict[str, list[str]] = {}
    for step in report.steps:
        steps.setdefault(step.device, []).append(f"{step.action}: {step.reason}")
    found = {
        Finding(
            kind=DEVICE_DIFFERS,
            subject=device,
            message="; ".join(words),
            hint="danmpy node does this by itself; is it running? danmpy plan shows all steps",
        )
        for device, words in steps.items()
    }
    skipped = {*look.intent.rejected, *look.unassigned}
    for key in look.keys:
        if key in skipped or key in report.device_of:
            continue
        for condition in look.wrong(key):
            found.add(
                Finding(
                    kind=NETWORK_NOT_READY,
                    subject=str(key),
                    message=condition.message,
                    hint="danmpy networks shows every condition",
                )
            )
    return found


def _database(reading: _Reading, look: Look | None) -> set[Finding]:
    """The database against the pods and against what the kernel shows, and against itself."""
    from danmpy.bootstrap.readers import find_violations, open_audit
    from danmpy.ipam import findings

    try:
        leases = _open_leases((look.audit if look else None) or open_audit(reading.settings))
        broken = find_violations(reading.settings)
    except DanmpyError as error:
        reading.failed("database", error)
        return set()
    pods = look.intent.pods if look is not None and look.intent.complete else None
    node = reading.settings.node_name
    try:
        seen = _seen(reading.settings, look)
    except DanmpyError as error:
        reading.failed("attachments", error)
        # Leases of this node could only be called orphans then, for lack of a look.
        leases, seen, node = tuple(lease for lease in leases if lease.node != node), (), ""
    return {*findings.find(leases, seen, pods, node), *broken}


def _open_leases(audit: Audit) -> tuple[Lease, ...]:
    """Every lease that is held now, on all nodes."""
    from danmpy.ipam.audit import HistoryFilter

    held_now = HistoryFilter(since=audit.database_time())
    return tuple(lease for lease in audit.history(held_now) if lease.to is None)


def _seen(settings: Settings, look: Look | None) -> tuple[SeenInterface, ...]:
    """Every interface that this node has attached, as the kernel shows it."""
    from danmpy.attach.observe import observe
    from danmpy.bootstrap.readers import read_attachments

    return tuple(observe(look.attachments if look else read_attachments(settings)))

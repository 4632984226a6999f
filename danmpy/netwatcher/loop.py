"""The loop: look at all wishes and all links, plan, apply, report. Level-triggered.

An event, whoever sends it, only says "look again". Looks never overlap; what cannot be read is
reported, and then nothing is changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Protocol

import structlog

from danmpy.api.limits import VXLAN_PORT
from danmpy.api.specs import (
    Condition,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    SegmentKey,
    TenantConfigSpec,
)
from danmpy.clock import Clock, monotonic, wall_clock
from danmpy.errors import DanmpyError, StoreError
from danmpy.intent.values import Intent
from danmpy.ipam.profiles import Assignments, is_offered
from danmpy.kernel.hostlinks import HostFacts, LinkChange, LinkKindError, RemoveLink
from danmpy.netwatcher.conditions import judge_networks, not_ready
from danmpy.netwatcher.devices import desired_devices
from danmpy.netwatcher.plan import kept_in_use, kept_orphans, plan_devices
from danmpy.netwatcher.underlay import own_vteps
from danmpy.netwatcher.values import (
    Desired,
    Flooding,
    LookReport,
    Reason,
    Step,
    StepFailure,
    WatchContext,
)

_log = structlog.get_logger(__name__)

_IDLE_SHARE = 200
"""Looks that nothing asked for take at most one part in so many of a processor."""

_MANY_STEPS = 20
"""More steps than these are one line in the log; so are further refusals."""


class IntentSource(Protocol):
    """Where wishes come from."""

    def read(self) -> Intent:
        """Everything that people want now."""


class Assigner(Protocol):
    """Who gives TenantNetworks their segments."""

    def assign(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        keep: frozenset[NetworkKey],
        claims: frozenset[SegmentKey],
        complete: bool,
        nodes: frozenset[str],
    ) -> Assignments:
        """Assign and remember; an id that one of `nodes` still has a device for is not given."""

    def current(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        keep: frozenset[NetworkKey],
        claims: frozenset[SegmentKey],
        nodes: frozenset[str],
    ) -> Assignments:
        """What `assign` would answer, without writing."""


class Host(Protocol):
    """The links of this node."""

    def read(self) -> HostFacts:
        """All links now."""

    def apply(self, change: LinkChange) -> None:
        """Make one change, whole, or raise HostError."""

    def remove_links(self, changes: Sequence[RemoveLink]) -> None:
        """Remove many links at once, or raise HostError with some still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPorts:
    """What the loop talks to.

    `conf_names` are the NetworkIDs with a delegate configuration, `in_use` the links of this host
    that pods' interfaces are on; `publish` hears of every look.
    """

    source: IntentSource
    assigner: Assigner
    host: Host
    conf_names: Callable[[], frozenset[str]] = frozenset
    in_use: Callable[[], frozenset[str]] = frozenset
    publish: Callable[[LookReport], None] = lambda _report: None
    clock: Clock = wall_clock


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """How this node watches.

    `period_seconds` pass between looks that nothing asked for; after a failure it is
    `retry_seconds`, doubled with each further one. `rest_seconds` is the longest rest after a look
    before an event is followed: a storm of kernel events must not eat a processor.
    """

    node_name: str
    flooding: Flooding = Flooding.UNICAST
    port: int = VXLAN_PORT
    period_seconds: float = 10.0
    retry_seconds: float = 1.0
    rest_seconds: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resolved:
    """Networks with their segments, and those that have none with the reason.

    `kept` are segments of networks whose manifests are refused now or that have a problem.
    `complete` is False when the database could not be asked: then nothing may be removed for being
    absent.
    """

    networks: Mapping[NetworkKey, NetworkSpec]
    problems: Mapping[NetworkKey, Condition] = field(default_factory=dict)
    kept: frozenset[SegmentKey] = frozenset()
    complete: bool = True


class Netwatcher:
    """Keeps the links of one node as its networks want them."""

    def __init__(self, ports: WatchPorts, settings: WatchSettings) -> None:
        self._ports = ports
        self._settings = settings
        self._looking = threading.Lock()
        self._state = threading.Condition()
        self._report = LookReport(at=0)
        self._begun = 0
        self._done = 0
        self._poked = False
        self._urgent = False
        self._closing = False
        self._thread: threading.Thread | None = None
        self._assigned: dict[NetworkKey, tuple[NetworkSpec, NetworkSpec]] = {}

    @property
    def report(self) -> LookReport:
        """What the last look came to."""
        with self._state:
            return self._report

    # Looking.

    def look(self) -> LookReport:
        """Look at everything once and apply what is needed; what goes wrong is in the report."""
        with self._looking:
            with self._state:
                self._begun += 1
                number, before = self._begun, self._report
            report = self._look(before)
            with self._state:
                self._report = report
                self._done = number
                self._state.notify_all()
            self._ports.publish(report)
            return report

    def preview(self, intent: Intent) -> LookReport:
        """What a look with `intent` would do; changes nothing, neither links nor assignments."""
        return self._survey(intent, LookReport(at=self._ports.clock()), apply=False)

    def _look(self, before: LookReport) -> LookReport:
        try:
            intent = self._ports.source.read()
        except DanmpyError as error:
            report = self._blind(before, error, 0.0)
        else:
            report = self._survey(intent, before, apply=True)
        _log_changes(before, report)
        return report

    def _blind(self, before: LookReport, error: DanmpyError, seconds: float) -> LookReport:
        return replace(
            before,
            at=self._ports.clock(),
            steps=(),
            failures=(),
            error=str(error),
            seconds=seconds,
        )

    def _survey(self, intent: Intent, before: LookReport, *, apply: bool) -> LookReport:
        began = monotonic()
        try:
            resolved = self._resolve(intent, write=apply)
            host = self._ports.host.read()
            in_use = self._ports.in_use()
            desired = self._desire(intent, resolved, host, frozenset(before.device_of), in_use)
        except DanmpyError as error:
            return self._blind(before, error, monotonic() - began)
        prune = intent.complete and resolved.complete
        steps = plan_devices(desired, host, prune=prune)
        failures = self._apply(steps) if apply else ()
        return replace(
            self._compile(resolved, desired, host, failures),
            intent=intent,
            steps=steps,
            failures=failures,
            kept_orphans=() if prune else kept_orphans(desired, host),
            kept_in_use=kept_in_use(desired, host, in_use),
            seconds=monotonic() - began,
        )

    def _resolve(self, intent: Intent, *, write: bool) -> _Resolved:
        """Give every network its segment; without the database, the one known from before."""
        assigner = self._ports.assigner
        nodes = frozenset(node.name for node in intent.nodes)
        try:
            if write:
                answer = assigner.assign(
                    intent.networks,
                    intent.tenant_configs,
                    keep=frozenset(intent.rejected),
                    claims=intent.claims,
                    complete=intent.complete,
                    nodes=nodes,
                )
            else:
                answer = assigner.current(
                    intent.networks,
                    intent.tenant_configs,
                    keep=frozenset(intent.rejected),
                    claims=intent.claims,
                    nodes=nodes,
                )
        except StoreError as error:
            return self._resolve_without_store(intent, error)
        self._assigned = {
            key: (intent.networks[key], network)
            for key, network in answer.networks.items()
            if key in intent.networks
        }
        return _Resolved(networks=answer.networks, problems=answer.problems, kept=answer.kept)

    def _resolve_without_store(self, intent: Intent, error: StoreError) -> _Resolved:
        networks: dict[NetworkKey, NetworkSpec] = {}
        problems: dict[NetworkKey, Condition] = {}
        for key, network in intent.networks.items():
            asked, resolved = self._assigned.get(key, (None, network))
            by_hand = key.kind is not NetworkKind.TENANT
            if key.kind is NetworkKind.NAD:
                # A tenant wrote it, and whose wire that is was not asked.
                by_hand = network.segment is None
            if asked == network:
                networks[key] = resolved
            elif by_hand and not is_offered(network.segment, intent.tenant_configs):
                networks[key] = network
            else:  # for all that is known, a tenant has that segment
                problems[key] = not_ready(
                    Reason.STORE_UNAVAILABLE, f"its segment is not known: {error}"
                )
        return _Resolved(networks=networks, problems=problems, complete=False)

    def _desire(
        self,
        intent: Intent,
        resolved: _Resolved,
        host: HostFacts,
        standing: frozenset[NetworkKey],
        in_use: frozenset[str],
    ) -> Desired:
        context = WatchContext(
            node_name=self._settings.node_name,
            host=host,
            nodes=intent.nodes,
            flooding=self._settings.flooding,
            port=self._settings.port,
            conf_names=self._ports.conf_names(),
            standing=standing,
            in_use=in_use,
        )
        unserved = intent.rejected.keys() | resolved.problems.keys()
        return desired_devices(
            resolved.networks, context, claims=intent.claims | resolved.kept | unserved
        )

    def _apply(self, steps: Iterable[Step]) -> tuple[StepFailure, ...]:
        """Apply each step; a failure ends the work on its device and on no other."""
        failures: list[StepFailure] = []
        given_up: set[str] = set()
        for is_removal, group in groupby(steps, lambda step: isinstance(step.change, RemoveLink)):
            together = tuple(group)
            if is_removal and self._remove_together(together):
                continue
            for step in together:
                failure = None if step.device in given_up else self._apply_one(step)
                if failure is not None:
                    failures.append(failure)
                    given_up.add(step.device)
        return tuple(failures)

    def _remove_together(self, steps: Sequence[Step]) -> bool:
        """Are all of them gone? If not, each is tried by itself and says why."""
        removals = [step.change for step in steps if isinstance(step.change, RemoveLink)]
        if len(removals) < 2:
            return False
        try:
            self._ports.host.remove_links(removals)
        except DanmpyError:
            return False
        return True

    def _apply_one(self, step: Step) -> StepFailure | None:
        try:
            self._ports.host.apply(step.change)
        except DanmpyError as error:
            unknown = isinstance(error, LinkKindError)
            reason = Reason.KERNEL_MODULE_MISSING if unknown else Reason.KERNEL_REFUSED
            return StepFailure(step=step, reason=reason, message=str(error))
        return None

    def _compile(
        self,
        resolved: _Resolved,
        desired: Desired,
        host: HostFacts,
        failures: Sequence[StepFailure],
    ) -> LookReport:
        verdict = judge_networks(resolved.networks, desired, failures)
        refused = {key: (condition,) for key, condition in resolved.problems.items()}
        mtus = {device.name: device.mtu for device in desired.devices}
        mtus |= {
            name: link.mtu
            for name in set(verdict.device_of.values()) - {""} - set(mtus)
            if (link := host.named(name)) is not None
        }
        return LookReport(
            at=self._ports.clock(),
            networks=resolved.networks,
            conditions={**refused, **verdict.conditions},
            device_of=verdict.device_of,
            mtu_of=mtus,
            vteps=own_vteps(desired),
        )

    # The thread.

    def start(self) -> None:
        """Look now, then whenever poked and at least once a period, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="netwatcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the look that is going on, if any."""
        with self._state:
            self._closing = True
            self._state.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def poke(self) -> None:
        """Look again soon; many pokes are one look."""
        with self._state:
            self._poked = True
            self._state.notify_all()

    def wait_for(self, condition: Callable[[LookReport], bool], seconds: float) -> LookReport:
        """Wait until a look that starts from now on satisfies `condition`, or time is up.

        Answers the last report, satisfying or not. Without a running thread it looks itself, once.
        """
        if self._thread is None:
            return self.look()
        deadline = monotonic() + seconds
        with self._state:
            first = self._begun + 1
            self._poked = self._urgent = True
            self._state.notify_all()
            while not self._closing:
                if self._done >= first and condition(self._report):
                    break
                left = deadline - monotonic()
                if left <= 0:
                    break
                self._state.wait(left)
            return self._report

    def _run(self) -> None:
        rest = 0.0
        failed = 0
        seconds = 0.0
        while self._wait(rest, self._patience(failed, seconds)):
            try:
                report = self.look()
            except Exception as error:  # noqa: BLE001 - the node lives on and tries again
                _log.exception("look failed", error=str(error))
                rest, failed = self._settings.rest_seconds, failed + 1
                continue
            bad = bool(report.failures or report.error)
            failed = failed + 1 if bad else 0
            rest = self._settings.rest_seconds if bad else self._rest_after(report.seconds)
            seconds = report.seconds

    def _patience(self, failed: int, seconds: float) -> float:
        """Seconds until a look that nobody asks for, after so many that failed; the last one took
        `seconds`. A node where nothing happens must not be busy with looking.
        """
        period = min(6 * self._settings.period_seconds, _IDLE_SHARE * seconds)
        period = max(self._settings.period_seconds, period)
        return (
            min(period, self._settings.retry_seconds * 2 ** min(failed - 1, 16))
            if failed
            else period
        )

    def _rest_after(self, seconds: float) -> float:
        """How long events have to wait: a quarter of one processor is enough for looking."""
        return min(self._settings.rest_seconds, max(0.02, 3 * seconds))

    def _wait(self, rest: float, patience: float) -> bool:
        """Wait for a reason to look; False when it is time to end."""
        began = monotonic()
        with self._state:
            while not self._closing:
                passed = monotonic() - began
                due = passed >= patience or self._begun == 0
                if due or self._urgent or (self._poked and passed >= rest):
                    self._poked = self._urgent = False
                    return True
                until = min(rest, patience) if self._poked else patience
                self._state.wait(max(0.001, until - passed))
            return False


def _log_changes(before: LookReport, report: LookReport) -> None:
    """Tell what was done; what goes wrong is told once, and not at every look again."""
    if report.error and report.error != before.error:
        _log.warning("cannot look", error=report.error)
    for problem in _new_problems(before.intent, report.intent):
        _log.warning("manifest refused", problem=problem)
    known = {(failure.step.device, failure.message) for failure in before.failures}
    new = [f for f in report.failures if (f.step.device, f.message) not in known]
    for failure in new[:_MANY_STEPS]:
        _log.warning("refused", device=failure.step.device, error=failure.message)
    if len(new) > _MANY_STEPS:
        _log.warning("refused as well", steps=len(new) - _MANY_STEPS)
    done = _done(report)
    if len(done) > _MANY_STEPS:
        _log.info("applied", steps=len(done), seconds=round(report.seconds, 3))
        return
    for step in done:
        _log.info("applied", action=str(step.action), device=step.device, reason=step.reason)


def _new_problems(before: Intent | None, now: Intent | None) -> list[str]:
    """What is wrong with the wishes and was not at the look before, a line each."""
    known = set(before.problems) if before else set()
    return [str(problem) for problem in now.problems if problem not in known] if now else []


def _done(report: LookReport) -> list[Step]:
    """The steps that were applied: a failure ended the work on its device."""
    refused = {failure.step for failure in report.failures}
    given_up: set[str] = set()
    done = []
    for step in report.steps:
        if step in refused:
            given_up.add(step.device)
        elif step.device not in given_up:
            done.append(step)
    return done

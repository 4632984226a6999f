"""The loop: look at all wishes and all links, plan, apply, report. Level-triggered.

An event, whoever sends it, only says "look again". Looks never overlap; what cannot be read is
reported, and then nothing is changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from danmpy.ipam.profiles import Assignments
from danmpy.kernel.hostlinks import HostFacts, LinkChange, LinkKindError
from danmpy.netwatcher.conditions import judge_networks, not_ready
from danmpy.netwatcher.devices import desired_devices
from danmpy.netwatcher.plan import kept_orphans, plan_devices
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
    ) -> Assignments:
        """Assign and remember."""

    def current(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        claims: frozenset[SegmentKey],
    ) -> Assignments:
        """What `assign` would answer, without writing."""


class Host(Protocol):
    """The links of this node."""

    def read(self) -> HostFacts:
        """All links now."""

    def apply(self, change: LinkChange) -> None:
        """Make one change, whole, or raise HostError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPorts:
    """What the loop talks to. `conf_names` are the NetworkIDs with a delegate configuration."""

    source: IntentSource
    assigner: Assigner
    host: Host
    conf_names: Callable[[], frozenset[str]] = frozenset
    clock: Clock = wall_clock


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """How this node watches.

    `period_seconds` pass between looks that nothing asked for. `rest_seconds` is the longest rest
    after a look before an event is followed: a storm of kernel events must not eat a processor.
    """

    node_name: str
    flooding: Flooding = Flooding.UNICAST
    port: int = VXLAN_PORT
    period_seconds: float = 10.0
    rest_seconds: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resolved:
    """Networks with their segments, and those that have none with the reason."""

    networks: Mapping[NetworkKey, NetworkSpec]
    problems: Mapping[NetworkKey, Condition] = field(default_factory=dict)
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
            return report

    def preview(self, intent: Intent) -> LookReport:
        """What a look with `intent` would do; changes nothing, neither links nor assignments."""
        return self._survey(intent, LookReport(at=self._ports.clock()), apply=False)

    def _look(self, before: LookReport) -> LookReport:
        try:
            intent = self._ports.source.read()
        except DanmpyError as error:
            return self._blind(before, error, 0.0)
        report = self._survey(intent, before, apply=True)
        _log_changes(before, report)
        return report

    def _blind(self, before: LookReport, error: DanmpyError, seconds: float) -> LookReport:
        if str(error) != before.error:
            _log.warning("cannot look", error=str(error))
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
            desired = self._desire(intent, resolved, host, frozenset(before.device_of))
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
            seconds=monotonic() - began,
        )

    def _resolve(self, intent: Intent, *, write: bool) -> _Resolved:
        """Give every network its segment; without the database, the one known from before."""
        assigner = self._ports.assigner
        try:
            if write:
                answer = assigner.assign(
                    intent.networks,
                    intent.tenant_configs,
                    keep=frozenset(intent.rejected),
                    claims=intent.claims,
                    complete=intent.complete,
                )
            else:
                answer = assigner.current(
                    intent.networks, intent.tenant_configs, claims=intent.claims
                )
        except StoreError as error:
            return self._resolve_without_store(intent, error)
        kept = {key: pair for key, pair in self._assigned.items() if key in intent.rejected}
        self._assigned = kept | {
            key: (intent.networks[key], network)
            for key, network in answer.networks.items()
            if key in intent.networks
        }
        return _Resolved(networks=answer.networks, problems=answer.problems)

    def _resolve_without_store(self, intent: Intent, error: StoreError) -> _Resolved:
        networks: dict[NetworkKey, NetworkSpec] = {}
        problems: dict[NetworkKey, Condition] = {}
        for key, network in intent.networks.items():
            asked, resolved = self._assigned.get(key, (None, network))
            if key.kind is not NetworkKind.TENANT:
                networks[key] = network
            elif asked == network:
                networks[key] = resolved
            else:
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
    ) -> Desired:
        context = WatchContext(
            node_name=self._settings.node_name,
            host=host,
            nodes=intent.nodes,
            flooding=self._settings.flooding,
            port=self._settings.port,
            conf_names=self._ports.conf_names(),
            standing=standing,
        )
        return desired_devices(
            resolved.networks, context, claims=intent.claims | self._claims_of_rejected(intent)
        )

    def _claims_of_rejected(self, intent: Intent) -> frozenset[SegmentKey]:
        """Segments that were assigned to networks whose manifests are refused now."""
        known = (self._assigned.get(key) for key in intent.rejected)
        segments = (pair[1].segment for pair in known if pair is not None)
        return frozenset(segment for segment in segments if segment is not None)

    def _apply(self, steps: Iterable[Step]) -> tuple[StepFailure, ...]:
        """Apply each step; a failure ends the work on its device and on no other."""
        failures: list[StepFailure] = []
        given_up: set[str] = set()
        for step in steps:
            if step.device in given_up:
                continue
            try:
                self._ports.host.apply(step.change)
            except DanmpyError as error:
                unknown = isinstance(error, LinkKindError)
                reason = Reason.KERNEL_MODULE_MISSING if unknown else Reason.KERNEL_REFUSED
                failures.append(StepFailure(step=step, reason=reason, message=str(error)))
                given_up.add(step.device)
        return tuple(failures)

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
        while self._wait(rest):
            try:
                report = self.look()
            except Exception as error:  # noqa: BLE001 - the node lives on; what broke is logged and tried again
                _log.exception("look failed", error=str(error))
                rest = self._settings.rest_seconds
                continue
            rest = self._rest_after(report)

    def _rest_after(self, report: LookReport) -> float:
        """How long events have to wait: a quarter of one processor is enough for looking."""
        if report.failures or report.error:
            return self._settings.rest_seconds
        return min(self._settings.rest_seconds, max(0.02, 3 * report.seconds))

    def _wait(self, rest: float) -> bool:
        """Wait for a reason to look; False when it is time to end."""
        began = monotonic()
        with self._state:
            while not self._closing:
                passed = monotonic() - began
                due = passed >= self._settings.period_seconds or self._begun == 0
                if due or self._urgent or (self._poked and passed >= rest):
                    self._poked = self._urgent = False
                    return True
                until = rest if self._poked else self._settings.period_seconds
                self._state.wait(max(0.001, until - passed))
            return False


def _log_changes(before: LookReport, report: LookReport) -> None:
    refused = {failure.step.change: failure for failure in report.failures}
    known = {(failure.step.device, failure.message) for failure in before.failures}
    for step in report.steps:
        failure = refused.get(step.change)
        if failure is None:
            _log.info("applied", action=str(step.action), device=step.device, reason=step.reason)
        elif (step.device, failure.message) not in known:
            _log.warning("refused", device=step.device, error=failure.message)

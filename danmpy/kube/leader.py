"""Who of several replicas leads, by a Lease of the API server (coordination.k8s.io/v1).

Times are this process's own and only go forward: a clock that jumps must neither make a leader of
a replica that is none nor take the lead away. A candidate takes the lease only after it has itself
seen it unchanged for its whole duration; a leader that could not renew it stops leading well before
anybody else could have waited that long.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from typing import Any, Final

import structlog

from danmpy.clock import Clock, monotonic, to_rfc3339, wall_clock
from danmpy.errors import ClusterError
from danmpy.kube.client import KubeClient
from danmpy.kube.errors import ClashError, MissingError
from danmpy.kube.resources import LEASES

_log = structlog.get_logger(__name__)

_CLOSE_S: Final = 10.0

_HOST_MAX: Final = 64
"""Characters, as the kernel has them (include/uapi/linux/utsname.h); some servers take more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds. `lease` is how long others wait for a leader that says nothing, `give_up` when a
    leader without renewal stops, `tick` passes between two looks.

    A leader that is killed is followed after `lease` and two ticks at most.
    """

    lease: int = 12
    give_up: float = 8.0
    tick: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidacy:
    """The lease, and what this replica calls itself in it: no other replica has that name."""

    namespace: str
    lease: str
    identity: str


def unique_identity(host: str, pid: int) -> str:
    """A name that no other replica has, nor an earlier process of this one.

    Host and process id are for people: two pods on one host network may have both alike.
    """
    return f"{host[:_HOST_MAX]}-{pid}-{secrets.token_hex(4)}"


class LeaderElection:
    """Takes part until it is closed; it then gives the lease back, if it has it."""

    def __init__(
        self,
        client: KubeClient,
        candidacy: Candidacy,
        *,
        timing: Timing | None = None,
        clock: Clock = wall_clock,
    ) -> None:
        self._client = client
        self._candidacy = candidacy
        self._timing = timing or Timing()
        self._clock = clock
        self._seen: object = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None
        self._term = 0
        self._outgrown = 0
        self._told = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leader", daemon=True)

    @property
    def term(self) -> int:
        """Grows with each change of the leader: what an earlier leader still does can be told from
        what this one does."""
        return self._term

    def leading(self) -> bool:
        """Does this replica lead at this moment?"""
        renewed = self._renewed_at
        return renewed is not None and monotonic() - renewed < self._timing.give_up

    def outgrow(self, term: int) -> None:
        """Lead with a term above `term`, if the lease is still ours at the next look.

        A Lease that was deleted begins to count anew, while what its terms fenced remembers.
        """
        self._outgrown = max(self._outgrown, term)

    def start(self) -> None:
        """Take part."""
        self._thread.start()

    def close(self) -> None:
        """Stop leading, and let another replica lead at once."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_S)
        if self.leading():
            self._renewed_at = None
            self._give_back()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - another look may do; without one we stop leading
                _log.exception("no look at the lease", error=str(error))
            self._stop.wait(self._timing.tick)

    def look(self) -> None:
        """One look at the lease: renew it, take it, or wait. Never raises a ClusterError."""
        began = monotonic()
        try:
            held = self._renew_or_take(began)
        except ClashError:
            held = False  # somebody else wrote first: look again at the next tick
        except ClusterError as error:
            _log.warning("the lease cannot be looked at", error=str(error))
            self._tell()
            return
        self._renewed_at = began if held else None
        self._tell()

    def _tell(self) -> None:
        """Say so when this replica began or ceased to lead."""
        leads = self.leading()
        if leads == self._told:
            return
        self._told = leads
        _log.info("leads" if leads else "follows", lease=self._candidacy.lease, term=self._term)

    def _renew_or_take(self, now: float) -> bool:
        """Is the lease ours after this?"""
        mine = self._candidacy
        try:
            found = self._client.get(LEASES, mine.lease, mine.namespace)
        except MissingError:
            term = self._outgrown + 1
            self._client.create(LEASES, self._body({}, term=term), mine.namespace)
            self._term = term
            return True
        spec: dict[str, Any] = found.get("spec") or {}
        holder, term = spec.get("holderIdentity") or "", int(spec.get("leaseTransitions") or 0)
        is_renewal = holder == mine.identity and self._told and term == self._term
        if is_renewal and term > self._outgrown:
            return self._write(found, term)
        if holder and holder != mine.identity and not self._is_over(spec, now):
            return False
        # Also when the name is ours and we do not lead: an earlier process of this replica had it.
        return self._write(found, max(term, self._outgrown) + 1)

    def _is_over(self, spec: dict[str, Any], now: float) -> bool:
        """Has the lease been the same before our own eyes for as long as it lasts?"""
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        lasts = int(spec.get("leaseDurationSeconds") or self._timing.lease)
        return now - self._seen_at > lasts

    def _write(self, found: dict[str, Any], term: int) -> bool:
        mine = self._candidacy
        # With the resourceVersion that was read: of two that take it, the server lets one.
        self._client.replace(LEASES, mine.lease, self._body(found, term=term), mine.namespace)
        self._term = term
        return True

    def _body(self, found: dict[str, Any], *, term: int) -> dict[str, Any]:
        now = to_rfc3339(self._clock())
        before: dict[str, Any] = found.get("spec") or {}
        renewal = term == before.get("leaseTransitions")
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": found.get("metadata") or {"name": self._candidacy.lease},
            "spec": {
                "holderIdentity": self._candidacy.identity,
                "leaseDurationSeconds": self._timing.lease,
                "acquireTime": before.get("acquireTime") if renewal else now,
                "renewTime": now,
                "leaseTransitions": term,
            },
        }

    def _give_back(self) -> None:
        mine = self._candidacy
        try:
            found = self._client.get(LEASES, mine.lease, mine.namespace)
            spec = found.get("spec") or {}
            if spec.get("holderIdentity") == mine.identity:
                found["spec"] = spec | {"holderIdentity": "", "leaseDurationSeconds": 1}
                self._client.replace(LEASES, mine.lease, found, mine.namespace)
        except ClusterError as error:
            _log.info("the lease is not given back", error=str(error))

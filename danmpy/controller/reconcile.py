"""One look of the leader at all networks: finalizers, segments, farewells, status.

Level-triggered: every look starts from the wishes, the objects and the database as they are now, so
one that is cut off at any point is made good by the next, of whichever replica. On wishes that are
not complete nothing is ended and nothing is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from danmpy.api.limits import FINALIZER
from danmpy.api.specs import NetworkKey, NetworkSpec, SegmentKey, TenantConfigSpec
from danmpy.api.words import counted
from danmpy.clock import Clock, monotonic, wall_clock
from danmpy.controller.presence import Presence
from danmpy.controller.status import (
    NetworkFacts,
    compose_status,
    is_farewell,
    is_urgent,
    patch_of,
)
from danmpy.controller.writer import Patch, Writer
from danmpy.intent.objects import NetworkObject
from danmpy.intent.values import Intent, Problem
from danmpy.ipam.profiles import Assignments
from danmpy.ipam.realised import Realised
from danmpy.ipam.registry import Holders
from danmpy.ipam.segments import StaleLeaderError
from danmpy.ipam.values import NetworkUsage

_log = structlog.get_logger(__name__)

UNHEARD_S: Final = 3.0
"""Seconds between a deletion being seen here and the end of a network: pods that hold no address of
it are known only by the nodes' reports, which come a moment late."""

USAGE_S: Final = 5.0
"""Seconds between two countings of addresses, unless a network was not counted yet."""

REPORTS_S: Final = 1.0
"""Seconds between two readings of what the nodes report."""

FORGET_S: Final = 30.0
"""Seconds between two removals of what nodes said that are no more."""

PURGE_S: Final = 3600.0
"""Seconds between two removals of retirements that are over."""

_NOTHING: Final = Realised(ready=0, failed=0, attached=0)


class Networks(Protocol):
    """The wishes and the objects that carry them (`intent.cluster.ClusterSource`)."""

    def read(self) -> Intent:
        """What was heard last."""

    def network_objects(self) -> Mapping[NetworkKey, NetworkObject]:
        """All networks, accepted or not."""


class Assigner(Protocol):
    """Who gives segments and remembers them (`ipam.segments.SegmentStore`)."""

    def assign(  # noqa: PLR0913 - the wishes as they are kept everywhere
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        keep: frozenset[NetworkKey],
        claims: frozenset[SegmentKey],
        complete: bool,
        nodes: frozenset[str],
        term: int,
    ) -> Assignments:
        """Assign and remember; a leader whose term is over is refused."""

    def stored(
        self,
        networks: Mapping[NetworkKey, NetworkSpec],
        tenant_configs: Sequence[TenantConfigSpec],
        *,
        keep: frozenset[NetworkKey],
        claims: frozenset[SegmentKey],
    ) -> Assignments:
        """What is recorded; nothing is begun or ended."""


class Reports(Protocol):
    """What the nodes say (`ipam.nodereports.NodeReports`)."""

    def summary(self) -> Mapping[str, Realised]:
        """By the text of a network's key."""

    def nodes(self) -> frozenset[str]:
        """Who has said something."""

    def forget(self, alive: frozenset[str]) -> int:
        """Take away what other nodes said."""


class Registry(Protocol):
    """Who ends networks (`ipam.registry.NetworkRegistry`)."""

    def retire(self, network: NetworkKey, uid: str) -> Holders:
        """Close the network for ever unless somebody holds an address."""

    def purge(self, reported: Iterable[str]) -> int:
        """Forget the ends that nothing asks for, when nodes speak of the networks `reported`."""


class Leadership(Protocol):
    """Whether this replica leads (`kube.leader.LeaderElection`)."""

    @property
    def term(self) -> int:
        """The number of this leadership."""

    def leading(self) -> bool:
        """Now?"""

    def outgrow(self, term: int) -> None:
        """Lead with a term above `term`, if the lease is still ours."""


UsageOf = Callable[[Sequence[NetworkSpec]], Mapping[NetworkKey, NetworkUsage]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilePorts:
    """What the look works on."""

    networks: Networks
    assigner: Assigner
    usage: UsageOf
    reports: Reports
    registry: Registry
    leader: Leadership
    writer: Writer
    clock: Clock = wall_clock


@dataclass(slots=True, kw_only=True)
class _Counted:
    """What was counted in the database, and when (monotonic seconds)."""

    usage: Mapping[NetworkKey, NetworkUsage] = field(default_factory=dict)
    usage_at: float = 0.0
    realised: Mapping[str, Realised] = field(default_factory=dict)
    realised_at: float = 0.0
    forgot_at: float = 0.0
    purged_at: float = 0.0
    present: frozenset[str] = frozenset()
    """Nodes that are there, or not missing for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Farewell:
    """What a network that is being deleted waits for (empty: nothing), and how many hold on."""

    words: str
    held: int


class Reconciler:
    """Keeps what it has counted between looks; used by one thread."""

    def __init__(self, ports: ReconcilePorts) -> None:
        self._ports = ports
        self._counted = _Counted()
        self._presence = Presence()
        self._resolved: dict[str, NetworkSpec] = {}
        """By UID, as it was assigned last: a network that is being deleted is assigned no more, and
        what is held on it is still counted."""
        self._unheard_since: dict[str, float] = {}
        self._refused_configs: frozenset[Problem] = frozenset()
        self._hurried: dict[str, object] = {}
        """UID to the segment that was written at once: while its watch is late, a look finds the
        network as it was before, and everything would be urgent again."""

    def look(self) -> bool:
        """One look; True when something is left that should be looked at again soon.

        Raises:
            StoreError: the database cannot be used; nothing was ended.
        """
        ports = self._ports
        # Before the wishes: what is old by the time it is written then carries an old term.
        term = ports.leader.term
        objects = ports.networks.network_objects()
        intent = ports.networks.read()
        if not ports.leader.leading():
            return False
        self._note_refused_configs(intent)
        held, left = self._finalize(objects)
        if intent.complete:
            self._note_nodes(frozenset(node.name for node in intent.nodes))
        assignments = self._assign(intent, objects, held, term)
        self._count(self._countable(assignments, objects), intent)
        farewells, going = self._part(objects)
        facts = {
            key: self._facts(key, found, intent, assignments, farewells.get(key))
            for key, found in objects.items()
            if key not in going
        }
        return self._tell(objects, facts) or left or bool(going)

    def _note_refused_configs(self, intent: Intent) -> None:
        """Say it once: a TenantConfig has no status, and who wrote it was told that all is well,
        when two of one range came in the same moment."""
        refused = frozenset(intent.refused_configs)
        for problem in sorted(refused - self._refused_configs):
            _log.warning(
                "refused", object=problem.subject, error=problem.message, hint=problem.hint
            )
        self._refused_configs = refused

    # Finalizers

    def _finalize(
        self, objects: Mapping[NetworkKey, NetworkObject]
    ) -> tuple[frozenset[NetworkKey], bool]:
        """The networks that cannot vanish without us, and whether some are still missing.

        Only those get a segment: one that vanished behind our back would leave pods on a wire that
        somebody else is given.
        """
        missing = {
            key: Patch(
                key=key,
                body={
                    "metadata": {
                        "resourceVersion": found.resource_version,
                        "finalizers": [*found.finalizers, FINALIZER],
                    }
                },
            )
            for key, found in objects.items()
            if FINALIZER not in found.finalizers and not found.terminating
        }
        done = self._ports.writer.write_all(list(missing.values()))
        held = {key for key, found in objects.items() if FINALIZER in found.finalizers}
        return frozenset(held | done), len(done) < len(missing)

    # Segments

    def _assign(
        self,
        intent: Intent,
        objects: Mapping[NetworkKey, NetworkObject],
        held: frozenset[NetworkKey],
        term: int,
    ) -> Assignments:
        wanted = {
            key: network
            for key, network in intent.networks.items()
            if key in held and objects[key].uid == network.uid and not network.terminating
        }
        # What exists and is not assigned in this look keeps what it has.
        keep = frozenset({*objects, *intent.networks, *intent.rejected} - wanted.keys())
        # And a wire that it names by hand is nobody else's, as long as it exists.
        named = {n.segment for key, n in intent.networks.items() if key not in wanted and n.segment}
        claims = intent.claims | named
        if not intent.complete:
            # A wire that is named, or still has a device, may be in what was not heard yet.
            return self._ports.assigner.stored(
                wanted, intent.tenant_configs, keep=keep, claims=claims
            )
        try:
            return self._ports.assigner.assign(
                wanted,
                intent.tenant_configs,
                keep=keep,
                claims=claims,
                complete=True,
                nodes=self._counted.present,
                term=term,
            )
        except StaleLeaderError as error:
            self._ports.leader.outgrow(error.last)
            raise

    # Counting

    def _note_nodes(self, listed: frozenset[str]) -> None:
        """Before anything is assigned: what stands on a node that is only missing for a moment is
        not given away."""
        known, now = self._counted, monotonic()
        is_due = not known.present or now - known.forgot_at > FORGET_S
        reporting = self._ports.reports.nodes() if is_due else frozenset()
        before = known.present
        known.present = self._presence.note(listed, reporting, now)
        if before - known.present:
            known.forgot_at = 0.0  # now, or the next look at reports knows them anew

    def _countable(
        self, assignments: Assignments, objects: Mapping[NetworkKey, NetworkObject]
    ) -> Mapping[NetworkKey, NetworkSpec]:
        """All that can be counted: what is assigned, and what was and is being deleted."""
        leaving = {
            key: self._resolved[found.uid]
            for key, found in objects.items()
            if found.terminating and found.uid in self._resolved
        }
        networks = {**assignments.networks, **leaving}
        self._resolved = {network.uid: network for network in networks.values()}
        return networks

    def _count(self, networks: Mapping[NetworkKey, NetworkSpec], intent: Intent) -> None:
        known, now = self._counted, monotonic()
        if now - known.realised_at > REPORTS_S:
            known.realised, known.realised_at = self._ports.reports.summary(), now
        if not networks.keys() <= known.usage.keys() or now - known.usage_at > USAGE_S:
            known.usage = self._ports.usage(list(networks.values()))
            known.usage_at = now
        # Asked again, as forgetting knows no term: one that was frozen has an old list of nodes.
        if not intent.complete or not self._ports.leader.leading():
            return
        if now - known.forgot_at > FORGET_S:
            self._ports.reports.forget(known.present)
            known.forgot_at = now
        if now - known.purged_at > PURGE_S:
            self._ports.registry.purge(known.realised)
            known.purged_at = now

    # Farewells

    def _part(
        self, objects: Mapping[NetworkKey, NetworkObject]
    ) -> tuple[Mapping[NetworkKey, _Farewell], frozenset[NetworkKey]]:
        """What networks that are being deleted wait for; and those that were let go just now."""
        leaving = {
            key: found
            for key, found in objects.items()
            if found.terminating and FINALIZER in found.finalizers
        }
        uids = {found.uid for found in leaving.values()}
        self._unheard_since = {u: at for u, at in self._unheard_since.items() if u in uids}
        farewells: dict[NetworkKey, _Farewell] = {}
        free: list[Patch] = []
        for key, found in leaving.items():
            farewells[key] = self._farewell(key, found)
            if farewells[key].words:
                continue
            rest = [name for name in found.finalizers if name != FINALIZER]
            metadata = {"resourceVersion": found.resource_version, "finalizers": rest or None}
            free.append(Patch(key=key, body={"metadata": metadata}))
        return farewells, self._ports.writer.write_all(free)

    def _farewell(self, key: NetworkKey, found: NetworkObject) -> _Farewell:
        """Why the network cannot go yet; when it can, no pod gets on it any more."""
        now = monotonic()
        since = self._unheard_since.setdefault(found.uid, now)
        attached = self._counted.realised.get(str(key), _NOTHING).attached
        holders = self._ports.registry.retire(key, found.uid)
        if holders.example is not None:
            lease = holders.example
            words = (
                f"{counted(holders.count, 'address')} {_are(holders.count)} held"
                f"{', such as' if holders.count > 1 else ':'} {lease.address} by "
                f"{lease.holder}"
            )
        elif attached:
            words = f"{counted(attached, 'interface')} of pods {_are(attached)} still on it"
        # Not only where there are no addresses: a pod may ask for none on any network.
        elif now - since < UNHEARD_S:
            words = "the nodes are asked whether pods are on it"
        else:
            words = ""
        return _Farewell(words=words, held=holders.count)

    # Status

    def _facts(
        self,
        key: NetworkKey,
        found: NetworkObject,
        intent: Intent,
        assignments: Assignments,
        farewell: _Farewell | None,
    ) -> NetworkFacts:
        network = assignments.networks.get(key)
        if network is not None and network.uid != found.uid:
            network = None  # the wishes are a moment older or newer than the object
        problem = assignments.problems.get(key)
        return NetworkFacts(
            network=network,
            rejected=intent.rejected.get(key, ()),
            problem=intent.with_refused_config(problem) if problem is not None else None,
            usage=self._counted.usage.get(key),
            realised=self._counted.realised.get(str(key), _NOTHING),
            waits_for=farewell.words if farewell is not None else "",
            held=farewell.held if farewell is not None else None,
        )

    def _tell(
        self,
        objects: Mapping[NetworkKey, NetworkObject],
        facts: Mapping[NetworkKey, NetworkFacts],
    ) -> bool:
        """Write what changed; True when something has to wait for its turn."""
        now = self._ports.clock()
        uids = {found.uid for found in objects.values()}
        self._hurried = {uid: segment for uid, segment in self._hurried.items() if uid in uids}
        patches: list[Patch] = []
        for key, each in facts.items():
            found = objects[key]
            status = compose_status(found, each, now)
            body = patch_of(found, status)
            if body:
                known = self._hurried.get(found.uid)
                urgent = known != status["segment"] and is_urgent(found, status)
                if urgent:
                    self._hurried[found.uid] = status["segment"]
                early = is_farewell(found, status)
                patches.append(
                    Patch(key=key, body=body, subresource="status", urgent=urgent, early=early)
                )
        return self._ports.writer.write_rarely(patches)


def _are(number: int) -> str:
    return "is" if number == 1 else "are"

"""Which network and owner a holding of another tool belongs to here. Pure.

What the database says about it is not known yet: `ipam.adoptions` judges that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from danmpy.api.dialects.danm import parse_claim
from danmpy.api.specs import NetworkSpec, PodSpec, PoolSpec
from danmpy.errors import IntentError
from danmpy.importing.values import Holding
from danmpy.ipam.adoptions import Adoption, Outcome, Place, Verdict
from danmpy.ipam.pools import pack
from danmpy.ipam.values import Json, LeaseOwner

PodKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known here. Networks go by the text of their keys.

    `unresolved` says why a network's segment is not known. `pods` is None when not all could be
    read. With `claims`, what a pod holds that has a claim (one of a StatefulSet) is kept for it.
    """

    networks: Mapping[str, NetworkSpec]
    unresolved: Mapping[str, str] = field(default_factory=dict)
    pods: Mapping[PodKey, PodSpec] | None = None
    claims: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Which network here another tool's name stands for: by `names`, else `every` one, else the
    network of that very key.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    every: str = ""

    def network(self, hint: str) -> str:
        """The text of the key."""
        return self.names.get(hint) or self.every or hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One holding and what is to be done with it.

    Either `outcome` is known, or `adoption` is to be made, or nobody is known to have the address
    of `spec`.
    """

    holding: Holding
    network: str
    message: str = ""
    outcome: Outcome | None = None
    adoption: Adoption | None = None
    spec: NetworkSpec | None = None

    @property
    def place(self) -> Place:
        """Collision domain and address; only where the network is known."""
        domain = self.spec.domain if self.spec else ""
        address = self.holding.address
        return domain, pack(address.version, int(address))

    @property
    def is_unowned(self) -> bool:
        """Is it an address of a network here, in use, and nobody is known to have it?"""
        return self.outcome is None and self.adoption is None

    def row(self, outcome: Outcome, *, dry_run: bool) -> Json:
        """What is told of it, as a JSON object."""
        holding, owner = self.holding, self.adoption.owner if self.adoption else None
        done = outcome.verdict in {Verdict.ADOPTED, Verdict.RESERVED} and dry_run
        words = (outcome.message, self.message)
        return {
            "verdict": f"would be {outcome.verdict}" if done else str(outcome.verdict),
            "address": str(holding.address),
            "network": self.network,
            "namespace": holding.namespace,
            "pod": holding.pod,
            "pod_uid": owner.pod_uid if owner else holding.pod_uid,
            "container_id": holding.container_id,
            "interface": holding.interface,
            "node": owner.node if owner else holding.node,
            "mode": str(holding.mode),
            "source": holding.source,
            "where": holding.where,
            "message": "; ".join(word for word in words if word),
        }


def plan(holdings: Iterable[Holding], known: Known, naming: Naming) -> tuple[Candidate, ...]:
    """What each holding comes to, by network and address; one told twice counts once.

    Of several owners of one address the one whose pod is there comes first.
    """
    once: dict[tuple[object, ...], Holding] = {}
    for item in holdings:
        network = naming.network(item.network)
        once.setdefault((network, item.address, item.container_id, item.interface), item)
    found = [_candidate(item, known, naming) for item in once.values()]
    return tuple(
        sorted(
            (item for item in found if item is not None),
            key=lambda item: (
                item.network,
                item.holding.address.version,
                int(item.holding.address),
                _pod_of(item.holding, known) is None,
                item.holding.where,
                item.holding.container_id,
                item.holding.interface,
            ),
        )
    )


def _candidate(holding: Holding, known: Known, naming: Naming) -> Candidate | None:
    """What one holding comes to; None for an address that is nobody's on either side."""
    network = naming.network(holding.network)
    asked = Candidate(holding=holding, network=network)
    spec = known.networks.get(network)
    if spec is None:
        why = known.unresolved.get(network) or "no network is called so here"
        return _refused(asked, Verdict.UNKNOWN_NETWORK, why)
    pool = spec.pool(holding.address.version)
    if pool is None or holding.address not in pool.subnet:
        subnets = " and ".join(str(each.subnet) for each in (spec.v4, spec.v6) if each)
        return _refused(asked, Verdict.OUTSIDE, f"the network has {subnets or 'no subnet'}")
    if not holding.is_owned:
        return _unowned(replace(asked, spec=spec), pool)
    if _within(holding, pool.reserved):
        words = "the network's first, last or gateway address: no pod gets it here"
        return _refused(asked, Verdict.OUTSIDE, words)
    if spec.terminating:
        return _refused(asked, Verdict.CONFLICT, "the network is being deleted")
    return _adopted(asked, spec, known)


def _refused(asked: Candidate, verdict: Verdict, message: str) -> Candidate:
    return replace(asked, outcome=Outcome(verdict=verdict, message=message))


def _within(holding: Holding, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= int(holding.address) <= last for first, last in ranges)


def _unowned(asked: Candidate, pool: PoolSpec) -> Candidate | None:
    if _within(asked.holding, pool.reserved):
        return None
    if _within(asked.holding, pool.excluded):
        words = "nobody is known to have it, and the network excludes it: no pod gets it"
        return _refused(asked, Verdict.HELD, words)
    return replace(asked, message="in use there, but nobody is known to have it")


def _adopted(asked: Candidate, spec: NetworkSpec, known: Known) -> Candidate:
    holding = asked.holding
    pod = _pod_of(holding, known)
    node = pod.node if pod is not None and pod.node else holding.node
    owner = LeaseOwner(
        namespace=holding.namespace,
        pod=holding.pod,
        pod_uid=holding.pod_uid or (pod.uid if pod is not None else ""),
        container_id=holding.container_id,
        node=node,
        claim=_claim_of(pod) if pod is not None and known.claims else "",
    )
    message = ""
    if not holding.pod:
        message = "the tool does not say which pod has it"
    elif pod is None and known.pods is not None:
        message = "there is no such pod now"
    return replace(
        asked,
        spec=spec,
        message=message,
        adoption=Adoption(
            network=spec,
            address=holding.address,
            owner=owner,
            interface=holding.interface,
            mac=holding.mac,
            mode=holding.mode,
            source=holding.source,
            since=holding.since,
        ),
    )


def _claim_of(pod: PodSpec) -> str:
    try:
        return parse_claim(pod)
    except IntentError:
        return ""  # it is told when the pod is attached


def _pod_of(holding: Holding, known: Known) -> PodSpec | None:
    """The pod that has it, where it is there now."""
    pod = (known.pods or {}).get((holding.namespace, holding.pod))
    if pod is None or (holding.pod_uid and not pod.is_uid(holding.pod_uid)):
        return None
    return pod

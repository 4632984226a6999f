"""What people read under ``status`` of a network: composed of facts, never read back. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from danmpy.api.rules import bitmaps_of
from danmpy.api.specs import Condition, ConditionStatus, NetworkSpec
from danmpy.clock import to_rfc3339
from danmpy.intent.objects import NetworkObject
from danmpy.intent.values import Problem
from danmpy.ipam.realised import Realised
from danmpy.ipam.values import NetworkUsage, PoolUsage
from danmpy.netwatcher.marks import device_name

Status = dict[str, Any]

READY: Final = "Ready"
PARAMETERS_VALID: Final = "ParametersValid"
IN_USE: Final = "InUse"

TERMINATING: Final = "Terminating"
"""The reason for which a network that is being deleted is not ready."""

_MESSAGE_MAX: Final = 2048
"""Characters: a status is sent to every node that watches the network."""

_UNKNOWN_POOL: Final = dict.fromkeys(("cidr", "capacity", "held", "cooling", "free"), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFacts:
    """What is known of one network.

    `network` is resolved, None when its manifest is refused (`rejected`) or it has no segment
    (`problem`). `usage` is None when it could not be read: then what was said of it stays.
    `waits_for` says of a network that is being deleted what keeps it, and `held` how many of its
    addresses are held, which is then asked in every look (None: it was not).
    """

    network: NetworkSpec | None = None
    rejected: tuple[Problem, ...] = ()
    problem: Condition | None = None
    usage: NetworkUsage | None = None
    realised: Realised = field(default_factory=lambda: Realised(ready=0, failed=0, attached=0))
    waits_for: str = ""
    held: int | None = None


def compose_status(found: NetworkObject, facts: NetworkFacts, now: int) -> Status:
    """The whole status of `found` at `now` (microseconds), with every field.

    What is said twice in a row keeps the time of its last transition.
    """
    before: Mapping[str, Any] = found.status
    conditions = [
        *_parameters(found, facts),
        *_ready(found, facts),
        *_in_use(facts, before),
    ]
    network, realised = facts.network, facts.realised
    return {
        "observedGeneration": found.generation,
        "conditions": [_rendered(each, found, now) for each in conditions],
        "device": device_name(network) if network is not None else before.get("device", ""),
        "mtu": (network.mtu or 0) if network is not None else before.get("mtu", 0),
        "segment": _segment(network) if network is not None else before.get("segment") or {},
        "v4": _pool(facts.usage.v4) if facts.usage else before.get("v4", _UNKNOWN_POOL),
        "v6": _pool(facts.usage.v6) if facts.usage else before.get("v6", _UNKNOWN_POOL),
        "nodesReady": realised.ready,
        "nodesFailed": realised.failed,
        "realised": f"{realised.ready}/{realised.reported}",
        "attached": realised.attached,
        "nodes": [
            {
                "name": failure.node,
                "ready": False,
                "reason": failure.reason,
                "message": failure.message,
            }
            for failure in realised.failures
        ],
    }


def patch_of(found: NetworkObject, status: Status) -> Status:
    """The merge patch (RFC 7386) that makes the status of `found`, and of no later object of its
    name, into `status`; empty when it is that already."""
    changed = {key: value for key, value in status.items() if found.status.get(key) != value}
    gone = {key: None for key in found.status if key not in status}
    if not changed and not gone:
        return {}
    was = found.status.get("segment")
    if "segment" in changed and isinstance(was, Mapping):
        changed["segment"] = dict.fromkeys(was) | changed["segment"]  # a merge forgets nothing
    return {"metadata": {"uid": found.uid}, "status": changed | gone}


def is_urgent(found: NetworkObject, status: Status) -> bool:
    """Do others wait for this? The nodes do for a segment, a person for the first verdict."""
    return not found.status or found.status.get("segment") != status.get("segment")


def is_farewell(found: NetworkObject, status: Status) -> bool:
    """Does `status` say for the first time that the network is being deleted?"""
    before = _ready_reason(found.status)
    return before not in {"", TERMINATING} and _ready_reason(status) == TERMINATING


def _ready_reason(status: Mapping[str, Any]) -> str:
    return next((str(e.get("reason")) for e in _conditions(status) if e["type"] == READY), "")


def _parameters(found: NetworkObject, facts: NetworkFacts) -> Iterator[Condition]:
    if not facts.rejected:
        words = "it keeps the rules"
        if ignored := bitmaps_of({"spec": found.spec}):
            words += f"; DANM's bitmap is ignored ({', '.join(ignored)})"
        yield _condition(PARAMETERS_VALID, ConditionStatus.TRUE, "Accepted", words)
        return
    words = "; ".join(f"{each.message} ({each.hint})" for each in facts.rejected)
    yield _condition(PARAMETERS_VALID, ConditionStatus.FALSE, facts.rejected[0].code, words)


def _ready(found: NetworkObject, facts: NetworkFacts) -> Iterator[Condition]:
    realised = facts.realised
    if found.terminating:
        words = facts.waits_for or "it goes as soon as every node has let go of it"
        yield _condition(READY, ConditionStatus.FALSE, TERMINATING, words)
    elif facts.rejected:
        words = "its manifest breaks rules: see ParametersValid"
        yield _condition(READY, ConditionStatus.FALSE, "ParametersInvalid", words)
    elif facts.problem is not None:
        problem = facts.problem
        yield _condition(READY, ConditionStatus.FALSE, problem.reason, problem.message)
    elif facts.network is None:
        yield _condition(READY, ConditionStatus.UNKNOWN, "Pending", "its turn has not come yet")
    elif realised.failed:
        first = "; ".join(f"{each.node}: {each.message}" for each in realised.failures[:3])
        words = f"{realised.failed} of {realised.reported} nodes could not realise it: {first}"
        yield _condition(READY, ConditionStatus.FALSE, "NodesFailed", words)
    elif not realised.ready:
        words = "no node has reported yet; does the node daemon run?"
        yield _condition(READY, ConditionStatus.UNKNOWN, "NoReports", words)
    else:
        yield _condition(READY, ConditionStatus.TRUE, "Realised", "no node has a problem with it")


def _in_use(facts: NetworkFacts, before: Mapping[str, Any]) -> Iterator[Condition]:
    held = facts.held
    if held is None and facts.usage is not None:
        pools = (facts.usage.v4, facts.usage.v6)
        held = sum(pool.held for pool in pools if pool is not None)
    if held is None and any(each["type"] == IN_USE for each in _conditions(before)):
        was = next(each for each in _conditions(before) if each["type"] == IN_USE)
        status = ConditionStatus(was["status"])
        yield _condition(IN_USE, status, was.get("reason", ""), was.get("message", ""))
        return
    attached = facts.realised.attached
    if held or attached:
        words = "pods hold addresses of it" if held else "interfaces of pods are on it"
        yield _condition(IN_USE, ConditionStatus.TRUE, "Attached", words)
    else:
        yield _condition(IN_USE, ConditionStatus.FALSE, "Unused", "no pod is on it")


def _condition(kind: str, status: ConditionStatus, reason: str, message: str) -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message[:_MESSAGE_MAX])


def _rendered(condition: Condition, found: NetworkObject, now: int) -> Status:
    since = to_rfc3339(now)
    for was in _conditions(found.status):
        if was["type"] == condition.type and was.get("status") == condition.status:
            since = was.get("lastTransitionTime") or since
    return {
        "type": condition.type,
        "status": str(condition.status),
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": since,
        "observedGeneration": found.generation,
    }


def _conditions(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(status.get("conditions") or ())


def _segment(network: NetworkSpec) -> Status:
    if network.segment is None:
        return {"parent": network.host_device, "kind": ""}
    segment = network.segment
    return {"parent": segment.parent, "kind": str(segment.kind), "id": segment.id}


def _pool(usage: PoolUsage | None) -> Status:
    """Numbers as text: an IPv6 pool has more addresses than 64 bits count."""
    if usage is None:
        return dict(_UNKNOWN_POOL)
    numbers = ("capacity", "held", "cooling", "free")
    return {"cidr": usage.cidr, **{name: str(getattr(usage, name)) for name in numbers}}

"""Admission of pods: interfaces that cannot work are refused before a node tries. Pure, but for
what it asks its ports.

A convenience and no fence: a node refuses what it cannot attach, whatever was said here. So a pod
passes whenever it cannot be told, and what only a node knows (its delegates, its devices) is not
judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from danmpy.api.dialects.danm import parse_claim
from danmpy.api.dialects.keys import ANNOTATIONS, ASKING, INTERFACES, INTERFACES_NEW
from danmpy.api.dialects.reading import read_pod
from danmpy.api.dialects.rules import NO_RULES, DialectRules, more_asks, primary_ask
from danmpy.api.findings import Finding
from danmpy.api.profile_rules import quotas_for
from danmpy.api.specs import InterfaceAsk, NetworkKey, NetworkKind, NetworkSpec, PodSpec
from danmpy.attach.deciding.resolve import ResolveContext, examine, resolve
from danmpy.controller.lookups import newest_network
from danmpy.controller.ports import AdmissionPorts
from danmpy.controller.reviews import Operation, Review, Verdict
from danmpy.errors import ClusterError, DanmpyError, IntentError

MIRROR: Final = "kubernetes.io/config.mirror"
"""Annotation of the object that stands for a static pod; refusing it would only hide the pod."""

_LOOKUPS_MAX: Final = 8
"""Networks that are asked for of the API server; a pod that names more is judged as far as that."""

_ANY_DEVICE: Final = "any"
"""Stands for the host device that a network will have on a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRules:
    """What the nodes decide by besides pods and networks (`ResolveContext`, `DialectRules`)."""

    naming_scheme: str = ""
    dialects: DialectRules = NO_RULES
    strict: bool = True


USUAL: Final = PodRules()


def judge_pod_review(review: Review, ports: AdmissionPorts, rules: PodRules) -> Verdict:
    """What is to be said of this new pod."""
    if review.operation is not Operation.CREATE or review.new is None:
        return Verdict()
    metadata = _mapping(review.new.get("metadata"))
    annotations = _mapping(metadata.get("annotations"))
    declared = [key for key in ASKING if key in annotations]
    if not declared or _mapping(review.new.get("spec")).get("hostNetwork") is True:
        return Verdict()
    pod = PodSpec(
        namespace=review.namespace,
        name=review.name,
        annotations={key: str(annotations[key]) for key in ANNOTATIONS if key in annotations},
    )
    verdict = _judge(pod, _Place(annotation=declared[0], rules=rules), ports)
    # Without ours it may be meant for another plugin, which then attaches the pod and not we.
    others = declared[0] not in {INTERFACES, INTERFACES_NEW}
    return verdict.as_warnings() if others or MIRROR in annotations else verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The networks as far as they are known. `unsure` exist, or may, and cannot be judged by."""

    networks: Mapping[NetworkKey, NetworkSpec]
    unsure: Mapping[NetworkKey, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What is blamed: an annotation. `limit` is how many interfaces there may be
    (`ResolveContext`).
    """

    annotation: str
    rules: PodRules
    limit: int | None = None

    @property
    def path(self) -> str:
        return f"metadata.annotations[{self.annotation}]"

    def finding(self, error: DanmpyError) -> Finding:
        return Finding(
            path=self.path, code="InterfacesInvalid", message=error.message, hint=error.hint
        )


def _judge(pod: PodSpec, place: _Place, ports: AdmissionPorts) -> Verdict:
    dialects = place.rules.dialects
    try:
        parse_claim(pod)
        asks = read_pod(pod, dialects).interfaces
    except IntentError as error:
        return Verdict(invalid=(place.finding(error),))
    given = (primary_ask(dialects, pod.namespace), *more_asks(dialects, pod.namespace))
    named = tuple(ask for ask in asks if replace(ask, name=None) not in given)
    if not named:
        return Verdict()  # what the cluster gives to every pod is the node's to say
    intent = ports.wishes.read()
    quotas = quotas_for(intent.tenant_configs, pod.namespace)
    place = replace(place, limit=quotas.interfaces_per_pod)
    unsure = {key: problems[0].message for key, problems in intent.rejected.items() if problems}
    known = _Known(networks=intent.networks, unsure=unsure)
    verdict = _judge_asks(pod, asks, known, place, named)
    if verdict.allowed:
        return verdict
    # The cache may be late.
    return _judge_asks(pod, asks, _newest(named, known, ports), place, named)


def _judge_asks(
    pod: PodSpec,
    asks: tuple[InterfaceAsk, ...],
    known: _Known,
    place: _Place,
    named: tuple[InterfaceAsk, ...],
) -> Verdict:
    """Only those that the pod has `named` itself are judged, as far as they can be."""
    found = [_found(ask, known) for ask in asks]
    judged = [
        ask in named and key not in known.unsure for ask, key in zip(asks, found, strict=True)
    ]
    networks = dict(known.networks)
    used = {key for key in found if key in networks}
    used |= {alias for key in used if (alias := networks[key].alias) in networks}
    networks |= {key: _as_on_a_node(networks[key]) for key in used}
    context = ResolveContext(
        container_id="",
        naming_scheme=place.rules.naming_scheme,
        interface_limit=place.limit,
        strict=place.rules.strict,
        # Which delegates a node has is not known here: every one counts as there.
        conf_names=frozenset(networks[key].network_id for key in found if key in networks),
    )
    problems = [
        result
        for result, sure in zip(examine(pod, asks, networks, context), judged, strict=True)
        if isinstance(result, DanmpyError) and sure
    ]
    if not problems and all(judged):
        try:
            resolve(pod, asks, networks, context)
        except DanmpyError as error:
            problems = [error]
    unsure = {key for key in found if key is not None and key in known.unsure}
    return Verdict(
        invalid=tuple(map(place.finding, problems)),
        warnings=tuple(
            f"{place.path}: {key} cannot be used now: {known.unsure[key]}" for key in sorted(unsure)
        ),
    )


def _found(ask: InterfaceAsk, known: _Known) -> NetworkKey | None:
    """The network that it will be on, as far as that is known."""
    exists = known.networks.keys() | known.unsure.keys()
    return next((key for key in ask.candidates if key in exists or not key.is_object), None)


def _as_on_a_node(network: NetworkSpec) -> NetworkSpec:
    """`network` with what only a node or an assignment gives: here it counts as given."""
    given = network.key.kind is NetworkKind.TENANT or network.device_pool
    device = network.host_device or (_ANY_DEVICE if given else "")
    return replace(network, host_device=device)


def _newest(asks: Sequence[InterfaceAsk], known: _Known, ports: AdmissionPorts) -> _Known:
    """`known`, with the networks of `asks` as the API server has them in this moment."""
    networks, unsure = dict(known.networks), dict(known.unsure)
    firsts = {ask.network for ask in asks}
    wanted = sorted(
        {key for ask in asks for key in ask.candidates if key.is_object},
        key=lambda key: (key in networks, key not in firsts, key),
    )
    for key in wanted[:_LOOKUPS_MAX]:
        networks.pop(key, None)
        unsure.pop(key, None)
        try:
            found = newest_network(ports.lookups, key)
        except ClusterError as error:
            unsure[key] = str(error)
            continue
        if found is None:
            continue
        if isinstance(found.value, NetworkSpec):
            networks[key] = found.value
        else:
            unsure[key] = found.problems[0].message if found.problems else "it cannot be read"
    for key in wanted[_LOOKUPS_MAX:]:
        if key not in networks:
            unsure.setdefault(key, "it was not looked for, the pod names too many networks")
    return _Known(networks=networks, unsure=unsure)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

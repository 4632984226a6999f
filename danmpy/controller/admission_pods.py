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
from danmpy.api.dialects.keys import ANNOTATIONS, INTERFACES, INTERFACES_NEW, NPWG_NETWORKS
from danmpy.api.dialects.reading import read_pod
from danmpy.api.findings import Finding
from danmpy.api.profile_rules import quotas_for
from danmpy.api.specs import InterfaceAsk, NetworkKey, NetworkKind, NetworkSpec, PodSpec
from danmpy.attach.resolve import ResolveContext, examine, resolve
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


def judge_pod_review(review: Review, ports: AdmissionPorts, naming_scheme: str = "") -> Verdict:
    """What is to be said of this new pod; `naming_scheme` as in `ResolveContext`."""
    if review.operation is not Operation.CREATE or review.new is None:
        return Verdict()
    metadata = _mapping(review.new.get("metadata"))
    annotations = _mapping(metadata.get("annotations"))
    declared = [key for key in (INTERFACES, INTERFACES_NEW, NPWG_NETWORKS) if key in annotations]
    if not declared or _mapping(review.new.get("spec")).get("hostNetwork") is True:
        return Verdict()
    pod = PodSpec(
        namespace=review.namespace,
        name=review.name,
        annotations={key: str(annotations[key]) for key in ANNOTATIONS if key in annotations},
    )
    verdict = _judge(pod, _Place(annotation=declared[0], scheme=naming_scheme), ports)
    # Without ours it may be meant for another plugin, which then attaches the pod and not we.
    others = declared[0] == NPWG_NETWORKS
    return verdict.as_warnings() if others or MIRROR in annotations else verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The networks as far as they are known. `unsure` exist, or may, and cannot be judged by."""

    networks: Mapping[NetworkKey, NetworkSpec]
    unsure: Mapping[NetworkKey, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What is blamed: an annotation. `scheme` is how interfaces are named, and `limit` how many
    there may be (`ResolveContext`).
    """

    annotation: str
    scheme: str
    limit: int | None = None

    @property
    def path(self) -> str:
        return f"metadata.annotations[{self.annotation}]"

    def finding(self, error: DanmpyError) -> Finding:
        return Finding(
            path=self.path, code="InterfacesInvalid", message=error.message, hint=error.hint
        )


def _judge(pod: PodSpec, place: _Place, ports: AdmissionPorts) -> Verdict:
    try:
        parse_claim(pod)
        asks = read_pod(pod).interfaces
    except IntentError as error:
        return Verdict(invalid=(place.finding(error),))
    if not asks or asks[0].others:
        return Verdict()  # a default network, or none: the node's to say
    intent = ports.wishes.read()
    quotas = quotas_for(intent.tenant_configs, pod.namespace)
    place = replace(place, limit=quotas.interfaces_per_pod)
    unsure = {key: problems[0].message for key, problems in intent.rejected.items() if problems}
    known = _Known(networks=intent.networks, unsure=unsure)
    verdict = _judge_asks(pod, asks, known, place)
    if verdict.allowed:
        return verdict
    # The cache may be late.
    return _judge_asks(pod, asks, _newest(asks, known, ports), place)


def _judge_asks(
    pod: PodSpec, asks: tuple[InterfaceAsk, ...], known: _Known, place: _Place
) -> Verdict:
    sure = tuple(ask for ask in asks if ask.network not in known.unsure)
    networks = dict(known.networks)
    for ask in sure:
        if ask.network in networks:
            networks[ask.network] = _as_on_a_node(known.networks[ask.network])
    context = ResolveContext(
        container_id="",
        naming_scheme=place.scheme,
        interface_limit=place.limit,
        # Which delegates a node has is not known here: every one counts as there.
        conf_names=frozenset(
            networks[ask.network].network_id for ask in sure if ask.network in networks
        ),
    )
    problems = [
        result
        for ask, result in zip(asks, examine(pod, asks, networks, context), strict=True)
        if isinstance(result, DanmpyError) and ask.network not in known.unsure
    ]
    if not problems and len(sure) == len(asks):
        try:
            resolve(pod, asks, networks, context)
        except DanmpyError as error:
            problems = [error]
    return Verdict(
        invalid=tuple(map(place.finding, problems)),
        warnings=tuple(
            f"{place.path}: {key} cannot be used now: {known.unsure[key]}"
            for key in sorted({ask.network for ask in asks} & known.unsure.keys())
        ),
    )


def _as_on_a_node(network: NetworkSpec) -> NetworkSpec:
    """`network` with what only a node or an assignment gives: here it counts as given."""
    given = network.key.kind is NetworkKind.TENANT or network.device_pool
    device = network.host_device or (_ANY_DEVICE if given else "")
    backend = "macvlan" if network.backend == "sriov" else network.backend
    return replace(network, backend=backend, host_device=device)


def _newest(asks: Sequence[InterfaceAsk], known: _Known, ports: AdmissionPorts) -> _Known:
    """`known`, with the networks of `asks` as the API server has them in this moment."""
    networks, unsure = dict(known.networks), dict(known.unsure)
    wanted = sorted({ask.network for ask in asks}, key=lambda key: (key in networks, key))
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

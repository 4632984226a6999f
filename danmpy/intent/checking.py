"""Manifests judged without a cluster: all that the rules find, and what pods ask of networks.

Pure. What needs the database, the kernel or other manifests than these is not judged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from danmpy.api.dialects.danm import parse_claim
from danmpy.api.dialects.reading import read_pod
from danmpy.api.dialects.rules import NO_RULES, primary_ask
from danmpy.api.profile_rules import quotas_for
from danmpy.api.specs import InterfaceAsk, NetworkKey, PodSpec
from danmpy.api.words import nearest
from danmpy.errors import IntentError
from danmpy.intent.documents import Document
from danmpy.intent.parse import Judged, judge_document, merge
from danmpy.intent.values import Intent, Problem

_REFERENCE_FIELDS: Final = "network, tenantNetwork or clusterNetwork"

_TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet"),
        ("spec", "template"),
    ),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Kinds that make pods, and where the pod is described. A folder has no use for them: there is no
controller that would make the pods."""


def check_documents(documents: Sequence[Document]) -> tuple[Problem, ...]:
    """Every problem of `documents`, in their order.

    A Deployment and the like is judged by the pods that it would make.
    """
    workloads = [_judge_workload(document) for document in documents]
    judged = [
        judge_document(document)
        for document, workload in zip(documents, workloads, strict=True)
        if workload is None
    ]
    intent = merge(judged, by_quota=True)
    problems = list(intent.problems)
    pods: dict[str, Judged] = {}
    for one in judged:
        pods.setdefault(one.subject, one)
    for workload in filter(None, workloads):
        problems += workload.problems
        pods.setdefault(f"{workload.where} {workload.subject}", workload)
    for one in pods.values():
        if isinstance(one.value, PodSpec) and not one.problems:
            problems += _pod_problems(one, one.value, intent)
    places = {document.where: index for index, document in enumerate(documents)}
    return tuple(sorted(problems, key=lambda problem: places.get(problem.where, -1)))


def _judge_workload(document: Document) -> Judged | None:
    """The pod of a Deployment and the like, under the name of the workload; None for others."""
    body = document.body
    kind = body.get("kind") if isinstance(body, Mapping) else None
    if not isinstance(kind, str) or kind not in _TEMPLATES:
        return None
    template: Any = body
    for field in _TEMPLATES[kind]:
        template = template.get(field) if isinstance(template, Mapping) else None
    written = template.get("metadata") if isinstance(template, Mapping) else None
    own = body.get("metadata")
    metadata = dict(written) if isinstance(written, Mapping) else {}
    if isinstance(own, Mapping):
        metadata |= {"name": own.get("name"), "namespace": own.get("namespace")}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    judged = judge_document(Document(where=document.where, body=pod))
    subject = f"{kind}/{judged.subject.partition('/')[2]}"
    problems = (replace(problem, subject=subject) for problem in judged.problems)
    return replace(judged, subject=subject, problems=tuple(problems))


def _pod_problems(one: Judged, pod: PodSpec, intent: Intent) -> Iterator[Problem]:
    try:
        parse_claim(pod)
    except IntentError as error:
        yield _problem(one, "ClaimInvalid", error.message, error.hint)
    try:
        asks = read_pod(pod).interfaces
    except IntentError as error:
        yield _problem(one, "InterfacesInvalid", error.message, error.hint)
        return
    limit = quotas_for(intent.tenant_configs, pod.namespace).interfaces_per_pod
    if limit is not None and len(asks) > limit:
        yield _problem(
            one,
            "QuotaExceeded",
            f"it asks for {len(asks)} interfaces, and a pod of namespace {pod.namespace} may have "
            f"{limit} (quotas.interfaces_per_pod)",
            "ask for fewer, or raise the quota in its TenantConfigs",
        )
    if not intent.networks and not intent.rejected:
        return  # the networks are elsewhere
    for index, ask in enumerate(asks):
        yield from _ask_problems(one, index, ask, pod, intent)


def _ask_problems(
    one: Judged, index: int, ask: InterfaceAsk, pod: PodSpec, intent: Intent
) -> Iterator[Problem]:
    exists = intent.networks.keys() | intent.rejected.keys()
    key = next((key for key in ask.candidates if key in exists), ask.network)
    given = ask == primary_ask(NO_RULES, pod.namespace)
    if key in intent.rejected or (key not in exists and (given or not key.is_object)):
        return  # told where the network is; or one that need not be among these
    network = intent.networks.get(key)
    if network is None:
        names = " or ".join(map(str, ask.candidates))
        yield _problem(
            one,
            "NetworkUnknown",
            f"interface {index}: {names} is not among these manifests",
            "add one of them, or correct the name" if ask.others else _likely(key, intent),
        )
    elif network.allowed_tenants and pod.namespace not in network.allowed_tenants:
        yield _problem(
            one,
            "TenantNotAllowed",
            f"interface {index}: namespace {pod.namespace} is not in AllowedTenants of {key}",
            "add the namespace there, or attach another network",
        )


def _likely(key: NetworkKey, intent: Intent) -> str:
    names = {
        str(other)
        for other in (*intent.networks, *intent.rejected)
        if other.namespace in {"", key.namespace}
    }
    return nearest(str(key), names) if names else f"correct {_REFERENCE_FIELDS}"


def _problem(one: Judged, code: str, message: str, hint: str) -> Problem:
    return Problem(where=one.where, subject=one.subject, code=code, message=message, hint=hint)

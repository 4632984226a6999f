"""Manifests judged without a cluster: all that the rules find, and what pods ask of networks.

Pure. What needs the database, the kernel or other manifests than these is not judged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from danmpy.api.annotations import parse_interfaces
from danmpy.api.specs import InterfaceAsk, NetworkKey, PodSpec
from danmpy.api.words import nearest
from danmpy.errors import IntentError
from danmpy.intent.documents import Document
from danmpy.intent.parse import Judged, judge_document, merge
from danmpy.intent.values import Intent, Problem

_REFERENCE_FIELDS: Final = "network, tenantNetwork or clusterNetwork"


def check_documents(documents: Sequence[Document]) -> tuple[Problem, ...]:
    """Every problem of `documents`, in their order."""
    judged = [judge_document(document) for document in documents]
    intent = merge(judged)
    problems = list(intent.problems)
    seen: set[str] = set()
    for one in judged:
        if isinstance(one.value, PodSpec) and not one.problems and one.subject not in seen:
            problems += _pod_problems(one, one.value, intent)
        seen.add(one.subject)
    places = {document.where: index for index, document in enumerate(documents)}
    return tuple(sorted(problems, key=lambda problem: places.get(problem.where, -1)))


def _pod_problems(one: Judged, pod: PodSpec, intent: Intent) -> Iterator[Problem]:
    try:
        asks = parse_interfaces(pod)
    except IntentError as error:
        yield _problem(one, "InterfacesInvalid", error.message, error.hint)
        return
    if not intent.networks and not intent.rejected:
        return  # the networks are elsewhere
    for index, ask in enumerate(asks):
        yield from _ask_problems(one, index, ask, pod, intent)


def _ask_problems(
    one: Judged, index: int, ask: InterfaceAsk, pod: PodSpec, intent: Intent
) -> Iterator[Problem]:
    key = ask.network
    if key in intent.rejected:
        return  # told where the network is
    network = intent.networks.get(key)
    if network is None:
        yield _problem(
            one,
            "NetworkUnknown",
            f"interface {index}: {key} is not among these manifests",
            _likely(key, intent),
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

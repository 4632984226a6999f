"""Admission reviews on the wire (``admission.k8s.io/v1``): a question in, an answer out. Pure.

Facts about what the API server does with an answer are those of its webhook code
(apiserver/pkg/admission/plugin/webhook): the message gets the webhook's name in front, `details`
pass as they are, and a code below 400 becomes 400.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from danmpy.api.findings import Finding
from danmpy.api.words import printable
from danmpy.errors import DanmpyError, WireError

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"

Object = Mapping[str, Any]

_CAUSES_MAX: Final = 20
"""Problems that are told in full: an answer must stay readable, and is limited by the server."""

_WARNINGS_MAX: Final = 10
"""All warnings of a request together get 4096 characters from the server."""

_REASONS: Final[Mapping[int, str]] = {
    400: "BadRequest",
    403: "Forbidden",
    409: "Conflict",
    422: "Invalid",
    503: "ServiceUnavailable",
}
"""Kubernetes API conventions, "HTTP Status codes"."""


class Operation(StrEnum):
    """What somebody wants to do with the object."""

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One question. `new` is the object as it would be, `old` as it is; each may be missing.

    `name` is what the new object will be called, or the beginning of it (``generateName``).
    """

    uid: str
    operation: Operation
    group: str
    kind: str
    namespace: str
    name: str
    new: Object | None = None
    old: Object | None = None

    @property
    def subject(self) -> str:
        """How messages name the object: ``TenantNetwork/blue/a``."""
        middle = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind}/{middle}{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be said: nothing at all lets the object pass.

    `invalid` is wrong by itself, `conflicts` is right alone and wrong together with what is there.
    `unknown`: it cannot be told now. `warnings` reach the person and change nothing.
    """

    invalid: tuple[Finding, ...] = ()
    conflicts: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()
    unknown: DanmpyError | None = None

    @property
    def allowed(self) -> bool:
        """May the object pass?"""
        return not (self.invalid or self.conflicts or self.unknown)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything that is wrong."""
        return self.invalid + self.conflicts

    def with_warnings(self, warnings: Iterable[str]) -> Verdict:
        """The same with more to say."""
        return Verdict(
            invalid=self.invalid,
            conflicts=self.conflicts,
            warnings=(*self.warnings, *warnings),
            unknown=self.unknown,
        )

    def as_warnings(self) -> Verdict:
        """The same objections, but the object passes."""
        told = [told_finding(found) for found in self.findings]
        told += [str(self.unknown)] if self.unknown else []
        return Verdict(warnings=(*told, *self.warnings))


def parse_review(body: bytes) -> Review:
    """The question in the body of a request.

    Raises:
        WireError: it is no AdmissionReview, or one of a version that this release does not speak.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"it is no JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise _malformed(f"it is no {KIND}")
    if value.get("apiVersion") != API_VERSION:
        raise _malformed(f"its apiVersion is {value.get('apiVersion')!r} and not {API_VERSION}")
    request = _mapping(value, "request")
    kind = _mapping(request, "kind")
    new, old = _object(request, "object"), _object(request, "oldObject")
    try:
        operation = Operation(str(request.get("operation")))
    except ValueError:
        raise _malformed(f"there is no operation {request.get('operation')!r}") from None
    if operation in {Operation.CREATE, Operation.UPDATE} and new is None:
        raise _malformed(f"{operation} without an object")
    if operation is Operation.UPDATE and old is None:
        raise _malformed(f"{operation} without an oldObject")
    return Review(
        uid=_text(request, "uid"),
        operation=operation,
        group=_text(kind, "group", may_miss=True),
        kind=_text(kind, "kind"),
        namespace=_text(request, "namespace", may_miss=True),
        name=_name(request, new if new is not None else old),
        new=new,
        old=old,
    )


def render_answer(review: Review, verdict: Verdict) -> dict[str, Any]:
    """`verdict` as the server wants to hear it."""
    response: dict[str, Any] = {"uid": review.uid, "allowed": verdict.allowed}
    if not verdict.allowed:
        response["status"] = _status(review, verdict)
    if verdict.warnings:
        told = [printable(f"{review.subject}: {text}") for text in verdict.warnings]
        more = len(told) - _WARNINGS_MAX
        response["warnings"] = told[:_WARNINGS_MAX] + ([f"and {more} more"] if more > 0 else [])
    return {"apiVersion": API_VERSION, "kind": KIND, "response": response}


def told_finding(found: Finding) -> str:
    """One finding as a sentence: field, problem, way out."""
    hint = f" ({found.hint})" if found.hint else ""
    if not found.path:
        return f"{found.message}{hint}"
    field, rest = _split(found)
    if field:
        return f"{found.path}{rest}{hint}"
    return f"{found.path}: {rest}{hint}"


def _split(found: Finding) -> tuple[str, str]:
    """The field with which the message begins, if it does, and the rest of the message.

    Messages name their field, because most who print them say no path; here a path is said.
    """
    message = found.message.removesuffix(f" {found.path}")
    for field in _names(found.path):
        rest = message.removeprefix(field)
        if rest != message and rest[:1] in {"", " ", ":", ",", "["}:
            # The key of a route is what is wrong with it, and said as such once more.
            again, further = (
                _split(replace(found, message=rest[2:])) if rest[:2] == ": " else ("", "")
            )
            return field, further if again else rest
    return "", message


def _names(path: str) -> Iterator[str]:
    """What messages call the field at `path`: all of it, its end, or the key of an annotation."""
    parts = path.split(".")
    yield from (".".join(parts[first:]) for first in range(len(parts)))
    if path.endswith("]"):
        yield path.partition("[")[2][:-1]


def _beside(found: Finding) -> str:
    """The message of one who says the field itself."""
    _, rest = _split(found)
    return found.message if rest.startswith(" and ") else rest.lstrip(" :")


def _status(review: Review, verdict: Verdict) -> dict[str, Any]:
    code = _code(review, verdict)
    return {
        "status": "Failure",
        "code": code,
        "reason": _REASONS[code],
        "message": printable(f"{review.subject}: {'; '.join(_problems(verdict))}"),
        "details": {
            "group": review.group,
            "kind": review.kind,
            "name": review.name,
            # What kubectl shows of an Invalid answer is this list and not the message.
            "causes": [_cause(found) for found in verdict.findings[:_CAUSES_MAX]],
        },
    }


def _code(review: Review, verdict: Verdict) -> int:
    """The HTTP code of a refusal.

    A conflict is 409, but not in the answer to an update: clients take that for an object that has
    changed meanwhile, read it again, and repeat what no repetition helps.
    """
    if verdict.invalid:
        return 422
    if verdict.conflicts:
        return 403 if review.operation is Operation.UPDATE else 409
    return 503


def _problems(verdict: Verdict) -> Iterator[str]:
    for found in verdict.findings[:_CAUSES_MAX]:
        yield told_finding(found)
    if len(verdict.findings) > _CAUSES_MAX:
        yield f"and {len(verdict.findings) - _CAUSES_MAX} more problems"
    if verdict.unknown is not None:
        yield f"it cannot be judged now: {verdict.unknown}"


def _cause(found: Finding) -> dict[str, str]:
    hint = f" ({found.hint})" if found.hint else ""
    return {
        "reason": found.code,
        # Clients put the field before it.
        "message": printable(f"{_beside(found)}{hint}"),
        "field": printable(found.path),
    }


def _name(request: Object, body: Object | None) -> str:
    metadata = body.get("metadata") if body is not None else None
    written = metadata if isinstance(metadata, Mapping) else {}
    for name in (request.get("name"), written.get("name"), written.get("generateName")):
        if isinstance(name, str) and name:
            return name
    return ""


def _mapping(value: Object, field: str) -> Object:
    found = value.get(field)
    if not isinstance(found, Mapping):
        raise _malformed(f"{field} is missing")
    return found


def _object(request: Object, field: str) -> Object | None:
    found = request.get(field)
    if found is not None and not isinstance(found, Mapping):
        raise _malformed(f"{field} is no object")
    return found


def _text(value: Object, field: str, *, may_miss: bool = False) -> str:
    found = value.get(field)
    if found is None and may_miss:
        return ""
    if not isinstance(found, str) or not (found or may_miss):
        raise _malformed(f"{field} is missing")
    return found


def _malformed(problem: str) -> WireError:
    return WireError(
        f"this is no review that can be judged: {printable(problem)}",
        hint=f"send an {KIND} of {API_VERSION}, as the API server does",
        subject=KIND,
    )

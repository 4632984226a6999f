"""What a source remembers of the API server's objects: verdicts, and little else.

An object is judged when it comes, and let go of: a thousand networks must not cost what their
managed fields and statuses weigh.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from danmpy.api.specs import DANM_KINDS, NetworkKey
from danmpy.api.words import printable
from danmpy.errors import DanmpyError
from danmpy.intent.documents import Document
from danmpy.intent.parse import Judged, judge_document
from danmpy.intent.values import PodKey, Problem
from danmpy.kube.errors import DeniedError, MissingError, RefusedError
from danmpy.kube.resources import TENANT_CONFIGS, Resource

ObjectKey = PodKey
"""Namespace (empty for kinds without) and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkObject:
    """A network as the API server has it, for who writes its status and finalizers."""

    key: NetworkKey
    uid: str
    generation: int
    resource_version: str
    finalizers: tuple[str, ...] = ()
    terminating: bool = False
    status: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One object: what it came to, and what else of it can ask for a look.

    `segment` is ``status.segment``: written when an assignment was made, which the nodes wait for.
    `kept` is the object for who writes it, which nobody does to NetworkAttachmentDefinitions.
    `created` is when a TenantConfig was made: of two that clash the older one counts.
    """

    resource_version: str
    judged: Judged
    created: str = ""
    segment: Any = None
    kept: NetworkObject | None = None

    def asks_like(self, other: Entry | None) -> bool:
        """Would a look find the same?"""
        if other is None or self.judged != other.judged:
            return False
        if (self.segment, self.created) != (other.segment, other.created):
            return False
        mine, others = self.kept, other.kept
        return mine is others or (
            mine is not None
            and others is not None
            and (mine.generation, mine.finalizers, mine.terminating)
            == (others.generation, others.finalizers, others.terminating)
        )


def key_of(body: Mapping[str, Any]) -> ObjectKey:
    """The key of an object."""
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def created_at(body: Mapping[str, Any]) -> str:
    """When the API server made an object, as text that sorts by it (RFC 3339, UTC, seconds)."""
    created = body["metadata"].get("creationTimestamp")
    return created if isinstance(created, str) else ""


def judge_object(resource: Resource, body: dict[str, Any]) -> Judged:
    """The verdict on one object of the API server."""
    namespace, name = key_of(body)
    typed = {"kind": resource.kind, "apiVersion": resource.api_version} | body
    where = resource.subject(namespace, name)
    return judge_document(Document(where=where, body=typed), stored=True)


def entry_of(resource: Resource, body: dict[str, Any], *, keep_status: bool) -> Entry:
    """What is remembered of one object."""
    judged = judge_object(resource, body)
    metadata = body["metadata"]
    status = body.get("status") or {}
    written = judged.network if judged.network and judged.network.kind in DANM_KINDS else None
    return Entry(
        resource_version=metadata["resourceVersion"],
        judged=judged,
        created=created_at(body) if resource is TENANT_CONFIGS else "",
        segment=status.get("segment") if written and isinstance(status, Mapping) else None,
        kept=_kept(written, body) if keep_status and written else None,
    )


def _kept(key: NetworkKey, body: dict[str, Any]) -> NetworkObject:
    metadata = body["metadata"]
    return NetworkObject(
        key=key,
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
        resource_version=metadata["resourceVersion"],
        finalizers=tuple(metadata.get("finalizers") or ()),
        terminating=bool(metadata.get("deletionTimestamp")),
        status=body.get("status") or {},
        spec=body.get("spec") or {},
    )


class Cause(Enum):
    """What keeps a kind away, mostly together with others."""

    NOT_YET = "nothing was heard of it so far"
    AWAY = "the server does not answer, or not to us"
    DENIED = "we may not read it"
    REFUSED = "the server does not like the question"
    MISSING = "the server does not know the kind"


class ObjectCache:
    """The objects of one kind. Not locked: its owner is."""

    def __init__(
        self, resource: Resource, *, keep_status: bool = False, optional: bool = False
    ) -> None:
        self.resource = resource
        self.entries: dict[ObjectKey, Entry] = {}
        self.listed = False
        self.missing = False
        self.failure: DanmpyError | None = None
        self._keep_status = keep_status
        self._optional = optional

    def read(self, body: dict[str, Any]) -> tuple[ObjectKey, Entry]:
        """The entry of `body`; the one that is known when the object has not changed since."""
        key = key_of(body)
        known = self.entries.get(key)
        if known is not None and known.resource_version == body["metadata"]["resourceVersion"]:
            return key, known
        entry = entry_of(self.resource, body, keep_status=self._keep_status)
        return key, entry

    def set_all(self, entries: dict[ObjectKey, Entry]) -> bool:
        """These are all; does that ask for a look?"""
        before, was_whole = self.entries, self.is_whole
        self.entries, self.listed, self.missing, self.failure = entries, True, False, None
        same = before.keys() == entries.keys() and all(
            entry.asks_like(before[key]) for key, entry in entries.items()
        )
        return not (same and was_whole)

    def set_one(self, key: ObjectKey, entry: Entry) -> bool:
        """As `set_all`, for one."""
        before = self.entries.get(key)
        same = before is not None and entry.asks_like(before)
        # The verdict of before is in the intent: two equal ones would only cost memory.
        self.entries[key] = replace(entry, judged=before.judged) if before and same else entry
        return not same

    def remove(self, key: ObjectKey) -> bool:
        """As `set_all`, for one that is gone."""
        return self.entries.pop(key, None) is not None

    def set_failure(self, error: DanmpyError, *, missing: bool, forget: bool) -> bool:
        """They cannot be read now; does that ask for a look? Not when they were before: what was
        heard last holds, unless it is to be forgotten."""
        before = self.problem
        self.failure = error
        self.missing = self.missing or missing
        self.listed = self.listed and not forget
        if self._optional and isinstance(error, MissingError):
            self.listed = True  # there is none, whether or not the server is heard later
        return self.problem != before

    @property
    def problem(self) -> Problem | None:
        """Why not every object is known; None when all are."""
        return None if self.is_whole else _problem([self], "")

    @property
    def cause(self) -> Cause:
        """What keeps it from being whole."""
        match self.failure:
            case _ if self.missing:
                return Cause.MISSING
            case None:
                return Cause.NOT_YET
            case DeniedError(status=403):
                return Cause.DENIED
            case RefusedError():
                return Cause.REFUSED
            case _:
                return Cause.AWAY

    @property
    def is_whole(self) -> bool:
        """Is every object known that there is, or was when the server was heard last? Of a kind
        that a cluster need not have none is missing where it has not.
        """
        return self.listed and (self._optional or not self.missing)

    @property
    def is_late(self) -> bool:
        """Has everybody to wait for it who needs the wishes? Not for a kind that need not be
        there, when the server does not know it or does not show it to us.
        """
        return not self.listed and not (self._optional and self.cause is Cause.DENIED)

    def judged(self) -> Iterator[Judged]:
        """The verdicts in the order of namespace and name, TenantConfigs by their age first."""
        entries = self.entries
        return (
            entries[key].judged for key in sorted(entries, key=lambda k: (entries[k].created, k))
        )


def problems_of(caches: Iterable[ObjectCache], server: str) -> tuple[Problem, ...]:
    """Why not every object is known: one problem a cause, however many kinds it keeps away.

    `server` is where the API server listens.
    """
    groups: dict[Cause, list[ObjectCache]] = {}
    for cache in caches:
        if not cache.is_whole:
            groups.setdefault(cache.cause, []).append(cache)
    if len(groups) > 1:
        groups.pop(Cause.NOT_YET, None)  # what keeps the others is what these wait for
    return tuple(_problem(group, server) for group in groups.values())


def _problem(caches: Sequence[ObjectCache], server: str) -> Problem:
    """One problem of kinds that are kept away by one cause; an outage is the server's problem."""
    first = caches[0]
    failure = first.failure
    kinds = ", ".join(cache.resource.kind for cache in caches)
    where = first.resource.path() if len(caches) == 1 else ""
    code, message, hint = "KindUnread", "it was not listed yet", "it is tried again"
    if first.missing:
        code, hint = "KindNotServed", "apply the CRDs: `danmpy crds | kubectl apply -f -`"
        message = f"the API server does not know th{'is kind' if where else 'ese kinds'}"
    elif failure is not None:
        message, hint = printable(failure.message), failure.hint
        if first.cause is Cause.AWAY:
            where, kinds = "", f"API server {server}".strip()
    return Problem(where=where, subject=kinds, code=code, message=message, hint=hint)

"""What a source remembers of the API server's objects: verdicts, and little else.

An object is judged when it comes, and let go of: a thousand networks must not cost what their
managed fields and statuses weigh.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from danmpy.api.specs import NetworkKey
from danmpy.api.words import printable
from danmpy.intent.documents import Document
from danmpy.intent.parse import Judged, judge_document
from danmpy.intent.values import PodKey, Problem
from danmpy.kube.resources import Resource

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
    `kept` is the object for who writes it; `config` the text of a NetworkAttachmentDefinition.
    """

    resource_version: str
    judged: Judged
    segment: Any = None
    kept: NetworkObject | None = None
    config: str = ""

    def asks_like(self, other: Entry | None) -> bool:
        """Would a look find the same?"""
        if other is None or self.judged != other.judged or self.segment != other.segment:
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


def judge_object(resource: Resource, body: dict[str, Any]) -> Judged:
    """The verdict on one object of the API server."""
    namespace, name = key_of(body)
    typed = {"kind": resource.kind, "apiVersion": resource.api_version} | body
    return judge_document(Document(where=resource.subject(namespace, name), body=typed))


def entry_of(resource: Resource, body: dict[str, Any], *, keep_status: bool) -> Entry:
    """What is remembered of one object."""
    judged = judge_object(resource, body)
    metadata = body["metadata"]
    status = body.get("status") or {}
    spec = body.get("spec") or {}
    is_network = judged.network is not None
    config = spec.get("config") if judged.subject == "" and isinstance(spec, Mapping) else None
    return Entry(
        resource_version=metadata["resourceVersion"],
        judged=judged,
        segment=status.get("segment") if is_network and isinstance(status, Mapping) else None,
        kept=_kept(judged.network, body) if keep_status and judged.network is not None else None,
        config=config if isinstance(config, str) else "",
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


class ObjectCache:
    """The objects of one kind. Not locked: its owner is."""

    def __init__(self, resource: Resource, *, keep_status: bool) -> None:
        self.resource = resource
        self.entries: dict[ObjectKey, Entry] = {}
        self.listed = False
        self.missing = False
        self.failure = ""
        self._keep_status = keep_status

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
        self.entries, self.listed, self.missing, self.failure = entries, True, False, ""
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

    def set_failure(self, words: str, *, missing: bool, forget: bool) -> bool:
        """They cannot be read now; does that ask for a look? Not when they were before: what was
        heard last holds, unless it is to be forgotten."""
        before = self.problem
        self.failure = words
        self.missing = self.missing or missing
        self.listed = self.listed and not forget
        return self.problem != before

    @property
    def problem(self) -> Problem | None:
        """Why not every object is known; None when all are."""
        if self.is_whole:
            return None
        code, hint = "KindUnread", "it is tried again"
        message = printable(self.failure) or "it was not listed yet"
        if self.missing:
            code, hint = "KindNotServed", "apply the CRDs: `danmpy crds | kubectl apply -f -`"
            message = "the API server does not know this kind"
        return Problem(
            where=self.resource.path(),
            subject=self.resource.kind,
            code=code,
            message=message,
            hint=hint,
        )

    @property
    def is_whole(self) -> bool:
        """Is every object known that there is, or was when the server was heard last?"""
        return self.listed and not self.missing

    def judged(self) -> Iterator[Judged]:
        """The verdicts in the order of namespace and name."""
        return (self.entries[key].judged for key in sorted(self.entries))

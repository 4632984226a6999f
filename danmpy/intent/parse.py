"""The one door from raw manifests to trusted values, for everything at once.

Pure. `judge_document` looks at one manifest by itself, and can be cached; `merge` puts the verdicts
together and judges what only shows between objects. One object's mistake never stops another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from danmpy.api.addresses import TextError
from danmpy.api.dialects.keys import ANNOTATIONS, NO_TEXT
from danmpy.api.findings import Finding
from danmpy.api.ipam_claims import KIND as IPAM_CLAIM_KIND
from danmpy.api.ipam_claims import judge_ipam_claim
from danmpy.api.limits import VLAN_MAX, VLAN_MIN, VNI_MAX, VNI_MIN
from danmpy.api.nads import API_VERSION as NAD_API_VERSION
from danmpy.api.nads import judge_nad, named_segment
from danmpy.api.nodes import (
    EVERY_PARENT,
    OBSERVED_VTEPS,
    VTEPS,
    internal_addresses,
    observed_vteps,
    parse_vteps,
)
from danmpy.api.profile_rules import judge_tenant_config, overlaps, quotas_for
from danmpy.api.rules import judge_network
from danmpy.api.specs import (
    DANM_KINDS,
    IpamClaimSpec,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    NodeSpec,
    PodSpec,
    SegmentKey,
    SegmentKind,
    TenantConfigSpec,
)
from danmpy.api.words import is_link_name, is_namespace, is_object_name, nearest, printable
from danmpy.intent.documents import Document
from danmpy.intent.values import Intent, PodKey, Problem

GROUPS: Final = ("danm.k8s.io", "danm.io")
VERSION: Final = "v1"
DEFAULT_NAMESPACE: Final = "default"

_DANM_KINDS: Final = (*DANM_KINDS, "TenantConfig", "DanmEp")
_CORE_KINDS: Final = ("Pod", "Namespace", "Node")
_CLUSTER_SCOPED: Final = frozenset({"ClusterNetwork", "TenantConfig", "Node", "Namespace"})
_IGNORED: Final = frozenset({"DanmEp", "Namespace"})
"""Known, and nothing that people want of us: mirrors and tenants."""

CONFIG_HASH: Final = "kubernetes.io/config.hash"
"""Annotation of mirror pods: kubelet's UID of the static pod (kubernetes pkg/kubelet/types,
`ConfigHashAnnotationKey`)."""

Value = NetworkSpec | TenantConfigSpec | PodSpec | NodeSpec | IpamClaimSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One manifest judged by itself.

    `subject` is empty when not even the object's name can be read. `value` is None when the object
    is refused or means nothing to us. `network` is the key of a network, also of a refused one.
    `told` is False when a part of what people want may be behind this and cannot be read.
    """

    where: str
    subject: str = ""
    value: Value | None = None
    network: NetworkKey | None = None
    claims: frozenset[SegmentKey] = frozenset()
    problems: tuple[Problem, ...] = ()
    told: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    """A manifest whose kind and name could be read."""

    where: str
    kind: str
    namespace: str
    name: str
    metadata: Mapping[str, Any]
    body: Mapping[str, Any]
    stored: bool

    @property
    def subject(self) -> str:
        middle = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind}/{middle}{self.name}"

    def problem(self, code: str, message: str, hint: str) -> Problem:
        return Problem(
            where=self.where,
            subject=self.subject,
            code=code,
            message=printable(message),
            hint=printable(hint),
        )

    def problems(self, findings: Iterable[Finding]) -> tuple[Problem, ...]:
        return tuple(self.problem(f.code, f.message, f.hint) for f in findings)


def parse_documents(documents: Sequence[Document], *, stored: bool = False) -> Intent:
    """Everything that `documents` want, and what was refused with its reasons. Never raises.

    `stored` as in `judge_document`.
    """
    return merge(judge_document(document, stored=stored) for document in documents)


def judge_document(document: Document, *, stored: bool = False) -> Judged:
    """One manifest by all rules that need no other object. Never raises.

    `stored`: an API server keeps it, so what DANM writes into objects may be in it.
    """
    body = document.body
    if not isinstance(body, Mapping) or not isinstance(body.get("kind"), str):
        return _untold(document, "KindMissing", "it has no kind", "write apiVersion and kind")
    kind: str = body["kind"]
    group = str(body.get("apiVersion", "")).partition("/")[0]
    if kind not in {*_DANM_KINDS, *_CORE_KINDS, NetworkKind.NAD, IPAM_CLAIM_KIND}:
        return Judged(
            where=document.where,
            problems=(
                Problem(
                    where=document.where,
                    subject=printable(kind),
                    code="KindUnknown",
                    message=f"kind {kind!r} means nothing here",
                    hint=nearest(kind, (*_DANM_KINDS, *_CORE_KINDS, NetworkKind.NAD)),
                ),
            ),
            told=group not in GROUPS,
        )
    named = _parse_identity(document, kind, body, stored=stored)
    if isinstance(named, Judged):
        return named
    problems = () if kind == IPAM_CLAIM_KIND else tuple(_judge_identity(named))
    if kind in _IGNORED:
        return Judged(where=named.where, subject=named.subject, problems=problems)
    return _JUDGES[kind](named, problems)


def merge(judged: Iterable[Judged], *, by_quota: bool = False) -> Intent:
    """The verdicts of single manifests put together; of two with one name the first counts.

    `by_quota`: networks that go beyond the quota of their namespace are refused, the last ones
    first. Not in a cluster: there the API server knew who came last, and asked admission.

    The order is the order of the files' names, so that every reading of a folder agrees. The
    first counts also when it is refused: correcting it must not change whose object this is.
    """
    seen: dict[str, str] = {}
    gathered = _Gathered()
    for one in judged:
        if one.subject in seen:
            gathered.problems.append(_duplicate(one, seen[one.subject]))
            continue
        if one.subject:
            seen[one.subject] = one.where
        gathered.add(one)
    if by_quota:
        gathered.refuse_beyond_quota()
    return Intent(
        networks=gathered.networks,
        rejected=gathered.rejected,
        claims=frozenset(gathered.claims),
        tenant_configs=tuple(gathered.configs),
        pods=gathered.pods,
        ipam_claims=gathered.ipam_claims,
        nodes=tuple(gathered.nodes),
        problems=tuple(gathered.problems),
        complete=gathered.complete,
    )


class _Gathered:
    """The parts of an Intent while it grows; it never leaves `merge`."""

    def __init__(self) -> None:
        self.networks: dict[NetworkKey, NetworkSpec] = {}
        self.rejected: dict[NetworkKey, tuple[Problem, ...]] = {}
        self.claims: set[SegmentKey] = set()
        self.configs: list[TenantConfigSpec] = []
        self.pods: dict[PodKey, PodSpec] = {}
        self.ipam_claims: dict[PodKey, IpamClaimSpec] = {}
        self.nodes: list[NodeSpec] = []
        self.problems: list[Problem] = []
        self.complete = True
        self._places: dict[NetworkKey, str] = {}

    def add(self, one: Judged) -> None:
        self.problems += one.problems
        self.complete = self.complete and one.told
        match one.value:
            case NetworkSpec():
                self.networks[one.value.key] = one.value
                self._places[one.value.key] = one.where
            case PodSpec():
                self.pods[one.value.namespace, one.value.name] = one.value
            case IpamClaimSpec():
                self.ipam_claims[one.value.namespace, one.value.name] = one.value
            case NodeSpec():
                self.nodes.append(one.value)
            case TenantConfigSpec():
                self._add_config(one, one.value)
            case None if one.network is not None:
                self.rejected[one.network] = one.problems
                self.claims |= one.claims

    def refuse_beyond_quota(self) -> None:
        """The networks of each namespace count in the order in which they came."""
        counts: dict[str, int] = {}
        for key in tuple(self.networks):
            if key.kind is NetworkKind.NAD:
                continue
            limit = quotas_for(self.configs, key.namespace).networks
            count = counts[key.namespace] = counts.get(key.namespace, 0) + 1
            if not key.namespace or limit is None or count <= limit:
                continue
            self.rejected[key] = (
                Problem(
                    where=self._places[key],
                    subject=str(key),
                    code="QuotaExceeded",
                    message=f"namespace {key.namespace} may have {limit} networks "
                    f"(quotas.networks), and this is number {count}",
                    hint="delete a network, or raise quotas.networks of its TenantConfigs",
                ),
            )
            self.problems += self.rejected[key]
            refused = self.networks.pop(key)
            if refused.segment is not None and key.kind is not NetworkKind.TENANT:
                # Its pods may still be on it (`_claims`).
                self.claims.add(refused.segment)

    def _add_config(self, one: Judged, config: TenantConfigSpec) -> None:
        findings = tuple(overlaps(self.configs, config))
        if not findings:
            self.configs.append(config)
            return
        for found in findings:
            self.problems.append(
                Problem(
                    where=one.where,
                    subject=one.subject,
                    code=found.code,
                    message=found.message,
                    hint=found.hint,
                )
            )


def _duplicate(one: Judged, first: str) -> Problem:
    return Problem(
        where=one.where,
        subject=one.subject,
        code="ObjectTwice",
        message=f"{first} defines it already, and that one counts",
        hint="delete one of the two",
    )


def _untold(document: Document, code: str, message: str, hint: str) -> Judged:
    """A document behind which any wish may be hidden."""
    problem = Problem(
        where=document.where, subject="document", code=code, message=message, hint=hint
    )
    return Judged(where=document.where, problems=(problem,), told=False)


def _parse_identity(
    document: Document, kind: str, body: Mapping[str, Any], *, stored: bool
) -> _Object | Judged:
    metadata = body.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        return _untold(
            document, "NameMissing", f"a {kind} without metadata.name", "write metadata.name"
        )
    name, namespace = metadata["name"], metadata.get("namespace")
    if not is_object_name(name):
        return _untold(
            document,
            "NameInvalid",
            f"{kind} {name!r} has a name that no object can have",
            "use lower-case letters, digits, dash and dot (RFC 1123)",
        )
    scoped = kind not in _CLUSTER_SCOPED
    namespace = (namespace or DEFAULT_NAMESPACE) if scoped else ""
    if scoped and not (isinstance(namespace, str) and is_namespace(namespace)):
        return _untold(
            document,
            "NamespaceInvalid",
            f"{kind} {name} is in a namespace that cannot be: {namespace!r}",
            "use lower-case letters, digits and dash (RFC 1123)",
        )
    return _Object(
        where=document.where,
        kind=kind,
        namespace=namespace,
        name=name,
        metadata=metadata,
        body=body,
        stored=stored,
    )


def _judge_identity(named: _Object) -> Iterator[Problem]:
    if named.kind in _CORE_KINDS:
        expected = [VERSION]
    elif named.kind == NetworkKind.NAD:
        expected = [NAD_API_VERSION]
    else:
        expected = [f"{group}/{VERSION}" for group in GROUPS]
    version = named.body.get("apiVersion")
    if version not in expected:
        yield named.problem(
            "ApiVersionUnknown",
            f"apiVersion is {version!r}" if version else "apiVersion is missing",
            f"write {expected[0]}",
        )
    if named.kind in _CLUSTER_SCOPED and named.metadata.get("namespace"):
        yield named.problem(
            "NamespaceMisplaced", f"a {named.kind} is in no namespace", "delete metadata.namespace"
        )


def _judge_network(named: _Object, problems: tuple[Problem, ...]) -> Judged:
    key = NetworkKey(kind=NetworkKind(named.kind), namespace=named.namespace, name=named.name)
    uid = named.metadata.get("uid")
    uid = uid if isinstance(uid, str) and uid else str(key)
    if key.kind is NetworkKind.NAD:
        verdict = judge_nad(key, uid, named.body)
    else:
        verdict = judge_network(key, uid, named.body, stored=named.stored)
    problems += named.problems(verdict.findings)
    network = verdict.network
    if network is not None and named.metadata.get("deletionTimestamp"):
        network = replace(network, terminating=True)
    return Judged(
        where=named.where,
        subject=named.subject,
        value=None if problems else network,
        network=key,
        claims=frozenset(_claims(named)) if problems else frozenset(),
        problems=problems,
    )


def _claims(named: _Object) -> Iterator[SegmentKey]:
    """The segments that a refused manifest names, as far as that can be read.

    A TenantNetwork names none: what it has is in the database, and an id that a tenant writes must
    not be taken out of the range of the others.
    """
    if named.kind == NetworkKind.TENANT:
        return
    if named.kind == NetworkKind.NAD:
        segment = named_segment(named.body)
        if segment is not None:
            yield segment
        return
    spec = named.body.get("spec")
    options = spec.get("Options") if isinstance(spec, Mapping) else None
    if not isinstance(options, Mapping):
        return
    parent = options.get("host_device")
    if not isinstance(parent, str) or not is_link_name(parent):
        return
    for kind, low, high in (
        (SegmentKind.VLAN, VLAN_MIN, VLAN_MAX),
        (SegmentKind.VXLAN, VNI_MIN, VNI_MAX),
    ):
        number = options.get(kind.value)
        if isinstance(number, int) and not isinstance(number, bool) and low <= number <= high:
            yield SegmentKey(parent=parent, kind=kind, id=number)


def _judge_config(named: _Object, problems: tuple[Problem, ...]) -> Judged:
    verdict = judge_tenant_config(named.name, named.body, stored=named.stored)
    problems += named.problems(verdict.findings)
    return Judged(
        where=named.where,
        subject=named.subject,
        value=None if problems else verdict.config,
        problems=problems,
    )


def _judge_pod(named: _Object, problems: tuple[Problem, ...]) -> Judged:
    """A pod always stays in the intent once its name is known: a missing pod loses its addresses.

    An annotation that is no text is kept as `NO_TEXT`, which every dialect refuses.
    """
    spec = named.body.get("spec")
    uid = named.metadata.get("uid")
    node = spec.get("nodeName") if isinstance(spec, Mapping) else None
    annotations: dict[str, str] = {}
    written = _mapping(named.metadata.get("annotations"))
    for key, value in written.items():
        if key in ANNOTATIONS and value is not None:
            annotations[key] = value if isinstance(value, str) else NO_TEXT
            if not isinstance(value, str):
                problems += (
                    named.problem(
                        "AnnotationInvalid",
                        f"annotation {key} is no text",
                        "put it in quotes, or its JSON into text: |",
                    ),
                )
    config_hash = written.get(CONFIG_HASH)
    pod = PodSpec(
        namespace=named.namespace,
        name=named.name,
        uid=uid if isinstance(uid, str) else "",
        node=node if isinstance(node, str) else "",
        labels={k: v for k, v in _mapping(named.metadata.get("labels")).items() if _texts(k, v)},
        annotations=annotations,
        config_hash=config_hash if isinstance(config_hash, str) else "",
        stateful=_is_stateful(named.metadata.get("ownerReferences")),
    )
    return Judged(where=named.where, subject=named.subject, value=pod, problems=problems)


def _is_stateful(owners: object) -> bool:
    """Is the controller among these ownerReferences a StatefulSet?"""
    return isinstance(owners, Sequence) and any(
        isinstance(owner, Mapping)
        and owner.get("controller") is True
        and owner.get("kind") == "StatefulSet"
        and str(owner.get("apiVersion", "")).startswith("apps/")
        for owner in owners
    )


def _judge_ipam_claim(named: _Object, problems: tuple[Problem, ...]) -> Judged:
    claim, findings = judge_ipam_claim(named.namespace, named.name, named.body)
    problems += named.problems(findings)
    return Judged(where=named.where, subject=named.subject, value=claim, problems=problems)


def _judge_node(named: _Object, problems: tuple[Problem, ...]) -> Judged:
    annotations = _mapping(named.metadata.get("annotations"))
    written = annotations.get(VTEPS)
    vteps = {}
    if written is None:
        addresses = internal_addresses(named.body.get("status"))
        vteps = {EVERY_PARENT: addresses} if addresses else {}
    else:
        try:
            vteps = parse_vteps(written if isinstance(written, str) else "")
        except TextError as error:
            problems += (
                named.problem("VtepsInvalid", f"annotation {VTEPS}: {error.message}", error.hint),
            )
    return Judged(
        where=named.where,
        subject=named.subject,
        value=None
        if problems
        else NodeSpec(
            name=named.name,
            vteps=vteps,
            observed=observed_vteps(
                annotations.get(OBSERVED_VTEPS), () if written is None else vteps
            ),
        ),
        problems=problems,
    )


def _mapping(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(*values: object) -> bool:
    return all(isinstance(value, str) for value in values)


_JUDGES: Final[Mapping[str, Callable[[_Object, tuple[Problem, ...]], Judged]]] = {
    **{str(kind): _judge_network for kind in NetworkKind},
    "TenantConfig": _judge_config,
    "Pod": _judge_pod,
    IPAM_CLAIM_KIND: _judge_ipam_claim,
    "Node": _judge_node,
}

"""Intent out of the API server of a cluster: listed when asked, or followed by watches.

What was heard last holds while the server is away. About the one pod that is attached just now the
server is asked itself when no watch has told of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from danmpy.api.specs import (
    DANM_KINDS,
    IPAM_CLAIM,
    InterfaceAsk,
    IpamClaimSpec,
    NetworkKey,
    PodSpec,
)
from danmpy.clock import monotonic
from danmpy.errors import DanmpyError, NotReadyError
from danmpy.intent.objects import (
    Cause,
    Entry,
    NetworkObject,
    ObjectCache,
    ObjectKey,
    judge_object,
    key_of,
    problems_of,
)
from danmpy.intent.parse import merge
from danmpy.intent.remembering import Memory
from danmpy.intent.values import Intent, PodKey, Problem
from danmpy.intent.watching import Notify
from danmpy.kube.client import KubeClient, Object, Scope
from danmpy.kube.errors import MissingError, UnreachableError
from danmpy.kube.reflector import Pace, Reflector
from danmpy.kube.resources import (
    CLUSTER_NETWORKS,
    DANM_NETS,
    IPAM_CLAIMS,
    NADS,
    NODES,
    PODS,
    RESOURCE_OF,
    TENANT_CONFIGS,
    TENANT_NETWORKS,
    Resource,
)

_Change = Callable[[Resource, Callable[[], bool]], None]

WAIT_S: Final = 1.0
"""Seconds that an ADD waits for a watch to tell of a network that is there: more does not help,
the runtime tries again."""

_LIVE_S: Final = 2.0
"""Seconds for one object that an ADD needs, twice: an ADD is to be answered within about 5 s."""

_LIST_S: Final = 5.0
"""Seconds for each page of a list that a command waits for."""

_JOIN_S: Final = 1.0

_WISHES: Final = (TENANT_CONFIGS, CLUSTER_NETWORKS, DANM_NETS, TENANT_NETWORKS, NADS, NODES)
"""What a look needs, in the order in which it is merged; pods are beside it, they come and go."""

_OPTIONAL: Final = frozenset({NADS})
"""Kinds that a cluster need not have."""


class ClusterSource:
    """The wishes in a cluster, the pods of `node_name` only; None: those of all nodes.

    Without `pods` none is listed or followed: `read_for` asks for the one pod that it is called
    for.
    `keep_status`: keep whole networks for `network_objects`. Every method may be called from every
    thread.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        node_name: str | None = None,
        pods: bool = True,
        keep_status: bool = False,
        pace: Pace | None = None,
    ) -> None:
        self._client = client
        self._node_name = node_name
        self._pace = pace or Pace()
        self._changed = threading.Condition()
        """Guards all that follows, and tells of every change of it."""
        self._caches = {
            resource: ObjectCache(resource, keep_status=keep_status, optional=resource in _OPTIONAL)
            for resource in (*_WISHES, *((PODS,) if pods else ()))
        }
        self._memory = Memory()
        self._wishes: Intent | None = None
        self._intent: Intent | None = None
        self._watching = False
        self._notify: Notify = lambda: None
        self._reflectors: tuple[Reflector, ...] = ()

    @property
    def client(self) -> KubeClient:
        """The API server that is asked."""
        return self._client

    # Reading

    def read(self) -> Intent:
        """The wishes of now; the very same object while nothing changed. Never raises.

        While `watch` runs this is what was heard last. Else the server is asked, each time.
        """
        if not self._watching:
            self._list_all()
        with self._changed:
            return self._current()

    def _current(self) -> Intent:
        if self._wishes is None:
            judged = (one for kind in _WISHES for one in self._caches[kind].judged())
            self._wishes = self._memory.completed(merge(judged))
            self._intent = None
        if self._intent is None:
            pods = merge(self._caches[PODS].judged() if PODS in self._caches else ())
            unread = problems_of(self._caches.values(), self._client.server)
            self._intent = replace(
                self._wishes,
                pods=pods.pods,
                problems=(*unread, *self._wishes.problems, *pods.problems),
                complete=all(cache.is_whole for cache in self._caches.values()),
            )
        return self._intent

    def waits_for(self) -> str:
        """Why the wishes of this cluster are not known yet; empty once each kind was listed.

        Then they stay known, whatever happens to the server.
        """
        with self._changed:
            late = [self._caches[kind] for kind in _WISHES if self._caches[kind].is_late]
            return "; ".join(map(str, problems_of(late, self._client.server)))

    def network_objects(self) -> Mapping[NetworkKey, NetworkObject]:
        """The networks as they were heard last, accepted or not; with `keep_status` only."""
        with self._changed:
            return {
                entry.kept.key: entry.kept
                for kind in DANM_KINDS
                for entry in self._caches[RESOURCE_OF[kind]].entries.values()
                if entry.kept is not None
            }

    def _list_all(self) -> None:
        """List everything once. A server that does not answer is not asked seven times."""
        away: DanmpyError | None = None
        for kind, cache in self._caches.items():
            sink = _Sink(cache, self._change)
            try:
                if away is not None:
                    raise away
                pages = self._client.pages(self._scope(kind), timeout_s=_LIST_S)
                sink.replace(item for page in pages for item in page.items)
            except DanmpyError as error:
                if isinstance(error, UnreachableError):
                    away = error
                sink.fail(error, missing=isinstance(error, MissingError), forget=True)

    def _scope(self, kind: Resource) -> Scope:
        if kind is not PODS or self._node_name is None:
            return Scope(resource=kind)
        return Scope(resource=kind, field_selector=f"spec.nodeName={self._node_name}")

    # Watching

    def watch(self, on_change: Notify, stop: threading.Event) -> None:
        """Call `on_change` at once, and soon after every change that a look has to know of, until
        `stop` is set; blocks.

        A call only says "look again". Pods, statuses and the heartbeats of nodes cause none.
        """
        self._notify = on_change
        with self._changed:
            self._reflectors = tuple(
                Reflector(
                    self._client,
                    self._scope(kind),
                    _Sink(cache, self._change),
                    pace=self._pace,
                    optional=kind in _OPTIONAL,
                )
                for kind, cache in self._caches.items()
            )
            self._watching = True
        for reflector in self._reflectors:
            reflector.start()
        on_change()
        stop.wait()
        for reflector in self._reflectors:
            reflector.stop()
        deadline = monotonic() + _JOIN_S
        for reflector in self._reflectors:
            reflector.join(max(0.0, deadline - monotonic()))

    def _change(self, kind: Resource, change: Callable[[], bool]) -> None:
        """Change the cache of `kind`; `change` says whether a reader would see it."""
        with self._changed:
            if not change():
                return
            self._intent = None
            if kind is not PODS:
                self._wishes = None
            self._changed.notify_all()
        if kind is not PODS:
            self._notify()

    # One pod

    def read_for(self, namespace: str, name: str, uid: str) -> Intent:
        """As `read`, and about this pod as the API server has it when no watch has told of it.

        Raises:
            ClusterError: the API server had to be asked and did not answer.
        """
        intent = self.read()
        pod = intent.pods.get((namespace, name))
        if pod is not None and (not uid or pod.is_uid(uid)):
            return intent
        pod = self._live_pod(namespace, name)
        self._wake()
        return _with_pod(intent, (namespace, name), pod)

    def with_pod(self, intent: Intent, key: PodKey) -> Intent:
        """`intent` with one pod as the API server has it now; what goes wrong is a problem of it.

        For who has just read `intent`: a server that was away then is not asked again.
        """
        with self._changed:
            caches = self._caches.values()
            if any(cache.cause is Cause.AWAY for cache in caches if not cache.is_whole):
                return intent
        try:
            return _with_pod(intent, key, self._live_pod(*key))
        except DanmpyError as error:
            problem = Problem(
                where="",
                subject=PODS.subject(*key),
                code="PodUnread",
                message=error.message,
                hint=error.hint,
            )
            return replace(intent, problems=(*intent.problems, problem), complete=False)

    def hear(self, intent: Intent, pod: PodSpec, asks: Sequence[InterfaceAsk]) -> Intent:
        """`intent`, with the networks that `pod` asks for and that no watch has told of yet: one
        that exists is waited for, up to `WAIT_S`; and with its IPAMClaims.

        Raises:
            ClusterError: the API server had to be asked and did not answer.
            NotReadyError: a network of the pod exists, and no watch has told of it in time.
        """
        intent = self._with_claims(intent, pod.namespace, asks)
        if not self._watching:
            return intent
        for _ in range(2):  # what it asks for may stand for another network, just as new
            unheard = self._unheard(asks, intent)
            if not unheard:
                break
            self._wake()
            self._await(unheard, pod)
            heard = _with_pod(self.read(), (pod.namespace, pod.name), pod)
            intent = replace(heard, ipam_claims=intent.ipam_claims)
        return intent

    def _with_claims(self, intent: Intent, namespace: str, asks: Sequence[InterfaceAsk]) -> Intent:
        """`intent`, with the IPAMClaims that are asked for: each is looked up, as few pods name one
        and nobody else has to know; up to the first that is missing, which refuses the pod.
        """
        named = (ask.claim for ask in asks if ask.claim.startswith(IPAM_CLAIM))
        names = list(dict.fromkeys(claim.removeprefix(IPAM_CLAIM) for claim in named))
        if not names:
            return intent
        claims: dict[PodKey, IpamClaimSpec] = {}
        for name in names:
            body = self._live(IPAM_CLAIMS, namespace, name)
            claim = None if body is None else judge_object(IPAM_CLAIMS, body).value
            if not isinstance(claim, IpamClaimSpec):
                break
            claims[namespace, name] = claim
        return replace(intent, ipam_claims=claims)

    def _live_pod(self, namespace: str, name: str) -> PodSpec | None:
        if not namespace or not name:
            return None
        body = self._live(PODS, namespace, name)
        value = None if body is None else judge_object(PODS, body).value
        return value if isinstance(value, PodSpec) else None

    def _unheard(self, asks: Sequence[InterfaceAsk], intent: Intent) -> list[NetworkKey]:
        """The networks that exist, that `asks` need, and of which no watch has told.

        It stops at the first interface for which none exists: that one refuses the pod, and a
        tenant's annotation with thousands of made-up names is not as many questions.
        """
        found: dict[NetworkKey, None] = {}
        for ask in asks:
            needed = _unheard(ask, intent)
            there = [key for key in needed if key in found or self._is_there(key)]
            if needed and not there:
                break
            found.update(dict.fromkeys(there))
        return list(found)

    def _is_there(self, network: NetworkKey) -> bool:
        return self._live(RESOURCE_OF[network.kind], network.namespace, network.name) is not None

    def _live(self, kind: Resource, namespace: str, name: str) -> Object | None:
        """The object as the API server has it. Asked twice: an idle connection may be half open,
        which shows only in a timeout, and the second time a new one is made."""
        try:
            try:
                return self._client.get(kind, name, namespace, timeout_s=_LIVE_S)
            except UnreachableError:
                return self._client.get(kind, name, namespace, timeout_s=_LIVE_S)
        except MissingError:
            return None

    def _await(self, networks: list[NetworkKey], pod: PodSpec) -> None:
        def unheard() -> list[NetworkKey]:
            return [
                network
                for network in networks
                if (network.namespace, network.name)
                not in self._caches[RESOURCE_OF[network.kind]].entries
            ]

        with self._changed:
            if self._changed.wait_for(lambda: not unheard(), WAIT_S):
                return
            missing = ", ".join(map(str, unheard()))
        raise NotReadyError(
            f"{missing} exists, and this node has not heard of it yet",
            hint="it is tried again; see the log for watches that fail",
            subject=f"Pod/{pod.namespace}/{pod.name}",
        )

    def _wake(self) -> None:
        for reflector in self._reflectors:
            reflector.wake()


def _with_pod(intent: Intent, key: PodKey, pod: PodSpec | None) -> Intent:
    """`intent` with what the API server itself says of one pod."""
    if intent.pods.get(key) is pod:
        return intent
    others = {each: value for each, value in intent.pods.items() if each != key}
    return replace(intent, pods=others if pod is None else {**others, key: pod})


def _unheard(ask: InterfaceAsk, intent: Intent) -> list[NetworkKey]:
    """The networks of which an interface gets one, when `intent` has none of them; and that for
    which a NetworkAttachmentDefinition stands, when it is not in `intent`.
    """
    known = intent.networks.keys() | intent.rejected.keys()
    if known.isdisjoint(ask.candidates):
        return [key for key in ask.candidates if key.is_object]
    named = filter(None, map(intent.networks.get, ask.candidates))
    return [each.alias for each in named if each.alias and each.alias not in known]


class _Sink:
    """Where the objects of one kind go (`kube.reflector.Sink`).

    `change` does to the cache what it is given, guarded, and tells those who have to know.
    """

    def __init__(self, cache: ObjectCache, change: _Change) -> None:
        self._cache = cache
        self._change = change

    def replace(self, objects: Iterator[Object]) -> None:
        """These are all that there are."""
        entries: dict[ObjectKey, Entry] = dict(map(self._cache.read, objects))
        self._change(self._cache.resource, lambda: self._cache.set_all(entries))

    def put(self, body: Object) -> None:
        """This one is there now."""
        key, entry = self._cache.read(body)
        self._change(self._cache.resource, lambda: self._cache.set_one(key, entry))

    def drop(self, body: Object) -> None:
        """This one is gone."""
        key = key_of(body)
        self._change(self._cache.resource, lambda: self._cache.remove(key))

    def fail(self, error: DanmpyError, *, missing: bool, forget: bool = False) -> None:
        """The objects cannot be followed now; `forget`: nothing will follow what was read."""
        self._change(
            self._cache.resource,
            lambda: self._cache.set_failure(error, missing=missing, forget=forget),
        )

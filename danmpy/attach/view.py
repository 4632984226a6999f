"""What the CNI verbs see of intent and host devices: the newest manifests, the last look.

A pod is often attached in the same second in which its manifests were written, before any watch has
told of them. So the intent is read anew for every call (which is cheap when nothing changed), and a
look that is older than the manifests is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from danmpy.api.specs import (
    Condition,
    ConditionStatus,
    InterfaceAsk,
    NetworkKey,
    NetworkKind,
    PodSpec,
)
from danmpy.attach.ports import NetworkView
from danmpy.errors import NotReadyError
from danmpy.intent.values import Intent
from danmpy.ipam.profiles import ASSIGNMENT_PENDING
from danmpy.netwatcher.values import LookReport

WAIT_S: Final = 2.0
"""Seconds to wait for a look; with the database's own 3 s an ADD is answered within 5 s."""


class IntentSource(Protocol):
    """Where the wishes come from (`intent.folder.FolderSource`, `intent.cluster.ClusterSource`)."""

    def read_for(self, namespace: str, name: str, uid: str) -> Intent:
        """The wishes of now; about this pod never from a memory that does not know it.

        Raises:
            DanmpyError: this pod cannot be looked up now.
        """

    def hear(self, intent: Intent, pod: PodSpec, asks: Sequence[InterfaceAsk]) -> Intent:
        """`intent`, with the networks that `pod` asks for and that it should know as well.

        Raises:
            DanmpyError: one exists, and what it is cannot be known now.
        """


class Looks(Protocol):
    """Who looks after the host devices (`netwatcher.loop.Netwatcher`)."""

    @property
    def report(self) -> LookReport:
        """What the last look came to."""

    def wait_for(self, condition: Callable[[LookReport], bool], seconds: float) -> LookReport:
        """Look again until `condition` holds or the time is up; the last report."""


class LiveView:
    """The engine's view of this node (`attach.engine.NodeView`).

    `waits_for` says what the node still waits for before it attaches pods; empty: nothing.
    """

    def __init__(
        self, source: IntentSource, looks: Looks, waits_for: Callable[[], str] = lambda: ""
    ) -> None:
        self._source = source
        self._looks = looks
        self._waits_for = waits_for

    def require_ready(self) -> None:
        """Are pods attached now?

        Raises:
            NotReadyError: this node is still starting; the message says what it waits for.
        """
        if why := self._waits_for():
            raise NotReadyError(
                f"this node is still starting: {why}",
                hint="it is tried again; what is attached can be detached",
                subject="danmpy node",
            )

    def read_for(self, namespace: str, name: str, uid: str) -> Intent:
        """The wishes of now, with those about this pod.

        Raises:
            DanmpyError: this pod cannot be looked up now; the message says why.
        """
        return self._source.read_for(namespace, name, uid)

    def hear(self, intent: Intent, pod: PodSpec, asks: Sequence[InterfaceAsk]) -> Intent:
        """`intent`, with the networks that `pod` asks for and that were made just now.

        Raises:
            DanmpyError: such a network exists, and what it is cannot be known now.
        """
        return self._source.hear(intent, pod, asks)

    def read_networks(self, intent: Intent, asked: Collection[NetworkKey] = ()) -> NetworkView:
        """The networks of a look that went by those of `intent`; those `asked` for are waited for
        while the controller has still to give them their segment.

        Raises:
            NotReadyError: no such look succeeds in time; the message says why.
        """
        asked = _with_aliases(intent, asked)
        report = self._looks.report
        if not _knows(report, intent, asked):
            report = self._looks.wait_for(lambda seen: _knows(seen, intent, asked), WAIT_S)
            if not _knows(report, intent, asked):
                raise NotReadyError(
                    f"the networks cannot be looked at: {report.error or 'the last look hangs'}",
                    hint="see the log of the node daemon; it tries again by itself",
                    subject="netwatcher",
                )
        if _pending(report, asked):
            report = self._looks.wait_for(lambda seen: not _pending(seen, asked), WAIT_S)
            for key in _pending(report, asked):
                raise NotReadyError(
                    _what_is_wrong(report.conditions[key]),
                    hint="it is tried again; see its status in the API server",
                    subject=str(key),
                )
        refused = {
            key: "; ".join(f"{problem.message} ({problem.hint})" for problem in problems)
            for key, problems in intent.rejected.items()
        }
        for key in intent.networks:
            if key not in report.networks and not _is_bare(key, intent):
                refused[key] = _what_is_wrong(report.conditions.get(key, ()))
        bare = {key: intent.networks[key] for key in asked if _is_bare(key, intent)}
        networks = {**report.networks, **bare} if bare else report.networks
        return NetworkView(networks=networks, refused=refused)

    def ready_device(self, network: NetworkKey) -> str:
        """The device that interfaces on `network` are made on.

        Raises:
            NotReadyError: there is none now; the message says why.
        """
        device = self._looks.report.device_of.get(network)
        if device is not None:
            return device
        report = self._looks.wait_for(lambda seen: network in seen.device_of, WAIT_S)
        if network in report.device_of:
            return report.device_of[network]
        wrong = report.error or _what_is_wrong(report.conditions.get(network, ()))
        raise NotReadyError(
            f"its host device is not there: {wrong}",
            hint="see `danmpy networks`; the netwatcher tries again by itself",
            subject=str(network),
        )


def _with_aliases(intent: Intent, asked: Collection[NetworkKey]) -> Collection[NetworkKey]:
    """`asked`, and what those stand for that are only another name."""
    named = (intent.networks.get(key) for key in asked)
    return [*asked, *(network.alias for network in named if network and network.alias)]


def _is_bare(key: NetworkKey, intent: Intent) -> bool:
    """Does it need nothing of a look? So it is with most NetworkAttachmentDefinitions: a pod can
    use one in the moment in which it is there.
    """
    if key.kind is not NetworkKind.NAD:
        return False
    network = intent.networks.get(key)
    return network is not None and network.segment is None


def _knows(report: LookReport, intent: Intent, asked: Collection[NetworkKey]) -> bool:
    """Did the look go by the networks that are asked for as the manifests name them now?

    All of them are compared only when none is named: while many are being written, no look has
    ever seen the very same ones.
    """
    seen = report.intent
    if seen is None or seen.tenant_configs != intent.tenant_configs:
        return False
    if seen.networks is intent.networks:
        return True
    if not asked:
        return seen.networks == intent.networks
    return all(
        seen.networks.get(key) == intent.networks.get(key) or _is_bare(key, intent) for key in asked
    )


def _pending(report: LookReport, asked: Collection[NetworkKey]) -> list[NetworkKey]:
    """Those of `asked` that wait for their segment."""
    return [
        key
        for key in asked
        if any(each.reason == ASSIGNMENT_PENDING for each in report.conditions.get(key, ()))
    ]


def _what_is_wrong(conditions: Sequence[Condition]) -> str:
    wrong = [c.message for c in conditions if c.status is not ConditionStatus.TRUE and c.message]
    return "; ".join(wrong) or "no look has got to it yet"

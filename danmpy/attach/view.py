"""What the CNI verbs see of intent and host devices: the newest manifests, the last look.

A pod is often attached in the same second in which its manifests were written, before any watch has
told of them. So the intent is read anew for every call (which is cheap when nothing changed), and a
look that is older than the manifests is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from danmpy.api.specs import Condition, ConditionStatus, NetworkKey
from danmpy.attach.ports import NetworkView
from danmpy.errors import NotReadyError
from danmpy.intent.values import Intent
from danmpy.netwatcher.values import LookReport

WAIT_S: Final = 2.0
"""Seconds to wait for a look; with the database's own 3 s an ADD is answered within 5 s."""


class IntentSource(Protocol):
    """Where the wishes come from (`intent.folder.FolderSource`)."""

    def read(self) -> Intent:
        """The wishes of now."""


class Looks(Protocol):
    """Who looks after the host devices (`netwatcher.loop.Netwatcher`)."""

    @property
    def report(self) -> LookReport:
        """What the last look came to."""

    def wait_for(self, condition: Callable[[LookReport], bool], seconds: float) -> LookReport:
        """Look again until `condition` holds or the time is up; the last report."""


class LiveView:
    """The engine's view of this node (`attach.engine.NodeView`)."""

    def __init__(self, source: IntentSource, looks: Looks) -> None:
        self._source = source
        self._looks = looks

    def read(self) -> Intent:
        """The wishes of now."""
        return self._source.read()

    def read_networks(self, intent: Intent) -> NetworkView:
        """The networks of a look that went by those of `intent`.

        Raises:
            NotReadyError: no such look succeeds in time; the message says why.
        """
        report = self._looks.report
        if not _knows(report, intent):
            report = self._looks.wait_for(lambda seen: _knows(seen, intent), WAIT_S)
            if not _knows(report, intent):
                raise NotReadyError(
                    f"the networks cannot be looked at: {report.error or 'the last look hangs'}",
                    hint="see the log of the node daemon; it tries again by itself",
                    subject="netwatcher",
                )
        refused = {
            key: "; ".join(f"{problem.message} ({problem.hint})" for problem in problems)
            for key, problems in intent.rejected.items()
        }
        for key in intent.networks:
            if key not in report.networks:
                refused[key] = _what_is_wrong(report.conditions.get(key, ()))
        return NetworkView(networks=report.networks, refused=refused)

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


def _knows(report: LookReport, intent: Intent) -> bool:
    """Did the look go by the networks that the manifests name now?"""
    seen = report.intent
    if seen is None:
        return False
    return seen is intent or (
        seen.networks == intent.networks and seen.tenant_configs == intent.tenant_configs
    )


def _what_is_wrong(conditions: Sequence[Condition]) -> str:
    wrong = [c.message for c in conditions if c.status is not ConditionStatus.TRUE and c.message]
    return "; ".join(wrong) or "no look has got to it yet"

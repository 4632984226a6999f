"""Keeps the network-status annotation on the pods of this node.

Beside it goes what CNI-Genie fills in for pods with its annotation ``multi-ip-preferences``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog

from danmpy.api.dialects.genie import render_preferences
from danmpy.api.dialects.keys import GENIE_PREFERENCES
from danmpy.api.specs import PodSpec
from danmpy.attach.journal import AttachmentRecord
from danmpy.errors import ClusterError
from danmpy.kube.errors import ClashError, MissingError
from danmpy.kube.resources import PODS
from danmpy.mirrors.attachments import Attached, AttachmentReader
from danmpy.mirrors.network_status import NETWORK_STATUS, render_status
from danmpy.mirrors.patience import Delays
from danmpy.mirrors.ports import (
    API_SERVER,
    CALLS,
    REFUSED_MOST_S,
    WAIT_S,
    Cluster,
    concerns_all,
    sooner,
)

_log = structlog.get_logger(__name__)

_Key = tuple[str, str, str]
"""Namespace, name and UID of a pod's object."""

_Texts = Mapping[str, str]
"""Annotations and their values."""

_STATUS: Final = "status"


class StatusMirror:
    """Written once for each attachment, and once for each pod after a start: what is there already
    is no write for the API server.
    """

    name = "network-status"
    place = API_SERVER

    def __init__(self, cluster: Cluster, reader: AttachmentReader) -> None:
        self._cluster = cluster
        self._reader = reader
        self._texts: dict[tuple[str, str], tuple[AttachmentRecord, _Texts]] = {}
        self._written: dict[_Key, _Texts] = {}
        self._delays: Delays[_Key] = Delays(REFUSED_MOST_S, {})

    def run(self, now: float) -> float | None:
        """As `ports.Target.run`."""
        attached = self._reader.read().attached
        self._texts = {each.record.key: self._worked_out(each) for each in attached}
        desired = self._desire(attached)
        self._written = {key: text for key, text in self._written.items() if key in desired}
        todo = [key for key, text in desired.items() if self._written.get(key) != text]
        self._delays.keep(todo)
        ready = [key for key in todo if self._delays.may(key, now)]
        for key in ready[:CALLS]:
            self._write(key, desired[key], now)
        waiting = any(each.pod is None for each in attached)
        return sooner(
            0.0 if len(ready) > CALLS else None,
            self._delays.next_s(now),
            WAIT_S if waiting else None,
        )

    def _desire(self, attached: tuple[Attached, ...]) -> dict[_Key, _Texts]:
        """The annotations of each pod: of its newest sandbox, should an older one still stand."""
        desired: dict[_Key, _Texts] = {}
        for each in sorted(attached, key=lambda one: one.record.began_at):
            if each.pod is not None:
                key = (each.pod.namespace, each.pod.name, each.pod.uid)
                texts = self._texts[each.record.key][1]
                wanted = {NETWORK_STATUS, *_wanted_by(each.pod)}
                desired[key] = {word: text for word, text in texts.items() if word in wanted}
        return desired

    def _worked_out(self, each: Attached) -> tuple[AttachmentRecord, _Texts]:
        known = self._texts.get(each.record.key)
        if known is not None and known[0] is each.record:
            return known
        texts = {NETWORK_STATUS: render_status(each.facts)}
        preferences = render_preferences(
            (interface.name, interface.addresses) for interface in each.facts.interfaces
        )
        if preferences:
            texts[GENIE_PREFERENCES] = preferences
        return each.record, texts

    def _write(self, key: _Key, texts: _Texts, now: float) -> None:
        namespace, name, uid = key
        patch = {"metadata": {"uid": uid, "annotations": texts}}
        try:
            self._cluster.patch(PODS, name, patch, namespace, _STATUS)
        except (MissingError, ClashError):
            pass  # the pod is gone, or another one by now: nobody is left to be told
        except ClusterError as error:
            if concerns_all(error):
                raise
            if self._delays.note_failure(key, now):
                _log.warning("network-status refused", pod=f"{namespace}/{name}", error=str(error))
            return
        self._written[key] = texts
        self._delays.note_success(key)


def _wanted_by(pod: PodSpec) -> tuple[str, ...]:
    """The annotations besides the status that `pod` wants to be filled in: those that it has."""
    return (GENIE_PREFERENCES,) if GENIE_PREFERENCES in pod.annotations else ()

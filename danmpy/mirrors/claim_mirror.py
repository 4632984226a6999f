"""Tells ResourceClaims of the interfaces that were made on their devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog

from danmpy.attach.devices.claim_reader import claims_resource
from danmpy.attach.devices.resource_claims import GROUP, VERSIONS
from danmpy.attach.values import ClaimedDevice
from danmpy.errors import ClusterError
from danmpy.kube.errors import ClashError, MissingError
from danmpy.mirrors.attachments import Attached, AttachmentReader
from danmpy.mirrors.claim_status import desired_devices, network_data
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

_Key = tuple[str, str]
"""Namespace and name of a claim."""

_Wanted = Mapping[ClaimedDevice, dict[str, Any]]
_STATUS: Final = "status"
_CALLS_EACH: Final = 2
"""One to read a claim, one to write it."""


class ClaimMirror:
    """Written once for each attachment; what is there already is not written again.

    An entry stays when its pod ends: with the allocation the server takes it away.
    """

    name = "resource claims"
    place = API_SERVER

    def __init__(self, cluster: Cluster, reader: AttachmentReader) -> None:
        self._cluster = cluster
        self._reader = reader
        self._version = ""
        self._written: dict[_Key, _Wanted] = {}
        self._delays: Delays[_Key] = Delays(REFUSED_MOST_S, {})

    def run(self, now: float) -> float | None:
        """As `ports.Target.run`."""
        desired = _desired(self._reader.read().attached)
        self._written = {key: told for key, told in self._written.items() if key in desired}
        todo = [key for key, wanted in desired.items() if self._written.get(key) != wanted]
        self._delays.keep(todo)
        ready = [key for key in todo if self._delays.may(key, now)]
        if ready and not self._served():
            return None
        most = CALLS // _CALLS_EACH
        clashed = [key for key in ready[:most] if not self._write(key, desired[key], now)]
        return sooner(
            0.0 if len(ready) > most else None,
            WAIT_S if clashed else None,
            self._delays.next_s(now),
        )

    def _served(self) -> str:
        self._version = self._version or next(
            (each for each in VERSIONS if self._cluster.serves(f"{GROUP}/{each}")), ""
        )
        return self._version

    def _write(self, key: _Key, wanted: _Wanted, now: float) -> bool:
        """Tell one claim; False when somebody else wrote to it in the same moment."""
        namespace, name = key
        resource = claims_resource(self._version)
        try:
            claim = self._cluster.get(resource, name, namespace)
            devices = desired_devices(claim, wanted)
            if devices is not None:
                # The list is the drivers' too: written only onto the version that was read.
                version = claim["metadata"]["resourceVersion"]
                patch = {"metadata": {"resourceVersion": version}, "status": {"devices": devices}}
                self._cluster.patch(resource, name, patch, namespace, _STATUS)
        except MissingError:
            pass  # the claim is gone, or its kind: nobody is left to be told
        except ClashError:
            return False
        except ClusterError as error:
            if concerns_all(error):
                raise
            if self._delays.note_failure(key, now):
                _log.warning("claim status refused", claim=f"{namespace}/{name}", error=str(error))
            return True
        self._written[key] = wanted
        self._delays.note_success(key)
        return True


def _desired(attached: tuple[Attached, ...]) -> dict[_Key, _Wanted]:
    """What each claim is told: of the newest sandbox, should an older one still stand."""
    desired: dict[_Key, dict[ClaimedDevice, dict[str, Any]]] = {}
    for each in sorted(attached, key=lambda one: one.record.began_at):
        for interface in each.facts.interfaces:
            if interface.claimed is not None:
                key = (each.record.namespace, interface.claimed.claim)
                desired.setdefault(key, {})[interface.claimed] = network_data(interface)
    return dict(desired)

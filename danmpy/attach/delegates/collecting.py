"""GC of delegates: what the journal does not know any more, they may forget as well.

Runtimes may call GC, and containerd does not, so the daemon does it by itself from time to time.
"""

from __future__ import annotations

from typing import Final

import structlog

from danmpy.attach.delegates.confs import DelegateConf
from danmpy.attach.locks import ContainerLocks
from danmpy.attach.ports import AttachPorts
from danmpy.errors import DanmpyError, NotReadyError

_log = structlog.get_logger(__name__)

GRACE_S: Final = 60.0
"""Seconds between the two looks in which an attachment must be missing before it counts as gone."""

_Confs = dict[tuple[str, str], DelegateConf]
_Valid = dict[str, set[tuple[str, str]]]
"""Container id and interface of the attachments, by the name of the configuration."""


class DelegateGc:
    """Asks the delegates of the configurations in use; what is in the journal is valid. With a
    damaged record nobody is asked, nor while pods run that another tool attached and that were not
    adopted: they would be missing in the list, and lose their addresses.
    """

    def __init__(self, ports: AttachPorts, locks: ContainerLocks) -> None:
        self._ports = ports
        self._locks = locks
        self._known: tuple[float, _Confs, _Valid] | None = None
        self._due: float | None = None

    def collect_now(self) -> list[DanmpyError]:
        """GC of all, as a runtime asks for it; what failed."""
        if not self._read()[0]:
            return []
        if not self._knows_all():
            _log.warning("GC of delegates left out: not all pods are known")
            return []
        try:
            with self._locks.all():
                # While no ADD or DEL runs: one that began meanwhile would be missing in the list.
                confs, valid = self._read()
                return self._collect(confs, valid)
        except NotReadyError as error:
            return [error]

    def run(self, now: float, every_s: float) -> int:
        """The same by itself, `every_s` seconds apart; how many configurations were gone through.

        Called often, with `now` in seconds that only go forward. What has gone since a look
        `GRACE_S` ago still counts as there: its own DEL may be repeated. A configuration whose last
        attachment went meanwhile is asked once more. One at a time, so that pods wait for one only.

        Raises:
            DanmpyError: the first failure, after all others were tried.
        """
        if self._due is None:
            self._due = now + every_s
        if now < self._due - GRACE_S or not self._knows_all():
            return 0
        if self._known is None:
            self._known = (now, *self._read())
        seen_at, confs, valid = self._known
        if now < self._due or now - seen_at < GRACE_S:
            return 0
        self._known, self._due = None, now + every_s
        failures: list[DanmpyError] = []
        confs |= self._read()[0]
        for key, conf in confs.items():
            try:
                with self._locks.all():
                    still = self._read()[1].get(conf.name, set())
                    failures += self._collect(
                        {key: conf}, {conf.name: still | valid.get(conf.name, set())}
                    )
            except NotReadyError as error:
                failures.append(error)
        _log.info("GC of delegates", configurations=len(confs), failed=len(failures))
        if failures:
            raise failures[0]
        return len(confs)

    def _knows_all(self) -> bool:
        journal = self._ports.journal
        return journal.complete and not journal.strangers

    def _read(self) -> tuple[_Confs, _Valid]:
        confs: _Confs = {}
        valid: _Valid = {}
        for record in self._ports.journal.read_all():
            for link in record.all_links:
                if link.delegate:
                    conf = DelegateConf.from_json(link.delegate)
                    # Two tenants may call different configurations by one name. Of what was adopted
                    # each attachment has a source of its own.
                    source = "" if record.adopted_files else conf.source
                    confs[conf.name, source] = conf
                    valid.setdefault(conf.name, set()).add((record.container_id, link.name))
        return confs, valid

    def _collect(self, confs: _Confs, valid: _Valid) -> list[DanmpyError]:
        failures: list[DanmpyError] = []
        for (name, _), conf in confs.items():
            try:
                self._ports.delegates.collect(conf, valid[name])
            except DanmpyError as error:
                failures.append(error)
        return failures

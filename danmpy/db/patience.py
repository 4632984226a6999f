"""A PostgreSQL connection that gives up on a server which has stopped answering.

The server's own limits (statement_timeout, lock_timeout) need a server that works, and TCP's limits
a peer that is gone: neither helps when the server's machine hangs or its process is stopped, for
its kernel goes on confirming what we send.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import psycopg

from danmpy.clock import monotonic

ANSWER_S: Final = 2.5
"""How long one answer may take: a little more than the statement_timeout of the server."""


class PatientConnection(psycopg.Connection[Any]):
    """Every wait for the server ends after `answer_s` seconds; the connection is dead then."""

    answer_s: float = ANSWER_S

    def wait(self, gen: Any, *more: Any, **named: Any) -> Any:
        """As in psycopg, but not for ever."""
        return super().wait(self._limited(gen), *more, **named)

    def _limited(self, gen: Any) -> Generator[Any, Any, Any]:
        """`gen`, looked at whenever psycopg comes by (every 0.1 s while nothing arrives)."""
        deadline = monotonic() + self.answer_s
        try:
            state = next(gen)
            while True:
                ready = yield state
                if not ready and monotonic() > deadline:
                    # Without a goodbye, which would wait as well.
                    self.pgconn.finish()
                    raise psycopg.OperationalError(
                        f"the server has not answered for {self.answer_s} s"
                    )
                state = gen.send(ready)
        except StopIteration as stop:
            return stop.value

"""The writers of one SQLite file in one process: one at a time, and one commit for all that wait.

A commit that survives a power cut costs more than the work of most transactions, and SQLite makes
one after the other. So whoever gets the turn runs the work of all that wait as well, each inside a
savepoint, and commits once. Nobody gets an answer before that.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from danmpy.clock import monotonic
from danmpy.db.errors import TransientError
from danmpy.errors import StoreError

T = TypeVar("T")

BATCH: Final = 64
"""How many share one commit at most."""

BATCH_S: Final = 0.02
"""Nobody joins a transaction that is older, so that the first in it need not wait long."""


@dataclass(eq=False, slots=True)
class _Job:
    work: Callable[[Connection], Any]
    value: Any = None
    error: BaseException | None = None
    begun: bool = False
    done: bool = False

    def answer(self) -> Any:
        """What came of it."""
        if self.error is not None:
            raise self.error
        return self.value


class Writers:
    """The queue of one engine."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._taken = False

    @contextmanager
    def alone(self, wait_s: float, *, busy: Callable[[], Exception]) -> Iterator[None]:
        """The turn, after at most `wait_s` seconds; raises what `busy` makes after that."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._taken, wait_s):
                raise busy()
            self._taken = True
        try:
            yield
        finally:
            self._leave()

    def together(
        self,
        work: Callable[[Connection], T],
        writing: Callable[[], AbstractContextManager[Connection]],
        wait_s: float,
        *,
        busy: Callable[[], Exception],
    ) -> T:
        """The result of `work` when it is committed, alone or with that of others.

        `writing` opens a transaction and commits it at its end. `work` raises errors of our own
        kinds only. When the commit fails, it fails for all.
        """
        job = _Job(work)
        with self._changed:
            self._waiting.append(job)
            self._changed.wait_for(lambda: job.done or not (self._taken or job.begun), wait_s)
            if job.begun:
                # Somebody is at it, and it may be committed: an answer now might be wrong.
                self._changed.wait_for(lambda: job.done)
            if not job.done:
                self._waiting.remove(job)
                if self._taken:
                    raise busy()
                self._taken = True
        if not job.done:
            try:
                self._lead(job, writing)
            finally:
                self._leave()
        result: T = job.answer()
        return result

    def _leave(self) -> None:
        with self._changed:
            self._taken = False
            self._changed.notify_all()

    def _lead(self, own: _Job, writing: Callable[[], AbstractContextManager[Connection]]) -> None:
        """Run `own` and, in the same transaction, what waits."""
        jobs = [own]
        failure: BaseException | None = None
        try:
            with writing() as connection:
                self._run_all(connection, jobs)
        except Exception as error:  # noqa: BLE001 - it is raised by `answer`, in every thread
            failure = error
        except BaseException:
            self._finish(jobs[1:], _interrupted())
            raise
        self._finish(jobs, failure)

    def _run_all(self, connection: Connection, jobs: list[_Job]) -> None:
        """Fill `jobs` with what joins. Raises when the whole transaction is lost."""
        own = jobs[0]
        if not self._waiting:
            # By itself, as most are: its error undoes the transaction, and nothing else is in it.
            own.value = own.work(connection)
        else:
            _run_apart(connection, own)
        deadline = monotonic() + BATCH_S
        while len(jobs) < BATCH and monotonic() < deadline:
            with self._changed:
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                job.begun = True
            jobs.append(job)
            _run_apart(connection, job)

    def _finish(self, jobs: list[_Job], failure: BaseException | None) -> None:
        with self._changed:
            for job in jobs:
                job.error = _own(failure) or job.error
                job.done = True
            self._changed.notify_all()


def _run_apart(connection: Connection, job: _Job) -> None:
    """Run it so that its error undoes only what it did itself."""
    driver: Any = connection.connection.driver_connection
    driver.execute("SAVEPOINT one")
    try:
        job.value = job.work(connection)
    except Exception as error:
        # After some errors (a full disk) SQLite undoes the whole transaction by itself
        # (sqlite.org/lang_transaction.html, 3): then it is lost for all.
        if not driver.in_transaction:
            raise
        driver.execute("ROLLBACK TO one")
        job.error = error
    driver.execute("RELEASE one")


def _own(failure: BaseException | None) -> BaseException | None:
    """The same for one thread alone: raising an error changes it."""
    if isinstance(failure, StoreError):
        copy = type(failure)(failure.message, hint=failure.hint, subject=failure.subject)
        if isinstance(failure, TransientError) and isinstance(copy, TransientError):
            copy.reason = failure.reason
        copy.__cause__ = failure
        return copy
    return failure


def _interrupted() -> TransientError:
    return TransientError(
        "the writer that shared its transaction was stopped", hint="try again", subject="database"
    )

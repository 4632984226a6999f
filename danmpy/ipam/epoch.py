"""The fence around a database that may have forgotten commits which were answered.

A database that was put back from a backup, or failed over to a standby that lagged, is behind what
nodes have seen: it would hand out addresses that pods have on their links. So every node remembers
how far it saw the ledger, and compares. When the database is behind, a new *epoch* begins: nothing
is handed out until the nodes have told what their pods have, and those leases are stored again.

The state is in `meta`, so that all nodes share it: `home` (server and timeline that the database
was on last), `epoch` (the last one, as JSON), `closed` (present while nothing is handed out; every
bind looks for it in the statement that stores its leases), and ``asserted/NODE``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    bindparam,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from danmpy.clock import MICROSECONDS, Clock
from danmpy.db.engine import database_now, patience, read, run_write
from danmpy.ipam import ledger
from danmpy.ipam.ledger import TXID_SHIFT, EventKind
from danmpy.ipam.locks import lock_alone
from danmpy.ipam.reasserting import Reassertion, unknown_of
from danmpy.ipam.schema import event, freed, meta, pruned, seal
from danmpy.ipam.values import Lease

Handle = Connection
"""A connection inside a transaction, for those who only hand it on."""

HOLD_S: Final = 10
"""Seconds that an epoch is closed at least: every node that is there compares within that time, the
ones that the database does not know as well."""

_CLOSED: Final = "closed"
_ASSERTED: Final = "asserted/"
_PATIENCE_S: Final = 60
_KNOWN: Final = "danmpy_known"
_SEEN: Final = "danmpy_seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far somebody saw a ledger: `seq` and `uid` are those of an event, 0 and "" for none.

    `home` is the server; `epoch` the number of the last epoch that the leases were told in.
    """

    ledger: str
    home: str = ""
    seq: int = 0
    uid: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One epoch. `strict`: it stays closed until every node that holds leases has told them.

    `began_at` in microseconds; `why` in words.
    """

    number: int = 0
    closed: bool = False
    strict: bool = False
    began_at: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a database shows.

    `home` is where it is, `said_home` where it was last ("" before anybody noted it). `seq` and
    `uid` are those of the newest event, `uid_at_mark` the event at the mark's place ("" for none).
    `is_first`: nobody has looked through this connection before.
    """

    ledger: str
    home: str
    said_home: str
    seq: int
    uid: str
    uid_at_mark: str
    epoch: Epoch
    is_first: bool = False

    def mark(self, epoch: int) -> Mark:
        """What to remember of this."""
        return Mark(ledger=self.ledger, home=self.home, seq=self.seq, uid=self.uid, epoch=epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why the database cannot be trusted; `strict`: commits are lost for certain."""

    why: str
    strict: bool


def judge(mark: Mark | None, sight: Sight) -> Trouble | None:
    """May the database have forgotten something? None when it may not."""
    moved = sight.said_home not in {"", sight.home}
    if mark is not None and mark.epoch >= sight.epoch.number:
        if mark.ledger != sight.ledger:
            return Trouble(why="it is another ledger than this node worked with", strict=True)
        if sight.seq < mark.seq:
            why = f"it ends at event {sight.seq}, and this node has seen event {mark.seq}"
            return Trouble(why=why, strict=True)
        if mark.seq and sight.uid_at_mark != mark.uid:
            why = f"its event {mark.seq} is another one than this node has seen"
            return Trouble(why=why, strict=True)
        if sight.epoch.number < mark.epoch:
            return Trouble(why=f"it does not know of epoch {mark.epoch}", strict=True)
    if moved:
        return Trouble(
            why=f"it was on {sight.said_home} and is on {sight.home} now: restored, or failed over",
            strict=False,
        )
    return None


_HOME: Final = text(
    "SELECT system_identifier::text || '/' || "
    "substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) FROM pg_control_system()"
)
"""The cluster (made by initdb) and its timeline, which a promotion and a recovery change
(PostgreSQL 17, 25.3.6; the first eight digits of the name of a WAL file)."""
_META: Final = select(meta.c.key, meta.c.value).where(
    meta.c.key.in_(("ledger_id", "home", "epoch", _CLOSED))
)
_NEWEST: Final = select(event.c.seq, event.c.uid).order_by(event.c.seq.desc()).limit(1)
_AT_MARK: Final = select(event.c.uid).where(event.c.seq == bindparam("at"))
_PRUNED: Final = (
    select(seal.c.no)
    .join(pruned, seal.c.no.between(pruned.c.no_from, pruned.c.no_to))
    .where(seal.c.last_seq >= bindparam("at"))
    .limit(1)
)
_REST_ANEW: Final = (
    update(freed).where(freed.c.ready_at < bindparam("until")).values(ready_at=bindparam("until"))
)
_TOLD: Final = select(meta.c.key).where(
    meta.c.key.startswith(_ASSERTED, autoescape=True), meta.c.value == bindparam("number")
)
_FORGET: Final = delete(meta).where(meta.c.key == bindparam("of_key"))
# From one name to the next in the index over open leases: there may be a million of those.
HOLDING_NODES: Final = text(
    """
    WITH RECURSIVE known(node) AS (
        SELECT min(node) FROM lease WHERE held_to IS NULL AND node > ''
        UNION ALL
        SELECT (SELECT min(node) FROM lease WHERE held_to IS NULL AND node > known.node)
        FROM known WHERE node IS NOT NULL
    )
    SELECT node FROM known WHERE node IS NOT NULL
    """
)
"""The nodes whose pods hold leases; reservations are on none."""


def _store_meta(insert: Any) -> Any:
    statement = insert(meta)
    return statement.on_conflict_do_update(
        index_elements=[meta.c.key], set_={"value": statement.excluded.value}
    )


_STORE: Final = {
    "sqlite": _store_meta(sqlite.insert),
    "postgresql": _store_meta(postgresql.insert),
}


class EpochStore:
    """The epochs of one database.

    Raises (all methods):
        StoreError: the database cannot be used.
    """

    def __init__(self, engine: Engine, clock: Clock, cooldown_seconds: int) -> None:
        self._engine = engine
        self._clock = clock
        self._cooldown = cooldown_seconds * MICROSECONDS
        self.name = engine.url.render_as_string(hide_password=True)

    def is_known(self, connection: Connection) -> bool:
        """Was this connection to the server, or to the file, found to be trusted? Behind a new one
        may be another database, or an earlier moment of it.
        """
        return _KNOWN in connection.info

    def examine(
        self, connection: Connection, mark: Mark | None, leases: Sequence[Lease]
    ) -> Trouble | None:
        """Look at the database behind a new connection, inside a transaction of it."""
        sight = self._look(connection, mark)
        trouble = judge(mark, sight)
        if trouble is None and sight.epoch.closed:
            trouble = Trouble(why=sight.epoch.why, strict=False)
        if trouble is None and (count := len(unknown_of(connection, leases))):
            trouble = Trouble(why=f"it does not know {count} leases", strict=True)
        if trouble is None:
            connection.info[_KNOWN] = True
        return trouble

    def look(self, mark: Mark | None) -> Sight:
        """What the database shows to somebody who remembers `mark`."""
        with read(self._engine) as connection:
            is_first = _SEEN not in connection.info
            connection.info[_SEEN] = True
            return replace(self._look(connection, mark), is_first=is_first)

    def _look(self, connection: Connection, mark: Mark | None) -> Sight:
        said = {row.key: row.value for row in connection.execute(_META)}
        newest = connection.execute(_NEWEST).first()
        at_mark = None
        if mark is not None and mark.seq:
            at_mark = connection.execute(_AT_MARK, {"at": mark.seq}).scalar()
            if at_mark is None and connection.execute(_PRUNED, {"at": mark.seq}).first():
                at_mark = mark.uid  # it may have been there: whoever was away for long is late
        home = ""
        if connection.dialect.name == "postgresql":
            home = str(connection.execute(_HOME).scalar_one())
        epoch = Epoch(**json.loads(said["epoch"])) if "epoch" in said else Epoch()
        return Sight(
            ledger=said.get("ledger_id", ""),
            home=home,
            said_home=said.get("home", ""),
            seq=newest.seq if newest else 0,
            uid=newest.uid if newest else "",
            uid_at_mark=str(at_mark or ""),
            epoch=replace(epoch, closed=_CLOSED in said),
        )

    def settle_home(self, sight: Sight) -> None:
        """Note where the database is, unless somebody did."""
        if sight.said_home != sight.home:
            run_write(self._engine, lambda connection: _put(connection, "home", sight.home))

    def begin(self, trouble: Trouble, mark: Mark | None, node: str) -> Epoch:
        """Close the pools, as `node` found `trouble`; in an epoch that is closed already, make it
        as strict as that.
        """

        def work(connection: Connection) -> Epoch:
            lock_alone(connection, "epoch")
            sight = self._look(connection, mark)
            if sight.epoch.closed:
                return self._tighten(connection, sight, trouble)
            number = max(sight.epoch.number, mark.epoch if mark else 0) + 1
            epoch = Epoch(
                number=number,
                closed=True,
                strict=trouble.strict,
                began_at=database_now(connection, self._clock),
                why=trouble.why,
            )
            self._keep_order(connection)
            with _patience(connection):
                connection.execute(_REST_ANEW, {"until": epoch.began_at + self._cooldown})
            self._write(connection, sight, epoch)
            self._tell(connection, epoch, "began", node)
            return epoch

        return run_write(self._engine, work)

    def _tighten(self, connection: Connection, sight: Sight, trouble: Trouble) -> Epoch:
        if not trouble.strict or sight.epoch.strict:
            return sight.epoch
        epoch = replace(sight.epoch, strict=True, why=trouble.why)
        self._write(connection, sight, epoch)
        return epoch

    def _write(self, connection: Connection, sight: Sight, epoch: Epoch) -> None:
        _put(connection, "epoch", json.dumps(asdict(epoch), sort_keys=True))
        _put(connection, "home", sight.home)
        if epoch.closed:
            _put(connection, _CLOSED, str(epoch.number))
        else:
            connection.execute(_FORGET, {"of_key": _CLOSED})

    def _tell(self, connection: Connection, epoch: Epoch, what: str, who: str) -> None:
        row = {
            "at": database_now(connection, self._clock),
            "effective_at": epoch.began_at,
            "kind": str(EventKind.EPOCH),
            "node": who,
            "reason": epoch.why,
            "detail": {"epoch": epoch.number, "what": what, "strict": epoch.strict},
        }
        ledger.append(connection, [row])

    def _keep_order(self, connection: Connection) -> None:
        """Let new events have higher transaction numbers than those that are there.

        Those of a server to which a dump was restored start low, and would fall among events that
        are sealed. Nobody may append meanwhile: the lock waits for who just does.
        """
        if connection.dialect.name != "postgresql":
            return
        connection.execute(_LOCK_EVENTS)
        shift, floor, lowest = connection.execute(_NUMBERS).one()
        if lowest + shift < floor:
            _put(connection, "txid_shift", str(floor - lowest))

    def unknown(self, leases: Sequence[Lease]) -> tuple[Lease, ...]:
        """Those of `leases` of which the database knows nothing, not even their end."""
        with read(self._engine) as connection:
            return unknown_of(connection, leases)

    def assert_leases(self, leases: Sequence[Lease], epoch: int) -> tuple[Lease, ...]:
        """Store again what pods have on their links; gives the leases that could not be stored,
        because somebody else has the address now.

        Those that the database knows already, held or ended, change nothing.
        """
        refused: list[Lease] = []
        for lease in leases:
            stored = run_write(
                self._engine,
                lambda connection, lease=lease: Reassertion(  # type: ignore[misc]
                    connection, database_now(connection, self._clock), self._cooldown, epoch
                ).store(lease),
            )
            if not stored:
                refused.append(lease)
        return tuple(refused)

    def told(self, node: str, epoch: int) -> None:
        """`node` has told everything in `epoch`."""
        run_write(
            self._engine, lambda connection: _put(connection, f"{_ASSERTED}{node}", str(epoch))
        )

    def missing(self) -> tuple[str, ...]:
        """The nodes that hold leases and have not told them in this epoch."""
        with read(self._engine) as connection:
            return self._missing(connection, self._look(connection, None).epoch)

    def _missing(self, connection: Connection, epoch: Epoch) -> tuple[str, ...]:
        holding = set(connection.execute(HOLDING_NODES).scalars())
        keys = connection.execute(_TOLD, {"number": str(epoch.number)}).scalars()
        return tuple(sorted(holding - {key.removeprefix(_ASSERTED) for key in keys}))

    def settle(self, *, by: str = "", node: str = "") -> Epoch:
        """Hand out addresses again, if the time has come; `by` is the person who wants it at once.

        It has come `HOLD_S` after the beginning; in a strict epoch every node that holds leases
        has told them as well.
        """

        def work(connection: Connection) -> Epoch:
            lock_alone(connection, "epoch")
            sight = self._look(connection, None)
            epoch = sight.epoch
            if not epoch.closed:
                return epoch
            if not by:
                age = database_now(connection, self._clock) - epoch.began_at
                # A clock that was set back must not close the pools for ever.
                if 0 <= age < HOLD_S * MICROSECONDS:
                    return epoch
                if epoch.strict and self._missing(connection, epoch):
                    return epoch
            epoch = replace(epoch, closed=False)
            self._write(connection, sight, epoch)
            self._tell(connection, epoch, f"accepted by {by}" if by else "settled", node)
            return epoch

        return run_write(self._engine, work)


_LOCK_EVENTS: Final = text("SELECT danmpy_lock_events()")
_NUMBERS: Final[Executable] = select(
    TXID_SHIFT,
    func.greatest(
        select(func.coalesce(func.max(event.c.txid) + 1, 0)).scalar_subquery(),
        select(func.coalesce(func.max(seal.c.txid_to), 0)).scalar_subquery(),
    ),
    text("pg_snapshot_xmin(pg_current_snapshot())::text::bigint"),
)


def _put(connection: Connection, key: str, value: str) -> None:
    connection.execute(_STORE[connection.dialect.name], {"key": key, "value": value})


def _patience(connection: Connection) -> AbstractContextManager[None]:
    """A minute for a statement that may touch many rows; SQLite knows no limit."""
    if connection.dialect.name == "postgresql":
        return patience(connection, _PATIENCE_S)
    return nullcontext()

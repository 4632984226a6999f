"""The check of the ledger: events against their digests, the seals, and the leases they tell of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, literal_column, or_, select, text

from danmpy.db.engine import snapshot
from danmpy.ipam.agreement import OPENING, detail_of, disagreements, segment_disagreements
from danmpy.ipam.ledger import TXID_SHIFT, EventKind, digest_of
from danmpy.ipam.merkle import chain_start, chained_root, leaf_hash, merkle_root
from danmpy.ipam.schema import event, lease, meta, pruned, seal, segment_assignment
from danmpy.ipam.values import Json

FINDINGS_KEPT: Final = 100
"""More are counted and not kept: one wrong byte in an early seal spoils all seals after it."""

_PAGE: Final = 1000
_LOWEST: Final = -(2**63)

_LEDGER_ID: Final = select(meta.c.value).where(meta.c.key == "ledger_id")
_SEALS: Final = select(seal).where(seal.c.no > bindparam("after")).order_by(seal.c.no).limit(_PAGE)
_SEALED: Final = (
    select(event)
    .where(event.c.txid >= bindparam("low"), event.c.txid < bindparam("high"))
    .order_by(event.c.txid, event.c.seq)
)
# Below zero there is nothing, unless somebody hides it there.
_TAIL: Final = (
    select(event)
    .where(
        or_(event.c.txid >= bindparam("low"), event.c.txid < 0), event.c.seq > bindparam("after")
    )
    .order_by(event.c.seq)
    .limit(_PAGE)
)
_IN_PLACE: Final = {
    "sqlite": event.c.txid == event.c.seq,
    "postgresql": event.c.txid.between(
        1, literal_column("pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1") + TXID_SHIFT
    ),
}
"""May an event that no seal covers have the number of its transaction?"""
_FIRST_GONE: Final = text(
    "SELECT min(number), (SELECT coalesce(max(seq), 0) FROM"
    " (SELECT max(seq) AS seq FROM event UNION ALL SELECT seq FROM sqlite_sequence"
    " WHERE name = 'event'))"
    " FROM (SELECT 1 AS number UNION ALL SELECT seq + 1 FROM event"
    " UNION ALL SELECT txid_to FROM pruned)"
    " WHERE number NOT IN (SELECT seq FROM event) AND NOT EXISTS"
    " (SELECT 1 FROM pruned WHERE number >= txid_from AND number < txid_to)"
)
"""The first number that no event has, and the last one that was given to an event."""
_STORED: Final = select(lease.c.id).where(lease.c.id.in_(bindparam("ids", expanding=True)))
_LEASES: Final = (
    select(lease).where(lease.c.id > bindparam("after")).order_by(lease.c.id).limit(_PAGE)
)
_TOLD: Final = (
    select(event)
    .where(event.c.lease_id.between(bindparam("low"), bindparam("high")))
    .order_by(event.c.seq)
)
_CLOSED: Final = (
    select(event)
    .where(event.c.closed_id.between(bindparam("low"), bindparam("high")))
    .order_by(event.c.seq)
)
_PRUNED_AROUND: Final = (
    select(pruned.c.no_to)
    .where(pruned.c.no_from <= bindparam("no"))
    .order_by(pruned.c.no_from.desc())
    .limit(1)
)
_PRUNED: Final = select(pruned.c.no_from, pruned.c.no_to).order_by(pruned.c.no_from)
_PRUNE_EVENTS: Final = select(event.c.detail).where(
    event.c.lease_id.is_(None), event.c.kind == EventKind.PRUNE
)
_SEGMENTS: Final = select(segment_assignment)
# All other events are about a lease; this is what an index finds.
_SEGMENT_EVENTS: Final = select(
    event.c.kind, event.c.network, event.c.detail, event.c.effective_at
).where(event.c.lease_id.is_(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFinding:
    """One thing that is not as it was written.

    `subject` is a seal, an event, a lease, or the network whose segment it is about.
    """

    kind: str
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.message} [{self.kind}]"

    def to_json(self) -> Json:
        """The finding as a JSON object."""
        return {"kind": self.kind, "subject": self.subject, "message": self.message}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """The outcome of `Ledger.verify`. `root` is that of the last seal, in hexadecimal.

    `found` counts all findings, `findings` holds the first of them. `pruned` counts the seals whose
    events are gone because they were older than they are kept.
    """

    seals: int
    sealed: int
    unsealed: int
    leases: int
    root: str
    pruned: int = 0
    found: int = 0
    findings: tuple[LedgerFinding, ...] = ()

    def with_findings(self, more: Sequence[LedgerFinding]) -> VerifyReport:
        """The same report with what was found elsewhere as well."""
        kept = (*self.findings, *more)[:FINDINGS_KEPT]
        return replace(self, found=self.found + len(more), findings=kept)

    @property
    def ok(self) -> bool:
        """Is everything as it was written?"""
        return self.found == 0

    @property
    def first(self) -> LedgerFinding | None:
        """The first bad entry."""
        return self.findings[0] if self.findings else None

    def to_json(self) -> Json:
        """The report as a JSON object."""
        return {
            "ok": self.ok,
            "seals": self.seals,
            "sealed": self.sealed,
            "unsealed": self.unsealed,
            "leases": self.leases,
            "root": self.root,
            "pruned": self.pruned,
            "found": self.found,
            "first": self.first.to_json() if self.first else None,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def __str__(self) -> str:
        counts = (
            f"{self.seals} seals over {self.sealed} events, {self.unsealed} not sealed yet, "
            f"{self.leases} leases"
        )
        if self.pruned:
            counts += f"; the events of {self.pruned} seals were pruned"
        root = f"root of the last seal: {self.root}" if self.root else "nothing is sealed yet"
        if self.ok:
            return f"the ledger is intact: {counts}\n{root}"
        lines = [f"the ledger was changed: {self.found} findings in {counts}", root]
        lines += [f"  {finding}" for finding in self.findings]
        if self.found > len(self.findings):
            lines.append(f"  and {self.found - len(self.findings)} more")
        return "\n".join(lines)


def verify(engine: Engine) -> VerifyReport:
    """Read everything and compare; in short transactions, so it may run beside the work.

    Raises:
        StoreError: the database cannot be used.
    """
    check = _Check(engine)
    check.chain()
    check.tail()
    check.numbers()
    check.leases()
    check.segments()
    check.prunings()
    return check.report()


class _Check:
    """One verification; what it has counted and found so far."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seals = self._sealed = self._unsealed = self._leases = self._found = 0
        self._pruned = 0
        self._sealed_below = 0
        self._root = b""
        self._findings: list[LedgerFinding] = []

    def report(self) -> VerifyReport:
        """What came out."""
        return VerifyReport(
            seals=self._seals,
            sealed=self._sealed,
            unsealed=self._unsealed,
            leases=self._leases,
            root=self._root.hex() if self._seals else "",
            pruned=self._pruned,
            found=self._found,
            findings=tuple(self._findings),
        )

    def _add(self, kind: str, subject: str, message: str) -> None:
        self._found += 1
        if len(self._findings) < FINDINGS_KEPT:
            self._findings.append(LedgerFinding(kind=kind, subject=subject, message=message))

    def chain(self) -> None:
        """Every seal follows from the one before it, and covers the events that it counted."""
        with snapshot(self._engine) as connection:
            start = connection.execute(_LEDGER_ID).scalar_one_or_none()
        if start is None:
            self._add("ChainBroken", "ledger", "its id, with which the seals begin, is gone")
        self._root = chain_start(start or "")
        number, after = 0, _LOWEST
        while True:
            with snapshot(self._engine) as connection:
                rows = connection.execute(_SEALS, {"after": after}).all()
            for row in rows:
                self._seal(row, number + 1)
                number = after = row.no
            if len(rows) < _PAGE:
                return

    def _seal(self, row: Any, number: int) -> None:
        subject = f"seal {row.no}"
        if row.no != number:
            self._add("SealMissing", f"seal {number}", f"the next seal that is there is {row.no}")
        elif row.txid_from != self._sealed_below:
            self._add("ChainBroken", subject, "it does not begin where the seal before it ends")
        elif chained_root(self._root, row._mapping) != row.root:  # noqa: SLF001 - public
            self._add("ChainBroken", subject, "its root does not follow from the seal before it")
        self._seals += 1
        # The next seal is compared with what this one says, so one wrong byte is told once.
        self._root = row.root if isinstance(row.root, bytes) else b""
        self._sealed_below = row.txid_to
        with snapshot(self._engine) as connection:
            events = connection.execute(_SEALED, {"low": row.txid_from, "high": row.txid_to}).all()
            self._events(connection, events)
            if not events and _is_pruned(connection, row.no):
                self._pruned += 1
                return
        self._sealed += len(events)
        span = f"{row.count} events up to number {row.last_seq}"
        if len(events) != row.count:
            more = isinstance(row.count, int) and len(events) > row.count
            verb = "added" if more else "removed"
            self._add(
                f"Events{verb.capitalize()}",
                subject,
                f"it covers {span}, but {len(events)} are there: some were {verb}",
            )
            return
        leaves = [leaf_hash(item.seq, item.txid, item.digest) for item in events]
        if merkle_root(leaves) != row.merkle_root:
            self._add(
                "EventsRewritten",
                subject,
                f"among its {span} one was exchanged or renumbered, with a digest that fits",
            )

    def tail(self) -> None:
        """The events that are not sealed yet have only their own digests."""
        page = _TAIL.add_columns(_IN_PLACE[self._engine.dialect.name].label("in_place"))
        after = _LOWEST
        while True:
            with snapshot(self._engine) as connection:
                asked = {"low": self._sealed_below, "after": after}
                events = connection.execute(page, asked).all()
                self._events(connection, events)
            for item in events:
                if not item.in_place:
                    self._add("EventChanged", f"event {item.seq}", "its txid is not its own")
            self._unsealed += len(events)
            if len(events) < _PAGE:
                return
            after = events[-1].seq

    def numbers(self) -> None:
        """No event is gone. SQLite undoes the number of an event with its transaction, so its
        numbers have no holes; PostgreSQL's have, and there the seals and the leases have to tell.
        """
        if self._engine.dialect.name != "sqlite":
            return
        with snapshot(self._engine) as connection:
            gone, last = connection.execute(_FIRST_GONE).one()
        if gone <= last:
            self._add("EventsRemoved", f"event {gone}", "it is gone, and perhaps others after it")

    def _events(self, connection: Connection, events: Sequence[Any]) -> None:
        """Each event fits its digest, and the lease that it began is there."""
        begun = {item.lease_id: item for item in events if item.kind in OPENING}
        stored: set[int] = set()
        ids = sorted(number for number in begun if number is not None)
        for start in range(0, len(ids), _PAGE):
            part = {"ids": ids[start : start + _PAGE]}
            stored.update(connection.execute(_STORED, part).scalars())
        for item in events:
            subject = f"event {item.seq}"
            if digest_of(item._mapping) != item.digest:  # noqa: SLF001 - public
                self._add("EventChanged", subject, f"its digest does not fit: {_told(item)}")
            if item.kind in OPENING and item.lease_id not in stored:
                self._add(
                    "LeaseRemoved", subject, f"the lease that it began is gone: {_told(item)}"
                )

    def leases(self) -> None:
        """Each lease says what its events say."""
        after = _LOWEST
        while True:
            # One moment for both, or a lease that ends meanwhile would look changed.
            with snapshot(self._engine) as connection:
                rows = connection.execute(_LEASES, {"after": after}).all()
                if not rows:
                    return
                span = {"low": rows[0].id, "high": rows[-1].id}
                told = _by(connection.execute(_TOLD, span), "lease_id")
                closed = _by(connection.execute(_CLOSED, span), "closed_id")
            for row in rows:
                mine = row._mapping  # noqa: SLF001 - public
                for words in disagreements(mine, told.get(row.id, ()), closed.get(row.id, ())):
                    self._add("LeaseChanged", f"lease {row.id}", f"{row.address_text}: {words}")
            self._leases += len(rows)
            after = rows[-1].id

    def segments(self) -> None:
        """The assignments of segments are those that the ledger tells of."""
        with snapshot(self._engine) as connection:
            rows = [row._mapping for row in connection.execute(_SEGMENTS)]  # noqa: SLF001 - public
            told = [row._mapping for row in connection.execute(_SEGMENT_EVENTS)]  # noqa: SLF001
        for network, words in segment_disagreements(rows, told):
            self._add("SegmentChanged", network, words)

    def prunings(self) -> None:
        """Whatever was pruned, the ledger tells of it."""
        with snapshot(self._engine) as connection:
            runs = connection.execute(_PRUNED).all()
            details = connection.execute(_PRUNE_EVENTS).scalars().all() if runs else ()
        told = {tuple(detail_of(text).get("seals", ())) for text in details}
        for run in runs:
            if (run.no_from, run.no_to) not in told:
                self._add(
                    "PruningUntold",
                    f"seal {run.no_from}",
                    f"its events and those up to seal {run.no_to} are gone as if they were pruned, "
                    "but no event of the ledger says so",
                )


def _is_pruned(connection: Connection, number: int) -> bool:
    last = connection.execute(_PRUNED_AROUND, {"no": number}).scalar()
    return last is not None and last >= number


def _by(rows: Any, column: str) -> Mapping[int, Sequence[Mapping[Any, Any]]]:
    grouped: dict[int, list[Mapping[Any, Any]]] = defaultdict(list)
    for row in rows:
        values = row._mapping  # noqa: SLF001 - public
        grouped[values[column]].append(values)
    return grouped


def _told(item: Any) -> str:
    pod = f" for Pod/{item.namespace}/{item.pod}" if item.pod else ""
    return f"{item.kind} {item.address or item.domain} of {item.network}{pod}"

"""The check of the ledger: events against their digests, the seals, and the leases they tell of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, select

from danmpy.db.engine import snapshot
from danmpy.ipam.agreement import disagreements
from danmpy.ipam.ledger import EventKind, digest_of
from danmpy.ipam.merkle import chain_start, chained_root, leaf_hash, merkle_root
from danmpy.ipam.schema import event, lease, meta, seal
from danmpy.ipam.values import Json

FINDINGS_KEPT: Final = 100
"""More are counted and not kept: one wrong byte in an early seal spoils all seals after it."""

_PAGE: Final = 1000

_OPENING: Final = (str(EventKind.ALLOCATE), str(EventKind.REBIND))
_LEDGER_ID: Final = select(meta.c.value).where(meta.c.key == "ledger_id")
_SEALS: Final = select(seal).where(seal.c.no > bindparam("after")).order_by(seal.c.no).limit(_PAGE)
_SEALED: Final = (
    select(event)
    .where(event.c.txid >= bindparam("low"), event.c.txid < bindparam("high"))
    .order_by(event.c.txid, event.c.seq)
)
_TAIL: Final = (
    select(event)
    .where(event.c.txid >= bindparam("low"), event.c.seq > bindparam("after"))
    .order_by(event.c.seq)
    .limit(_PAGE)
)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFinding:
    """One thing that is not as it was written: `subject` is a seal, an event or a lease."""

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

    `found` counts all findings, `findings` holds the first of them.
    """

    seals: int
    sealed: int
    unsealed: int
    leases: int
    root: str
    found: int = 0
    findings: tuple[LedgerFinding, ...] = ()

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
            "found": self.found,
            "first": self.first.to_json() if self.first else None,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def __str__(self) -> str:
        counts = (
            f"{self.seals} seals over {self.sealed} events, {self.unsealed} not sealed yet, "
            f"{self.leases} leases"
        )
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
    check.leases()
    return check.report()


class _Check:
    """One verification; what it has counted and found so far."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seals = self._sealed = self._unsealed = self._leases = self._found = 0
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
            self._root = chain_start(connection.execute(_LEDGER_ID).scalar_one())
        number = 0
        while True:
            with snapshot(self._engine) as connection:
                rows = connection.execute(_SEALS, {"after": number}).all()
            for row in rows:
                self._seal(row, number + 1)
                number = row.no
            if len(rows) < _PAGE:
                return

    def _seal(self, row: Any, number: int) -> None:
        subject = f"seal {row.no}"
        if row.no != number:
            self._add("SealMissing", f"seal {number}", f"the next seal that is there is {row.no}")
        elif row.txid_from != self._sealed_below:
            self._add("ChainBroken", subject, "it does not begin where the seal before it ends")
        elif chained_root(self._root, row._mapping) != bytes(row.root):  # noqa: SLF001 - public
            self._add("ChainBroken", subject, "its root does not follow from the seal before it")
        self._seals += 1
        self._root, self._sealed_below = bytes(row.root), row.txid_to
        with snapshot(self._engine) as connection:
            events = connection.execute(_SEALED, {"low": row.txid_from, "high": row.txid_to}).all()
            self._events(connection, events)
        self._sealed += len(events)
        span = f"{row.count} events up to number {row.last_seq}"
        if len(events) != row.count:
            verb = "removed" if len(events) < row.count else "added"
            self._add(
                f"Events{verb.capitalize()}",
                subject,
                f"it covers {span}, but {len(events)} are there: some were {verb}"
                + _gaps(connection.dialect.name, events, row),
            )
            return
        leaves = [leaf_hash(item.seq, item.txid, bytes(item.digest)) for item in events]
        if merkle_root(leaves) != bytes(row.merkle_root):
            self._add(
                "EventsRewritten",
                subject,
                f"among its {span} one was exchanged or renumbered, with a digest that fits",
            )

    def tail(self) -> None:
        """The events that are not sealed yet have only their own digests."""
        after = 0
        while True:
            with snapshot(self._engine) as connection:
                asked = {"low": self._sealed_below, "after": after}
                events = connection.execute(_TAIL, asked).all()
                self._events(connection, events)
            self._unsealed += len(events)
            if len(events) < _PAGE:
                return
            after = events[-1].seq

    def _events(self, connection: Connection, events: Sequence[Any]) -> None:
        """Each event fits its digest, and the lease that it began is there."""
        begun = {item.lease_id: item for item in events if item.kind in _OPENING}
        stored: set[int] = set()
        ids = sorted(number for number in begun if number is not None)
        for start in range(0, len(ids), _PAGE):
            part = {"ids": ids[start : start + _PAGE]}
            stored.update(connection.execute(_STORED, part).scalars())
        for item in events:
            subject = f"event {item.seq}"
            if digest_of(item._mapping) != bytes(item.digest):  # noqa: SLF001 - public
                self._add("EventChanged", subject, f"its digest does not fit: {_told(item)}")
            if item.kind in _OPENING and item.lease_id not in stored:
                self._add(
                    "LeaseRemoved", subject, f"the lease that it began is gone: {_told(item)}"
                )

    def leases(self) -> None:
        """Each lease says what its events say."""
        after = 0
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
                for text in disagreements(mine, told.get(row.id, ()), closed.get(row.id, ())):
                    self._add("LeaseChanged", f"lease {row.id}", f"{row.address_text}: {text}")
            self._leases += len(rows)
            after = rows[-1].id


def _by(rows: Any, column: str) -> Mapping[int, Sequence[Mapping[Any, Any]]]:
    grouped: dict[int, list[Mapping[Any, Any]]] = defaultdict(list)
    for row in rows:
        values = row._mapping  # noqa: SLF001 - public
        grouped[values[column]].append(values)
    return grouped


def _told(item: Any) -> str:
    pod = f" for Pod/{item.namespace}/{item.pod}" if item.pod else ""
    return f"{item.kind} {item.address or item.domain} of {item.network}{pod}"


def _gaps(dialect: str, events: Sequence[Any], row: Any) -> str:
    """Which numbers are missing: only SQLite numbers events without holes."""
    if dialect != "sqlite" or len(events) >= row.count:
        return ""
    there = {item.seq for item in events}
    missing = _first_missing(there, row.last_seq - row.count + 1, row.last_seq)
    return f" (first of them: event {next(missing, '?')})"


def _first_missing(there: set[int], low: int, high: int) -> Iterator[int]:
    return (number for number in range(low, high + 1) if number not in there)

"""Roots of seals that are kept in another place: printed there, and compared with later.

Somebody who may do everything in the database can write its whole ledger anew, seals included. What
was printed before on another machine does not change with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy import Engine, bindparam, func, select

from danmpy.clock import to_rfc3339
from danmpy.db.engine import snapshot
from danmpy.errors import IntentError
from danmpy.ipam.schema import meta, seal
from danmpy.ipam.values import Json
from danmpy.ipam.verifying import LedgerFinding

_log = structlog.get_logger(__name__)

_PAGE: Final = 1000
_LEDGER_ID: Final = select(meta.c.value).where(meta.c.key == "ledger_id")
_SEALS: Final = (
    select(seal.c.no, seal.c.root, seal.c.at, seal.c.last_seq)
    .where(seal.c.no > bindparam("after"))
    .order_by(seal.c.no)
    .limit(_PAGE)
)
_NEWEST: Final = select(func.coalesce(func.max(seal.c.no), 0))
_ROOTS: Final = select(seal.c.no, seal.c.root).where(
    seal.c.no.in_(bindparam("numbers", expanding=True))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What has to stay as it is of a seal: `root` in hexadecimal. `ledger` is the ledger's id."""

    ledger: str
    no: int
    root: str


def roots(engine: Engine, *, after: int = 0) -> Iterator[Json]:
    """Every seal behind number `after`, in order, as JSON objects; read in pages as you go.

    Raises:
        StoreError: the database cannot be used.
    """
    while True:
        with snapshot(engine) as connection:
            ledger = connection.execute(_LEDGER_ID).scalar_one()
            rows = connection.execute(_SEALS, {"after": after}).all()
        for row in rows:
            yield {
                "ledger": ledger,
                "no": row.no,
                "root": row.root.hex(),
                "at": to_rfc3339(row.at),
                "last_seq": row.last_seq,
            }
        if len(rows) < _PAGE:
            return
        after = rows[-1].no


class RootLog:
    """Logs every new root: wherever log lines are sent to, they are anchors. For one thread.

    Each root covers those before it, so the newest is enough to begin with.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last: int | None = None

    def look(self) -> int:
        """Log what is new; gives how many roots that were.

        Raises:
            StoreError: the database cannot be used; they are logged later.
        """
        with snapshot(self._engine) as connection:
            newest = connection.execute(_NEWEST).scalar_one()
        if self._last is None or newest < self._last:  # the latter after a restore
            self._last = max(0, newest - 1)
        count = 0
        for each in roots(self._engine, after=self._last):
            _log.info("ledger sealed", **each)
            self._last = int(str(each["no"]))
            count += 1
        return count


def parse_anchors(lines: Iterable[str], source: str) -> Iterator[Anchor]:
    """The anchors of a file, one JSON object a line; empty lines are passed over.

    Raises:
        IntentError: a line is none; the subject is `source` with the number of the line.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value: Any = json.loads(line)
            anchor = Anchor(ledger=value["ledger"], no=value["no"], root=value["root"])
            is_anchor = isinstance(anchor.no, int) and len(bytes.fromhex(anchor.root)) == 32
        except (ValueError, TypeError, LookupError):
            is_anchor = False
        if not is_anchor:
            raise IntentError(
                "this line is no root of a seal",
                hint="keep what danmpy audit roots -o jsonl prints",
                subject=f"{source}:{number}",
            )
        yield anchor


def compare(engine: Engine, anchors: Iterable[Anchor]) -> tuple[LedgerFinding, ...]:
    """Every anchor that the database no longer has, in the order of the seals; empty when all fit.

    Raises:
        StoreError: the database cannot be used.
    """
    wanted = sorted(anchors, key=lambda anchor: anchor.no)
    found: list[LedgerFinding] = []
    with snapshot(engine) as connection:
        ledger = connection.execute(_LEDGER_ID).scalar_one_or_none()
    for start in range(0, len(wanted), _PAGE):
        part = wanted[start : start + _PAGE]
        with snapshot(engine) as connection:
            rows = connection.execute(_ROOTS, {"numbers": sorted({each.no for each in part})})
            stored = {row.no: row.root for row in rows}
        for anchor in part:
            subject = f"seal {anchor.no}"
            if anchor.ledger != ledger:
                words = f"it was printed of the ledger {anchor.ledger}, this is {ledger}"
                found.append(
                    LedgerFinding(kind="AnchorOfAnotherLedger", subject=subject, message=words)
                )
            elif anchor.no not in stored:
                words = "it was printed once and is gone now"
                found.append(LedgerFinding(kind="AnchorGone", subject=subject, message=words))
            elif stored[anchor.no] != bytes.fromhex(anchor.root):
                words = f"its root was {anchor.root} when it was printed, and is another now"
                found.append(LedgerFinding(kind="AnchorDiffers", subject=subject, message=words))
    return tuple(found)

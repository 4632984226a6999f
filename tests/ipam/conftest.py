"""The stores of one database with a clock that tests can move, on both engines."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, event

from danmpy.ipam.audit import Audit
from danmpy.ipam.leases import LeaseStore
from danmpy.ipam.sealing import Ledger
from danmpy.ipam.segments import SegmentStore
from support.leasing import COOLDOWN, MovingClock, World


@pytest.fixture
def world(engine: Engine) -> World:
    clock = MovingClock()
    return World(
        engine=engine,
        clock=clock,
        leases=LeaseStore(engine, clock, COOLDOWN),
        segments=SegmentStore(engine, clock),
        audit=Audit(engine, clock),
        ledger=Ledger(engine, clock),
    )


@pytest.fixture
def statements(world):
    """What the engine is told while the test runs."""
    told: list[str] = []

    def note(connection, cursor, statement, *more) -> None:
        told.append(statement.split(None, 1)[0].upper())

    event.listen(world.engine, "before_cursor_execute", note)
    try:
        yield told
    finally:
        event.remove(world.engine, "before_cursor_execute", note)

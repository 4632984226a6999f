"""What the leader reads before it assigns, beside 300 nodes that report 1,000 networks each."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from sqlalchemy import text

from danmpy.db.engine import open_engine, patience, read, write
from danmpy.ipam import segments

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

NODES = [f"node-{number:03}" for number in range(300)]
FILL = """
    INSERT INTO node_network (node, network, segment, ready)
    SELECT node, 'network-' || number, 'vxlan:ens4:' || number, 1
    FROM unnest(CAST(:nodes AS text[])) AS node, generate_series(1, 1000) AS number
"""
ADDED_UP = """
    SELECT segment, min(node), count(DISTINCT node) FROM node_network
    WHERE segment <> '' AND node = ANY(:nodes) GROUP BY segment
"""


def best_of(turns: int, work: Callable[[], object]) -> float:
    """The milliseconds that the fastest of the turns took."""
    took = []
    for _ in range(turns):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return min(took)


def test_of_many_nodes_only_the_first_is_looked_for(postgresql_url: str) -> None:
    """To add all of them up took 0.6 s at a thousand nodes, in a statement that may take 2 s."""
    engine = open_engine(postgresql_url)
    with write(engine) as connection, patience(connection, 60):
        connection.execute(text(FILL), {"nodes": NODES})
    with read(engine) as connection:
        counted = best_of(3, lambda: connection.execute(text(ADDED_UP), {"nodes": NODES}).all())
        looked = best_of(3, lambda: segments._reported(connection, frozenset(NODES)))
    engine.dispose()
    print(f"\nadded up: {counted:.0f} ms, the first of each: {looked:.0f} ms")
    assert looked < counted / 3

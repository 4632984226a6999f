"""Transactions that were begun anew are counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from danmpy.db.retries import Retries


def test_every_retry_counts_once_by_its_reason() -> None:
    retries = Retries()
    assert retries.by_reason() == {}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(retries.note, ["lock", "unique", "lock", "busy"] * 250))
    assert retries.by_reason() == {"lock": 500, "unique": 250, "busy": 250}

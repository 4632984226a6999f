"""Locks that go by a name."""

from __future__ import annotations

import threading

from danmpy.db.engine import open_engine, write
from danmpy.ipam.locks import key_of, lock_alone


def test_the_key_of_a_name_is_the_same_in_every_release_and_fits_64_bits() -> None:
    """Two releases work side by side during an upgrade."""
    assert key_of("network/3f0b4c9e-0000-4000-8000-000000000000") == 1354815251214511633
    assert len({key_of(str(number)) for number in range(1000)}) == 1000
    assert all(-(2**63) <= key_of(str(number)) < 2**63 for number in range(100))


def test_a_second_one_waits_until_the_first_transaction_ends(engine) -> None:
    order: list[str] = []

    def second() -> None:
        with write(engine) as connection:
            lock_alone(connection, "x")
            order.append("second")

    thread = threading.Thread(target=second)
    with write(engine) as connection:
        lock_alone(connection, "x")
        lock_alone(connection, "x")
        thread.start()
        thread.join(timeout=0.3)
        order.append("first")
    thread.join(timeout=10)

    assert order == ["first", "second"]


def test_other_names_do_not_wait(postgresql_url) -> None:
    engine = open_engine(postgresql_url)
    try:
        with write(engine) as one, write(engine) as other:
            lock_alone(one, "x")
            lock_alone(other, "y")
    finally:
        engine.dispose()

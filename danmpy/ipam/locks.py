"""Locks that go by a name, until the transaction ends. SQLite's writer is alone and needs none."""

from __future__ import annotations

import hashlib
from typing import Final

from sqlalchemy import Connection, text

_ALONE: Final = text("SELECT pg_advisory_xact_lock(:key)")


def key_of(name: str) -> int:
    """The key of PostgreSQL's advisory lock for `name`: 64 bits with sign, for every process alike.

    Two names with one key would wait for each other, and nothing worse. The migrator's key has 48
    bits, so that no name has it but by the same chance.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"danmpy").digest()
    return int.from_bytes(digest, "big", signed=True)


def lock_alone(connection: Connection, name: str) -> None:
    """Wait until nobody else has `name`, and have it until the transaction ends.

    A statement of its own: the next one sees what those did that were waited for.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_ALONE, {"key": key_of(name)})

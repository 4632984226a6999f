"""A node for the commands; see `support.console`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.console import INTERNAL, SHARED, TENANTS, World
from support.netns import Namespaces


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the person who runs the tests steers the commands."""
    for key in os.environ:
        if key.startswith("DANMPY_"):
            monkeypatch.delenv(key)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def paper(tmp_path: Path, clean_environment: None) -> World:
    """A node without a kernel of its own: for commands that only read files and the database."""
    return World(tmp_path)


@pytest.fixture
def world(tmp_path: Path, namespaces: Namespaces, clean_environment: None) -> World:
    """A node with the NIC ens4, an empty intent and an empty database."""
    namespace = namespaces.make("cli")
    namespace.batch(
        "link add ens4 type veth peer name wire",
        "link set ens4 up",
        "link set wire up",
        "address add 192.0.2.1/24 dev ens4",
    )
    made = World(tmp_path, namespace)
    made.upgrade()
    return made


@pytest.fixture
def blue(world: World) -> World:
    """A node whose networks are there."""
    world.write("networks.yaml", TENANTS, INTERNAL, SHARED)
    world.look()
    return world

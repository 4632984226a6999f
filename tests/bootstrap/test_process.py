from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from danmpy.bootstrap.process import calm_collector


@pytest.fixture
def looks_at_all_objects() -> Iterator[list[str]]:
    """Grows with every full collection."""
    before, seen = gc.get_threshold(), []

    def watch(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            seen.append(phase)

    gc.callbacks.append(watch)
    yield seen
    gc.callbacks.remove(watch)
    gc.set_threshold(*before)


def test_old_objects_are_looked_at_rarely(looks_at_all_objects: list[str]) -> None:
    def live() -> int:
        looks_at_all_objects.clear()
        assert len([[number] for number in range(500_000)]) == 500_000
        return len(looks_at_all_objects)

    assert live() > 0, "this many objects call for a look by default"
    gc.collect()
    calm_collector()
    assert live() == 0

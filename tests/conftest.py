"""What every test run gets: the shared fixtures, honest skips, the leak check, quiet benches.

A shared module that is missing fails the run: a test that silently lost its fixture tests nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog

# In the order in which they import each other: pytest rewrites assertions of what it loads first.
pytest_plugins = [
    "support.requirements",
    "support.netns",
    "support.processes",
    "support.node",
    "support.databases",
    "support.httpjson",
    "support.apiclient",
    "support.apiserver",
    "support.cluster",
    "support.uml",
]


def pytest_configure(config: pytest.Config) -> None:
    from support.netns import LeakCheck  # not above: pytest must load them first, as plugins
    from support.uml import in_guest

    in_ci = os.environ.get("CI") == "true"
    config.pluginmanager.register(LeakCheck(strict=in_ci), "leak-check")
    if not in_guest(config):
        _let_examples_take_their_time()


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A command that a test calls sets up logging, and would hide lines from all later tests."""
    yield
    structlog.reset_defaults()


def _let_examples_take_their_time() -> None:
    """Hypothesis fails examples slower than 200 ms: on a busy machine that tells us nothing."""
    from hypothesis import settings  # costs seconds in a guest, where no test needs it

    settings.register_profile("house", deadline=None, print_blob=True)
    settings.load_profile("house")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take the measurements out unless ``-m`` asks: they want a quiet machine and minutes."""
    if "bench" in config.option.markexpr:
        return
    measures = [item for item in items if item.get_closest_marker("bench")]
    if measures:
        config.hook.pytest_deselected(items=measures)
        items[:] = [item for item in items if item not in set(measures)]

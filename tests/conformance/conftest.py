"""Options of the conformance suite, and its table at the end of the run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import cast

import pytest

from conformance import table
from conformance.driver import Driver, Subject
from conformance.subjects import (
    OURS,
    REFERENCE,
    Open,
    open_named,
    open_ours,
    open_reference,
)
from conformance.verdicts import Kind, Outcome, Verdict
from support.requirements import UnmetRequirementError

PROPERTY = "conformance"
NOT_ASKED = "conformance-not-asked"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "CNI conformance")
    group.addoption("--cni-plugin", type=Path, help="ask this plugin instead of those we know")
    group.addoption("--cni-config", type=Path, help="its configuration, or a list of one plugin")
    group.addoption(
        "--cni-kind", default=Kind.INTERFACE, choices=list(Kind), help="what it is (interface)"
    )
    group.addoption("--cni-table", type=Path, help="write the table to this Markdown file")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Who asks one plugin does not want to know whether the suite is sound."""
    named = config.getoption("--cni-plugin", None) is not None
    return True if named and collection_path.name in {"test_faults.py", "test_named.py"} else None


class Results:
    """Collects verdicts from the reports, of other processes too (pytest-xdist)."""

    def __init__(self, config: pytest.Config) -> None:
        self._verdicts: dict[str, dict[str, Verdict]] = {}
        self._not_asked: dict[str, str] = {}
        # A run of all tests gets one line for each plugin.
        self._whole = any(Path(__file__).parent.name in argument for argument in config.args)
        self._file: Path | None = config.getoption("--cni-table", None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for key, value in report.user_properties:
            if key == NOT_ASKED:
                plugin, why = cast("tuple[str, str]", value)
                self._not_asked[plugin] = why
            if key == PROPERTY and report.when == "call":
                plugin, check, outcome, found = cast("tuple[str, str, str, str]", value)
                verdict = Verdict(outcome=Outcome(outcome), found=found)
                self._verdicts.setdefault(plugin, {})[check] = verdict

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        order = [*OURS, *REFERENCE]
        names = sorted(self._verdicts, key=lambda name: order.index(name) if name in order else -1)
        verdicts = {name: self._verdicts[name] for name in names}
        if not verdicts:
            return
        terminalreporter.section("CNI conformance")
        if self._whole:
            for line in table.terminal(verdicts):
                terminalreporter.line(line)
        else:
            for name, mine in verdicts.items():
                terminalreporter.line(f"{name}: {table.count(mine)} passed of asked")
        if self._file is not None:
            lines = table.markdown(verdicts, self._not_asked)
            self._file.write_text("\n".join(lines) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    subjects(config)  # so that wrong options end the run at once
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(config), "cni-conformance")


def subjects(config: pytest.Config) -> dict[str, Open]:
    """The plugins that this run asks."""
    plugin: Path | None = config.getoption("--cni-plugin", None)
    conf: Path | None = config.getoption("--cni-config", None)
    if (plugin is None) != (conf is None):
        raise pytest.UsageError("--cni-plugin and --cni-config go together")
    if plugin is None or conf is None:
        known: dict[str, Open] = dict.fromkeys(OURS, open_ours)
        return known | dict.fromkeys(REFERENCE, open_reference)
    return {f"named-{plugin.name}": open_named(plugin, conf, Kind(config.getoption("--cni-kind")))}


@pytest.fixture(scope="module")
def open_subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Subject]]:
    """Opens a plugin with all that it needs, once; everything is closed after the module."""
    ways = subjects(request.config)
    with ExitStack() as stack:

        @functools.cache
        def open_it(name: str) -> Subject:
            return ways[name](name, tmp_path_factory.mktemp(name), stack)

        yield open_it


@pytest.fixture
def subject(request: pytest.FixtureRequest, open_subject: Callable[[str], Subject]) -> Subject:
    """The plugin that the test is about."""
    try:
        return open_subject(request.param)
    except UnmetRequirementError as unmet:
        why = (request.param, f"needs {unmet.requirement.name}")
        request.node.user_properties.append((NOT_ASKED, why))
        raise


@pytest.fixture
def driver(subject: Subject) -> Iterator[Driver]:
    """The runtime's hands, for one check."""
    with closing(Driver(subject)) as made:
        yield made

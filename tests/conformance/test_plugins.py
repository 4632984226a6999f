"""Every plugin against every rule of the CNI specification."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from conformance.checks import BY_NAME, TABLE
from conformance.conftest import PROPERTY, subjects
from conformance.deviations import DEVIATIONS, EVERY, OURS_NOT_APPLICABLE, RELEASE, known
from conformance.driver import Driver
from conformance.subjects import KINDS, LINKS, OURS, REFERENCE, reference_release
from conformance.verdicts import Check, Kind, Outcome, Verdict
from support.requirements import Requirement, has_link_kind, skip_for

pytestmark = pytest.mark.system


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "subject" not in metafunc.fixturenames:
        return
    named = Kind(metafunc.config.getoption("--cni-kind", None) or Kind.INTERFACE)
    pairs = [
        pytest.param(name, check, id=f"{name}-{check.name}")
        for name in subjects(metafunc.config)
        for check in _askable(name)
        if KINDS.get(name, named) in check.kinds
    ]
    metafunc.parametrize(("subject", "check"), pairs, indirect=["subject"])


def _askable(plugin: str) -> Sequence[Check]:
    """All checks; of a plugin whose kind of link this kernel lacks one, which says so."""
    kind = LINKS.get(plugin)
    return TABLE if kind is None or has_link_kind(kind) else TABLE[:1]


def objection(plugin: str, check: str, verdict: Verdict) -> str:
    """What is wrong with `verdict`, given what is recorded; empty when nothing is."""
    recorded = known(plugin, check)
    if verdict.outcome is Outcome.FAIL:
        if recorded is None:
            return verdict.found
        if recorded.says not in verdict.found:
            return f"it deviates another way than is recorded ({recorded.says}): {verdict.found}"
        return ""
    if recorded is not None:
        return f"the recorded deviation is gone ({verdict.outcome}): {recorded.why}"
    if plugin in OURS:
        reason = OURS_NOT_APPLICABLE.get(check, "")
        if verdict.found != reason:
            return f"not applicable: {verdict.found!r}; recorded is {reason!r}"
    return ""


def test_a_plugin_does_what_the_specification_says_or_what_is_recorded(
    driver: Driver, check: Check, record_property: Callable[[str, object], None]
) -> None:
    name = driver.subject.name
    verdict = check.run(driver)
    record_property(PROPERTY, (name, check.name, verdict.outcome.value, verdict.found))
    problem = objection(name, check.name, verdict)
    release = reference_release() if problem and name in REFERENCE else RELEASE
    if release != RELEASE:  # the table shows what was found; what is recorded is of another release
        skip_for(Requirement(name=f"reference plugins {RELEASE}", met=lambda: False))
    assert not problem, f"{check.title} (section {check.section}): {problem}"


def test_what_is_recorded_names_plugins_and_checks_that_exist() -> None:
    assert EVERY == REFERENCE
    for each in DEVIATIONS:
        assert set(each.plugins) <= set(REFERENCE)
        assert set(each.checks) <= set(BY_NAME)
        assert each.says
        assert each.why
    assert set(OURS_NOT_APPLICABLE) <= set(BY_NAME)
    assert len(BY_NAME) == len(TABLE)


@pytest.mark.parametrize(
    ("plugin", "check", "verdict", "word"),
    [
        ("danmpy-native", "del-twice", Verdict(outcome=Outcome.PASS), ""),
        ("danmpy-native", "del-twice", Verdict(outcome=Outcome.FAIL, found="boom"), "boom"),
        (
            "danmpy-native",
            "del-twice",
            Verdict(outcome=Outcome.NOT_APPLICABLE, found="lazy"),
            "lazy",
        ),
        ("danmpy-native", "result-shape-0.1.0", Verdict(outcome=Outcome.PASS), "recorded is"),
        ("bridge", "error-version", Verdict(outcome=Outcome.PASS), "is gone"),
        ("bridge", "error-version", Verdict(outcome=Outcome.FAIL, found="else"), "another way"),
        (
            "bridge",
            "error-version",
            Verdict(outcome=Outcome.FAIL, found="cniVersion None here"),
            "",
        ),
        ("bridge", "del-twice", Verdict(outcome=Outcome.FAIL, found="boom"), "boom"),
    ],
)
def test_a_verdict_that_is_not_the_recorded_one_is_objected_to(
    plugin: str, check: str, verdict: Verdict, word: str
) -> None:
    found = objection(plugin, check, verdict)
    assert (word in found) if word else found == ""

"""Verdicts, and what a configuration file is called."""

from __future__ import annotations

import pytest

from danmpy.convert.values import Converted, FoundConf, Note, Verdict


@pytest.mark.parametrize("verdict", Verdict)
def test_only_what_a_person_has_to_decide_is_a_finding(verdict: Verdict) -> None:
    converted = Converted(notes=(Note(key="a", verdict=verdict),))
    assert converted.has_findings is (verdict in {Verdict.BY_HAND, Verdict.UNKNOWN})


@pytest.mark.parametrize(("name", "said"), [("a", "a"), (3, ""), (None, "")])
def test_a_name_that_is_no_text_is_none(name: object, said: str) -> None:
    assert FoundConf(path="/x", document={"name": name}).name == said

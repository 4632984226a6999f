from __future__ import annotations

from danmpy.intent.values import Intent, Problem


def test_a_problem_prints_as_one_line_with_the_way_out() -> None:
    problem = Problem(where="a.yaml:3", subject="Pod/b/p", code="X", message="is bad", hint="do y")
    assert str(problem) == "a.yaml:3: Pod/b/p: is bad (do y) [X]"


def test_a_problem_without_a_place_prints_without_it() -> None:
    problem = Problem(where="", subject="Pod/b/p", code="X", message="is bad", hint="do y")
    assert str(problem).startswith("Pod/b/p: ")


def test_nothing_wanted_is_complete() -> None:
    assert Intent().complete

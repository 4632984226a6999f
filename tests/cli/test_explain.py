"""`danmpy explain` as a command: its text, its arguments, its exit codes."""

from __future__ import annotations

import pytest

from support.console import (
    BLUE,
    World,
    declare,
)


def test_the_text_is_for_people(blue: World) -> None:
    declare(blue, BLUE)
    answer = blue.danmpy("explain", "blue/web")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == "Pod blue/web: not attached yet; it would get this"
    assert "  eth0 on TenantNetwork/blue/internal" in lines
    assert any(line.split() == ["routes", "default", "via", "10.10.0.1"] for line in lines)
    assert "macvlan on vx700 (vxlan 700 on ens4)" in answer.out
    assert "\x1b" not in answer.out


def test_a_pod_that_never_was_names_the_nearest(blue: World) -> None:
    declare(blue, BLUE)
    answer = blue.danmpy("explain", "blue/wbe")
    assert (answer.code, answer.out) == (2, "")
    assert answer.lines == [
        "danmpy: Pod/blue/wbe: no such pod is or was known (did you mean blue/web?)"
    ]


@pytest.mark.parametrize("pod", ["web", "a/b/c", "/web"])
def test_what_is_no_pod_is_refused(paper: World, pod: str) -> None:
    answer = paper.danmpy("explain", pod)
    assert (answer.code, answer.out, len(answer.lines)) == (2, "", 1)
    assert "write namespace/name" in answer.err


def test_an_explanation_is_no_list(paper: World) -> None:
    answer = paper.danmpy("explain", "blue/web", "-o", "csv")
    assert answer.code == 2
    assert "'csv' is not one of 'table', 'json'" in answer.err


def test_the_help_says_what_the_exit_codes_mean(paper: World) -> None:
    assert "Exit code 0" in paper.danmpy("explain", "--help").out

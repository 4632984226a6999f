from __future__ import annotations

import pytest

from danmpy.errors import ClusterError
from danmpy.kube.errors import error_of, unreachable
from danmpy.mirrors.ports import concerns_all, sooner


@pytest.mark.parametrize(
    ("error", "all_of_them"),
    [
        (unreachable("refused", "x"), True),
        (error_of(429, {}, "x"), True),
        (error_of(503, {}, "x"), True),
        (error_of(401, {}, "x"), True),
        (error_of(403, {}, "x"), False),
        (error_of(404, {}, "x"), False),
        (error_of(409, {}, "x"), False),
        (error_of(422, {}, "x"), False),
    ],
)
def test_a_server_that_is_away_or_does_not_know_us_refuses_everything(
    error: ClusterError, all_of_them: bool
) -> None:
    assert concerns_all(error) is all_of_them


def test_the_sooner_of_several_waits_counts() -> None:
    assert sooner(None, 3.0, 1.5) == 1.5
    assert sooner(None, None) is None
    assert sooner(0.0, None) == 0.0

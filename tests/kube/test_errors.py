from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.errors import ClusterError, cni_code_of
from danmpy.kube.errors import (
    ClashError,
    DeniedError,
    ExpiredError,
    MissingError,
    RefusedError,
    UnreachableError,
    error_of,
    unreachable,
)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedError),
        (401, DeniedError),
        (403, DeniedError),
        (404, MissingError),
        (409, ClashError),
        (410, ExpiredError),
        (413, RefusedError),
        (422, RefusedError),
        (429, UnreachableError),
        (500, UnreachableError),
        (503, UnreachableError),
        (504, UnreachableError),
    ],
)
def test_every_status_has_its_error(status: int, kind: type[ClusterError]) -> None:
    error = error_of(status, {"message": "no such thing"}, "Pod/blue/web-0")
    assert type(error) is kind
    assert (error.subject, error.message) == ("Pod/blue/web-0", "no such thing")
    assert error.hint
    assert cni_code_of(error) == 11


def test_who_we_are_and_what_we_may_are_told_apart() -> None:
    who, may = error_of(401, {}, "x"), error_of(403, {}, "x")
    assert isinstance(who, DeniedError)
    assert isinstance(may, DeniedError)
    assert (who.status, may.status) == (401, 403)
    assert "RBAC" in may.hint
    assert "RBAC" not in who.hint


def test_a_version_from_the_future_asks_for_a_new_list() -> None:
    """As kube-apiserver answers after etcd was restored from a backup."""
    body = {
        "code": 504,
        "message": "Timeout: Too large resource version: 9999, current: 12",
        "details": {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large"}]},
    }
    assert isinstance(error_of(504, body, "x"), ExpiredError)


@given(
    st.integers(300, 599),
    st.dictionaries(
        st.sampled_from(["message", "details", "code"]),
        st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=3),
    ),
)
def test_whatever_is_answered_becomes_one_printable_line(status: int, body: dict) -> None:
    error = error_of(status, body, "x")
    assert str(error).isprintable()
    assert len(error.message) <= 1000
    assert error.message


def test_a_request_without_an_answer_is_one_printable_line() -> None:
    assert str(unreachable("a\nb\x1b[31m", "/version")).isprintable()


def test_a_patch_for_another_uid_is_a_clash() -> None:
    causes = [{"reason": "FieldValueInvalid", "field": "metadata.uid"}]
    assert isinstance(error_of(422, {"details": {"causes": causes}}, "x"), ClashError)
    assert isinstance(error_of(400, {"details": {"causes": causes}}, "x"), RefusedError)

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.addresses import TextError
from danmpy.api.jsontext import a_json, parse_json

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
def test_json_comes_back_as_it_was_written(value: object) -> None:
    assert parse_json(json.dumps(value)) == value


def test_a_syntax_error_is_told_with_line_and_column() -> None:
    with pytest.raises(TextError, match="line 2 column 7"):
        parse_json('{"a": 1,\n  "b" 2}')


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(TextError, match="key 'a' stands twice"):
        parse_json('[{"a": 1, "a": 1}]')


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "-Infinity", "", "[" * 100_000, "9" * 5000, "[1e999]", "-1e999"]
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(TextError, match="no JSON"):
        parse_json(text)


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "null"), (True, "true or false"), (1, "a number"), (1.5, "a number"), ("x", "text"),
     ([], "a list"), ({}, "an object")],
)  # fmt: skip
def test_every_json_type_has_a_name(value: object, words: str) -> None:
    assert a_json(value) == words

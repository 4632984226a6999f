from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from danmpy.intent import documents as module
from danmpy.intent.documents import MAX_BYTES, Document, read_documents
from danmpy.intent.values import Problem


def read(text: str | bytes, name: str = "f.yaml") -> tuple[Document, ...]:
    found = read_documents(text if isinstance(text, bytes) else text.encode(), name)
    assert not isinstance(found, Problem), found
    return found


def body(text: str) -> Any:
    (document,) = read(text)
    return document.body


def refused(text: str | bytes, name: str = "f.yaml") -> Problem:
    found = read_documents(text if isinstance(text, bytes) else text.encode(), name)
    assert isinstance(found, Problem), found
    assert found.message
    assert found.hint
    assert found.subject == name
    return found


def test_each_document_knows_the_line_it_starts_on() -> None:
    found = read("# comment\nkind: A\n---\n\nkind: B\n---\n---\nkind: C\n")
    assert [(d.where, d.body["kind"]) for d in found] == [
        ("f.yaml:2", "A"),
        ("f.yaml:5", "B"),
        ("f.yaml:8", "C"),
    ]


@pytest.mark.parametrize("text", ["# nothing\n", "---\n---\n", "null\n"])
def test_empty_documents_are_none(text: str) -> None:
    assert read(text) == ()


@pytest.mark.parametrize("name", ["f.yaml", "f.json"])
@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_a_file_without_a_word_says_nothing_about_what_people_want(name: str, data: bytes) -> None:
    problem = read_documents(data, name)
    assert isinstance(problem, Problem)
    assert (problem.code, problem.where) == ("FileEmpty", f"{name}:1")


def test_scalars_are_what_kubernetes_makes_of_them() -> None:
    text = "{a: 1, b: yes, c: ~, d: 1.5, e: 0x10, f: 'x', g: OFF, h: null, i: -3, j: 1_0}"
    assert body(text) == {
        "a": 1, "b": True, "c": None, "d": 1.5, "e": 16, "f": "x", "g": False, "h": None, "i": -3,
        "j": 10,
    }  # fmt: skip


@pytest.mark.parametrize(
    "scalar", ["2026-05-04", "12:30:45", "1:20", "2026-05-04T10:00:00Z", "1:2.5"]
)
def test_dates_and_numbers_with_colons_stay_text(scalar: str) -> None:
    assert body(f"a: {scalar}") == {"a": scalar}


def test_keys_are_text() -> None:
    assert body("{1: a, yes: b}") == {"1": "a", "yes": "b"}


def test_lists_are_taken_apart_and_each_item_knows_its_line() -> None:
    text = "kind: List\napiVersion: v1\nitems:\n- kind: A\n- kind: B\n---\nkind: C\n"
    assert [(d.where, d.body["kind"]) for d in read(text)] == [
        ("f.yaml:4", "A"),
        ("f.yaml:5", "B"),
        ("f.yaml:7", "C"),
    ]


def test_items_of_a_typed_list_get_their_kind_from_it() -> None:
    text = "kind: PodList\napiVersion: v1\nitems: [{metadata: {name: a}}, {kind: Pod}, 5]"
    assert [d.body for d in read(text)] == [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}},
        {"kind": "Pod"},
        5,
    ]


def test_a_list_in_json_is_taken_apart() -> None:
    text = json.dumps({"kind": "List", "items": [{"kind": "A"}, {"kind": "B"}]})
    assert [(d.where, d.body["kind"]) for d in read(text, "f.json")] == [
        ("f.json:1", "A"),
        ("f.json:1", "B"),
    ]


def test_a_list_whose_items_come_from_a_merge_key_is_taken_apart() -> None:
    text = "<<: {items: [{kind: A}]}\nkind: List\n"
    assert [d.body for d in read(text)] == [{"kind": "A"}]


def test_items_of_something_else_are_left_alone() -> None:
    assert body("{kind: ConfigMap, items: [1]}") == {"kind": "ConfigMap", "items": [1]}


def test_anchors_and_merge_keys_work() -> None:
    text = "a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: {<<: [{p: 5}, *x]}\nd: *x\n"
    assert body(text) == {
        "a": {"p": 1, "q": 2},
        "b": {"p": 1, "q": 3},
        "c": {"p": 5, "q": 2},
        "d": {"p": 1, "q": 2},
    }


def test_a_byte_order_mark_is_passed_over() -> None:
    assert [d.body for d in read(b"\xef\xbb\xbfkind: A\n")] == [{"kind": "A"}]


@pytest.mark.parametrize(
    ("text", "line", "code"),
    [
        ("a: 1\nb: [1\nc: 2\n", 3, "YamlInvalid"),
        ("a: 1\n\tb: 2\n", 2, "YamlInvalid"),
        ("a: 1\nb: *nowhere\n", 2, "YamlInvalid"),
        ("a: 1\na: 2\n", 2, "YamlInvalid"),
        ("a: 1\nb: !!python/object:os.system {}\n", 2, "YamlInvalid"),
        ("a: !mine x\n", 1, "YamlInvalid"),
        ("a: !!binary aGk=\n", 1, "YamlInvalid"),
        ("? [a, b]\n: 1\n", 1, "YamlInvalid"),
        ("a: {<<: 5}\n", 1, "YamlInvalid"),
        ("a: !!int x\n", 1, "YamlInvalid"),
        ("a: !!bool maybe\n", 1, "YamlInvalid"),
        ("a: 1\nb: \x01\n", 2, "YamlInvalid"),
        (b"a: 1\nb: \xff\n", 2, "NotUtf8"),
    ],
)
def test_a_broken_file_is_told_with_its_line(text: str | bytes, line: int, code: str) -> None:
    problem = refused(text)
    assert (problem.where, problem.code) == (f"f.yaml:{line}", code)


@pytest.mark.parametrize("text", ["{", '{"a": 1, "a": 2}', "NaN", "[1] x"])
def test_broken_json_is_told(text: str) -> None:
    assert refused(text, "f.json").code == "JsonInvalid"


def test_a_bomb_of_aliases_is_refused_before_it_goes_off() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "too large" in refused("\n".join(lines)).message


def test_an_alias_to_itself_is_refused() -> None:
    assert "*a has no anchor before it" in refused("a: &a [*a]\n").message


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused(opening: str) -> None:
    # By us, or by a libyaml that has a limit of its own.
    assert "nest" in refused(opening * 50_000).message


def test_deep_nesting_in_json_is_refused() -> None:
    refused("[" * 50_000, "f.json")


def test_a_huge_file_is_refused_unread() -> None:
    assert refused(b"#" * (MAX_BYTES + 1)).code == "FileTooLarge"


def test_a_file_of_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VALUES", 10)
    refused("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), plain, min_size=1, max_size=3))
def test_what_a_yaml_writer_wrote_comes_back(value: dict[str, Any]) -> None:
    value.pop("items", None)
    text = yaml.safe_dump(value)
    assert [d.body for d in read(text)] == [value]


@given(
    st.binary(max_size=60) | st.text(max_size=60).map(str.encode),
    st.sampled_from(["f.yaml", "f.json"]),
)
def test_any_bytes_are_read_or_refused_and_nothing_else(data: bytes, name: str) -> None:
    found = read_documents(data, name)
    assert isinstance(found, tuple) or (found.where.startswith(name) and str(found).encode())


@given(st.text(alphabet="{}[]:,&*!|>-#?%@\"' \nab<", max_size=40))
def test_any_yaml_signs_are_read_or_refused_and_nothing_else(text: str) -> None:
    found = read_documents(text.encode(), "f.yaml")
    assert isinstance(found, tuple | Problem)

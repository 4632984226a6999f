"""The configuration file as values and lines, and complaints that name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from danmpy.errors import IntentError
from danmpy.settings_file import parse_settings, read_settings_file


def complaint(text: str) -> str:
    with pytest.raises(IntentError) as caught:
        parse_settings(text, "c.yaml")
    assert caught.value.hint
    return f"{caught.value.subject}: {caught.value.message}"


def test_values_come_with_the_line_of_every_key() -> None:
    values, lines = parse_settings(
        "# ours\nstate_dir: /s\nintent:\n  path: /i\n  source: folder\n", "c.yaml"
    )
    assert values == {"state_dir": "/s", "intent": {"path": "/i", "source": "folder"}}
    assert lines == {"state_dir": 2, "intent": 3, "intent.path": 4, "intent.source": 5}


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "null\n"])
def test_an_empty_file_gives_nothing(text: str) -> None:
    assert parse_settings(text, "c.yaml")[0] == {}


@pytest.mark.parametrize("text", ["- a\n", "just words\n", "42\n"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    assert complaint(text) == "c.yaml: the file is not a mapping of keys"


def test_a_key_given_twice_is_refused_at_its_second_line() -> None:
    assert complaint("socket: /a\nsocket: /b\n") == "c.yaml:2: socket is given twice"
    assert complaint("cni:\n  conf_dir: /a\n  conf_dir: /b\n") == (
        "c.yaml:3: cni.conf_dir is given twice"
    )


@pytest.mark.parametrize(
    ("text", "line"), [("a: [1\nb: 2\n", 2), ("a: 1\n\tb: 2\n", 2), ('a: 1\nb: "x\n', 3)]
)
def test_broken_yaml_is_refused_at_its_line(text: str, line: int) -> None:
    assert complaint(text).startswith(f"c.yaml:{line}: broken YAML: ")


def test_a_file_that_is_nested_too_deeply_is_refused() -> None:
    assert complaint("[" * 5000) == "c.yaml: it is nested too deeply"


def test_no_code_can_be_loaded_from_the_file(tmp_path: Path) -> None:
    made = tmp_path / "made"
    text = f"a: !!python/object/apply:pathlib.Path.touch [{made}]\n"
    assert "broken YAML" in complaint(text)
    assert not made.exists()


def test_a_missing_file_is_nothing_unless_it_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert read_settings_file(path, required=False) == ({}, {})
    with pytest.raises(IntentError, match=r"none\.yaml: there is no such file"):
        read_settings_file(path, required=True)


def test_what_cannot_be_read_is_an_error_even_where_it_may_be_absent(tmp_path: Path) -> None:
    with pytest.raises(IntentError, match="cannot read it: Is a directory"):
        read_settings_file(tmp_path, required=False)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"node_name: caf\xe9\n")
    with pytest.raises(IntentError, match="not UTF-8"):
        read_settings_file(latin, required=False)


def test_a_file_is_read_as_its_text(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("node_name: café\n", encoding="utf-8")
    assert read_settings_file(path, required=True) == ({"node_name": "café"}, {"node_name": 1})

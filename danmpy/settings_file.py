"""The configuration file as values and lines, so that every complaint can name its line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from danmpy.errors import IntentError


def read_settings_file(path: Path, *, required: bool) -> tuple[dict[str, Any], dict[str, int]]:
    """The top mapping of the file, and the line of each of its keys (``intent.path`` -> 4).

    A file that may be absent and is gives nothing.

    Raises:
        IntentError: missing though required, unreadable, not UTF-8, broken YAML, no mapping, or
            a key given twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if not required:
            return {}, {}
        hint = "check --config and DANMPY_CONFIG, or leave both out to run on the defaults"
        raise IntentError("there is no such file", hint=hint, subject=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "the file is not UTF-8"
        hint = "the configuration must be a readable YAML file"
        raise IntentError(f"cannot read it: {words}", hint=hint, subject=str(path)) from None
    return parse_settings(text, str(path))


def parse_settings(text: str, path: str) -> tuple[dict[str, Any], dict[str, int]]:
    """As `read_settings_file`, from its text."""
    try:
        node, values = _load(text)
    except RecursionError:
        hint = "write one mapping with keys such as state_dir"
        raise IntentError("it is nested too deeply", hint=hint, subject=path) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        words = getattr(error, "problem", None) or "cannot be parsed"
        hint = "look at this line and the one above it: indentation, quotes, tabs"
        raise IntentError(f"broken YAML: {words}", hint=hint, subject=where) from None
    if values is None:
        return {}, {}
    if not isinstance(values, dict):
        hint = "write one mapping with keys such as state_dir"
        raise IntentError("the file is not a mapping of keys", hint=hint, subject=path)
    lines: dict[str, int] = {}
    for key, line in _lines_of(node, ""):
        if key in lines:
            message = f"{key} is given twice"
            raise IntentError(message, hint="keep one of them", subject=f"{path}:{line}")
        lines[key] = line
    return {str(key): value for key, value in values.items()}, lines


def _load(text: str) -> tuple[yaml.Node | None, object]:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _lines_of(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            yield name, key.start_mark.line + 1
            yield from _lines_of(value, f"{name}.")

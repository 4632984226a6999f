"""What the rules find: a value for a broken rule, and words for a manifest of a wrong shape."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from danmpy.api.words import nearest


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """One broken rule. `path` is the field (``spec.Options.vlan``), `code` the rule in one word."""

    path: str
    code: str
    message: str
    hint: str


_WORDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "string_type": ("TypeWrong", "must be text", "put it in quotes"),
    "int_type": ("TypeWrong", "must be a whole number", "write digits without quotes"),
    "bool_type": ("TypeWrong", "must be true or false", "write true or false without quotes"),
    "list_type": ("TypeWrong", "must be a list", "write one entry a line, each after a dash"),
    "dict_type": ("TypeWrong", "must be an object", "write key: value below it"),
    "model_type": ("TypeWrong", "must be an object", "write key: value below it"),
    "missing": ("FieldMissing", "is missing", "add it"),
}
"""pydantic error type -> code, message, hint."""


def shape_findings(error: ValidationError, model: type[BaseModel]) -> tuple[Finding, ...]:
    """What `error` says about a manifest that should have been a `model`, in our words."""
    found = (_shape_finding(detail, model) for detail in error.errors(include_url=False))
    return tuple(sorted(set(found)))


def _shape_finding(detail: Any, model: type[BaseModel]) -> Finding:
    location: tuple[int | str, ...] = detail["loc"]
    path = field_path(location)
    kind: str = detail["type"]
    if kind == "extra_forbidden":
        known = list(_fields_at(model, location[:-1]))
        return Finding(
            path=path,
            code="FieldUnknown",
            message=f"unknown field {path}",
            hint=_where_it_belongs(model, str(location[-1])) or nearest(str(location[-1]), known),
        )
    if kind in {"greater_than_equal", "less_than_equal"}:
        low, high = _range_at(model, location)
        return Finding(
            path=path,
            code="OutOfRange",
            message=f"{path} is {detail['input']!r}",
            hint=f"write a number from {max(low, 1)} to {high}",  # 0, where legal, means none
        )
    code, words, hint = _WORDS.get(kind, ("ShapeWrong", detail["msg"], "correct the field"))
    return Finding(path=path, code=code, message=f"{path} {words}", hint=hint)


def field_path(location: Sequence[int | str]) -> str:
    """``spec.Options.exclude[0]`` of ``("spec", "Options", "exclude", 0)``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in {Union, types.UnionType, list, dict} or get_args(annotation):
        for part in get_args(annotation):
            yield from _models_in(part)


def _fields_at(model: type[BaseModel], location: Sequence[int | str]) -> Mapping[str, Any]:
    """JSON name -> field of the object that stands at `location`."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for part in location:
        if isinstance(part, int) or part not in fields:
            continue
        fields = {
            field.alias or name: field
            for inner in _models_in(fields[part].annotation)
            for name, field in inner.model_fields.items()
        }
    return fields


def _range_at(model: type[BaseModel], location: Sequence[int | str]) -> tuple[int, int]:
    field = _fields_at(model, location[:-1])[str(location[-1])]
    low = next(mark.ge for mark in field.metadata if hasattr(mark, "ge"))
    high = next(mark.le for mark in field.metadata if hasattr(mark, "le"))
    return low, high


def _where_it_belongs(model: type[BaseModel], name: str, path: str = "") -> str:
    """A hint when the very same field exists somewhere else in the manifest."""
    for alias, field in _fields_at(model, ()).items():
        here = f"{path}.{alias}" if path else alias
        if alias == name:
            return f"it belongs at {here}"
        for inner in _models_in(field.annotation):
            if hint := _where_it_belongs(inner, name, here):
                return hint
    return ""

"""JSON that people write into annotations and files, read strictly (RFC 8259)."""

from __future__ import annotations

import json
import math
from typing import Any

from danmpy.api.addresses import TextError


class _RefusedError(ValueError):
    """JSON that Python's parser would take and others would not, or would read otherwise."""


def parse_json(text: str) -> Any:
    """The value of `text`; a key that stands twice in one object, NaN and what is beyond the
    largest number are errors.

    Raises:
        TextError: with line and column where they are known; an empty hint is the caller's to fill.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise TextError(f"no JSON: {error.msg} at {where}", "") from None
    except RecursionError:
        raise TextError("no JSON that can be read: it is nested too deeply", "") from None
    except _RefusedError as error:
        raise TextError(*error.args) from None
    except ValueError:
        # Python caps the digits of an integer (sys.set_int_max_str_digits).
        raise TextError("no JSON that can be read: a number is too long", "") from None


def a_json(value: object) -> str:
    """The JSON type of `value` with its article, for a sentence."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _RefusedError(f"key {key!r} stands twice in one object", "keep one of them")
        result[key] = value
    return result


def _no_constant(word: str) -> None:
    raise json.JSONDecodeError(f"{word} is no JSON value", word, 0)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _RefusedError("no JSON that can be read: a number is too large", "")
    return number

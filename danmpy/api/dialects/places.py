"""Where in an annotation a reader is: every refusal names the annotation, the item and the key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, ParamSpec, TypeVar

from danmpy.api.addresses import TextError
from danmpy.api.jsontext import a_json, parse_json
from danmpy.api.limits import IFNAME_MAX_BYTES
from danmpy.api.specs import PodSpec
from danmpy.api.words import is_link_name, is_object_name
from danmpy.errors import IntentError

_T = TypeVar("_T")
_P = ParamSpec("_P")

_QUOTED_MOST: Final = 80
"""Characters of what a person wrote that a message repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the annotation `key` we are, for the words of an error."""

    subject: str
    key: str
    index: int | None = None
    field: str = ""

    @classmethod
    def of(cls, pod: PodSpec, key: str) -> Place:
        """The annotation `key` of `pod` as a whole."""
        return cls(subject=f"Pod/{pod.namespace}/{pod.name}", key=key)

    def item(self, index: int) -> Place:
        """The item number `index` of the list."""
        return replace(self, index=index)

    def at(self, field: str) -> Place:
        """The key `field` of the item, or of the object that we are at."""
        return replace(self, field=f"{self.field}.{field}" if self.field else field)

    def nth(self, number: int) -> Place:
        """The entry `number` of the list at this key."""
        return replace(self, field=f"{self.field}[{number}]")

    def __str__(self) -> str:
        index = "" if self.index is None else f"[{self.index}]"
        field = f".{self.field}" if self.field else ""
        return f"{self.key}{index}{field}"

    def refuse(self, problem: str, hint: str) -> IntentError:
        """The error that says so."""
        return IntentError(f"{self}: {problem}", hint=hint, subject=self.subject)


def quoted(text: str) -> str:
    """What a person wrote, in quotes, and cut where it is long."""
    return repr(text if len(text) <= _QUOTED_MOST else f"{text[:_QUOTED_MOST]}...")


def read_json(place: Place, text: str, hint: str) -> Any:
    """The JSON value of an annotation.

    Raises:
        IntentError: it is none; `hint` shows a good one.
    """
    try:
        return parse_json(text)
    except TextError as error:
        raise place.refuse(error.message, error.hint or hint) from None


def text_of(place: Place, value: object) -> str:
    """`value` if it is text. Raises IntentError otherwise."""
    if isinstance(value, str):
        return value
    raise place.refuse(f"it is {a_json(value)} and not text", "put it in double quotes")


def parsed(place: Place, parse: Callable[_P, _T], *args: _P.args, **more: _P.kwargs) -> _T:
    """What `parse` makes of `args`, its TextError as an IntentError about this place."""
    try:
        return parse(*args, **more)
    except TextError as error:
        raise place.refuse(error.message, error.hint) from None


def link_name(place: Place, value: object) -> str | None:
    """The name of an interface; None when there is none. Raises IntentError for an illegal one."""
    if value is None or value == "":
        return None
    name = text_of(place, value)
    if not is_link_name(name):
        raise place.refuse(
            f"{quoted(name)} cannot be the name of an interface",
            f"at most {IFNAME_MAX_BYTES} printable ASCII characters, no slash, colon or space",
        )
    if name == "lo":
        raise place.refuse("the name lo belongs to the loopback device", "use another name")
    return name


def network_name(place: Place, value: object) -> str:
    """The name of a network's object. Raises IntentError when it is none."""
    name = text_of(place, value)
    if not is_object_name(name):
        raise place.refuse(
            f"{quoted(name)} is no name that a network can have",
            "write the metadata.name of the network",
        )
    return name

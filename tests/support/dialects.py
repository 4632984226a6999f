"""Pods as other tools' manifests have them, and text of every kind to read them from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st

from danmpy.api.dialects.keys import (
    BARE_NETWORKS,
    GENIE_CNI,
    GENIE_PREFERENCES,
    INTERFACES,
    MULTUS_DEFAULT,
    NPWG_NETWORKS,
)
from danmpy.api.dialects.reading import read_pod
from danmpy.api.dialects.rules import DialectRules
from danmpy.api.specs import InterfaceAsk, PodAsks, PodSpec
from danmpy.errors import IntentError

SHORT = {
    "danm": INTERFACES,
    "npwg": NPWG_NETWORKS,
    "default": MULTUS_DEFAULT,
    "cni": GENIE_CNI,
    "networks": BARE_NETWORKS,
    "preferences": GENIE_PREFERENCES,
}
"""Short names of the annotations."""


def annotated(namespace: str = "blue", name: str = "web-0", **annotations: Any) -> PodSpec:
    """A pod with these annotations, by their `SHORT` names; what is no text becomes JSON."""
    return PodSpec(
        namespace=namespace,
        name=name,
        annotations={
            SHORT[word]: value if isinstance(value, str) else json.dumps(value)
            for word, value in annotations.items()
        },
    )


def read(
    rules: DialectRules | None = None, *, has_primary: bool = True, **annotations: Any
) -> PodAsks:
    """What a pod with these annotations asks."""
    return read_pod(annotated(**annotations), rules or DialectRules(), has_primary=has_primary)


def refusal(
    rules: DialectRules | None = None, *, has_primary: bool = True, **annotations: Any
) -> str:
    """Why a pod with these annotations is refused."""
    with pytest.raises(IntentError) as caught:
        read(rules, has_primary=has_primary, **annotations)
    error = caught.value
    assert error.subject == "Pod/blue/web-0"
    assert error.hint
    assert error.message.isprintable(), "one line, whatever a person wrote"
    return f"{error.message} ({error.hint})"


def shown(asks: PodAsks) -> list[tuple[str | None, str]]:
    """Name and first choice of each interface."""
    return [(ask.name, str(ask.network)) for ask in asks.interfaces]


def first_names(asks: tuple[InterfaceAsk, ...]) -> list[str | None]:
    """The names, None for what the runtime names."""
    return [ask.name for ask in asks]


_WORDS = [
    "a", "net-a", "blue", "10.0.0.7/24", "10.0.0.1", "2001:db8::1", "02:00:00:00:00:01", "TCP",
    "true", "direct", "nm0", "eth0", "net1",
]  # fmt: skip
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from([*_WORDS, 1, 8080])
)


def json_like(keys: list[str]) -> st.SearchStrategy[Any]:
    """JSON values whose objects mostly have `keys`."""
    words = st.sampled_from(keys) | st.text(max_size=4)
    return st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
        max_leaves=12,
    )


def written(keys: list[str]) -> st.SearchStrategy[str]:
    """Whatever stands in an annotation: JSON with `keys`, lists with commas, noise."""
    items = st.sampled_from(
        ["a", "net-b", "blue/c", "red/d", "a@eth1", "b@eth0", "@", "", " ", "A"]
    )
    return (
        json_like(keys).map(json.dumps)
        | st.lists(items, max_size=4).map(",".join)
        | st.text(max_size=20)
        | st.sampled_from(["", " ", "[]", "{}", "null", '""', '{"ports": []}', "[" * 5000])
    )

"""What admission asks for is what the real parts offer."""

from __future__ import annotations

import inspect

import pytest

from danmpy.controller.facts import DatabaseFacts, LiveLookups
from danmpy.controller.ports import Facts, Lookups, Wishes
from danmpy.intent.cluster import ClusterSource
from danmpy.intent.folder import FolderSource
from support.admitting import World


@pytest.mark.parametrize(
    ("port", "real"),
    [
        (Facts, DatabaseFacts),
        (Lookups, LiveLookups),
        (Wishes, ClusterSource),
        (Wishes, FolderSource),
        *((port, World) for port in (Facts, Lookups, Wishes)),
    ],
)
def test_the_real_part_has_every_method_with_the_same_parameters(port: type, real: type) -> None:
    asked = [name for name in vars(port) if not name.startswith("_")]
    assert asked
    for name in asked:
        wanted = inspect.signature(getattr(port, name)).parameters
        offered = inspect.signature(getattr(real, name)).parameters
        assert list(offered) == list(wanted), name

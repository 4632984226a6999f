from __future__ import annotations

from danmpy.api.dialects.keys import ANNOTATIONS, ASKING


def test_every_annotation_that_asks_is_kept_and_none_stands_there_twice() -> None:
    assert set(ASKING) < set(ANNOTATIONS)
    assert len(ANNOTATIONS) == len(set(ANNOTATIONS))

"""What the wiring refuses before anything is built; the rest runs in tests/system."""

from __future__ import annotations

import pytest

from danmpy import bootstrap
from danmpy.errors import IntentError
from danmpy.settings import load


def test_a_source_that_is_not_read_yet_is_refused_instead_of_an_empty_folder() -> None:
    settings = load({"DANMPY_INTENT__SOURCE": "kubernetes"})
    with pytest.raises(IntentError) as refusal:
        bootstrap.open_intent(settings)
    assert "intent.source" in refusal.value.hint

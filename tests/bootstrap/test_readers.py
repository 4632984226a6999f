"""What the wiring refuses before anything is built; the rest runs in tests/system."""

from __future__ import annotations

from pathlib import Path

import pytest

from danmpy.bootstrap import readers
from danmpy.errors import ClusterError
from danmpy.settings import load


def test_a_cluster_without_a_usable_kubeconfig_is_no_empty_folder(tmp_path: Path) -> None:
    settings = load(
        {
            "DANMPY_INTENT__SOURCE": "kubernetes",
            "DANMPY_INTENT__KUBECONFIG": str(tmp_path / "missing"),
        }
    )
    with pytest.raises(ClusterError) as refusal:
        readers.open_intent(settings)
    assert "missing" in str(refusal.value)

"""What the wiring refuses before anything is built; the rest runs in tests/system."""

from __future__ import annotations

from pathlib import Path

import pytest

from danmpy.api.dialects.rules import DialectRules
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


def test_the_settings_say_by_which_rules_pods_are_read() -> None:
    rules = readers.dialect_rules(
        load(
            {
                "DANMPY_NPWG__DEFAULT_NETWORK": "kube-system/cluster",
                "DANMPY_NPWG__MORE_NETWORKS": "oam,blue/x",
                "DANMPY_NPWG__SYSTEM_NAMESPACES": "kube-system,infra",
                "DANMPY_NPWG__SYSTEM_NAMESPACE": "infra",
                "DANMPY_NPWG__NAMESPACE_ISOLATION": "true",
                "DANMPY_NPWG__GLOBAL_NAMESPACES": "shared",
            }
        )
    )
    assert rules == DialectRules(
        default_network="kube-system/cluster",
        more_networks=("oam", "blue/x"),
        system_namespaces=frozenset({"kube-system", "infra"}),
        system_namespace="infra",
        namespace_isolation=True,
        global_namespaces=frozenset({"shared"}),
    )
    assert readers.dialect_rules(load({})) == DialectRules()

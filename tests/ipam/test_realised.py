"""What the nodes together say of a network."""

from __future__ import annotations

from danmpy.ipam.realised import NodeFailure, Realised


def test_nodes_that_have_it_and_nodes_that_failed_have_both_reported() -> None:
    failure = NodeFailure(node="c", reason="KernelRefused", message="no")
    assert Realised(ready=2, failed=1, attached=0, failures=(failure,)).reported == 3
    assert Realised(ready=0, failed=0, attached=0).reported == 0

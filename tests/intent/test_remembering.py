from __future__ import annotations

from typing import Any

from danmpy.api.specs import NetworkKind, SegmentKey, SegmentKind
from danmpy.intent.parse import parse_documents
from danmpy.intent.remembering import Memory
from danmpy.intent.values import Intent
from support.manifests import config_manifest, core_manifest, documents, network_manifest

WIRE = SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=700)
GOOD = network_manifest("ClusterNetwork", "front", host_device="ens4", vxlan=700)
BAD = network_manifest("ClusterNetwork", "front", host_device="ens4", vxlan="many")
CONFIG = config_manifest({"name": "ens4", "vniType": "vxlan", "vniRange": "700-799"})
BAD_CONFIG = config_manifest({"name": "ens4", "vniType": "vxlan", "vniRange": "from 700"})


def parse(*bodies: Any) -> Intent:
    return parse_documents(documents(*bodies))


def test_a_network_that_breaks_keeps_its_wire() -> None:
    memory = Memory()
    assert memory.completed(parse(GOOD)).networks
    for _ in range(2):
        broken = memory.completed(parse(BAD))
        assert [key.kind for key in broken.rejected] == [NetworkKind.CLUSTER]
        assert WIRE in broken.claims
    assert memory.completed(parse()).claims == frozenset()
    assert memory.completed(parse(BAD)).claims == frozenset(), "what was deleted is forgotten"


def test_a_config_and_a_node_that_break_stay_as_they_were() -> None:
    memory = Memory()
    node = core_manifest("Node", "node-a")
    node["metadata"]["annotations"] = {"danm.k8s.io/vteps": '{"ens4": "192.0.2.1"}'}
    before = memory.completed(parse(CONFIG, node))
    node["metadata"]["annotations"] = {"danm.k8s.io/vteps": "{"}
    after = memory.completed(parse(BAD_CONFIG, node))
    assert after.problems
    assert (after.tenant_configs, after.nodes) == (before.tenant_configs, before.nodes)
    gone = memory.completed(parse())
    assert (gone.tenant_configs, gone.nodes) == ((), ())


def test_what_is_right_is_left_as_it_is() -> None:
    intent = parse(GOOD, CONFIG)
    assert Memory().completed(intent) == intent

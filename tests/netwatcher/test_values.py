"""Steps as scripts see them."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest

from danmpy.kernel.hostlinks import (
    ChangeAltnames,
    ChangeFlooding,
    ChangeLink,
    CreateLink,
    LinkChange,
    RemoveLink,
    VxlanAttributes,
)
from danmpy.netwatcher.values import Action, Step

VXLAN = VxlanAttributes(vni=7, port=4789, local=ip_address("192.0.2.1"))
TUNNEL = {"vni": 7, "port": 4789, "local": "192.0.2.1", "learning": True}


@pytest.mark.parametrize(
    ("change", "action", "attributes"),
    [
        (
            CreateLink(
                name="vx7", kind="vxlan", alias="danmpy x", mtu=1450, parent="ens4", vxlan=VXLAN
            ),
            Action.CREATE,
            {"kind": "vxlan", "parent": "ens4", "mtu": 1450, "alias": "danmpy x", **TUNNEL},
        ),
        (
            CreateLink(name="e.7", kind="vlan", alias="a", mtu=1, parent="e", vlan_id=7),
            Action.CREATE,
            {"kind": "vlan", "parent": "e", "vlan_id": 7, "mtu": 1, "alias": "a"},
        ),
        (ChangeLink(name="vx7", up=False), Action.CHANGE, {"up": False}),
        (ChangeLink(name="vx7", master=""), Action.CHANGE, {"master": ""}),
        (ChangeLink(name="x", rename="vx7"), Action.CHANGE, {"rename": "vx7"}),
        (ChangeLink(name="vx7", vxlan=VXLAN), Action.CHANGE, TUNNEL),
        (
            ChangeAltnames(name="vx7", add=frozenset({"b", "a"})),
            Action.ALTNAMES,
            {"add": ["a", "b"]},
        ),
        (
            ChangeFlooding(
                name="vx7",
                add=frozenset(map(ip_address, ("192.0.2.10", "192.0.2.9"))),
                remove=frozenset({ip_address("::1")}),
            ),
            Action.FLOODING,
            {"add": ["192.0.2.9", "192.0.2.10"], "remove": ["::1"]},
        ),
        (RemoveLink(name="vx7"), Action.REMOVE, {}),
    ],
)
def test_a_step_shows_its_verb_and_what_it_sets(
    change: LinkChange, action: Action, attributes: dict[str, Any]
) -> None:
    step = Step(device="vx7", reason="because", change=change)
    assert step.action is action
    assert step.attributes == attributes
    shown = {"action": str(action), "device": "vx7", "reason": "because", **attributes}
    assert json.loads(json.dumps(step.to_json())) == shown

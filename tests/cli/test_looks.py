"""The look behind several commands: what is well, what is not, what could not be read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from danmpy.api.specs import Condition, ConditionStatus
from danmpy.cli.looks import Look, condition_item, say_notes
from danmpy.errors import StoreError
from danmpy.intent.values import Intent, Problem
from danmpy.kernel.hostlinks import ChangeLink, CreateLink
from danmpy.netwatcher.values import DEVICE_READY, LookReport, Step
from support.specs import cluster_key, network, tenant_key

SHARED, BLUE, REFUSED = cluster_key("shared"), tenant_key("internal"), cluster_key("refused")
PROBLEM = Problem(
    where="a.yaml:3",
    subject=str(REFUSED),
    code="CidrInvalid",
    message="cidr is wrong",
    hint="write 10.0.0.0/24",
)
LOOSE = replace(PROBLEM, where="b.yaml:1", subject="b.yaml", code="YamlInvalid")
READY = Condition(
    type=DEVICE_READY, status=ConditionStatus.TRUE, reason="Ready", message="its device is vx900"
)
CREATE = Step(
    device="vx900",
    reason="it is not there",
    change=CreateLink(name="vx900", kind="vxlan", alias="danmpy", mtu=1450),
)
LOOK = Look(
    intent=Intent(
        networks={SHARED: network(SHARED, vni=900), BLUE: network(BLUE, vni=0)},
        rejected={REFUSED: (PROBLEM, replace(PROBLEM, code="GatewayOutside"))},
        problems=(PROBLEM, LOOSE),
    ),
    report=LookReport(
        at=1,
        networks={SHARED: network(SHARED, vni=900)},
        conditions={SHARED: (READY,)},
        device_of={SHARED: "vx900"},
    ),
    attachments=(),
    audit=None,
    database_time=None,
    store_error=StoreError("away", hint="start it", subject="database"),
)


def test_every_network_is_listed_also_refused_ones() -> None:
    assert LOOK.keys == (REFUSED, SHARED, BLUE)
    assert LOOK.spec(REFUSED) is None
    assert LOOK.spec(BLUE) is not None


def test_a_refused_network_has_one_condition_with_every_problem() -> None:
    (condition,) = LOOK.conditions(REFUSED)
    assert condition_item(condition) == {
        "type": "ParametersValid",
        "status": "False",
        "reason": "CidrInvalid",
        "message": "cidr is wrong (write 10.0.0.0/24); cidr is wrong (write 10.0.0.0/24)",
    }
    assert LOOK.wrong(REFUSED) == (condition,)


def test_an_accepted_network_is_valid_before_anything_else() -> None:
    valid, ready = LOOK.conditions(SHARED)
    assert (valid.type, valid.status) == ("ParametersValid", ConditionStatus.TRUE)
    assert ready is READY
    assert LOOK.wrong(SHARED) == ()


def test_a_device_that_is_still_to_be_made_is_not_ready() -> None:
    planned = replace(LOOK, report=replace(LOOK.report, steps=(CREATE,)))
    now = planned.as_it_stands()
    assert now.report.device_of == {}
    (pending,) = now.wrong(SHARED)
    assert (pending.type, pending.reason) == (DEVICE_READY, "Pending")
    assert "vx900" in pending.message
    repair = replace(CREATE, change=ChangeLink(name="vx900", up=True))
    repaired = replace(LOOK, report=replace(LOOK.report, steps=(repair,))).as_it_stands()
    assert repaired.report.device_of == {SHARED: "vx900"}


def test_only_tenants_networks_hang_on_the_database() -> None:
    assert LOOK.unassigned == (BLUE,)
    assert replace(LOOK, store_error=None).unassigned == ()


def test_notes_are_said_once_and_may_leave_single_networks_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_notes(LOOK)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines)) == 4
    say_notes(LOOK, refused=False)
    assert capsys.readouterr().err.splitlines() == [
        f"danmpy: {LOOSE}",
        "danmpy: database: away (start it)",
    ]

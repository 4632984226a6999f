"""Roots that are kept outside, on both engines: a ledger written anew does not fit them."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from danmpy.errors import IntentError
from danmpy.ipam import anchors
from danmpy.ipam.anchors import RootLog, compare, parse_anchors, roots
from support.leasing import World
from support.specs import network, tenant_key

NET = network(tenant_key("internal"), v4="10.0.0.0/24", vni=700)


@pytest.fixture
def printed(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three seals, and what was printed of them."""
    monkeypatch.setattr(anchors, "_PAGE", 2)
    for pod in ("a", "b", "c"):
        world.bind(NET, pod)
        world.ledger.seal()
    return [json.dumps(each) for each in roots(world.engine)]


def kept(printed: list[str]) -> list[anchors.Anchor]:
    return list(parse_anchors(printed, "roots.jsonl"))


def test_what_is_printed_is_what_verify_says_and_fits(world: World, printed: list[str]) -> None:
    assert json.loads(printed[-1])["root"] == world.ledger.verify().root
    assert [each.no for each in kept(printed)] == [1, 2, 3]
    assert compare(world.engine, kept([*printed, "\n"])) == ()
    world.bind(NET, "d")
    world.ledger.seal()
    assert compare(world.engine, kept(printed)) == ()
    assert [each["no"] for each in roots(world.engine, after=3)] == [4]


def test_seals_that_were_made_anew_are_named_from_the_first_on(
    world: World, printed: list[str]
) -> None:
    world.unlock_ledger()
    world.sql("DELETE FROM seal WHERE no >= 2")
    world.ledger.seal()
    assert world.ledger.verify().ok
    found = compare(world.engine, reversed(kept(printed)))
    assert [(each.kind, each.subject) for each in found] == [
        ("AnchorDiffers", "seal 2"),
        ("AnchorGone", "seal 3"),
    ]
    report = world.ledger.verify().with_findings(found)
    assert (report.ok, report.found, report.first) == (False, 2, found[0])


def test_anchors_of_another_ledger_do_not_fit(world: World, printed: list[str]) -> None:
    world.sql("UPDATE meta SET value = 'other' WHERE key = 'ledger_id'")
    assert {each.kind for each in compare(world.engine, kept(printed))} == {"AnchorOfAnotherLedger"}


@pytest.mark.parametrize(
    "line", ["nonsense", "{}", "[1]", '{"ledger":"a","no":"1","root":"00"}', "null", '{"no":1}']
)
def test_a_line_that_is_no_anchor_is_named(line: str) -> None:
    with pytest.raises(IntentError) as caught:
        list(parse_anchors(["", line], "roots.jsonl"))
    assert caught.value.subject == "roots.jsonl:2"


def test_every_new_root_is_logged_once_beginning_with_the_newest(world: World) -> None:
    for pod in ("a", "b"):
        world.bind(NET, pod)
        world.ledger.seal()
    log = RootLog(world.engine)
    with capture_logs() as lines:
        assert log.look() == 1
        assert log.look() == 0
        for pod in ("c", "d"):
            world.bind(NET, pod)
            world.ledger.seal()
        assert log.look() == 2
    assert [(each["event"], each["no"]) for each in lines] == [
        ("ledger sealed", no) for no in (2, 3, 4)
    ]
    stored = world.rows("SELECT root FROM seal WHERE no > 1 ORDER BY no")
    assert [each["root"] for each in lines] == [bytes(root).hex() for (root,) in stored]  # type: ignore[call-overload]


def test_a_ledger_without_seals_has_no_root_to_log(world: World) -> None:
    log = RootLog(world.engine)
    assert log.look() == 0
    world.bind(NET, "a")
    world.ledger.seal()
    assert log.look() == 1


def test_after_a_restore_roots_are_logged_from_the_newest_on(world: World) -> None:
    log = RootLog(world.engine)
    for pod in ("a", "b", "c"):
        world.bind(NET, pod)
        world.ledger.seal()
    assert log.look() == 1
    world.unlock_ledger()
    world.sql("DELETE FROM seal WHERE no > 2")
    assert log.look() == 1

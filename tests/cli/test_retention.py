"""`danmpy retention|hold`, `danmpy audit prune|roots` and `audit verify --anchors`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from danmpy.bootstrap.readers import open_leases, open_ledger
from danmpy.ipam import retention
from danmpy.ipam.retaining import DAY
from danmpy.ipam.values import LeaseRequest
from support.console import World
from support.leasing import owner
from support.specs import DYNAMIC, network, tenant_key

NET = network(tenant_key("internal"), v4="10.10.0.0/24", vni=700)


@pytest.fixture
def past(paper: World) -> World:
    """A pod that is gone and one that stays; two seals."""
    paper.upgrade()
    leases, ledger = open_leases(paper.settings), open_ledger(paper.settings)
    for pod in ("gone", "stays"):
        leases.bind(owner(pod), [LeaseRequest(interface="eth0", network=NET, ip=DYNAMIC)])
        if pod == "gone":
            leases.release("container-gone")
        ledger.seal()
    return paper


def test_periods_of_namespaces_are_set_listed_and_unset(past: World) -> None:
    assert "kept 30 days" in past.danmpy("retention", "set", "blue", "30").out
    assert "kept for ever" in past.danmpy("retention", "set", "red", "0").out
    assert past.ask("retention", "list")["items"] == [
        {"namespace": "", "days": 400},
        {"namespace": "blue", "days": 30},
        {"namespace": "red", "days": 0},
    ]
    table = past.danmpy("retention", "list").out
    assert "(all others)" in table
    assert "for ever" in table
    assert past.danmpy("retention", "unset", "red").code == 0
    again = past.danmpy("retention", "unset", "red")
    assert (again.code, "no period of its own" in again.err) == (2, True)
    kinds = [item["kind"] for item in past.ask("audit", "events")["items"]]
    assert kinds.count("RETENTION") == 3


@pytest.mark.parametrize("words", [("blue", "-1"), ("blue", "soon"), ("Blue!", "3"), ("blue",)])
def test_a_period_that_makes_no_sense_is_refused(past: World, words: tuple[str, ...]) -> None:
    assert past.danmpy("retention", "set", *words).code == 2


def test_holds_are_added_listed_and_removed(past: World) -> None:
    for words in (
        ("--namespace", "blue"),
        ("--network", "internal"),
        ("--address", "10.10.0.1"),
    ):
        answer = past.danmpy("hold", "add", *words, "--for", "case 7")
        assert answer.code == 0, answer.err
    items = past.ask("hold", "list")["items"]
    assert [(each["namespace"], each["network"], each["address"]) for each in items] == [
        ("blue", "", ""),
        ("", "TenantNetwork/blue/internal", ""),
        ("", "", "10.10.0.1"),
    ]
    assert {each["for"] for each in items} == {"case 7"}
    assert all("@" in each["actor"] for each in items)
    assert "network TenantNetwork/blue/internal" in past.danmpy("hold", "list").out
    assert past.danmpy("hold", "remove", "1", "--reason", "closed").code == 0
    again = past.danmpy("hold", "remove", "1", "--reason", "closed")
    assert (again.code, "no hold 1" in again.err) == (2, True)
    assert len(past.ask("hold", "list")["items"]) == 2


@pytest.mark.parametrize(
    "words",
    [(), ("--namespace", "a", "--address", "10.0.0.1"), ("--address", "x"), ("--network", "none")],
)
def test_a_hold_on_nothing_or_on_two_things_is_refused(past: World, words: tuple[str, ...]) -> None:
    answer = past.danmpy("hold", "add", *words, "--for", "case 7")
    assert (answer.code, len(answer.lines)) == (2, 1)


def test_prune_says_what_it_would_forget_and_forgets_it(
    past: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = retention.database_now
    monkeypatch.setattr(retention, "database_now", lambda *asked: real(*asked) + 401 * DAY)
    words = "2 events and 1 leases of 1 seals"
    assert past.danmpy("audit", "prune", "--dry-run").out == f"would forget {words}\n"
    assert past.danmpy("audit", "prune").out == f"forgot {words}\n"
    done = past.danmpy("audit", "prune", "-o", "json")
    assert json.loads(done.out) == {"dry_run": False, "seals": 0, "events": 0, "leases": 0}
    assert past.danmpy("audit", "prune", "-o", "csv").code == 2
    verified = past.danmpy("audit", "verify")
    assert (verified.code, "the events of 1 seals were pruned" in verified.out) == (0, True)


def test_roots_that_were_kept_name_the_first_seal_that_is_another(
    past: World, tmp_path: Path
) -> None:
    printed = past.danmpy("audit", "roots", "-o", "jsonl").out
    kept = tmp_path / "roots.jsonl"
    kept.write_text(printed)
    items = [json.loads(line) for line in printed.splitlines()]
    assert [(each["no"], each["last_seq"]) for each in items] == [(1, 2), (2, 3)]
    assert past.ask("audit", "roots", "--after", "1")["items"] == items[1:]
    assert items[0]["root"] in past.danmpy("audit", "roots").out
    good = past.danmpy("audit", "verify", "--anchors", str(kept))
    assert (good.code, "intact" in good.out) == (0, True)

    with sqlite3.connect(past.folder / "state" / "danmpy.db") as database:
        database.execute("DROP TRIGGER seal_no_delete")
        database.execute("DELETE FROM seal WHERE no = 2")
    database.close()
    open_ledger(past.settings).seal()
    assert past.danmpy("audit", "verify").code == 0
    bad = past.danmpy("audit", "verify", "--anchors", str(kept), "-o", "json")
    assert bad.code == 1
    first = json.loads(bad.out)["first"]
    assert (first["kind"], first["subject"]) == ("AnchorDiffers", "seal 2")


def test_anchors_that_cannot_be_read_are_named(past: World, tmp_path: Path) -> None:
    missing = past.danmpy("audit", "verify", "--anchors", str(tmp_path / "none"))
    assert (missing.code, len(missing.lines)) == (2, 1)
    (tmp_path / "bad").write_text("\nnonsense\n")
    bad = past.danmpy("audit", "verify", "--anchors", str(tmp_path / "bad"))
    assert (bad.code, "bad:2" in bad.err) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ("retention", "list"),
        ("hold", "list"),
        ("audit", "prune"),
        ("audit", "roots"),
        ("audit", "usage", "--from", "2026-01-01"),
    ],
)
def test_without_a_database_it_is_one_line_and_exit_3(paper: World, words: tuple[str, ...]) -> None:
    answer = paper.danmpy(*words)
    assert (answer.code, answer.out, len(answer.lines)) == (3, "", 1)

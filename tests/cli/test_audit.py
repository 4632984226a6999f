"""`danmpy audit who|history|events|verify`: every output form, and the mistakes people make."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from danmpy.bootstrap.readers import open_audit, open_leases, open_ledger
from danmpy.clock import to_rfc3339, wall_clock
from danmpy.db.engine import open_engine
from danmpy.ipam.leases import LeaseStore
from danmpy.ipam.values import Lease, LeaseOwner, LeaseRequest
from support.console import World
from support.processes import clean_environment, danmpy_argv
from support.specs import DYNAMIC, cluster_key, network, tenant_key

LEASE_FIELDS = {
    "address", "family", "network", "namespace", "pod", "pod_uid", "container_id", "interface",
    "node", "mac", "mode", "from", "to", "end_reason", "note", "claim", "shared_by",
}  # fmt: skip
BLUE = network(tenant_key("internal"), v4="10.10.0.0/24", v6="fd00:10::/64", vni=700)
RED = network(tenant_key("internal", "red"), v4="10.10.0.0/24", vni=701)
SHARED = network(cluster_key("shared"), v4="172.16.0.0/24", vni=900)


def bind(world: World, pod: str, spec: Any = BLUE, node: str = "node-a") -> tuple[Lease, ...]:
    """Lease every family of a network to a pod."""
    owner = LeaseOwner(
        namespace=spec.key.namespace or "blue",
        pod=pod,
        pod_uid=f"uid-{pod}",
        container_id=f"box-{spec.key.namespace}-{pod}",
        node=node,
    )
    request = LeaseRequest(
        interface="eth0",
        network=spec,
        ip=DYNAMIC,
        ip6=DYNAMIC if spec.v6 else SHARED_ABSENT,
        mac="02:00:00:00:00:01",
    )
    return open_leases(world.settings).bind(owner, [request])


SHARED_ABSENT = LeaseRequest(interface="", network=SHARED).ip6


@pytest.fixture
def past(paper: World) -> World:
    """Pod web held 10.10.0.1 on blue, db holds the next one; red has the same address."""
    paper.upgrade()
    bind(paper, "web")
    open_leases(paper.settings).release("box-blue-web")
    bind(paper, "db")
    bind(paper, "twin", RED)
    return paper


def moment(lease: dict[str, Any]) -> str:
    return str(lease["from"])


# who


def test_who_answers_the_holder_of_now(past: World) -> None:
    answer = past.ask("audit", "who", "10.10.0.2")
    assert set(answer) == {"items", "holder", "previous", "next", "at", "database_time"}
    assert set(answer["holder"]) == LEASE_FIELDS
    assert answer["items"] == [answer["holder"]]
    assert (answer["previous"], answer["next"]) == (None, None)
    holder = answer["holder"]
    assert holder["address"] == "10.10.0.2/24"
    assert (holder["namespace"], holder["pod"], holder["pod_uid"]) == ("blue", "db", "uid-db")
    assert (holder["family"], holder["mode"], holder["to"]) == (4, "dynamic", None)
    assert holder["network"] == "TenantNetwork/blue/internal"
    assert (holder["interface"], holder["node"]) == ("eth0", "node-a")
    assert holder["mac"] == "02:00:00:00:00:01"


def test_who_names_the_last_holder_when_nobody_has_it(past: World) -> None:
    answer = past.ask("audit", "who", "10.10.0.1", "--network", "blue/internal")
    assert (answer["holder"], answer["items"]) == (None, [])
    assert answer["previous"]["pod"] == "web"
    assert answer["previous"]["end_reason"] == "released"
    text = past.danmpy("audit", "who", "10.10.0.1", "--network", "blue/internal").out
    assert "held by nobody" in text
    assert "previous" in text


def test_who_at_a_time_is_exact_to_the_microsecond(past: World) -> None:
    web = past.ask("audit", "who", "10.10.0.1", "--network", "blue/internal")["previous"]

    def holder_at(at: str) -> Any:
        words = ("--network", "TenantNetwork/blue/internal", "--at", at)
        return past.ask("audit", "who", "10.10.0.1", *words)

    assert holder_at(web["from"])["holder"] == web
    assert holder_at(web["to"])["holder"] is None
    before = holder_at("2020-01-01T00:00:00Z")
    assert (before["holder"], before["previous"], before["next"]) == (None, None, web)


def test_who_lists_every_network_that_uses_the_address(past: World) -> None:
    bind(past, "other", SHARED)
    bind(past, "third", RED)
    answer = past.ask("audit", "who", "10.10.0.2")
    assert [item["network"] for item in answer["items"]] == [
        "TenantNetwork/blue/internal",
        "TenantNetwork/red/internal",
    ]
    assert answer["holder"] == answer["items"][0]


def test_who_prints_a_table_lines_and_csv(past: World) -> None:
    table = past.danmpy("audit", "who", "fd00:10::2")
    lines = table.out.splitlines()
    assert table.code == 0
    assert lines[0].startswith("fd00:10::2 at ")
    assert lines[0].endswith(": held")
    assert lines[1].split() == [
        "ADDRESS", "NETWORK", "POD", "INTERFACE", "NODE", "MAC", "FROM", "TO", "END",
    ]  # fmt: skip
    assert "blue/db" in lines[2]
    (line,) = past.danmpy("audit", "who", "10.10.0.2", "-o", "jsonl").out.splitlines()
    assert set(json.loads(line)) == LEASE_FIELDS
    text = past.danmpy("audit", "who", "10.10.0.2", "-o", "csv").out
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert set(row) == LEASE_FIELDS
    assert row["to"] == ""


def test_an_address_that_nobody_ever_held_is_said_in_words(past: World) -> None:
    answer = past.danmpy("audit", "who", "192.0.2.1")
    assert answer.code == 0
    assert answer.out.endswith("nobody held it before or since\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("10.10.0.256",), "is not an address"),
        (("web-0",), "write one IPv4 or IPv6 address"),
        (("10.10.0.1", "--at", "12:00"), "write it as 2026-05-04T10:15:00Z"),
        (("10.10.0.1", "--network", "blue/internl"), "did you mean TenantNetwork/blue/internal?"),
        (("10.10.0.1", "--network", "internal"), "2 networks are called internal"),
    ],
)
def test_a_mistake_in_the_question_is_one_line_and_exit_2(
    past: World, words: tuple[str, ...], said: str
) -> None:
    answer = past.danmpy("audit", "who", *words)
    assert (answer.code, answer.out, len(answer.lines)) == (2, "", 1)
    assert said in answer.err


# history


def test_history_has_every_lease_and_each_filter_narrows_it(past: World) -> None:
    bind(past, "far", SHARED, node="node-b")
    whole = past.ask("audit", "history")
    assert set(whole) == {"items", "database_time"}
    assert len(whole["items"]) == 6
    assert all(set(item) == LEASE_FIELDS for item in whole["items"])

    def pods(*words: str) -> list[str]:
        return [item["pod"] for item in past.ask("audit", "history", *words)["items"]]

    assert pods("--pod", "blue/web") == ["web", "web"]
    assert pods("--pod", "twin") == ["twin"]
    assert pods("--namespace", "red") == ["twin"]
    assert pods("--node", "node-b") == ["far"]
    assert pods("--network", "shared") == ["far"]
    assert pods("--address", "10.10.0.1", "--network", "blue/internal") == ["web"]
    assert pods("--mac", "02:00:00:00:00:99") == []
    assert pods("--pod", "web", "--to", "2020-01-01") == []
    since = whole["database_time"]
    assert "web" not in pods("--from", since)


def test_history_that_matches_nothing_is_said_in_words(past: World) -> None:
    assert past.danmpy("audit", "history", "--pod", "nobody").out == "no lease matches\n"


# events and verify


def test_events_tell_what_happened_in_order(past: World) -> None:
    answer = past.ask("audit", "events", "--network", "blue/internal")
    kinds = [item["kind"] for item in answer["items"] if item["pod"] == "web"]
    assert [kinds.count("ALLOCATE"), kinds.count("RELEASE")] == [2, 2]
    assert kinds[-1] == "RELEASE"
    numbers = [item["seq"] for item in answer["items"]]
    assert numbers == sorted(numbers)
    table = past.danmpy("audit", "events", "--address", "10.10.0.1").out.splitlines()
    assert table[0].split()[:3] == ["SEQ", "AT", "KIND"]
    text = past.danmpy("audit", "events", "-o", "csv").out
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert rows[0]["kind"] == "ALLOCATE"


def test_an_intact_ledger_verifies_and_an_altered_one_names_the_first_bad_entry(
    past: World,
) -> None:
    open_ledger(past.settings).seal()
    good = past.danmpy("audit", "verify", "-o", "json")
    assert (good.code, good.data["ok"]) == (0, True)
    assert past.danmpy("audit", "verify").code == 0
    alter(past.folder / "state" / "danmpy.db")
    bad = past.danmpy("audit", "verify", "-o", "json")
    assert (bad.code, bad.data["ok"]) == (1, False)
    text = past.danmpy("audit", "verify")
    assert text.code == 1
    assert bad.data["first"]["subject"] in text.out
    assert "mallory" in text.out


def test_verify_is_no_table_and_says_so(past: World) -> None:
    refused = past.danmpy("audit", "verify", "-o", "csv")
    assert (refused.code, refused.out) == (2, "")
    assert "use table, json or jsonl" in refused.err


def alter(path: Path) -> None:
    """Give a lease to another pod behind the ledger's back."""
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in rows:
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE lease SET pod = 'mallory' WHERE pod = 'web'")
    database.close()


# The database away


@pytest.mark.parametrize(
    "words",
    [
        ("who", "10.10.0.1"),
        ("history",),
        ("events",),
        ("verify",),
        ("usage",),
    ],
)
def test_without_a_database_every_question_is_one_line_and_exit_3(
    paper: World, words: tuple[str, ...]
) -> None:
    answer = paper.danmpy("audit", *words, "-o", "json")
    assert (answer.code, answer.out, len(answer.lines)) == (3, "", 1)
    assert "danmpy db upgrade" in answer.err
    assert not (paper.folder / "state").exists(), "a question makes no file"


def test_a_database_that_is_none_is_one_line_and_exit_3(paper: World) -> None:
    (paper.folder / "state").mkdir()
    (paper.folder / "state" / "danmpy.db").write_text("no database, but longer than a header\n" * 9)
    answer = paper.danmpy("audit", "history")
    assert (answer.code, answer.out, len(answer.lines)) == (3, "", 1)
    assert "not a database" in answer.err


def test_history_can_be_read_while_the_folder_cannot(past: World) -> None:
    past.intent.rmdir()
    answer = past.danmpy("audit", "history", "--network", "red/internal", "-o", "json")
    assert answer.code == 0
    assert [item["pod"] for item in answer.data["items"]] == ["twin"]


def test_times_are_rfc_3339_in_utc_and_can_be_asked_for_again(past: World) -> None:
    audit = open_audit(past.settings)
    (item,) = past.ask("audit", "history", "--pod", "twin")["items"]
    assert item["from"].endswith("Z")
    assert past.ask("audit", "who", "10.10.0.1", "--at", item["from"])["holder"]["pod"] in {
        "twin",
        "web",
    }
    assert to_rfc3339(audit.database_time()) > item["from"]


@pytest.mark.system
def test_every_question_is_answered_by_postgresql_as_well(
    paper: World, postgresql_url: str
) -> None:
    paper.config.write_text(paper.config.read_text() + f"database_url: {postgresql_url}\n")

    def ask(*words: str) -> Any:
        done = subprocess.run(
            danmpy_argv(*words, "-o", "json", "--config", str(paper.config)),
            capture_output=True,
            text=True,
            timeout=60,
            env=clean_environment(),
        )
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    engine = open_engine(postgresql_url)
    try:
        leases = LeaseStore(engine, wall_clock, 120)
        owner = LeaseOwner(
            namespace="blue", pod="web", pod_uid="uid-web", container_id="box", node="node-a"
        )
        leases.bind(owner, [LeaseRequest(interface="eth0", network=BLUE, ip=DYNAMIC)])
    finally:
        engine.dispose()
    holder = ask("audit", "who", "10.10.0.1")["holder"]
    assert (holder["pod"], set(holder)) == ("web", LEASE_FIELDS)
    assert ask("audit", "history", "--pod", "blue/web")["items"] == [holder]
    assert ask("audit", "events")["items"][0]["kind"] == "ALLOCATE"
    assert ask("audit", "verify")["ok"] is True
    assert ask("audit", "usage")["items"] == []

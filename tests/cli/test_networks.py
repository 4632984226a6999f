"""`danmpy plan`, `danmpy networks` and `danmpy audit usage`, on a real kernel and database."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from danmpy.api.specs import AddressAsk, AddressMode, NetworkKey, NetworkKind
from danmpy.bootstrap.readers import open_leases
from danmpy.clock import to_rfc3339, wall_clock
from danmpy.ipam.values import LeaseOwner, LeaseRequest
from support.console import INTERNAL, ORPHANED, REFUSED, SHARED, TENANTS, World

NETWORK_FIELDS = {"network", "device", "parent", "kind", "id", "mtu", "v4", "v6", "conditions"}
POOL_FIELDS = {"cidr", "capacity", "held", "cooling", "free"}
DYNAMIC = AddressAsk(mode=AddressMode.DYNAMIC)


def lease(world: World, container: str, *, name: str = "internal") -> None:
    """Lease both families of blue's network to a pod."""
    key = NetworkKey(kind=NetworkKind.TENANT, namespace="blue", name=name)
    owner = LeaseOwner(
        namespace="blue", pod=container, pod_uid="", container_id=container, node="node-a"
    )
    wanted = LeaseRequest(interface="eth0", network=world.resolved(key), ip=DYNAMIC, ip6=DYNAMIC)
    open_leases(world.settings).bind(owner, [wanted])


# plan


def test_the_plan_shows_steps_in_order_and_changes_nothing(world: World) -> None:
    assert world.namespace is not None
    world.write("networks.yaml", SHARED)
    before = set(world.namespace.links())
    items = world.ask("plan")["items"]
    assert set(world.namespace.links()) == before
    assert items[0]["action"] == "create"
    create = items[0]
    assert create["device"] == "vx900"
    assert create["kind"] == "vxlan"
    assert create["parent"] == "ens4"
    assert create["vni"] == 900
    assert create["mtu"] == 1450
    assert all({"action", "device", "reason"} <= set(item) for item in items)


def test_the_plan_of_a_node_that_is_as_wanted_is_empty(world: World) -> None:
    world.write("networks.yaml", SHARED)
    world.look()
    answer = world.danmpy("plan")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "nothing to do: this node is as the manifests want it\n"
    assert world.ask("plan")["items"] == []


def test_the_plan_has_a_table_lines_and_csv(world: World) -> None:
    world.write("networks.yaml", SHARED)
    table = world.danmpy("plan").out.splitlines()
    assert table[0].split() == ["ACTION", "DEVICE", "SETS", "REASON"]
    assert table[1].split()[:2] == ["create", "vx900"]
    assert "vni 900" in table[1]
    lines = world.danmpy("plan", "-o", "jsonl").out.splitlines()
    assert json.loads(lines[0])["device"] == "vx900"
    rows = list(csv.DictReader(io.StringIO(world.danmpy("plan", "-o", "csv").out, newline="")))
    assert rows[0]["action"] == "create"
    assert rows[0]["vni"] == "900"
    assert len(rows) == len(lines) == len(table) - 1


def test_plan_f_goes_by_those_files_instead_of_the_folder(world: World, tmp_path: Path) -> None:
    world.write("networks.yaml", SHARED)
    other = tmp_path / "other.yaml"
    other.write_text(SHARED.replace("900", "910"))
    more = tmp_path / "more.yaml"
    more.write_text(SHARED.replace("900", "911").replace("shared", "more"))
    devices = {item["device"] for item in world.ask("plan", "-f", str(other))["items"]}
    assert devices == {"vx910"}
    for words in (("-f", str(other), "-f", str(more)), ("-f", str(other), str(more))):
        devices = {item["device"] for item in world.ask("plan", *words)["items"]}
        assert devices == {"vx910", "vx911"}


def test_plan_f_takes_a_folder_and_standard_input(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "a.yaml").write_text(SHARED.replace("900", "910"))
    assert {i["device"] for i in world.ask("plan", "-f", str(folder))["items"]} == {"vx910"}
    answer = world.danmpy("plan", "-f", "-", "-o", "json", stdin=SHARED.replace("900", "912"))
    assert {item["device"] for item in answer.data["items"]} == {"vx912"}


def test_plan_f_with_a_refused_manifest_says_so_and_ends_with_2(
    world: World, tmp_path: Path
) -> None:
    path = tmp_path / "refused.yaml"
    path.write_text(SHARED + REFUSED)
    answer = world.danmpy("plan", "-f", str(path), "-o", "json")
    assert answer.code == 2
    assert any("ClusterNetwork/refused" in line and "vxlan" in line for line in answer.lines)
    assert {item["device"] for item in answer.data["items"]} == {"vx900"}


def test_plan_f_of_a_file_that_is_not_there_is_one_line(world: World) -> None:
    answer = world.danmpy("plan", "-f", "/nonexistent/a.yaml")
    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.lines) == 1
    assert "/nonexistent/a.yaml" in answer.err


def test_plan_with_a_file_but_without_f_says_how(world: World) -> None:
    answer = world.danmpy("plan", "a.yaml")
    assert answer.code == 2
    assert "write danmpy plan -f a.yaml" in answer.err


def test_the_plan_notes_networks_that_cannot_be_realised_and_plans_the_others(
    world: World,
) -> None:
    world.write("networks.yaml", SHARED, ORPHANED, REFUSED)
    answer = world.danmpy("plan", "-o", "json")
    assert answer.code == 0
    assert {item["device"] for item in answer.data["items"]} == {"vx900"}
    assert any("ClusterNetwork/orphaned" in line and "ens9" in line for line in answer.lines)
    assert any("ClusterNetwork/refused" in line for line in answer.lines)


def test_the_plan_works_without_a_database_for_networks_that_need_no_assignment(
    world: World,
) -> None:
    (world.folder / "state" / "danmpy.db").unlink()
    world.write("networks.yaml", SHARED)
    answer = world.danmpy("plan", "-o", "json")
    assert answer.code == 0
    assert {item["device"] for item in answer.data["items"]} == {"vx900"}
    assert answer.data["database_time"] is None
    assert "danmpy db upgrade" in answer.err
    world.write("tenants.yaml", TENANTS, INTERNAL)
    answer = world.danmpy("plan", "-o", "json")
    assert answer.code == 3, "a tenant's network could not be looked at"
    assert {item["device"] for item in answer.data["items"]} == {"vx900"}
    assert not (world.folder / "state" / "danmpy.db").exists()


def test_the_plan_of_a_folder_that_is_not_there_could_not_look(world: World) -> None:
    world.intent.rmdir()
    answer = world.danmpy("plan")
    assert answer.code == 3
    assert str(world.intent) in answer.err


# networks


def test_networks_have_exactly_the_fields_of_the_contract(world: World) -> None:
    world.write("networks.yaml", TENANTS, INTERNAL, SHARED)
    world.look()
    answer = world.ask("networks")
    assert set(answer) == {"items", "database_time"}
    cluster, tenant = answer["items"]
    for item in (cluster, tenant):
        assert set(item) == NETWORK_FIELDS
        for condition in item["conditions"]:
            assert set(condition) == {"type", "status", "reason", "message"}
    assert cluster["network"] == "ClusterNetwork/shared"
    assert (cluster["device"], cluster["parent"]) == ("vx900", "ens4")
    assert (cluster["kind"], cluster["id"], cluster["mtu"]) == ("vxlan", 900, 1450)
    assert cluster["v6"] is None
    assert tenant["network"] == "TenantNetwork/blue/internal"
    assert (tenant["kind"], tenant["id"]) == ("vxlan", 700)
    assert set(tenant["v4"]) == set(tenant["v6"]) == POOL_FIELDS
    assert tenant["v4"] == {
        "cidr": "10.10.0.0/24",
        "capacity": 10,
        "held": 0,
        "cooling": 0,
        "free": 10,
    }
    states = {c["type"]: c["status"] for c in tenant["conditions"]}
    assert states["ParametersValid"] == "True"
    assert states["DeviceReady"] == "True"


def test_a_refused_network_is_listed_with_every_problem(world: World) -> None:
    world.write("networks.yaml", REFUSED)
    answer = world.danmpy("networks", "-o", "json")
    assert answer.code == 0
    (item,) = answer.data["items"]
    assert set(item) == NETWORK_FIELDS
    assert item["v4"] is item["v6"] is item["device"] is None
    (condition,) = item["conditions"]
    assert (condition["type"], condition["status"]) == ("ParametersValid", "False")
    assert "vxlan" in condition["message"]
    assert "10.98.0.1" in condition["message"]
    table = world.danmpy("networks").out
    assert "ClusterNetwork/refused: " in table


def test_held_addresses_are_counted(world: World) -> None:
    world.write("networks.yaml", TENANTS, INTERNAL)
    world.look()
    lease(world, "one")
    lease(world, "two")
    open_leases(world.settings).release("two")
    (item,) = world.ask("networks")["items"]
    assert (item["v4"]["held"], item["v4"]["cooling"], item["v4"]["free"]) == (1, 1, 8)
    assert item["v6"]["held"] == 1


def test_the_table_has_a_row_for_each_subnet_and_counts_no_ipv6_addresses(world: World) -> None:
    world.write("networks.yaml", TENANTS, INTERNAL)
    world.look()
    head, first, second = world.danmpy("networks").out.splitlines()
    assert head.split() == [
        "NETWORK", "DEVICE", "SEGMENT", "MTU", "SUBNET", "HELD", "COOLING", "FREE", "STATE",
    ]  # fmt: skip
    assert "vxlan 700 on ens4" in first
    assert "10.10.0.0/24" in first
    assert "fd00:10::/64" in second
    assert "1.8e+19" in second
    assert first.split()[-1] == "ready"


def test_networks_without_a_database_are_listed_without_numbers(world: World) -> None:
    (world.folder / "state" / "danmpy.db").unlink()
    world.write("networks.yaml", SHARED)
    answer = world.danmpy("networks", "-o", "json")
    assert answer.code == 3
    (item,) = answer.data["items"]
    assert item["v4"] == {
        "cidr": "172.16.0.0/24",
        "capacity": 254,
        "held": None,
        "cooling": None,
        "free": None,
    }
    assert len(answer.lines) == 1


def test_a_broken_file_of_the_folder_is_named_with_its_line_and_hides_nothing_else(
    world: World,
) -> None:
    world.write("networks.yaml", SHARED)
    world.write("broken.yaml", "kind: Pod\nmetadata: {name: [\n")
    answer = world.danmpy("networks", "-o", "json")
    assert answer.code == 3
    assert [item["network"] for item in answer.data["items"]] == ["ClusterNetwork/shared"]
    assert any("broken.yaml:" in line for line in answer.lines)


def test_no_network_is_said_in_words(world: World) -> None:
    assert world.danmpy("networks").out == "no network is declared\n"


def test_networks_as_csv_are_flat(world: World) -> None:
    world.write("networks.yaml", SHARED)
    text = world.danmpy("networks", "-o", "csv").out
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["network"] == "ClusterNetwork/shared"
    assert row["v4.capacity"] == "254"
    assert row["v6.capacity"] == ""
    assert json.loads(row["conditions"])[0]["type"] == "ParametersValid"


# usage


def test_usage_has_the_same_fields_and_a_percentage(world: World) -> None:
    world.write("networks.yaml", TENANTS, INTERNAL, SHARED)
    world.look()
    lease(world, "one")
    items = world.ask("audit", "usage")["items"]
    assert [item["network"] for item in items] == [
        "ClusterNetwork/shared",
        "TenantNetwork/blue/internal",
    ]
    assert all(set(item) == NETWORK_FIELDS for item in items)
    pool = items[1]["v4"]
    assert set(pool) >= {*POOL_FIELDS, "percent"}
    assert (pool["held"], pool["free"], pool["percent"]) == (1, 9, 10.0)
    (only,) = world.ask("audit", "usage", "--network", "internal")["items"]
    assert only == items[1]


def test_usage_at_a_time_in_the_past_is_as_it_was_then(world: World) -> None:
    world.write("networks.yaml", TENANTS, INTERNAL)
    world.look()
    before = to_rfc3339(wall_clock())
    lease(world, "one")
    then = world.ask("audit", "usage", "--at", before)["items"][0]["v4"]
    now = world.ask("audit", "usage", "--at", "now")["items"][0]["v4"]
    assert (then["held"], now["held"]) == (0, 1)


def test_the_usage_table_colours_nothing_when_piped(world: World) -> None:
    world.write("networks.yaml", SHARED)
    head, row = world.danmpy("audit", "usage").out.splitlines()
    assert head.split() == ["NETWORK", "SUBNET", "CAPACITY", "HELD", "COOLING", "FREE", "USED"]
    assert row.split() == [
        "ClusterNetwork/shared",
        "172.16.0.0/24",
        "254",
        "0",
        "0",
        "254",
        "0.0",
        "%",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--network", "sharde"), "did you mean ClusterNetwork/shared?"),
        (("--network", "refused"), "danmpy networks says what is wrong with it"),
        (("--at", "yesterday"), "write it as 2026-05-04T10:15:00Z"),
    ],
)
def test_a_mistake_in_the_question_is_one_line_and_exit_2(
    world: World, words: tuple[str, ...], said: str
) -> None:
    world.write("networks.yaml", SHARED, REFUSED)
    answer = world.danmpy("audit", "usage", *words)
    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.lines) == 1
    assert said in answer.err


def test_a_network_that_is_gone_points_to_its_history(world: World) -> None:
    world.write("networks.yaml", TENANTS, INTERNAL)
    world.look()
    lease(world, "one")
    world.write("networks.yaml", TENANTS)
    answer = world.danmpy("audit", "usage", "--network", "internal")
    assert answer.code == 2
    assert "danmpy audit history --network TenantNetwork/blue/internal" in answer.err


def test_usage_without_a_database_could_not_look(world: World) -> None:
    (world.folder / "state" / "danmpy.db").unlink()
    answer = world.danmpy("audit", "usage")
    assert answer.code == 3
    assert answer.out == ""
    assert len(answer.lines) == 1

"""`danmpy import danm|whereabouts|host-local`: from the other tool's files to leases."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from danmpy.bootstrap.readers import open_ledger
from danmpy.cli.importing import ROW_FIELDS
from support.console import INTERNAL, SHARED, TENANTS, World
from support.dumps import (
    danm_cluster,
    danm_endpoint,
    danm_endpoints,
    danm_networks,
    whereabouts_cluster,
)
from support.hostlocal import add
from support.hostlocal import run as run_plugin
from support.node import pod_manifest
from support.requirements import need

KEY = "ClusterNetwork/shared"
DUAL = SHARED.replace("cidr: 172.16.0.0/24", "cidr: 172.16.0.0/24, net6: 'fd00:16::/64'")


@pytest.fixture
def ready(paper: World) -> World:
    """A database, and the network that the other tools' addresses are of."""
    paper.upgrade()
    paper.write("networks.yaml", TENANTS, INTERNAL, DUAL)
    return paper


def dump(world: World, text: str, name: str = "dump.yaml") -> str:
    path = world.folder / name
    path.write_text(text)
    return str(path)


def told(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["verdict"], item["address"]) for item in answer["items"]]


def held(world: World) -> list[str]:
    items = world.ask("audit", "history")["items"]
    return sorted(item["address"] for item in items if item["to"] is None)


# DANM


def test_danms_endpoints_become_leases_and_bits_without_one_are_told(ready: World) -> None:
    file = dump(ready, danm_cluster())
    answer = ready.ask("import", "danm", file, code=1)
    assert told(answer) == [
        ("adopted", "172.16.0.10"),
        ("unowned", "172.16.0.11"),
        ("adopted", "172.16.0.200"),
    ]
    assert (answer["dry_run"], answer["problems"]) == (False, [])
    assert set(answer["items"][0]) == set(ROW_FIELDS)
    assert answer["items"][0]["network"] == KEY
    lease = ready.ask("audit", "who", "172.16.0.200")["holder"]
    assert (lease["pod"], lease["pod_uid"], lease["container_id"]) == (
        "db-0",
        "uid-db-0",
        "db-0-sandbox",
    )
    assert (lease["mode"], lease["node"], lease["note"]) == (
        "static",
        "node-b",
        "imported from DANM",
    )
    assert open_ledger(ready.settings).verify().ok


def test_a_dry_run_says_the_same_and_changes_nothing(ready: World) -> None:
    file = dump(ready, danm_cluster())
    answer = ready.ask("import", "danm", file, "--dry-run", "--reserve-unowned", "of DANM")
    assert told(answer) == [
        ("would be adopted", "172.16.0.10"),
        ("would be reserved", "172.16.0.11"),
        ("would be adopted", "172.16.0.200"),
    ]
    assert answer["dry_run"] is True
    assert held(ready) == []
    assert ready.ask("audit", "events")["items"] == []


def test_what_nobody_owns_is_reserved_on_demand_and_all_of_it_only_once(ready: World) -> None:
    words = ("import", "danm", dump(ready, danm_cluster()), "--reserve-unowned", "of DANM")
    assert told(ready.ask(*words))[1] == ("reserved", "172.16.0.11")
    assert ready.ask("audit", "who", "172.16.0.11")["holder"]["note"] == "of DANM"
    events = ready.ask("audit", "events")["items"]
    assert [event["kind"] for event in events] == ["IMPORT", "IMPORT", "RESERVE"]
    again = ready.ask(*words)
    assert told(again) == [
        ("held", "172.16.0.10"),
        ("held", "172.16.0.11"),
        ("held", "172.16.0.200"),
    ]
    assert "a reservation (of DANM)" in again["items"][1]["message"]
    assert ready.ask("audit", "events")["items"] == events


def test_networks_and_endpoints_may_come_in_two_files_and_as_json(ready: World) -> None:
    endpoint = {
        "apiVersion": "danm.k8s.io/v1",
        "kind": "DanmEp",
        "metadata": {"name": "e", "namespace": "blue"},
        "spec": {
            "NetworkName": "shared",
            "apiType": "ClusterNetwork",
            "CID": "c",
            "Pod": "web-0",
            "Interface": {"Name": "ext1", "Address": "172.16.0.10/24"},
        },
    }
    listed = {"apiVersion": "v1", "kind": "List", "items": [endpoint]}
    second = dump(ready, json.dumps(listed), "endpoints.json")
    answer = ready.ask("import", "danm", dump(ready, danm_networks()), second, code=1)
    assert ("adopted", "172.16.0.10") in told(answer)


def test_a_tenant_network_without_its_segment_waits(ready: World) -> None:
    text = danm_endpoint("web-0", "10.10.0.12/24", api="TenantNetwork", network="internal")
    answer = ready.ask("import", "danm", dump(ready, danm_endpoints(text)), code=1)
    assert told(answer) == [("unknown network", "10.10.0.12")]
    assert "its segment is not known" in answer["items"][0]["message"]


def test_a_network_that_has_another_name_here_is_mapped(ready: World) -> None:
    text = danm_endpoint("web-0", "172.16.0.10/24", api="TenantNetwork", network="old")
    file = dump(ready, danm_endpoints(text))
    answer = ready.ask("import", "danm", file, "--map", f"TenantNetwork/blue/old={KEY}")
    assert told(answer) == [("adopted", "172.16.0.10")]


@pytest.mark.parametrize("words", [(), ("--claims",)])
def test_addresses_of_a_claim_are_kept_for_it_on_demand(
    ready: World, words: tuple[str, ...]
) -> None:
    pod = pod_manifest("blue", "web-0", uid="uid-web-0")
    pod["metadata"]["annotations"]["danm.k8s.io/claim"] = "front"
    ready.write("pods.yaml", json.dumps(pod))
    ready.ask("import", "danm", dump(ready, danm_cluster()), *words, code=1)
    lease = ready.ask("audit", "who", "172.16.0.10")["holder"]
    assert lease["claim"] == ("front" if words else "")


def test_a_broken_file_and_a_broken_entry_are_named_and_the_rest_is_imported(ready: World) -> None:
    good = dump(ready, danm_endpoints(danm_endpoint("a", "172.16.0.10/24")))
    bad = dump(ready, "kind: [", "bad.yaml")
    half = dump(ready, danm_endpoints(danm_endpoint("b", "x")), "half.yaml")
    answer = ready.danmpy("import", "danm", bad, good, half, "-o", "json")
    assert answer.code == 2
    assert told(answer.data) == [("adopted", "172.16.0.10")]
    assert len(answer.data["problems"]) == 2
    assert f"{bad}:" in answer.err
    assert f"{half}:3" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("kind", ["danm", "whereabouts", "host-local"])
def test_a_file_that_is_not_there_is_one_line(ready: World, kind: str) -> None:
    answer = ready.danmpy("import", kind, "/nonexistent/dump")
    assert (answer.code, answer.out, len(answer.lines)) == (2, "", 1)
    assert "/nonexistent/dump" in answer.err


# whereabouts


def test_a_pool_says_no_network_of_ours_so_the_command_line_does(ready: World) -> None:
    file = dump(ready, whereabouts_cluster())
    answer = ready.ask("import", "whereabouts", file, code=1)
    assert {item["verdict"] for item in answer["items"]} == {"unknown network"}
    words = ("--map", "172.16.0.0-24=shared")
    answer = ready.ask("import", "whereabouts", file, *words, code=1)
    assert told(answer) == [
        ("unknown network", "192.168.9.5"),
        ("adopted", "172.16.0.1"),
        ("adopted", "172.16.0.20"),
    ]
    rest = ready.ask("import", "whereabouts", file, "--network", KEY, *words, code=1)
    assert told(rest) == [
        ("held", "172.16.0.1"),
        ("held", "172.16.0.20"),
        ("outside", "192.168.9.5"),
    ]


def test_the_pods_of_the_intent_say_uid_and_node(ready: World) -> None:
    ready.write("pods.yaml", json.dumps(pod_manifest("blue", "web-0", uid="u-1", node="node-7")))
    file = dump(ready, whereabouts_cluster())
    ready.ask("import", "whereabouts", file, "--map", "172.16.0.0-24=shared", code=1)
    lease = ready.ask("audit", "who", "172.16.0.1")["holder"]
    assert (lease["pod_uid"], lease["node"], lease["interface"]) == ("u-1", "node-7", "net1")
    unknown = ready.ask("audit", "who", "172.16.0.20")["holder"]
    assert (unknown["pod_uid"], unknown["node"], unknown["pod"]) == ("", "", "db-0")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--map", "x"], "does not say which network"),
        (["--map", "=shared"], "does not say which network"),
        (["--map", "a=shared", "--map", "a=shared"], "does not say which network"),
        (["--map", "a=shred"], "did you mean"),
        (["--network", "shred"], "did you mean"),
    ],
)
def test_mistakes_in_the_mapping_are_one_line(ready: World, words: list[str], what: str) -> None:
    answer = ready.danmpy("import", "whereabouts", dump(ready, whereabouts_cluster()), *words)
    assert (answer.code, answer.out, len(answer.lines)) == (2, "", 1)
    assert what in answer.err
    assert held(ready) == []


# host-local


@pytest.fixture
def state(ready: World) -> Path:
    """A state folder of the real plugin: two containers with an address of each family."""
    need("cni-plugins")
    folder = ready.folder / "networks"
    add(folder, "shared", "c1", "eth0")
    add(folder, "shared", "c2", "net1")
    return folder / "shared"


def test_the_state_of_the_real_plugin_becomes_leases_once(ready: World, state: Path) -> None:
    words = ("import", "host-local", str(state), "--network", "shared")
    answer = ready.ask(*words)
    assert [item["verdict"] for item in answer["items"]] == ["adopted"] * 4
    assert held(ready) == [
        "172.16.0.50/24",
        "172.16.0.51/24",
        "fd00:16::50/64",
        "fd00:16::51/64",
    ]
    lease = ready.ask("audit", "who", "172.16.0.51")["holder"]
    assert (lease["container_id"], lease["interface"], lease["node"]) == ("c2", "net1", "node-a")
    assert (lease["namespace"], lease["pod"]) == ("", "")
    events = ready.ask("audit", "events")["items"]
    assert [item["verdict"] for item in ready.ask(*words)["items"]] == ["held"] * 4
    assert ready.ask("audit", "events")["items"] == events


def test_the_plugins_del_and_ours_end_the_same_container(ready: World, state: Path) -> None:
    from danmpy.bootstrap.readers import open_leases

    words = ("import", "host-local", str(state), "--map", f"shared={KEY}")
    ready.ask(*words)
    run_plugin("DEL", state.parent, "shared", "c1", "eth0")
    assert len(open_leases(ready.settings).release("c1")) == 2
    assert [item["verdict"] for item in ready.ask(*words)["items"]] == ["held"] * 2


def test_the_runtime_says_which_pods_they_are(ready: World, state: Path) -> None:
    pods = {
        "items": [
            {"id": "c1", "metadata": {"name": "web-0", "namespace": "blue", "uid": "u-1"}},
            {"id": "c9", "metadata": {"name": "other", "namespace": "blue", "uid": "u-9"}},
        ]
    }
    file = dump(ready, json.dumps(pods), "pods.json")
    words = ("--network", "shared", "--sandboxes", file, "--node", "node-b")
    ready.ask("import", "host-local", str(state), *words)
    lease = ready.ask("audit", "who", "172.16.0.50")["holder"]
    assert (lease["namespace"], lease["pod"], lease["pod_uid"]) == ("blue", "web-0", "u-1")
    assert lease["node"] == "node-b"


def test_the_folder_above_is_refused_and_a_damaged_file_is_named(ready: World, state: Path) -> None:
    above = ready.danmpy("import", "host-local", str(state.parent), "--network", "shared")
    assert above.code == 2
    assert "name the folders of the networks" in above.err
    (state / "notes.txt").write_text("hello")
    (state / "172.16.0.60").write_text("")
    answer = ready.danmpy("import", "host-local", str(state), "--network", "shared", "-o", "json")
    assert answer.code == 2
    assert "'notes.txt' is no address" in answer.err
    assert ("unowned", "172.16.0.60") in told(answer.data)
    assert held(ready) != []


# what people see


def test_every_form_carries_a_row_an_address(ready: World) -> None:
    file = dump(ready, danm_cluster())
    table = ready.danmpy("import", "danm", file, "--dry-run")
    assert table.code == 1
    assert table.out.splitlines()[0].split()[:3] == ["VERDICT", "ADDRESS", "NETWORK"]
    assert "would be adopted" in table.out
    lines = ready.danmpy("import", "danm", file, "--dry-run", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["address"] for line in lines][1] == "172.16.0.11"
    rows = csv.DictReader(io.StringIO(ready.danmpy("import", "danm", file, "-o", "csv").out))
    assert [row["verdict"] for row in rows] == ["adopted", "unowned", "adopted"]


def test_nothing_in_use_is_said_so(ready: World) -> None:
    empty = danm_endpoints(danm_endpoint("l2", "none"))
    answer = ready.danmpy("import", "danm", dump(ready, empty))
    assert (answer.code, answer.out) == (0, "nothing in use was found\n")


def test_lists_for_people_say_that_a_lease_was_imported(ready: World, state: Path) -> None:
    ready.ask("import", "host-local", str(state), "--network", "shared")
    ready.ask("import", "danm", dump(ready, danm_cluster()), code=1)
    out = ready.danmpy("audit", "history").out
    assert "unknown pod (imported from host-local)" in out
    assert "blue/web-0 (imported from DANM)" in out
    assert "reserved" not in out


def test_the_audit_says_what_was_imported_and_is_not_attached_here(world: World) -> None:
    world.write("networks.yaml", TENANTS, SHARED)
    world.write(
        "pods.yaml", json.dumps(pod_manifest("blue", "web-0", uid="uid-web-0", node="node-a"))
    )
    world.look()
    world.ask("import", "danm", dump(world, danm_cluster()), code=1)
    items = world.ask("audit", "diff", code=1)["items"]
    assert [(item["kind"], item["subject"]) for item in items] == [
        ("ImportedNotAttached", "Pod/blue/web-0"),
        ("LeaseWithoutPod", "Pod/blue/db-0"),
    ]
    assert "imported from DANM; danmpy did not attach it" in items[0]["message"]
    assert "danmpy release ends it" in items[1]["hint"]

"""``danmpy reserve|unreserve|reservations|release``, as operators type them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from danmpy.bootstrap.readers import open_leases
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine
from danmpy.ipam.invariants import violations
from danmpy.ipam.segments import SegmentStore
from danmpy.ipam.values import LeaseOwner, LeaseRequest
from support.console import DYNAMIC, INTERNAL, SHARED, TENANTS, World
from support.node import pod_manifest
from support.specs import tenant_key

NET = ("--network", "blue/internal")
KEY = "TenantNetwork/blue/internal"


@pytest.fixture
def desk(paper: World, monkeypatch: pytest.MonkeyPatch):
    """The desk of an operator: networks with their segments, an empty database."""
    monkeypatch.setenv("SUDO_USER", "ada")
    paper.upgrade()
    paper.write("networks.yaml", TENANTS, INTERNAL, SHARED)
    from danmpy.bootstrap.readers import open_intent

    engine = open_engine(paper.settings.database_url)
    intent = open_intent(paper.settings).read()
    SegmentStore(engine, wall_clock).assign(intent.networks, intent.tenant_configs, complete=True)
    try:
        yield paper
        assert violations(engine) == ()
    finally:
        engine.dispose()


def hold(desk: World, pod: str, node: str = "node-a", claim: str = "") -> str:
    """Lease an address of blue/internal to a pod; the address."""
    from danmpy.bootstrap.readers import open_intent, read_assignments

    found = read_assignments(desk.settings, open_intent(desk.settings).read())
    spec = found.networks[tenant_key("internal")]
    owner = LeaseOwner(
        namespace="blue",
        pod=pod,
        pod_uid=f"uid-{pod}",
        container_id=f"box-{pod}",
        node=node,
        claim=claim,
    )
    request = LeaseRequest(interface="eth0", network=spec, ip=DYNAMIC)
    (lease,) = open_leases(desk.settings).bind(owner, [request])
    return str(lease.address.ip)


def declare(desk: World, pod: str, uid: str = "") -> None:
    manifest = pod_manifest("blue", pod, uid=uid or f"uid-{pod}")
    desk.write(f"pod-{pod}.json", json.dumps(manifest))


def events(desk: World, kind: str) -> list[Any]:
    items = desk.ask("audit", "events")["items"]
    return [item for item in items if item["kind"] == kind]


def test_a_reservation_is_listed_shown_and_ended(desk: World) -> None:
    made = desk.danmpy("reserve", "10.10.0.12", *NET, "--for", "the  uplink\nrouter")
    assert (made.code, made.err) == (0, "")
    assert made.out == f"10.10.0.12 of {KEY}: reserved (the uplink router)\n"

    (item,) = desk.ask("reservations")["items"]
    assert (item["address"], item["note"], item["mode"]) == (
        "10.10.0.12/24",
        "the uplink router",
        "reserved",
    )
    assert desk.ask("audit", "who", "10.10.0.12")["holder"] == item
    assert "reserved: the uplink router" in desk.danmpy("audit", "who", "10.10.0.12").out
    (told,) = events(desk, "RESERVE")
    assert told["detail"]["actor"].startswith("ada@")

    gone = desk.danmpy("unreserve", "10.10.0.12", *NET, "--reason", "moved")
    assert gone.code == 0, gone.err
    assert "ended, a reservation (the uplink router) had it" in gone.out
    assert desk.danmpy("reservations").out == "no address is reserved\n"
    (ended,) = events(desk, "RELEASE")
    assert (ended["reason"], ended["detail"]["reason"]) == ("unreserved", "moved")
    again = desk.danmpy("unreserve", "10.10.0.12", *NET)
    assert (again.code, again.out) == (2, "")
    assert "nobody holds 10.10.0.12" in again.err


def test_a_shared_address_names_its_group(desk: World) -> None:
    groups = ("--shared-by", "blue/lb-*", "--shared-by", "red/lb-0", "--shared-by", "blue/lb-*")
    assert desk.danmpy("reserve", "10.10.0.12", *NET, "--for", "VIP", *groups).code == 0

    assert desk.ask("audit", "who", "10.10.0.12")["holder"]["shared_by"] == [
        "blue/lb-*",
        "red/lb-0",
    ]
    table = desk.danmpy("audit", "history").out
    assert "reserved: VIP, shared by blue/lb-*, red/lb-0" in table


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("reserve", "10.10.0.12", *NET, "--for", " "), 2, "--for needs a few words"),
        (("reserve", "10.10.0.12", *NET, "--for", "x" * 201), 2, "from 1 to 200"),
        (("reserve", "10.10.0", *NET, "--for", "x"), 2, "is not an address"),
        (("reserve", "10.10.0.1", *NET, "--for", "x"), 2, "address 10.10.0.1 is reserved"),
        (("reserve", "10.10.0.12", "--network", "nope", "--for", "x"), 2, "no network is called"),
        (("reserve", "10.10.0.12", *NET, "--for", "x", "--shared-by", "lb"), 2, "no group of pods"),
        (("reserve", "10.10.0.12", *NET), 2, "Missing option '--for'"),
        (("release", "10.10.0.12", *NET), 2, "Missing option '--reason'"),
        (("release", "10.10.0.12", "--reason", "x"), 2, "what to release is not clear"),
        (("release", "--reason", "x"), 2, "what to release is not clear"),
        (("release", "10.10.0.12", *NET, "--node", "a", "--reason", "x"), 2, "not clear"),
        (("release", "--node", "", "--reason", "x"), 2, "no node is named"),
        (("release", "10.10.0.12", *NET, "--reason", "x"), 2, "nobody holds 10.10.0.12"),
    ],
)
def test_what_is_asked_wrongly_is_refused_in_one_line(
    desk: World, words: tuple[str, ...], code: int, said: str
) -> None:
    answer = desk.danmpy(*words)
    assert (answer.code, answer.out, len(answer.lines)) == (code, "", 1), answer
    assert said in answer.err


def test_a_tenants_network_without_a_segment_has_to_wait(desk: World) -> None:
    desk.write("late.yaml", INTERNAL.replace("name: internal", "name: late"))

    answer = desk.danmpy("reserve", "10.10.0.12", "--network", "late", "--for", "x")

    assert answer.code == 1
    assert "its segment is not known" in answer.err


def test_a_pod_that_still_exists_keeps_its_address_unless_forced(desk: World) -> None:
    address = hold(desk, "web")
    declare(desk, "web")
    asked = ("release", address, *NET, "--reason", "stuck")

    refused = desk.danmpy(*asked)
    assert refused.code == 2
    assert f"Pod/blue/web still exists, and holds {address}" in refused.err
    assert "--force" in refused.err

    assert desk.danmpy(*asked, "--force").code == 0
    assert open_leases(desk.settings).held_by("box-web") == ()
    (told,) = events(desk, "RELEASE")
    assert (told["reason"], told["detail"]["reason"]) == ("by hand", "stuck")


def test_a_folder_does_not_tell_that_a_pod_of_another_node_is_gone(desk: World) -> None:
    address = hold(desk, "web", node="node-b")
    asked = ("release", address, *NET, "--reason", "stuck")

    refused = desk.danmpy(*asked)

    assert refused.code == 2
    assert "Pod/blue/web may still run on node node-b" in refused.err
    assert len(open_leases(desk.settings).held_by("box-web")) == 1
    assert desk.danmpy(*asked, "--force").code == 0


def test_the_lease_of_an_earlier_pod_of_the_name_may_be_ended(desk: World) -> None:
    address = hold(desk, "web")
    declare(desk, "web", uid="uid-of-the-next")

    answer = desk.danmpy("release", address, *NET, "--reason", "left over")

    assert answer.code == 0, answer.err


def test_nothing_is_ended_while_it_cannot_be_seen_whether_the_pod_is_gone(desk: World) -> None:
    address = hold(desk, "web")
    desk.write("broken.yaml", "kind: [")

    answer = desk.danmpy("release", address, *NET, "--reason", "x")

    assert answer.code == 1
    assert "whether the pod is gone cannot be seen" in answer.err
    assert len(open_leases(desk.settings).held_by("box-web")) == 1


def test_a_reservation_is_not_released_and_a_lease_not_unreserved(desk: World) -> None:
    address = hold(desk, "web")
    assert desk.danmpy("reserve", "10.10.0.12", *NET, "--for", "x").code == 0

    assert "danmpy unreserve" in desk.danmpy("release", "10.10.0.12", *NET, "--reason", "x").err
    assert "danmpy release" in desk.danmpy("unreserve", address, *NET).err
    assert desk.danmpy("reserve", address, *NET, "--for", "x").code == 2
    assert len(open_leases(desk.settings).held_by("box-web")) == 1


def test_a_second_release_gives_a_claim_up(desk: World) -> None:
    address = hold(desk, "db-0", claim="db-0")
    asked = ("release", address, *NET, "--reason", "scaled down")

    assert "kept for claim blue/db-0\n" in desk.danmpy(*asked).out
    assert "kept for claim blue/db-0 no longer" in desk.danmpy(*asked).out
    assert desk.danmpy(*asked).code == 2
    assert len(events(desk, "UNCLAIM")) == 1


def test_a_lost_node_gives_everything_back(desk: World) -> None:
    for pod in ("web", "db"):
        hold(desk, pod, node="node-b")
    kept = hold(desk, "other")
    asked = ("release", "--node", "node-b", "--reason", "burnt down")

    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-b"}}
    path = desk.write("node.json", json.dumps(node))
    refused = desk.danmpy(*asked)
    assert refused.code == 2
    assert "Node/node-b is still in the cluster" in refused.err
    path.unlink()
    declare(desk, "db")
    assert "Pod/blue/db still exists" in desk.danmpy(*asked).err
    (desk.intent / "pod-db.json").unlink()
    assert "may still run on node node-b: a folder does not tell" in desk.danmpy(*asked).err

    answer = desk.danmpy(*asked, "--force")

    assert answer.code == 0, answer.err
    assert answer.out.endswith("2 leases of node node-b ended\n")
    held = desk.ask("audit", "history")["items"]
    assert [item["address"] for item in held if item["to"] is None] == [f"{kept}/24"]


def test_an_attachment_in_this_nodes_journal_keeps_its_address(desk: World) -> None:
    from danmpy.attach.journal import AttachmentRecord, Journal, Phase
    from danmpy.bootstrap.readers import JOURNAL_FOLDER

    address = hold(desk, "web")
    journal = Journal(desk.settings.state_dir / JOURNAL_FOLDER)
    record = AttachmentRecord(
        container_id="box-web",
        ifname="eth0",
        phase=Phase.ATTACHED,
        netns="/nowhere",
        netns_device=1,
        netns_inode=1,
        netns_cookie=1,
        namespace="blue",
        pod="web",
        pod_uid="uid-web",
        network_name="n",
        began_at=1,
        links=(),
    )
    journal.open()
    try:
        journal.write(record)
    finally:
        journal.close()

    answer = desk.danmpy("release", address, *NET, "--reason", "x")

    assert answer.code == 2
    assert "is attached on this node" in answer.err

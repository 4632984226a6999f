"""Segments of TenantNetworks, on both engines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import Engine, text

from danmpy.api.specs import (
    HostDeviceProfile,
    NetworkKind,
    NetworkSpec,
    SegmentKey,
    SegmentKind,
    TenantConfigSpec,
)
from danmpy.clock import to_rfc3339, wall_clock
from danmpy.db.engine import open_engine, read, write
from danmpy.ipam import segments as segments_module
from danmpy.ipam.nodereports import NodeNetwork, NodeReports
from danmpy.ipam.segments import (
    SEGMENT_ASSIGNED,
    Assignments,
    RecordedSegments,
    SegmentStore,
    StaleLeaderError,
)
from support.specs import cluster_key, danm_key, network, tenant_key


def vxlan(*ranges: tuple[int, int], name: str = "ens4") -> HostDeviceProfile:
    return HostDeviceProfile(name=name, kind=SegmentKind.VXLAN, ids=ranges)


def vlan(*ranges: tuple[int, int], name: str = "ens4") -> HostDeviceProfile:
    return HostDeviceProfile(name=name, kind=SegmentKind.VLAN, ids=ranges)


def config(*profiles: HostDeviceProfile, name: str = "tc", **ids: str) -> TenantConfigSpec:
    return TenantConfigSpec(name=name, host_devices=profiles, network_ids=ids)


def tenant(name: str, namespace: str = "blue", **more: object) -> NetworkSpec:
    return network(tenant_key(name, namespace), **{"host_device": "", **more})


def together(*specs: NetworkSpec) -> dict:
    return {spec.key: spec for spec in specs}


def ids(answer: Assignments) -> dict[str, int | None]:
    return {
        key.name: spec.segment.id if spec.segment else None
        for key, spec in answer.networks.items()
        if key.kind is NetworkKind.TENANT
    }


def reasons(answer: Assignments) -> dict[str, str]:
    return {key.name: condition.reason for key, condition in answer.problems.items()}


SMALL = config(vxlan((700, 702)))


def test_every_tenant_network_gets_the_lowest_free_id_of_the_range(world) -> None:
    answer = world.segments.assign(together(tenant("a"), tenant("b")), [SMALL])

    assert ids(answer) == {"a": 700, "b": 701}
    assert answer.networks[tenant_key("a")].host_device == "ens4"
    assert answer.networks[tenant_key("a")].segment == SegmentKey(
        parent="ens4", kind=SegmentKind.VXLAN, id=700
    )
    assert not answer.problems


def test_asked_again_it_answers_the_same_and_writes_nothing(world) -> None:
    wanted = together(tenant("a"), tenant("b"))
    first = world.segments.assign(wanted, [SMALL])
    before = world.rows("SELECT * FROM segment_assignment"), world.rows("SELECT * FROM event")

    assert world.segments.assign(wanted, [SMALL]) == first
    assert world.segments.current(wanted, [SMALL]) == first
    assert before == (
        world.rows("SELECT * FROM segment_assignment"),
        world.rows("SELECT * FROM event"),
    )


def test_current_tells_what_would_be_assigned_without_assigning_it(world) -> None:
    wanted = together(tenant("a"))

    assert ids(world.segments.current(wanted, [SMALL])) == {"a": 700}
    assert world.rows("SELECT count(*) FROM segment_assignment") == [(0,)]


def test_a_new_network_changes_nothing_for_the_others(world) -> None:
    world.segments.assign(together(tenant("m")), [SMALL])

    assert ids(world.segments.assign(together(tenant("a"), tenant("m")), [SMALL])) == {
        "a": 701,
        "m": 700,
    }


def test_a_freed_id_cools_down_before_another_network_gets_it(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])
    world.wait(60)
    world.segments.assign({}, [SMALL])

    assert ids(world.segments.assign(together(tenant("b")), [SMALL])) == {"b": 701}
    world.wait(601)
    assert ids(world.segments.assign(together(tenant("b"), tenant("c")), [SMALL])) == {
        "b": 701,
        "c": 700,
    }


def test_a_network_that_is_another_object_now_gets_another_id(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])

    again = world.segments.assign(together(tenant("a", uid="another")), [SMALL])

    assert ids(again) == {"a": 701}


def test_a_refused_manifest_keeps_its_assignment(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])
    world.wait(60)

    world.segments.assign({}, [SMALL], keep=frozenset({tenant_key("a")}))

    assert ids(world.segments.assign(together(tenant("a"), tenant("b")), [SMALL])) == {
        "a": 700,
        "b": 701,
    }


def test_what_was_not_read_completely_ends_nothing(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])
    world.wait(60)

    world.segments.assign({}, [SMALL], complete=False)

    assert world.rows("SELECT released_at FROM segment_assignment") == [(None,)]


def test_a_node_that_has_not_seen_a_new_network_yet_does_not_end_its_assignment(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])

    world.segments.assign({}, [SMALL])

    assert ids(world.segments.assign(together(tenant("a")), [SMALL])) == {"a": 700}


def test_ids_that_a_cluster_network_or_a_danmnet_names_are_never_given_to_a_tenant(world) -> None:
    by_hand = network(cluster_key("ext"), vni=700)
    old = network(danm_key("old"), vni=701)

    answer = world.segments.assign(together(by_hand, old, tenant("a"), tenant("b")), [SMALL])

    assert ids(answer) == {"a": 702}
    assert reasons(answer) == {"b": "RangeFull"}
    assert answer.networks[by_hand.key] == by_hand
    assert answer.networks[old.key] == old


def test_an_id_that_a_refused_manifest_claims_is_not_given_to_a_tenant(world) -> None:
    claim = SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=700)

    answer = world.segments.assign(together(tenant("a")), [SMALL], claims=frozenset({claim}))

    assert ids(answer) == {"a": 701}


def test_a_cluster_network_that_comes_later_onto_a_tenants_segment_is_the_one_with_the_problem(
    world,
) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])
    late = network(cluster_key("late"), vni=700)

    answer = world.segments.assign(together(tenant("a"), late), [SMALL])

    assert ids(answer) == {"a": 700}
    condition = answer.problems[late.key]
    assert (condition.type, condition.reason) == (SEGMENT_ASSIGNED, "SegmentTaken")
    assert "TenantNetwork/blue/a" in condition.message
    assert late.key not in answer.networks


def test_a_vni_is_one_wire_whatever_its_parent(world) -> None:
    offers = config(vxlan((700, 702)), vxlan((700, 702), name="ens5"))
    wanted = together(tenant("a", host_device="ens4"), tenant("b", host_device="ens5"))
    late = network(cluster_key("late"), vni=701)

    answer = world.segments.assign({**wanted, late.key: late}, [offers])
    elsewhere = SegmentKey(parent="ens6", kind=SegmentKind.VXLAN, id=700)
    later = network(cluster_key("later"), segment=elsewhere)
    again = world.segments.assign({**wanted, later.key: later}, [offers])

    assert ids(answer) == ids(again) == {"a": 700, "b": 702}
    assert reasons(again) == {"later": "SegmentTaken"}


def test_a_vlan_id_is_another_wire_on_another_parent(world) -> None:
    offers = config(vlan((10, 20)), vlan((10, 20), name="ens5"))
    wanted = together(tenant("a", host_device="ens4"), tenant("b", host_device="ens5"))

    assert ids(world.segments.assign(wanted, [offers])) == {"a": 10, "b": 10}


def test_networks_set_by_hand_may_share_a_segment(world) -> None:
    shared = [
        network(cluster_key("one"), vni=300),
        network(cluster_key("two"), vni=300),
        network(danm_key("x", "red"), vni=300),
        network(danm_key("y", "blue"), vni=300),
    ]

    assert not world.segments.assign(together(*shared), [SMALL]).problems


def test_a_full_range_says_which_and_how_full(world) -> None:
    by_hand = network(cluster_key("ext"), vni=702)
    wanted = together(by_hand, tenant("a"), tenant("b"), tenant("c"))

    answer = world.segments.assign(wanted, [SMALL])

    assert reasons(answer) == {"c": "RangeFull"}
    message = answer.problems[tenant_key("c")].message
    assert "vxlan 700-702 on ens4: 2 of 3 assigned, 1 set by hand, 0 cooling down" in message


def test_a_named_device_is_used_and_one_that_nobody_offers_is_refused_with_the_names(world) -> None:
    offers = config(vxlan((700, 702)), vlan((10, 20), name="ens5"))

    answer = world.segments.assign(
        together(tenant("a", host_device="ens5"), tenant("b", host_device="ens9")), [offers]
    )

    assert answer.networks[tenant_key("a")].segment == SegmentKey(
        parent="ens5", kind=SegmentKind.VLAN, id=10
    )
    assert reasons(answer) == {"b": "DeviceNotAllowed"}
    assert "ens4, ens5" in answer.problems[tenant_key("b")].message


def test_of_two_profiles_of_one_device_the_first_with_room_is_taken(world) -> None:
    offers = config(vlan((10, 10)), vxlan((700, 700)))
    wanted = together(*(tenant(name, host_device="ens4") for name in "abc"))

    answer = world.segments.assign(wanted, [offers])

    assert [str(spec.segment) for spec in answer.networks.values()] == [
        "vlan:ens4:10",
        "vxlan:ens4:700",
    ]
    assert reasons(answer) == {"c": "RangeFull"}


def test_without_a_named_device_any_nic_with_room_will_do_but_no_device_pool(world) -> None:
    offers = config(
        HostDeviceProfile(name="intel.com/sriov"),
        vlan((10, 10), name="ens5"),
        vxlan((700, 700)),
    )

    answer = world.segments.assign(together(tenant("a"), tenant("b"), tenant("c")), [offers])

    assert [spec.host_device for spec in answer.networks.values()] == ["ens5", "ens4"]
    assert reasons(answer) == {"c": "RangeFull"}


def test_a_device_pool_gives_the_vlan_and_no_host_device(world) -> None:
    offers = config(vlan((10, 20), name="intel.com/sriov"))
    wanted = tenant("a", backend="sriov", device_pool="intel.com/sriov")

    (answer,) = world.segments.assign(together(wanted), [offers]).networks.values()

    assert (answer.host_device, answer.device_pool) == ("", "intel.com/sriov")
    assert answer.segment is not None
    assert answer.segment.id == 10


def test_a_profile_without_ids_gives_the_bare_device_to_many(world) -> None:
    offers = config(HostDeviceProfile(name="ens6"))

    answer = world.segments.assign(together(tenant("a"), tenant("b")), [offers])

    assert [(s.host_device, s.segment) for s in answer.networks.values()] == [("ens6", None)] * 2


def test_without_a_tenant_config_dynamic_types_have_a_problem_and_others_do_not(world) -> None:
    answer = world.segments.assign(
        together(tenant("a"), tenant("b", backend="bridge", host_device="eth0")), []
    )

    assert reasons(answer) == {"a": "NoTenantConfig"}
    bridge = answer.networks[tenant_key("b")]
    assert (bridge.host_device, bridge.segment) == ("", None)


def test_network_ids_of_the_tenant_config_overwrite_those_of_the_network(world) -> None:
    offers = config(vxlan((700, 702)), macvlan="mapped", flannel="cluster-wide")
    plain = tenant("c", backend="MyPlugin", network_id="")

    answer = world.segments.assign(
        together(tenant("a"), tenant("b", backend="Flannel", network_id=""), plain), [offers]
    )

    assert answer.networks[tenant_key("a")].network_id == "mapped"
    assert answer.networks[tenant_key("b")].network_id == "cluster-wide"
    assert reasons(answer) == {"c": "NetworkIdMissing"}


def test_several_tenant_configs_count_as_one_in_the_order_of_their_names(world) -> None:
    second = config(vxlan((900, 900)), name="b", macvlan="second")
    first = config(vxlan((700, 700)), name="a", macvlan="first")

    answer = world.segments.assign(together(tenant("x"), tenant("y")), [second, first])

    assert ids(answer) == {"x": 700, "y": 900}
    assert answer.networks[tenant_key("x")].network_id == "first"


@pytest.mark.parametrize("later", [[config(vxlan((800, 900)))], [config()], []])
def test_a_tenant_config_that_shrinks_or_goes_takes_nothing_away(world, later) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])

    assert ids(world.segments.assign(together(tenant("a")), later)) == {"a": 700}


def test_asking_for_another_device_moves_the_network(world) -> None:
    offers = config(vxlan((700, 702)), vxlan((700, 702), name="ens5"))
    world.segments.assign(together(tenant("a", host_device="ens4")), [offers])

    moved = world.segments.assign(together(tenant("a", host_device="ens5")), [offers])

    assert str(moved.networks[tenant_key("a")].segment) == "vxlan:ens5:701"
    assert world.rows("SELECT count(*) FROM segment_assignment WHERE released_at IS NULL") == [(1,)]


def test_a_network_that_asks_for_a_forbidden_device_keeps_what_it_has_meanwhile(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])

    refused = world.segments.assign(together(tenant("a", host_device="ens9")), [SMALL])

    assert reasons(refused) == {"a": "DeviceNotAllowed"}
    assert [str(segment) for segment in refused.kept] == ["vxlan:ens4:700"]
    assert ids(world.segments.assign(together(tenant("a")), [SMALL])) == {"a": 700}


def test_a_network_that_needs_no_segment_any_more_gives_it_back(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])

    world.segments.assign(together(tenant("a", backend="bridge")), [SMALL])

    assert world.rows("SELECT count(*) FROM segment_assignment WHERE released_at IS NULL") == [(0,)]


def test_assignments_and_releases_are_in_the_ledger(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])
    world.wait(60)
    world.segments.assign({}, [SMALL])

    assert world.rows("SELECT kind, network, domain, namespace FROM event ORDER BY seq") == [
        ("SEGMENT_ASSIGN", "TenantNetwork/blue/a", "vxlan:ens4:700", "blue"),
        ("SEGMENT_RELEASE", "TenantNetwork/blue/a", "vxlan:ens4:700", "blue"),
    ]


def test_two_assigners_of_one_database_never_give_one_id_twice(world, database_url) -> None:
    offers = [config(vxlan((700, 739)))]
    start = threading.Barrier(4)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        engine = open_engine(database_url)
        try:
            store = SegmentStore(engine, wall_clock)
            wanted: dict = {}
            start.wait(timeout=10)
            for count in range(10):
                wanted |= together(tenant(f"n{number}-{count}"))
                store.assign(wanted, offers, complete=False)
        except BaseException as error:
            errors.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert not errors
    query = "SELECT count(*), count(DISTINCT number) FROM segment_assignment"
    assert world.rows(f"{query} WHERE released_at IS NULL") == [(40, 40)]


@pytest.mark.parametrize("count", [5, 500])
def test_networks_that_did_not_change_cost_a_few_reads_however_many(
    world, statements, count
) -> None:
    offers = [config(vxlan((1, 5000)))]
    wanted = together(*(tenant(f"n{number}") for number in range(count)))
    world.segments.assign(wanted, offers)

    statements.clear()
    world.segments.assign(wanted, offers)

    assert len(statements) <= 5, statements
    assert set(statements) <= {"BEGIN", "SELECT"}


def test_the_assigned_segment_is_the_collision_domain_of_the_addresses(world) -> None:
    wanted = together(replace(tenant("a"), v4=None))
    (spec,) = world.segments.assign(wanted, [SMALL]).networks.values()

    assert spec.domain == "vxlan:ens4:700"


def blue_only(*profiles: HostDeviceProfile, name: str = "blue") -> TenantConfigSpec:
    return TenantConfigSpec(name=name, host_devices=profiles, namespaces=frozenset({"blue"}))


def test_a_namespace_that_a_config_names_uses_that_config_alone(world) -> None:
    offers = [SMALL, blue_only(vlan((10, 10)))]
    wanted = together(tenant("a"), tenant("b"), tenant("c", "red"), tenant("d", host_device="ens4"))

    answer = world.segments.assign(wanted, offers)

    assert ids(answer) == {"a": 10, "c": 700}
    assert reasons(answer) == {"b": "RangeFull", "d": "RangeFull"}


def test_a_namespace_that_no_config_serves_is_told_so(world) -> None:
    answer = world.segments.assign(together(tenant("a", "red")), [blue_only(vlan((10, 10)))])

    (problem,) = answer.problems.values()
    assert problem.reason == "NoTenantConfig"
    assert "no TenantConfig serves namespace red" in problem.message


def test_a_config_for_its_namespace_takes_nothing_away_that_it_has(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])

    later = [SMALL, blue_only(vlan((10, 19)))]
    answer = world.segments.assign(together(tenant("a"), tenant("b")), later)
    assert ids(answer) == {"a": 700, "b": 10}


# What is recorded.


def test_stored_tells_what_is_recorded_and_never_chooses(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])
    before = world.rows("SELECT * FROM segment_assignment"), world.rows("SELECT * FROM event")
    wanted = together(tenant("a"), tenant("b"), tenant("c", backend="bridge"))

    answer = world.segments.stored(wanted, [SMALL])

    assert ids(answer) == {"a": 700, "c": None}
    assert answer.networks[tenant_key("a")].host_device == "ens4"
    assert reasons(answer) == {"b": "AssignmentPending"}
    assert "controller" in answer.problems[tenant_key("b")].message
    assert before == (
        world.rows("SELECT * FROM segment_assignment"),
        world.rows("SELECT * FROM event"),
    )


def test_stored_needs_no_tenant_config_for_what_is_assigned(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])

    assert ids(world.segments.stored(together(tenant("a")), [])) == {"a": 700}


def test_a_record_of_an_earlier_object_of_the_name_counts_as_none(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])
    world.wait(60)

    answer = world.segments.stored(together(tenant("a", uid="another")), [SMALL])
    assert reasons(answer) == {"a": "AssignmentPending"}
    assert answer.kept == frozenset()
    assert [item.network for item in world.segments.assigned()] == ["TenantNetwork/blue/a"]


def test_a_network_that_asks_for_another_device_waits_and_its_device_stays(world) -> None:
    offers = [config(vxlan((700, 702)), vlan((10, 19), name="ens5"))]
    answer = world.segments.assign(together(tenant("a", host_device="ens4")), offers)
    segment = answer.networks[tenant_key("a")].segment

    moved = world.segments.stored(together(tenant("a", host_device="ens5")), offers)
    assert reasons(moved) == {"a": "AssignmentPending"}
    assert moved.kept == {segment}


def test_a_network_that_is_not_seen_keeps_its_record_and_its_wire(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL])
    world.wait(60)

    late = network(cluster_key("c"), vni=700)
    answer = world.segments.stored(together(late), [SMALL])
    assert reasons(answer) == {"c": "SegmentTaken"}
    kept = world.segments.stored({}, [SMALL], keep=frozenset({tenant_key("a")})).kept
    assert [segment.id for segment in kept] == [700]


def test_nodes_of_a_cluster_go_by_the_record(world) -> None:
    recorded = RecordedSegments(world.segments)
    wanted = together(tenant("a"), tenant("b"))
    world.segments.assign(together(tenant("a")), [SMALL])
    asked = {"keep": frozenset(), "claims": frozenset(), "nodes": frozenset({"n"})}

    assert recorded.assign(wanted, [SMALL], **asked, complete=True) == world.segments.stored(
        wanted, [SMALL]
    )
    assert ids(recorded.current(wanted, [SMALL], **asked)) == {"a": 700}
    recorded.assign({}, [SMALL], **asked, complete=True)
    assert len(world.segments.assigned()) == 1


# Ids that nodes still have devices for.

ONE = config(vxlan((700, 700)))


def report(world, node: str, segment: str = "vxlan:ens4:700") -> NodeReports:
    reports = NodeReports(world.engine, world.clock)
    reports.write(node, {"x": NodeNetwork(network="x", segment=segment, device="vx", ready=True)})
    return reports


def test_a_released_id_rests_until_no_node_has_its_device(world) -> None:
    nodes = frozenset({"n1", "n2", "n3"})
    world.segments.assign(together(tenant("a")), [ONE], nodes=nodes)
    for node in ("n1", "n2", "gone"):
        report(world, node)
    world.wait(60)
    world.segments.assign({}, [ONE], nodes=nodes)
    world.wait(700)

    wanted = together(tenant("b"))
    answer = world.segments.assign(wanted, [ONE], nodes=nodes)
    assert reasons(answer) == {"b": "RangeFull"}
    message = answer.problems[tenant_key("b")].message
    assert "1 released but still on nodes (vxlan 700 on n1 and others)" in message
    assert reasons(world.segments.current(wanted, [ONE], nodes=nodes)) == {"b": "RangeFull"}

    report(world, "n1", segment="")
    answer = world.segments.assign(wanted, [ONE], nodes=nodes)
    assert "(vxlan 700 on n2)" in answer.problems[tenant_key("b")].message
    # A node that is no more blocks nothing.
    assert ids(world.segments.assign(wanted, [ONE], nodes=nodes - {"n2"})) == {"b": 700}


def test_without_nodes_only_the_cool_down_counts(world) -> None:
    report(world, "n1")

    assert ids(world.segments.assign(together(tenant("a")), [ONE])) == {"a": 700}


def test_a_vni_that_a_node_has_on_another_parent_is_the_same_wire(world) -> None:
    report(world, "n1", "vxlan:ens9:700")

    answer = world.segments.assign(together(tenant("a")), [SMALL], nodes=frozenset({"n1"}))
    assert ids(answer) == {"a": 701}


@pytest.mark.parametrize("text", ["nonsense", "vxlan:ens4:x", "vlan:ens4:700", ":::"])
def test_other_words_of_nodes_block_nothing(world, text) -> None:
    report(world, "n1", text)

    answer = world.segments.assign(together(tenant("a")), [ONE], nodes=frozenset({"n1"}))
    assert ids(answer) == {"a": 700}


def test_a_device_that_nodes_have_for_its_holder_takes_nothing_away(world) -> None:
    wanted, nodes = together(tenant("a"), tenant("b")), frozenset({"n1"})
    world.segments.assign(together(tenant("a")), [SMALL])
    report(world, "n1")

    assert ids(world.segments.assign(wanted, [SMALL], nodes=nodes)) == {"a": 700, "b": 701}


def test_a_full_range_says_until_when_ids_cool_down_and_says_the_same_again(world) -> None:
    world.segments.assign(together(tenant("a")), [ONE])
    world.wait(60)

    first = world.segments.assign(together(tenant("b")), [ONE])
    ready = world.rows("SELECT ready_at FROM segment_assignment")[0][0]
    message = first.problems[tenant_key("b")].message
    assert f"1 cooling down (the first until {to_rfc3339(ready)})" in message
    assert world.segments.assign(together(tenant("b")), [ONE]) == first


@pytest.mark.parametrize("seconds", [0, 30])
def test_the_cool_down_is_as_long_as_it_is_set(world, seconds) -> None:
    store = SegmentStore(world.engine, world.clock, seconds)
    store.assign(together(tenant("a")), [ONE])
    world.wait(60)
    answer = store.assign({}, [ONE])

    if seconds:
        assert ids(store.assign(together(tenant("b")), [ONE])) == {}
        world.wait(seconds + 1)
    answer = store.assign(together(tenant("b")), [ONE])
    assert ids(answer) == {"b": 700}


@pytest.fixture
def server(postgresql_url) -> Iterator[Engine]:
    """PostgreSQL, for what SQLite with its one writer does not have."""
    made = open_engine(postgresql_url)
    yield made
    made.dispose()


def test_a_vacuum_of_the_table_and_an_assignment_do_not_wait_for_each_other(
    server, postgresql_url
) -> None:
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as vacuum:
        # What VACUUM takes (PostgreSQL 15 manual, 13.3.1).
        vacuum.execute("LOCK TABLE segment_assignment IN SHARE UPDATE EXCLUSIVE MODE")
        answer = SegmentStore(server, wall_clock).assign(together(tenant("a")), [SMALL])
        vacuum.rollback()
    assert ids(answer) == {"a": 700}


def test_of_many_nodes_one_is_named_for_each_segment(server) -> None:
    nodes = [f"node-{number:02}" for number in range(30)]
    with write(server) as connection:
        connection.execute(text(MANY), {"nodes": nodes})
    with read(server) as connection:
        found = segments_module._reported(connection, frozenset(nodes[5:]))
    assert len(found) == 100
    assert {str(remains) for remains in found.values()} == {"node-05 and others"}


MANY = """
    INSERT INTO node_network (node, network, segment, ready)
    SELECT node, 'network-' || number, 'vxlan:ens4:' || number, 1
    FROM unnest(CAST(:nodes AS text[])) AS node, generate_series(1, 100) AS number
"""


# Terms.


def test_a_leader_whose_term_is_over_changes_nothing(world) -> None:
    world.segments.assign(together(tenant("a")), [SMALL], term=3)
    world.segments.assign(together(tenant("a")), [SMALL], term=4)
    world.wait(60)
    before = world.rows("SELECT * FROM segment_assignment"), world.rows("SELECT * FROM meta")

    for wanted in (together(tenant("a")), together(tenant("b")), {}):
        with pytest.raises(StaleLeaderError, match="term 3 is over: a controller of term 4"):
            world.segments.assign(wanted, [SMALL], term=3)
    assert before == (
        world.rows("SELECT * FROM segment_assignment"),
        world.rows("SELECT * FROM meta"),
    )


def test_a_new_term_counts_from_its_first_look_also_when_nothing_had_to_be_written(world) -> None:
    world.segments.assign({}, [SMALL], term=9)
    stored = world.rows("SELECT value FROM meta WHERE key = 'segment_term'")
    assert stored == [("9",)]

    world.segments.assign({}, [SMALL], term=10)
    with pytest.raises(StaleLeaderError):
        world.segments.assign(together(tenant("a")), [SMALL], term=9)
    assert ids(world.segments.assign(together(tenant("a")), [SMALL], term=10)) == {"a": 700}


def test_who_has_no_term_may_assign_whatever_the_last_one_was(world) -> None:
    world.segments.assign({}, [SMALL], term=9)

    assert ids(world.segments.assign(together(tenant("a")), [SMALL])) == {"a": 700}


def test_a_leader_that_slept_in_the_middle_of_its_look_is_stopped_at_its_write(
    world, database_url, monkeypatch
) -> None:
    """The term is looked at again behind the lock: the look before it proves nothing."""
    stale = SegmentStore(world.engine, world.clock)
    stale.assign({}, [SMALL], term=1)
    other = open_engine(database_url)
    real = segments_module.run_write

    def sleep_first(engine, work):
        monkeypatch.setattr(segments_module, "run_write", real)
        SegmentStore(other, world.clock).assign(together(tenant("b")), [SMALL], term=2)
        return real(engine, work)

    monkeypatch.setattr(segments_module, "run_write", sleep_first)
    try:
        with pytest.raises(StaleLeaderError):
            stale.assign(together(tenant("a")), [SMALL], term=1)
    finally:
        other.dispose()
    assert [item.network for item in world.segments.assigned()] == ["TenantNetwork/blue/b"]

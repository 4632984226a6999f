"""Binding and releasing addresses, on both engines."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from sqlalchemy import event

from danmpy.errors import ConflictError, ExhaustedError, IntentError, NotReadyError
from danmpy.ipam import binding
from danmpy.ipam.audit import HistoryFilter
from danmpy.ipam.leases import EndReason, LeaseRequest
from support.leasing import COOLDOWN, owner
from support.specs import DYNAMIC, NONE, cluster_key, network, pool, static, tenant_key

NET = network(tenant_key("internal"), v4="10.0.0.0/29", v6="2001:db8::/64", vni=700)
SECOND = network(tenant_key("second"), v4="10.1.0.0/29", vni=701)
BASE = int(ip_address("10.0.0.0"))


@pytest.fixture(autouse=True)
def sound(world):
    """Whatever a test did, the tables must keep their promises and agree with the ledger."""
    yield
    assert world.audit.violations() == ()
    if not world.moved:
        report = world.ledger.verify()
        assert report.ok, str(report)


def request(net=NET, interface="net1", **more) -> LeaseRequest:
    return LeaseRequest(interface=interface, network=net, **({"ip": DYNAMIC} | more))


def addresses(leases) -> list[str]:
    return [str(lease.address) for lease in leases]


def test_all_interfaces_and_families_are_bound_in_the_order_asked(world) -> None:
    leases = world.leases.bind(
        owner(), [request(SECOND, "net2"), request(NET, "net1", ip6=DYNAMIC)]
    )

    assert addresses(leases) == ["10.1.0.1/29", "10.0.0.1/29", "2001:db8::1/64"]
    assert world.leases.held_by("container-web-0") == tuple(sorted(leases, key=lambda x: x.id))
    assert set(world.held_on("node-a")) == set(leases)
    assert world.held_on("node-b") == ()


def test_nothing_asked_is_nothing_bound(world) -> None:
    assert world.leases.bind(owner(), [request(ip=NONE)]) == ()


def test_asked_again_it_gives_the_same_leases_and_records_nothing(world) -> None:
    first = world.leases.bind(owner(), [request(), request(SECOND, "net2")])
    events = world.rows("SELECT count(*) FROM event")

    assert world.leases.bind(owner(), [request(), request(SECOND, "net2")]) == first
    assert world.rows("SELECT count(*) FROM event") == events


def test_asked_again_with_one_interface_more_it_binds_only_that(world) -> None:
    (first,) = world.leases.bind(owner(), [request()])

    again = world.leases.bind(owner(), [request(), request(SECOND, "net2")])

    assert again[0] == first
    assert addresses(again) == ["10.0.0.1/29", "10.1.0.1/29"]


def test_asking_again_for_something_else_is_a_conflict(world) -> None:
    world.leases.bind(owner(), [request()])

    with pytest.raises(ConflictError, match="already holds"):
        world.leases.bind(owner(), [request(ip=static("10.0.0.5"))])
    with pytest.raises(ConflictError, match="already holds"):
        world.leases.bind(owner(), [request(SECOND, "net1")])


def test_a_full_pool_undoes_the_whole_bind_and_says_which_pool_and_until_when(world) -> None:
    for number in range(6):
        world.bind(NET, f"p{number}")

    with pytest.raises(ExhaustedError) as caught:
        world.leases.bind(owner("late"), [request(SECOND, "net2"), request(NET)])

    assert world.leases.held_by("container-late") == ()
    assert "10.0.0.1-10.0.0.6 is full: 6 of 6 addresses held, 0 cooling" in caught.value.message
    assert caught.value.subject == "TenantNetwork/blue/internal"
    world.leases.release("container-p0")
    with pytest.raises(ExhaustedError, match=r"is ready in (119|120) s"):
        world.bind(NET, "late")


def test_gateways_reserved_and_excluded_addresses_are_handed_out_to_nobody(world) -> None:
    low = BASE
    guarded = replace(
        NET,
        v4=replace(
            pool("10.0.0.0/29"),
            reserved=((low, low + 1), (low + 7, low + 7)),
            excluded=((low + 3, low + 4),),
        ),
    )

    got = [world.bind(guarded, f"p{number}") for number in range(3)]

    assert addresses(got) == ["10.0.0.2/29", "10.0.0.5/29", "10.0.0.6/29"]
    with pytest.raises(ExhaustedError):
        world.bind(guarded, "late")
    for text, word in (("10.0.0.1", "reserved"), ("10.0.0.3", "excluded"), ("10.0.1.1", "outside")):
        with pytest.raises(IntentError, match=word):
            world.bind(guarded, "late", static(text))


def test_a_family_without_subnet_cannot_be_asked_for(world) -> None:
    with pytest.raises(IntentError, match="no IPv6 subnet"):
        world.leases.bind(owner(), [request(SECOND, ip6=DYNAMIC)])


def test_one_pod_cannot_ask_twice_for_one_interface_or_one_address(world) -> None:
    with pytest.raises(IntentError, match="asks for already"):
        world.leases.bind(owner(), [request(), request()])
    one = request(ip=static("10.0.0.5"))
    with pytest.raises(IntentError, match="asks for already"):
        world.leases.bind(owner(), [one, replace(one, interface="net2")])


def test_a_static_address_of_another_pod_is_a_conflict_that_names_the_holder(world) -> None:
    world.bind(NET, "first", static("10.0.0.5"))

    with pytest.raises(ConflictError, match="held by Pod/blue/first") as caught:
        world.bind(NET, "second", static("10.0.0.5"))
    assert "node-a" in caught.value.message


def test_dynamic_requests_step_over_static_addresses(world) -> None:
    world.bind(NET, "a", static("10.0.0.1"))
    both = [request(ip=DYNAMIC), request(interface="net2", ip=static("10.0.0.2"))]

    leases = world.leases.bind(owner("b"), both)

    assert addresses(leases) == ["10.0.0.3/29", "10.0.0.2/29"]


def test_a_released_address_rests_and_is_then_handed_out_again_oldest_first(world) -> None:
    for number in range(6):
        world.bind(NET, f"p{number}")
    world.leases.release("container-p3")
    world.wait(1)
    world.leases.release("container-p1")
    world.wait(119)

    assert str(world.bind(NET, "x").address.ip) == "10.0.0.4"
    with pytest.raises(ExhaustedError):
        world.bind(NET, "y")
    world.wait(2)
    assert str(world.bind(NET, "y").address.ip) == "10.0.0.2"


def test_fresh_addresses_come_before_those_that_were_used(world) -> None:
    world.bind(NET, "a")
    world.leases.release("container-a")
    world.wait(500)

    assert str(world.bind(NET, "b").address.ip) == "10.0.0.2"


def test_a_static_address_that_rests_is_refused_to_others_and_given_back_to_its_pod(world) -> None:
    world.bind(NET, "db-0", static("10.0.0.5"))
    world.leases.release("container-db-0")

    with pytest.raises(NotReadyError, match="cooling down after Pod/blue/db-0"):
        world.bind(NET, "other", static("10.0.0.5"))
    again = world.bind(NET, "db-0", static("10.0.0.5"), pod_uid="new", container_id="new")
    assert str(again.address.ip) == "10.0.0.5"


def test_a_new_sandbox_of_the_same_pod_takes_the_addresses_over(world) -> None:
    first = world.leases.bind(owner(), [request(ip6=DYNAMIC), request(SECOND, "net2")])

    second = world.leases.bind(
        owner(container_id="again"), [request(ip6=DYNAMIC), request(SECOND, "net2")]
    )

    assert addresses(first) == addresses(second)
    assert world.leases.held_by("container-web-0") == ()
    assert world.leases.release("container-web-0") == ()
    assert len(world.leases.held_by("again")) == 3
    ended = world.audit.history(HistoryFilter(network="internal"))
    assert [lease.end_reason for lease in ended] == ["rebound", None, "rebound", None]


def test_another_pod_of_the_same_name_gets_its_own_address(world) -> None:
    world.bind(NET, "web-0")

    other = world.bind(NET, "web-0", pod_uid="another", container_id="another")

    assert str(other.address.ip) == "10.0.0.2"


def test_a_new_sandbox_whose_interface_is_on_another_network_now_gets_a_new_address(world) -> None:
    world.leases.bind(owner(), [request(NET, "net1")])

    (moved,) = world.leases.bind(owner(container_id="again"), [request(SECOND, "net1")])

    assert str(moved.address) == "10.1.0.1/29"
    assert addresses(world.leases.held_by("container-web-0")) == ["10.0.0.1/29"]


def test_a_static_address_passes_on_to_another_interface_of_the_same_pod(world) -> None:
    world.leases.bind(owner(), [request(ip=static("10.0.0.5"))])

    moved = world.leases.bind(
        owner(container_id="again"),
        [request(interface="net1"), request(interface="net2", ip=static("10.0.0.5"))],
    )

    assert addresses(moved) == ["10.0.0.1/29", "10.0.0.5/29"]


def test_an_address_that_is_excluded_meanwhile_does_not_pass_on(world) -> None:
    world.bind(NET)
    guarded = replace(NET, v4=replace(pool("10.0.0.0/29"), excluded=((BASE + 1, BASE + 1),)))

    lease = world.bind(guarded, container_id="again")

    assert str(lease.address.ip) == "10.0.0.2"
    assert world.leases.held_by("container-web-0") == ()
    (ended, _) = world.audit.history(HistoryFilter(pod="web-0"))
    assert ended.end_reason == EndReason.REPLACED


def test_what_passes_on_is_not_handed_out_a_second_time_when_the_pool_was_changed(world) -> None:
    world.leases.bind(owner(), [request()])
    reshaped = replace(NET, v4=replace(pool("10.0.0.0/29"), excluded=((BASE + 6, BASE + 6),)))

    again = world.leases.bind(
        owner(container_id="again"), [request(reshaped), request(reshaped, "net2")]
    )

    assert addresses(again) == ["10.0.0.1/29", "10.0.0.2/29"]


def test_a_failed_attachment_gets_the_same_address_when_it_is_tried_again(world) -> None:
    first = world.bind(NET)
    world.leases.release("container-web-0", reason=EndReason.ROLLBACK)

    again = world.bind(NET, container_id="again")

    assert again.address == first.address
    assert str(world.bind(NET, "other").address.ip) == "10.0.0.2"


def test_what_a_failed_attachment_gave_back_is_not_for_other_pods(world) -> None:
    world.bind(NET)
    world.leases.release("container-web-0", reason=EndReason.ROLLBACK)

    assert str(world.bind(NET, "other").address.ip) == "10.0.0.2"


def test_release_closes_only_what_its_own_container_holds(world) -> None:
    world.bind(NET, "a")
    world.bind(NET, "b")

    (ended,) = world.leases.release("container-a", reason="test")

    assert (ended.pod, ended.end_reason) == ("a", "test")
    assert ended.to is not None
    assert world.leases.release("container-a") == ()
    assert world.leases.release("unknown") == ()
    assert len(world.leases.held_by("container-b")) == 1


def test_an_interface_that_is_unplugged_gives_back_only_its_own(world) -> None:
    world.leases.bind(owner("a"), [request(NET, "eth0"), request(NET, "eth1")])
    world.leases.bind(owner("b"), [request(NET, "eth1")])

    (ended,) = world.leases.release_interface("container-a", "eth1")

    assert (ended.interface, ended.pod, ended.end_reason) == ("eth1", "a", "unplugged")
    assert [each.interface for each in world.leases.held_by("container-a")] == ["eth0"]
    assert [each.interface for each in world.leases.held_by("container-b")] == ["eth1"]
    assert world.leases.release_interface("container-a", "eth1") == ()
    assert world.rows("SELECT count(*) FROM freed") == [(1,)]


def test_a_release_that_is_recorded_late_ends_the_lease_when_it_really_ended(world) -> None:
    lease = world.bind(NET)
    world.wait(100)
    now = world.now()

    (ended,) = world.leases.release("container-web-0", at=now - 50_000_000)

    assert ended.to == now - 50_000_000
    assert world.rows("SELECT ready_at FROM freed") == [(now + 70_000_000,)]
    assert lease.to is None


@pytest.mark.parametrize("shift", [-1_000_000_000, 1_000_000_000])
def test_a_late_release_lies_between_the_start_of_the_lease_and_now(world, shift) -> None:
    world.bind(NET)

    (ended,) = world.leases.release("container-web-0", at=world.now() + shift)

    assert ended.from_ <= ended.to <= world.now()


def test_the_mac_address_is_noted_once(world) -> None:
    world.bind(NET)
    for _ in range(2):
        world.leases.record_mac("container-web-0", "net1", "02:00:00:00:00:01")

    assert world.leases.held_by("container-web-0")[0].mac == "02:00:00:00:00:01"
    assert world.rows("SELECT count(*) FROM event WHERE kind = 'CONFIRM'") == [(1,)]


def test_networks_on_one_segment_share_their_addresses(world) -> None:
    twin = network(cluster_key("twin"), v4="10.0.0.0/29", vni=700)

    got = [world.bind(net, f"p{n}") for n, net in enumerate((NET, twin, NET, twin))]

    assert len(set(addresses(got))) == 4


def test_a_network_takes_what_another_one_of_its_segment_gave_back(world) -> None:
    twin = network(cluster_key("twin"), v4="10.0.0.0/29", vni=700)
    for number in range(6):
        world.bind(NET, f"p{number}")
    world.leases.release("container-p2")
    world.wait(200)

    assert str(world.bind(twin, "x").address.ip) == "10.0.0.3"


def test_an_address_that_a_twin_took_and_gave_back_behind_our_back_rests_all_the_same(
    world, monkeypatch
) -> None:
    """Between the look of a bind and its insert, in another transaction: only PostgreSQL can."""
    twin = network(cluster_key("twin"), v4="10.0.0.0/29", vni=700)
    world.leases._shortcut = None  # which leaves nothing in between
    real_take = binding.take
    meanwhile = []

    def take(connection, opened, *more):
        picks = real_take(connection, opened, *more)
        if world.is_postgresql and not meanwhile:
            meanwhile.append(picks)
            world.bind(twin, "quick")
            world.leases.release("container-quick")
        return picks

    monkeypatch.setattr(binding, "take", take)

    lease = world.bind(NET, "slow")

    assert str(lease.address.ip) == ("10.0.0.2" if world.is_postgresql else "10.0.0.1")


def test_networks_on_different_segments_do_not_disturb_each_other(world) -> None:
    other = network(tenant_key("internal", "red"), v4="10.0.0.0/29", vni=900)

    assert world.bind(NET, "a").address == world.bind(other, "b").address


def test_a_pool_that_is_widened_in_use_goes_on_with_the_new_addresses(world) -> None:
    narrow = replace(NET, v4=replace(pool("10.0.0.0/29"), first=BASE + 2, last=BASE + 3))
    got = [world.bind(narrow, "a"), world.bind(narrow, "b")]
    with pytest.raises(ExhaustedError):
        world.bind(narrow, "c")

    got += [world.bind(NET, name) for name in "cdef"]

    assert len({lease.address for lease in got}) == 6


@pytest.mark.parametrize(
    "after",
    [NET, replace(NET, v4=pool("9.0.0.0/29")), replace(NET, v4=pool("11.0.0.0/29"))],
    ids=["widened", "moved down", "moved up"],
)
def test_a_repeated_add_after_a_change_of_the_pool_does_not_lose_the_new_addresses(
    world, after
) -> None:
    narrow = replace(NET, v4=replace(pool("10.0.0.0/29"), first=BASE + 2, last=BASE + 3))
    got = [world.bind(narrow, "a"), world.bind(narrow, "b")]

    assert world.bind(after, "a") == got[0]
    got += [world.bind(after, name) for name in "cdef"]

    assert len({lease.address for lease in got}) == 6


def test_a_pool_that_is_narrowed_in_use_hands_out_none_of_the_old_addresses(world) -> None:
    for number in range(6):
        world.bind(NET, f"p{number}")
    narrow = replace(NET, v4=replace(pool("10.0.0.0/29"), first=BASE + 5, last=BASE + 6))
    for number in range(6):
        world.leases.release(f"container-p{number}")
    world.wait(500)

    got = [world.bind(narrow, "x"), world.bind(narrow, "y")]

    assert {str(lease.address.ip) for lease in got} == {"10.0.0.5", "10.0.0.6"}
    with pytest.raises(ExhaustedError):
        world.bind(narrow, "z")


def test_what_a_bind_asks_about_static_addresses_is_found_by_index(world) -> None:
    """Of two pairs: for a list of pairs SQLite would read every open lease and freed address."""
    if world.is_postgresql:
        return  # its plans hang on how much is stored, and an empty table is read whole
    seen: list[tuple[str, Any]] = []

    def note(_connection, _cursor, statement, parameters, *_more) -> None:
        if statement.startswith(("SELECT lease.", "SELECT freed.")):
            seen.append((statement, parameters))

    event.listen(world.engine, "before_cursor_execute", note)
    pair = [request(ip=static("10.0.0.5")), request(SECOND, "net2", ip=static("10.1.0.5"))]
    world.leases.bind(owner(), pair)
    event.remove(world.engine, "before_cursor_execute", note)

    with world.engine.connect() as connection:
        plans = [
            str(row[3])
            for statement, parameters in seen
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    searched = [line for line in plans if "domain=? AND address=?" in line]
    assert len(searched) == 2, plans
    assert not [line for line in plans if line.startswith(("SCAN lease", "SCAN freed"))]


def test_what_a_pod_has_is_not_searched_in_all_that_its_tenant_has(world) -> None:
    """Without statistics PostgreSQL takes the smallest index for the best one."""
    if not world.is_postgresql:
        return
    held = world.bind(NET, "p")
    world.sql(
        "INSERT INTO lease (pool_id, network, network_uid, domain, family, address, address_text, "
        "prefix, interface, namespace, pod, pod_uid, container_id, node, mode, pooled, held_from) "
        "SELECT pool_id, network, network_uid, domain, 4, int8send(n), '', 24, '', namespace, "
        "'p', repeat('u', 200) || n, n, '', 'dynamic', 1, 1 "
        "FROM lease, generate_series(1, 3000) AS n"
    )
    asked = {"container_id": "c", "pod_uid": "u", "namespace": held.namespace, "pod": "blue/p"}

    with world.engine.connect() as connection:
        question = f"EXPLAIN {binding._EXISTING.compile(connection)}"
        plan = str(connection.exec_driver_sql(question, asked).all())
    world.sql("DELETE FROM lease WHERE id <> :it", it=held.id)

    assert "lease_open_pod_key" in plan
    assert "lease_open_namespace_idx" not in plan


def test_a_big_pool_is_bound_without_reading_it(world) -> None:
    wide = network(tenant_key("wide"), v4="10.0.0.0/8", v6="2001:db8:1::/64", vni=705)

    leases = world.leases.bind(owner(), [request(wide, ip6=DYNAMIC)])

    assert addresses(leases) == ["10.0.0.1/8", "2001:db8:1::1/64"]


def test_a_clock_that_goes_back_never_makes_leases_of_one_address_overlap(world) -> None:
    if world.is_postgresql:
        world.wait(-5)  # the rows lie in the future now
    for number in range(6):
        world.bind(NET, f"p{number}")
    if world.is_postgresql:
        world.wait(-1000)
    else:
        world.clock.now -= 1_000_000_000

    (ended,) = world.leases.release("container-p0")
    again = world.bind(NET, "p0", static(str(ended.address.ip)), pod_uid="x", container_id="x")

    assert ended.to == ended.from_
    assert again.from_ >= ended.to


def test_a_full_ipv4_pool_does_not_take_ipv6_addresses_that_begin_with_its_bytes(world) -> None:
    """Addresses are compared as bytes: 2001:db8::1 lies between 32.1.13.184 and 32.1.13.185."""
    net = network(tenant_key("a"), v6="2001:db8::/120", vni=700)
    whole = pool("32.1.13.0/24")
    net = replace(net, v4=replace(whole, first=whole.first + 183, last=whole.first + 184))
    six = LeaseRequest(interface="net1", network=net, ip6=DYNAMIC)
    for pod in ("p0", "p1"):
        world.leases.bind(owner(pod), [six])
        world.leases.release(f"container-{pod}")
    world.leases.bind(owner("p2"), [six])
    world.bind(net, "p3")
    world.bind(net, "p4")
    world.wait(COOLDOWN + 1)

    with pytest.raises(ExhaustedError, match=r"2 of 2 addresses held, 0 cooling down"):
        world.bind(net, "p5")

"""The questions of operators, on both engines."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from danmpy.api.specs import PoolSpec
from danmpy.ipam import audit as audit_module
from danmpy.ipam.audit import EventFilter, HistoryFilter
from danmpy.ipam.leases import LeaseRequest
from support.leasing import owner
from support.specs import cluster_key, network, pool, static, tenant_key

NET = network(tenant_key("internal"), v4="10.0.0.0/29", v6="2001:db8::/64", vni=700)
OTHER = network(tenant_key("internal", "red"), v4="10.0.0.0/29", vni=701)
A = ip_address("10.0.0.1")


def texts(leases) -> list[str]:
    return [f"{lease.address.ip} {lease.pod}" for lease in leases]


def test_who_names_the_holder_of_now(world) -> None:
    lease = world.bind(NET)

    answer = world.audit.who(A)

    assert answer.holder == lease
    assert (answer.previous, answer.next) == (None, None)
    assert answer.at <= world.now()
    assert answer.to_json()["holder"]["pod"] == "web-0"


def test_who_holds_it_now_is_known_also_when_the_clock_was_set_back(world) -> None:
    world.bind(NET)
    world.wait(-1000)

    answer = world.audit.who(A)

    assert answer.holder is not None
    assert answer.holder.pod == "web-0"
    assert answer.next is None


def test_a_lease_is_held_from_its_first_microsecond_to_the_last_before_its_end(world) -> None:
    lease = world.bind(NET)
    world.wait(10)
    (ended,) = world.leases.release("container-web-0")
    begin = world.audit.who(A, at=0).next
    assert begin is not None
    start, end = begin.from_, ended.to

    assert world.audit.who(A, at=start).holder.id == lease.id
    assert world.audit.who(A, at=end - 1).holder.id == lease.id
    assert world.audit.who(A, at=start - 1).holder is None
    assert world.audit.who(A, at=end).holder is None


def test_when_nobody_held_it_who_names_the_holder_before_and_the_one_after(world) -> None:
    world.bind(NET, "first")
    world.wait(10)
    world.leases.release("container-first")
    world.wait(1000)
    world.bind(NET, "second", static("10.0.0.1"))

    (first, second) = world.audit.history(HistoryFilter(address=A))
    between = world.audit.who(A, at=first.to + 1)
    before = world.audit.who(A, at=first.from_ - 1)

    assert between.holders == ()
    assert (between.previous, between.next) == (first, second)
    assert (before.previous, before.next) == (None, first)


def test_networks_that_never_meet_may_hold_one_address_at_the_same_time(world) -> None:
    one = world.bind(NET, "one")
    two = world.bind(OTHER, "two", namespace="red")

    assert world.audit.who(A).holders == (one, two)
    assert world.audit.who(A, network="TenantNetwork/red/internal").holders == (two,)
    assert world.audit.who(A, network="blue/internal").holders == (one,)
    assert world.audit.who(A, network="internal").holders == (one, two)
    assert world.audit.who(A, network="ternal").holders == ()


def test_previous_and_next_are_those_of_the_network_that_was_asked_about(world) -> None:
    world.bind(NET, "one")
    world.wait(1)
    world.leases.release("container-one")
    world.wait(1)
    world.bind(OTHER, "two")
    world.wait(1)
    world.leases.release("container-two")

    assert world.audit.who(A).previous.pod == "two"
    assert world.audit.who(A, network="blue/internal").previous.pod == "one"


def test_a_network_filter_is_no_pattern(world) -> None:
    world.bind(NET)

    assert list(world.audit.history(HistoryFilter(network="%"))) == []
    assert list(world.audit.history(HistoryFilter(network="i_ternal"))) == []


def test_history_is_ordered_by_address_and_then_by_time(world) -> None:
    for round_ in range(2):
        for name in ("p", "q"):
            world.leases.bind(
                owner(f"{name}{round_}"),
                [
                    LeaseRequest(
                        interface="net1",
                        network=NET,
                        ip=static("10.0.0.5" if name == "p" else "10.0.0.2"),
                        ip6=static("2001:db8::5"),
                    )
                ]
                if name == "p"
                else [LeaseRequest(interface="net1", network=NET, ip=static("10.0.0.2"))],
            )
            world.wait(1)
            world.leases.release(f"container-{name}{round_}")
        world.wait(1000)

    assert texts(world.audit.history(HistoryFilter())) == [
        "10.0.0.2 q0",
        "10.0.0.2 q1",
        "10.0.0.5 p0",
        "10.0.0.5 p1",
        "2001:db8::5 p0",
        "2001:db8::5 p1",
    ]


def test_history_reads_in_pages_and_misses_nothing(world, monkeypatch) -> None:
    monkeypatch.setattr(audit_module, "_PAGE", 3)
    wide = network(tenant_key("wide"), v4="10.1.0.0/24", vni=702)
    for number in range(10):
        world.bind(wide, f"p{number}")

    assert texts(world.audit.history(HistoryFilter())) == [
        f"10.1.0.{number + 1} p{number}" for number in range(10)
    ]
    assert [event.seq for event in world.audit.events(EventFilter())] == list(range(1, 11))


def test_every_field_of_the_filter_narrows_the_history_down(world) -> None:
    world.bind(NET, "one")
    world.bind(NET, "two", node="node-b")
    world.bind(OTHER, "one", namespace="red", pod_uid="u", container_id="c")
    world.leases.record_mac("container-two", "net1", "02:00:00:00:00:0a")

    def found(**wanted: object) -> list[str]:
        leases = world.audit.history(HistoryFilter(**wanted))
        return [f"{lease.namespace}/{lease.pod}" for lease in leases]

    assert sorted(found(pod="one")) == ["blue/one", "red/one"]
    assert found(pod="red/one") == ["red/one"]
    assert found(pod="one", namespace="blue") == ["blue/one"]
    assert found(pod="red/one", namespace="blue") == []
    assert sorted(found(namespace="blue")) == ["blue/one", "blue/two"]
    assert found(node="node-b") == ["blue/two"]
    assert found(mac="02-00-00-00-00-0A") == ["blue/two"]
    assert found(network="red/internal") == ["red/one"]
    assert sorted(found(address=A)) == ["blue/one", "red/one"]
    assert found(address=ip_address("10.0.0.9")) == []


def test_the_window_of_history_holds_every_lease_that_was_held_at_some_moment_in_it(world) -> None:
    world.bind(NET)
    world.wait(10)
    world.leases.release("container-web-0")
    (lease,) = world.audit.history(HistoryFilter())

    def inside(since: int | None, until: int | None) -> bool:
        return bool(list(world.audit.history(HistoryFilter(since=since, until=until))))

    assert inside(lease.from_, lease.from_ + 1)
    assert inside(lease.from_ + 5, lease.to - 5)
    assert not inside(lease.to, None)
    assert inside(lease.to - 1, None)
    assert not inside(None, lease.from_)
    assert inside(None, lease.from_ + 1)


def test_usage_counts_held_outside_cooling_and_free(world) -> None:
    narrow = replace(
        NET,
        v4=PoolSpec(family=4, subnet=pool("10.0.0.0/24").subnet, first=167772161, last=167772164),
    )
    world.bind(narrow, "a")
    world.bind(narrow, "b")
    world.bind(narrow, "c", static("10.0.0.200"))
    world.leases.release("container-a")

    (usage,) = world.audit.usage([narrow])

    assert usage.v4.to_json() == {
        "cidr": "10.0.0.0/24",
        "capacity": 4,
        "held": 2,
        "outside": 1,
        "cooling": 1,
        "free": 2,
        "percent": 50.0,
    }
    assert usage.v6.held == 0
    assert usage.v6.capacity == 2**64 - 2
    assert usage.network == "TenantNetwork/blue/internal"


def test_usage_of_a_network_that_shares_its_segment_counts_what_the_others_took(world) -> None:
    sharing = network(cluster_key("shared"), v4="10.0.0.0/29", vni=700)
    world.bind(NET, "a")

    (usage,) = world.audit.usage([sharing])

    assert (usage.v4.held, usage.v4.capacity, usage.v4.free) == (0, 6, 5)


def test_usage_at_an_earlier_time_is_as_it_was_then(world) -> None:
    world.bind(NET, "a")
    world.wait(10)
    world.bind(NET, "b")
    world.wait(10)
    world.leases.release("container-a")
    world.wait(200)
    now = world.now()
    (a, b) = world.audit.history(HistoryFilter())

    def at(moment: int | None) -> tuple[int, int, int]:
        (usage,) = world.audit.usage([NET], at=moment)
        assert usage.v4.capacity + usage.v4.outside == (
            usage.v4.held + usage.v4.cooling + usage.v4.free
        )
        return usage.v4.held, usage.v4.cooling, usage.v4.free

    assert at(a.from_ - 1) == (0, 0, 6)
    assert at(a.from_) == (1, 0, 5)
    assert at(b.from_) == (2, 0, 4)
    assert at(a.to) == (1, 1, 4)
    assert at(a.to + 119_999_999) == (1, 1, 4)
    assert at(a.to + 120_000_000) == (1, 0, 5)
    assert at(None) == at(now) == (1, 0, 5)


def test_usage_with_many_excluded_addresses_counts_each_once(world) -> None:
    low = 167772160
    holes = tuple((low + n, low + n) for n in range(4, 250, 2))
    holed = replace(NET, v4=replace(pool("10.0.0.0/24"), excluded=holes))
    for number in range(5):
        world.bind(holed, f"p{number}")

    (usage,) = world.audit.usage([holed])

    assert (usage.v4.capacity, usage.v4.held, usage.v4.outside) == (254 - len(holes), 5, 0)
    assert usage.v4.free == usage.v4.capacity - 5


def test_usage_of_a_network_without_any_dynamic_address(world) -> None:
    closed = replace(NET, v6=None, v4=replace(pool("10.0.0.0/29"), first=2, last=1))
    world.bind(closed, "a", static("10.0.0.3"))

    (usage,) = world.audit.usage([closed])

    assert (usage.v4.capacity, usage.v4.held, usage.v4.outside, usage.v4.free) == (0, 1, 1, 0)
    assert usage.v6 is None


def test_events_tell_what_happened_in_order_and_whether_it_is_sealed(world) -> None:
    world.bind(NET, "a")
    world.ledger.seal()
    world.leases.release("container-a")

    begun, ended = world.audit.events(EventFilter(address=A))

    assert (begun.kind, begun.sealed) == ("ALLOCATE", True)
    assert (ended.kind, ended.sealed, ended.reason) == ("RELEASE", False, "released")
    assert begun.to_json()["detail"] == {"mode": "dynamic", "prefix": 29}


def test_events_can_be_narrowed_to_a_network_and_a_time(world) -> None:
    world.bind(NET, "a")
    world.bind(OTHER, "b")
    (_, second) = world.audit.events(EventFilter())

    assert [e.pod for e in world.audit.events(EventFilter(network="red/internal"))] == ["b"]
    assert [e.pod for e in world.audit.events(EventFilter(since=second.at))] == ["b"]
    assert [e.pod for e in world.audit.events(EventFilter(until=second.at))] == ["a"]


def test_networks_that_are_gone_are_still_known_by_name(world) -> None:
    world.bind(NET, "a")
    world.leases.release("container-a")

    assert world.audit.network_names() == {"TenantNetwork/blue/internal"}


def test_who_finds_the_last_holder_of_many(world) -> None:
    for turn in range(20):
        world.bind(NET, f"p{turn}", static("10.0.0.1"))
        world.wait(200)
        world.leases.release(f"container-p{turn}")
        world.wait(200)

    assert world.audit.who(A).previous.pod == "p19"
    assert len(list(world.audit.history(HistoryFilter(address=A)))) == 20


def test_networks_of_one_question_are_those_that_were_given(world) -> None:
    assert world.audit.usage([]) == ()
    assert [item.network for item in world.audit.usage([OTHER, NET])] == [
        "TenantNetwork/red/internal",
        "TenantNetwork/blue/internal",
    ]

"""How full networks are: one by one and all at once, over the same random history."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danmpy.api.specs import AddressAsk, NetworkSpec
from danmpy.clock import MICROSECONDS
from danmpy.errors import DanmpyError
from danmpy.ipam.leases import LeaseRequest
from danmpy.ipam.pools import pack
from support.leasing import owner
from support.specs import DYNAMIC, cluster_key, network, static, tenant_key


def shrunk(spec: NetworkSpec, first: int, last: int, *holes: tuple[int, int]) -> NetworkSpec:
    assert spec.v4 is not None
    low = int(spec.v4.subnet.network_address)
    cut = replace(
        spec.v4,
        first=low + first,
        last=low + last,
        excluded=tuple((low + a, low + b) for a, b in holes),
    )
    return replace(spec, v4=cut)


# Some share a wire and overlap, some use the same addresses on wires of their own.
NETWORKS = (
    shrunk(network(tenant_key("a"), v4="10.0.0.0/27", v6="fd00::/126", vni=700), 1, 6, (3, 4)),
    shrunk(network(tenant_key("b"), v4="10.0.0.0/28", vni=700), 4, 9),
    shrunk(network(tenant_key("c"), v4="10.0.0.0/28", vni=701), 1, 4),
    network(cluster_key("d"), v6="fd00::/126"),
    shrunk(network(cluster_key("e"), v4="32.1.13.0/24", v6="2001:db8::/126", vni=702), 1, 5),
    shrunk(network(cluster_key("f"), v4="10.9.0.0/29", vni=703), 1, 3, (1, 3)),
    network(cluster_key("g")),
)
ASKS = [DYNAMIC, DYNAMIC, static("10.0.0.3"), static("10.0.0.8"), static("10.9.0.5")]
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["bind", "bind", "bind", "release", "move"]),
        st.integers(0, 11),
        st.sampled_from(NETWORKS),
        st.sampled_from(ASKS),
        st.sampled_from([AddressAsk(), DYNAMIC]),
    ),
    max_size=25,
)


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(ACTS, st.integers(0, 130))
def test_all_at_once_say_the_same_as_one_by_one(world, acts, seconds) -> None:
    if world.is_postgresql:
        world.sql("TRUNCATE lease, freed, pool CASCADE")
    else:
        for table in ("lease", "freed", "pool"):
            world.sql(f"DELETE FROM {table}")
    for act, number, spec, ip, ip6 in acts:
        if act == "release":
            world.leases.release(f"container-p{number}")
            continue
        # On another wire than it is on now: an earlier assignment of the network.
        bound = replace(spec, segment=None) if act == "move" else spec
        asked = LeaseRequest(interface=f"i{spec.key.name}", network=bound, ip=ip, ip6=ip6)
        try:
            world.leases.bind(owner(f"p{number}"), [asked])
        except DanmpyError:
            continue
    world.wait(seconds)

    together = world.audit.usage_of_all(NETWORKS)

    alone = {spec.key: world.audit.usage([spec])[0] for spec in NETWORKS}
    assert dict(together) == alone


def test_every_number_is_what_happened(world) -> None:
    a, b = NETWORKS[:2]
    world.bind(a, "p0")  # 10.0.0.1
    world.bind(a, "p1", ip=static("10.0.0.8"))  # outside of its own pool, inside of b's
    world.bind(b, "p2")  # 10.0.0.4, which a excludes
    world.bind(a, "p3")
    world.leases.release("container-p3")

    usage = world.audit.usage_of_all([a, b])

    four = usage[a.key].v4
    assert four is not None
    assert (four.capacity, four.held, four.outside, four.cooling, four.free) == (4, 2, 1, 1, 2)
    other = usage[b.key].v4
    assert other is not None
    assert (other.capacity, other.held, other.outside, other.cooling, other.free) == (6, 1, 0, 0, 4)
    six = usage[a.key].v6
    assert six is not None
    assert (six.capacity, six.held, six.free) == (2, 0, 2)
    assert usage[b.key].v6 is None


def test_nothing_asked_is_nothing_answered(world) -> None:
    assert world.audit.usage_of_all([]) == {}


SPECS = [
    network(tenant_key(f"n{number}"), v4=f"10.{number // 250}.{number % 250}.0/24", vni=number + 1)
    for number in range(1000)
]


def test_a_thousand_networks_are_counted_in_as_many_statements_as_one(world, statements) -> None:
    fill(world)
    statements.clear()
    world.audit.usage_of_all(SPECS[:1])
    for_one = len(statements)
    statements.clear()

    usage = world.audit.usage_of_all(SPECS)

    assert len(statements) == for_one
    assert len(usage) == len(SPECS)
    assert all(each.v4 and (each.v4.held, each.v4.cooling) == (10, 2) for each in usage.values())


def fill(world) -> None:
    """10,000 open leases and 2,000 cooling addresses, written straight into the tables."""
    from sqlalchemy import insert

    from danmpy.db.engine import write
    from danmpy.ipam.schema import freed, lease, pool

    now = world.now()
    with write(world.engine) as connection:
        pools, leases, rests = [], [], []
        for number, spec in enumerate(SPECS, 1):
            assert spec.v4 is not None
            low = spec.v4.first
            common = {"domain": spec.domain, "family": 4, "pool_id": number}
            pools.append(
                {
                    "id": number,
                    "network": str(spec.key),
                    "family": 4,
                    "domain": spec.domain,
                    "subnet": str(spec.v4.subnet),
                    "shape": "",
                }
            )
            names = {"interface": "net1", "namespace": "blue", "network": str(spec.key)}
            leases += [
                {
                    **common,
                    **names,
                    "network_uid": spec.uid,
                    "address": pack(4, low + place),
                    "address_text": str(spec.v4.address(low + place)),
                    "prefix": 24,
                    "pod": f"p{place}",
                    "container_id": f"c{number}-{place}",
                    "node": "n",
                    "mode": "dynamic",
                    "pooled": 1,
                    "held_from": now,
                }
                for place in range(10)
            ]
            rests += [
                {
                    **common,
                    **names,
                    "address": pack(4, low + 20 + place),
                    "released_at": now,
                    "ready_at": now + 3600 * MICROSECONDS,
                    "pod": "p",
                    "end_reason": "released",
                }
                for place in range(2)
            ]
        connection.execute(insert(pool), pools)
        connection.execute(insert(lease), leases)
        connection.execute(insert(freed), rests)

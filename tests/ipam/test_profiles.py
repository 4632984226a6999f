"""The choice of device and id for any wishes and any history; test_segments has each rule."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.specs import (
    HostDeviceProfile,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    SegmentKey,
    SegmentKind,
    TenantConfigSpec,
)
from danmpy.ipam.profiles import Holding, Remains, Stored, Wanted, choose, recall
from support.nads import nad_key
from support.specs import cluster_key, danm_key, network, tenant_key

NAMES = [f"n{number}" for number in range(6)]
PROFILES = (
    HostDeviceProfile(name="ens4", kind=SegmentKind.VXLAN, ids=((700, 702),)),
    HostDeviceProfile(name="ens5", kind=SegmentKind.VLAN, ids=((10, 10), (12, 12))),
)
COOLDOWN = 7_000_000
CONFIG = TenantConfigSpec(name="tc", host_devices=PROFILES)
STEPS = st.lists(
    st.tuples(
        st.sets(st.sampled_from(NAMES)),
        st.sets(st.integers(699, 703), max_size=2),
        st.sampled_from(["", "ens4", "ens5", "ens9"]),
    ),
    max_size=6,
)


@given(STEPS)
def test_no_two_tenants_ever_share_a_segment_and_nobody_is_moved_without_asking(steps) -> None:
    holdings: dict = {}
    now = 0
    for names, by_hand, device in steps:
        now += 60_000_000
        specs = [network(tenant_key(name), host_device=device) for name in names]
        specs += [network(cluster_key(f"c{vni}"), vni=vni) for vni in by_hand]
        wanted = Wanted(networks={spec.key: spec for spec in specs}, tenant_configs=[CONFIG])
        before = dict(holdings)

        choice = choose(wanted, Stored(holdings=before, cooldown=COOLDOWN), now)

        for ended in choice.ended:
            assert holdings.pop(ended.network) == ended
        for begun in choice.begun:
            assert begun.network not in holdings
            holdings[begun.network] = begun
        held = [holding.segment for holding in holdings.values()]
        assert len(held) == len(set(held))
        answer = choice.assignments
        assert set(answer.networks) | set(answer.problems) == set(wanted.networks)
        assert not set(answer.networks) & set(answer.problems)
        used = [
            spec.segment for key, spec in answer.networks.items() if key.kind is NetworkKind.CLUSTER
        ]
        assert not set(used) & set(held)
        for name, holding in before.items():
            spec = next((s for s in specs if str(s.key) == name), None)
            if spec is not None and spec.host_device in {"", holding.device}:
                assert holdings[name] == holding

        rests = {holding.segment: now + COOLDOWN for holding in choice.ended}
        again = choose(wanted, Stored(holdings=holdings, resting=rests), now)
        assert (again.ended, again.begun, again.assignments) == ((), (), answer)


@given(st.sets(st.integers(700, 702)))
def test_an_id_that_cools_down_is_not_given(resting) -> None:
    keys = {SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=number): 1 for number in resting}
    spec = network(tenant_key("a"), host_device="ens4")
    wanted = Wanted(networks={spec.key: spec}, tenant_configs=[CONFIG])

    choice = choose(wanted, Stored(holdings={}, resting=keys), 0)

    free = sorted({700, 701, 702} - resting)
    assert [holding.id for holding in choice.begun] == free[:1]


# Several TenantConfigs, some of them for certain namespaces.

NAMESPACES = ["blue", "green", "red"]
RANGES = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 3)).map(lambda pair: (pair[0], sum(pair))),
    min_size=1,
    max_size=2,
).map(tuple)
ANY_PROFILE = st.builds(
    HostDeviceProfile,
    name=st.sampled_from(["ens4", "ens5"]),
    kind=st.sampled_from([SegmentKind.VLAN, SegmentKind.VXLAN]),
    ids=RANGES,
) | st.builds(HostDeviceProfile, name=st.sampled_from(["ens6", "vendor/pool"]))
CONFIGS = st.lists(
    st.builds(
        TenantConfigSpec,
        name=st.sampled_from(["a", "b", "c", "d"]),
        host_devices=st.lists(ANY_PROFILE, max_size=3).map(tuple),
        network_ids=st.dictionaries(
            st.sampled_from(["macvlan", "ipvlan"]), st.sampled_from(["x", "y"]), max_size=1
        ),
        namespaces=st.none() | st.frozensets(st.sampled_from(NAMESPACES), min_size=1),
    ),
    max_size=4,
    unique_by=lambda config: config.name,
)
TENANTS = st.sets(st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(NAMES[:3])))
DEVICES = st.sampled_from(["", "ens4", "ens5", "ens6"])


def wire(holding: Holding) -> tuple | None:
    """Written down apart from the code under test: a VNI is one wire wherever it is."""
    if holding.kind is None:
        return None
    parent = "" if holding.kind is SegmentKind.VXLAN else holding.device
    return parent, holding.kind, holding.id


def may_use(namespace: str, configs: list[TenantConfigSpec]) -> list[TenantConfigSpec]:
    named = [config for config in configs if config.namespaces and namespace in config.namespaces]
    return named or [config for config in configs if not config.namespaces]


def offered(holding: Holding, configs: list[TenantConfigSpec]) -> bool:
    return any(
        profile.name == holding.device
        and profile.kind is holding.kind
        and (profile.kind is None or any(low <= holding.id <= high for low, high in profile.ids))
        for config in configs
        for profile in config.host_devices
    )


@given(st.lists(st.tuples(CONFIGS, TENANTS, DEVICES), max_size=5), st.randoms())
def test_whatever_the_configs_no_wire_is_shared_and_no_namespace_gets_a_foreign_profile(
    steps, chance
) -> None:
    holdings: dict[str, Holding] = {}
    now = 0
    for configs, tenants, device in steps:
        now += 60_000_000
        specs = [
            network(tenant_key(name, namespace), host_device=device) for namespace, name in tenants
        ]
        wanted = Wanted(networks={spec.key: spec for spec in specs}, tenant_configs=configs)
        stored = Stored(holdings=dict(holdings), cooldown=COOLDOWN)

        choice = choose(wanted, stored, now)

        chance.shuffle(specs)
        shuffled = Wanted(
            networks={spec.key: spec for spec in specs},
            tenant_configs=chance.sample(configs, len(configs)),
        )
        assert choose(shuffled, stored, now) == choice
        ended = {holding.network for holding in choice.ended}
        for holding in choice.ended:
            spec = next((s for s in specs if str(s.key) == holding.network), None)
            assert spec is None or spec.host_device not in {"", holding.device}
            del holdings[holding.network]
        for holding in choice.begun:
            namespace = holding.network.split("/")[1]
            assert offered(holding, may_use(namespace, configs))
            assert holding.network not in holdings or holding.network in ended
            holdings[holding.network] = holding
        wires = [wire(holding) for holding in holdings.values() if wire(holding) is not None]
        assert len(wires) == len(set(wires))


@given(CONFIGS, CONFIGS, TENANTS)
def test_configs_that_are_applied_again_or_taken_away_forget_nothing(first, other, tenants) -> None:
    specs = [network(tenant_key(name, ns), host_device="") for ns, name in tenants]
    networks = {spec.key: spec for spec in specs}
    begun = choose(Wanted(networks=networks, tenant_configs=first), Stored(holdings={}), 0).begun
    holdings = {holding.network: holding for holding in begun}

    for configs in (other, [], list(reversed(first)), first):
        wanted = Wanted(networks=networks, tenant_configs=configs)
        choice = choose(wanted, Stored(holdings=holdings), 3600_000_000)
        assert choice.ended == ()
        assert not {holding.network for holding in choice.begun} & set(holdings)
        for name, holding in holdings.items():
            spec = next(s for s in choice.assignments.networks.values() if str(s.key) == name)
            assert spec.segment == holding.segment


@given(CONFIGS, TENANTS)
def test_what_was_chosen_is_what_is_recalled(configs, tenants) -> None:
    specs = [network(tenant_key(name, ns), host_device="") for ns, name in tenants]
    wanted = Wanted(networks={spec.key: spec for spec in specs}, tenant_configs=configs)
    choice = choose(wanted, Stored(holdings={}), 0)
    holdings = {holding.network: holding for holding in choice.begun}

    recalled = recall(wanted, Stored(holdings=holdings))

    assert recalled.networks == choice.assignments.networks
    assert recalled.problems.keys() == choice.assignments.problems.keys()
    assert {found.reason for found in recalled.problems.values()} <= {"AssignmentPending"}
    assert recall(wanted, Stored(holdings={})).networks == {}


@given(st.sets(st.integers(700, 703)), st.sets(st.integers(700, 703)))
def test_an_id_that_a_node_still_has_is_not_given(resting, reported) -> None:
    def segments(numbers: set[int], parent: str) -> list[SegmentKey]:
        return [SegmentKey(parent=parent, kind=SegmentKind.VXLAN, id=number) for number in numbers]

    stored = Stored(
        holdings={},
        resting=dict.fromkeys(segments(resting, "ens4"), 1),
        reported=dict.fromkeys(segments(reported, "ens9"), Remains(first="n")),
    )
    spec = network(tenant_key("a"), host_device="ens4")
    wanted = Wanted(networks={spec.key: spec}, tenant_configs=[CONFIG])

    choice = choose(wanted, stored, 0)

    free = sorted({700, 701, 702} - resting - reported)
    assert [holding.id for holding in choice.begun] == free[:1]


def test_of_configs_that_offer_the_same_the_first_by_name_counts() -> None:
    """The rules refuse overlaps; one that came in all the same has a defined answer."""
    same = HostDeviceProfile(name="ens4", kind=SegmentKind.VLAN, ids=((5, 6),))
    wider = HostDeviceProfile(name="ens4", kind=SegmentKind.VLAN, ids=((4, 7),))
    configs = [
        TenantConfigSpec(name="z", host_devices=(wider,), network_ids={"macvlan": "z"}),
        TenantConfigSpec(name="a", host_devices=(same,), network_ids={"macvlan": "a"}),
    ]
    specs = [network(tenant_key(name), host_device="") for name in NAMES[:5]]
    wanted = Wanted(networks={spec.key: spec for spec in specs}, tenant_configs=configs)

    choice = choose(wanted, Stored(holdings={}), 0)

    assert [holding.id for holding in choice.begun] == [5, 6, 4, 7]
    assert {spec.network_id for spec in choice.assignments.networks.values()} == {"a"}
    (problem,) = choice.assignments.problems.values()
    assert problem.reason == "RangeFull"


def wish(name: str, vni: int) -> NetworkSpec:
    """A network of a tenant into which DANM has written its id."""
    return network(tenant_key(name), vni=vni)


def test_a_tenant_gets_the_id_that_danm_had_given_it_before_others_choose() -> None:
    specs = [network(tenant_key("a")), wish("b", 700), wish("c", 702), network(tenant_key("d"))]
    wanted = Wanted(networks={spec.key: spec for spec in specs}, tenant_configs=[CONFIG])
    choice = choose(wanted, Stored(holdings={}), 0)
    begun = {held.network: (held.device, held.id) for held in choice.begun}
    assert begun == {
        "TenantNetwork/blue/a": ("ens4", 701),
        "TenantNetwork/blue/b": ("ens4", 700),
        "TenantNetwork/blue/c": ("ens4", 702),
    }


def test_a_wish_takes_nothing_from_anybody() -> None:
    held = SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=701)
    specs = [
        wish("a", 700), wish("b", 700), wish("c", 703), network(cluster_key("hand"), vni=702),
        wish("d", 702),
    ]  # fmt: skip
    wanted = Wanted(networks={spec.key: spec for spec in specs}, tenant_configs=[CONFIG])
    choice = choose(wanted, Stored(holdings={}, resting={held: 9}), 0)
    assert [(held.network, held.id) for held in choice.begun] == [("TenantNetwork/blue/a", 700)]
    assert {problem.reason for problem in choice.assignments.problems.values()} == {"RangeFull"}


def on_wire(key: NetworkKey, vni: int = 300, **more: object) -> NetworkSpec:
    return network(key, vni=vni, **more)


def problems_of(*specs: NetworkSpec, holdings: tuple[Holding, ...] = ()) -> dict[str, str]:
    wanted = Wanted(networks={spec.key: spec for spec in specs}, tenant_configs=[CONFIG])
    stored = Stored(holdings={each.network: each for each in holdings})
    found = [
        choose(wanted, stored, 0).assignments.problems,
        recall(wanted, stored).problems,
    ]
    assert found[0] == found[1]
    return {key.name: f"{each.reason}: {each.message}" for key, each in found[0].items()}


def test_a_nad_is_refused_on_the_wire_of_a_tenant() -> None:
    held = Holding(
        network="TenantNetwork/red/a",
        uid="uid-a",
        device="ens4",
        kind=SegmentKind.VXLAN,
        id=700,
        since=0,
    )
    tenant = network(tenant_key("a", "red"))
    for nad in (on_wire(nad_key("n"), 700), on_wire(nad_key("n", "red"), 700)):
        found = problems_of(nad, tenant, holdings=(held,))
        assert found.keys() == {"n"}
        assert "SegmentTaken" in found["n"]
        assert "TenantNetwork/red/a" in found["n"]


def test_a_nad_keeps_off_the_wire_of_a_cluster_network_that_does_not_admit_its_namespace() -> None:
    theirs = on_wire(cluster_key("theirs"), allowed_tenants=frozenset({"red"}))
    found = problems_of(on_wire(nad_key("n", "blue")), on_wire(nad_key("ok", "red")), theirs)
    assert found.keys() == {"n"}
    assert "ClusterNetwork/theirs" in found["n"]
    assert "namespace blue is not among its AllowedTenants" in found["n"]
    free = on_wire(cluster_key("free"))
    assert problems_of(on_wire(nad_key("n")), free, on_wire(danm_key("d"))) == {}
    assert problems_of(on_wire(danm_key("d")), theirs) == {}


def test_a_nad_on_the_wire_of_cluster_networks_admits_no_more_tenants_than_all_of_them() -> None:
    nad = on_wire(nad_key("n", "red"))
    one, other = (
        on_wire(cluster_key(name), allowed_tenants=frozenset({"red", name}))
        for name in ("blue", "green")
    )
    for limits, admitted in (
        ((), None),
        ((one,), frozenset({"red", "blue"})),
        ((one, other), frozenset({"red"})),
    ):
        wanted = Wanted(networks={spec.key: spec for spec in (nad, *limits)}, tenant_configs=[])
        for networks in (
            choose(wanted, Stored(holdings={}), 0).assignments.networks,
            recall(wanted, Stored(holdings={})).networks,
        ):
            assert networks[nad.key].allowed_tenants == admitted


def test_the_wire_of_a_nad_is_given_to_no_tenant() -> None:
    nad, tenant = on_wire(nad_key("n"), 700), network(tenant_key("a"))
    wanted = Wanted(networks={nad.key: nad, tenant.key: tenant}, tenant_configs=[CONFIG])
    networks = choose(wanted, Stored(holdings={}), 0).assignments.networks
    assert networks[nad.key] == nad
    assert networks[tenant.key].segment == SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=701)

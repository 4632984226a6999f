"""The choice of device and id for any wishes and any history; test_segments has each rule."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.specs import (
    HostDeviceProfile,
    NetworkKind,
    SegmentKey,
    SegmentKind,
    TenantConfigSpec,
)
from danmpy.ipam.profiles import Stored, Wanted, choose
from support.specs import cluster_key, network, tenant_key

NAMES = [f"n{number}" for number in range(6)]
PROFILES = (
    HostDeviceProfile(name="ens4", kind=SegmentKind.VXLAN, ids=((700, 702),)),
    HostDeviceProfile(name="ens5", kind=SegmentKind.VLAN, ids=((10, 10), (12, 12))),
)
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

        choice = choose(wanted, Stored(holdings=before), now)

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

        rests = frozenset(holding.segment for holding in choice.ended)
        again = choose(wanted, Stored(holdings=holdings, resting=rests), now)
        assert (again.ended, again.begun, again.assignments) == ((), (), answer)


@given(st.sets(st.integers(700, 702)))
def test_an_id_that_cools_down_is_not_given(resting) -> None:
    keys = frozenset(
        SegmentKey(parent="ens4", kind=SegmentKind.VXLAN, id=number) for number in resting
    )
    spec = network(tenant_key("a"), host_device="ens4")
    wanted = Wanted(networks={spec.key: spec}, tenant_configs=[CONFIG])

    choice = choose(wanted, Stored(holdings={}, resting=keys), 0)

    free = sorted({700, 701, 702} - resting)
    assert [holding.id for holding in choice.begun] == free[:1]

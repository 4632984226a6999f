"""Plans: each planner test runs every prefix of its plan on the fake host and plans again."""

from __future__ import annotations

import copy
import time
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danmpy.api.specs import NetworkSpec
from danmpy.kernel.hostlinks import OWN_GROUP, VxlanAttributes
from danmpy.netwatcher.marks import bridge_name, is_ours
from danmpy.netwatcher.plan import kept_orphans, plan_devices
from danmpy.netwatcher.values import Action, Flooding, Step
from support.fakehost import FakeHost
from support.specs import cluster_key, danm_key, network, tenant_key
from support.watching import Want, node, on, shape, vlan, vxlan

BLUE, RED = tenant_key("blue"), tenant_key("red", "red")
PEER = node("n2", ens4="192.0.2.2")


def host(**nic: Any) -> FakeHost:
    fake = FakeHost()
    values = {"addresses": ("192.0.2.1/24", "2001:db8::1/64"), "up": True} | nic
    fake.put("ens4", **values)
    return fake


def verbs(steps: tuple[Step, ...]) -> list[str]:
    return [f"{step.action} {step.device}" for step in steps]


def drifted(want: Want, name: str, /, **values: Any) -> FakeHost:
    """A host that had reached the goal, and then somebody altered a link."""
    fake = host()
    want.settle(fake)
    fake.alter(name, **values)
    return fake


# From nothing.


def test_a_vxlan_is_made_filled_and_brought_up() -> None:
    fake = host()
    want = Want(on(vxlan("ens4", 700), BLUE, network_id="internal"), nodes=(PEER,))
    steps = want.settle_from_every_prefix(fake)
    assert verbs(steps) == ["create vx700", "flooding vx700", "change vx700", "altnames vx700"]
    link = fake.link("vx700")
    assert (link.alias, link.up, link.mtu) == ("danmpy vxlan:ens4:700", True, 1450)
    assert link.flooding == {ip_address("192.0.2.2")}
    assert fake.link("vx_internal") == link


def test_a_vlan_is_made_after_its_parent_is_up() -> None:
    fake = host(up=False)
    steps = Want(on(vlan("ens4", 7), BLUE)).settle_from_every_prefix(fake)
    assert verbs(steps)[:2] == ["change ens4", "create ens4.7"]
    assert fake.link("ens4.7").up


def test_a_bridge_is_made_before_its_port() -> None:
    fake = host()
    segment = vxlan("ens4", 700)
    steps = Want(on(segment, BLUE, backend="bridge")).settle_from_every_prefix(fake)
    name = bridge_name(segment)
    assert verbs(steps)[:2] == [f"create {name}", "create vx700"]
    assert fake.link("vx700").master == fake.link(name).index


def test_the_plan_of_a_reached_goal_is_empty() -> None:
    fake = host()
    want = Want(on(vxlan("ens4", 700), BLUE), on(vlan("ens4", 7), RED, backend="bridge"))
    want.settle(fake)
    assert want.plan(fake) == ()


def test_two_thousand_networks_among_two_thousand_orphans_are_planned_in_seconds() -> None:
    fake = host()
    Want(*(on(vxlan("ens4", vni), cluster_key(f"a{vni}")) for vni in range(2000))).settle(fake)
    others = range(10_000, 12_000)
    want = Want(*(on(vxlan("ens4", vni), cluster_key(f"b{vni}")) for vni in others))
    facts = fake.read()
    before = time.process_time()
    steps = plan_devices(want.desired(facts), facts, prune=False)
    assert time.process_time() - before < 3
    assert len(steps) == 6000


# Refused networks: pods may stand on what they have.


def test_the_bridge_of_a_segment_that_is_claimed_stays_with_its_port() -> None:
    fake, segment = host(), vxlan("ens4", 700)
    Want(on(segment, RED, backend="bridge")).settle(fake)
    assert Want(claims=[segment]).plan(fake) == ()
    master = fake.link("vx700").master
    Want(on(segment, BLUE, backend="flannel"), claims=[segment]).settle(fake)
    assert fake.link("vx700").master == master == fake.link(bridge_name(segment)).index
    Want(on(segment, BLUE, backend="flannel")).settle(fake)
    assert fake.link("vx700").master == 0


def test_the_bridge_of_a_network_that_is_refused_stays() -> None:
    fake = host()
    Want(network(RED, backend="bridge")).settle(fake)
    assert Want(claims=[RED]).plan(fake) == ()
    assert verbs(Want().plan(fake)) == [f"remove {bridge_name(RED)}"]


# Drift.


@pytest.mark.parametrize(
    ("drift", "verb"),
    [
        ({"up": False}, "change"),
        ({"mtu": 1300}, "change"),
        ({"alias": "by hand"}, "change"),
        ({"altnames": frozenset()}, "altnames"),
        ({"altnames": frozenset({"vx_blue", "vx_other"})}, "altnames"),
        ({"flooding": frozenset()}, "flooding"),
        ({"flooding": frozenset({ip_address("203.0.113.9")})}, "flooding"),
        ({"name": "renamed"}, "change"),
        ({"vxlan": VxlanAttributes(vni=700, port=4789, local=ip_address("192.0.2.9"))}, "change"),
        (
            {
                "vxlan": VxlanAttributes(
                    vni=700, port=4789, local=ip_address("192.0.2.1"), learning=False
                )
            },
            "change",
        ),
        (
            {
                "vxlan": VxlanAttributes(
                    vni=700,
                    port=4789,
                    local=ip_address("192.0.2.1"),
                    group=ip_address("239.1.1.1"),
                )
            },
            "change",
        ),
    ],
)
def test_what_can_be_changed_is_repaired_without_making_the_link_anew(
    drift: dict[str, Any], verb: str
) -> None:
    want = Want(on(vxlan("ens4", 700), BLUE), nodes=(PEER,))
    fake = drifted(want, "vx700", **drift)
    index = fake.link(drift.get("name", "vx700")).index
    assert verbs(want.settle_from_every_prefix(fake)) == [f"{verb} vx700"]
    assert fake.link("vx700").index == index


@pytest.mark.parametrize(
    "drift",
    [
        {"vxlan": VxlanAttributes(vni=701, port=4789, local=ip_address("192.0.2.1"))},
        {"vxlan": VxlanAttributes(vni=700, port=8472, local=ip_address("192.0.2.1"))},
        {"vxlan": VxlanAttributes(vni=700, port=4789, local=ip_address("2001:db8::1"))},
        {"parent": 1},
    ],
)
def test_what_is_for_life_is_made_anew(drift: dict[str, Any]) -> None:
    want = Want(on(vxlan("ens4", 700), BLUE), nodes=(PEER,))
    fake = drifted(want, "vx700", **drift)
    steps = want.settle_from_every_prefix(fake)
    assert verbs(steps)[:2] == ["remove vx700", "create vx700"]
    assert "for life" in steps[0].reason


def test_a_vlan_with_another_id_is_made_anew() -> None:
    want = Want(on(vlan("ens4", 7), BLUE))
    fake = drifted(want, "ens4.7", vlan_id=8)
    assert verbs(want.settle_from_every_prefix(fake))[:2] == ["remove ens4.7", "create ens4.7"]


def test_a_link_that_is_gone_comes_back() -> None:
    want = Want(on(vxlan("ens4", 700), BLUE))
    fake = host()
    want.settle(fake)
    fake.drop("vx700")
    want.settle_from_every_prefix(fake)
    assert fake.link("vx700").up


def test_a_parent_that_comes_back_as_another_link_gets_its_devices_back() -> None:
    want = Want(on(vxlan("ens4", 700), BLUE), on(vlan("ens4", 7), RED))
    fake = host()
    want.settle(fake)
    fake.drop("ens4")
    assert want.plan(fake) == ()
    fake.put("ens4", addresses=("192.0.2.1/24",))
    want.settle_from_every_prefix(fake)
    assert fake.link("vx700").parent == fake.link("ens4.7").parent == fake.link("ens4").index


def test_two_devices_that_got_each_others_names_get_them_back() -> None:
    want = Want(on(vxlan("ens4", 700), BLUE), on(vxlan("ens4", 701), RED))
    fake = host()
    want.settle(fake)
    first, second = fake.link("vx700").index, fake.link("vx701").index
    fake.alter("vx700", name="elsewhere")
    fake.alter("vx701", name="vx700")
    fake.alter("elsewhere", name="vx701")
    steps = want.settle_from_every_prefix(fake)
    assert {step.action for step in steps} == {Action.CHANGE}
    assert (fake.link("vx700").index, fake.link("vx701").index) == (first, second)


def test_an_old_name_kept_as_alternative_name_does_not_block_the_way_back() -> None:
    want = Want(on(vxlan("ens4", 700), BLUE))
    fake = host()
    want.settle(fake)
    fake.alter("vx700", name="other", altnames=frozenset({"vx700", "vx_blue"}))
    want.settle_from_every_prefix(fake)
    assert fake.link("vx700").altnames == {"vx_blue"}


def test_alternative_names_of_others_on_our_device_stay() -> None:
    want = Want(on(vxlan("ens4", 700), BLUE))
    fake = drifted(want, "vx700", altnames=frozenset({"vx_blue", "my-favourite"}))
    assert want.plan(fake) == ()


def test_a_device_in_a_strangers_bridge_is_taken_out() -> None:
    want = Want(on(vxlan("ens4", 700), BLUE))
    fake = host()
    want.settle(fake)
    stranger = fake.put("br-mine", kind="bridge")
    fake.alter("vx700", master=stranger.index)
    want.settle_from_every_prefix(fake)
    assert fake.link("vx700").master == 0


def test_a_half_made_link_is_finished_when_it_fits() -> None:
    fake = host()
    want = Want(on(vxlan("ens4", 700), BLUE))
    want.settle(fake)
    made = fake.alter("vx700", alias="", up=False)
    steps = want.settle_from_every_prefix(fake)
    assert verbs(steps) == ["change vx700"]
    assert fake.link("vx700").index == made.index


def test_a_half_made_link_that_nobody_wants_is_removed() -> None:
    fake = host()
    fake.put("vx9", kind="vxlan", group=OWN_GROUP)
    assert verbs(Want().settle_from_every_prefix(fake)) == ["remove vx9"]


def test_a_copied_mark_does_not_make_a_second_device() -> None:
    want = Want(on(vxlan("ens4", 700), BLUE))
    fake = host()
    want.settle(fake)
    right = fake.link("vx700")
    copied = VxlanAttributes(vni=9, port=4789, local=ip_address("192.0.2.1"))
    fake.put("copy", kind="vxlan", alias=right.alias, vxlan=copied, parent=right.parent)
    assert verbs(want.settle_from_every_prefix(fake)) == ["remove copy"]
    assert fake.link("vx700") == right


# Removing.


def test_a_device_that_no_network_wants_is_removed() -> None:
    fake = host()
    Want(on(vxlan("ens4", 700), BLUE), on(vxlan("ens4", 701), RED)).settle(fake)
    steps = Want(on(vxlan("ens4", 701), RED)).settle_from_every_prefix(fake)
    assert verbs(steps) == ["remove vx700"]
    assert steps[0].reason == "no network wants it"


def test_a_device_stays_as_long_as_one_of_its_networks() -> None:
    fake = host()
    both = (on(vxlan("ens4", 700), BLUE), on(vxlan("ens4", 700), cluster_key("shared")))
    Want(*both).settle(fake)
    index = fake.link("vx700").index
    Want(both[1]).settle_from_every_prefix(fake)
    assert fake.link("vx700").index == index
    assert verbs(Want().settle_from_every_prefix(fake)) == ["remove vx700"]


def test_without_pruning_orphans_stay_and_are_told() -> None:
    fake = host()
    Want(on(vxlan("ens4", 700), BLUE)).settle(fake)
    want = Want(on(vxlan("ens4", 701), RED))
    want.settle_from_every_prefix(fake, prune=False)
    facts = fake.read()
    assert facts.named("vx700") is not None
    assert kept_orphans(want.desired(facts), facts) == ("vx700",)


def test_without_pruning_an_orphan_in_the_way_goes_nevertheless() -> None:
    fake = host()
    fake.put("ens5", addresses=("198.51.100.1/24",), up=True)
    Want(on(vxlan("ens4", 700), BLUE)).settle(fake)
    want = Want(on(vxlan("ens5", 700), RED))
    want.settle_from_every_prefix(fake, prune=False)
    assert fake.link("vx700").parent == fake.link("ens5").index


def test_what_a_refused_manifest_claims_stays() -> None:
    fake = host()
    Want(on(vxlan("ens4", 700), BLUE)).settle(fake)
    assert Want(claims=[vxlan("ens4", 700)]).plan(fake) == ()


def test_what_a_network_with_a_problem_has_stays_as_it_is() -> None:
    fake = host()
    want = Want(on(vxlan("ens4", 700), BLUE))
    want.settle(fake)
    fake.alter("ens4", addresses=())
    assert want.plan(fake) == ()


def test_links_of_pods_are_none_of_ours() -> None:
    fake = host()
    fake.put("dmp0123", kind="veth", alias="danmpy pod=c1")
    fake.put("nic", alias="danmpy vxlan:ens4:700")
    assert Want().plan(fake) == ()


def test_a_bridge_goes_while_the_device_under_it_stays() -> None:
    fake = host()
    segment = vxlan("ens4", 700)
    Want(on(segment, BLUE, backend="bridge")).settle(fake)
    steps = Want(on(segment, BLUE, backend="macvlan")).settle_from_every_prefix(fake)
    assert verbs(steps) == [f"remove {bridge_name(segment)}"]
    assert fake.link("vx700").master == 0


# Anything, cut off anywhere.

KEYS = [tenant_key("a"), tenant_key("b", "red"), cluster_key("c"), cluster_key("d"), danm_key("e")]
ADDRESSES = {
    "both": ("192.0.2.1/24", "2001:db8::1/64"),
    "v4": ("192.0.2.1/24",),
    "v6": ("2001:db8::1/64",),
}
NAMES = ["vx1", "vx2", "ens4.1", "ens4.2", "vx_a", "a.1", "other", bridge_name(vxlan("ens4", 1))]


@st.composite
def wishes(draw: st.DrawFn) -> Want:
    networks: list[NetworkSpec] = []
    for key in draw(st.lists(st.sampled_from(KEYS), unique=True, min_size=1, max_size=5)):
        parent = draw(st.sampled_from([*["ens4"] * 6, *["ens5"] * 2, "nic4", "gone0"]))
        number = draw(st.integers(1, 2))
        vlans, vxlans = [vlan(parent, number)], [vxlan(parent, number)]
        segment = draw(st.sampled_from([*vlans * 3, *vxlans * 5, None]))
        networks.append(
            network(
                key,
                segment=segment,
                host_device=parent,
                network_id=draw(st.sampled_from(["a", "b", "ens4"])),
                backend=draw(
                    st.sampled_from(["macvlan", "macvlan", "ipvlan", "bridge", "flannel"])
                ),
                mtu=draw(st.sampled_from([*[None] * 6, 1300, 1400, 1500])),
            )
        )
    nodes = draw(st.sampled_from([(), (PEER,), (node("n2", ens5="2001:db8::2"), PEER)]))
    flooding = draw(st.sampled_from(list(Flooding)))
    claims = draw(st.sampled_from([(), (), (vxlan("ens4", 1),), (vlan("ens4", 2),)]))
    return Want(*networks, nodes=nodes, flooding=flooding, claims=claims)


@st.composite
def vxlans(draw: st.DrawFn) -> VxlanAttributes:
    return VxlanAttributes(
        vni=draw(st.integers(1, 2)),
        port=draw(st.sampled_from([4789, 8472])),
        local=ip_address(draw(st.sampled_from(["192.0.2.1", "192.0.2.9", "2001:db8::1"]))),
        group=draw(st.sampled_from([None, None, ip_address("239.0.0.1")])),
        learning=draw(st.booleans()),
    )


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "up": st.booleans(),
    "mtu": st.sampled_from([1300, 1400]),
    "alias": st.sampled_from(["", "by hand", "danmpy vxlan:ens4:1", "danmpy vlan:ens4:1"]),
    "altnames": st.frozensets(st.sampled_from(["vx_a", "vx_b", "a.1", "mine", "vx1"]), max_size=2),
    "flooding": st.frozensets(st.just(ip_address("203.0.113.1")), max_size=1),
    "group": st.sampled_from([0, OWN_GROUP]),
    "vxlan": vxlans(),
    "vlan_id": st.integers(1, 2),
    "master": st.integers(0, 8),
    "name": st.sampled_from(NAMES),
}
OF_KIND = {
    "vxlan": {"vlan_id"},
    "vlan": {"vxlan", "flooding"},
    "bridge": {"vxlan", "vlan_id", "flooding"},
}


def is_possible(fake: FakeHost) -> bool:
    """Could a kernel be in this state? Names are unique, and so are wires and masters."""
    links = fake.read().links
    names = [name for link in links for name in (link.name, *link.altnames)]
    vnis = [(link.vxlan.vni, link.vxlan.port, link.vxlan.family) for link in links if link.vxlan]
    vids = [(link.parent, link.vlan_id) for link in links if link.vlan_id]
    bridges = {link.index for link in links if link.kind == "bridge"}
    return (
        all(len(each) == len(set(each)) for each in (names, vnis, vids))
        and all(link.master in bridges | {0} - {link.index} for link in links)
        and not any(link.kind == "bridge" and link.master for link in links)
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[FakeHost, Want]:
    """Wishes, and a host with a history: other wishes, strangers, half-made links and drift."""
    want = draw(wishes())
    fake = FakeHost()
    for name in ("ens4", "ens5"):
        fake.put(
            name,
            addresses=ADDRESSES[draw(st.sampled_from(["both", "both", "v4", "v6"]))],
            up=draw(st.booleans()),
            mtu=draw(st.sampled_from([1500, 1500, 9000, 1400])),
            altnames=frozenset({"nic4"}) if name == "ens4" else frozenset(),
        )
    if draw(st.booleans()):
        draw(wishes()).settle(fake)
    if draw(st.booleans()):
        want.settle(fake)
    for _ in range(draw(st.integers(1, 5))):
        before = copy.deepcopy(fake)
        draw_change(draw, fake)
        if not is_possible(fake):
            fake = before
    if not draw(st.integers(0, 5)):
        fake.drop("ens4")
    if not draw(st.integers(0, 5)):
        fake.alter("ens5", addresses=())
    return fake, want


def draw_change(draw: st.DrawFn, fake: FakeHost) -> None:
    links = [link for link in fake.read().links if link.kind]
    what = draw(st.sampled_from(["alter", "alter", "alter", "drop", "stranger"]))
    if what == "stranger" or not links:
        kind = draw(st.sampled_from(["", "vxlan", "vlan", "bridge"]))
        parent = fake.read().named("ens4")
        fake.put(
            draw(st.sampled_from(NAMES)),
            kind=kind,
            vxlan=draw(vxlans()) if kind == "vxlan" else None,
            vlan_id=draw(st.integers(1, 2)) if kind == "vlan" else None,
            parent=parent.index if parent and kind in {"vxlan", "vlan"} else 0,
            group=draw(st.sampled_from([0, 0, OWN_GROUP])),
            mtu=1300,
        )
        return
    link = draw(st.sampled_from(links))
    if what == "drop":
        fake.drop(link.name)
        return
    fields = sorted(FIELDS.keys() - OF_KIND[link.kind])
    field = draw(st.sampled_from(fields))
    fake.alter(link.name, **{field: draw(FIELDS[field])})


def assert_reached(want: Want, fake: FakeHost, *, prune: bool) -> None:
    """The goal in other words than the planner's."""
    facts = fake.read()
    found = want.desired(facts)
    ours = {link.index for link in facts.links if is_ours(link)}
    wanted = {device.name for device in found.devices}
    for device in found.devices:
        link = fake.link(device.name)
        parent, master = facts.at(link.parent), facts.at(link.master)
        assert (link.name, link.kind, link.alias) == (device.name, str(device.kind), device.mark)
        assert (link.mtu, link.up, link.vlan_id) == (device.mtu, True, device.vlan_id)
        assert (link.vxlan, link.flooding) == (device.vxlan, device.flooding)
        assert (parent.name if parent else "") == device.parent
        # A bridge that is kept for somebody who cannot be served now keeps its port.
        is_kept = master is not None and master.name not in wanted and master.alias in found.marks
        assert is_kept or (master.name if master else "") == device.master
        if prune:
            assert device.altnames <= link.altnames
        ours.discard(link.index)
    for index in ours if prune else ():
        left = facts.at(index)
        assert left is not None
        assert left.alias in found.marks
    for parent_name in found.parents:
        assert fake.link(parent_name).up


@given(situation=situations(), prune=st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_plan_reaches_the_goal_wherever_it_is_cut_off(
    situation: tuple[FakeHost, Want], prune: bool
) -> None:
    fake, want = situation
    strangers = [link.name for link in fake.read().links if not is_ours(link)]
    before = shape(fake.read(), strangers)
    want.settle_from_every_prefix(fake, prune=prune)
    assert want.plan(fake, prune=prune) == ()
    assert_reached(want, fake, prune=prune)
    after = shape(fake.read(), strangers)
    for name, link in before.items():
        seen = after[name]
        assert (seen.kind, seen.alias, seen.altnames, seen.mtu, seen.vxlan, seen.vlan_id) == (
            link.kind,
            link.alias,
            link.altnames,
            link.mtu,
            link.vxlan,
            link.vlan_id,
        )
        assert seen.up or not link.up


def test_a_segment_on_a_device_of_ours_follows_it() -> None:
    fake = host()
    tunnel, stacked = on(vxlan("ens4", 700), BLUE), on(vlan("vx700", 5), RED)
    want = Want(tunnel, stacked)
    want.settle_from_every_prefix(fake)
    assert fake.link("vx700.5").parent == fake.link("vx700").index
    fake.alter("vx700", up=False)
    steps = want.settle_from_every_prefix(fake)
    assert verbs(steps)[0] == "change vx700"
    Want(stacked).settle(fake)
    assert [link.name for link in fake.read().links] == ["lo", "ens4"]


def test_what_pods_are_on_stays_with_all_that_it_stands_on() -> None:
    fake = host()
    bridged = on(vxlan("ens4", 700), BLUE, backend="bridge")
    stacked = on(vlan("vx701", 5), RED)
    Want(bridged, on(vxlan("ens4", 701), cluster_key("c")), stacked).settle(fake)
    bridge = fake.read().at(fake.link("vx700").master)
    assert bridge is not None
    steps = Want(in_use=frozenset({bridge.name, "vx701.5"})).settle(fake)
    assert steps == ()
    Want(in_use=frozenset({"vx701.5"})).settle(fake)
    assert [link.name for link in fake.read().links] == ["lo", "ens4", "vx701", "vx701.5"]
    Want().settle(fake)
    assert [link.name for link in fake.read().links] == ["lo", "ens4"]

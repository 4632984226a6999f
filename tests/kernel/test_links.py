"""The node's links: one set of promises, kept by the real kernel and by the fake of other tests."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Protocol

import pytest

from danmpy.errors import HostError
from danmpy.kernel.hostlinks import (
    OWN_GROUP,
    ChangeAltnames,
    ChangeFlooding,
    ChangeLink,
    CreateLink,
    HostFacts,
    LinkChange,
    LinkFacts,
    LinkKindError,
    RemoveLink,
    VxlanAttributes,
)
from danmpy.kernel.links import HostLinks, LinkMonitor
from danmpy.kernel.netns import inside, open_netns
from support.fakehost import FakeHost
from support.netns import Namespace, Namespaces
from support.requirements import need

V4 = VxlanAttributes(vni=700, port=4789, local=ip_address("192.0.2.1"))
V6 = VxlanAttributes(vni=700, port=4789, local=ip_address("2001:db8::1"))
PEERS = frozenset(map(ip_address, ("192.0.2.2", "192.0.2.3")))


class Host(Protocol):
    def read(self) -> HostFacts: ...

    def apply(self, change: LinkChange) -> None: ...

    def remove_links(self, changes: Sequence[RemoveLink]) -> None: ...


class Stage:
    """A host with the NIC ens4 and, by hand, what a person does."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def link(self, name: str) -> LinkFacts:
        link = self.host.read().named(name)
        assert link is not None, f"no link {name}"
        return link

    def has(self, name: str) -> bool:
        return self.host.read().named(name) is not None

    def apply(self, *changes: LinkChange) -> None:
        for change in changes:
            self.host.apply(change)

    def set_mtu(self, name: str, mtu: int) -> None:
        raise NotImplementedError

    def set_up(self, name: str, up: bool) -> None:
        raise NotImplementedError

    def drop(self, name: str) -> None:
        raise NotImplementedError


class FakeStage(Stage):
    def __init__(self) -> None:
        self.fake = FakeHost()
        super().__init__(self.fake)
        self.fake.put("ens4", addresses=("192.0.2.1/24", "2001:db8::1/64"), up=True)

    def set_mtu(self, name: str, mtu: int) -> None:
        self.fake.alter(name, mtu=mtu)

    def set_up(self, name: str, up: bool) -> None:
        self.fake.alter(name, up=up)

    def drop(self, name: str) -> None:
        self.fake.drop(name)


class RealStage(Stage):
    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.links = open_in(namespace, HostLinks)
        super().__init__(self.links)
        namespace.batch(
            "link add ens4 type veth peer name far",
            "link set ens4 up",
            "link set far up",
            "address add 192.0.2.1/24 dev ens4",
            "address add 2001:db8::1/64 dev ens4 nodad",
        )

    def set_mtu(self, name: str, mtu: int) -> None:
        self.namespace.ip("link", "set", name, "mtu", str(mtu))

    def set_up(self, name: str, up: bool) -> None:
        self.namespace.ip("link", "set", name, "up" if up else "down")

    def drop(self, name: str) -> None:
        self.namespace.ip("link", "delete", name)


def open_in(namespace: Namespace, make: Any, *arguments: Any) -> Any:
    """Call `make` in the namespace: what it opens stays there."""
    fd = open_netns(str(namespace.path))
    with inside(fd):
        return make(*arguments)


@pytest.fixture
def real(namespaces: Namespaces) -> Iterator[RealStage]:
    stage = RealStage(namespaces.make("links"))
    yield stage
    stage.links.close()


@pytest.fixture(params=["fake", "real"])
def stage(request: pytest.FixtureRequest) -> Stage:
    if request.param == "fake":
        return FakeStage()
    made: Stage = request.getfixturevalue("real")
    return made


def vxlan(name: str = "vx700", **values: Any) -> CreateLink:
    fields: dict[str, Any] = {
        "name": name,
        "kind": "vxlan",
        "alias": "danmpy vxlan:ens4:700",
        "mtu": 1450,
        "parent": "ens4",
        "vxlan": V4,
    }
    return CreateLink(**(fields | values))


def vlan(vid: int = 7, **values: Any) -> CreateLink:
    name = f"ens4.{vid}"
    fields: dict[str, Any] = {
        "name": name,
        "kind": "vlan",
        "alias": f"danmpy vlan:ens4:{vid}",
        "mtu": 1500,
        "parent": "ens4",
        "vlan_id": vid,
    }
    return CreateLink(**(fields | values))


def bridge(name: str = "br-1") -> CreateLink:
    return CreateLink(name=name, kind="bridge", alias="danmpy bridge:x", mtu=1500)


# What is read.


def test_a_nic_is_read_with_its_addresses_in_order(stage: Stage) -> None:
    nic = stage.link("ens4")
    assert [str(address) for address in nic.addresses] == ["192.0.2.1/24", "2001:db8::1/64"]
    assert (nic.mtu, nic.up, nic.alias, nic.group, nic.vxlan) == (1500, True, "", 0, None)


# Making.


def test_a_vxlan_is_born_down_marked_and_exactly_as_asked(stage: Stage) -> None:
    stage.apply(vxlan())
    link = stage.link("vx700")
    assert (link.kind, link.alias, link.group) == ("vxlan", "danmpy vxlan:ens4:700", OWN_GROUP)
    assert (link.up, link.mtu, link.vxlan) == (False, 1450, V4)
    assert link.parent == stage.link("ens4").index
    assert (link.flooding, link.altnames, link.master) == (frozenset(), frozenset(), 0)


def test_a_vxlan_over_ipv6_is_made_as_well(stage: Stage) -> None:
    stage.apply(vxlan(vxlan=V6, mtu=1430), ChangeLink(name="vx700", up=True))
    link = stage.link("vx700")
    assert (link.vxlan, link.up) == (V6, True)


def test_a_multicast_group_is_no_flooding_entry(stage: Stage) -> None:
    grouped = replace(V4, group=ip_address("239.0.2.188"))
    stage.apply(vxlan(vxlan=grouped), ChangeLink(name="vx700", up=True))
    link = stage.link("vx700")
    assert (link.vxlan, link.flooding) == (grouped, frozenset())


def test_a_bridge_is_made_and_a_link_can_be_born_as_its_port(stage: Stage) -> None:
    stage.apply(bridge(), vxlan(master="br-1"))
    assert stage.link("br-1").kind == "bridge"
    assert stage.link("vx700").master == stage.link("br-1").index


def test_a_name_that_is_there_is_refused_and_the_other_link_stays_as_it_is(stage: Stage) -> None:
    before = stage.link("ens4")
    with pytest.raises(HostError, match="exists"):
        stage.apply(bridge("ens4"))
    assert stage.link("ens4") == before


def test_an_alternative_name_is_a_name_too(stage: Stage) -> None:
    stage.apply(bridge(), ChangeAltnames(name="br-1", add=frozenset({"vx700"})))
    with pytest.raises(HostError, match="exists"):
        stage.apply(vxlan())


def test_one_vni_is_possible_once_a_node_whatever_the_parent(stage: Stage) -> None:
    stage.apply(vxlan())
    with pytest.raises(HostError, match="exists"):
        stage.apply(vxlan("vx-other", alias="danmpy vxlan:lo:700", parent="lo"))
    assert not stage.has("vx-other")


def test_one_vni_is_possible_for_each_family_and_each_port(stage: Stage) -> None:
    stage.apply(
        vxlan(), vxlan("vx6", vxlan=V6, mtu=1400), vxlan("vxp", vxlan=replace(V4, port=8472))
    )
    assert stage.has("vx6")
    assert stage.has("vxp")


def test_a_missing_parent_is_refused_and_nothing_is_made(stage: Stage) -> None:
    with pytest.raises(HostError):
        stage.apply(vxlan(parent="gone0"))
    assert not stage.has("vx700")


# Changing.


def test_settings_are_changed_together(stage: Stage) -> None:
    stage.apply(vxlan(), bridge())
    local = replace(V4, learning=False)
    stage.apply(
        ChangeLink(name="vx700", up=True, mtu=1400, alias="other", master="br-1", vxlan=local)
    )
    link = stage.link("vx700")
    assert (link.up, link.mtu, link.alias, link.vxlan) == (True, 1400, "other", local)
    assert link.master == stage.link("br-1").index
    stage.apply(ChangeLink(name="vx700", master=""))
    assert stage.link("vx700").master == 0


def test_a_group_comes_and_goes_while_the_link_is_up(stage: Stage) -> None:
    stage.apply(vxlan(), ChangeLink(name="vx700", up=True), ChangeFlooding(name="vx700", add=PEERS))
    grouped = replace(V4, group=ip_address("239.0.2.188"))
    stage.apply(ChangeLink(name="vx700", vxlan=grouped))
    assert (stage.link("vx700").vxlan, stage.link("vx700").up) == (grouped, True)
    stage.apply(ChangeLink(name="vx700", vxlan=V4))
    link = stage.link("vx700")
    assert (link.vxlan, link.up, link.flooding) == (V4, True, PEERS)


def test_an_mtu_that_the_parent_cannot_carry_is_refused(stage: Stage) -> None:
    stage.apply(vxlan())
    with pytest.raises(HostError):
        stage.apply(ChangeLink(name="vx700", mtu=1451))
    assert stage.link("vx700").mtu == 1450


def test_a_link_that_is_up_can_be_renamed_by_its_index(stage: Stage) -> None:
    stage.apply(vxlan("wrong"), ChangeLink(name="wrong", up=True))
    index = stage.link("wrong").index
    stage.apply(ChangeLink(name="whatever", index=index, rename="vx700"))
    link = stage.link("vx700")
    assert (link.index, link.up, stage.has("wrong")) == (index, True, False)


def test_alternative_names_come_and_go_one_by_one(stage: Stage) -> None:
    stage.apply(vxlan(), ChangeAltnames(name="vx700", add=frozenset({"vx_a", "vx_" + "b" * 100})))
    assert stage.link("vx_a").name == "vx700"
    stage.apply(ChangeAltnames(name="vx700", remove=frozenset({"vx_a", "never-there"})))
    assert stage.link("vx700").altnames == {"vx_" + "b" * 100}


def test_an_alternative_name_of_another_link_is_refused(stage: Stage) -> None:
    stage.apply(vxlan())
    with pytest.raises(HostError, match="exists"):
        stage.apply(ChangeAltnames(name="vx700", add=frozenset({"ens4"})))


def test_flooding_entries_come_and_go_and_twice_is_fine(stage: Stage) -> None:
    stage.apply(vxlan(), ChangeLink(name="vx700", up=True))
    stage.apply(*[ChangeFlooding(name="vx700", add=PEERS)] * 2)
    assert stage.link("vx700").flooding == PEERS
    gone = frozenset({ip_address("192.0.2.3"), ip_address("192.0.2.99")})
    stage.apply(ChangeFlooding(name="vx700", remove=gone))
    assert stage.link("vx700").flooding == {ip_address("192.0.2.2")}


def test_a_change_of_a_link_that_is_gone_is_refused(stage: Stage) -> None:
    with pytest.raises(HostError):
        stage.apply(ChangeLink(name="vx700", up=True))


# Removing.


def test_removing_is_done_once_and_a_second_time_is_fine(stage: Stage) -> None:
    stage.apply(vxlan())
    index = stage.link("vx700").index
    stage.apply(*[RemoveLink(name="vx700", index=index)] * 2, *[RemoveLink(name="vx700")] * 2)
    assert not stage.has("vx700")


def test_a_removed_bridge_lets_its_ports_go(stage: Stage) -> None:
    stage.apply(bridge(), vxlan(master="br-1"), RemoveLink(name="br-1"))
    assert stage.link("vx700").master == 0


def test_many_links_are_removed_together_and_no_other(stage: Stage) -> None:
    names = [f"vx{vni}" for vni in range(1, 131)]  # more than go in one system call
    for vni, name in enumerate(names, 1):
        stage.apply(vxlan(name, vxlan=replace(V4, vni=vni)))
    removals = [RemoveLink(name=name, index=stage.link(name).index) for name in names[1:]]
    gone = RemoveLink(name="gone", index=99999)
    stage.host.remove_links([gone, *removals, RemoveLink(name="never-there")])
    assert {link.name for link in stage.host.read().links if link.kind == "vxlan"} == {"vx1"}


def test_what_stands_on_a_parent_goes_with_it(stage: Stage) -> None:
    stage.apply(vxlan())
    stage.drop("ens4")
    assert not stage.has("vx700")


# VLANs: many small kernels have none.


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.uml)])
def vlan_stage(request: pytest.FixtureRequest) -> Stage:
    if request.param == "fake":
        return FakeStage()
    need("link:vlan")
    made: Stage = request.getfixturevalue("real")
    return made


def test_a_vlan_is_made_as_asked(vlan_stage: Stage) -> None:
    vlan_stage.apply(vlan(), ChangeLink(name="ens4.7", up=True))
    link = vlan_stage.link("ens4.7")
    assert (link.kind, link.vlan_id, link.mtu, link.up) == ("vlan", 7, 1500, True)
    assert (link.parent, link.group) == (vlan_stage.link("ens4").index, OWN_GROUP)


def test_one_vlan_id_is_possible_once_on_a_parent(vlan_stage: Stage) -> None:
    vlan_stage.apply(vlan())
    with pytest.raises(HostError, match="exists"):
        vlan_stage.apply(vlan(name="other"))


def test_a_vlan_follows_its_parent_down_and_to_a_smaller_mtu(vlan_stage: Stage) -> None:
    vlan_stage.apply(vlan(), ChangeLink(name="ens4.7", up=True))
    vlan_stage.set_mtu("ens4", 1400)
    vlan_stage.set_up("ens4", False)
    link = vlan_stage.link("ens4.7")
    assert (link.mtu, link.up) == (1400, False)
    with pytest.raises(HostError, match="down"):
        vlan_stage.apply(ChangeLink(name="ens4.7", up=True))


def test_a_link_that_is_up_is_renamed_also_by_an_older_kernel(vlan_stage: Stage) -> None:
    vlan_stage.apply(vlan(name="wrong"), ChangeLink(name="wrong", up=True))
    vlan_stage.apply(ChangeLink(name="wrong", rename="ens4.7"))
    assert vlan_stage.link("ens4.7").up
    assert not vlan_stage.has("wrong")


def test_a_vlan_with_more_mtu_than_its_parent_is_refused(vlan_stage: Stage) -> None:
    with pytest.raises(HostError):
        vlan_stage.apply(vlan(mtu=1501))
    assert not vlan_stage.has("ens4.7")


# The real kernel alone.


def test_an_unknown_kind_says_so_and_which_module_to_load(real: RealStage) -> None:
    with pytest.raises(LinkKindError) as caught:
        real.apply(CreateLink(name="x0", kind="nonsense", alias="a", mtu=1500))
    assert "modprobe nonsense" in caught.value.hint
    assert "x0" in caught.value.message
    assert not real.has("x0")


def test_the_kernels_own_words_reach_the_operator(real: RealStage) -> None:
    real.apply(vxlan())
    with pytest.raises(HostError) as caught:
        real.apply(vxlan("vx-other"))
    assert "specified VNI already exists" in caught.value.message


@pytest.mark.parametrize("is_up", [False, True])
def test_more_groups_than_a_node_may_join_are_told_with_the_way_out(
    real: RealStage, is_up: bool
) -> None:
    for vni in range(1, 22):
        name, grouped = f"vx{vni}", replace(V4, vni=vni, group=ip_address(f"239.0.0.{vni}"))
        real.apply(vxlan(name, vxlan=replace(V4, vni=vni) if is_up else grouped))
        if is_up:
            real.apply(ChangeLink(name=name, up=True))
        change = ChangeLink(name=name, vxlan=grouped) if is_up else ChangeLink(name=name, up=True)
        if vni < 21:
            real.apply(change)
            continue
        with pytest.raises(HostError) as refusal:
            real.apply(change)
        assert "igmp_max_memberships" in refusal.value.hint


def test_a_link_that_cannot_be_marked_is_taken_away_again(real: RealStage) -> None:
    with pytest.raises(HostError):
        real.apply(vxlan(alias="x" * 256))
    assert not real.has("vx700")


def test_the_node_itself_is_not_on_a_tenants_wire(real: RealStage) -> None:
    real.apply(vxlan(), ChangeLink(name="vx700", up=True))
    real.apply(bridge(), ChangeLink(name="br-1", up=True))
    shown = real.namespace.ip("-6", "address", "show", "scope", "link").stdout
    assert "vx700" not in shown
    assert "br-1" not in shown
    assert "ens4" in shown
    for name in ("vx700", "br-1"):
        for setting in ("arp_ignore", "rp_filter"):
            path = f"/proc/sys/net/ipv4/conf/{name}/{setting}"
            assert real.namespace.run("cat", path).stdout == "1\n"


def test_addresses_that_cannot_be_used_yet_are_not_there(real: RealStage) -> None:
    real.namespace.batch(
        "address add 2001:db8::dead/64 dev ens4 preferred_lft 0",
        "address add 169.254.1.1/16 dev ens4 scope link",
    )
    assert [str(address) for address in real.link("ens4").addresses] == [
        "192.0.2.1/24",
        "2001:db8::1/64",
    ]


def test_a_parent_in_another_namespace_is_none_of_ours(
    real: RealStage, namespaces: Namespaces
) -> None:
    other = namespaces.make("other")
    real.namespace.ip("link", "add", "mv0", "link", "ens4", "type", "macvlan")
    real.namespace.ip("link", "set", "mv0", "netns", other.name)
    links = open_in(other, HostLinks)
    moved = links.read().named("mv0")
    links.close()
    assert moved is not None
    assert moved.parent == 0


def test_learned_addresses_are_no_flooding_entries(real: RealStage) -> None:
    real.apply(vxlan(), ChangeLink(name="vx700", up=True))
    real.namespace.run(
        "bridge", "fdb", "append", "02:00:00:00:00:05", "dev", "vx700", "dst", "192.0.2.9"
    )
    assert real.link("vx700").flooding == frozenset()


def test_threads_may_share_one_host(real: RealStage) -> None:
    errors: list[Exception] = []

    def work(first: int) -> None:
        try:
            for vni in range(first, first + 10):
                name = f"vx{vni}"
                real.apply(vxlan(name, vxlan=replace(V4, vni=vni)))
                assert real.link(name).vxlan == replace(V4, vni=vni)
                real.apply(RemoveLink(name=name))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_closed_socket_is_an_error_of_ours(real: RealStage) -> None:
    links = open_in(real.namespace, HostLinks)
    links.close()
    with pytest.raises(HostError, match="cannot read"):
        links.read()


@pytest.fixture
def heard(real: RealStage) -> Iterator[threading.Event]:
    event = threading.Event()
    monitor = open_in(real.namespace, LinkMonitor, event.set)
    monitor.start()
    yield event
    monitor.close()


@pytest.mark.parametrize(
    "words",
    [
        "link set ens4 down",
        "link set ens4 mtu 1400",
        "link add br9 type bridge",
        "address add 192.0.2.77/24 dev ens4",
        "address add 2001:db8::77/64 dev ens4 nodad",
        "link delete ens4",
    ],
)
def test_the_monitor_hears_of_every_change(
    real: RealStage, heard: threading.Event, words: str
) -> None:
    time.sleep(0.05)
    heard.clear()
    real.namespace.batch(words)
    assert heard.wait(2)


def test_a_monitor_that_was_never_started_can_be_closed(real: RealStage) -> None:
    open_in(real.namespace, LinkMonitor, lambda: None).close()


def test_a_monitor_that_missed_events_looks_again(real: RealStage) -> None:
    looks: list[float] = []
    gate = threading.Event()

    def slow() -> None:
        looks.append(time.monotonic())
        gate.wait(10)

    monitor = open_in(real.namespace, LinkMonitor, slow)
    monitor.start()
    try:
        real.namespace.batch("link set ens4 down")
        deadline = time.monotonic() + 5
        while not looks and time.monotonic() < deadline:
            time.sleep(0.01)
        # While the listener is busy, more happens than the socket can hold.
        real.namespace.batch(
            *[f"link set ens4 alias {'x' * 200}{number}" for number in range(3000)]
        )
        gate.set()
        while len(looks) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(looks) >= 2
        assert monitor.is_alive
    finally:
        gate.set()
        monitor.close()

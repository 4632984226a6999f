"""What has to come and go: decided without touching anything."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.cni import CniInterface, CniIp, CniResult, CniRoute
from danmpy.api.dialects.keys import MULTUS_DEFAULT
from danmpy.api.specs import (
    Dialect,
    InterfaceAsk,
    NetworkKey,
    NetworkKind,
    PluginAsk,
    PodAsks,
    PodSpec,
)
from danmpy.attach.journal import AttachmentRecord, LinkRecord, Phase
from danmpy.attach.plugging.plan import (
    Change,
    candidates_for,
    compare,
    says_primary,
    without_links,
)
from danmpy.attach.plugging.wishes import wish_of
from danmpy.errors import ConflictError, DanmpyError, IntentError
from danmpy.kernel.podlinks import PodLink, PodLinkConfig, PodRoute
from support.specs import DYNAMIC, ask, static, tenant_key

FIRST, A, B, C = (tenant_key(name) for name in ("first", "a", "b", "c"))


def nad(name: str) -> NetworkKey:
    return NetworkKey(kind=NetworkKind.NAD, namespace="blue", name=name)


def standing(*links: tuple[str, InterfaceAsk]) -> AttachmentRecord:
    """An attachment with eth0 on `FIRST` and these, by the asks they were made for."""
    return AttachmentRecord(
        container_id="c1",
        ifname="eth0",
        phase=Phase.ATTACHED,
        netns="/n",
        namespace="blue",
        pod="web",
        links=tuple(
            LinkRecord(name=name, network=str(one.network), wish=wish_of(one))
            for name, one in (("eth0", ask(FIRST)), *links)
        ),
    )


def asking(*asks: InterfaceAsk, dialect: Dialect = Dialect.DANM) -> PodAsks:
    return PodAsks(dialect=dialect, interfaces=(ask(FIRST), *asks))


def npwg(*asks: InterfaceAsk) -> PodAsks:
    """As the reader of that dialect has it: every ask but the first with its name."""
    named = (
        InterfaceAsk(network=one.network, ip=one.ip, name=one.name or f"net{at}")
        for at, one in enumerate(asks, start=1)
    )
    return asking(*named, dialect=Dialect.NPWG)


def compared(asks: PodAsks, record: AttachmentRecord, **more: Any) -> Change:
    return compare(asks, record, lambda one: candidates_for(asks, one, "eth", bare=False), **more)


def moves(asks: PodAsks, record: AttachmentRecord, **more: Any) -> tuple[set[str], Sequence[str]]:
    change = compared(asks, record, **more)
    return set(change.leaving), change.coming


def test_nothing_changes_when_the_same_is_asked() -> None:
    change = compared(asking(ask(A), ask(B)), standing(("eth1", ask(A)), ("eth2", ask(B))))
    assert not change
    assert [one.name for one in change.asks] == ["eth0", "eth1", "eth2"]


def test_what_is_not_asked_any_more_leaves_and_the_others_keep_their_names() -> None:
    record = standing(("eth1", ask(A)), ("eth2", ask(B)))
    change = compared(asking(ask(B)), record)
    assert (change.leaving, change.coming) == (("eth1",), ())
    assert [one.name for one in change.asks] == ["eth0", "eth2"]


def test_what_is_new_gets_the_name_of_its_place_when_that_is_free() -> None:
    assert moves(asking(ask(A), ask(B)), standing(("eth1", ask(A)))) == (set(), ("eth2",))


def test_what_is_new_gets_the_next_free_number_when_its_place_is_taken() -> None:
    record = standing(("eth1", ask(A)), ("eth2", ask(B)))
    assert moves(asking(ask(B), ask(C)), record) == ({"eth1"}, ("eth1",))


def test_names_of_others_in_the_pod_are_passed_over() -> None:
    assert moves(asking(ask(A)), standing(), foreign={"eth1", "eth2"}) == (set(), ("eth3",))


def test_npwg_names_are_by_place_and_a_gap_moves_nobody() -> None:
    record = standing(("net1", ask(nad("a"))), ("net2", ask(nad("b"))))
    assert moves(npwg(ask(nad("b"))), record) == ({"net1"}, ())
    assert moves(npwg(ask(nad("b")), ask(nad("a"))), record) == (set(), ())
    assert moves(npwg(ask(nad("b")), ask(nad("c"))), record) == ({"net1"}, ("net1",))


def test_a_name_that_the_pod_gives_counts() -> None:
    record = standing(("net1", ask(nad("a"))))
    assert moves(npwg(ask(nad("a"), name="data")), record) == ({"net1"}, ("data",))
    assert moves(npwg(ask(nad("a"), name="data")), standing(("data", ask(nad("a"))))) == (set(), ())


def test_several_on_one_network_are_told_apart_by_what_they_ask() -> None:
    one, two = ask(A, static("10.0.0.1")), ask(A, static("10.0.0.2"))
    record = standing(("eth1", one), ("eth2", two))
    assert moves(asking(two), record) == ({"eth1"}, ())
    assert moves(asking(two, one), record) == (set(), ())


def test_what_asks_otherwise_goes_and_comes_under_the_same_name() -> None:
    record = standing(("eth1", ask(A, DYNAMIC)), ("eth2", ask(B)))
    assert moves(asking(ask(A, static("10.0.0.9")), ask(B)), record) == ({"eth1"}, ("eth1",))


def test_an_interface_of_which_nobody_knows_what_was_asked_is_left_alone() -> None:
    record = standing(("eth1", ask(A)))
    old = LinkRecord(name="eth1", network=str(A))
    record = AttachmentRecord(
        **{name: getattr(record, name) for name in ("container_id", "ifname", "phase", "netns")},
        links=(record.links[0], old),
    )
    assert moves(asking(ask(A, static("10.0.0.9"))), record) == (set(), ())


def test_another_first_interface_is_refused_when_the_pod_says_so_itself() -> None:
    asks = PodAsks(dialect=Dialect.DANM, interfaces=(ask(A), ask(B)))
    with pytest.raises(IntentError, match="first interface eth0 would change"):
        compared(asks, standing(("eth1", ask(B))))
    assert not compared(asks, standing(("eth1", ask(B))), says_primary=False)


def test_behind_another_plugin_there_is_no_first_interface_of_ours() -> None:
    record = AttachmentRecord(
        container_id="c1",
        ifname="eth0",
        phase=Phase.ATTACHED,
        netns="/n",
        links=(LinkRecord(name="eth1", network=str(A), wish=wish_of(ask(A))),),
        previous={"cniVersion": "1.0.0"},
    )
    asks = PodAsks(dialect=Dialect.DANM, interfaces=(ask(A), ask(B)), has_primary=False)
    assert moves(asks, record) == (set(), ("eth2",))
    named = PodAsks(
        dialect=Dialect.DANM, interfaces=(ask(A), ask(B, name="eth0")), has_primary=False
    )
    with pytest.raises(ConflictError, match="two interfaces called eth0"):
        compared(named, record)


def test_a_first_interface_under_another_name_is_refused() -> None:
    asks = PodAsks(dialect=Dialect.DANM, interfaces=(ask(FIRST, name="data"),))
    with pytest.raises(IntentError, match="none of its interfaces is called eth0"):
        compared(asks, standing())


def test_the_name_of_the_first_interface_given_to_another_one_is_refused() -> None:
    """As an ADD refuses it: the first without a name is what the runtime asked for."""
    record = standing(("a0", ask(nad("a"))))
    wanted = ask(nad("b"), name="eth0", place="networks[1]")
    asks = npwg(ask(nad("a"), name="a0"))
    asks = PodAsks(dialect=Dialect.NPWG, interfaces=(*asks.interfaces, wanted))
    with pytest.raises(
        ConflictError, match=r"web: networks\[1\]: it asks for two interfaces called eth0"
    ):
        compared(asks, record, says_primary=False)
    with pytest.raises(ConflictError, match="two interfaces called eth0"):
        compared(asking(ask(FIRST, name="eth0")), standing())
    second = PodAsks(
        dialect=Dialect.DANM, interfaces=(ask(A, name="data"), ask(FIRST, name="eth0"))
    )
    assert moves(second, standing()) == (set(), ("data",)), "here the first has a name of its own"


def test_a_name_of_an_interface_that_stays_is_refused() -> None:
    with pytest.raises(ConflictError, match="two interfaces called eth1"):
        compared(asking(ask(A), ask(B, name="eth1")), standing(("eth1", ask(A))))


@pytest.mark.parametrize(
    "leading", [ask(A, default_route=True), ask(A, plugin=PluginAsk(gateways=()))]
)
def test_the_default_route_neither_comes_nor_goes(leading: InterfaceAsk) -> None:
    with pytest.raises(IntentError, match="does not move"):
        compared(asking(leading), standing())
    with pytest.raises(IntentError, match="does not move"):
        compared(asking(), standing(("eth1", leading)))
    assert not compared(asking(leading), standing(("eth1", leading)))


def test_the_same_network_in_other_words_is_the_same_interface() -> None:
    link = LinkRecord(name="net1", network=str(A), wish=wish_of(ask(A)))
    record = AttachmentRecord(
        container_id="c1",
        ifname="eth0",
        phase=Phase.ATTACHED,
        netns="/n",
        links=(standing().links[0], link),
    )
    asks = npwg()
    both = InterfaceAsk(network=nad("a"), others=(A,), name="net1")
    asks = PodAsks(dialect=Dialect.NPWG, interfaces=(*asks.interfaces, both))
    assert not compared(asks, record)


def test_the_pod_says_its_first_interface_in_danms_words_or_with_the_annotation_for_it() -> None:
    pod = PodSpec(namespace="blue", name="web")
    assert says_primary(pod, asking())
    assert not says_primary(pod, npwg())
    assert not says_primary(pod, asking(dialect=Dialect.SILENT))
    named = PodSpec(namespace="blue", name="web", annotations={MULTUS_DEFAULT: "x"})
    assert says_primary(named, npwg())


def test_the_legacy_naming_tries_the_prefix_alone_first() -> None:
    asks = asking(ask(A))
    names = candidates_for(asks, asks.interfaces[1], "int", bare=True)
    assert [next(iter(names)) for _ in range(3)] == ["int", "int1", "int1"]


wishes = st.lists(
    st.builds(
        lambda key, address, name: ask(key, address, name=name),
        st.sampled_from([A, B, C]),
        st.sampled_from([DYNAMIC, static("10.0.0.1"), static("10.0.0.2")]),
        st.sampled_from([None, None, None, "x", "y", "eth0", "eth1"]),
    ),
    max_size=5,
)


@given(wishes, wishes)
def test_after_a_change_the_pod_has_exactly_what_it_asks(
    before: list[InterfaceAsk], after: list[InterfaceAsk]
) -> None:
    try:
        record = done(compared(asking(*before), standing()), standing())
        change = compared(asking(*after), record)
    except DanmpyError:
        return
    record = done(change, record)
    names = [link.name for link in record.links]
    assert len(set(names)) == len(names)
    assert {(one.name, wish_of(one)) for one in change.asks} == {
        (link.name, link.wish) for link in record.links
    }
    assert "eth0" not in {*change.leaving, *change.coming}
    assert not compared(asking(*after), record)


def done(change: Change, record: AttachmentRecord) -> AttachmentRecord:
    """The attachment after `change`."""
    kept = [(link.name, link) for link in record.links if link.name not in change.leaving]
    new = [
        (one.name, LinkRecord(name=one.name or "", network=str(one.network), wish=wish_of(one)))
        for one in change.asks
        if one.name in change.coming
    ]
    return AttachmentRecord(
        container_id="c1",
        ifname="eth0",
        phase=Phase.ATTACHED,
        netns="/n",
        links=tuple(link for _, link in (*kept, *new)),
    )


def test_a_result_loses_exactly_what_an_interface_brought() -> None:
    own = LinkRecord(
        name="eth1",
        network=str(A),
        link=PodLink(name="eth1", kind="veth", parent="br0", host_name="dh1"),
        config=PodLinkConfig(
            alias="", ipv6=True, routes=(PodRoute(destination="10.9.0.0/16", gateway="10.0.1.1"),)
        ),
    )
    told = (
        '{"cniVersion":"1.0.0","interfaces":[{"name":"tap0","sandbox":"/n"}],'
        '"routes":[{"dst":"10.8.0.0/16"}]}'
    )
    delegated = LinkRecord(name="eth2", network=str(B), delegate="{}", delegate_result=told)
    inside = tuple(CniInterface(name=name, sandbox="/n") for name in ("eth0", "eth1", "tap0"))
    result = CniResult(
        interfaces=(*inside, CniInterface(name="dh1"), CniInterface(name="eth1")),
        ips=tuple(CniIp(address=ip_interface(f"10.0.{at}.2/24"), interface=at) for at in range(3)),
        routes=tuple(
            CniRoute(dst=ip_network(dst), gw=None)
            for dst in ("10.7.0.0/16", "10.8.0.0/16", "10.8.0.0/16")
        ),
    )
    left = without_links(result, [delegated])
    assert [each.name for each in left.interfaces] == ["eth0", "eth1", "dh1", "eth1"]
    assert [str(ip.address) for ip in left.ips] == ["10.0.0.2/24", "10.0.1.2/24"]
    assert [str(each.dst) for each in left.routes] == ["10.7.0.0/16", "10.8.0.0/16"]
    left = without_links(left, [own])
    # A link of the node may have the name of one in the pod.
    assert [(each.name, each.sandbox) for each in left.interfaces] == [("eth0", "/n"), ("eth1", "")]
    assert [(str(ip.address), ip.interface) for ip in left.ips] == [("10.0.0.2/24", 0)]

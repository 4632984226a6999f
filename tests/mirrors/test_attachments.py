from __future__ import annotations

import gc
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from danmpy.api.cni import CniDns, CniInterface, CniIp, CniResult, CniRoute, render_result
from danmpy.api.specs import NetworkKey, NetworkKind
from danmpy.attach.journal import Phase
from danmpy.kernel.podlinks import PodLinkConfig, PodRoute
from danmpy.mirrors.attachments import AttachmentReader, facts_of, parse_key
from support.mirroring import (
    EXT,
    INTERNAL,
    NETNS,
    Records,
    delegate_link,
    own_link,
    pod,
    pods,
    record,
    with_result,
)
from support.specs import cluster_key, danm_key, tenant_key


def test_an_interface_of_ours_is_told_with_what_it_got() -> None:
    routes = (
        PodRoute(destination="0.0.0.0/0", gateway="10.0.0.254"),
        PodRoute(destination="10.9.0.0/16", gateway="10.0.0.253"),
        PodRoute(destination="10.8.0.0/16", gateway="10.0.0.252", table=9),
        PodRoute(destination="0.0.0.0/0", gateway="10.0.0.251", table=9),
    )
    link, made = own_link("eth0", INTERNAL, ["10.0.0.2/24", "fd00::2/64"], routes=routes)
    ips = tuple(
        CniIp(address=ip_interface(text), interface=0) for text in ("10.0.0.2/24", "fd00::2/64")
    )
    shown = with_result(record(links=(link,)), CniResult(interfaces=(made,), ips=ips))
    (facts,) = facts_of(shown).interfaces
    assert (facts.name, facts.network, facts.backend) == ("eth0", INTERNAL, "macvlan")
    assert facts.addresses == ("10.0.0.2/24", "fd00::2/64")
    assert (facts.address(4), facts.address(6)) == ("10.0.0.2/24", "fd00::2/64")
    assert (facts.mac, facts.mtu) == (made.mac, 1450)
    assert facts.gateways == ("10.0.0.254",)
    assert facts.policy_routes == (("10.8.0.0/16", "10.0.0.252"), ("0.0.0.0/0", "10.0.0.251"))
    assert facts.is_pods


def test_the_interface_that_the_runtime_asked_for_comes_first() -> None:
    shown = record(interfaces={"net1": EXT, "eth0": INTERNAL})
    facts = facts_of(shown).interfaces
    assert [(each.name, each.is_pods) for each in facts] == [("eth0", True), ("net1", False)]


def test_a_delegate_is_told_with_what_it_answered() -> None:
    answer = CniResult(
        interfaces=(CniInterface(name="eth0", mac="02:00:00:00:00:09", sandbox=NETNS),),
        ips=(CniIp(address=ip_interface("10.5.0.2/24"), interface=0),),
        routes=(
            CniRoute(dst=ip_network("0.0.0.0/0"), gw=ip_address("10.5.0.1")),
            CniRoute(dst=ip_network("10.6.0.0/16"), gw=ip_address("10.5.0.3")),
        ),
        dns=CniDns(nameservers=("10.5.0.53",)),
    )
    shown = with_result(record(links=(delegate_link("eth0", EXT, answer),)), answer)
    (facts,) = facts_of(shown).interfaces
    assert facts.addresses == ("10.5.0.2/24",)
    assert facts.gateways == ("10.5.0.1",)
    assert facts.dns.nameservers == ("10.5.0.53",)
    assert facts.mac == "02:00:00:00:00:09"
    assert facts.mtu == 0


def test_a_delegate_that_names_its_links_as_it_likes_keeps_them_apart_from_ours() -> None:
    made = tuple(CniInterface(name=name, sandbox=NETNS) for name in ("cali0", "cali0-mon"))
    answer = CniResult(interfaces=made, ips=(CniIp(address=ip_interface("10.5.0.2/24")),))
    own, own_made = own_link("eth0", INTERNAL, ["10.0.0.2/24"])
    last, last_made = own_link("net2", INTERNAL, ["10.0.0.3/24"])
    shown = with_result(
        record(links=(own, delegate_link("net1", EXT, answer), last)),
        CniResult(
            interfaces=(own_made, *made, last_made, CniInterface(name="veth9")),
            ips=(
                CniIp(address=ip_interface("10.0.0.2/24"), interface=0),
                CniIp(address=ip_interface("10.5.0.2/24"), interface=1),
                CniIp(address=ip_interface("10.0.0.3/24"), interface=3),
            ),
        ),
    )
    told = [(each.name, each.network, each.is_extra) for each in facts_of(shown).interfaces]
    assert told == [
        ("eth0", INTERNAL, False),
        ("cali0", EXT, False),
        ("cali0-mon", EXT, True),
        ("net2", INTERNAL, False),
    ]
    assert facts_of(shown).interfaces[1].addresses == ("10.5.0.2/24",)


def test_leased_addresses_are_told_of_a_delegate_that_says_none() -> None:
    config = PodLinkConfig(alias="", ipv6=True, addresses=("10.5.0.9/24",))
    link = delegate_link("eth0", EXT, CniResult(), config)
    shown = with_result(record(links=(link,)), CniResult())
    (facts,) = facts_of(shown).interfaces
    assert (facts.name, facts.addresses) == ("eth0", ("10.5.0.9/24",))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ips": 5}'])
def test_an_answer_that_cannot_be_read_any_more_says_nothing(text: str) -> None:
    link = replace(delegate_link("eth0", EXT, CniResult()), delegate_result=text)
    (facts,) = facts_of(record(links=(link,), result={})).interfaces
    assert (facts.name, facts.addresses, facts.gateways) == ("eth0", (), ())


@pytest.mark.parametrize("key", [tenant_key("a"), cluster_key("b"), danm_key("c", "red")])
def test_a_key_is_read_from_its_text(key) -> None:  # type: ignore[no-untyped-def]
    assert parse_key(str(key)) == key


def test_only_attachments_that_stand_are_attached_and_half_made_ones_are_known() -> None:
    records = Records()
    phases = list(Phase)
    records.put(*(record(number, phase=phase) for number, phase in enumerate(phases)))
    found = AttachmentReader(records, lambda: pods(*map(pod, range(4)))).read()
    (attached,) = found.attached
    assert attached.record.phase is Phase.ATTACHED
    assert [each.phase for each in found.half] == [Phase.ADDING]


def test_a_pod_goes_by_its_uid_and_a_static_one_by_its_hash() -> None:
    records = Records()
    records.put(*(record(number) for number in (1, 2, 3, 4)))
    intent = pods(
        pod(1),
        pod(2, uid="another"),
        pod(3, uid="of-the-mirror-pod", config_hash="uid-3"),
        pod(4, uid=""),  # a folder's: there is no object that could own anything
    )
    found = AttachmentReader(records, lambda: intent).read().attached
    assert [each.pod and each.pod.uid for each in found] == [
        "uid-1",
        None,
        "of-the-mirror-pod",
        None,
    ]


def test_a_record_is_worked_out_once_and_forgotten_with_its_attachment() -> None:
    records = Records()
    records.put(record(1))
    reader = AttachmentReader(records, lambda: pods(pod(1)))
    first = reader.read().attached[0].facts
    assert reader.read().attached[0].facts is first
    records.put(record(1, began_at=5))
    assert reader.read().attached[0].facts.began_at == 5
    records.records.clear()
    assert reader.read().attached == ()
    del first
    gc.collect()
    assert reader._known == {}


def test_what_only_a_definition_of_the_working_group_has_is_told_too() -> None:
    nad = NetworkKey(kind=NetworkKind.NAD, namespace="blue", name="ib")
    link = replace(
        delegate_link("net1", nad, CniResult()),
        asked="blue/other",
        infiniband_guid="02:00:00:00:00:00:00:01",
        device_info='{"type": "pci"}',
    )
    shown = with_result(record(links=(link,)), CniResult())
    (facts,) = facts_of(shown).interfaces
    assert (facts.network, facts.asked) == (nad, "blue/other")
    assert facts.infiniband_guid == "02:00:00:00:00:00:00:01"
    assert facts.device_info == {"type": "pci"}
    assert not facts.has_endpoint
    for damaged in ("{", "[]", "5"):
        broken = replace(link, device_info=damaged)
        assert facts_of(replace(shown, links=(broken,))).interfaces[0].device_info == {}


def test_the_interface_of_a_plugin_before_us_comes_first_with_what_it_has_now() -> None:
    previous = CniResult(
        interfaces=(CniInterface(name="br0"), CniInterface(name="eth0", sandbox=NETNS, mtu=1400)),
        ips=(
            CniIp(address=ip_interface("10.9.0.2/24"), gateway=ip_address("10.9.0.1"), interface=1),
            CniIp(address=ip_interface("10.9.0.9/24"), interface=0),
        ),
        routes=(CniRoute(dst=ip_network("0.0.0.0/0")),),
        dns=CniDns(domain="blue"),
    )
    shown = record(interfaces={"net1": INTERNAL}, network_name="chain")
    shown = replace(shown, previous=render_result(previous, "1.1.0"))
    first, second = facts_of(shown).interfaces
    assert (first.name, first.network, first.mtu) == (
        "eth0",
        NetworkKey(kind=NetworkKind.NAD, name="chain"),
        1400,
    )
    assert (first.addresses, first.gateways) == (("10.9.0.2/24",), ("10.9.0.1",))
    assert first.dns.domain == "blue"
    assert [each.is_pods for each in (first, second)] == [True, False]
    taken = replace(shown, defaults_taken=(4,))
    assert facts_of(taken).interfaces[0].gateways == ()

"""Differences between database, wishes and kernel."""

from __future__ import annotations

from ipaddress import IPv4Interface, ip_address

import pytest

from danmpy.api.specs import AddressMode, PodSpec
from danmpy.ipam.findings import FindingKind, SeenInterface, find
from danmpy.ipam.values import Lease

ADDRESS = ip_address("10.0.0.5")


def lease(**more) -> Lease:
    values = {
        "id": 1,
        "network": "TenantNetwork/blue/internal",
        "domain": "vxlan:ens4:700",
        "family": 4,
        "address": IPv4Interface("10.0.0.5/24"),
        "interface": "net1",
        "namespace": "blue",
        "pod": "web-0",
        "pod_uid": "uid",
        "container_id": "container",
        "node": "node-a",
        "mac": None,
        "mode": AddressMode.DYNAMIC,
        "from_": 1,
    }
    return Lease(**(values | more))


def seen(**more) -> SeenInterface:
    values = {
        "container_id": "container",
        "namespace": "blue",
        "pod": "web-0",
        "pod_uid": "uid",
        "interface": "net1",
        "addresses": frozenset({ADDRESS}),
        "seen": frozenset({ADDRESS}),
    }
    return SeenInterface(**(values | more))


def pods(**more):
    spec = PodSpec(
        **({"namespace": "blue", "name": "web-0", "uid": "uid", "node": "node-a"} | more)
    )
    return {("blue", "web-0"): spec}


def kinds(leases, interfaces, known) -> list[str]:
    return [str(item.kind) for item in find(leases, interfaces, known, "node-a")]


def test_where_all_agree_nothing_is_found() -> None:
    assert find([lease()], [seen()], pods(), "node-a") == ()


def test_a_lease_whose_pod_is_gone() -> None:
    (finding,) = find([lease()], [seen()], {}, "node-a")

    assert finding.kind is FindingKind.LEASE_WITHOUT_POD
    assert finding.subject == "Pod/blue/web-0"
    assert "10.0.0.5 of TenantNetwork/blue/internal" in finding.message
    assert finding.to_json()["kind"] == "LeaseWithoutPod"


def test_pods_that_could_not_be_read_prove_nothing() -> None:
    assert find([lease()], [seen()], None, "node-a") == ()


@pytest.mark.parametrize(
    ("pod", "kind"), [({"uid": "other"}, "UidDiffers"), ({"node": "node-b"}, "NodeDiffers")]
)
def test_a_lease_of_an_earlier_pod_or_on_another_node(pod, kind) -> None:
    assert kinds([lease()], [seen()], pods(**pod)) == [kind]


@pytest.mark.parametrize("pod", [{"uid": ""}, {"node": ""}])
def test_what_a_pod_does_not_tell_is_not_compared(pod) -> None:
    assert kinds([lease()], [seen()], pods(**pod)) == []


def test_leases_of_other_nodes_are_not_compared_with_this_kernel() -> None:
    assert kinds([lease(node="node-b")], [], pods(node="node-b")) == []


def test_a_lease_of_this_node_without_an_attachment() -> None:
    assert kinds([lease()], [], pods()) == ["LeaseWithoutInterface"]


def test_an_address_that_was_given_and_is_not_leased() -> None:
    assert kinds([], [seen()], pods()) == ["InterfaceWithoutLease"]


def test_an_address_that_the_link_has_lost_and_one_that_nobody_leased() -> None:
    stranger = frozenset({ip_address("10.0.0.99")})

    assert kinds([lease()], [seen(seen=stranger)], pods()) == ["AddressMissing", "AddressUnknown"]


def test_addresses_of_an_interface_without_leases_are_somebody_elses_business() -> None:
    other = frozenset({ip_address("192.0.2.9")})

    assert kinds([], [seen(addresses=frozenset(), seen=other)], pods()) == []


@pytest.mark.parametrize(
    ("state", "kind"), [({"netns_exists": False}, "NamespaceGone"), ({"seen": None}, "LinkGone")]
)
def test_a_namespace_or_a_link_that_is_gone(state, kind) -> None:
    assert kinds([lease()], [seen(**state)], pods()) == [kind]


@pytest.mark.parametrize("phase", ["adding", "detaching", "detached"])
def test_an_attachment_that_stopped_half_way_is_reported_once(phase) -> None:
    assert kinds([lease()], [seen(phase=phase, seen=None)], pods()) == ["AttachmentUnfinished"]


def test_findings_are_sorted_and_said_once() -> None:
    found = find(
        [lease(id=2, pod="b"), lease(id=1, pod="a"), lease(id=3, pod="a")], [seen()], {}, "x"
    )

    assert [item.subject for item in found if item.kind == "LeaseWithoutPod"] == [
        "Pod/blue/a",
        "Pod/blue/b",
    ]


# leases that were imported from another tool


def imported(**more) -> Lease:
    return lease(note="imported from host-local", **more)


def test_an_imported_lease_that_this_node_did_not_attach_is_told_as_that() -> None:
    (found,) = find([imported()], [], pods(), "node-a")
    assert found.kind == FindingKind.IMPORTED_NOT_ATTACHED
    assert "imported from host-local; danmpy did not attach it" in found.message
    assert kinds([imported(node="node-b")], [], pods(node="node-b")) == []


def test_of_an_imported_lease_whose_pod_or_node_is_unknown_nothing_is_claimed() -> None:
    nameless = imported(namespace="", pod="", pod_uid="")
    (found,) = find([nameless], [], pods(), "node-a")
    assert found.subject == "container container (imported from host-local)"
    assert kinds([imported(node="")], [], pods()) == []


def test_an_imported_lease_of_a_pod_that_is_gone_names_the_way_out() -> None:
    (found,) = find([imported(node="")], [], {}, "node-a")
    assert found.kind == FindingKind.LEASE_WITHOUT_POD
    assert "interface net1, but there is no such pod" in found.message
    assert "danmpy release" in found.hint

"""What the kernel shows of attachments, beside the journal: real pods, real links."""

from __future__ import annotations

import json
import shutil
from ipaddress import ip_address

import pytest

from danmpy.api.cni import Verb
from danmpy.attach.journal import Phase
from danmpy.attach.observe import observe, read_facts
from danmpy.ipam.findings import SeenInterface
from support.attaching import AttachNode, request
from support.netns import Namespace, Namespaces
from support.requirements import need
from support.specs import cluster_key

SHARED = cluster_key("shared")
BRIDGED = cluster_key("bridged")
BOTH = {"clusterNetwork": "shared", "ip": "dynamic", "ip6": "dynamic"}


@pytest.fixture
def pod(node: AttachNode, namespaces: Namespaces) -> Namespace:
    """A pod with one interface of both families."""
    node.add_network(SHARED, v4="10.1.0.0/24", v6="fd01::/64")
    node.add_pod("web", BOTH)
    made = namespaces.make("pod")
    node.attacher.add(request(Verb.ADD, "web", made))
    return made


def seen(node: AttachNode) -> SeenInterface:
    (only,) = observe(node.journal.read_all())
    return only


def test_an_interface_as_it_was_made_has_the_addresses_that_it_was_given(
    node: AttachNode, pod: Namespace
) -> None:
    found = seen(node)
    assert (found.container_id, found.namespace, found.pod) == ("c-web", "blue", "web")
    assert (found.interface, found.pod_uid, found.phase) == ("eth0", "uid-web", "attached")
    assert found.netns_exists
    assert len(found.addresses) == 2
    assert found.seen == found.addresses, "link-local addresses do not count"
    assert {address.version for address in found.addresses} == {4, 6}


def test_an_address_that_somebody_removed_or_added_is_seen(
    node: AttachNode, pod: Namespace
) -> None:
    given = seen(node).addresses
    (v4,) = (address for address in given if address.version == 4)
    pod.ip("address", "del", f"{v4}/24", "dev", "eth0")
    pod.ip("address", "add", "192.0.2.77/32", "dev", "eth0")
    found = seen(node)
    assert found.addresses == given
    assert found.seen == given - {v4} | {ip_address("192.0.2.77")}


def test_a_link_that_is_gone_is_none(node: AttachNode, pod: Namespace) -> None:
    pod.ip("link", "del", "eth0")
    found = seen(node)
    assert (found.netns_exists, found.seen) == (True, None)


def test_a_namespace_that_is_gone_or_was_replaced_does_not_exist(
    node: AttachNode, pod: Namespace, namespaces: Namespaces
) -> None:
    (record,) = node.journal.read_all()
    assert read_facts(record) is not None
    namespaces.delete(pod)
    assert seen(node).netns_exists is False
    other = namespaces.make("other")
    replaced = record.with_phase(Phase.ATTACHED, netns=str(other.path))
    assert read_facts(replaced) is None


def test_what_is_under_way_is_not_looked_at(node: AttachNode, pod: Namespace) -> None:
    (record,) = node.journal.read_all()
    (found,) = observe([record.with_phase(Phase.DETACHING)])
    assert (found.phase, found.netns_exists) == ("detaching", False)


def test_a_delegate_that_keeps_its_own_addresses_was_given_none(
    node: AttachNode, namespaces: Namespaces
) -> None:
    need("cni-plugins")
    for name in ("macvlan", "host-local", "static"):
        shutil.copy(f"/usr/lib/cni/{name}", node.bin_dir / name)
    conf = {
        "cniVersion": "0.4.0",
        "name": "bridged",
        "type": "macvlan",
        "master": node.parent,
        "ipam": {
            "type": "host-local",
            "subnet": "10.9.0.0/24",
            "dataDir": str(node.folder / "host-local"),
        },
    }
    (node.conf_dir / "bridged.conf").write_text(json.dumps(conf))
    node.add_network(BRIDGED, backend="macvlan-delegate", v4="10.9.0.0/24", network_id="bridged")
    node.add_pod("own", {"clusterNetwork": "bridged"})
    node.add_pod("ours", {"clusterNetwork": "bridged", "ip": "dynamic"})
    for name in ("own", "ours"):
        node.attacher.add(request(Verb.ADD, name, namespaces.make("pod")))
    found = {each.pod: each for each in observe(node.journal.read_all())}
    assert found["own"].addresses == frozenset()
    assert len(found["own"].seen or ()) == 1
    assert len(found["ours"].addresses) == 1
    assert found["ours"].seen == found["ours"].addresses

"""Interfaces on devices of device plugins, with a real kubelet socket and real links."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from danmpy.api.cni import Verb
from danmpy.api.specs import NetworkKey, NetworkKind, NetworkSpec, SegmentKey, SegmentKind
from danmpy.attach.devices.assigning import Offer
from danmpy.attach.devices.info import DeviceInfoFiles
from danmpy.attach.devices.sources import NodeDevices
from danmpy.attach.values import ClaimedDevice
from danmpy.errors import HostError, IntentError, NotReadyError, cni_code_of
from danmpy.kubelet.podresources import PodResources
from danmpy.mirrors.attachments import facts_of
from danmpy.mirrors.endpoints import desired_endpoints
from danmpy.mirrors.network_status import render_status
from support.attaching import AttachNode, assert_empty, request, with_prev
from support.functions import calls, functions, install
from support.kubelet import Kubelet, run_kubelet
from support.netns import Namespace, run
from support.specs import tenant_key

VF = "vendor/vf"
FAST, SLOW = tenant_key("fast"), tenant_key("slow")
NAD = NetworkKey(kind=NetworkKind.NAD, namespace="blue", name="vfs")


@pytest.fixture
def vfs() -> Iterator[list[str]]:
    with functions(3) as names:
        yield names


@pytest.fixture
def kubelet(node: AttachNode, vfs: list[str]) -> Iterator[Kubelet]:
    """The kubelet of `node`, which gave two virtual functions to the pod web."""
    made = Kubelet(socket=node.folder / "kubelet.sock")
    made.pods["blue", "web"] = [(VF, [vfs[1]]), (VF, [vfs[0]])]
    install(node.bin_dir)
    node.close()
    info = DeviceInfoFiles(node.folder / "devinfo")
    node.devices = NodeDevices(PodResources(made.socket), info=info)
    node.open()
    with run_kubelet(made):
        yield made


def pooled(node: AttachNode, key: NetworkKey = FAST, **more: Any) -> NetworkSpec:
    values = {"backend": "sriov", "device_pool": VF, "host_device": "", "network_id": "fast"}
    return node.add_network(key, **{**values, **more})


def two(node: AttachNode) -> None:
    """A network of NetworkType sriov on VLAN 700, and the pod web twice on it."""
    vlan = SegmentKey(parent=VF, kind=SegmentKind.VLAN, id=700)
    pooled(node, v4="10.9.0.0/24", segment=vlan)
    node.add_pod("web", *[{"tenantNetwork": "fast", "ip": "dynamic"}] * 2)


def devices_of(node: AttachNode) -> dict[str, str]:
    (record,) = node.journal.read_container("c-web")
    return {link.name: link.device_id for link in record.links}


def host_has(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def test_each_interface_gets_its_own_virtual_function_configured_as_danm_does(
    node: AttachNode, kubelet: Kubelet, pod: Namespace, vfs: list[str]
) -> None:
    two(node)
    call = request(Verb.ADD, "web", pod)
    result = node.attacher.add(call)
    assert set(pod.links()) == {"lo", "eth0", "eth1"}
    assert devices_of(node) == {"eth0": vfs[0], "eth1": vfs[1]}
    first, second = (each["conf"] for each in calls(node.bin_dir, "ADD"))
    assert (first["type"], first["name"], first["vlan"]) == ("sriov", "fast", 700)
    assert [first["deviceID"], second["deviceID"]] == vfs[:2]
    assert first["ipam"] == {"type": "static", "addresses": [{"address": "10.9.0.1/24"}]}
    assert {each[1] for each in node.held("c-web")} == {"10.9.0.1/24", "10.9.0.2/24"}
    assert pod.addresses("eth0")[0] == "10.9.0.1/24"
    node.attacher.check(with_prev(call, result))
    assert not host_has(vfs[0])
    assert host_has(vfs[2])
    node.attacher.delete(replace(call, verb=Verb.DEL))
    assert all(map(host_has, vfs))
    assert_empty(pod, node, "c-web")


def test_a_repeated_add_answers_the_same_and_asks_no_kubelet(
    node: AttachNode, kubelet: Kubelet, pod: Namespace
) -> None:
    two(node)
    call = request(Verb.ADD, "web", pod)
    first = node.attacher.add(call)
    before = devices_of(node)
    kubelet.asked.clear()
    kubelet.pods.clear()
    assert node.attacher.add(call) == first
    assert devices_of(node) == before
    assert kubelet.asked == []


def test_what_was_broken_is_made_again_on_the_same_devices(
    node: AttachNode, kubelet: Kubelet, pod: Namespace, vfs: list[str]
) -> None:
    two(node)
    call = request(Verb.ADD, "web", pod)
    node.attacher.add(call)
    pod.ip("address", "flush", "dev", "eth1")
    node.leases.store.release_interface("c-web", "eth1")
    kubelet.pods["blue", "web"].append((VF, ["aaa"]))  # a lower one, which nobody needs
    node.attacher.add(call)
    assert devices_of(node) == {"eth0": vfs[0], "eth1": vfs[1]}
    assert set(pod.links()) == {"lo", "eth0", "eth1"}


def test_too_few_devices_refuse_the_pod_before_anything_is_touched(
    node: AttachNode, kubelet: Kubelet, pod: Namespace, vfs: list[str]
) -> None:
    two(node)
    kubelet.pods["blue", "web"] = [(VF, [vfs[0]]), ("vendor/other", [vfs[1]])]
    with pytest.raises(IntentError, match=r"interface 1.*vendor/vf.*need 2.*given 1"):
        node.attacher.add(request(Verb.ADD, "web", pod))
    assert all(map(host_has, vfs))
    assert not (node.bin_dir / "calls").exists()
    assert node.history() == []
    assert_empty(pod, node, "c-web")


def test_a_kubelet_that_does_not_know_the_pod_yet_is_asked_again_later(
    node: AttachNode, kubelet: Kubelet, pod: Namespace
) -> None:
    two(node)
    del kubelet.pods["blue", "web"]
    with pytest.raises(NotReadyError) as caught:
        node.attacher.add(request(Verb.ADD, "web", pod))
    assert cni_code_of(caught.value) == 11
    assert_empty(pod, node, "c-web")


def test_without_a_kubelet_only_pods_with_devices_have_to_wait(
    node: AttachNode, pod: Namespace
) -> None:
    node.close()
    node.devices = NodeDevices(PodResources(node.folder / "none.sock"))
    node.open()
    two(node)
    with pytest.raises(NotReadyError, match="kubelet"):
        node.attacher.add(request(Verb.ADD, "web", pod))
    node.add_network(SLOW, v4="10.8.0.0/24")
    node.add_pod("plain", {"tenantNetwork": "slow", "ip": "dynamic"})
    node.attacher.add(request(Verb.ADD, "plain", pod))
    assert "eth0" in pod.links()


def test_a_macvlan_network_on_a_pool_is_made_on_the_link_of_the_device(
    node: AttachNode, kubelet: Kubelet, pod: Namespace, vfs: list[str]
) -> None:
    pooled(node, backend="macvlan", v4="10.9.0.0/24")
    node.add_pod("web", *[{"tenantNetwork": "fast", "ip": "dynamic"}] * 2)
    call = request(Verb.ADD, "web", pod)
    result = node.attacher.add(call)
    (record,) = node.journal.read_container("c-web")
    parents = [link.link.parent for link in record.links if link.link]
    assert parents == vfs[:2]
    assert pod.links()["eth1"]["link_index"] != pod.links()["eth0"]["link_index"]
    for device in vfs[:2]:
        assert "UP" in json.loads(run("ip", "-j", "link", "show", device).stdout)[0]["flags"]
    node.attacher.check(with_prev(call, result))
    node.attacher.delete(replace(call, verb=Verb.DEL))
    assert_empty(pod, node, "c-web")


def test_a_device_without_a_link_carries_no_macvlan(
    node: AttachNode, kubelet: Kubelet, pod: Namespace
) -> None:
    pooled(node, backend="macvlan", v4="10.9.0.0/24")
    node.add_pod("web", {"tenantNetwork": "fast", "ip": "dynamic"})
    kubelet.pods["blue", "web"] = [(VF, ["0000:ff:1f.7"])]
    with pytest.raises(HostError, match=r"0000:ff:1f\.7 has no network interface"):
        node.attacher.add(request(Verb.ADD, "web", pod))
    assert_empty(pod, node, "c-web")


def nad_pod(node: AttachNode, *names: str, **plugin: Any) -> None:
    """The pod web on a NAD with a resource, after an ordinary first interface."""
    node.add_network(SLOW, v4="10.8.0.0/24")
    conf = {"cniVersion": "1.0.0", "name": "vfs", "type": "sriov", **plugin}
    node.view.networks[NAD] = NetworkSpec(
        key=NAD, uid="u", network_id="vfs", backend="nad", conf=json.dumps(conf), resource=VF
    )
    spec = node.add_pod("web")
    default = {"v1.multus-cni.io/default-network": "blue/first"}
    first = NetworkKey(kind=NetworkKind.NAD, namespace="blue", name="first")
    node.view.networks[first] = replace(
        node.view.networks[NAD],
        key=first,
        network_id="first",
        resource="",
        conf=json.dumps({"cniVersion": "1.0.0", "type": "bridge", "bridge": node.bridge}),
    )
    asked = json.dumps([{"name": "vfs", "interface": each} for each in names])
    annotations = {**default, "k8s.v1.cni.cncf.io/networks": asked}
    node.view.pods["blue", "web"] = replace(spec, annotations=annotations)


def tell(node: AttachNode, device: str) -> None:
    """As the device plugin does."""
    folder = node.folder / "devinfo" / "dp"
    folder.mkdir(parents=True, exist_ok=True)
    said = {"type": "pci", "version": "1.1.0", "pci": {"pci-address": device}}
    (folder / f"vendor-vf-{device}-device.json").write_text(json.dumps(said))


def status(node: AttachNode) -> list[dict[str, Any]]:
    (record,) = node.journal.read_container("c-web")
    return list(json.loads(render_status(facts_of(record))))


def copies(node: AttachNode) -> list[str]:
    folder = node.folder / "devinfo" / "cni"
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


def test_a_nad_with_a_resource_hands_out_devices_and_tells_what_they_are(
    node: AttachNode, kubelet: Kubelet, pod: Namespace, vfs: list[str]
) -> None:
    nad_pod(node, "fast0", "fast1", capabilities={"CNIDeviceInfoFile": True})
    for device in vfs[:2]:
        tell(node, device)
    call = request(Verb.ADD, "web", pod)
    node.attacher.add(call)
    confs = [each["conf"] for each in calls(node.bin_dir, "ADD")]
    assert [conf["deviceID"] for conf in confs] == vfs[:2]
    assert [conf["pciBusID"] for conf in confs] == vfs[:2]
    assert {"fast0", "fast1"} <= set(pod.links())
    entries = {entry["interface"]: entry for entry in status(node)}
    assert "device-info" not in entries["eth0"]
    info = entries["fast1"]["device-info"]
    assert info["pci"] == {"pci-address": vfs[1], "representor-device": "rep0"}
    assert len(copies(node)) == 2
    node.attacher.delete(replace(call, verb=Verb.DEL))
    assert copies(node) == []
    assert all(map(host_has, vfs))


def test_a_plugin_that_takes_no_file_is_spoken_for_by_the_device_plugin(
    node: AttachNode, kubelet: Kubelet, pod: Namespace, vfs: list[str]
) -> None:
    nad_pod(node, "fast0")
    tell(node, vfs[0])
    node.attacher.add(request(Verb.ADD, "web", pod))
    assert status(node)[1]["device-info"]["pci"] == {"pci-address": vfs[0]}


def test_an_add_that_fails_leaves_no_copy(
    node: AttachNode, kubelet: Kubelet, pod: Namespace, vfs: list[str]
) -> None:
    nad_pod(node, "fast0", "fast1", capabilities={"CNIDeviceInfoFile": True})
    tell(node, vfs[0])  # of the second there is none, and the plugin falls over that
    with pytest.raises(Exception, match="sriov"):
        node.attacher.add(request(Verb.ADD, "web", pod))
    assert copies(node) == []
    assert all(map(host_has, vfs))
    assert_empty(pod, node, "c-web")


def test_a_function_bound_to_vfio_has_no_link_and_still_its_entry_and_addresses(
    node: AttachNode, kubelet: Kubelet, pod: Namespace
) -> None:
    pooled(node, SLOW, backend="macvlan", host_device=node.parent, device_pool="", v4="10.8.0.0/24")
    pooled(node, v4="10.9.0.0/24", v6="fd09::/64")
    node.add_pod(
        "web",
        {"tenantNetwork": "slow", "ip": "dynamic"},
        {"tenantNetwork": "fast", "ip": "dynamic", "ip6": "dynamic"},
    )
    kubelet.pods["blue", "web"] = [(VF, ["vfio0"])]
    tell(node, "vfio0")
    call = request(Verb.ADD, "web", pod)
    result = node.attacher.add(call)
    assert set(pod.links()) == {"lo", "eth0"}
    entry = status(node)[1]
    assert (entry["name"], entry["interface"]) == ("blue/fast", "eth1")
    assert entry["ips"] == ["10.9.0.1", "fd09::1"]
    assert entry["device-info"]["pci"] == {"pci-address": "vfio0"}
    assert devices_of(node)["eth1"] == "vfio0"
    assert [str(ip.address) for ip in result.ips] == ["10.8.0.1/24", "10.9.0.1/24", "fd09::1/64"]
    node.attacher.check(with_prev(call, result))
    node.attacher.delete(replace(call, verb=Verb.DEL))
    assert_empty(pod, node, "c-web")


class Claims:
    """A pod's claim one with a virtual function of a pool."""

    def __init__(self, device: str) -> None:
        self.claimed = ClaimedDevice(claim="one", driver="d", pool="node-a/pf0", device="vf-0")
        self.offer = Offer(ids={VF: (device,)}, claimed={(VF, device): self.claimed})

    def read_devices(self, namespace: str, pod: str) -> Offer | None:
        return self.offer


def test_an_interface_on_a_device_of_a_claim_is_known_by_the_names_of_the_claim(
    node: AttachNode, kubelet: Kubelet, pod: Namespace, vfs: list[str]
) -> None:
    node.close()
    claims = Claims(vfs[2])
    node.devices = NodeDevices(PodResources(kubelet.socket), claims, info=node.devices.info)
    node.open()
    two(node)
    kubelet.pods["blue", "web"] = [(VF, [vfs[0]])]
    node.attacher.add(request(Verb.ADD, "web", pod))
    assert devices_of(node) == {"eth0": vfs[0], "eth1": vfs[2]}
    node.close()
    node.open()  # as the next daemon finds it
    (record,) = node.journal.read_container("c-web")
    claimed = [interface.claimed for interface in facts_of(record).interfaces]
    assert claimed == [None, claims.claimed]
    endpoints = desired_endpoints(facts_of(record), node.view.pods["blue", "web"], "node-a")
    told = {each["spec"]["Interface"]["DeviceID"] for each in endpoints.values()}
    assert told == {vfs[0], vfs[2]}


@contextmanager
def host_device(name: str) -> Iterator[None]:
    run("ip", "link", "set", name, "up")
    yield


def test_the_reference_plugin_host_device_is_told_the_pci_address(
    node: AttachNode, kubelet: Kubelet, pod: Namespace, vfs: list[str]
) -> None:
    """It looks for that address in vain, as this machine has no such hardware, and says so."""
    nad_pod(node, "fast0", type="host-device", device=vfs[0])
    call = request(Verb.ADD, "web", pod)
    if not Path("/usr/lib/cni/host-device").exists():
        pytest.skip("Debian's containernetworking-plugins are not installed")
    with host_device(vfs[0]), pytest.raises(Exception, match="host-device") as caught:
        node.attacher.add(call)
    assert vfs[0] in str(caught.value)  # it looks for the PCI device that we named, as it must
    assert all(map(host_has, vfs))

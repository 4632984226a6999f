"""Pods of a Multus that was here before: from its cache into the journal, and away by DEL."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from danmpy.api.cni import Attachment, Verb, parse_result
from danmpy.attach.adopting import MultusAdopter, Outcome, Verdict, adopt_at_start
from danmpy.attach.devices.info import DeviceInfoFiles
from danmpy.attach.journal import AttachmentRecord, Phase
from danmpy.errors import DanmpyError, HostError, IntentError
from danmpy.mirrors.attachments import facts_of
from danmpy.mirrors.network_status import render_status
from support.attaching import EXT, AttachNode, request, with_prev
from support.multus import Multus, Sandbox, Wanted, result_file
from support.netns import Namespace, Namespaces, link_names
from support.recording import Bench
from support.requirements import need


@pytest.fixture
def multus(node: AttachNode) -> Multus:
    need("cni-plugins")
    return Multus(cache=node.folder / "multus")


@pytest.fixture
def sandbox(pod: Namespace) -> Sandbox:
    return Sandbox(container_id="c-web", netns=str(pod.path), uid="uid-web")


def macvlan(node: AttachNode, name: str, subnet: str, **more: Any) -> dict[str, Any]:
    """A network whose addresses host-local hands out."""
    data = str(node.folder / "host-local")
    return {
        "cniVersion": "0.4.0",
        "name": name,
        "type": "macvlan",
        "master": node.parent,
        "ipam": {"type": "host-local", "subnet": subnet, "dataDir": data},
        **more,
    }


def leased(node: AttachNode) -> list[str]:
    return sorted(path.name for path in (node.folder / "host-local").rglob("10.*"))


def two(node: AttachNode) -> tuple[Wanted, Wanted]:
    """A default network that is a list, and a NetworkAttachmentDefinition that is a plugin."""
    first = macvlan(node, "cbr0", "10.8.0.0/24")
    del first["name"], first["cniVersion"]
    listed = {"cniVersion": "0.4.0", "name": "cbr0", "plugins": [first]}
    return Wanted(config=listed), Wanted(
        config=macvlan(node, "data", "10.9.0.0/24"), nad="blue/data"
    )


def adopt(node: AttachNode, multus: Multus, **more: Any) -> tuple[Outcome, ...]:
    known = {record.container_id for record in node.journal.read_all()}
    return MultusAdopter(multus.cache, known, node.journal.write, **more).adopt()


def adopt_one(node: AttachNode, multus: Multus, **more: Any) -> Outcome:
    (outcome,) = adopt(node, multus, **more)
    return outcome


def the_record(node: AttachNode) -> AttachmentRecord:
    (record,) = node.journal.read_all()
    return record


def test_an_adopted_pod_is_detached_with_all_that_multus_made(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace
) -> None:
    multus.attach(sandbox, *two(node))
    before = multus.files()
    assert (set(link_names(pod)), leased(node)) == ({"eth0", "net1"}, ["10.8.0.2", "10.9.0.2"])
    outcome = adopt_one(node, multus)
    assert (outcome.verdict, outcome.interfaces) == (Verdict.ADOPTED, ("eth0", "net1"))
    assert (outcome.namespace, outcome.pod, outcome.pod_uid) == ("blue", "web", "uid-web")
    assert multus.files() == before
    node.attacher.delete(request(Verb.DEL, "web", pod))
    assert (link_names(pod), leased(node), multus.files()) == ((), [], [])
    assert node.journal.read_all() == ()
    node.attacher.delete(request(Verb.DEL, "web", pod))


def test_the_record_says_what_multus_knew(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace
) -> None:
    results = multus.attach(sandbox, *two(node))
    adopt(node, multus)
    record = the_record(node)
    assert (record.key, record.phase) == (("c-web", "eth0"), Phase.ATTACHED)
    assert (record.namespace, record.pod, record.pod_uid) == ("blue", "web", "uid-web")
    assert (record.netns_device, record.netns_inode) == (
        pod.path.stat().st_dev,
        pod.path.stat().st_ino,
    )
    assert (record.dialect, record.network_name, record.has_primary) == ("npwg", "danmpy", True)
    assert [link.network for link in record.links] == [
        "NetworkAttachmentDefinition/cbr0",
        "NetworkAttachmentDefinition/blue/data",
    ]
    assert parse_result(record.told) == parse_result(results[0])
    assert record.began_at == (multus.cache / "c-web").stat().st_mtime_ns // 1000
    node.close()
    node.open()  # and it is read again as it was written
    assert the_record(node) == record


def test_the_status_of_an_adopted_pod_names_every_interface(
    node: AttachNode, multus: Multus, sandbox: Sandbox
) -> None:
    multus.attach(sandbox, *two(node))
    adopt(node, multus)
    first, second = json.loads(render_status(facts_of(the_record(node))))
    assert (first["name"], first["interface"], first["default"]) == ("cbr0", "eth0", True)
    assert (second["name"], second["interface"], second["default"]) == ("blue/data", "net1", False)
    assert (first["ips"], second["ips"]) == (["10.8.0.2"], ["10.9.0.2"])
    assert first["mac"] != second["mac"]


def test_adopting_again_changes_nothing(node: AttachNode, multus: Multus, sandbox: Sandbox) -> None:
    multus.attach(sandbox, *two(node))
    adopt(node, multus)
    (file,) = (node.folder / "journal").glob("*.json")
    before = (file.stat(), file.read_bytes())
    outcome = adopt_one(node, multus)
    assert outcome.verdict is Verdict.HELD
    assert (file.stat(), file.read_bytes()) == before


def test_check_compares_an_adopted_pod_with_what_its_plugins_made(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace
) -> None:
    results = multus.attach(sandbox, *two(node))
    adopt(node, multus)
    call = with_prev(request(Verb.CHECK, "web", pod), parse_result(results[0]))
    node.attacher.check(call)
    pod.ip("link", "delete", "net1")
    with pytest.raises(HostError, match="net1"):
        node.attacher.check(call)
    node.attacher.delete(request(Verb.DEL, "web", pod))
    assert leased(node) == []


def test_an_add_for_an_adopted_pod_is_answered_as_multus_did(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace
) -> None:
    results = multus.attach(sandbox, *two(node))
    adopt(node, multus)
    assert node.attacher.add(request(Verb.ADD, "web", pod)) == parse_result(results[0])
    assert leased(node) == ["10.8.0.2", "10.9.0.2"]


def test_an_adopted_pod_that_is_broken_is_made_anew_and_multus_forgets_it(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace
) -> None:
    multus.attach(sandbox, *two(node))
    adopt(node, multus)
    pod.ip("link", "delete", "net1")
    node.add_network(EXT, v4="10.1.0.0/24")
    node.add_pod("web", {"tenantNetwork": "ext", "ip": "dynamic"})
    result = node.attacher.add(request(Verb.ADD, "web", pod))
    assert [str(ip.address) for ip in result.ips] == ["10.1.0.1/24"]
    assert (leased(node), multus.files()) == ([], [])
    node.attacher.delete(request(Verb.DEL, "web", pod))
    assert link_names(pod) == ()


def test_gc_detaches_an_adopted_pod_that_is_not_valid_and_no_other(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace
) -> None:
    multus.attach(sandbox, *two(node))
    adopt(node, multus)
    gc = request(Verb.GC, "web", pod)
    here = Attachment(container_id="c-web", ifname="eth0")
    node.attacher.collect(replace(gc, valid_attachments=frozenset({here})))
    assert leased(node) == ["10.8.0.2", "10.9.0.2"]
    node.attacher.collect(replace(gc, valid_attachments=frozenset()))
    assert (link_names(pod), leased(node), multus.files()) == ((), [], [])


@pytest.mark.parametrize("netns", [True, False], ids=["libcni 1.2", "libcni before 1.2"])
def test_where_libcni_names_no_namespace_the_results_do(
    node: AttachNode, multus: Multus, sandbox: Sandbox, *, netns: bool
) -> None:
    multus.netns = netns
    multus.attach(sandbox, *two(node))
    assert adopt_one(node, multus).verdict is Verdict.ADOPTED
    assert the_record(node).netns == sandbox.netns


def test_names_that_pods_asked_and_one_network_twice_are_told_apart(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace
) -> None:
    data = macvlan(node, "data", "10.9.0.0/24")
    wanted = (
        Wanted(config=data),
        Wanted(config=data, nad="blue/data", ifname="fast"),
        Wanted(config=data, nad="red/data"),
    )
    multus.attach(sandbox, *wanted)
    assert adopt_one(node, multus).interfaces == ("eth0", "fast", "net2")
    links = the_record(node).links
    assert [link.network.partition("/")[2] for link in links] == ["data", "blue/data", "red/data"]
    node.attacher.delete(request(Verb.DEL, "web", pod))
    assert (link_names(pod), leased(node), multus.files()) == ((), [], [])


def test_an_interface_that_came_by_hot_plug_goes_as_well(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace
) -> None:
    multus.attach(sandbox, *two(node))
    multus.attach_one(sandbox, Wanted(config=macvlan(node, "later", "10.7.0.0/24")), "hot0")
    assert adopt_one(node, multus).interfaces == ("eth0", "net1", "hot0")
    node.attacher.delete(request(Verb.DEL, "web", pod))
    assert (link_names(pod), leased(node), multus.files()) == ((), [], [])


# What is left


def spoil_nothing(_multus: Multus, _sandbox: Sandbox) -> None:
    """As Multus left it."""


def remove_a_result(multus: Multus, _sandbox: Sandbox) -> None:
    (multus.cache / "results" / "data-c-web-net1").unlink()


def remove_the_list(multus: Multus, sandbox: Sandbox) -> None:
    (multus.cache / sandbox.container_id).unlink()


def spoil_the_list(multus: Multus, sandbox: Sandbox) -> None:
    (multus.cache / sandbox.container_id).write_text('[{"Conf": ')


def empty_the_list(multus: Multus, sandbox: Sandbox) -> None:
    (multus.cache / sandbox.container_id).write_text("")


def result_without_pod(multus: Multus, _sandbox: Sandbox) -> None:
    edit(multus, "cbr0-c-web-eth0", lambda entry: entry.update(cniArgs=[["IgnoreUnknown", "1"]]))


def result_elsewhere(multus: Multus, _sandbox: Sandbox) -> None:
    edit(multus, "data-c-web-net1", lambda entry: entry.update(netns="/run/netns/another"))


def result_of_nonsense(multus: Multus, _sandbox: Sandbox) -> None:
    edit(multus, "data-c-web-net1", lambda entry: entry["result"].update(ips=[{"address": "x"}]))


def config_of_danmpy(multus: Multus, _sandbox: Sandbox) -> None:
    import base64

    text = base64.b64encode(b'{"name": "data", "type": "danmpy-cni"}').decode()
    edit(multus, "data-c-web-net1", lambda entry: entry.update(config=text))


def a_mac_that_is_another(multus: Multus, _sandbox: Sandbox) -> None:
    def change(entry: dict[str, Any]) -> None:
        (made,) = (each for each in entry["result"]["interfaces"] if each.get("sandbox"))
        made["mac"] = "02:00:00:00:00:01"

    edit(multus, "data-c-web-net1", change)


def node_itself(multus: Multus, _sandbox: Sandbox) -> None:
    for name in ("cbr0-c-web-eth0", "data-c-web-net1"):
        edit(multus, name, lambda entry: entry.update(netns="/proc/self/ns/net"))


def stale_result(multus: Multus, sandbox: Sandbox) -> None:
    wanted = Wanted(config={"cniVersion": "0.4.0", "name": "old", "type": "ptp"})
    entry = result_file(sandbox, wanted, "gone0", {"cniVersion": "0.4.0"})
    multus.save_result(entry)


def edit(multus: Multus, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = multus.cache / "results" / name
    entry = json.loads(path.read_text())
    change(entry)
    path.write_text(json.dumps(entry))


@pytest.mark.parametrize(
    ("spoil", "verdict", "words"),
    [
        (remove_a_result, Verdict.HALF, "no interface is known of blue/data"),
        (remove_the_list, Verdict.HALF, "c-web is missing"),
        (spoil_the_list, Verdict.DAMAGED, "cannot be parsed"),
        (empty_the_list, Verdict.DAMAGED, "cannot be parsed"),
        (result_without_pod, Verdict.DAMAGED, "no pod is named in cniArgs"),
        (result_elsewhere, Verdict.DAMAGED, "its interfaces are in /run/netns/"),
        (result_of_nonsense, Verdict.DAMAGED, "data-c-web-net1"),
        (config_of_danmpy, Verdict.DAMAGED, "is danmpy itself"),
        (a_mac_that_is_another, Verdict.GONE, "net1 has the MAC"),
        (node_itself, Verdict.GONE, "own"),
        (stale_result, Verdict.HALF, "gone0 is in no list"),
    ],
)
def test_what_is_not_whole_is_told_and_left(
    node: AttachNode,
    multus: Multus,
    sandbox: Sandbox,
    spoil: Callable[[Multus, Sandbox], None],
    verdict: Verdict,
    words: str,
) -> None:
    multus.attach(sandbox, *two(node))
    spoil(multus, sandbox)
    before = multus.files()
    outcome = adopt_one(node, multus)
    assert (outcome.verdict, outcome.verdict.is_finding) == (verdict, True)
    assert words in outcome.message
    assert node.journal.read_all() == ()
    assert multus.files() == before


def test_a_namespace_that_is_gone_leaves_its_entry(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace, namespaces: Namespaces
) -> None:
    multus.attach(sandbox, *two(node))
    namespaces.delete(pod)
    outcome = adopt_one(node, multus)
    assert (outcome.verdict, outcome.pod) == (Verdict.GONE, "web")
    assert sandbox.netns in outcome.message
    assert len(multus.files()) == 3


def test_another_sandbox_at_the_same_path_is_not_taken_for_it(
    node: AttachNode, multus: Multus, sandbox: Sandbox, namespaces: Namespaces
) -> None:
    multus.attach(sandbox, *two(node))
    other = namespaces.make("pod")
    for name in ("cbr0-c-web-eth0", "data-c-web-net1"):
        edit(multus, name, lambda entry: entry.update(netns=str(other.path)))
    outcome = adopt_one(node, multus)
    assert outcome.verdict is Verdict.GONE
    assert "it has none of eth0, net1" in outcome.message


def test_a_broken_file_keeps_no_other_pod_from_being_adopted(
    node: AttachNode, multus: Multus, sandbox: Sandbox
) -> None:
    multus.attach(sandbox, *two(node))
    (multus.cache / "results" / "torn").write_bytes(b'{"kind":"cniCa')
    (multus.cache / "zz-empty").write_text("")
    (multus.cache / ".hidden").write_text("")
    found = [(each.verdict, Path(each.where).name) for each in adopt(node, multus)]
    assert found == [
        (Verdict.ADOPTED, "c-web"),
        (Verdict.DAMAGED, "zz-empty"),
        (Verdict.DAMAGED, "torn"),
    ]


def test_a_result_that_cannot_be_read_is_named_with_the_pod_that_lacks_it(
    node: AttachNode, multus: Multus, sandbox: Sandbox
) -> None:
    multus.attach(sandbox, *two(node))
    path = multus.cache / "results" / "data-c-web-net1"
    path.write_bytes(path.read_bytes()[:100])
    half, torn = adopt(node, multus)
    assert (half.verdict, torn.verdict) == (Verdict.HALF, Verdict.DAMAGED)
    assert f"{path} cannot be read" in half.message
    assert torn.where == str(path)


def test_a_folder_that_is_not_there_is_an_error_of_the_command_and_no_reason_not_to_start(
    node: AttachNode,
) -> None:
    adopter = MultusAdopter(node.folder / "none", (), node.journal.write)
    with pytest.raises(IntentError, match="cannot be read"):
        adopter.adopt()
    with capture_logs() as lines:
        adopt_at_start(adopter)
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("cache of Multus not adopted", "error")


def test_the_log_of_a_start_names_every_pod(
    node: AttachNode, multus: Multus, sandbox: Sandbox
) -> None:
    multus.attach(sandbox, *two(node))
    multus.save_list(replace(sandbox, container_id="c-half"), two(node))
    with capture_logs() as lines:
        adopt_at_start(MultusAdopter(multus.cache, (), node.journal.write))
    said = {line["container"]: (line["log_level"], line["verdict"]) for line in lines}
    assert said == {"c-half": ("warning", "half"), "c-web": ("info", "adopted")}
    assert the_record(node).container_id == "c-web"


# What the plugins are told


@pytest.fixture
def bench(node: AttachNode) -> Bench:
    made = Bench(node.bin_dir)
    made.plugin("first")
    made.plugin("second")
    return made


def recorded(
    multus: Multus, sandbox: Sandbox, wanted: Wanted, result: dict[str, Any] | None = None
) -> None:
    """As if Multus had attached `wanted`, whose plugins are not real."""
    multus.save_list(sandbox, [wanted])
    said = result or {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.0.0.5/24"}]}
    multus.save_result(result_file(sandbox, wanted, "eth0", said))


def test_plugins_are_called_as_multus_would(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace, bench: Bench
) -> None:
    mapping = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    plugins = [
        {"type": "first", "key": 1},
        {"type": "second", "capabilities": {"portMappings": True}},
    ]
    config = {"cniVersion": "0.4.0", "name": "lan", "plugins": plugins}
    wanted = Wanted(config=config, capability_args={"portMappings": mapping, "mac": "02::"})
    recorded(multus, sandbox, wanted)
    edit(multus, "lan-c-web-eth0", lambda entry: entry["cniArgs"].append(["MAC", "02:0:0:0:0:9"]))
    adopt(node, multus)
    node.attacher.delete(request(Verb.DEL, "web", pod))
    assert bench.order == ["second DEL", "first DEL"]
    second, first = (call["stdin"] for call in bench.calls)
    assert (first["name"], first["cniVersion"], first["key"]) == ("lan", "0.4.0", 1)
    assert "runtimeConfig" not in first
    assert second["runtimeConfig"] == {"portMappings": mapping}
    assert second["prevResult"]["ips"][0]["address"] == "10.0.0.5/24"
    environ = bench.calls[0]["environ"]
    assert environ["CNI_IFNAME"] == "eth0"
    args = dict(pair.split("=") for pair in environ["CNI_ARGS"].split(";"))
    assert (args["K8S_POD_NAME"], args["MAC"], args["IgnoreUnknown"]) == (
        "web",
        "02:0:0:0:0:9",
        "1",
    )


def test_until_del_has_succeeded_multus_keeps_its_memory(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace, bench: Bench
) -> None:
    config = {"cniVersion": "0.4.0", "name": "lan", "type": "first"}
    recorded(multus, sandbox, Wanted(config=config))
    adopt(node, multus)
    bench.fails("first", "DEL", msg="not now")
    with pytest.raises(DanmpyError, match="not now"):
        node.attacher.delete(request(Verb.DEL, "web", pod))
    assert len(multus.files()) == 2
    assert the_record(node).phase is Phase.DETACHING
    bench.says("first", "DEL")
    node.attacher.repair()
    assert (multus.files(), node.journal.read_all()) == ([], ())


def test_a_device_and_what_is_known_of_it_are_adopted_and_its_description_goes(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace, bench: Bench
) -> None:
    told = node.folder / "device.json"
    told.write_text('{"type": "pci", "version": "1.1.0", "pci": {"pci-address": "0000:03:02.1"}}')
    wanted = Wanted(
        config={"cniVersion": "0.4.0", "name": "lan", "type": "first"},
        device_id="0000:03:02.1",
        resource="nic.example/vf",
        capability_args={"CNIDeviceInfoFile": str(told), "deviceID": "0000:03:02.1"},
    )
    recorded(multus, sandbox, wanted)
    adopt(node, multus, device_info=DeviceInfoFiles(node.folder))
    (link,) = the_record(node).links
    assert (link.device_id, link.resource) == ("0000:03:02.1", "nic.example/vf")
    (entry,) = json.loads(render_status(facts_of(the_record(node))))
    assert entry["device-info"]["pci"] == {"pci-address": "0000:03:02.1"}
    node.attacher.delete(request(Verb.DEL, "web", pod))
    assert not told.exists()


def test_a_version_before_results_had_interfaces_is_understood(
    node: AttachNode, multus: Multus, sandbox: Sandbox, pod: Namespace, bench: Bench
) -> None:
    config = {"cniVersion": "0.2.0", "name": "lan", "type": "first"}
    bench.plugin("first", "0.1.0", "0.2.0")
    recorded(multus, sandbox, Wanted(config=config), {"ip4": {"ip": "10.0.0.5/24"}})
    assert adopt_one(node, multus).verdict is Verdict.ADOPTED
    (entry,) = json.loads(render_status(facts_of(the_record(node))))
    assert (entry["interface"], entry["ips"]) == ("eth0", ["10.0.0.5"])
    record = the_record(node)
    node.attacher.delete(request(Verb.DEL, "web", pod))
    (call,) = bench.calls
    assert call["stdin"]["cniVersion"] == "0.2.0"
    assert parse_result(record.told).interfaces == ()  # as the runtime was told

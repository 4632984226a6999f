"""What one attachment asks of plugins: written where they read it, refused where none would."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from danmpy.api.specs import PluginAsk
from danmpy.attach.delegates.confs import ipam_type
from danmpy.attach.delegates.rendering import (
    asked_capabilities,
    on_device,
    with_addresses,
    with_args,
    with_device_id,
    with_runtime_config,
)
from danmpy.cni.install import render_conflist
from danmpy.errors import DelegateError, IntentError
from support.recording import NAD, NET, Bench, identity, nad
from support.specs import network, tenant_key


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    for name in ("first", "second"):
        made.plugin(name)
    return made


ASK = PluginAsk(
    ips=("10.0.0.5/24",),
    infiniband_guid="00:11:22:33:44:55:66:77",
    port_mappings=({"hostPort": 80, "containerPort": 8080, "protocol": "tcp"},),
    bandwidth={"ingressRate": 1000, "egressRate": 2000, "egressBurst": 5},
    cni_args={"color": "red", "size": 1},
)
MAC = "02:00:00:00:00:05"
CAN = ("ips", "mac", "infinibandGUID", "portMappings", "bandwidth")


def test_what_the_pod_asks_reaches_the_plugin_that_declares_it_and_no_other(bench: Bench) -> None:
    spec = nad(
        {
            "type": "first",
            "capabilities": {"ips": True, "mac": True, "dns": True, "aliases": False},
        },
        {
            "type": "second",
            "capabilities": dict.fromkeys(CAN[2:], True) | {"mac": False, "aliases": "true"},
            "args": {"cni": {"color": "blue", "kept": True}, "other": 1},
        },
    )
    runtime = {
        "dns": {"servers": ["10.0.0.53"]},
        "aliases": ["web"],
        "bandwidth": {"ingressRate": 7},
        "cgroupPath": "/x",
    }
    conf = bench.delegates().render(spec, mac=MAC, ask=ASK, runtime=runtime)
    bench.says(
        "first",
        "ADD",
        {
            "interfaces": [{"name": "net1", "sandbox": "/x", "mac": MAC}],
            "ips": [{"address": "10.0.0.5/24"}],
        },
    )
    bench.says("second", "ADD")
    bench.delegates().add(conf, identity(), "net1")
    first, second = (call["stdin"] for call in bench.calls)
    assert first["name"] == "lan", "the object's name, as the text has none"
    assert first["runtimeConfig"] == {
        "dns": {"servers": ["10.0.0.53"]},
        "ips": ["10.0.0.5/24"],
        "mac": MAC,
    }
    assert second["runtimeConfig"] == {
        "infinibandGUID": "00:11:22:33:44:55:66:77",
        "portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}],
        "bandwidth": {
            "ingressRate": 1000,
            "ingressBurst": 1000,
            "egressRate": 2000,
            "egressBurst": 5,
        },
    }
    assert first["args"] == {"cni": {"color": "red", "size": 1}}
    assert second["args"] == {"cni": {"color": "red", "size": 1, "kept": True}, "other": 1}
    assert all("capabilities" not in each for each in (first, second))
    args = bench.calls[0]["environ"]["CNI_ARGS"]
    assert "IP=" not in args


def test_aliases_that_the_runtime_offers_reach_the_plugin_that_declares_them(bench: Bench) -> None:
    installed = json.loads(render_conflist("/run/cni.sock"))["plugins"][0]["capabilities"]
    offer = {"aliases": ["web", "www"], "cgroupPath": "/x"}
    # libcni passes on only what the installed list declares.
    runtime = {name: value for name, value in offer.items() if installed.get(name) is True}
    spec = nad({"type": "first", "capabilities": {"aliases": True}}, {"type": "second"})
    conf = bench.delegates().render(spec, runtime=runtime)
    bench.delegates().add(conf, identity(), "net1")
    first, second = (call["stdin"] for call in bench.calls)
    assert first["runtimeConfig"] == {"aliases": ["web", "www"]}
    assert "runtimeConfig" not in second


@pytest.mark.parametrize("capability", CAN)
def test_what_no_plugin_declares_refuses_the_attachment_by_name(
    bench: Bench, capability: str
) -> None:
    able = dict.fromkeys(CAN, True) | {capability: False}
    spec = nad({"type": "first", "capabilities": able}, {"type": "second"})
    with pytest.raises(IntentError) as caught:
        bench.delegates().render(spec, mac=MAC, ask=ASK)
    assert capability in caught.value.message
    assert caught.value.subject == str(NAD.key)
    assert f'"{capability}": true' in caught.value.hint
    assert "npwg.strict" in caught.value.hint
    assert bench.all_calls == [], "nothing is started for what cannot be"


def test_the_lenient_cluster_offers_it_in_the_older_words_and_tells_the_log(bench: Bench) -> None:
    spec = nad({"type": "first"}, {"type": "second"})
    ask = replace(ASK, ips=("10.0.0.5/24", "fd00::5/64"))
    delegates = bench.delegates(strict=False)
    with capture_logs() as logs:
        conf = delegates.render(spec, mac=MAC, ask=ask)
    assert [sorted(line["capabilities"]) for line in logs] == [sorted(CAN)]
    delegates.add(conf, identity(), "net1")
    call = bench.calls[0]
    assert call["environ"]["CNI_ARGS"].endswith(f";MAC={MAC};IP=10.0.0.5/24,fd00::5/64")
    assert "runtimeConfig" not in call["stdin"]
    assert bench.order == ["first ADD", "second ADD"], "another address than asked is let pass"


def test_a_plugin_that_declares_ips_and_gives_others_is_undone_and_named(bench: Bench) -> None:
    spec = nad({"type": "first", "capabilities": {"ips": True}})
    conf = bench.delegates().render(spec, ask=PluginAsk(ips=("10.0.0.9", "fd00::9/64")))
    words = r"did not assign 10\.0\.0\.9, fd00::9/64"
    with pytest.raises(DelegateError, match=words):
        bench.delegates().add(conf, identity(), "net1")
    assert bench.order == ["first ADD", "first DEL"]


def test_a_mac_reaches_a_network_of_danm_without_a_capability(bench: Bench) -> None:
    (bench.folder / "net.conf").write_text(json.dumps({"cniVersion": "1.0.0", "type": "first"}))
    conf = bench.delegates().render(NET, mac=MAC)
    bench.delegates().add(conf, identity(), "net1")
    assert bench.calls[0]["environ"]["CNI_ARGS"].endswith(f";MAC={MAC}")


def test_a_device_is_named_to_all_and_its_file_only_to_who_can_use_it(bench: Bench) -> None:
    able = {"deviceID": True, "CNIDeviceInfoFile": True}
    spec = nad({"type": "first", "capabilities": able}, {"type": "second"})
    more = {"device_id": "0000:03:02.1", "device_info_file": "/run/info.json"}
    conf = bench.delegates().render(spec, **more)
    first, second = conf.plugins
    assert first["runtimeConfig"] == {
        "deviceID": "0000:03:02.1",
        "CNIDeviceInfoFile": "/run/info.json",
    }
    for plugin in (first, second):
        assert (plugin["deviceID"], plugin["pciBusID"]) == ("0000:03:02.1", "0000:03:02.1")
    assert "runtimeConfig" not in second
    offered = bench.delegates().render(spec, runtime={"deviceID": "theirs"}).plugins[0]
    assert offered["runtimeConfig"] == {"deviceID": "theirs"}


def test_our_wire_and_our_addresses_take_the_place_of_danmpy_s_own_words(bench: Bench) -> None:
    bench.plugin("static")
    spec = nad(
        {"type": "second"},
        {"type": "first", "master": "ens4", "vxlan": 700, "ipam": {"type": "danmpy-cni"}},
        {"type": "second", "master": "ens5", "vlan": 7, "ipam": {"type": "host-local"}},
    )
    spec = replace(spec, gateway=ip_address("10.0.0.1"))
    conf = bench.delegates().render(
        spec, addresses=(ip_interface("10.0.0.5/24"),), device="vx_lan", ask=PluginAsk()
    )
    assert conf.plugins[1] == {
        "type": "first",
        "master": "vx_lan",
        "ipam": {
            "type": "static",
            "addresses": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}],
        },
    }
    assert conf.plugins[2] == {
        "type": "second",
        "master": "ens5",
        "vlan": 7,
        "ipam": {"type": "host-local"},
    }
    without = bench.delegates().render(spec, addresses=())
    assert "ipam" not in without.plugins[1], "no address is wanted: there is none to give"


# The parts of it


def test_our_addresses_replace_the_ipam_of_the_plugin_that_has_one() -> None:
    net = network(tenant_key("x"), gateway=ip_address("10.0.0.1"))
    plugins = (
        {"type": "tuning"},
        {"type": "bridge", "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}]}},
    )
    addresses = (ip_interface("10.0.0.5/24"), ip_interface("fd00::5/64"))
    first, second = with_addresses(plugins, net, addresses)
    assert first == {"type": "tuning"}
    assert second["ipam"] == {
        "type": "static",
        "addresses": [
            {"address": "10.0.0.5/24", "gateway": "10.0.0.1"},
            {"address": "fd00::5/64"},
        ],
    }
    assert ipam_type(second) == "static"
    assert plugins[1]["ipam"]["type"] == "host-local", "the file's own stays as it was"


def test_runtime_config_holds_what_is_offered_and_declared_and_the_callers_keys_go() -> None:
    plugins = (
        {"type": "a", "capabilities": {"mac": True, "ips": True}, "prevResult": {}, "name": "n"},
        {"type": "b", "capabilities": {"mac": False}, "runtimeConfig": {"mac": "theirs"}},
        {"type": "c", "unknown": [1]},
    )
    rendered = with_runtime_config(plugins, {"mac": "02:00:00:00:00:01"})
    assert rendered == (
        {"type": "a", "runtimeConfig": {"mac": "02:00:00:00:00:01"}},
        {"type": "b"},
        {"type": "c", "unknown": [1]},
    )
    assert with_runtime_config(plugins[:1], {"mac": None}) == ({"type": "a"},)


def test_our_addresses_go_first_to_the_plugin_whose_ipam_is_danmpy_s() -> None:
    plugins = (
        {"type": "a", "ipam": {"type": "host-local"}},
        {"type": "b", "ipam": {"type": "danmpy-cni", "cidr": "10.0.0.0/24"}},
    )
    net = network(tenant_key("x"))
    first, second = with_addresses(plugins, net, (ip_interface("10.0.0.5/24"),))
    assert [ipam_type(each) for each in (first, second)] == ["host-local", "static"]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({}, {}),
        ({"ingressRate": 8}, {"ingressRate": 8, "ingressBurst": 8}),
        ({"egressRate": 8, "egressBurst": 2}, {"egressRate": 8, "egressBurst": 2}),
        ({"egressRate": 2**40}, {"egressRate": 2**40, "egressBurst": 2**35 - 8}),
    ],
)
def test_a_rate_without_a_burst_gets_one_that_the_plugin_takes(
    asked: dict[str, int], given: dict[str, int]
) -> None:
    rendered = asked_capabilities(PluginAsk(bandwidth=asked), None)
    assert rendered == ({"bandwidth": given} if given else {})


_KEYS = st.sampled_from(("type", "master", "vlan", "vxlan", "args", "mtu", "x"))
_PLUGINS = st.lists(
    st.dictionaries(_KEYS.filter(lambda key: key != "args"), st.text(max_size=3)), max_size=3
).map(tuple)


@given(_PLUGINS)
def test_what_is_not_asked_changes_nothing(plugins: tuple[dict[str, Any], ...]) -> None:
    assert with_args(plugins, {}) is plugins
    assert with_device_id(plugins, "") is plugins
    assert on_device(plugins, "") is plugins
    assert with_runtime_config(plugins, {"mac": "02:00:00:00:00:01"}) == plugins


@given(_PLUGINS, st.text(min_size=1, max_size=5))
def test_a_host_device_changes_one_plugin_and_there_only_three_keys(
    plugins: tuple[dict[str, Any], ...], device: str
) -> None:
    rendered = on_device(plugins, device)
    changed = [(old, new) for old, new in zip(plugins, rendered, strict=True) if old != new]
    assert len(changed) <= 1
    for old, new in changed:
        assert new["master"] == device
        assert not new.keys() & {"vlan", "vxlan"}
        mine = {"master", "vlan", "vxlan"}
        assert {k: v for k, v in old.items() if k not in mine} == {
            k: v for k, v in new.items() if k not in mine
        }
    assert bool(changed) == any(
        plugin.get("master") and (plugin["master"] != device or {"vlan", "vxlan"} & plugin.keys())
        for plugin in plugins[: next((i + 1 for i, p in enumerate(plugins) if p.get("master")), 0)]
    )

"""What a delegate's configuration must not reach."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from danmpy.api.specs import AddressAsk, NetworkSpec
from danmpy.attach.delegates.calling import Delegates
from danmpy.attach.delegates.confs import DelegateConf
from danmpy.attach.delegates.guarding import link_names, require_admitted, require_not_ours
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.errors import IntentError
from support.nads import nad_key
from support.netns import run
from support.specs import cluster_key, network

PID = os.getpid()
DEVICE, END = f"dtgv{PID}", f"dtge{PID}"
ALTNAME = f"vx_dt-a-long-name-{PID}"


def interface(**more: object) -> InterfaceSpec:
    nad: NetworkSpec = network(nad_key("stolen"), backend="nad", host_device="")
    spec = InterfaceSpec(
        index=0,
        name="net1",
        network=nad,
        backend=Backend.DELEGATE,
        ip=AddressAsk(),
        ip6=AddressAsk(),
        mac=None,
        owns_addresses=False,
        ipv6=True,
        mtu=None,
    )
    return replace(spec, **more)  # type: ignore[arg-type]


@contextmanager
def device(alias: str = "danmpy bridge:vxlan:ens4:700", kind: str = "bridge") -> Iterator[None]:
    run("ip", "link", "add", DEVICE, "type", kind)
    try:
        run("ip", "link", "property", "add", "dev", DEVICE, "altname", ALTNAME)
        if alias:
            run("ip", "link", "set", DEVICE, "alias", alias)
        yield
    finally:
        run("ip", "link", "delete", DEVICE)


def refusal(name: str) -> IntentError:
    with pytest.raises(IntentError) as caught:
        require_not_ours([(interface(), {"lo", name})])
    return caught.value


@pytest.mark.parametrize("name", [DEVICE, ALTNAME], ids=["name", "altname"])
def test_a_device_of_danmpy_s_is_refused_by_each_of_its_names_and_says_whose_it_is(
    name: str,
) -> None:
    with device():
        error = refusal(name)
    assert f"names {name}, a device of danmpy's (bridge:vxlan:ens4:700)" in error.message
    assert error.subject == "NetworkAttachmentDefinition/blue/stolen"
    assert "vlan or vxlan beside" in error.hint


def test_the_node_s_end_of_another_pod_s_link_is_refused() -> None:
    run("ip", "link", "add", DEVICE, "type", "veth", "peer", "name", END)
    try:
        run("ip", "link", "set", DEVICE, "alias", "danmpy pod=c1")
        assert "(pod=c1)" in refusal(DEVICE).message
        require_not_ours([(interface(), {END})])
    finally:
        run("ip", "link", "delete", DEVICE)


@pytest.mark.parametrize("alias", ["", "uplink", "danmpy vxlan:ens4:700"])
def test_devices_of_the_node_are_not_refused_nor_names_that_nothing_has(alias: str) -> None:
    with device(alias):
        require_not_ours([(interface(), {DEVICE, ALTNAME, "dt-nothing", "x" * 127, "master"})])


def test_names_are_found_under_every_key_and_in_every_plugin() -> None:
    plugins = json.loads(
        """[{"type": "macvlan", "Master": "vx700", "ma\\u017fter": "br-1", "mtu": 90, "dns": null},
            {"type": "bond", "linksInContainer": false, "links": [{"name": "ens4.7"}]},
            {"a": "", "b": "no name", "c": "/sys", "d": "\\ud800", "e": "\\n", "f": true}]"""
    )
    assert link_names(plugins) == {"macvlan", "vx700", "br-1", "bond", "ens4.7"}
    assert link_names({"device": "x" * 127, "bridge": "y" * 128}) == {"x" * 127}


@pytest.mark.parametrize("asked", ["flannel-a", "cbr0", "flannel"])
def test_a_file_is_kept_from_other_tenants_by_name_and_by_plugin_type(
    tmp_path: Path, asked: str
) -> None:
    conf = {"cniVersion": "1.0.0", "name": "cbr0", "type": "flannel"}
    (tmp_path / "flannel-a.conf").write_text(json.dumps(conf))
    plugin = tmp_path / "flannel"
    plugin.write_text('#!/bin/sh\necho \'{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}\'\n')
    plugin.chmod(0o755)
    node = network(nad_key(asked, ""), network_id=asked, backend="nad", host_device="")
    found = Delegates(tmp_path, (tmp_path,)).render(node)
    owner = cluster_key("secret")
    with pytest.raises(IntentError, match=f"{asked} leads to .* flannel-a of {owner}"):
        require_admitted(interface(network=node, barred={"flannel-a": owner}), found)
    require_admitted(interface(network=node, barred={"flannel-b": owner}), found)


def test_a_configuration_of_an_object_s_own_comes_from_no_file() -> None:
    conf = DelegateConf(name="x", version="1.0.0", plugins=(), source=str(nad_key("stolen")))
    require_admitted(interface(), conf)

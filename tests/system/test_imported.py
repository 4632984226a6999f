"""Pods that another tool attached, on a node that has danmpy now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.hostlocal import add
from support.node import Node, Nodes, cluster_network, pod_manifest
from support.requirements import need

pytestmark = pytest.mark.system

NET = {"host_device": "ens4", "vxlan": 900, "cidr": "172.16.0.0/24"}
WISH = {"clusterNetwork": "shared", "ip": "dynamic"}


def test_the_runtimes_del_ends_what_was_imported_and_gc_does_not(
    node: Node, nodes: Nodes, tmp_path: Path
) -> None:
    need("cni-plugins")
    node.write("n.yaml", cluster_network("shared", **NET))
    node.start()
    old, other = nodes.pod("old", uid="u-old"), nodes.pod("other", uid="u-other")
    for pod in (old, other):
        node.write(f"{pod.name}.yaml", pod_manifest("blue", pod.name, WISH, uid=pod.uid))
        add(tmp_path, "shared", pod.container_id, "eth0")
    items = [
        {
            "id": pod.container_id,
            "metadata": {"name": pod.name, "namespace": "blue", "uid": pod.uid},
        }
        for pod in (old, other)
    ]
    (tmp_path / "pods.json").write_text(json.dumps({"items": items}))
    words = ("import", "host-local", str(tmp_path / "shared"), "--network", "shared")
    done = node.danmpy(
        *words, "--sandboxes", str(tmp_path / "pods.json"), "-o", "json", check=False
    )
    rows = json.loads(done.stdout)["items"]
    # The plugin gave IPv6 addresses as well, of which the network has no subnet.
    assert done.returncode == 1
    assert [item["verdict"] for item in rows] == ["adopted", "adopted", "outside", "outside"]
    assert len(node.leases()) == 2

    gc = node.call("GC", old, config={**node.config(), "cni.dev/valid-attachments": []})
    assert gc.ok, gc.error
    assert len(node.leases()) == 2
    assert node.delete(old).ok
    (left,) = node.leases()
    assert left["pod"] == "other"

    # Its next sandbox is danmpy's, and keeps the address.
    again = nodes.pod("other", uid="u-other")
    answer = node.add(again)
    assert answer.ok, answer.error
    assert f"{left['address']}" in answer.addresses
    assert node.delete(other).ok
    (kept,) = node.leases()
    assert (kept["address"], kept["container_id"]) == (left["address"], again.container_id)
    assert node.delete(again).ok

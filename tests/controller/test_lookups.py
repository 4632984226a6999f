from __future__ import annotations

import pytest

from danmpy.api.specs import NetworkSpec
from danmpy.controller.lookups import newest_configs, newest_network
from danmpy.errors import ClusterError
from danmpy.intent.parse import parse_documents
from support.admitting import World
from support.manifests import config_manifest, documents, network_manifest
from support.specs import cluster_key

CONFIG = config_manifest({"name": "ens4"})


def test_tenant_configs_are_judged_as_everywhere() -> None:
    broken = config_manifest(name="broken")
    (found,) = newest_configs(World(live=(CONFIG, broken)), ())
    assert found.name == "tenants"


def test_without_an_answer_what_is_known_stays() -> None:
    known = parse_documents(documents(CONFIG)).tenant_configs
    assert newest_configs(World(live=None), known) is known


def test_a_network_is_a_value_or_refused_or_not_there() -> None:
    broken = network_manifest(name="broken", cidr="x")
    world = World(live=(network_manifest(), broken))
    found = newest_network(world, cluster_key("net"))
    assert found is not None
    assert isinstance(found.value, NetworkSpec)
    found = newest_network(world, cluster_key("broken"))
    assert found is not None
    assert (found.value, len(found.problems)) == (None, 1)
    assert newest_network(world, cluster_key("none")) is None
    with pytest.raises(ClusterError):
        newest_network(World(live=None), cluster_key("net"))


def test_of_two_configs_that_clash_the_older_one_counts_as_in_the_cache() -> None:
    device = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}
    for ages in ((1, 2), (2, 1), (1, 1)):
        bodies = [config_manifest(device, name=name) for name in "ab"]
        for body, age in zip(bodies, ages, strict=True):
            body["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:0{age}Z"
        (found,) = newest_configs(World(live=bodies), ())
        assert found.name == ("b" if ages == (2, 1) else "a")


def test_what_danm_has_stored_is_judged_as_stored() -> None:
    device = {"name": "ens4", "alloc": "gAA="}
    (found,) = newest_configs(World(live=(config_manifest(device),)), ())
    assert found.name == "tenants"
    judged = newest_network(
        World(live=(network_manifest(cidr="10.0.0.0/24", alloc="gAA="),)), cluster_key("net")
    )
    assert judged is not None
    assert isinstance(judged.value, NetworkSpec)

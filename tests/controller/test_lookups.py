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

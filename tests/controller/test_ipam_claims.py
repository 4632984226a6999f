"""IPAMClaims in a real API server: listed, asked for, and told their addresses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from danmpy.api.specs import IPAM_CLAIM, InterfaceAsk
from danmpy.controller.ipam_claims import LiveIpamClaims
from danmpy.errors import ClusterError
from danmpy.intent.cluster import ClusterSource
from danmpy.kube.client import open_client
from support.apiserver import ApiServer
from support.specs import DYNAMIC, pod, tenant_key

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).resolve().parents[2]
CRD = REPOSITORY / "deploy/components/ipamclaims/ipamclaims.k8s.cni.cncf.io.yaml"
IPS = ("10.0.0.5/24", "fd00::5/64")


def claim(name: str = "vm-0", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "k8s.cni.cncf.io/v1alpha1",
        "kind": "IPAMClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"network": "internal", "interface": "net1"} | spec,
    }


@pytest.fixture
def claims(apiserver: ApiServer) -> Iterator[LiveIpamClaims]:
    client = open_client(apiserver.kubeconfig())
    yield LiveIpamClaims(client)
    client.close()


@pytest.fixture
def served(apiserver: ApiServer) -> None:
    apiserver.apply(yaml.safe_load(CRD.read_text()))
    apiserver.wait_crds_established()


def status_of(server: ApiServer, name: str = "vm-0") -> Any:
    found = server.get("IPAMClaim", name)
    return None if found is None else found.get("status")


def test_a_server_that_does_not_know_the_kind_says_nothing_of_claims(
    claims: LiveIpamClaims,
) -> None:
    assert claims.listed() is None


@pytest.mark.usefixtures("served")
def test_claims_are_listed_and_told_their_addresses(
    apiserver: ApiServer, claims: LiveIpamClaims
) -> None:
    assert list(claims.listed() or ()) == []
    apiserver.apply(claim())
    (found,) = claims.listed() or ()
    assert (found.name, found.ips) == (("default", "vm-0"), ())
    assert claims.is_there(("default", "vm-0"))
    assert not claims.is_there(("default", "vm-1"))

    assert claims.tell(found, IPS)

    assert status_of(apiserver) == {"ips": list(IPS)}
    (found,) = claims.listed() or ()
    assert found.ips == IPS


@pytest.mark.usefixtures("served")
def test_a_claim_that_changed_meanwhile_is_not_written_over(
    apiserver: ApiServer, claims: LiveIpamClaims
) -> None:
    apiserver.apply(claim())
    (found,) = claims.listed() or ()
    apiserver.patch_status("IPAMClaim", "vm-0", {"ips": ["192.0.2.1/24"]})
    assert not claims.tell(found, IPS)
    assert status_of(apiserver) == {"ips": ["192.0.2.1/24"]}
    apiserver.delete("IPAMClaim", "vm-0")
    assert not claims.tell(found, IPS)


@pytest.mark.usefixtures("served")
def test_an_api_server_that_is_away_tells_nothing(
    apiserver: ApiServer, claims: LiveIpamClaims
) -> None:
    apiserver.kill()
    with pytest.raises(ClusterError):
        claims.listed()
    with pytest.raises(ClusterError):
        claims.is_there(("default", "vm-0"))


@pytest.mark.usefixtures("served")
def test_a_node_asks_for_the_claims_that_a_pod_names(apiserver: ApiServer) -> None:
    apiserver.apply(claim())
    client = open_client(apiserver.kubeconfig())
    source = ClusterSource(client, pods=False)
    asks = [
        InterfaceAsk(network=tenant_key("internal"), ip=DYNAMIC, claim=f"{IPAM_CLAIM}{name}")
        for name in ("vm-0", "vm-1")
    ]
    try:
        wishes = source.hear(source.read(), pod(namespace="default"), asks)
        assert {key: each.network for key, each in wishes.ipam_claims.items()} == {
            ("default", "vm-0"): "internal"
        }
        assert source.hear(source.read(), pod(namespace="default"), ()).ipam_claims == {}
    finally:
        client.close()

from __future__ import annotations

import pytest

from danmpy.kube.resources import (
    CLUSTER_NETWORKS,
    LEASES,
    NODES,
    PODS,
    RESOURCE_OF,
    TENANT_NETWORKS,
    Resource,
)


@pytest.mark.parametrize(
    ("resource", "arguments", "path"),
    [
        (TENANT_NETWORKS, (), "/apis/danm.k8s.io/v1/tenantnetworks"),
        (TENANT_NETWORKS, ("blue",), "/apis/danm.k8s.io/v1/namespaces/blue/tenantnetworks"),
        (
            TENANT_NETWORKS,
            ("blue", "a", "status"),
            "/apis/danm.k8s.io/v1/namespaces/blue/tenantnetworks/a/status",
        ),
        (CLUSTER_NETWORKS, ("", "a"), "/apis/danm.k8s.io/v1/clusternetworks/a"),
        (CLUSTER_NETWORKS, ("blue", "a"), "/apis/danm.k8s.io/v1/clusternetworks/a"),
        (PODS, ("blue", "web-0"), "/api/v1/namespaces/blue/pods/web-0"),
        (NODES, (), "/api/v1/nodes"),
    ],
)
def test_a_path_is_where_the_api_serves_it(
    resource: Resource, arguments: tuple[str, ...], path: str
) -> None:
    assert resource.path(*arguments) == path


def test_what_comes_from_outside_cannot_leave_its_place_in_the_path() -> None:
    assert PODS.path("../x", "a/b?c") == "/api/v1/namespaces/..%2Fx/pods/a%2Fb%3Fc"


def test_subjects_are_written_like_everywhere() -> None:
    assert TENANT_NETWORKS.subject("blue", "a") == "TenantNetwork/blue/a"
    assert CLUSTER_NETWORKS.subject("blue", "a") == "ClusterNetwork/a"
    assert PODS.subject("blue") == "/api/v1/namespaces/blue/pods"


def test_every_kind_is_found_by_its_name() -> None:
    assert RESOURCE_OF["TenantNetwork"] is TENANT_NETWORKS
    assert all(kind == resource.kind for kind, resource in RESOURCE_OF.items())
    assert LEASES.api_version == "coordination.k8s.io/v1"
    assert PODS.api_version == "v1"

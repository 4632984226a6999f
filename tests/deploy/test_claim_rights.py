"""The component resource-claims with the real authorizer."""

from __future__ import annotations

import pytest

from support.apiserver import ApiServer
from support.deploying import NAMESPACE, overlay

pytestmark = pytest.mark.system

GROUP = "resource.k8s.io"
MAY = {
    ("get", "resourceclaims", ""),
    ("list", "resourceslices", ""),
    ("patch", "resourceclaims", "status"),
    ("associated-node:patch", "resourceclaims", "driver"),
}
MAY_NOT = {
    ("list", "resourceclaims", ""),
    ("patch", "resourceclaims", ""),
    ("create", "resourceclaims", ""),
    ("delete", "resourceslices", ""),
    ("patch", "resourceslices", ""),
    ("patch", "resourceclaims", "binding"),
    ("update", "resourceclaims", "status"),
    ("arbitrary-node:patch", "resourceclaims", "driver"),
}


def apply_rights(server: ApiServer, *components: str) -> None:
    for manifest in overlay("cluster", *components):
        group = manifest["apiVersion"].partition("/")[0]
        if group == "rbac.authorization.k8s.io" or manifest["kind"] in {
            "Namespace",
            "ServiceAccount",
        }:
            server.apply(manifest)


def allowed(server: ApiServer) -> set[tuple[str, str, str]]:
    """What the node daemon's account may do, of all that is asked here."""
    bearer = server.service_account_token(NAMESPACE, "danmpy-node")
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    found = set()
    for verb, resource, subresource in MAY | MAY_NOT:
        attributes = {
            "verb": verb,
            "group": GROUP,
            "resource": resource,
            "subresource": subresource,
            "namespace": "blue",
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        status, answer = server.request("POST", path, review, token=bearer)
        assert status == 201, answer
        if answer["status"]["allowed"]:
            found.add((verb, resource, subresource))
    return found


def test_a_node_daemon_may_read_claims_and_tell_them_of_addresses_and_no_more(
    apiserver: ApiServer,
) -> None:
    apply_rights(apiserver, "resource-claims")
    assert allowed(apiserver) == MAY


def test_without_the_component_it_may_do_nothing_with_claims(apiserver: ApiServer) -> None:
    apply_rights(apiserver)
    assert allowed(apiserver) == set()

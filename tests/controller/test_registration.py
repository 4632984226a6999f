from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from danmpy.controller.registration import (
    PATH,
    Registration,
    keep_registration,
    registration_file,
    render_registration,
)
from danmpy.kube.client import KubeClient, open_client
from danmpy.kube.errors import MissingError
from support.apiserver import ApiServer

DEPLOYED = Path(__file__).resolve().parents[2] / "deploy" / "base" / "webhook.yaml"
KIND = "ValidatingWebhookConfiguration"
BUNDLE = b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
TEXT = base64.b64encode(BUNDLE).decode()
OURS = Registration(name="danmpy-test")


def webhooks(registration: Registration = OURS) -> dict[str, Any]:
    return {each["name"]: each for each in render_registration(registration)["webhooks"]}


def test_the_deployed_file_is_what_is_rendered() -> None:
    assert DEPLOYED.read_text() == registration_file(), (
        "write it anew with danmpy.controller.registration.registration_file()"
    )
    assert yaml.safe_load(registration_file()) == render_registration(Registration())


def test_networks_fail_closed_and_what_others_may_make_open() -> None:
    assert {name: each["failurePolicy"] for name, each in webhooks().items()} == {
        "networks.danm.k8s.io": "Fail",
        "tenantconfigs.danm.k8s.io": "Fail",
        "net-attach-defs.danm.k8s.io": "Ignore",
        "pods.danm.k8s.io": "Ignore",
    }
    for each in webhooks().values():
        assert each["sideEffects"] == "None"
        assert each["admissionReviewVersions"] == ["v1"]
        assert each["timeoutSeconds"] == 5
        assert each["clientConfig"] == {
            "service": {"namespace": "danmpy", "name": "danmpy-webhook", "path": PATH, "port": 443}
        }


def test_pods_that_heal_the_cluster_are_left_out() -> None:
    by_name, by_label = webhooks()["pods.danm.k8s.io"]["namespaceSelector"]["matchExpressions"]
    assert by_name["values"] == ["danmpy", "kube-system"]
    assert by_label == {"key": "danm.k8s.io/admission", "operator": "NotIn", "values": ["ignore"]}
    assert [name for name, each in webhooks().items() if "namespaceSelector" in each] == [
        "pods.danm.k8s.io"
    ]


# On a real API server


@pytest.fixture
def client(apiserver: ApiServer) -> KubeClient:
    return open_client(apiserver.kubeconfig())


def stored(apiserver: ApiServer) -> dict[str, Any]:
    found = apiserver.get(KIND, OURS.name)
    assert found is not None
    return found


@pytest.mark.system
def test_the_server_stores_every_field_of_it(apiserver: ApiServer) -> None:
    apiserver.apply(render_registration(OURS))
    for found in stored(apiserver)["webhooks"]:
        wanted = webhooks()[found["name"]]
        assert {field: found[field] for field in wanted} == wanted


@pytest.mark.system
def test_the_bundle_is_filled_in_once_and_again_when_somebody_takes_it_out(
    apiserver: ApiServer, client: KubeClient
) -> None:
    apiserver.apply(render_registration(OURS))
    assert keep_registration(client, OURS, BUNDLE)
    found = stored(apiserver)
    for each in found["webhooks"]:
        assert each["clientConfig"]["caBundle"] == TEXT
        assert each["clientConfig"]["service"]["name"] == "danmpy-webhook"
    assert not keep_registration(client, OURS, BUNDLE)
    version = stored(apiserver)["metadata"]["resourceVersion"]
    assert version == found["metadata"]["resourceVersion"]
    apiserver.apply(render_registration(OURS))
    assert "caBundle" not in stored(apiserver)["webhooks"][0]["clientConfig"]
    assert keep_registration(client, OURS, BUNDLE)
    assert stored(apiserver)["webhooks"][0]["clientConfig"]["caBundle"] == TEXT


@pytest.mark.system
def test_a_url_takes_the_place_of_the_service_and_gives_it_back(
    apiserver: ApiServer, client: KubeClient
) -> None:
    outside = Registration(name=OURS.name, url="https://192.0.2.1:9443/")
    apiserver.apply(render_registration(OURS))
    assert keep_registration(client, outside, BUNDLE)
    for each in stored(apiserver)["webhooks"]:
        assert each["clientConfig"] == {
            "url": f"https://192.0.2.1:9443{PATH}", "caBundle": TEXT
        }  # fmt: skip
    assert not keep_registration(client, outside, BUNDLE)
    assert keep_registration(client, OURS, BUNDLE)
    assert stored(apiserver)["webhooks"][0]["clientConfig"] == {
        "service": webhooks()["pods.danm.k8s.io"]["clientConfig"]["service"],
        "caBundle": TEXT,
    }


@pytest.mark.system
def test_webhooks_of_others_are_left_alone(apiserver: ApiServer, client: KubeClient) -> None:
    foreign = webhooks()["pods.danm.k8s.io"] | {"name": "pods.example.com"}
    manifest = render_registration(OURS)
    manifest["webhooks"].append(foreign)
    apiserver.apply(manifest)
    keep_registration(client, OURS, BUNDLE)
    found = {each["name"]: each for each in stored(apiserver)["webhooks"]}
    assert "caBundle" not in found["pods.example.com"]["clientConfig"]
    assert found["pods.danm.k8s.io"]["clientConfig"]["caBundle"] == TEXT


@pytest.mark.system
def test_a_registration_that_is_not_there_is_not_made(
    apiserver: ApiServer, client: KubeClient
) -> None:
    with pytest.raises(MissingError) as raised:
        keep_registration(client, OURS, BUNDLE)
    assert f"{KIND} danmpy-test (deploy/base/webhook.yaml)" in raised.value.hint
    assert apiserver.get(KIND, OURS.name) is None

from __future__ import annotations

import json

import pytest

from danmpy.errors import WireError
from support.admitting import World, review_of
from support.manifests import config_manifest, core_manifest, network_manifest

WRONG = network_manifest("ClusterNetwork", "net", cidr="not a subnet")
CONFIG = config_manifest({"name": "ens4"})


def test_the_answer_goes_with_the_question() -> None:
    answer = World().admission.answer(json.dumps(review_of("CREATE", WRONG)).encode())
    response = answer["response"]
    assert response["uid"] == review_of("CREATE", WRONG)["request"]["uid"]
    assert response["allowed"] is False
    assert response["status"]["code"] == 422
    assert "ClusterNetwork/net: spec.Options.cidr" in response["status"]["message"]


def test_a_dry_run_is_judged_alike() -> None:
    wet, dry = (
        World().admission.answer(json.dumps(review_of("CREATE", WRONG, dry_run=is_dry)).encode())
        for is_dry in (False, True)
    )
    assert wet == dry


def test_what_is_no_review_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(WireError):
        World().admission.answer(b"{}")


@pytest.mark.parametrize(
    "manifest",
    [
        core_manifest("Namespace", "blue"),
        network_manifest("DanmEp", "ep", "blue"),
        network_manifest("TenantNetwork", "net", "blue") | {"apiVersion": "example.com/v1"},
        core_manifest("Pod", "web", "blue") | {"apiVersion": "example.com/v1"},
    ],
)
def test_a_kind_that_is_not_ours_passes_and_says_so(manifest: dict[str, object]) -> None:
    verdict = World().create(manifest)
    assert verdict.allowed
    assert "does not judge" in verdict.warnings[0]


def test_a_database_that_is_away_is_told_and_not_guessed() -> None:
    away = World(store_away=True)
    review = json.dumps(review_of("DELETE", None, network_manifest())).encode()
    response = away.admission.answer(review)["response"]
    assert response["allowed"] is False
    assert (response["status"]["code"], response["status"]["reason"]) == (
        503, "ServiceUnavailable"
    )  # fmt: skip
    assert response["status"]["message"] == (
        "ClusterNetwork/net: it cannot be judged now: database: no answer (start it)"
    )


def test_only_what_may_ask_the_database_is_answered_in_a_second_step() -> None:
    admission = World().admission
    for manifest in (WRONG, network_manifest("ClusterNetwork", "a"), CONFIG):
        body = json.dumps(review_of("CREATE", manifest)).encode()
        begun = admission.begin(body)
        assert callable(begun)
        assert begun() == admission.answer(body)
    for manifest in (
        core_manifest("Pod", "web-0", "blue"),
        core_manifest("ConfigMap", "a", "blue"),
    ):
        body = json.dumps(review_of("CREATE", manifest)).encode()
        assert admission.begin(body) == admission.answer(body)
    labelled = {**WRONG, "metadata": {**WRONG["metadata"], "labels": {"a": "b"}}}
    body = json.dumps(review_of("UPDATE", labelled, WRONG)).encode()
    assert admission.begin(body) == admission.answer(body)
    body = json.dumps(review_of("UPDATE", {**CONFIG, "networkIds": {}}, CONFIG)).encode()
    assert callable(admission.begin(body))
    with pytest.raises(WireError):
        admission.begin(b"{}")

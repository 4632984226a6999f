from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.findings import Finding
from danmpy.api.profile_rules import judge_tenant_config
from danmpy.api.rules import judge_network, judge_update
from danmpy.api.specs import NetworkKey, NetworkKind
from danmpy.controller.reviews import (
    Operation,
    Review,
    Verdict,
    parse_review,
    render_answer,
    told_finding,
)
from danmpy.errors import StoreError, WireError
from support.admitting import review_of
from support.manifests import core_manifest, network_manifest

NETWORK = network_manifest("TenantNetwork", "internal", "blue", vlan=5)
VLAN = Finding(path="spec.Options.vlan", code="SegmentMisplaced", message="it is set", hint="no")
TAKEN = Finding(path="spec.Options.vlan", code="SegmentTaken", message="it is taken", hint="")
AWAY = StoreError("no answer", hint="start it", subject="database")


def parsed(review: Any) -> Review:
    return parse_review(json.dumps(review).encode())


def status(verdict: Verdict, operation: str = "CREATE") -> dict[str, Any]:
    answer = render_answer(parsed(review_of(operation, NETWORK, NETWORK)), verdict)["response"]
    assert answer["allowed"] is False
    return dict(answer["status"])


def test_a_review_is_read() -> None:
    review = parsed(review_of("UPDATE", NETWORK, {**NETWORK, "spec": {}}))
    assert review == Review(
        uid="705ab4f5-6393-11e8-b7cc-42010a800002",
        operation=Operation.UPDATE,
        group="danm.k8s.io",
        kind="TenantNetwork",
        namespace="blue",
        name="internal",
        new=NETWORK,
        old={**NETWORK, "spec": {}},
    )
    assert review.subject == "TenantNetwork/blue/internal"


def test_a_pod_whose_name_is_yet_to_be_made_goes_by_its_beginning() -> None:
    pod = core_manifest("Pod", "", "blue")
    pod["metadata"] = {"generateName": "web-"}
    review = review_of("CREATE", pod)
    review["request"]["namespace"] = "blue"
    assert parsed(review).subject == "Pod/blue/web-"


def test_a_deletion_among_many_goes_by_the_name_of_the_object() -> None:
    """Deleting a collection, the server gives no name with the request."""
    review = review_of("DELETE", None, NETWORK)
    review["request"]["name"] = ""
    assert parsed(review).name == "internal"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b"[]",
        b'{"kind": "AdmissionReview"}',
        b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1", "request": {}}',
        b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": 5}',
        b'{"kind": "Pod", "apiVersion": "v1"}',
    ],
)
def test_what_is_no_review_is_refused_in_words(body: bytes) -> None:
    with pytest.raises(WireError) as caught:
        parse_review(body)
    assert "no review" in caught.value.message
    assert caught.value.message.isprintable()
    assert "admission.k8s.io/v1" in caught.value.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uid", None), ("uid", ""), ("uid", 7), ("kind", None), ("kind", {"kind": ""}),
        ("operation", "PATCH"), ("operation", None), ("object", None), ("object", []),
        ("oldObject", None), ("namespace", 7),
    ],
)  # fmt: skip
def test_a_review_with_a_hole_is_refused(field: str, value: Any) -> None:
    review = review_of("UPDATE", NETWORK, NETWORK)
    review["request"][field] = value
    with pytest.raises(WireError):
        parsed(review)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["uid", "kind", "operation", "object", "oldObject", "metadata", "name"]),
        inner, max_size=5,
    ),
    max_leaves=12,
))  # fmt: skip
def test_no_request_breaks_the_reader(request_body: Any) -> None:
    review = {
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request_body
    }  # fmt: skip
    try:
        found = parsed(review)
    except WireError:
        return
    assert found.uid
    render_answer(found, Verdict(invalid=(VLAN,)))


def test_a_yes_is_short() -> None:
    answer = render_answer(parsed(review_of("CREATE", NETWORK)), Verdict())
    assert answer == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": True},
    }


def test_a_no_names_object_field_problem_and_way_out() -> None:
    found = status(Verdict(invalid=(VLAN,)))
    assert (found["code"], found["reason"], found["status"]) == (422, "Invalid", "Failure")
    assert found["message"] == "TenantNetwork/blue/internal: spec.Options.vlan: it is set (no)"
    assert found["details"] == {
        "group": "danm.k8s.io",
        "kind": "TenantNetwork",
        "name": "internal",
        "causes": [
            {"reason": "SegmentMisplaced", "message": "it is set (no)", "field": VLAN.path},
        ],
    }


def test_everything_that_is_wrong_is_in_one_message() -> None:
    found = status(Verdict(invalid=(VLAN,), conflicts=(TAKEN,), unknown=AWAY))
    assert found["code"] == 422
    assert found["message"] == (
        "TenantNetwork/blue/internal: spec.Options.vlan: it is set (no); spec.Options.vlan: it is "
        "taken; it cannot be judged now: database: no answer (start it)"
    )
    assert [each["reason"] for each in found["details"]["causes"]] == [VLAN.code, TAKEN.code]


@pytest.mark.parametrize(
    ("verdict", "operation", "code", "reason"),
    [
        (Verdict(conflicts=(TAKEN,)), "CREATE", 409, "Conflict"),
        (Verdict(conflicts=(TAKEN,)), "DELETE", 409, "Conflict"),
        # A client would read the object again and repeat the update.
        (Verdict(conflicts=(TAKEN,)), "UPDATE", 403, "Forbidden"),
        (Verdict(unknown=AWAY), "DELETE", 503, "ServiceUnavailable"),
    ],
)
def test_the_code_says_what_kind_of_no_it_is(
    verdict: Verdict, operation: str, code: int, reason: str
) -> None:
    found = status(verdict, operation)
    assert (found["code"], found["reason"]) == (code, reason)


def test_a_hundred_problems_are_counted_and_not_all_told() -> None:
    found = status(Verdict(invalid=(VLAN,) * 100))
    assert len(found["details"]["causes"]) == 20
    assert found["message"].endswith("; and 80 more problems")


def test_words_of_people_cannot_steer_a_terminal() -> None:
    nasty = Finding(path="a\x1b[31m", code="A", message="b\u202e\ud800", hint="c\n")
    found = status(Verdict(invalid=(nasty,)))
    for text in (found["message"], *found["details"]["causes"][0].values()):
        assert text.isprintable()
        text.encode()


def test_warnings_name_the_object_and_are_not_endless() -> None:
    verdict = Verdict().with_warnings(f"word {n}" for n in range(12))
    response = render_answer(parsed(review_of("CREATE", NETWORK)), verdict)["response"]
    assert response["allowed"] is True
    assert response["warnings"][0] == "TenantNetwork/blue/internal: word 0"
    assert response["warnings"][-1] == "and 2 more"
    assert len(response["warnings"]) == 11


def test_objections_can_be_turned_into_warnings() -> None:
    verdict = Verdict(invalid=(VLAN,), conflicts=(TAKEN,), unknown=AWAY, warnings=("word",))
    turned = verdict.as_warnings()
    assert turned.allowed
    assert turned.warnings == (
        told_finding(VLAN), told_finding(TAKEN), "database: no answer (start it)", "word"
    )  # fmt: skip


# A field is named once.

WORDS = st.sampled_from(
    ["", "x", "a b", "../up", "no such", "10.0.0.0/24", "10.0.0.7", "fd00::/64", "fd00::7", "9-1",
     "1-99999999", "ens4", "x" * 40, "vxlan", "sriov", "macvlan", "0.0.0.0/0"]
)  # fmt: skip
VALUES = st.one_of(
    WORDS, st.integers(-1, 2**25), st.booleans(), st.lists(WORDS, max_size=2),
    st.dictionaries(WORDS, WORDS, max_size=2),
)  # fmt: skip
OPTIONS = st.dictionaries(
    st.sampled_from(
        ["vlan", "vxlan", "host_device", "device_pool", "cidr", "net6", "mtu", "gateway",
         "gateway6", "exclude", "routes", "routes6", "allocation_pool", "allocation_pool_v6",
         "vxlan_remotes", "rt_tables", "container_prefix", "alloc", "alloc6", "gatewy"]
    ),
    st.one_of(VALUES, st.fixed_dictionaries({"start": WORDS, "end": WORDS, "cidr": WORDS})),
    max_size=6,
)  # fmt: skip
SPECS = st.fixed_dictionaries(
    {"Options": OPTIONS},
    optional={
        "NetworkID": VALUES,
        "NetworkType": VALUES,
        "AllowedTenants": VALUES,
        "Extra": VALUES,
    },
)
DEVICES = st.dictionaries(
    st.sampled_from(["name", "vniType", "vniRange", "alloc", "other"]), VALUES, max_size=4
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "hostDevices": st.lists(DEVICES, max_size=3),
        "networkIds": st.dictionaries(WORDS, WORDS, max_size=3),
        "namespaces": st.lists(WORDS, max_size=2),
        "spec": VALUES,
    },
)


def told_twice(found: Finding) -> str:
    """What is told of a finding, when that names its field twice in a row; else nothing."""
    told = told_finding(replace(found, hint=""))
    place, _, rest = told.partition(": ")
    ends = [place[at:] for at in range(len(place)) if at == 0 or place[at - 1] == "."]
    ends += [place.partition("[")[2].rstrip("]")] if place.endswith("]") else []
    doubled = any(re.match(re.escape(end) + r"(?![\w/.\-])(?! and )", rest) for end in ends if end)
    return told if doubled or told.count(found.path) > 1 else ""


@given(kind=st.sampled_from(list(NetworkKind)), spec=SPECS)
def test_no_refusal_of_a_network_names_its_field_twice(kind: NetworkKind, spec: Any) -> None:
    namespace = "" if kind is NetworkKind.CLUSTER else "blue"
    key = NetworkKey(kind=kind, namespace=namespace, name="a")
    empty: dict[str, Any] = {"spec": {"Options": {}}}
    findings = [
        *judge_network(key, "", {"spec": spec}).findings,
        *judge_update(kind, empty, {"spec": spec}, in_use=True),
    ]
    assert [told for found in findings if (told := told_twice(found))] == []
    for found in findings:
        assert found.path in told_finding(found)


@given(manifest=CONFIGS)
def test_no_refusal_of_a_tenantconfig_names_its_field_twice(manifest: Any) -> None:
    findings = judge_tenant_config("tenants", manifest).findings
    assert [told for found in findings if (told := told_twice(found))] == []


@pytest.mark.parametrize(
    ("path", "message", "told", "cause"),
    [
        ("spec.Options.vxlan", "spec.Options.vxlan is 0", "spec.Options.vxlan is 0", "is 0"),
        ("spec.Options.vxlan", "Options.vxlan is 0", "spec.Options.vxlan is 0", "is 0"),
        ("spec.Options.mtu", "mtu 9 is small", "spec.Options.mtu 9 is small", "9 is small"),
        ("spec.Options.cidr", "cidr: no network", "spec.Options.cidr: no network", "no network"),
        ("spec.x", "unknown field spec.x", "spec.x: unknown field", "unknown field"),
        ("spec.vlan", "vlans are bad", "spec.vlan: vlans are bad", "vlans are bad"),
        ("ids.a", "a and b are the same", "ids.a and b are the same", "a and b are the same"),
        ("", "it is in use", "it is in use", "it is in use"),
        (
            "metadata.annotations[danm.k8s.io/interfaces]",
            "danm.k8s.io/interfaces[0].ip: no address",
            "metadata.annotations[danm.k8s.io/interfaces][0].ip: no address",
            "[0].ip: no address",
        ),
    ],
)
def test_a_field_is_named_once(path: str, message: str, told: str, cause: str) -> None:
    found = Finding(path=path, code="Wrong", message=message, hint="")
    assert told_finding(found) == told
    (shown,) = status(Verdict(invalid=(found,)))["details"]["causes"]
    assert (shown["field"], shown["message"]) == (path, cause)

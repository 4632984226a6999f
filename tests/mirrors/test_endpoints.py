from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from danmpy.api.endpoints import EndpointManifest
from danmpy.kernel.podlinks import PodRoute
from danmpy.mirrors.attachments import facts_of
from danmpy.mirrors.endpoints import (
    NODE_LABEL,
    CreateEndpoint,
    DeleteEndpoint,
    EndpointKey,
    ObservedEndpoint,
    PatchEndpoint,
    desired_endpoints,
    endpoint_name,
    key_of,
    merge_patch,
    node_label,
    observed_endpoint,
    plan_endpoints,
)
from support.mirroring import EXT, INTERNAL, own_link, pod, record
from support.specs import danm_key

NODE = "node-a"


def desired(number: int = 1) -> Mapping[EndpointKey, dict[str, Any]]:
    return desired_endpoints(facts_of(record(number)), pod(number), NODE)


def stored(key: EndpointKey, body: Mapping[str, Any], uid: str = "u-1") -> dict[str, Any]:
    manifest = copy.deepcopy(CreateEndpoint(key=key, body=dict(body)).manifest)
    manifest["metadata"] |= {"uid": uid, "resourceVersion": "7", "managedFields": [{}]}
    return manifest


def test_an_endpoint_has_the_fields_that_danm_fills() -> None:
    routes = (
        PodRoute(destination="10.8.0.0/16", gateway="10.0.0.9", table=7),
        PodRoute(destination="fd08::/64", gateway="fd00::9", table=7),
    )
    link, _ = own_link("eth0", danm_key("old"), ["10.0.0.2/24"], routes=routes, without=(6,))
    shown = facts_of(record(links=(link,), result={}))
    ((key, body),) = desired_endpoints(shown, pod(), NODE).items()
    assert key == ("blue", endpoint_name("uid-1", "c-1", "eth0"))
    assert body["spec"] == {
        "NetworkName": "old",
        "NetworkType": "macvlan",
        "EndpointID": key[1],
        "apiType": "DanmNet",
        "Interface": {
            "Name": "eth0",
            "Address": "10.0.0.2/24",
            "AddressIPv6": "none",
            "MacAddress": "02:00:00:00:00:00",
            "proutes": {"10.8.0.0/16": "10.0.0.9"},
            "proutes6": {"fd08::/64": "fd00::9"},
        },
        "Host": NODE,
        "Pod": "web-1",
        "PodUID": "uid-1",
        "CID": "c-1",
        "netns": shown.netns,
    }
    manifest = CreateEndpoint(key=key, body=body).manifest
    assert EndpointManifest.model_validate(manifest).spec.network_name == "old"
    assert (manifest["metadata"]["namespace"], manifest["metadata"]["name"]) == key


def test_there_is_one_endpoint_for_each_interface_and_all_belong_to_the_pod() -> None:
    bodies = desired().values()
    assert [body["spec"]["Interface"]["Name"] for body in bodies] == ["eth0", "net1", "net2"]
    for body in bodies:
        assert body["metadata"]["labels"] == {"app": "web", NODE_LABEL: NODE}
        (owner,) = body["metadata"]["ownerReferences"]
        assert owner == {"apiVersion": "v1", "kind": "Pod", "name": "web-1", "uid": "uid-1"}


def test_a_static_pod_is_named_as_on_the_node_and_owned_by_its_object() -> None:
    static = pod(uid="of-the-object", config_hash="uid-1")
    for body in desired_endpoints(facts_of(record()), static, NODE).values():
        assert body["spec"]["PodUID"] == "uid-1"
        assert body["metadata"]["ownerReferences"][0]["uid"] == "of-the-object"


def test_a_label_of_the_pod_does_not_hide_the_node() -> None:
    marked = pod(labels={NODE_LABEL: "elsewhere"})
    for body in desired_endpoints(facts_of(record()), marked, NODE).values():
        assert body["metadata"]["labels"] == {NODE_LABEL: NODE}


@given(name=st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", fullmatch=True))
def test_every_node_name_has_a_label_value(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", node_label(name))
    assert len(name) > 63 or node_label(name) == name
    assert node_label(name) != node_label(name + "x")


def test_the_name_of_an_endpoint_is_a_uuid_that_every_part_changes() -> None:
    names = {
        endpoint_name(*parts)
        for parts in (("u", "c", "i"), ("v", "c", "i"), ("u", "d", "i"), ("u", "c", "j"))
    }
    assert len(names) == 4
    assert all(str(uuid.UUID(name)) == name for name in names)


def test_what_was_stored_by_us_is_recognised_whatever_the_server_adds() -> None:
    for key, body in desired().items():
        found = observed_endpoint(stored(key, body), NODE)
        assert found == ObservedEndpoint(uid="u-1", body=dict(body))
        assert key_of(stored(key, body)) == key
        assert observed_endpoint(stored(key, body), "node-b") is None


def test_a_stranger_is_none_of_ours_even_with_our_label() -> None:
    (key, body), *_ = desired().items()
    danms = stored(("blue", "9c5b7d0e-0000-4000-8000-000000000000"), body)
    assert observed_endpoint(danms, NODE) is None
    edited = stored(key, body)
    edited["spec"]["CID"] = "another"
    assert observed_endpoint(edited, NODE) is None
    assert observed_endpoint({"metadata": {"name": "x"}}, NODE) is None


KEYS = st.sampled_from([("blue", name) for name in "abcdef"])
VALUES = st.recursive(
    st.one_of(st.text(max_size=3), st.integers(0, 3), st.lists(st.integers(0, 2), max_size=2)),
    lambda inner: st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=3)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@given(before=OBJECTS, after=OBJECTS)
def test_the_patch_makes_one_of_the_other_and_is_empty_only_for_equals(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    patch = merge_patch(before, after)
    assert merged(before, patch) == after
    assert (patch == {}) == (before == after)


@given(
    wanted=st.dictionaries(KEYS, OBJECTS),
    there=st.dictionaries(KEYS, st.builds(ObservedEndpoint, uid=st.text("u"), body=OBJECTS)),
    backed=st.frozensets(KEYS),
    removable=st.frozensets(KEYS),
)
def test_a_plan_that_is_cut_off_anywhere_and_made_again_ends_in_the_same_place(
    wanted: dict[EndpointKey, Any],
    there: dict[EndpointKey, ObservedEndpoint],
    backed: frozenset[EndpointKey],
    removable: frozenset[EndpointKey],
) -> None:
    def plan(now: Mapping[EndpointKey, ObservedEndpoint]) -> tuple[Any, ...]:
        return plan_endpoints(wanted, now, backed=backed, removable=removable.__contains__)

    def applied(now: Mapping[EndpointKey, ObservedEndpoint], steps: tuple[Any, ...]) -> Any:
        after = dict(now)
        for step in steps:
            match step:
                case CreateEndpoint():
                    assert step.key not in after
                    after[step.key] = ObservedEndpoint(uid="new", body=step.body)
                case PatchEndpoint():
                    before = after[step.key]
                    assert step.patch["metadata"]["uid"] == step.uid == before.uid
                    after[step.key] = ObservedEndpoint(uid=before.uid, body=step.body)
                case DeleteEndpoint():
                    assert after.pop(step.key).uid == step.uid
        return after

    steps = plan(there)
    goal = applied(there, steps)
    assert plan(goal) == ()
    for length in range(len(steps)):
        cut = applied(there, steps[:length])
        assert applied(cut, plan(cut)) == goal
    assert {key: one.body for key, one in goal.items() if key in wanted} == wanted
    stay = there.keys() - wanted.keys()
    assert goal.keys() == wanted.keys() | {k for k in stay if k in backed or k not in removable}


def test_an_endpoint_that_is_known_to_be_as_desired_is_not_compared() -> None:
    (key, body), *_ = desired().items()
    same = {key: ObservedEndpoint(uid="u", body=body)}
    assert plan_endpoints({key: body}, same, backed=frozenset(), removable=bool) == ()


def test_networks_of_both_scopes_are_named_without_their_namespace() -> None:
    bodies = list(desired().values())
    assert [body["spec"]["NetworkName"] for body in bodies][:2] == [INTERNAL.name, EXT.name]
    assert [body["spec"]["apiType"] for body in bodies][:2] == ["TenantNetwork", "ClusterNetwork"]

"""Claims and quotas from what people write to the leases of an attached pod."""

from __future__ import annotations

from dataclasses import replace

import pytest

from danmpy.api.cni import Verb
from danmpy.api.specs import QuotaSpec, TenantConfigSpec
from danmpy.errors import ExhaustedError, IntentError, NotReadyError
from support.attaching import AttachNode, assert_empty, request
from support.netns import Namespace, Namespaces

CLAIM = "danm.k8s.io/claim"


def limit(node: AttachNode, **quotas: int) -> None:
    node.view.tenant_configs = (TenantConfigSpec(name="t", quotas=QuotaSpec(**quotas)),)


def change_pod(node: AttachNode, uid: str, *, stateful: bool = False, claim: str = "") -> None:
    spec = node.view.pods["blue", "web"]
    annotations = {**spec.annotations, **({CLAIM: claim} if claim else {})}
    node.view.pods["blue", "web"] = replace(
        spec, uid=uid, stateful=stateful, annotations=annotations
    )


def call(verb: Verb, netns: Namespace, number: int):
    words = {"K8S_POD_NAMESPACE": "blue", "K8S_POD_NAME": "web", "K8S_POD_UID": f"uid-{number}"}
    return request(verb, "web", netns, f"c-{number}", args=words)


@pytest.mark.parametrize("how", [{"stateful": True}, {"claim": "vm"}])
def test_the_next_pod_of_a_claim_has_every_address_of_the_last(
    three: AttachNode, pod: Namespace, namespaces: Namespaces, how: dict
) -> None:
    change_pod(three, "uid-1", **how)
    three.attacher.add(call(Verb.ADD, pod, 1))
    first = three.held("c-1")
    change_pod(three, "uid-2", **how)
    anew = namespaces.make("anew")

    with pytest.raises(NotReadyError, match="sandbox c-1 on node node-a"):
        three.attacher.add(call(Verb.ADD, anew, 2))
    assert set(anew.links()) == {"lo"}
    three.attacher.delete(call(Verb.DEL, pod, 1))
    three.attacher.add(call(Verb.ADD, anew, 2))

    assert three.held("c-2") == first
    assert len(first) == 4
    three.attacher.delete(call(Verb.DEL, anew, 2))


def test_a_broken_claim_refuses_the_pod_before_anything_is_touched(
    three: AttachNode, pod: Namespace
) -> None:
    change_pod(three, "uid-1", claim="Not A Name")

    with pytest.raises(IntentError, match="is no name of a claim"):
        three.attacher.add(call(Verb.ADD, pod, 1))

    assert_empty(pod, three, "c-1")


def test_a_pod_beyond_the_quota_of_addresses_gets_nothing(
    three: AttachNode, pod: Namespace
) -> None:
    limit(three, addresses=3)
    change_pod(three, "uid-1")

    with pytest.raises(ExhaustedError, match=r"may hold 3 addresses .* would hold 4"):
        three.attacher.add(call(Verb.ADD, pod, 1))
    assert_empty(pod, three, "c-1")

    limit(three, addresses=4)
    three.attacher.add(call(Verb.ADD, pod, 1))
    assert len(three.held("c-1")) == 4
    three.attacher.delete(call(Verb.DEL, pod, 1))


def test_a_pod_with_more_interfaces_than_allowed_is_refused(
    three: AttachNode, pod: Namespace
) -> None:
    limit(three, interfaces_per_pod=2)
    change_pod(three, "uid-1")

    with pytest.raises(IntentError, match="may have 2 interfaces"):
        three.attacher.add(call(Verb.ADD, pod, 1))

    assert_empty(pod, three, "c-1")

"""Pods that name an IPAMClaim wait for it, and get it only for the interface that it is for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from danmpy.api.specs import IPAM_CLAIM, InterfaceAsk, IpamClaimSpec, NetworkSpec
from danmpy.attach.deciding.ipam_claims import require_ipam_claims
from danmpy.attach.deciding.resolve import ResolveContext, resolve
from danmpy.attach.values import InterfaceSpec
from danmpy.errors import IntentError, NotReadyError
from support.specs import DYNAMIC, cluster_key, network, pod, tenant_key

NET = network(tenant_key("internal"), v4="10.0.0.0/24", vni=700)
BARE = network(cluster_key("bare"), backend="ipvlan")
CLAIM = IpamClaimSpec(namespace="blue", name="vm-0", network="internal", interface="net1")
POD = pod()


def asked(name: str = f"{IPAM_CLAIM}vm-0", on: NetworkSpec = NET) -> InterfaceAsk:
    return InterfaceAsk(network=on.key, ip=DYNAMIC, name="net1", claim=name)


def specs(*asks: InterfaceAsk) -> list[InterfaceSpec]:
    context = ResolveContext(container_id="c0ffee", conf_dir="/etc/cni/net.d", first_name="net1")
    return list(resolve(POD, asks, {each.key: each for each in (NET, BARE)}, context))


def claims(*given: IpamClaimSpec) -> dict[tuple[str, str], IpamClaimSpec]:
    return {(each.namespace, each.name): each for each in given}


def test_a_claim_that_fits_is_fine_and_goes_to_the_lease() -> None:
    (spec,) = specs(asked())
    require_ipam_claims(POD, [spec], claims(CLAIM))
    assert spec.claim == CLAIM.claim


def test_a_claim_that_is_not_there_is_waited_for() -> None:
    with pytest.raises(NotReadyError, match="no such claim") as caught:
        require_ipam_claims(POD, specs(asked()), claims(replace(CLAIM, namespace="red")))
    assert caught.value.subject == "IPAMClaim/blue/vm-0"


@pytest.mark.parametrize("other", [{"network": "external"}, {"interface": "net2"}])
def test_a_claim_of_another_network_or_interface_is_refused(other: dict[str, str]) -> None:
    with pytest.raises(IntentError, match=f"its spec.{next(iter(other))} is"):
        require_ipam_claims(POD, specs(asked()), claims(replace(CLAIM, **other)))


def test_names_that_are_no_objects_are_not_looked_for() -> None:
    require_ipam_claims(POD, specs(asked("group.web-0")), {})


def test_a_network_whose_addresses_are_not_ours_cannot_honour_a_claim() -> None:
    with pytest.raises(IntentError):
        specs(asked(on=BARE))

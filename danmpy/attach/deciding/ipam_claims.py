"""IPAMClaims that a pod names: there, and for the very interface that names them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from danmpy.api.ipam_claims import KIND, contradiction
from danmpy.api.specs import IPAM_CLAIM, IpamClaimSpec, PodSpec
from danmpy.attach.values import InterfaceSpec
from danmpy.errors import IntentError, NotReadyError
from danmpy.intent.values import PodKey


def require_ipam_claims(
    pod: PodSpec, specs: Sequence[InterfaceSpec], claims: Mapping[PodKey, IpamClaimSpec]
) -> None:
    """May `pod` have its interfaces under the IPAMClaims that they name?

    Raises:
        NotReadyError: there is no such claim; whoever runs the workload may still make it.
        IntentError: it is for another network or another interface.
    """
    for spec in specs:
        if not spec.claim.startswith(IPAM_CLAIM):
            continue
        name = spec.claim.removeprefix(IPAM_CLAIM)
        subject = f"{KIND}/{pod.namespace}/{name}"
        claim = claims.get((pod.namespace, name))
        if claim is None:
            raise NotReadyError(
                f"Pod/{pod.namespace}/{pod.name} wants its addresses, and there is no such claim",
                hint="it is tried again until the claim is made; danmpy makes none",
                subject=subject,
            )
        wrong = contradiction(claim, spec.network, spec.name, spec.asked)
        if wrong:
            raise IntentError(
                f"Pod/{pod.namespace}/{pod.name} names it for interface {spec.name}, but {wrong}",
                hint="name another claim in ipam-claim-reference, or correct this one",
                subject=subject,
            )

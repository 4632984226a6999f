"""The door: from the annotations of a pod to all that it asks for, whatever the dialect. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from danmpy.api.dialects.danm import parse_interfaces
from danmpy.api.dialects.keys import INTERFACES, INTERFACES_NEW
from danmpy.api.limits import DEFAULT_NETWORK_NAME
from danmpy.api.specs import (
    AddressAsk,
    AddressMode,
    Dialect,
    InterfaceAsk,
    NetworkKey,
    NetworkKind,
    PodAsks,
    PodSpec,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectRules:
    """What the cluster decides about dialects (`settings.NpwgSettings`, which see)."""

    default_network: str = ""
    more_networks: tuple[str, ...] = ()
    system_namespaces: frozenset[str] = frozenset({"kube-system"})
    system_namespace: str = "kube-system"


def read_pod(
    pod: PodSpec, rules: DialectRules = DialectRules(), *, has_primary: bool = True
) -> PodAsks:
    """All that `pod` asks for. `has_primary` is False when a plugin before us in the chain has
    made the interface that the runtime calls by CNI_IFNAME: then no default network is added.

    Raises:
        IntentError: names the pod, the annotation, the entry and the rule; the pod gets nothing.
    """
    spoken = INTERFACES in pod.annotations or INTERFACES_NEW in pod.annotations
    asks = parse_interfaces(pod)
    if not asks and has_primary:
        asks = (default_ask(pod.namespace),)
    return PodAsks(
        dialect=Dialect.DANM if spoken else Dialect.SILENT,
        interfaces=asks,
        has_primary=has_primary,
    )


def default_ask(namespace: str) -> InterfaceAsk:
    """The network of a pod that asks for none (DANM 3.5): the first that exists."""
    first, *others = default_networks(namespace)
    dynamic = AddressAsk(mode=AddressMode.ANY)
    return InterfaceAsk(network=first, others=tuple(others), ip=dynamic, ip6=dynamic)


def default_networks(namespace: str) -> tuple[NetworkKey, NetworkKey, NetworkKey]:
    """The networks of which a pod without interfaces gets the first that exists (DANM 3.5)."""
    return (
        NetworkKey(kind=NetworkKind.DANM, namespace=namespace, name=DEFAULT_NETWORK_NAME),
        NetworkKey(kind=NetworkKind.TENANT, namespace=namespace, name=DEFAULT_NETWORK_NAME),
        NetworkKey(kind=NetworkKind.CLUSTER, name=DEFAULT_NETWORK_NAME),
    )

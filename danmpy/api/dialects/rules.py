"""What the cluster decides about dialects, and the networks that a pod gets without naming them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from danmpy.api.limits import DEFAULT_NETWORK_NAME
from danmpy.api.specs import AddressAsk, AddressMode, InterfaceAsk, NetworkKey, NetworkKind

ANY_ADDRESS: Final = AddressAsk(mode=AddressMode.ANY)


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectRules:
    """What the cluster decides about dialects (`settings.NpwgSettings`, which see)."""

    default_network: str = ""
    more_networks: tuple[str, ...] = ()
    system_namespaces: frozenset[str] = frozenset({"kube-system"})
    system_namespace: str = "kube-system"
    namespace_isolation: bool = False
    global_namespaces: frozenset[str] = field(default_factory=lambda: frozenset({"default"}))

    def may_use(self, namespace: str, other: str) -> bool:
        """May pods of `namespace` use NetworkAttachmentDefinitions of namespace `other`?"""
        return not self.namespace_isolation or other in {namespace, *self.global_namespaces}


NO_RULES: Final = DialectRules()
"""What holds where nobody decided anything."""


def primary_ask(rules: DialectRules, namespace: str) -> InterfaceAsk:
    """The network that a pod of `namespace` gets first without naming it."""
    if not rules.default_network:
        return default_ask(namespace)
    return any_ask(reference_key(rules.default_network))


def more_asks(rules: DialectRules, namespace: str) -> tuple[InterfaceAsk, ...]:
    """The networks that it gets after the first one without naming them."""
    if namespace in rules.system_namespaces:
        return ()
    return tuple(any_ask(reference_key(text)) for text in rules.more_networks)


def reference_key(text: str) -> NetworkKey:
    """What the settings name: ``namespace/name`` of a NetworkAttachmentDefinition, or a CNI
    configuration of the node.
    """
    namespace, _, name = text.rpartition("/")
    return NetworkKey(kind=NetworkKind.NAD, namespace=namespace, name=name)


def any_ask(network: NetworkKey, *others: NetworkKey) -> InterfaceAsk:
    """An interface on the first of these networks that exists, with what that has."""
    return InterfaceAsk(network=network, others=others, ip=ANY_ADDRESS, ip6=ANY_ADDRESS)


def default_ask(namespace: str) -> InterfaceAsk:
    """The network of a pod that asks for none (DANM 3.5): the first that exists."""
    return any_ask(*default_networks(namespace))


def default_networks(namespace: str) -> tuple[NetworkKey, NetworkKey, NetworkKey]:
    """The networks of which a pod without interfaces gets the first that exists (DANM 3.5)."""
    return (
        NetworkKey(kind=NetworkKind.DANM, namespace=namespace, name=DEFAULT_NETWORK_NAME),
        NetworkKey(kind=NetworkKind.TENANT, namespace=namespace, name=DEFAULT_NETWORK_NAME),
        NetworkKey(kind=NetworkKind.CLUSTER, name=DEFAULT_NETWORK_NAME),
    )


def danm_networks(namespace: str, name: str) -> tuple[NetworkKey, NetworkKey, NetworkKey]:
    """The networks of DANM's kinds that other dialects can mean by `name`, in their order."""
    return (
        NetworkKey(kind=NetworkKind.TENANT, namespace=namespace, name=name),
        NetworkKey(kind=NetworkKind.DANM, namespace=namespace, name=name),
        NetworkKey(kind=NetworkKind.CLUSTER, name=name),
    )

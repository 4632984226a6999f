"""What a pod asks of plugins, on networks that danmpy itself makes or gives the addresses of. Pure.

An address that is named in the way of the Network Plumbing Working Group (1.3, section 4.1.1.2.3:
``ips``) is for the plugin, unless the network's addresses are ours: then it is a request to our
database like any other, and no plugin is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_interface

from danmpy.api.specs import (
    AddressAsk,
    AddressMode,
    InterfaceAsk,
    IPAddress,
    NetworkSpec,
    PluginAsk,
)
from danmpy.errors import IntentError

Refuse = Callable[[str, str], IntentError]
"""The error about the entry in question: problem and way out."""


def static_asks(ask: InterfaceAsk, network: NetworkSpec, refuse: Refuse) -> InterfaceAsk:
    """`ask` with the literal addresses that are ours to give in its `ip` and `ip6`.

    The prefix length is dropped as DANM drops it: the network's counts.

    Raises:
        IntentError: two of one family, or one of a family of which the network has no subnet while
            it has one of the other.
    """
    if not ask.plugin.ips or (network.v4 is None and network.v6 is None):
        return ask
    named: dict[int, IPAddress] = {}
    for text in ask.plugin.ips:
        address = ip_interface(text).ip
        if address.version in named:
            raise refuse(
                f"ips names {named[address.version]} and {address}, and an interface gets one "
                f"IPv{address.version} address from its network",
                "name one address of each family",
            )
        named[address.version] = address
    return replace(
        ask,
        ip=_static(ask.ip, named.get(4)),
        ip6=_static(ask.ip6, named.get(6)),
        plugin=replace(ask.plugin, ips=()),
    )


def _static(ask: AddressAsk, address: IPAddress | None) -> AddressAsk:
    return AddressAsk(mode=AddressMode.STATIC, address=address) if address else ask


def plugin_part(ask: InterfaceAsk) -> tuple[PluginAsk, tuple[str, ...]]:
    """What is left of the request to plugins on an interface that danmpy makes itself, and the keys
    of what nobody can honour there.

    ``cni-args`` are told to whom they may concern and need not be honoured (CNI conventions,
    ``args``), so they go without a word.
    """
    plugin = ask.plugin
    asked = {
        "ips": plugin.ips,
        "infiniband-guid": plugin.infiniband_guid,
        "portMappings": plugin.port_mappings,
        "bandwidth": plugin.bandwidth,
    }
    return PluginAsk(gateways=plugin.gateways), tuple(key for key, value in asked.items() if value)

"""What one attachment asks, written into the plugins of a configuration. Pure.

The words are those of the CNI conventions (``runtimeConfig``, ``args.cni``) and of the Network
Plumbing Working Group's standard 1.3, section 4.1.1.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import structlog

from danmpy.api.nad_configs import OWN_IPAM
from danmpy.api.specs import NetworkSpec, PluginAsk
from danmpy.attach.delegates.confs import Plugin, ipam_type
from danmpy.attach.values import IPInterface
from danmpy.errors import IntentError

_log = structlog.get_logger(__name__)

STATIC_IPAM: Final = "static"
_RUNTIME_KEYS: Final = frozenset(
    {"cniVersion", "name", "prevResult", "capabilities", "runtimeConfig"}
)
"""Keys that are the caller's; `capabilities` is for the caller only (CNI spec, section 1)."""

_BURST_MAX: Final = 2**32 * 8 - 8
"""Bits; the reference plugin ``bandwidth`` refuses bursts of 4 GiB and more."""

Plugins = tuple[Plugin, ...]


def asked_capabilities(ask: PluginAsk, mac: str | None) -> dict[str, Any]:
    """What a pod asks that only a plugin with that capability can do, by capability.

    A burst that is not said is what one second brings (the standard leaves it to us, and the
    reference plugin takes no rate without one).
    """
    bandwidth = dict(ask.bandwidth)
    for way in ("ingress", "egress"):
        if rate := bandwidth.get(f"{way}Rate"):
            bandwidth.setdefault(f"{way}Burst", min(rate, _BURST_MAX))
    asked = {
        "ips": list(ask.ips),
        "mac": mac,
        "infinibandGUID": ask.infiniband_guid,
        "portMappings": [dict(mapping) for mapping in ask.port_mappings],
        "bandwidth": bandwidth,
    }
    return {name: value for name, value in asked.items() if value}


def declared_capabilities(plugins: Iterable[Plugin]) -> frozenset[str]:
    """The capabilities that at least one of `plugins` declares."""
    return frozenset(
        name
        for plugin in plugins
        for name, declared in (plugin.get("capabilities") or {}).items()
        if declared is True
    )


def require_honoured(
    plugins: Plugins, asked: Iterable[str], network: NetworkSpec, *, strict: bool
) -> None:
    """Is there a plugin for each capability that is `asked`? If not `strict`, the log tells.

    Raises:
        IntentError: none declares it (NPWG 1.3: the attachment must fail).
    """
    lost = sorted(set(asked) - declared_capabilities(plugins))
    if lost and strict:
        raise IntentError(
            f"the pod asks {', '.join(lost)}, and none of the plugins declares that capability",
            hint=f'add "capabilities": {{"{lost[0]}": true}} to the plugin that can, leave it out '
            "of the pod, or set npwg.strict to false to have it ignored",
            subject=str(network.key),
        )
    if lost:
        _log.warning("asked in vain", network=str(network.key), capabilities=lost)


def with_runtime_config(plugins: Plugins, offered: Mapping[str, Any]) -> Plugins:
    """`plugins` without the caller's keys, each with what it declares a capability for."""
    rendered = []
    for plugin in plugins:
        capabilities = plugin.get("capabilities") or {}
        wanted = {k: v for k, v in offered.items() if v and capabilities.get(k) is True}
        kept = {k: v for k, v in plugin.items() if k not in _RUNTIME_KEYS}
        rendered.append({**kept, "runtimeConfig": wanted} if wanted else kept)
    return tuple(rendered)


def with_args(plugins: Plugins, cni_args: Mapping[str, Any]) -> Plugins:
    """`plugins` with the pod's ``cni-args`` in ``args.cni``; the pod's word beats the network's."""
    if not cni_args:
        return plugins
    rendered = []
    for plugin in plugins:
        args = plugin.get("args") or {}
        own = args.get("cni")
        merged = {**(own if isinstance(own, Mapping) else {}), **cni_args}
        rendered.append({**plugin, "args": {**args, "cni": merged}})
    return tuple(rendered)


def with_device_id(plugins: Plugins, device_id: str) -> Plugins:
    """`plugins` with the device of a device plugin, under both names that Multus writes and that
    sriov (``deviceID``) and host-device (``pciBusID``) read."""
    if not device_id:
        return plugins
    return tuple({**plugin, "deviceID": device_id, "pciBusID": device_id} for plugin in plugins)


def on_device(plugins: Plugins, device: str) -> Plugins:
    """`plugins` whose first one with a ``master`` is made on the host device `device` instead,
    which is the wire that its ``vlan`` or ``vxlan`` asked for."""
    if not device:
        return plugins
    target = next((i for i, plugin in enumerate(plugins) if plugin.get("master")), None)
    return tuple(
        {**{k: v for k, v in plugin.items() if k not in {"vlan", "vxlan"}}, "master": device}
        if position == target
        else plugin
        for position, plugin in enumerate(plugins)
    )


def with_addresses(
    plugins: Plugins, network: NetworkSpec, addresses: tuple[IPInterface, ...]
) -> Plugins:
    """`plugins` whose first one with an ``ipam`` (else the first) gives exactly `addresses`; the
    one whose ``ipam`` is danmpy's before all others.

    The reference plugin ``static`` does what DANM's fakeipam did. Routes of the file's ``ipam`` go
    with it, as in DANM: the network object's routes are installed instead.
    """
    gateways = {4: network.gateway, 6: network.gateway6}
    entries = []
    for address in addresses:
        gateway = gateways[address.version]
        usable = gateway is not None and gateway in address.network
        extra = {"gateway": str(gateway)} if usable else {}
        entries.append({"address": str(address), **extra})
    ipam = {"type": STATIC_IPAM, "addresses": entries}
    own = (i for i, plugin in enumerate(plugins) if ipam_type(plugin) == OWN_IPAM)
    any_ipam = (i for i, plugin in enumerate(plugins) if plugin.get("ipam"))
    target = next(own, next(any_ipam, 0))
    return tuple(
        {**plugin, "ipam": ipam} if position == target else plugin
        for position, plugin in enumerate(plugins)
    )


def without_own_ipam(plugins: Plugins) -> Plugins:
    """`plugins` without danmpy's ``ipam``: there is no address to give, and no such IPAM plugin."""
    return tuple(
        {k: v for k, v in plugin.items() if k != "ipam"}
        if ipam_type(plugin) == OWN_IPAM
        else plugin
        for plugin in plugins
    )

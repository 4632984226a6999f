"""What the TenantConfigs offer to one namespace, and what a wire is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from danmpy.api.profile_rules import serving
from danmpy.api.specs import (
    HostDeviceProfile,
    NetworkSpec,
    SegmentKey,
    SegmentKind,
    TenantConfigSpec,
)
from danmpy.errors import IntentError


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one namespace may use: profiles in their order, NetworkIDs by NetworkType."""

    configs: tuple[TenantConfigSpec, ...]
    profiles: tuple[HostDeviceProfile, ...]
    network_ids: Mapping[str, str]


def offer_to(namespace: str, tenant_configs: Iterable[TenantConfigSpec]) -> Offer:
    """What the TenantConfigs that count for `namespace` offer, put together."""
    configs = serving(tenant_configs, namespace)
    network_ids: dict[str, str] = {}
    for config in reversed(configs):  # of equal keys the first counts
        network_ids |= {key.lower(): value for key, value in config.network_ids.items()}
    return Offer(
        configs=configs,
        profiles=tuple(profile for config in configs for profile in config.host_devices),
        network_ids=network_ids,
    )


def wire_of(segment: SegmentKey) -> SegmentKey:
    """What two tenants must never share: of a VXLAN the VNI alone, whatever the parent.

    A node has one socket for all its tunnels of a port, and takes a frame for the device with its
    VNI whichever NIC it came in by (drivers/net/vxlan, vxlan_rcv). So one VNI on two parents is one
    wire as soon as two nodes have it on different ones.
    """
    return replace(segment, parent="") if segment.kind is SegmentKind.VXLAN else segment


def within(profile: HostDeviceProfile, wires: Iterable[SegmentKey]) -> set[SegmentKey]:
    """Those of `wires` that `profile` could give out."""
    parents = {profile.name, ""}
    return {
        wire
        for wire in wires
        if wire.parent in parents
        and wire.kind is profile.kind
        and any(first <= wire.id <= last for first, last in profile.ids)
    }


def range_text(profile: HostDeviceProfile) -> str:
    """The profile in words."""
    ids = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in profile.ids)
    return f"{profile.kind} {ids} on {profile.name}"


def no_tenant_config(spec: NetworkSpec, *, others: bool) -> IntentError:
    """No TenantConfig counts for its namespace; `others`: there are some for other ones."""
    if others:
        return IntentError(
            f"no TenantConfig serves namespace {spec.key.namespace}, so no device may be used",
            hint="an administrator has to name it in namespaces of a TenantConfig",
            subject=str(spec.key),
        )
    return IntentError(
        "there is no TenantConfig, so no device may be used",
        hint="an administrator has to create a TenantConfig with hostDevices",
        subject=str(spec.key),
    )


def not_allowed(spec: NetworkSpec, asked: str, offer: Offer) -> IntentError:
    """The device that it asks for (empty: any NIC) is not offered to it."""
    names = sorted({profile.name for profile in offer.profiles})
    listed = ", ".join(names) if names else "none"
    whose = "TenantConfig"
    if offer.configs[0].namespaces is not None:
        whose = f"TenantConfig for namespace {spec.key.namespace}"
    if asked:
        message = f"device {asked} is in no {whose}"
        hint = f"the TenantConfigs offer: {listed}"
    else:
        message = f"no {whose} offers a network interface"
        hint = f"name one of the device pools in device_pool (offered: {listed})"
    return IntentError(message, hint=hint, subject=str(spec.key))

"""The rules of a TenantConfig: interface profiles and NetworkID mappings.

The numbers are those of DANM 4.3's rules for TenantConfigs. Ranges go up to what the protocols
allow (4094 and 16777215), where DANM stops at 5000 for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from danmpy.api.addresses import Range, TextError, merged
from danmpy.api.findings import Finding, shape_findings
from danmpy.api.limits import (
    DYNAMIC_TYPES,
    NETWORK_ID_MAX,
    VLAN_MAX,
    VLAN_MIN,
    VNI_MAX,
    VNI_MIN,
)
from danmpy.api.specs import HostDeviceProfile, QuotaSpec, SegmentKind, TenantConfigSpec
from danmpy.api.tenantconfigs import HostDevice, Quotas, TenantConfigManifest
from danmpy.api.words import is_file_name, is_link_name, is_namespace, nearest

_ALLOC_SET: Final = "AllocSet"

_LIMITS: Final[Mapping[SegmentKind, Range]] = {
    SegmentKind.VLAN: (VLAN_MIN, VLAN_MAX),
    SegmentKind.VXLAN: (VNI_MIN, VNI_MAX),
}
_PIECE: Final = re.compile(r"\s*([0-9]{1,10})\s*(?:-\s*([0-9]{1,10})\s*)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileVerdict:
    """What the rules say of one TenantConfig: findings, or the trusted value."""

    findings: tuple[Finding, ...] = ()
    config: TenantConfigSpec | None = None


def judge_tenant_config(
    name: str, manifest: Mapping[str, Any], *, stored: bool = False
) -> ProfileVerdict:
    """`manifest` by all rules for one object; every broken rule is told.

    `stored`: the object was accepted once, so the bitmaps that DANM writes may be in it. They mean
    nothing.
    """
    if "spec" in manifest:
        misplaced = Finding(
            path="spec",
            code="FieldUnknown",
            message="a TenantConfig has no spec",
            hint="put hostDevices and networkIds at the top level, beside metadata",
        )
        return ProfileVerdict(findings=(misplaced,))
    try:
        config = TenantConfigManifest.model_validate(manifest)
    except ValidationError as error:
        return ProfileVerdict(findings=shape_findings(error, TenantConfigManifest))
    findings = tuple(found for found in _judge(config) if not (stored and found.code == _ALLOC_SET))
    if findings:
        return ProfileVerdict(findings=findings)
    return ProfileVerdict(
        config=TenantConfigSpec(
            name=name,
            host_devices=tuple(_profile(device) for device in config.host_devices),
            network_ids={key.lower(): value for key, value in config.network_ids.items()},
            namespaces=None if config.namespaces is None else frozenset(config.namespaces),
            quotas=QuotaSpec(**config.quotas.model_dump()),
        )
    )


def allocs_of(manifest: Mapping[str, Any]) -> Mapping[str, object]:
    """The bitmaps of DANM in a TenantConfig: field -> value."""
    devices = manifest.get("hostDevices")
    return {
        f"hostDevices[{index}].alloc": device["alloc"]
        for index, device in enumerate(devices if isinstance(devices, list) else ())
        if isinstance(device, Mapping) and device.get("alloc")
    }


def serving(configs: Iterable[TenantConfigSpec], namespace: str) -> tuple[TenantConfigSpec, ...]:
    """The TenantConfigs that count for `namespace`, in order of their names.

    Those that name it; when none does, those that name no namespaces at all. So one more
    TenantConfig without `namespaces` never widens what a namespace with its own may use.
    """
    ordered = sorted(configs, key=lambda config: config.name)
    own = tuple(config for config in ordered if namespace in (config.namespaces or ()))
    return own or tuple(config for config in ordered if config.namespaces is None)


def quotas_for(configs: Iterable[TenantConfigSpec], namespace: str) -> QuotaSpec:
    """The limits of `namespace`: of each kind the smallest of the TenantConfigs that count for it
    (`serving`).
    """
    quotas = [config.quotas for config in serving(configs, namespace)]

    def smallest(limits: Iterable[int | None]) -> int | None:
        return min((limit for limit in limits if limit is not None), default=None)

    return QuotaSpec(
        addresses=smallest(each.addresses for each in quotas),
        networks=smallest(each.networks for each in quotas),
        interfaces_per_pod=smallest(each.interfaces_per_pod for each in quotas),
    )


def overlaps(earlier: Iterable[TenantConfigSpec], config: TenantConfigSpec) -> Iterator[Finding]:
    """Ids that an `earlier` TenantConfig already gives out on the same device and kind.

    Two configs that assign from one range would each promise an id to be free.
    """
    for index, profile in enumerate(config.host_devices):
        for other in earlier:
            for rival in other.host_devices:
                shared = _shared(profile, rival)
                if shared is not None:
                    yield Finding(
                        path=f"hostDevices[{index}].vniRange",
                        code="RangesOverlap",
                        message=f"TenantConfig/{other.name} already has {profile.kind}"
                        f" {shared[0]} to {shared[1]} on {profile.name}",
                        hint="give each TenantConfig ids of its own",
                    )


def parse_ids(text: str, kind: SegmentKind) -> tuple[Range, ...]:
    """The ids of a vniRange such as ``2000-2500,2601``, sorted and merged.

    Raises:
        TextError: it is no such list, a range ends before it starts, or an id does not exist.
    """
    low, high = _LIMITS[kind]
    ranges = []
    for piece in text.split(","):
        match = _PIECE.fullmatch(piece)
        if match is None:
            raise TextError(
                f"{piece.strip()!r} is neither a number nor a range", "write 2000-2500,2601"
            )
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first:
            raise TextError(f"{piece.strip()} ends before it starts", f"write {last}-{first}")
        if first < low or last > high:
            raise TextError(
                f"{piece.strip()} is outside the {kind} ids", f"use ids from {low} to {high}"
            )
        ranges.append((first, last))
    return merged(ranges)


def _judge(config: TenantConfigManifest) -> Iterator[Finding]:
    if not config.host_devices and not config.network_ids and config.quotas == Quotas():  # rule 1
        yield Finding(
            path="hostDevices",
            code="ConfigEmpty",
            message="hostDevices and networkIds are both empty",
            hint="list the NICs that tenants may use in hostDevices",
        )
    seen: dict[tuple[str, str], int] = {}
    for index, device in enumerate(config.host_devices):
        yield from _judge_device(f"hostDevices[{index}]", device)
        first = seen.setdefault((device.name, device.vni_type), index)
        if first != index and device.name:
            yield Finding(
                path=f"hostDevices[{index}]",
                code="ProfileTwice",
                message=f"{device.name} stands there twice with the same vniType",
                hint=f"join it with hostDevices[{first}]: a vniRange may list several ranges",
            )
    yield from _judge_network_ids(config.network_ids)
    yield from _judge_namespaces(config.namespaces)


def _judge_device(path: str, device: HostDevice) -> Iterator[Finding]:
    if not device.name:  # rule 2
        yield Finding(
            path=f"{path}.name",
            code="NameMissing",
            message=f"{path}.name is missing",
            hint="set the name of the NIC",
        )
    elif not is_link_name(device.name) and not _is_resource(device.name):
        yield Finding(
            path=f"{path}.name",
            code="HostDeviceInvalid",
            message=f"{device.name!r} is neither a NIC name nor a resource name",
            hint="use the name that ip link shows, or vendor/resource",
        )
    if device.alloc:  # rule 5
        yield Finding(
            path=f"{path}.alloc",
            code=_ALLOC_SET,
            message="alloc is set",
            hint="delete the field: assignments are kept in the database",
        )
    if bool(device.vni_type) != bool(device.vni_range):  # rule 3
        missing = "vniRange" if device.vni_type else "vniType"
        yield Finding(
            path=f"{path}.{missing}",
            code="RangeIncomplete",
            message=f"{missing} is missing",
            hint="set vniType and vniRange together, or neither",
        )
    yield from _judge_range(path, device)


def _judge_range(path: str, device: HostDevice) -> Iterator[Finding]:
    """Rules 4, 6, 7."""
    kinds = {str(kind) for kind in SegmentKind}
    if device.vni_type and device.vni_type not in kinds:
        yield Finding(
            path=f"{path}.vniType",
            code="VniTypeInvalid",
            message=f"vniType {device.vni_type!r} does not exist",
            hint=nearest(device.vni_type, kinds),
        )
    elif device.vni_type and device.vni_range:
        try:
            parse_ids(device.vni_range, SegmentKind(device.vni_type))
        except TextError as error:
            yield Finding(
                path=f"{path}.vniRange",
                code="RangeInvalid",
                message=f"vniRange: {error.message}",
                hint=error.hint,
            )


def _judge_network_ids(network_ids: Mapping[str, str]) -> Iterator[Finding]:
    """Rules 8, 9; and that no two keys differ only in case, because case does not count."""
    seen: dict[str, str] = {}
    for key, value in network_ids.items():
        path = f"networkIds.{key}"
        problem, hint = "", ""
        if not key or not value:
            problem, hint = "a NetworkType or its NetworkID is empty", "fill in both"
        elif not is_file_name(value):
            problem = f"NetworkID {value!r} cannot be a file name"
            hint = "use letters, digits, dash and underscore"
        elif key.lower() in DYNAMIC_TYPES and len(value) > NETWORK_ID_MAX:
            problem = f"NetworkID {value} is longer than {NETWORK_ID_MAX} characters"
            hint = f"use at most {NETWORK_ID_MAX} characters for {key}"
        elif key.lower() in seen:
            problem = f"{key} and {seen[key.lower()]} are the same NetworkType"
            hint = "keep one of them"
        seen[key.lower()] = key
        if problem:
            yield Finding(path=path, code="NetworkIdInvalid", message=problem, hint=hint)


def _judge_namespaces(namespaces: Sequence[str] | None) -> Iterator[Finding]:
    if namespaces is None:
        return
    if not namespaces:
        # Nobody, says the list; everybody, say most readers of an empty one. Neither is guessed.
        yield Finding(
            path="namespaces",
            code="NamespacesEmpty",
            message="namespaces is empty, so it serves nobody",
            hint="name a namespace, or delete the field to serve all that no TenantConfig names",
        )
    for index, namespace in enumerate(namespaces):
        if not is_namespace(namespace):
            yield Finding(
                path=f"namespaces[{index}]",
                code="NamespaceInvalid",
                message=f"{namespace!r} is no name of a namespace",
                hint="use lower-case letters, digits and dash (RFC 1123)",
            )


def _is_resource(name: str) -> bool:
    vendor, slash, resource = name.partition("/")
    return bool(slash) and is_file_name(vendor) and is_file_name(resource)


def _profile(device: HostDevice) -> HostDeviceProfile:
    if not device.vni_type:
        return HostDeviceProfile(name=device.name)
    kind = SegmentKind(device.vni_type)
    return HostDeviceProfile(name=device.name, kind=kind, ids=parse_ids(device.vni_range, kind))


def _shared(one: HostDeviceProfile, other: HostDeviceProfile) -> Range | None:
    """The first ids that both profiles give out, or None."""
    if one.name != other.name or one.kind is not other.kind or one.kind is None:
        return None
    for first, last in one.ids:
        for low, high in other.ids:
            if first <= high and low <= last:
                return max(first, low), min(last, high)
    return None

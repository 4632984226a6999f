"""The admission rules of networks: what must hold in one object, and between its old and new form.

One rule, one pure function with the number of DANM 4.3's webhook rule where it has one; rules
about addresses (1 to 20) are in `pool_rules`. `judge_network` is the door: every user of the rules
(the folder, the command line, the webhook) goes through it. Rules that need the database or other
objects are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from danmpy.api.addresses import TextError, parse_unicast
from danmpy.api.drafts import OPTIONS, NetworkDraft, build_network, draft_network, normal_type
from danmpy.api.findings import Finding, shape_findings
from danmpy.api.limits import (
    DYNAMIC_TYPES,
    IFNAME_MAX_BYTES,
    IPV6_MTU_MIN,
    KERNEL_TABLES,
    NETWORK_ID_MAX,
)
from danmpy.api.networks import NetworkManifest
from danmpy.api.pool_rules import FAMILY_RULES, exclude_inside, ranges_usable
from danmpy.api.specs import NetworkKey, NetworkKind, NetworkSpec
from danmpy.api.words import is_file_name, is_link_name, is_link_prefix

NetworkRule = Callable[[NetworkDraft], Iterator[Finding]]

_IDS: Final = ("vlan", "vxlan")
_PLACE: Final[tuple[str, ...]] = ("host_device", "device_pool", *_IDS)
"""The fields of Options that say where on a host a network is."""

_OF_DANM: Final = ("alloc", "alloc6", *_IDS)
"""The fields of Options that DANM itself writes: bitmaps, and the id of a TenantNetwork."""

_NOT_FOR_PEOPLE: Final = frozenset({"AllocSet", "SegmentMisplaced"})
"""The rules that keep people from writing them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkVerdict:
    """What the rules say of one network: findings, or the trusted value."""

    findings: tuple[Finding, ...] = ()
    network: NetworkSpec | None = None


def judge_network(
    key: NetworkKey, uid: str, manifest: Mapping[str, Any], *, stored: bool = False
) -> NetworkVerdict:
    """`manifest` by all rules for one object; every broken rule is told, not only the first.

    `stored`: the object was accepted once, so what DANM writes into objects may be in it. The
    bitmaps mean nothing then, and the id of a TenantNetwork is its `segment`: a wish for the one
    that it had.
    """
    try:
        body = NetworkManifest.model_validate(manifest).spec
    except ValidationError as error:
        return NetworkVerdict(findings=shape_findings(error, NetworkManifest))
    draft = draft_network(key.kind, body)
    findings = tuple(
        found for found in _judge(draft) if not (stored and found.code in _NOT_FOR_PEOPLE)
    )
    if findings:
        return NetworkVerdict(findings=findings)
    return NetworkVerdict(network=build_network(key, uid, draft))


def judge_update(
    kind: NetworkKind, old: Mapping[str, Any], new: Mapping[str, Any], *, in_use: bool
) -> tuple[Finding, ...]:
    """What the update of manifest `old` to `new` must not change; `in_use`: pods are attached.

    Rule 28: a TenantNetwork never changes its place on the host; an id that rule 27 refuses may be
    taken out. Rule 29, and more: while pods are attached, no network changes its place or its type.
    DANM lets a network without an id move; here its pods would be left on the device that it had.

    Fields are compared as they are written, because `old` may break rules that came after it.
    """
    place, hint = _PLACE, "delete the pods that are attached first"
    if kind is NetworkKind.TENANT:
        hint = "make a new TenantNetwork: its place on the host never changes"
    elif not in_use:
        place = ()
    changes = [
        _option(field, "FieldImmutable", _changed(field, before, after), hint)
        for field in place
        if (before := _written(old, field)) != (after := _written(new, field))
        and not (kind is NetworkKind.TENANT and field in _IDS and not after)
    ]
    if in_use and (was := _type_of(old)) != (now := _type_of(new)):
        changes.append(
            Finding(
                path="spec.NetworkType",
                code="FieldImmutable",
                message=f"NetworkType changes from {was} to {now}",
                hint="delete the pods that are attached first",
            )
        )
    return tuple(changes)


def keeps_what_danm_wrote(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Is what DANM writes into a network in `new` as it is in `old`, or not at all?"""
    return all(
        (_written(new, field) or _written(old, field)) == _written(old, field) for field in _OF_DANM
    )


def bitmaps_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The bitmaps of DANM in a network, by their fields."""
    return tuple(f"{OPTIONS}.{field}" for field in _OF_DANM[:2] if _written(manifest, field))


def one_segment(draft: NetworkDraft) -> Iterator[Finding]:
    """Rule 21: vlan or vxlan, not both."""
    if draft.options.vlan and draft.options.vxlan:
        yield _option("vxlan", "SegmentTwice", "vlan and vxlan are both set", "keep one of them")


def network_id_usable(draft: NetworkDraft) -> Iterator[Finding]:
    """Rules 22 and 23, and that it can be a file name.

    A TenantNetwork may get its NetworkID from TenantConfig.networkIds when it is assigned, and
    whether it will have a VLAN id or VNI is not known before: it is not judged for either here.
    """
    network_id, options = draft.body.network_id, draft.options
    tenant = draft.kind is NetworkKind.TENANT
    if not network_id:
        if not tenant:
            yield _network_id("NetworkIdMissing", "NetworkID is missing", "set spec.NetworkID")
    elif not is_file_name(network_id):
        yield _network_id(
            "NetworkIdInvalid",
            f"NetworkID {network_id!r} cannot be a file name",
            "use letters, digits, dash and underscore",
        )
    elif (
        not tenant
        and len(network_id) > NETWORK_ID_MAX
        and draft.backend in DYNAMIC_TYPES
        and (options.vlan or options.vxlan)
    ):
        yield _network_id(
            "NetworkIdTooLong",
            f"NetworkID {network_id} is longer than {NETWORK_ID_MAX} characters,"
            " and the name of a VLAN or VXLAN device is made of it",
            f"use at most {NETWORK_ID_MAX} characters",
        )


def allowed_tenants_only_on_cluster(draft: NetworkDraft) -> Iterator[Finding]:
    """Rule 24. An empty list is absence: DANM reads it as all tenants."""
    if draft.body.allowed_tenants and draft.kind is not NetworkKind.CLUSTER:
        yield Finding(
            path="spec.AllowedTenants",
            code="AllowedTenantsMisplaced",
            message=f"AllowedTenants is set on a {draft.kind}",
            hint="delete it: only pods of its own namespace reach this network",
        )


def type_usable(draft: NetworkDraft) -> Iterator[Finding]:
    """Ours: NetworkType names a plugin binary, so it is one component of a path."""
    if not is_file_name(draft.backend):
        yield Finding(
            path="spec.NetworkType",
            code="NetworkTypeInvalid",
            message=f"NetworkType {draft.backend!r} cannot be the name of a plugin",
            hint="use ipvlan, macvlan, bridge, sriov, or the name of a CNI plugin",
        )


def device_suits_type(draft: NetworkDraft) -> Iterator[Finding]:
    """Rules 25 and 26; NetworkType in any case, where DANM lets "SRIOV" escape."""
    options = draft.options
    if draft.backend == "sriov":
        if not options.device_pool:
            yield _option(
                "device_pool",
                "DevicePoolMissing",
                "NetworkType sriov needs device_pool",
                "set the resource name of the device plugin",
            )
        if options.host_device:
            yield _option(
                "host_device",
                "HostDeviceMisplaced",
                "NetworkType sriov takes no host_device",
                "delete host_device: the device plugin chooses the device",
            )
    elif options.host_device and options.device_pool:
        yield _option(
            "device_pool",
            "DeviceTwice",
            "host_device and device_pool are both set",
            "keep one of them",
        )


def host_device_usable(draft: NetworkDraft) -> Iterator[Finding]:
    """Ours: a name that no interface can have is a slip of the pen."""
    name = draft.options.host_device
    if name and not is_link_name(name):
        yield _option(
            "host_device",
            "HostDeviceInvalid",
            f"host_device {name!r} cannot be the name of an interface",
            f"use the name that ip link shows, at most {IFNAME_MAX_BYTES} bytes",
        )


def device_pool_usable(draft: NetworkDraft) -> Iterator[Finding]:
    """Ours: a resource name is printable text without spaces (DANM does not look)."""
    name = draft.options.device_pool
    if not name.isprintable() or " " in name:
        yield _option(
            "device_pool",
            "DevicePoolInvalid",
            f"device_pool {name!r} cannot be the name of a resource",
            "write vendor/resource as the device plugin announces it",
        )


def segment_placed(draft: NetworkDraft) -> Iterator[Finding]:
    """Rule 27, and ours: the VLAN or VXLAN of a dynamic type needs a device to sit on."""
    options = draft.options
    field = "vlan" if options.vlan else "vxlan"
    if not options.vlan and not options.vxlan:
        return
    if draft.kind is NetworkKind.TENANT:
        yield _option(
            field,
            "SegmentMisplaced",
            f"{field} is set on a TenantNetwork",
            f"delete {field}: it is assigned from the TenantConfig",
        )
    elif draft.backend in DYNAMIC_TYPES and not options.host_device and not options.device_pool:
        yield _option(
            "host_device",
            "HostDeviceMissing",
            f"{field} is set and host_device is not",
            "set host_device to the NIC that carries it",
        )


def prefix_usable(draft: NetworkDraft) -> Iterator[Finding]:
    """Ours: prefix and position together make the interface name (DANM does not look)."""
    prefix = draft.options.container_prefix
    longest = IFNAME_MAX_BYTES - 1
    if prefix and (not is_link_prefix(prefix) or len(prefix) > longest):
        yield _option(
            "container_prefix",
            "PrefixInvalid",
            f"container_prefix {prefix!r} cannot begin the name of an interface",
            f"at most {longest} printable ASCII characters, no slash, colon or space",
        )


def table_usable(draft: NetworkDraft) -> Iterator[Finding]:
    """Ours: policy routes in a table of the kernel's own would change routing for all."""
    if draft.options.rt_tables in KERNEL_TABLES:
        yield _option(
            "rt_tables",
            "TableReserved",
            f"rt_tables {draft.options.rt_tables} is the kernel's default, main or local table",
            f"use a table from 1 to {KERNEL_TABLES.start - 1}, or from {KERNEL_TABLES.stop} up",
        )


def mtu_suits_ipv6(draft: NetworkDraft) -> Iterator[Finding]:
    """Ours: below 1280 bytes the kernel takes IPv6 off the link (RFC 8200, 5)."""
    mtu = draft.options.mtu
    if mtu is not None and mtu < IPV6_MTU_MIN and draft.v6.subnet_text:
        yield _option(
            "mtu",
            "MtuTooSmall",
            f"mtu {mtu} is too small for IPv6",
            f"use at least {IPV6_MTU_MIN}, or delete net6",
        )


def remotes_usable(draft: NetworkDraft) -> Iterator[Finding]:
    """Ours: remote tunnel ends are addresses of one host, on a network that has tunnels."""
    options = draft.options
    for index, text in enumerate(options.vxlan_remotes):
        try:
            parse_unicast(text)
        except TextError as error:
            field = f"vxlan_remotes[{index}]"
            yield _option(field, "RemoteInvalid", f"{field}: {error.message}", error.hint)
    if options.vxlan_remotes and not options.vxlan and draft.kind is not NetworkKind.TENANT:
        yield _option(
            "vxlan_remotes",
            "RemotesMisplaced",
            "vxlan_remotes is set and vxlan is not",
            "set vxlan, or delete vxlan_remotes",
        )


NETWORK_RULES: Final[tuple[NetworkRule, ...]] = (
    exclude_inside,
    ranges_usable,
    one_segment,
    network_id_usable,
    allowed_tenants_only_on_cluster,
    type_usable,
    device_suits_type,
    host_device_usable,
    device_pool_usable,
    segment_placed,
    prefix_usable,
    table_usable,
    mtu_suits_ipv6,
    remotes_usable,
)


def _judge(draft: NetworkDraft) -> Iterator[Finding]:
    for family in draft.families:
        for family_rule in FAMILY_RULES:
            yield from family_rule(family)
    for rule in NETWORK_RULES:
        yield from rule(draft)


def _written(manifest: Mapping[str, Any], field: str) -> object:
    """A field of Options, None for every way to say "not set"."""
    return _part(_part(manifest, "spec"), "Options").get(field) or None


def _changed(field: str, before: object, after: object) -> str:
    if after is None:
        return f"{field} is taken away (it was {before!r})"
    return f"{field} changes from {'unset' if before is None else repr(before)} to {after!r}"


def _type_of(manifest: Mapping[str, Any]) -> str:
    written = _part(manifest, "spec").get("NetworkType")
    return normal_type(written if isinstance(written, str) else "")


def _part(value: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    part = value.get(field)
    return part if isinstance(part, Mapping) else {}


def _option(field: str, code: str, message: str, hint: str) -> Finding:
    return Finding(path=f"{OPTIONS}.{field}", code=code, message=message, hint=hint)


def _network_id(code: str, message: str, hint: str) -> Finding:
    return Finding(path="spec.NetworkID", code=code, message=message, hint=hint)

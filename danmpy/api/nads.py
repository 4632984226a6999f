"""The manifests of NetworkAttachmentDefinitions (NPWG 1.3), judged like networks of any other kind.

Most of them are other plugins'. What danmpy itself reads in their configuration is in
`nad_configs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from danmpy.api.drafts import OPTIONS, build_network, draft_network
from danmpy.api.findings import Finding
from danmpy.api.jsontext import a_json
from danmpy.api.nad_configs import CONFIG, IPAM, read_config
from danmpy.api.networks import NetworkBody, NetworkOptions
from danmpy.api.pool_rules import FAMILY_RULES, exclude_inside, ranges_usable
from danmpy.api.rules import NetworkVerdict, mtu_suits_ipv6
from danmpy.api.specs import NetworkKey, NetworkKind, SegmentKey

GROUP: Final = "k8s.cni.cncf.io"
API_VERSION: Final = f"{GROUP}/v1"

RESOURCE_NAME: Final = "k8s.v1.cni.cncf.io/resourceName"
"""Annotation: the device plugin's resource of which each interface gets one device (Multus)."""

BACKEND: Final = "nad"
"""The backend of every NetworkSpec made here: delegates make the interface."""

TOLD_ONLY: Final = frozenset(
    {"ConfigAmbiguous", "NameInvalid", "VersionInvalid", "FlagInvalid", "ResourceInvalid"}
)
"""Findings that admission only tells: whoever else uses the object may live with them."""


def judge_nad(key: NetworkKey, uid: str, manifest: Mapping[str, Any]) -> NetworkVerdict:
    """`manifest` by all rules for one object; every broken rule is told, not only the first."""
    text, findings = _config_text(manifest)
    resource, more = _resource(manifest)
    findings += more
    config = read_config(key, text)
    findings += config.findings
    options = NetworkOptions(
        host_device=config.master if config.segment else "",
        vlan=config.vlan,
        vxlan=config.vxlan,
        # Without a device of ours it is the plugin's own matter.
        mtu=config.mtu if config.segment else None,
        **(
            config.ipam.model_dump(by_alias=True, exclude_defaults=True, exclude={"type"})
            if config.ipam
            else {}
        ),
    )
    body = NetworkBody.model_construct(
        network_id=key.name, network_type=BACKEND, allowed_tenants=[], options=options
    )
    draft = draft_network(key.kind, body)
    if config.ipam is not None:
        found = [
            each for family in draft.families for rule in FAMILY_RULES for each in rule(family)
        ]
        for network_rule in (exclude_inside, ranges_usable, mtu_suits_ipv6):
            found += network_rule(draft)
        findings += tuple(replace(each, path=_path_of(each.path)) for each in found)
    if findings:
        return NetworkVerdict(findings=findings)
    network = build_network(key, uid, draft)
    return NetworkVerdict(
        network=replace(network, conf=text, resource=resource, alias=config.alias)
    )


def named_segment(manifest: Mapping[str, Any]) -> SegmentKey | None:
    """The segment that a refused manifest names, as far as that can be read."""
    text, _ = _config_text(manifest)
    return read_config(NetworkKey(kind=NetworkKind.NAD, name=""), text).segment


def _config_text(manifest: Mapping[str, Any]) -> tuple[str, tuple[Finding, ...]]:
    """The configuration; empty when there is none: then the node's own of that name is meant."""
    spec = manifest.get("spec")
    if spec is None:
        return "", ()
    if not isinstance(spec, Mapping):
        found = Finding(
            path="spec",
            code="TypeWrong",
            message=f"spec is {a_json(spec)}",
            hint="write config: below it, with a CNI configuration as text",
        )
        return "", (found,)
    text = spec.get("config")
    if text is None or isinstance(text, str):
        return (text or "").strip() and str(text), ()
    hint = "write it as text: config: '{...}'"
    if isinstance(text, Mapping):
        hint = "put a vertical bar after config: and write the configuration below it as JSON"
    found = Finding(path=CONFIG, code="TypeWrong", message=f"{CONFIG} is {a_json(text)}", hint=hint)
    return "", (found,)


def _resource(manifest: Mapping[str, Any]) -> tuple[str, tuple[Finding, ...]]:
    metadata = manifest.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    name = annotations.get(RESOURCE_NAME, "") if isinstance(annotations, Mapping) else ""
    if isinstance(name, str) and name.isprintable() and " " not in name:
        return name, ()
    found = Finding(
        path=f"metadata.annotations[{RESOURCE_NAME}]",
        code="ResourceInvalid",
        message=f"annotation {RESOURCE_NAME}: {name!r} cannot be the name of a resource",
        hint="write vendor/resource as the device plugin announces it",
    )
    return "", (found,)


def _path_of(path: str) -> str:
    return path.replace(OPTIONS, IPAM, 1)

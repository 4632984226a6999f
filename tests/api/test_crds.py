from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from danmpy.api.crds import crd_files, crd_stream, render_crds
from danmpy.api.networks import NetworkStatus
from support.manifests import config_manifest, network_manifest

FOLDER = Path(__file__).resolve().parents[2] / "crds"
CRDS = {crd["spec"]["names"]["kind"]: crd for crd in render_crds()}


def schema(kind: str) -> dict[str, Any]:
    return CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def test_the_files_are_those_that_the_models_make() -> None:
    found = {path.name: path.read_text() for path in FOLDER.glob("*.yaml")}
    assert found == crd_files(), "regenerate them: danmpy crds --dir crds"


def test_the_stream_holds_every_kind() -> None:
    assert list(yaml.safe_load_all(crd_stream())) == list(render_crds())


@pytest.mark.parametrize(
    ("kind", "plural", "short", "scope"),
    [
        ("DanmNet", "danmnets", ["dn", "dnet"], "Namespaced"),
        ("TenantNetwork", "tenantnetworks", ["tn", "tnet"], "Namespaced"),
        ("ClusterNetwork", "clusternetworks", ["cn", "cnet"], "Cluster"),
        ("TenantConfig", "tenantconfigs", ["tc", "tconf"], "Cluster"),
        ("DanmEp", "danmeps", ["de", "dep"], "Namespaced"),
    ],
)
def test_names_and_scopes_are_danms(kind: str, plural: str, short: list[str], scope: str) -> None:
    crd = CRDS[kind]
    names = crd["spec"]["names"]
    assert (names["plural"], names["shortNames"], crd["spec"]["scope"]) == (plural, short, scope)
    assert crd["metadata"]["name"] == f"{plural}.danm.k8s.io"
    assert crd["metadata"]["annotations"]["api-approved.kubernetes.io"].startswith("unapproved, ")
    (version,) = crd["spec"]["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v1", True, True)
    assert version["additionalPrinterColumns"]


@pytest.mark.parametrize("kind", ["DanmNet", "TenantNetwork", "ClusterNetwork"])
def test_networks_have_a_status_of_their_own(kind: str) -> None:
    assert CRDS[kind]["spec"]["versions"][0]["subresources"] == {"status": {}}
    assert set(schema(kind)["properties"]["status"]["properties"]) == {
        field.alias or name for name, field in NetworkStatus.model_fields.items()
    }


def nodes(part: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, part
    for name, inner in part.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if word in part:
            yield from nodes(part[word], f"{path}[]")


@pytest.mark.parametrize("kind", CRDS)
def test_schemas_are_structural_and_explained(kind: str) -> None:
    allowed = {
        "type", "format", "description", "enum", "minimum", "maximum", "items", "required",
        "properties",
        "additionalProperties", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
        "x-kubernetes-preserve-unknown-fields",
    }  # fmt: skip
    for path, part in nodes(schema(kind)):
        assert set(part) <= allowed, path
        assert part["type"] in {"object", "array", "string", "integer", "boolean"}, path
        assert not {"properties", "additionalProperties"} <= set(part), path
        if part["type"] == "integer":
            assert part["format"] in {"int32", "int64"}, path
        if not path.endswith("[]") and path not in {".apiVersion", ".kind", ".metadata"}:
            assert part.get("description"), path


KEEP = "x-kubernetes-preserve-unknown-fields"


@pytest.mark.parametrize("kind", CRDS)
def test_where_people_write_unknown_fields_are_kept_so_that_they_can_be_named(kind: str) -> None:
    for path, part in nodes(schema(kind)):
        if "properties" in part:
            written = kind != "DanmEp" and not path.startswith(".status")
            assert part.get(KEEP, False) is written, path


@pytest.mark.parametrize("kind", CRDS)
def test_list_keys_are_required_fields(kind: str) -> None:
    for path, part in nodes(schema(kind)):
        for name in part.get("x-kubernetes-list-map-keys", ()):
            assert name in part["items"]["required"], path


def test_what_danm_writes_passes_the_schema() -> None:
    written = network_manifest(
        cidr="",
        net6="",
        allocation_pool={"start": "", "end": "", "lastIp": ""},
        allocation_pool_v6={"start": "", "end": "", "cidr": "", "lastIp": ""},
        alloc="",
        routes={},
        vlan=0,
    )
    jsonschema.validate(written, schema("ClusterNetwork"))
    jsonschema.validate(network_manifest(cidr="10.0.0.0/24", vxlan=700), schema("TenantNetwork"))
    profile = {"name": "ens4", "vniType": "", "vniRange": "", "alloc": ""}
    jsonschema.validate(config_manifest(profile, networkIds={"a": "b"}), schema("TenantConfig"))


@pytest.mark.parametrize(
    ("kind", "manifest"),
    [
        ("ClusterNetwork", network_manifest(vlan=4095)),
        ("ClusterNetwork", network_manifest(vxlan=2**24)),
        ("ClusterNetwork", network_manifest(mtu=67)),
        ("ClusterNetwork", network_manifest(cidr=5)),
        ("ClusterNetwork", {"kind": "ClusterNetwork"}),
        ("TenantConfig", config_manifest({"name": "a", "vniType": "gre"})),
    ],
)
def test_what_no_rule_could_accept_fails_the_schema(kind: str, manifest: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, schema(kind))


def test_ranges_are_those_that_the_limits_say() -> None:
    options = schema("DanmNet")["properties"]["spec"]["properties"]["Options"]["properties"]
    assert (options["vlan"]["maximum"], options["vxlan"]["maximum"]) == (4094, 16_777_215)
    assert (options["mtu"]["minimum"], options["mtu"]["maximum"]) == (68, 65_535)


@pytest.mark.parametrize("kind", sorted(CRDS))
def test_an_apply_over_danms_kinds_leaves_no_unknown_fields_preserved(kind: str) -> None:
    """DANM's are v1beta1, where `preserveUnknownFields` is true unless somebody says otherwise."""
    assert CRDS[kind]["spec"]["preserveUnknownFields"] is False


@pytest.mark.parametrize("kind", sorted(CRDS))
def test_no_column_shows_only_the_first_of_a_list(kind: str) -> None:
    """The server prints the first result of a path alone (apiextensions, tableconvertor)."""
    for column in CRDS[kind]["spec"]["versions"][0]["additionalPrinterColumns"]:
        assert "[*]" not in column["jsonPath"], column

"""The kinds on a real API server: it accepts what people write and gives back every field of it."""

from __future__ import annotations

import json
import types
import typing
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from danmpy.api.crds import render_crds
from danmpy.api.endpoints import EndpointManifest
from danmpy.api.networks import NetworkManifest, NetworkStatus
from danmpy.api.tenantconfigs import TenantConfigManifest
from support.apiclient import RefusedError, named
from support.apiserver import ApiServer, ApiServers
from support.manifests import GROUP_VERSION, config_manifest, network_manifest
from support.netns import wait_until

pytestmark = pytest.mark.system

NETWORKS = ("TenantNetwork", "ClusterNetwork", "DanmNet")
TIME = "2026-05-04T03:02:01Z"


def fullest(model: type[BaseModel]) -> dict[str, Any]:
    """An object with every field of `model` present, none of them empty."""
    return {
        field.alias or name: example(field.annotation, field)
        for name, field in model.model_fields.items()
    }


def example(annotation: Any, field: FieldInfo) -> Any:
    if isinstance(annotation, types.UnionType):
        (annotation,) = (each for each in typing.get_args(annotation) if each is not type(None))
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is list:
        return [example(inner[0], FieldInfo())]
    if origin is dict:
        return {"key": example(inner[1], FieldInfo())}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return fullest(annotation)
    return plain_example(annotation, field)


def plain_example(annotation: Any, field: FieldInfo) -> Any:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    if annotation is bool:
        return True
    if annotation is int:
        return max((bound.ge for bound in field.metadata if hasattr(bound, "ge")), default=0) + 70
    if "enum" in extra:
        return typing.cast("list[str]", extra["enum"])[-1]
    return TIME if extra.get("format") == "date-time" else "text"


def manifest(kind: str, model: type[BaseModel]) -> dict[str, Any]:
    """The fullest object of `kind`; what Kubernetes owns is replaced, a status left out."""
    body = fullest(model) | {"apiVersion": GROUP_VERSION, "kind": kind} | named("fullest")
    body.pop("status", None)
    return body


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        *((kind, NetworkManifest) for kind in NETWORKS),
        ("TenantConfig", TenantConfigManifest),
        ("DanmEp", EndpointManifest),
    ],
)
def test_every_field_of_the_models_is_stored(
    apiserver: ApiServer, kind: str, model: type[BaseModel]
) -> None:
    wanted = manifest(kind, model)
    stored = apiserver.apply(wanted)
    given = {key: value for key, value in stored.items() if key != "metadata"}
    assert given == {key: value for key, value in wanted.items() if key != "metadata"}
    assert apiserver.get(kind, "fullest") == stored


def test_the_schema_adds_nothing_that_nobody_wrote(apiserver: ApiServer) -> None:
    wanted = network_manifest()
    assert apiserver.apply(wanted)["spec"] == wanted["spec"]
    assert "status" not in apiserver.apply(wanted)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_field_of_a_status_is_stored_and_the_spec_is_not_touched(
    apiserver: ApiServer, kind: str
) -> None:
    stored = apiserver.apply(network_manifest(kind, cidr="10.0.0.0/24"))
    status = fullest(NetworkStatus)
    path = f"{apiserver.path(GROUP_VERSION, kind, 'net', 'default')}/status"
    written = {**stored, "spec": {"Options": {"cidr": "10.9.0.0/24"}}, "status": status}
    code, answer = apiserver.request("PUT", path, written)
    assert (code, answer["status"], answer["spec"]) == (200, status, stored["spec"])
    assert answer["metadata"]["generation"] == stored["metadata"]["generation"]
    changed = {**answer, "spec": {**stored["spec"], "NetworkID": "other"}, "status": {}}
    kept = apiserver.request("PUT", path.removesuffix("/status"), changed)[1]
    assert kept["status"] == status
    assert kept["metadata"]["generation"] == stored["metadata"]["generation"] + 1


def test_conditions_and_nodes_are_merged_by_their_keys(apiserver: ApiServer) -> None:
    """Server-side apply lets two writers own an entry each, because the lists are maps."""
    apiserver.apply(network_manifest(cidr="10.0.0.0/24"))
    path = f"{apiserver.path(GROUP_VERSION, 'ClusterNetwork', 'net')}/status"
    for writer, word in (("a", "Ready"), ("b", "InUse")):
        condition = {"type": word, "status": "True"}
        body = network_manifest() | {"status": {"conditions": [condition]}}
        body.pop("spec")
        answered = apiserver.request(
            "PATCH",
            f"{path}?fieldManager={writer}",
            body,
            content_type="application/apply-patch+yaml",
        )
        assert answered[0] == 200, answered
    found = apiserver.get("ClusterNetwork", "net")
    assert found is not None
    assert [each["type"] for each in found["status"]["conditions"]] == ["Ready", "InUse"]


EMPTY_POOL = {"start": "", "end": "", "lastIp": ""}

AS_DANM_HAS_THEM = [
    network_manifest(
        "TenantNetwork",
        network_type="ipvlan",
        host_device="ens4",
        container_prefix="int",
        rt_tables=200,
        vlan=700,
        cidr="10.241.7.0/24",
        allocation_pool={"start": "10.241.7.20", "end": "10.241.7.30"},
    ),
    network_manifest("DanmNet", network_type="ipvlan", host_device="ens3", vxlan=601),
    network_manifest(
        "DanmNet",
        network_type="sriov",
        device_pool="example.com/sriov_ens1f0",
        container_prefix="first_path",
        vlan=250,
        rt_tables=250,
    ),
    network_manifest(
        network_type="ipvlan",
        host_device="bond0",
        cidr="10.7.0.0/24",
        routes={"10.7.1.0/24": "10.7.0.65"},
        net6="2001:db8:7::/64",
        routes6={"2001:db8:8::/64": "2001:db8:7::1"},
        allocation_pool_v6={"cidr": "2001:db8:7::/106", "start": "", "end": "", "lastIp": ""},
    ),
    # As DANM itself writes a network back: all fields of Go's structs, most of them empty.
    network_manifest(
        host_device="",
        device_pool="",
        vlan=0,
        vxlan=0,
        cidr="",
        alloc="",
        allocation_pool=EMPTY_POOL,
        net6="",
        alloc6="",
        allocation_pool_v6={**EMPTY_POOL, "cidr": ""},
    ),
    config_manifest(
        {"name": "ens4", "vniType": "vlan", "vniRange": "1000-2000,2500", "alloc": ""},
        {"name": "example.com/pool", "vniType": "vxlan", "vniRange": "5000"},
        {"name": "ens5", "vniType": "", "vniRange": ""},
        networkIds={"flannel": "flannel"},
    ),
    {
        "apiVersion": GROUP_VERSION,
        "kind": "TenantNetwork",
        "metadata": {"name": "static"},
        "spec": {"NetworkID": "flannel", "NetworkType": "flannel"},
    },
    {
        "apiVersion": GROUP_VERSION,
        "kind": "ClusterNetwork",
        "metadata": {"name": "default"},
        "spec": {"NetworkID": "x", "NetworkType": "flannel", "AllowedTenants": ["blue"]},
    },
]


@pytest.mark.parametrize("wanted", AS_DANM_HAS_THEM)
def test_what_danm_users_write_is_accepted_and_comes_back_unchanged(
    apiserver: ApiServer, wanted: dict[str, Any]
) -> None:
    stored = apiserver.apply(wanted)
    assert {key: stored[key] for key in wanted if key != "metadata"} == {
        key: value for key, value in wanted.items() if key != "metadata"
    }
    assert apiserver.apply(wanted)["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (network_manifest(vlan=4095), "spec.Options.vlan"),
        (network_manifest(vxlan=2**24), "spec.Options.vxlan"),
        (network_manifest(cidr=5), "spec.Options.cidr"),
        (network_manifest(more={"AllowedTenants": "blue"}), "spec.AllowedTenants"),
        (config_manifest({"name": "ens4", "vniType": "gre"}), "hostDevices.vniType"),
    ],
)
def test_what_no_rule_could_accept_is_refused_by_the_server_with_the_field(
    apiserver: ApiServer, wanted: dict[str, Any], field: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        apiserver.apply(wanted)
    assert caught.value.status == 422
    assert field in caught.value.message.replace("[0]", "")


def table(apiserver: ApiServer, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Normal and wide cells of the one object, by column, as ``kubectl get`` shows them."""
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    code, answer = apiserver.request("GET", path, accept=accept)
    assert (code, answer["kind"]) == (200, "Table")
    (row,) = answer["rows"]
    columns = answer["columnDefinitions"]
    cells = list(zip(columns, row["cells"], strict=True))
    normal = {column["name"]: cell for column, cell in cells if column["priority"] == 0}
    return normal, {column["name"]: cell for column, cell in cells if column["priority"]}


def test_a_list_of_networks_shows_what_came_of_them(apiserver: ApiServer) -> None:
    apiserver.apply(network_manifest(cidr="10.0.0.0/24", net6="2001:db8::/64", vlan=7))
    apiserver.patch_status(
        "ClusterNetwork",
        "net",
        {
            "device": "net.7",
            "segment": {"parent": "ens4", "kind": "vlan", "id": 7},
            "conditions": [
                {"type": "InUse", "status": "False", "reason": "Free"},
                {"type": "Ready", "status": "True", "reason": "Realised"},
            ],
        },
    )
    path = apiserver.path(GROUP_VERSION, "ClusterNetwork")
    normal, _ = table(apiserver, path)
    assert normal["Name"] == "net"
    assert normal["Type"] == "macvlan"
    assert normal["Device"] == "net.7"
    assert normal["ID"] == 7
    assert (normal["CIDR"], normal["Net6"]) == ("10.0.0.0/24", "2001:db8::/64")
    assert normal["Ready"] == "True"
    assert normal["Age"].endswith("s")


def test_lists_of_tenant_configs_and_endpoints_show_what_is_in_them(apiserver: ApiServer) -> None:
    apiserver.apply(
        config_manifest(
            {"name": "ens4", "vniType": "vlan", "vniRange": "7-9"},
            {"name": "ens5", "vniType": "vxlan", "vniRange": "70-90"},
            namespaces=["blue", "red"],
        )
    )
    apiserver.apply(manifest("DanmEp", EndpointManifest))
    normal, _ = table(apiserver, apiserver.path(GROUP_VERSION, "TenantConfig"))
    for shown in ("ens4", "vlan", "7-9", "ens5", "vxlan", "70-90"):
        assert shown in normal["Devices"], normal
    assert json.loads(normal["Namespaces"]) == ["blue", "red"]
    normal, wide = table(apiserver, apiserver.path(GROUP_VERSION, "DanmEp"))
    assert (normal["Pod"], normal["IPv4"], normal["Host"]) == ("text", "text", "text")
    assert wide["API"] == "ClusterNetwork"


def test_our_kinds_over_those_of_danm_are_whole_and_have_a_status(apiservers: ApiServers) -> None:
    """DANM's are v1beta1 without a schema, so that the server keeps unknown fields of them."""
    server = apiservers.make(crds=False)
    (ours,) = (crd for crd in render_crds() if crd["spec"]["names"]["kind"] == "ClusterNetwork")
    names = {"kind": "ClusterNetwork", "plural": "clusternetworks", "singular": "clusternetwork"}
    spec = {"group": "danm.k8s.io", "version": "v1", "scope": "Cluster", "names": names}
    kinds = "/apis/apiextensions.k8s.io/{}/customresourcedefinitions"
    theirs = {
        "apiVersion": "apiextensions.k8s.io/v1beta1",
        "kind": "CustomResourceDefinition",
        "metadata": ours["metadata"],
        "spec": spec,
    }
    if server.request("GET", kinds.format("v1beta1"))[0] == 404:
        pytest.skip("this server knows v1 alone, so DANM was never there")
    code, answer = server.request("POST", kinds.format("v1beta1"), theirs)
    assert code == 201, answer
    wait_until(lambda: server.serves("danm.k8s.io/v1", "ClusterNetwork"), seconds=20)
    server.apply(network_manifest())
    with pytest.raises(RefusedError) as caught:
        server.patch_status("ClusterNetwork", "net", {"device": "a"})
    assert caught.value.status == 404

    path = f"{kinds.format('v1')}/{ours['metadata']['name']}"
    force = f"{path}?fieldManager=kubectl&force=true"
    code, answer = server.request("PATCH", force, ours, content_type="application/apply-patch+yaml")
    assert code == 200, answer

    def is_whole() -> bool:
        stored = server.request("GET", path)[1]
        wrong = {each["type"]: each["status"] for each in stored["status"]["conditions"]}
        return (
            not stored["spec"].get("preserveUnknownFields")
            and wrong.get("NonStructuralSchema", "False") == "False"
        )

    wait_until(is_whole, seconds=20, what="the schema counts")
    server.patch_status("ClusterNetwork", "net", {"device": "a"})

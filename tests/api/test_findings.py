from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from danmpy.api.findings import Finding, field_path, shape_findings
from danmpy.api.networks import NetworkManifest
from danmpy.api.tenantconfigs import TenantConfigManifest


def found(manifest: dict[str, Any], model: Any = NetworkManifest) -> tuple[Finding, ...]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(manifest)
    return shape_findings(caught.value, model)


def options(**fields: Any) -> dict[str, Any]:
    return {"spec": {"Options": fields}}


def test_an_unknown_field_is_told_with_the_nearest_known_one_of_its_place() -> None:
    (one,) = found(options(vlna=5))
    assert (one.path, one.code, one.hint) == (
        "spec.Options.vlna",
        "FieldUnknown",
        "did you mean vlan?",
    )


def test_a_field_of_another_place_is_sent_there() -> None:
    (one,) = found({"spec": {"cidr": "10.0.0.0/24"}})
    assert one.hint == "it belongs at spec.Options.cidr"


def test_an_unknown_field_inside_a_list_is_found() -> None:
    (one,) = found({"hostDevices": [{"name": "a", "vniRang": "5"}]}, TenantConfigManifest)
    assert one.path == "hostDevices[0].vniRang"
    assert one.hint == "did you mean vniRange?"


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"vlan": "5"}, "spec.Options.vlan", "must be a whole number"),
        ({"vlan": 5.0}, "spec.Options.vlan", "must be a whole number"),
        ({"vlan": True}, "spec.Options.vlan", "must be a whole number"),
        ({"cidr": 5}, "spec.Options.cidr", "must be text"),
        ({"exclude": "10.0.0.1"}, "spec.Options.exclude", "must be a list"),
        ({"exclude": [5]}, "spec.Options.exclude[0]", "must be text"),
        ({"routes": []}, "spec.Options.routes", "must be an object"),
        ({"allocation_pool": "x"}, "spec.Options.allocation_pool", "must be an object"),
        ({"routes": {"10.0.0.0/8": 1}}, "spec.Options.routes.10.0.0.0/8", "must be text"),
    ],
)
def test_a_wrong_type_is_told_with_its_path(fields: dict[str, Any], path: str, words: str) -> None:
    (one,) = found(options(**fields))
    assert (one.path, one.code) == (path, "TypeWrong")
    assert one.message == f"{path} {words}"
    assert one.hint


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"vlan": 4095}, "write a number from 1 to 4094"),
        ({"vlan": -1}, "write a number from 1 to 4094"),
        ({"vxlan": 16_777_216}, "write a number from 1 to 16777215"),
        ({"mtu": 67}, "write a number from 68 to 65535"),
        ({"rt_tables": 2**31}, "write a number from 1 to 2147483647"),
    ],
)
def test_a_number_out_of_range_is_told_the_range(fields: dict[str, Any], hint: str) -> None:
    (one,) = found(options(**fields))
    assert (one.code, one.hint) == ("OutOfRange", hint)


def test_a_manifest_without_spec_is_told_so() -> None:
    (one,) = found({})
    assert (one.path, one.code, one.message) == ("spec", "FieldMissing", "spec is missing")


def test_several_problems_are_told_together() -> None:
    assert len(found(options(vlan="x", vxlan="y", a=1, b=2))) == 4


def test_a_path_shows_fields_and_indices() -> None:
    assert field_path(("spec", "Options", "exclude", 0)) == "spec.Options.exclude[0]"

"""Manifests named on the command line."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from danmpy.cli.given import check_all, read_given
from danmpy.errors import IntentError
from danmpy.intent.values import Problem
from support.console import ORPHANED, REFUSED, SHARED
from support.manifests import config_manifest, documents, network_manifest
from support.specs import cluster_key


def test_files_are_read_in_the_order_given_and_the_first_of_two_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "b.yaml", tmp_path / "a.yaml"
    first.write_text(SHARED)
    second.write_text(SHARED.replace("900", "910"))
    intent = read_given([str(first), str(second)])
    segment = intent.networks[cluster_key("shared")].segment
    assert segment is not None
    assert segment.id == 900
    assert len(intent.problems) == 1
    assert "a.yaml" in intent.problems[0].where


def test_a_folder_is_read_as_the_folder_source_reads_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yaml").write_text(SHARED)
    (tmp_path / ".hidden.yaml").write_text(ORPHANED)
    (tmp_path / "notes.txt").write_text(ORPHANED)
    intent = read_given([str(tmp_path)])
    assert set(intent.networks) == {cluster_key("shared")}
    assert intent.complete


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SHARED.encode())))
    assert set(read_given(["-"]).networks) == {cluster_key("shared")}


def test_a_broken_file_is_a_problem_and_the_others_count(tmp_path: Path) -> None:
    good, broken = tmp_path / "good.yaml", tmp_path / "broken.yaml"
    good.write_text(SHARED + REFUSED)
    broken.write_text("kind: [\n")
    intent = read_given([str(broken), str(good)])
    assert set(intent.networks) == {cluster_key("shared")}
    assert set(intent.rejected) == {cluster_key("refused")}
    assert not intent.complete
    assert intent.problems[0].where.startswith(f"{broken}:")


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(IntentError, match="No such file") as caught:
        read_given([str(tmp_path / "none.yaml")])
    assert caught.value.subject.endswith("none.yaml")


INTERNAL = network_manifest("TenantNetwork", "internal", "blue")
DEVICE = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-701"}


def told(*bodies: Any) -> tuple[Problem, ...]:
    return check_all(documents(*bodies))


def test_a_network_that_the_given_configs_have_no_device_for_is_told_as_admission_tells_it() -> (
    None
):
    elsewhere = network_manifest("TenantNetwork", "lost", "blue", host_device="ens9")
    (problem,) = told(config_manifest(DEVICE), INTERNAL, elsewhere)
    assert (problem.where, problem.code) == ("f.yaml:3", "DeviceNotAllowed")
    assert problem.message == "device ens9 is in no TenantConfig"
    assert problem.hint == "the TenantConfigs offer: ens4"
    assert told(INTERNAL, elsewhere) == (), "the TenantConfigs are elsewhere"
    (problem,) = told(config_manifest(DEVICE, namespaces=["red"]), INTERNAL)
    assert problem.code == "NoTenantConfig"


def test_a_range_that_is_too_small_for_all_of_them_is_no_problem_of_a_manifest() -> None:
    names = [network_manifest("TenantNetwork", name, "blue") for name in "abc"]
    assert told(config_manifest(DEVICE), *names) == ()


def test_networks_of_a_config_that_is_refused_say_that_it_is() -> None:
    broken = config_manifest(DEVICE | {"vniRange": "9-1"})
    found = told(broken, INTERNAL)
    assert [problem.code for problem in found] == ["RangeInvalid", "NoTenantConfig"]
    assert "TenantConfig/tenants is refused" in found[1].message

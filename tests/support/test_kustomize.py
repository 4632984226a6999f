"""The small kustomize of the tests: it agrees with the real one on everything in deploy/."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.kustomize import build, build_for_real, identity
from support.processes import REPOSITORY
from support.requirements import need

DEPLOY = REPOSITORY / "deploy"
COMPONENTS = sorted((DEPLOY / "components").iterdir())


def by_name(manifests: list[dict[str, Any]]) -> Mapping[object, dict[str, Any]]:
    return {identity(each): each for each in manifests}


@pytest.mark.parametrize("name", ["base", "overlays/cluster", "overlays/single-node", "uninstall"])
def test_it_builds_what_kustomize_builds(name: str) -> None:
    need("kustomize")
    folder = DEPLOY / name
    assert by_name(build(folder)) == by_name(build_for_real(folder))


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda path: path.name)
def test_components_do_what_they_do_in_kustomize(component: Path, tmp_path: Path) -> None:
    need("kustomize")
    cluster = DEPLOY / "overlays" / "cluster"
    relative = {each: os.path.relpath(each, tmp_path.resolve()) for each in (cluster, component)}
    overlay = write(
        tmp_path,
        "apiVersion: kustomize.config.k8s.io/v1beta1\n"
        "kind: Kustomization\n"
        f"resources: [{relative[cluster]}]\n"
        f"components: [{relative[component]}]\n",
    )
    assert by_name(build(cluster, components=[component])) == by_name(build_for_real(overlay))


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kustomization.yaml").write_text(text)
    return folder


THING = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '1', y: '2'}\n"


def test_it_refuses_what_it_does_not_understand(tmp_path: Path) -> None:
    folder = write(tmp_path, "resources: []\nnamePrefix: x-\n")
    with pytest.raises(AssertionError, match="namePrefix"):
        build(folder)


def test_it_refuses_a_patch_without_an_object(tmp_path: Path) -> None:
    folder = write(tmp_path, "resources: [a.yaml]\npatches: [{path: b.yaml}]\n")
    (folder / "a.yaml").write_text(THING)
    (folder / "b.yaml").write_text(THING.replace("name: a", "name: b"))
    with pytest.raises(AssertionError, match="fits 0 objects"):
        build(folder)


def test_it_refuses_files_outside_of_its_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "inner", "resources: [../a.yaml]\n")
    (tmp_path / "a.yaml").write_text(THING)
    with pytest.raises(AssertionError, match="outside"):
        build(folder)


def test_a_patch_merges_maps_and_takes_what_is_null(tmp_path: Path) -> None:
    folder = write(tmp_path, "resources: [a.yaml]\npatches: [{path: b.yaml}]\n")
    (folder / "a.yaml").write_text(THING)
    (folder / "b.yaml").write_text(THING.replace("x: '1', y: '2'", "x: null, z: '3'"))
    (manifest,) = build(folder)
    assert manifest["data"] == {"y": "2", "z": "3"}

"""As much of kustomize as deploy/ uses, for machines that have neither it nor kubectl.

A field that is not understood is an error, so nothing of deploy/ is passed over in silence.
`test_kustomize` holds this against the real one where there is one.
"""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

_KNOWN = frozenset({"apiVersion", "kind", "resources", "components", "patches", "images"})
_FILE_NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")

_MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "env": "name",
    "initContainers": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""Lists that are merged by this key of their elements; all others are replaced whole."""


def build(folder: Path, *, components: Sequence[Path] = ()) -> list[Manifest]:
    """The objects of the kustomization in `folder`, with further `components` put on top."""
    manifests = _built(folder, [])
    for component in components:
        manifests = _built(component, manifests)
    return manifests


def build_for_real(folder: Path) -> list[Manifest]:
    """The same by kubectl's kustomize."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def read_kustomization(folder: Path) -> dict[str, Any]:
    """The kustomization file of `folder`."""
    (path,) = (folder / name for name in _FILE_NAMES if (folder / name).exists())
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def identity(manifest: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """What makes a manifest the same object as another one."""
    metadata = manifest["metadata"]
    return (
        manifest["apiVersion"],
        manifest["kind"],
        metadata.get("namespace", ""),
        metadata["name"],
    )


def _built(folder: Path, under: list[Manifest]) -> list[Manifest]:
    """What the kustomization of `folder` makes of `under` and its own resources."""
    wanted = read_kustomization(folder)
    unknown = set(wanted) - _KNOWN
    assert not unknown, f"{folder}: this helper does not know {unknown}"
    manifests = [*under, *_resources(folder, wanted.get("resources", ()))]
    for component in wanted.get("components", ()):
        manifests = _built(folder / component, manifests)
    names = [identity(each) for each in manifests]
    assert len(set(names)) == len(names), f"{folder}: an object stands twice in {sorted(names)}"
    for patch in _patches(folder, wanted.get("patches", ())):
        manifests = _patched(manifests, patch)
    for image in wanted.get("images", ()):
        for container in _containers(manifests):
            _set_image(container, image)
    return manifests


def _resources(folder: Path, entries: Sequence[str]) -> Iterator[Manifest]:
    for entry in entries:
        path = folder / entry
        if path.is_dir():
            yield from _built(path, [])
        else:
            # kustomize opens files of its own folder and below only.
            assert path.resolve().is_relative_to(folder.resolve()), f"{folder}: {entry} is outside"
            yield from yaml.safe_load_all(path.read_text())


def _patches(folder: Path, entries: Sequence[Mapping[str, str]]) -> Iterator[Manifest]:
    for entry in entries:
        (key,) = entry
        assert key in {"patch", "path"}, f"{folder}: this helper does not know patches by {key}"
        text = entry["patch"] if key == "patch" else (folder / entry["path"]).read_text()
        # kustomize 5.5 crashes on a second document that deletes.
        (document,) = yaml.safe_load_all(text)
        yield document


def _patched(manifests: list[Manifest], patch: Manifest) -> list[Manifest]:
    places = [index for index, each in enumerate(manifests) if identity(each) == identity(patch)]
    assert len(places) == 1, f"a patch fits {len(places)} objects: {identity(patch)}"
    (place,) = places
    if patch.get("$patch") == "delete":
        return manifests[:place] + manifests[place + 1 :]
    result = [*manifests]
    result[place] = _merged(manifests[place], patch)
    return result


def _merged(value: Manifest, patch: Manifest) -> Manifest:
    """The strategic merge of the Kubernetes API."""
    result = copy.deepcopy(value)
    for key, wanted in patch.items():
        if wanted is None:
            result.pop(key, None)
        elif isinstance(wanted, dict) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], wanted)
        elif key in _MERGE_KEYS and isinstance(result.get(key), list):
            result[key] = _merged_list(result[key], wanted, _MERGE_KEYS[key])
        else:
            result[key] = copy.deepcopy(wanted)
    return result


def _merged_list(value: list[Manifest], patch: list[Manifest], key: str) -> list[Manifest]:
    wanted = {each[key]: each for each in patch}
    there = [each[key] for each in value]
    new = [copy.deepcopy(each) for name, each in wanted.items() if name not in there]
    kept = [
        _merged(each, wanted[each[key]]) if each[key] in wanted else each
        for each in value
        if wanted.get(each[key], {}).get("$patch") != "delete"
    ]
    return new + kept


def pod_spec(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The pod's spec in the template of a workload; None for other kinds."""
    if manifest["kind"] not in {"DaemonSet", "Deployment", "Job"}:
        return None
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return found


def _containers(manifests: Sequence[Manifest]) -> Iterator[Manifest]:
    for spec in filter(None, map(pod_spec, manifests)):
        yield from spec.get("initContainers", ())
        yield from spec["containers"]


def _set_image(container: Manifest, image: Mapping[str, str]) -> None:
    assert set(image) <= {"name", "newName", "newTag"}, f"this helper does not know {set(image)}"
    name, _, tag = container["image"].partition(":")
    if name == image["name"]:
        container["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"

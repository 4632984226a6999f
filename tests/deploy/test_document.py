"""docs/deployment.md: what it tells to write works, and its tables are those of the manifests."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

import danmpy
from danmpy import settings
from support.deploying import DEPLOY, container, documents, overlay, write_config
from support.kustomize import Manifest, build, identity
from support.processes import REPOSITORY, danmpy_argv

TEXT = (REPOSITORY / "docs" / "deployment.md").read_text()


def block(kind: str, words: str) -> str:
    """The only block of code of this language that contains `words`."""
    blocks = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)
    (found,) = (text for language, text in blocks if language == kind and words in text)
    return str(found)


def patched(text: str, tmp_path: Path) -> list[Manifest]:
    """The cluster overlay with a patch of the document on it."""
    folder = tmp_path / "component"
    folder.mkdir()
    (folder / "patch.yaml").write_text(text)
    (folder / "kustomization.yaml").write_text("patches: [{path: patch.yaml}]\n")
    return build(DEPLOY / "overlays" / "cluster", components=[folder])


def test_every_folder_that_kubectl_is_given_is_there() -> None:
    folders = set(re.findall(r"-k ([\w./-]+)", TEXT))
    assert {"crds", "deploy/overlays/cluster", "deploy/uninstall"} <= folders
    for folder in folders:
        assert build(REPOSITORY / folder)


def test_the_network_for_the_beginning_keeps_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "default.yaml"
    path.write_text(block("yaml", "kind: ClusterNetwork"))
    done = subprocess.run(
        danmpy_argv("check", "-f", str(path)), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_patch_for_a_certificate_of_others_gives_the_controller_its_folder(
    tmp_path: Path,
) -> None:
    manifests = patched(block("yaml", "CERT_DIR"), tmp_path)
    box = container(manifests, "controller")
    loaded = settings.load(box.environment(), write_config(manifests, tmp_path))
    assert loaded.webhook.cert_dir in box.mounts


def test_an_overlay_of_ones_own_names_parts_that_are_there() -> None:
    (wanted,) = documents(block("yaml", "components: ["))
    for path in (*wanted["resources"], *wanted["components"]):
        assert (REPOSITORY / path.removeprefix("danmpy/")).is_dir()
    assert wanted["images"][0]["newTag"] == danmpy.__version__


def test_the_table_of_components_is_complete() -> None:
    table = TEXT.partition("| component | for |")[2].partition("\n\n")[0]
    named = set(re.findall(r"^\| `([\w.-]+)` \|", table, re.MULTILINE))
    assert named == {path.name for path in (DEPLOY / "components").iterdir()}


def test_the_table_of_capabilities_is_that_of_the_manifest() -> None:
    table = TEXT.partition("| capability of `danmpy node` |")[2].partition("\n\n")[0]
    named = set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE))
    own = container(overlay("cluster"), "node").spec["securityContext"]
    assert named == set(own["capabilities"]["add"])


def test_the_table_of_mounts_is_that_of_the_manifest() -> None:
    table = TEXT.partition("| mounted from the host |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = {path for cell in cells for path in re.findall(r"`(/[\w./-]+)`", cell)}
    box = container(overlay("cluster"), "node")
    assert named == {*box.host_paths.keys(), *box.host_paths.values()}


@pytest.mark.parametrize("name", ["danmpy-controller", "danmpy-migrate"])
def test_the_table_of_network_policies_names_the_ports(name: str) -> None:
    (policy,) = (
        each
        for each in overlay("cluster")
        if identity(each)[1] == "NetworkPolicy" and each["metadata"]["name"] == name
    )
    (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", TEXT, re.MULTILINE)
    box = container(overlay("cluster"), name.removeprefix("danmpy-"))
    numbers = {each["name"]: each["containerPort"] for each in box.spec.get("ports", ())}
    text = json.dumps(policy["spec"])
    ports = {numbers.get(port, port) for port in re.findall(r'"port": "?(\w+)', text)}
    for port in ports - {"53"}:
        assert str(port) in row


def test_links_lead_somewhere() -> None:
    def anchors(text: str) -> set[str]:
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}

    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, anchor = target.partition("#")
        text = (REPOSITORY / "docs" / path).read_text() if path else TEXT
        assert not anchor or anchor in anchors(text), target

"""`danmpy convert multus`: a configuration file on standard output, and the delegates' files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from danmpy.settings import load
from support.console import World

FLANNEL = {"cniVersion": "0.3.1", "name": "cbr0", "plugins": [{"type": "flannel"}]}


def given(world: World, name: str = "00-multus.conf", **keys: Any) -> str:
    """A configuration of Multus with these keys."""
    path = world.folder / name
    path.write_text(json.dumps({"type": "multus", **keys}))
    return str(path)


def converted(world: World, *words: str, code: int = 0) -> str:
    answer = world.danmpy("convert", "multus", *words)
    assert answer.code == code, answer.err
    return answer.out


def test_what_is_printed_is_a_configuration_that_danmpy_loads(paper: World) -> None:
    text = converted(
        paper,
        given(
            paper,
            delegates=[FLANNEL],
            readinessindicatorfile="/run/ready",
            globalNamespaces="default,infra",
        ),
    )
    path = paper.folder / "made.yaml"
    path.write_text(text)
    settings = load({}, path)
    assert settings.npwg.default_network == "cbr0"
    assert settings.npwg.global_namespaces == ("default", "infra")
    assert settings.cni.readiness_file == Path("/run/ready")
    assert settings.cni.multus_cache == Path("/var/lib/cni/multus")


def test_every_key_and_every_step_is_a_comment(paper: World) -> None:
    file = given(paper, delegates=[FLANNEL], logLevel="debug", strange="x\x1b[31m")
    lines = converted(paper, file, code=1).splitlines()
    assert lines[0] == f"# Made by danmpy convert multus from {file}."
    comments = [line for line in lines if line.startswith("#")]
    assert "# - logLevel (not needed): danmpy logs to standard error" in "\n".join(comments)
    assert any(line.startswith("# - strange (unknown)") for line in comments)
    assert "# 1. write /etc/cni/multus/net.d/cbr0.conflist" in "\n".join(comments)
    settings = yaml.safe_load("\n".join(line for line in lines if line not in comments))
    assert set(settings) == {"intent", "cni", "npwg"}


def test_a_key_cannot_break_out_of_its_comment(paper: World) -> None:
    file = given(paper, delegates=[FLANNEL], **{"x\nstate_dir: /evil": 1})
    path = paper.folder / "made.yaml"
    path.write_text(converted(paper, file, code=1))
    assert load({}, path).state_dir == Path("/var/lib/danmpy")


def test_json_carries_settings_keys_files_and_steps(paper: World) -> None:
    file = given(paper, delegates=[FLANNEL])
    document = json.loads(converted(paper, file, "-o", "json"))
    assert set(document) == {"settings", "keys", "files", "steps"}
    assert document["settings"]["npwg"]["default_network"] == "cbr0"
    assert document["files"] == [{"name": "cbr0", "document": FLANNEL}]
    assert {"key": "type", "verdict": "not needed"}.items() <= document["keys"][0].items()


def test_delegates_are_written_whole_and_only_once(paper: World) -> None:
    folder = paper.folder / "made"
    words = (given(paper, delegates=[FLANNEL]), "--write-dir", str(folder))
    settings = yaml.safe_load(converted(paper, *words))
    assert settings["cni"]["conf_dir"] == str(folder)
    (file,) = folder.iterdir()
    assert (file.name, json.loads(file.read_text())) == ("cbr0.conflist", FLANNEL)
    before = file.stat()
    answer = paper.danmpy("convert", "multus", *words)
    assert "is in place already" in answer.err
    assert file.stat() == before


def test_another_file_of_that_name_is_left_alone(paper: World) -> None:
    (paper.folder / "cbr0.conflist").write_text("{}")
    file = given(paper, delegates=[FLANNEL])
    answer = paper.danmpy("convert", "multus", file, "--write-dir", str(paper.folder))
    assert answer.code == 2
    assert "left alone" in answer.err
    assert answer.out == ""
    assert (paper.folder / "cbr0.conflist").read_text() == "{}"


def test_a_folder_that_cannot_be_made_is_told(paper: World) -> None:
    (paper.folder / "file").write_text("")
    file = given(paper, delegates=[FLANNEL])
    answer = paper.danmpy(
        "convert", "multus", file, "--write-dir", str(paper.folder / "file" / "x")
    )
    assert answer.code == 3
    assert answer.out == ""


def test_files_that_are_referred_to_are_read_where_they_are(paper: World) -> None:
    confs = paper.folder / "confs"
    confs.mkdir()
    (confs / "10-flannel.conflist").write_text(json.dumps(FLANNEL))
    (confs / "05-broken.conf").write_text("{")
    file = given(paper, clusterNetwork=str(confs / "10-flannel.conflist"), confDir=str(confs))
    assert yaml.safe_load(converted(paper, file))["npwg"]["default_network"] == "cbr0"
    folder = given(paper, clusterNetwork=str(confs), confDir="/nowhere")
    assert yaml.safe_load(converted(paper, folder))["npwg"]["default_network"] == "cbr0"
    elsewhere = given(paper, clusterNetwork="/host/etc/cni/net.d/10-flannel.conflist")
    text = converted(paper, elsewhere, "--conf-dir", str(confs))
    assert yaml.safe_load(text)["npwg"]["default_network"] == "cbr0"
    answer = paper.danmpy("convert", "multus", elsewhere, "--conf-dir", str(confs))
    assert "05-broken.conf" in answer.err


def test_a_daemon_s_configuration_is_understood(paper: World) -> None:
    path = paper.folder / "daemon-config.json"
    path.write_text(json.dumps({"chrootDir": "/hostroot", "clusterNetwork": "net"}))
    settings = yaml.safe_load(converted(paper, str(path)))
    assert settings["intent"]["source"] == "kubernetes"
    assert settings["npwg"]["default_network"] == "kube-system/net"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no UTF-8"),
        (b"[]", "no JSON object"),
        (b'{"type": "bridge"}', "no configuration of Multus"),
        (b'{"type": "multus", "type": "multus"}', "stands twice"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_none_of_multus_s_ends_with_two_and_one_line(
    paper: World, content: bytes | None, words: str
) -> None:
    path = paper.folder / "x.conf"
    if content is not None:
        path.write_bytes(content)
    answer = paper.danmpy("convert", "multus", str(path))
    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.lines
    assert words in line
    assert str(path) in line


def test_a_folder_of_configurations_that_is_not_there_is_an_error(paper: World) -> None:
    file = given(paper, delegates=[FLANNEL])
    answer = paper.danmpy("convert", "multus", file, "--conf-dir", str(paper.folder / "none"))
    assert answer.code == 2
    assert "no such folder" in answer.err

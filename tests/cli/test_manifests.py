from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from support.console import INTERNAL, SHARED, TENANTS, World, run_command

REFUSED = """\
---
apiVersion: danm.k8s.io/v1
kind: ClusterNetwork
metadata: {name: refused}
spec:
  NetworkID: refused
  Options: {host_device: ens4, vxlan: 99999999}
"""

POD = """\
---
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  namespace: blue
  annotations:
    danm.k8s.io/interfaces: '[{"tenantNetwork": "internal", "ip": "dynamic"}]'
"""


def test_good_manifests_end_with_their_number(paper: World) -> None:
    path = paper.write("a.yaml", TENANTS, INTERNAL, SHARED, POD)
    answer = paper.danmpy("check", "-f", str(path))
    assert (answer.code, answer.out, answer.err) == (0, "4 objects, no problem\n", "")


def test_one_object_is_no_objects(paper: World) -> None:
    answer = paper.danmpy("check", "-f", str(paper.write("a.yaml", TENANTS)))
    assert answer.out == "1 object, no problem\n"


def test_a_problem_is_one_line_with_place_object_way_out_and_code(paper: World) -> None:
    path = paper.write("a.yaml", TENANTS, REFUSED)
    answer = paper.danmpy("check", "-f", str(path))
    assert answer.code == 2
    assert answer.out == (
        f"{path}:7: ClusterNetwork/refused: spec.Options.vxlan is 99999999"
        " (write a number from 1 to 16777215) [OutOfRange]\n"
    )


def test_a_folder_is_judged_as_the_node_would_read_it(paper: World) -> None:
    paper.write("b.yaml", INTERNAL)
    paper.write("a.yaml", TENANTS)
    paper.write("c.json", '{"kind": "Nothing"}')
    paper.write(".hidden.yaml", "[")
    paper.write("notes.txt", "[")
    answer = paper.danmpy("check", "-f", str(paper.intent))
    assert answer.code == 2
    assert answer.out.startswith(f"{paper.intent}/c.json:1: Nothing: ")
    assert answer.out.count("\n") == 1


def test_files_are_judged_together(paper: World) -> None:
    one, other = (
        paper.write("a.yaml", INTERNAL),
        paper.write("b.yaml", POD.replace("internal", "x")),
    )
    answer = paper.danmpy("check", "-f", str(one), "-f", str(other))
    assert answer.code == 2
    assert "NetworkUnknown" in answer.out
    assert paper.danmpy("check", "-f", str(one), str(other)).out == answer.out


def test_standard_input_is_a_file_too(paper: World) -> None:
    answer = paper.danmpy("check", "-f", "-", stdin=INTERNAL + POD)
    assert (answer.code, answer.out) == (0, "2 objects, no problem\n")
    broken = paper.danmpy("check", "-f", "-", stdin="a: [")
    assert broken.code == 2
    assert broken.out.startswith("-:")


def test_a_broken_file_does_not_hide_the_problems_of_others(paper: World) -> None:
    paper.write("a.yaml", "a: [\n")
    paper.write("b.yaml", REFUSED)
    answer = paper.danmpy("check", "-f", str(paper.intent))
    assert answer.code == 2
    assert ["YamlInvalid" in answer.out, "OutOfRange" in answer.out] == [True, True]


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_scripts_get_problems_as_json(paper: World, form: str) -> None:
    path = paper.write("a.yaml", REFUSED)
    answer = paper.danmpy("check", "-f", str(path), "-o", form)
    assert answer.code == 2
    data = json.loads(answer.out)
    item = data["items"][0] if form == "json" else data
    assert (item["code"], item["subject"]) == ("OutOfRange", "ClusterNetwork/refused")
    assert set(item) == {"where", "subject", "code", "message", "hint"}


def test_scripts_get_an_empty_list_when_all_is_well(paper: World) -> None:
    path = paper.write("a.yaml", TENANTS)
    answer = paper.danmpy("check", "-f", str(path), "-o", "json")
    assert (answer.code, answer.data) == (0, {"items": [], "objects": 1})


@pytest.mark.parametrize("words", [["-f", "/nowhere/x.yaml"], [], ["-f", "/dev/null", "-o", "csv"]])
def test_a_bad_request_is_told_on_standard_error(paper: World, words: list[str]) -> None:
    answer = paper.danmpy("check", *words)
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.lines) == 1


def test_a_configuration_that_is_not_there_stops_no_check(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(TENANTS)
    assert run_command(["check", "--config", "/nowhere", "-f", str(path)]).code == 0


def test_the_kinds_are_printed_as_one_stream() -> None:
    answer = run_command(["crds"])
    assert answer.code == 0
    kinds = [crd["spec"]["names"]["kind"] for crd in yaml.safe_load_all(answer.out)]
    assert kinds == ["TenantNetwork", "ClusterNetwork", "DanmNet", "TenantConfig", "DanmEp"]


def test_the_kinds_are_written_as_files(tmp_path: Path) -> None:
    answer = run_command(["crds", "--dir", str(tmp_path)])
    assert answer.code == 0
    written = sorted(str(path) for path in tmp_path.iterdir())
    assert sorted(answer.out.split()) == written
    assert len(written) == 5


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    answer = run_command(["crds", "--dir", str(tmp_path / "none")])
    assert (answer.code, answer.out) == (3, "")
    assert "name a folder that exists" in answer.err

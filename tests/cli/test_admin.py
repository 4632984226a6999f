"""The commands that run and prepare."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from danmpy.cli.main import app


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose folders are all the test's own."""
    path = tmp_path / "config.yaml"
    settings = {
        "state_dir": str(tmp_path / "state"),
        "socket": str(tmp_path / "cni.sock"),
        "intent": {"path": str(tmp_path / "intent")},
        "cni": {"bin_dirs": [str(tmp_path / "bin")], "conf_dir": str(tmp_path / "net.d")},
    }
    path.write_text(json.dumps(settings))
    return path


def danmpy(config: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--config", str(config)], prog_name="danmpy")


def test_install_cni_goes_by_the_settings_and_tells_each_file(config: Path, tmp_path: Path) -> None:
    plugin, conflist = tmp_path / "bin" / "danmpy-cni", tmp_path / "net.d" / "00-danmpy.conflist"
    first = danmpy(config, "install-cni")
    assert (first.exit_code, first.stderr) == (0, "")
    *files, about = first.stdout.splitlines()
    assert files == [f"installed {plugin}", f"installed {conflist}"]
    assert about.startswith(("danmpy-cni is the native program", "danmpy-cni is the Python script"))
    (entry,) = json.loads(conflist.read_text())["plugins"]
    assert entry["type"] == "danmpy-cni"
    assert entry["socket"] == str(tmp_path / "cni.sock")
    declared = ("aliases", "bandwidth", "dns", "portMappings")
    assert entry["capabilities"] == dict.fromkeys(declared, True)
    again = danmpy(config, "install-cni")
    assert again.exit_code == 0
    assert again.stdout.splitlines() == [
        f"{plugin} is in place already",
        f"{conflist} is in place already",
        about,
    ]


def test_install_cni_takes_folders_and_remove_takes_away_what_it_put_there(
    config: Path, tmp_path: Path
) -> None:
    where = ["--bin-dir", str(tmp_path / "b"), "--conf-dir", str(tmp_path / "c")]
    assert danmpy(config, "install-cni", *where).exit_code == 0
    assert sorted(p.name for d in "bc" for p in (tmp_path / d).iterdir()) == [
        "00-danmpy.conflist",
        "danmpy-cni",
    ]
    gone = danmpy(config, "install-cni", "--remove", *where)
    assert gone.exit_code == 0
    assert [line.split()[0] for line in gone.stdout.splitlines()] == ["removed", "removed"]
    assert not [p for d in "bc" for p in (tmp_path / d).iterdir()]
    again = danmpy(config, "install-cni", "--remove", *where)
    assert all(line.endswith("is not there") for line in again.stdout.splitlines())
    assert again.exit_code == 0


def test_install_cni_takes_the_script_when_it_is_asked_for(config: Path, tmp_path: Path) -> None:
    done = danmpy(config, "install-cni", "--shim", "python")
    assert done.exit_code == 0
    assert "danmpy-cni is the Python script for" in done.stdout
    assert (tmp_path / "bin" / "danmpy-cni").read_bytes().startswith(b"#!")
    assert danmpy(config, "install-cni", "--shim", "perl").exit_code == 2


def test_install_cni_leaves_a_stranger_s_plugin_and_exits_with_2(
    config: Path, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "danmpy-cni").write_text("#!/bin/sh\n")
    done = danmpy(config, "install-cni")
    assert done.exit_code == 2
    assert "left alone" in done.stderr
    assert done.stdout == ""


def test_the_schema_is_made_once_and_its_state_is_told(config: Path, tmp_path: Path) -> None:
    before = danmpy(config, "db", "current")
    assert before.exit_code == 3
    assert "danmpy db upgrade" in before.stderr
    assert not (tmp_path / "state").exists()
    made = danmpy(config, "db", "upgrade")
    assert made.exit_code == 0
    assert "empty -> " in made.stdout
    assert (tmp_path / "state" / "danmpy.db").exists()
    again = danmpy(config, "db", "upgrade")
    assert "already at" in again.stdout
    current = danmpy(config, "db", "current")
    assert current.exit_code == 0
    assert "up to date" in current.stdout


def test_the_state_of_another_schema_is_told_with_the_way_out(config: Path, tmp_path: Path) -> None:
    danmpy(config, "db", "upgrade")
    path = tmp_path / "state" / "danmpy.db"
    for found, shown, way_out in (
        ("9999", "9999", "use the release that made it, or a later one"),
        ("", "empty", "run danmpy db upgrade"),
    ):
        connection = sqlite3.connect(path)
        connection.execute("DELETE FROM alembic_version")
        if found:
            connection.execute("INSERT INTO alembic_version VALUES (?)", [found])
        connection.commit()
        connection.close()
        current = danmpy(config, "db", "current")
        assert current.exit_code == 1
        assert f"danmpy.db: {shown}, this release needs" in current.stdout
        assert way_out in current.stdout


def test_the_cluster_daemon_needs_a_cluster(config: Path) -> None:
    done = danmpy(config, "controller")
    assert done.exit_code == 2
    assert "set intent.source to kubernetes" in done.stderr


def test_the_roles_are_printed_as_sql(config: Path) -> None:
    answer = danmpy(config, "db", "roles")
    assert answer.exit_code == 0
    assert "CREATE ROLE danmpy_node NOLOGIN" in answer.output
    assert answer.output.rstrip().endswith("COMMIT;")

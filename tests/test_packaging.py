"""What `pip install` brings: the commands, the migrations, the shim, and nothing of the tests."""

from __future__ import annotations

import configparser
import email
import os
import sqlite3
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import danmpy
from support.requirements import need

REPOSITORY = Path(__file__).resolve().parents[1]


def build(kind: str, folder: Path, source: Path = REPOSITORY, **environ: str) -> Path:
    """Build a wheel or sdist with the backend of pyproject.toml, as pip does, without a network."""
    code = f"import hatchling.build as b; b.build_{kind}({str(folder)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_installed(unpacked: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the package of the wheel, not the one of this checkout."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=unpacked,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_wheel_holds_the_package_and_the_migrations_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    roots = {name.partition("/")[0] for name in names}
    assert roots == {"danmpy", f"danmpy-{danmpy.__version__}.dist-info"}
    assert "danmpy/py.typed" in names
    assert "danmpy/migrations/env.py" in names
    of_checkout = {path.name for path in (REPOSITORY / "migrations" / "versions").glob("*.py")}
    of_wheel = {name.rpartition("/")[2] for name in names if "/migrations/versions/" in name}
    assert of_wheel == of_checkout


def test_the_wheel_brings_the_two_commands_and_says_who_it_is(unpacked: Path) -> None:
    (info,) = unpacked.glob("*.dist-info")
    scripts = configparser.ConfigParser()
    scripts.read(info / "entry_points.txt")
    assert set(scripts["console_scripts"]) == {"danmpy", "danmpy-cni"}
    metadata = email.message_from_string((info / "METADATA").read_text())
    assert metadata["Name"] == "danmpy"
    assert metadata["Version"] == danmpy.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert (info / "licenses" / "LICENSE").exists()


def test_an_installed_wheel_upgrades_a_database_with_its_own_migrations(
    unpacked: Path, tmp_path: Path
) -> None:
    database = tmp_path / "danmpy.db"
    code = (
        "import danmpy; from danmpy.db import migrate; print(danmpy.__file__); "
        f"print(migrate.scripts_folder()); migrate.upgrade('sqlite:///{database}')"
    )
    done = run_installed(unpacked, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        str(unpacked / "danmpy" / "__init__.py"),
        str(unpacked / "danmpy" / "migrations"),
    ]
    connection = sqlite3.connect(database)
    try:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    finally:
        connection.close()
    assert "lease" in tables


def test_an_installed_wheel_puts_a_working_shim_in_place(unpacked: Path, tmp_path: Path) -> None:
    folders = ("--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(tmp_path / "net.d"))
    done = run_installed(unpacked, "-m", "danmpy.cli.main", "install-cni", *folders)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = subprocess.run(
        [tmp_path / "bin" / "danmpy-cni"],
        env={"CNI_COMMAND": "VERSION"},
        input='{"cniVersion": "1.0.0"}',
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert '"1.1.0"' in answer.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    made = build("sdist", folder)
    subprocess.run(["tar", "--extract", "--file", made], cwd=folder, check=True)
    return folder / f"danmpy-{danmpy.__version__}"


NATIVE = "danmpy/cni/native/danmpy-cni"


def test_a_wheel_built_with_a_compiler_holds_the_native_shim_and_is_for_its_platform(
    source: Path, tmp_path: Path
) -> None:
    need("cc")
    made = build("wheel", tmp_path, source)
    tag = "py3-none-" + sysconfig.get_platform().replace("-", "_")
    assert made.name == f"danmpy-{danmpy.__version__}-{tag}.whl"
    with zipfile.ZipFile(made) as archive:
        assert archive.getinfo(NATIVE).external_attr >> 16 & 0o111
        (about,) = (name for name in archive.namelist() if name.endswith("/WHEEL"))
        assert f"Tag: {tag}" in archive.read(about).decode()
        assert "Root-Is-Purelib: false" in archive.read(about).decode()


def test_a_wheel_built_without_a_compiler_is_pure_python_and_installs_the_script(
    source: Path, tmp_path: Path
) -> None:
    (source / NATIVE).write_text("of an earlier build")
    made = build("wheel", tmp_path / "wheel", source, CC="no-such-compiler")
    assert made.name == f"danmpy-{danmpy.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(made) as archive:
        assert NATIVE not in archive.namelist()
        archive.extractall(tmp_path / "site")
    folders = ("--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(tmp_path / "net.d"))
    done = run_installed(tmp_path / "site", "-m", "danmpy.cli.main", "install-cni", *folders)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as this package was built without the native program" in done.stdout
    assert (tmp_path / "bin" / "danmpy-cni").read_bytes().startswith(b"#!")


def test_the_source_distribution_is_a_whole_checkout(tmp_path: Path) -> None:
    made = build("sdist", tmp_path)
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in (
        ".ci/run",
        "Makefile",
        "README.md",
        "LICENSE",
        "danmpy/__init__.py",
        "danmpy/cni/native/danmpy-cni.c",
        "deploy/demo/run.py",
        "hatch_build.py",
        "migrations/env.py",
        "tests/conftest.py",
        "tests/support/uml_init.sh",
        "tests/support/uml_ptrace.c",
    ):
        assert needed in names
    assert "danmpy/cni/native/danmpy-cni" not in names
    assert not any("__pycache__" in name or name.startswith(".venv") for name in names)

"""Putting the shim and the configuration list in place."""

from __future__ import annotations

import ast
import json
import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from danmpy.api.cni import SUPPORTED_VERSIONS
from danmpy.api.nad_configs import OWN_TYPES
from danmpy.cni import shim
from danmpy.cni.install import (
    CAPABILITIES,
    CONFLIST_NAME,
    DEFAULT_SOCKET,
    PLUGIN_NAME,
    find_interpreter,
    install,
    remove,
    render_conflist,
    render_plugin,
)
from danmpy.cni.kinds import ShimKind
from danmpy.errors import ConflictError, HostError
from support.shims import make_shim


@pytest.fixture
def dirs(tmp_path: Path) -> tuple[Path, Path]:
    """Two directories that do not exist yet."""
    return tmp_path / "opt" / "bin", tmp_path / "etc" / "net.d"


def test_plugin_and_configuration_appear_with_their_modes_in_directories_made_for_them(
    dirs: tuple[Path, Path],
) -> None:
    bin_dir, conf_dir = dirs
    report = install(bin_dir, conf_dir)
    plugin, conflist = bin_dir / PLUGIN_NAME, conf_dir / CONFLIST_NAME
    assert report.changed == (plugin, conflist)
    assert stat.S_IMODE(plugin.stat().st_mode) == 0o755
    assert stat.S_IMODE(conflist.stat().st_mode) == 0o644
    done = subprocess.run([plugin], capture_output=True, env={"CNI_COMMAND": "VERSION"}, input=b"")
    assert json.loads(done.stdout)["supportedVersions"] == list(SUPPORTED_VERSIONS)


def test_a_second_time_changes_nothing_and_says_so(dirs: tuple[Path, Path]) -> None:
    install(*dirs)

    def written() -> list[tuple[int, int]]:
        facts = [path.stat() for folder in dirs for path in folder.iterdir()]
        return [(each.st_ino, each.st_mtime_ns) for each in facts]

    before = written()
    report = install(*dirs)
    assert report.changed == ()
    assert len(report.unchanged) == 2
    assert written() == before


def test_what_was_altered_is_put_right(dirs: tuple[Path, Path]) -> None:
    install(*dirs)
    plugin, conflist = dirs[0] / PLUGIN_NAME, dirs[1] / CONFLIST_NAME
    plugin.chmod(0o600)
    conflist.write_text("{}")
    assert set(install(*dirs).changed) == {plugin, conflist}
    assert os.access(plugin, os.X_OK)
    assert json.loads(conflist.read_text())["name"] == "danmpy"


def test_the_configuration_list_is_one_that_runtimes_old_and_new_load() -> None:
    document = json.loads(render_conflist(DEFAULT_SOCKET))
    assert document == {
        "cniVersion": "1.0.0",
        "cniVersions": list(SUPPORTED_VERSIONS),
        "name": "danmpy",
        "plugins": [{"type": PLUGIN_NAME, "capabilities": dict.fromkeys(CAPABILITIES, True)}],
    }
    assert PLUGIN_NAME in OWN_TYPES
    assert sorted(["10-other.conf", "00-aaa.conf", CONFLIST_NAME])[1] == CONFLIST_NAME


def test_a_socket_of_one_s_own_stands_in_the_configuration(dirs: tuple[Path, Path]) -> None:
    install(*dirs, "/run/other.sock")
    (plugin,) = json.loads((dirs[1] / CONFLIST_NAME).read_text())["plugins"]
    assert plugin["socket"] == "/run/other.sock"
    assert shim.socket_path({}, (dirs[1] / CONFLIST_NAME).read_bytes()) == shim.DEFAULT_SOCKET
    assert shim.socket_path({}, json.dumps(plugin).encode()) == b"/run/other.sock"


def test_removal_takes_both_and_leaves_strangers_and_directories(dirs: tuple[Path, Path]) -> None:
    install(*dirs)
    strangers = [dirs[0] / "bridge", dirs[1] / "10-bridge.conflist"]
    for stranger in strangers:
        stranger.write_text("theirs")
    report = remove(*dirs)
    assert report.changed == (dirs[1] / CONFLIST_NAME, dirs[0] / PLUGIN_NAME)
    assert sorted(path for folder in dirs for path in folder.iterdir()) == sorted(strangers)
    assert remove(*dirs).changed == ()


def test_a_plugin_that_is_not_ours_is_neither_replaced_nor_removed(
    dirs: tuple[Path, Path],
) -> None:
    dirs[0].mkdir(parents=True)
    plugin = dirs[0] / PLUGIN_NAME
    plugin.write_text("#!/bin/sh\necho theirs\n")
    for act in (install, remove):
        with pytest.raises(ConflictError, match="left alone"):
            act(*dirs)
    assert plugin.read_text() == "#!/bin/sh\necho theirs\n"
    assert not dirs[1].exists()


def test_a_link_is_replaced_by_a_file_and_its_target_stays(
    dirs: tuple[Path, Path], tmp_path: Path
) -> None:
    install(*dirs)
    target = tmp_path / "target"
    target.write_bytes((dirs[1] / CONFLIST_NAME).read_bytes())
    (dirs[1] / CONFLIST_NAME).unlink()
    (dirs[1] / CONFLIST_NAME).symlink_to(target)
    assert install(*dirs).changed == (dirs[1] / CONFLIST_NAME,)
    assert not (dirs[1] / CONFLIST_NAME).is_symlink()
    assert target.exists()


def test_who_reads_meanwhile_never_sees_half_a_file_nor_a_temporary_one(
    dirs: tuple[Path, Path],
) -> None:
    install(*dirs)
    conflist = dirs[1] / CONFLIST_NAME
    stop = threading.Event()
    wrong: list[object] = []

    def watch() -> None:
        while not stop.is_set():
            loaded = [p.name for p in dirs[1].iterdir() if p.suffix in {".conf", ".conflist"}]
            if loaded != [CONFLIST_NAME] or not json.loads(conflist.read_text())["plugins"]:
                wrong.append(loaded)

    reader = threading.Thread(target=watch)
    reader.start()
    for number in range(20):
        install(*dirs, f"/run/{number}.sock")
    stop.set()
    reader.join()
    assert wrong == []


@pytest.mark.parametrize("broken", [0, 1])
def test_a_file_where_a_directory_should_be_is_named_and_nothing_half_written_is_left(
    dirs: tuple[Path, Path], broken: int
) -> None:
    dirs[broken].parent.mkdir(parents=True)
    dirs[broken].touch()
    with pytest.raises(HostError) as caught:
        install(*dirs)
    assert str(dirs[broken]) in str(caught.value)
    assert "choose another directory" in caught.value.hint
    assert not list(dirs[0].parent.rglob(".*"))


@pytest.mark.parametrize("path", ["/usr/my python/bin/python3", "/opt/" + "p" * 130])
def test_an_interpreter_that_the_kernel_cannot_start_from_a_script_is_refused(path: str) -> None:
    with pytest.raises(HostError, match="first line"):
        render_plugin(Path(path))


@pytest.fixture
def native(tmp_path: Path) -> Path:
    """The native program as a build of the package leaves it."""
    return make_shim("native", tmp_path / "package")


def test_the_native_program_is_preferred_and_either_can_be_asked_for(
    dirs: tuple[Path, Path], native: Path
) -> None:
    plugin = dirs[0] / PLUGIN_NAME
    for kind, content, word in (
        (ShimKind.AUTO, native.read_bytes(), "native"),
        (ShimKind.PYTHON, render_plugin(find_interpreter()), "script"),
        (ShimKind.NATIVE, native.read_bytes(), "native"),
    ):
        report = install(*dirs, kind=kind, native=native)
        assert plugin in report.changed
        assert word in report.about
        assert plugin.read_bytes() == content
        assert stat.S_IMODE(plugin.stat().st_mode) == 0o755
        done = subprocess.run([plugin], capture_output=True, env={"CNI_COMMAND": "VERSION"})
        assert json.loads(done.stdout)["supportedVersions"] == list(SUPPORTED_VERSIONS)
        assert install(*dirs, kind=kind, native=native).changed == ()
        assert [path.name for path in dirs[0].iterdir()] == [PLUGIN_NAME]
    assert plugin in remove(*dirs).changed


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "built without"),
        (b"\x7fELF of another machine", "Exec format error"),
        (b"#!/bin/sh\nexit 3\n", "exit status 3"),
        (b"#!/bin/sh\necho '{}'\n", "does not work here"),
        (b"#!/bin/sh\necho '[]'\n", "does not work here"),
        (b"#!/bin/sh\nkill -9 $$\n", "exit status -9"),
        (b"#!/bin/sh\necho no JSON\n", "does not run here"),
    ],
    ids=str,
)
def test_a_native_program_that_does_not_run_here_is_not_installed_and_the_reason_is_told(
    dirs: tuple[Path, Path], tmp_path: Path, content: bytes | None, why: str
) -> None:
    program = tmp_path / "program"
    if content is not None:
        program.write_bytes(content)
        program.chmod(0o755)
    report = install(*dirs, native=program)
    assert why in report.about
    assert (dirs[0] / PLUGIN_NAME).read_bytes() == render_plugin(find_interpreter())
    remove(*dirs)
    with pytest.raises(HostError, match=why) as caught:
        install(*dirs, kind=ShimKind.NATIVE, native=program)
    assert "--shim python" in caught.value.hint
    assert not any(path.exists() for folder in dirs for path in folder.iterdir())


def test_a_native_program_without_leave_to_run_is_not_installed(
    dirs: tuple[Path, Path], native: Path
) -> None:
    native.chmod(0o644)
    assert "Permission denied" in install(*dirs, native=native).about


def test_the_first_line_isolates_the_interpreter_and_the_rest_is_the_shim() -> None:
    first, _, rest = render_plugin(find_interpreter()).partition(b"\n")
    assert first == f"#!{find_interpreter()} -IS".encode()
    assert len(first) <= 127
    assert rest == Path(shim.__file__).read_bytes().partition(b"\n")[2]


def test_the_shim_is_understood_by_the_oldest_python_that_it_promises() -> None:
    ast.parse(Path(shim.__file__).read_text(), feature_version=(3, 6))

"""Puts a shim and its network configuration list in place, and takes them away.

There are two shims that do the same: a native program, which starts fast and also where there is
no Python, and the Python script, for packages that were built without a C compiler.

Runtimes watch the configuration directory and load what they see, so every file appears whole:
written beside its place, synced, then renamed. The plugin comes before the configuration that
names it, and goes after it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from danmpy.api.cni import SUPPORTED_VERSIONS
from danmpy.cni import shim
from danmpy.cni.kinds import ShimKind
from danmpy.errors import ConflictError, HostError

PLUGIN_NAME: Final = "danmpy-cni"
DEFAULT_SOCKET: Final = shim.DEFAULT_SOCKET.decode()
CONFLIST_NAME: Final = "00-danmpy.conflist"
"""First by name: containerd and CRI-O take the first configuration that they find."""

NETWORK_NAME: Final = "danmpy"
SYSTEM_PYTHON: Final = Path("/usr/bin/python3")
NATIVE_PROGRAM: Final = Path(__file__).parent / "native" / PLUGIN_NAME
"""Made by the build of the package, where it can."""

CAPABILITIES: Final = ("aliases", "bandwidth", "dns", "portMappings")
"""What runtimes offer on behalf of a pod (CNI conventions: dynamic plugin capabilities), and pass
on only to a plugin that declares it. It goes to the pod's default network.

Not ``ips`` and ``mac``: a pod asks those by its annotation, which is checked and recorded, while a
plugin that the runtime told others would not give what the database holds.
"""

_PLUGIN_MODE: Final = 0o755
_CONFLIST_MODE: Final = 0o644
_SHEBANG_MAX: Final = 127
"""linux/binfmts.h: BINPRM_BUF_SIZE was 128 until 5.1, closing NUL included."""
_BASE_VERSION: Final = "1.0.0"
_TRIAL_S: Final = 10.0
"""Seconds for a program that takes one millisecond."""
_HINTS: Final[Mapping[int, str]] = {
    errno.EACCES: "run as root",
    errno.ENOENT: "the path cannot be made there: choose another directory",
    errno.EPERM: "run as root",
    errno.EROFS: "the file system is read-only: choose another directory",
    errno.ENOSPC: "make room on the file system",
    errno.ENOTDIR: "a part of the path is a file: choose another directory",
    errno.EEXIST: "the path is a file: choose another directory",
    errno.EISDIR: "a directory has the name of our file: move it away",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shim:
    """A shim to install, and for people: what it is and why this one."""

    content: bytes
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReport:
    """What a call changed, and what was already as wanted (or already gone)."""

    changed: tuple[Path, ...] = ()
    unchanged: tuple[Path, ...] = ()
    about: str = ""
    """Which shim was installed, and why."""


def install(
    bin_dir: Path,
    conf_dir: Path,
    socket: str = DEFAULT_SOCKET,
    *,
    kind: ShimKind = ShimKind.AUTO,
    native: Path = NATIVE_PROGRAM,
) -> InstallReport:
    """Install a shim in `bin_dir` and the configuration list in `conf_dir`; both directories are
    made when missing. A second call changes nothing. `socket` is the node daemon's, absolute.

    Raises:
        HostError: the kernel refused, in its words, or `kind` is native and the program `native`
            does not run here; nothing half written is left.
        ConflictError: something that is not ours has the name of our plugin.
    """
    plugin, conflist = bin_dir / PLUGIN_NAME, conf_dir / CONFLIST_NAME
    _require_ours(plugin)
    chosen = choose(kind, native)
    wanted = (
        (plugin, chosen.content, _PLUGIN_MODE),
        (conflist, render_conflist(socket), _CONFLIST_MODE),
    )
    changed = [path for path, content, mode in wanted if _place(path, content, mode)]
    unchanged = [path for path, _, _ in wanted if path not in changed]
    return InstallReport(changed=tuple(changed), unchanged=tuple(unchanged), about=chosen.about)


def remove(bin_dir: Path, conf_dir: Path) -> InstallReport:
    """Take away what `install` put there; what is gone already is no error.

    Raises:
        HostError, ConflictError: as `install`.
    """
    plugin, conflist = bin_dir / PLUGIN_NAME, conf_dir / CONFLIST_NAME
    _require_ours(plugin)
    changed = [path for path in (conflist, plugin) if _unlink(path)]
    unchanged = [path for path in (conflist, plugin) if path not in changed]
    return InstallReport(changed=tuple(changed), unchanged=tuple(unchanged))


def choose(kind: ShimKind, native: Path) -> Shim:
    """The shim of this `kind`; `native` is where the native program should be.

    Raises:
        HostError: the native program is asked for and does not run here, or the script is needed
            and no interpreter can be named in its first line.
    """
    why_not = "" if kind is ShimKind.PYTHON else _why_not_native(native)
    if kind is not ShimKind.PYTHON and not why_not:
        return Shim(content=native.read_bytes(), about="native program")
    if kind is ShimKind.NATIVE:
        raise HostError(
            f"no native program can be installed: {why_not}",
            hint="install danmpy where it finds a C compiler and a static C library, or use "
            "--shim python",
            subject=PLUGIN_NAME,
        )
    python = find_interpreter()
    why = f", as {why_not}" if why_not else ""
    return Shim(content=render_plugin(python), about=f"Python script for {python}{why}")


def _why_not_native(program: Path) -> str:
    """What keeps `program` from being used on this host, found by starting it; or nothing."""
    if not program.exists():
        return "this package was built without the native program"
    try:
        done = subprocess.run(
            [program],
            input=b"",
            capture_output=True,
            env={"CNI_COMMAND": "VERSION"},
            timeout=_TRIAL_S,
            check=False,
        )
        said = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        return f"the native program does not run here ({error})"
    if not isinstance(said, dict) or said.get("supportedVersions") != list(SUPPORTED_VERSIONS):
        return f"the native program does not work here (exit status {done.returncode})"
    return ""


def find_interpreter() -> Path:
    """The Python for the shim: the system's, which starts faster than one behind a virtual
    environment and outlives it; else the file that runs this."""
    if os.access(SYSTEM_PYTHON, os.X_OK):
        return SYSTEM_PYTHON
    return Path(sys.executable).resolve()


def render_plugin(python: Path) -> bytes:
    """The shim's source behind a first line for `python`: isolated, without site packages."""
    shebang = f"#!{python} -IS"
    if len(os.fsencode(shebang)) > _SHEBANG_MAX or " " in str(python):
        raise HostError(
            f"{python} cannot stand in the first line of a script",
            hint="use an interpreter with a shorter path and without spaces",
            subject=PLUGIN_NAME,
        )
    source = Path(shim.__file__).read_bytes()
    _, _, body = source.partition(b"\n")
    return os.fsencode(shebang) + b"\n" + body


def render_conflist(socket: str) -> bytes:
    """The configuration list. ``cniVersion`` is what runtimes before CNI 1.1.0 read; newer ones
    take the highest of ``cniVersions`` that they know, and with it STATUS and GC."""
    plugin: dict[str, object] = {
        "type": PLUGIN_NAME,
        "capabilities": dict.fromkeys(CAPABILITIES, True),
    }
    if socket != DEFAULT_SOCKET:
        plugin["socket"] = socket
    document = {
        "cniVersion": _BASE_VERSION,
        "cniVersions": list(SUPPORTED_VERSIONS),
        "name": NETWORK_NAME,
        "plugins": [plugin],
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def _require_ours(plugin: Path) -> None:
    """A file of that name that does not mention danmpy, as both shims do, is somebody else's."""
    with _refusals(plugin):
        if plugin.exists() and b"danmpy" not in plugin.read_bytes():
            raise ConflictError(
                "the file is not danmpy's plugin, and is left alone",
                hint="move it away, or choose another --bin-dir",
                subject=str(plugin),
            )


def _place(path: Path, content: bytes, mode: int) -> bool:
    """Make `path` this content and mode; False when it is so already."""
    with _refusals(path):
        if _is_so(path, content, mode):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        # The leading dot and the foreign suffix keep runtimes from loading the unfinished file.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
    return True


def _is_so(path: Path, content: bytes, mode: int) -> bool:
    if path.is_symlink():
        return False
    try:
        return path.read_bytes() == content and path.stat().st_mode & 0o7777 == mode
    except FileNotFoundError:
        return False


def _unlink(path: Path) -> bool:
    with _refusals(path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        _sync_directory(path.parent)
    return True


def _sync_directory(directory: Path) -> None:
    """A rename survives a power cut only when its directory was synced too (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """The kernel's refusals in our words."""
    try:
        yield
    except OSError as error:
        raise HostError(
            f"{error.strerror}",
            hint=_HINTS.get(error.errno or 0, "look at the directory's permissions"),
            subject=str(error.filename or path),
        ) from error

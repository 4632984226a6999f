"""Builds the native CNI shim with the package, where a C compiler is at hand.

A wheel that holds it is one of this platform, for any Python 3; without it the package is pure
Python and `danmpy install-cni` takes the Python shim. That is no failure: nobody needs a compiler.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("danmpy/cni/native/danmpy-cni.c")
PROGRAM = SOURCE.with_suffix("")
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-static", "-s")
COMPILERS = ("cc", "gcc", "clang", "tcc")


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's hook for wheels; an editable install is a wheel that points here."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into the source tree, where an editable install looks for it as well."""
        root = Path(self.root)
        why_not = build(root / SOURCE, root / PROGRAM)
        if why_not:
            self.app.display_warning(f"without the native CNI shim: {why_not}")
        if why_not or version == "editable":
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["pure_python"] = False
        build_data["artifacts"].append(f"/{PROGRAM}")


def build(source: Path, program: Path, flags: Sequence[str] = FLAGS) -> str:
    """Make `program` of `source` with the first compiler whose outcome runs here; why there is
    none, or nothing. An older `program` does not outlive a failure."""
    wanted = os.environ.get("CC")
    compilers = [shlex.split(wanted)] if wanted else [[name] for name in COMPILERS]
    found = [words for words in compilers if words and shutil.which(words[0])]
    why_not = f"no C compiler ({wanted or ', '.join(COMPILERS)})"
    for words in found:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / program.name
            why_not = try_compiler([*words, *flags, "-o", str(made), str(source)], made)
            if not why_not:
                place(made, program)
                return ""
    program.unlink(missing_ok=True)
    return why_not


def try_compiler(argv: Sequence[str], made: Path) -> str:
    """Run the compiler and what it made: a compiler without a static C library makes nothing, and
    one for another machine something that does not start."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            return f"{argv[0]}: {done.stderr.strip() or done.stdout.strip()}"
        said = subprocess.run(
            [made],
            capture_output=True,
            env={"CNI_COMMAND": "VERSION"},
            input=b"",
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{argv[0]}: {error}"
    if b'"supportedVersions"' not in said.stdout:
        return f"{argv[0]} made a program that does not work here (status {said.returncode})"
    return ""


def place(made: Path, program: Path) -> None:
    """Put `made` at `program` by renaming: somebody may be running the older one."""
    beside = program.with_name(f".{program.name}.{os.getpid()}")
    try:
        shutil.copy(made, beside)
        beside.replace(program)
    finally:
        beside.unlink(missing_ok=True)

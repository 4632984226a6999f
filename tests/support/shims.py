"""The two shims as a host has them: one file, made as the package's build and installer make it.

A third one, `sanitized`, is the native program with the compiler's checks of memory and arithmetic:
what it does wrong without harm is a failure as well.
"""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Final

from danmpy.cni.install import PLUGIN_NAME, find_interpreter, render_plugin
from support.requirements import need

REPOSITORY: Final = Path(__file__).resolve().parents[2]
BOTH: Final = ("python", "native")
ALL: Final = (*BOTH, "sanitized")

STRICT: Final = ("-Werror", "-Wpedantic", "-Wshadow", "-Wconversion")
SANITIZERS: Final = (
    "-std=c11",
    "-O1",
    "-g",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)


@functools.cache
def hatch_build() -> ModuleType:
    """The build hook, which is no module of the package."""
    spec = importlib.util.spec_from_file_location("hatch_build", REPOSITORY / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_shim(kind: str, folder: Path, *, timeout_ms: int | None = None) -> Path:
    """The shim of this `kind` in `folder`; it gives a daemon up after `timeout_ms`, if given."""
    folder.mkdir(exist_ok=True)
    plugin = folder / PLUGIN_NAME
    if kind == "python":
        content = render_plugin(find_interpreter())
        if timeout_ms is not None:
            assert b"\nTIMEOUT_MS = 60000\n" in content
            content = content.replace(b"TIMEOUT_MS = 60000", b"TIMEOUT_MS = %d" % timeout_ms)
    else:
        need("cc")
        content = _compiled(kind, timeout_ms)
    plugin.write_bytes(content)
    plugin.chmod(0o755)
    return plugin


@functools.cache
def _compiled(kind: str, timeout_ms: int | None) -> bytes:
    """Each variant is compiled once in a run of the tests."""
    hook = hatch_build()
    flags = [*(SANITIZERS if kind == "sanitized" else hook.FLAGS), *STRICT]
    if timeout_ms is not None:
        flags.append(f"-DTIMEOUT_MS={timeout_ms}")
    with tempfile.TemporaryDirectory(prefix="danmpy-shim-") as folder:
        program = Path(folder) / PLUGIN_NAME
        why_not = hook.build(REPOSITORY / hook.SOURCE, program, flags)
        assert why_not == "", why_not
        return program.read_bytes()

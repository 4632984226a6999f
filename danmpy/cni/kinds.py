"""Which of the two shims: a name for the command line, which must not wait for the installer."""

from __future__ import annotations

from enum import StrEnum


class ShimKind(StrEnum):
    """Which shim to install."""

    AUTO = "auto"
    """The native program where it runs, else the script."""
    NATIVE = "native"
    PYTHON = "python"

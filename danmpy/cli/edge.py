"""The edge of the command line: errors become one line and an exit code, never a traceback.

Exit codes: 0 done, 1 findings, 2 bad request or manifest, 3 could not do it; 70 (sysexits.h,
EX_SOFTWARE) when an invariant of ours broke, 130 on Ctrl-C as shells do.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, Final

import typer
from typer.core import TyperGroup

from danmpy.cli.output import shown
from danmpy.errors import BugError, DanmpyError

DONE: Final = 0
FINDINGS: Final = 1
BAD_REQUEST: Final = 2
FAILED: Final = 3
BROKEN: Final = 70
INTERRUPTED: Final = 130


class DanmpyGroup(TyperGroup):
    """The root group; commands return their exit code, None meaning done."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and leave with its exit code; in the other mode return it."""
        standalone = extra.get("standalone_mode", True)
        try:
            result = super().main(*args, **{**extra, "standalone_mode": False})
            code = result if isinstance(result, int) else DONE
            sys.stdout.flush()
        except BrokenPipeError:
            code = _reader_left()
        except (typer.Abort, KeyboardInterrupt):
            code = INTERRUPTED
        except typer.Exit as leave:
            code = leave.exit_code
        except Exception as error:  # noqa: BLE001 - the process edge
            code = report(error)
        if standalone:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        """Run the command; here, because the option parser ends with 1 on a broken pipe."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _reader_left()


def _reader_left() -> int:
    """The reader of our output has seen enough (| head); Python must not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return DONE


def report(error: Exception) -> int:
    """Say `error` in one line on standard error; returns the exit code."""
    if isinstance(error, DanmpyError):
        line, code = str(error), error.exit_code
    elif hasattr(error, "format_message"):  # a usage error of the option parser
        line, code = _usage_line(error), BAD_REQUEST
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        bug = BugError(
            f"internal error: {type(error).__name__}: {error}",
            hint=f"please report this line; it broke at {frame.filename}:{frame.lineno}",
        )
        line, code = str(bug), bug.exit_code
    say(line)
    return code


def say(line: str) -> None:
    """One line on standard error, whatever line breaks or terminal codes foreign words carry."""
    sys.stderr.write("danmpy: " + shown(" ".join(line.split())) + "\n")


def _usage_line(error: Any) -> str:
    words = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "danmpy"
    return f"{words} (see '{path} --help')"

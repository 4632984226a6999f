"""The house rules that neither ruff nor mypy can check."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "danmpy"
TESTS = REPOSITORY / "tests"

MODULE_LINES = 500
"""Above this readers search instead of reading."""

FUNCTION_LINES = 60
"""Without signature and docstring."""

WITHOUT_TEST_FILE = {
    "danmpy.bootstrap.controller": "a whole process: tests/system/test_cluster*.py",
    "danmpy.bootstrap.node": "a whole process: tests/system",
    "danmpy.bootstrap.tending": "threads of the node daemon: tests/system/test_hotplug.py",
    "danmpy.cni.kinds": "an enumeration: tests/cni/test_install.py",
    "danmpy.db.patience": "shows only against a server that hangs: tests/db/test_engine.py",
    "danmpy.ipam.agreement": "inside of Ledger.verify: tests/ipam/test_sealing.py",
    "danmpy.ipam.binding": "inside of LeaseStore.bind: tests/ipam/test_leases*.py",
    "danmpy.ipam.ledger": "events beside what they tell of: tests/ipam/test_sealing.py",
    "danmpy.ipam.picking": "inside of LeaseStore.bind: tests/ipam/test_leases*.py",
    "danmpy.ipam.releasing": "inside of LeaseStore.release: tests/ipam/test_leases*.py",
    "danmpy.ipam.rows": "rows as values, seen in every answer: tests/ipam/test_leases*.py",
    "danmpy.ipam.schema": "compared with the migrations: tests/db/test_migrate.py",
    "danmpy.ipam.wants": "inside of LeaseStore.bind: tests/ipam/test_leases*.py",
    "danmpy.ipam.verifying": "inside of Ledger.verify: tests/ipam/test_sealing.py",
}
"""Modules without a test file of their name, and why. Never for pure modules."""

MAY_TOUCH_THE_PROCESS = {
    "danmpy.cli": "the edge to a person",
    "danmpy.cni": "the edge to the container runtime",
    "danmpy.settings": "reads the environment, once",
    "danmpy.bootstrap": "hands the environment to what it wires",
}
"""Who may print, exit and read the environment."""


def module_names() -> list[str]:
    """Every module of the package, packages left out."""
    return sorted(
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    )


def source_of(module: str) -> Path:
    return REPOSITORY.joinpath(*module.split(".")).with_suffix(".py")


def pure_modules() -> list[str]:
    """The modules of the import contract "pure"."""
    with (REPOSITORY / "pyproject.toml").open("rb") as source:
        contracts = tomllib.load(source)["tool"]["importlinter"]["contracts"]
    (listed,) = (each["source_modules"] for each in contracts if each["id"] == "pure")
    return [name for name in module_names() if name.startswith(tuple(f"{e}." for e in listed))] + [
        name for name in listed if source_of(name).exists()
    ]


def is_one_of(module: str, places: dict[str, str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def test_the_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_list_of_pure_modules_names_modules_that_exist() -> None:
    with (REPOSITORY / "pyproject.toml").open("rb") as source:
        contracts = tomllib.load(source)["tool"]["importlinter"]["contracts"]
    (listed,) = (each["source_modules"] for each in contracts if each["id"] == "pure")
    known = {*module_names(), *(name.rpartition(".")[0] for name in module_names())}
    assert sorted(set(listed) - known) == []


def mirror_of(module: str) -> Path:
    _, *rooms, name = module.split(".")
    return TESTS.joinpath(*rooms, f"test_{name}.py")


def test_every_module_has_a_test_file_of_its_name() -> None:
    missing = [
        f"{name} -> {mirror_of(name).relative_to(REPOSITORY)}"
        for name in module_names()
        if name not in WITHOUT_TEST_FILE and not mirror_of(name).exists()
    ]
    assert not missing, "\n".join(missing)


def test_exceptions_from_the_mirror_are_needed_reasoned_and_never_pure() -> None:
    assert [name for name in WITHOUT_TEST_FILE if mirror_of(name).exists()] == []
    assert [name for name in WITHOUT_TEST_FILE if not source_of(name).exists()] == []
    assert all(WITHOUT_TEST_FILE.values())
    assert len(WITHOUT_TEST_FILE) <= len(module_names()) // 5
    for reason in WITHOUT_TEST_FILE.values():
        for pattern in re.findall(r"tests/\S+\.py", reason):
            assert list(REPOSITORY.glob(pattern)), f"{pattern} is not there"
    assert set(WITHOUT_TEST_FILE) & set(pure_modules()) == set()


@pytest.mark.parametrize("module", pure_modules())
def test_values_of_pure_modules_are_frozen_and_slotted(module: str) -> None:
    loose = []
    for name, found in vars(importlib.import_module(module)).items():
        if not isinstance(found, type) or found.__module__ != module:
            continue
        if dataclasses.is_dataclass(found):
            frozen = found.__dataclass_params__.frozen  # type: ignore[attr-defined]
            if not frozen or "__slots__" not in vars(found):
                loose.append(name)
        elif hasattr(found, "model_config") and not found.model_config.get("frozen"):
            loose.append(name)
    assert loose == []


IMPORT_ALL = r"""
import importlib, os, sys, threading
import subprocess, socket, sqlite3  # what the audit below watches is loaded before it starts
import urllib3  # tries at its import whether this host has IPv6

PACKAGE, names = sys.argv[1], sys.argv[2:]
ACTS = {
    "os.exec", "os.fork", "os.kill", "os.link", "os.mkdir", "os.posix_spawn", "os.putenv",
    "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.system", "os.truncate", "os.unsetenv",
    "socket.__new__", "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostname",
    "shutil.copyfile", "signal.pthread_kill", "sqlite3.connect", "subprocess.Popen",
}
WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
done = []

def ours(frame):
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""

def direct(frame):
    # Reading the environment counts only when we do it: libraries may look at their own variables.
    while frame.f_code.co_filename.startswith("<") or frame.f_globals["__name__"] == "os":
        frame = frame.f_back
        if frame is None:
            return ""
    path = frame.f_code.co_filename
    return f"{path}:{frame.f_lineno}" if path.startswith(PACKAGE) else ""

def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITE
    if event in ACTS or writes:
        done.append(f"{event}{arguments[:1]} by {ours(sys._getframe(1))}")

class Watched(type(os.environ)):
    def __getitem__(self, key):
        if place := direct(sys._getframe(1)):
            done.append(f"environment {key} read by {place}")
        return super().__getitem__(key)

start = threading.Thread.start

def start_thread(self):
    done.append(f"thread {self.name} started by {ours(sys._getframe(1))}")
    start(self)

threading.Thread.start = start_thread
os.environ.__class__ = Watched
sys.addaudithook(watch)
for name in names:
    importlib.import_module(name)
print("\n".join(done))
"""


def imported_with_everything_watched(*names: str) -> str:
    """What importing `names` did besides defining things, one line each."""
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", IMPORT_ALL, str(PACKAGE), *names],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_a_module_does_nothing() -> None:
    assert imported_with_everything_watched(*module_names()) == ""


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("import os; os.environ.get('HOME')", "environment HOME read by"),
        ("import os; os.getenv('HOME')", "environment HOME read by"),
        ("import socket; socket.socket()", "socket.__new__"),
        (
            "import threading; threading.Thread(target=print).start()",
            "thread Thread-1",
        ),
        ("import sqlite3; sqlite3.connect(':memory:')", "sqlite3.connect"),
        ("open('made', 'w')", "open"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("import json; LIMIT = 3", ""),
    ],
)
def test_the_watch_over_imports_sees_what_it_must(tmp_path: Path, line: str, seen: str) -> None:
    (tmp_path / "busy.py").write_text(line)
    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_ALL, str(tmp_path), "busy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (seen in done.stdout) if seen else not done.stdout.strip()


def own_python_files() -> list[Path]:
    folders = (PACKAGE, REPOSITORY / "migrations", REPOSITORY / "deploy", TESTS)
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    too_long = [
        f"{path.relative_to(REPOSITORY)}: {lines}"
        for path in own_python_files()
        if TESTS not in path.parents
        and (lines := len(path.read_text().splitlines())) > MODULE_LINES
    ]
    assert not too_long, "\n".join(too_long)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function, clean=False) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_function_is_longer_than_a_screen() -> None:
    too_long = [
        f"{path.relative_to(REPOSITORY)}:{function.lineno} {function.name}: {body_lines(function)}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for function in functions(ast.parse(path.read_text()))
        if body_lines(function) > FUNCTION_LINES
    ]
    assert not too_long, "\n".join(too_long)


def touches_the_process(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where the code prints, exits, or reads or changes the environment or the arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in {"print", "exit", "quit", "input"}:
                yield node.lineno, node.func.id
        elif isinstance(node, ast.Raise) and "SystemExit" in ast.dump(node):
            yield node.lineno, "raise SystemExit"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if name in {
                "os._exit", "os.environ", "os.environb", "os.getenv", "os.putenv", "os.unsetenv",
                "sys.argv", "sys.exit",
            }:  # fmt: skip
                yield node.lineno, name
        elif isinstance(node, ast.ImportFrom) and node.module in {"os", "sys"}:
            for alias in node.names:
                if alias.name in {"environ", "getenv", "exit", "argv"}:
                    yield node.lineno, f"{node.module}.{alias.name}"


def test_only_the_edges_print_exit_and_read_the_environment() -> None:
    found = [
        f"{source_of(module).relative_to(REPOSITORY)}:{line} {what}"
        for module in module_names()
        if not is_one_of(module, MAY_TOUCH_THE_PROCESS)
        for line, what in touches_the_process(ast.parse(source_of(module).read_text()))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "print('x')",
        "import sys; sys.exit(1)",
        "raise SystemExit(1)",
        "import os; os.environ['A']",
        "from os import environ",
        "import os; os.getenv('A')",
    ],
)
def test_the_search_for_edges_finds(line: str) -> None:
    assert list(touches_the_process(ast.parse(line)))


TEXT_SUFFIXES = {
    ".c", ".cfg", ".ini", ".json", ".mako", ".md", ".py", ".service", ".sh", ".toml", ".txt",
    ".yaml", ".yml",
}  # fmt: skip

FOREIGN = (
    (r"/work/|/home/\w|/Users/\w", "a path of somebody's machine"),
    (
        r"https?://[^\s\"']*\b(pypi|artifactory|nexus|mirror)\b|index-url",
        "a package index: pip's own configuration says where packages come from",
    ),
    (
        r"(?i)\b(by|with) an? (ai|llm|agent)\b|language model|chat ?bot|co-?pilot",
        "how a text came to be is nothing that its reader can use",
    ),
)
"""What does not belong into the project's texts, and why."""


def own_texts() -> list[Path]:
    git = shutil.which("git")
    if git and (REPOSITORY / ".git").exists():
        argv = [git, "ls-files", "-co", "--exclude-standard", "-z"]
        listed = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        paths = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    else:  # an unpacked source distribution, or a machine without git
        hidden = {".git", ".venv", ".hypothesis", "__pycache__", "build", "dist"}
        paths = [
            path
            for path in REPOSITORY.rglob("*")
            if not hidden & set(path.relative_to(REPOSITORY).parts)
        ]
    return sorted(
        path
        for path in paths
        if path.is_file()
        and (path.suffix in TEXT_SUFFIXES or path.name == "Makefile" or path.parent.name == ".ci")
        and path != Path(__file__).resolve()
    )


def test_texts_speak_of_the_project_alone() -> None:
    texts = own_texts()
    assert REPOSITORY / "pyproject.toml" in texts
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {reason}: {line.strip()}"
        for path in texts
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for pattern, reason in FOREIGN
        if re.search(pattern, line)
    ]
    assert not found, "\n".join(found)


def test_every_document_that_a_text_names_exists() -> None:
    known = {path.name for path in REPOSITORY.rglob("*.md") if ".venv" not in path.parts}
    dead = [
        f"{path.relative_to(REPOSITORY)}:{number}: {name}"
        for path in own_texts()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for name in re.findall(r"\b([\w.-]+\.md)\b", line)
        if name not in known
    ]
    assert not dead, "\n".join(dead)

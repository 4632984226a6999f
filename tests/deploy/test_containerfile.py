"""The Containerfile, as far as it can be judged without a builder."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch

import danmpy
from support.deploying import container, overlay
from support.processes import REPOSITORY

TEXT = (REPOSITORY / "Containerfile").read_text()
IGNORED = (REPOSITORY / ".containerignore").read_text()


def instructions() -> Iterator[tuple[str, str]]:
    """Keyword and the rest, continued lines joined, comments left out."""
    kept = [line for line in TEXT.splitlines() if not line.startswith("#")]
    for line in "\n".join(kept).replace("\\\n", " ").splitlines():
        if line.strip():
            keyword, _, rest = line.partition(" ")
            yield keyword, " ".join(rest.split())


def copied() -> list[str]:
    """What is copied out of the repository."""
    return [
        source
        for keyword, rest in instructions()
        if keyword == "COPY" and not rest.startswith("--from")
        for source in shlex.split(rest)[:-1]
    ]


def last_stage() -> list[tuple[str, str]]:
    found = list(instructions())
    start = max(index for index, (keyword, _) in enumerate(found) if keyword == "FROM")
    return found[start:]


def test_everything_that_is_copied_is_there_and_not_ignored() -> None:
    assert copied()
    kept = {line[1:] for line in IGNORED.splitlines() if line.startswith("!")}
    for source in copied():
        assert (REPOSITORY / source).exists()
        assert source in kept
    assert kept == set(copied())


def test_everything_that_the_build_reads_is_copied() -> None:
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    project, wheel = pyproject["project"], pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"hatch_build.py", "pyproject.toml", project["readme"], *project["license-files"]}
    needed |= {*wheel["packages"], *wheel["force-include"]}
    assert needed == set(copied())


def test_nothing_of_the_checkout_but_sources_gets_in() -> None:
    patterns = [line for line in IGNORED.splitlines() if line and line[0] not in "#!"]
    for unwanted in ("danmpy/cni/native/danmpy-cni", "danmpy/api/__pycache__", ".venv"):
        assert any(fnmatch(unwanted, pattern.replace("**/", "*")) for pattern in patterns)


def test_it_starts_from_debian_and_names_no_registry() -> None:
    bases = [rest.partition(" ")[0] for keyword, rest in instructions() if keyword == "FROM"]
    assert bases == ["debian:12-slim"] * 2


def test_the_image_has_no_compiler_and_no_installer() -> None:
    run = " ".join(rest for keyword, rest in last_stage() if keyword == "RUN")
    installed = run.partition("install --yes --no-install-recommends ")[2].partition("&&")[0]
    assert installed.split() == ["iptables", "python3"]
    build = " ".join(rest for keyword, rest in instructions() if keyword == "RUN")
    assert "pip uninstall --yes setuptools pip" in build


def test_it_runs_danmpy_as_the_user_of_the_manifests() -> None:
    last = dict(last_stage())
    assert last["ENTRYPOINT"] == '["danmpy"]'
    security = container(overlay("cluster"), "controller").pod["securityContext"]
    user = f"{security['runAsUser']}:{security['runAsGroup']}"
    assert last["USER"] == user
    assert f"useradd --uid {security['runAsUser']}" in last["RUN"]


def test_the_release_in_its_words_is_this_one() -> None:
    assert set(re.findall(r"danmpy:(\d+\.\d+\.\d+)", TEXT)) == {danmpy.__version__}

"""``danmpy convert multus``: another tool's configuration becomes danmpy's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from danmpy.cli.edge import DONE, FINDINGS, say
from danmpy.cli.output import dumps, say_out, shown
from danmpy.errors import HostError, IntentError

if TYPE_CHECKING:
    from danmpy.convert.values import Converted, DelegateFile, FoundConf

_FILE_MAX: Final = 2 * 1024 * 1024
"""Bytes; a runtime refuses bigger ones."""

_SUFFIXES: Final = (".conflist", ".conf", ".json")


class SettingsFormat(StrEnum):
    """How the configuration is printed."""

    YAML = "yaml"
    JSON = "json"


def multus(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="What Multus reads: 00-multus.conf, or daemon-config.json."
        ),
    ],
    conf_dir: Annotated[
        Path | None,
        typer.Option(
            "--conf-dir",
            metavar="D",
            help="Folder with the CNI configurations that FILE names; else its confDir.",
        ),
    ] = None,
    write_dir: Annotated[
        Path | None,
        typer.Option(
            "--write-dir",
            metavar="D",
            help="Write the delegates' configurations there; it becomes cni.conf_dir.",
        ),
    ] = None,
    output: Annotated[
        SettingsFormat,
        typer.Option("--output", "-o", help="A configuration file, or JSON.", case_sensitive=False),
    ] = SettingsFormat.YAML,
) -> int:
    """Print danmpy's configuration for what Multus does by FILE, and what is left to do by hand.

    Exit code 1: a person has to decide something, see the lines with "by hand" or "unknown".
    """
    from danmpy.convert.multus import convert_multus

    source = str(file)
    document = _object(file)
    confs = tuple(_confs(document, source, conf_dir))
    folder = write_dir.absolute() if write_dir else None
    converted = convert_multus(document, source, confs, str(folder or ""))
    if folder:
        for each in converted.files:
            path = folder / f"{each.name}.conflist"
            say(f"{'wrote' if _write(path, each) else 'is in place already:'} {path}")
    if output is SettingsFormat.JSON:
        say_out(dumps(_document(converted)))
    else:
        for line in _lines(converted, source):
            say_out(line)
    return FINDINGS if converted.has_findings else DONE


def _confs(document: dict[str, Any], source: str, conf_dir: Path | None) -> Iterator[FoundConf]:
    """The configurations that references may mean: of the folder, and at the paths themselves. One
    that is broken is named; it may not be needed.
    """
    from danmpy.convert.multus import conf_folders, references
    from danmpy.convert.values import FoundConf

    if conf_dir is not None and not conf_dir.is_dir():
        raise IntentError("there is no such folder", hint="correct it", subject=str(conf_dir))
    named = [Path(folder) for folder in conf_folders(document, source)]
    folders = [conf_dir] if conf_dir else named
    paths = [Path(text) for text in references(document, source)]
    folders += [path for path in paths if path.is_dir()]
    files = [path for folder in folders for path in _listed(folder)]
    for path in dict.fromkeys((*files, *(path for path in paths if path.is_file()))):
        try:
            yield FoundConf(path=str(path.absolute()), document=_object(path))
        except IntentError as error:
            say(str(error))


def _listed(folder: Path) -> list[Path]:
    """The configuration files of `folder` in libcni's order: lists first."""
    try:
        files = [path for path in folder.iterdir() if path.suffix in _SUFFIXES]
    except OSError:
        return []
    return sorted(files, key=lambda path: (path.suffix != _SUFFIXES[0], path.name))


def _object(path: Path) -> dict[str, Any]:
    from danmpy.api.addresses import TextError
    from danmpy.api.jsontext import parse_json

    try:
        with path.open("rb") as opened:
            data = opened.read(_FILE_MAX + 1)
        document = parse_json(data.decode("utf-8-sig"))
    except OSError as error:
        words = f"cannot be read: {error.strerror}"
        raise IntentError(words, hint="name a file that is there", subject=str(path)) from None
    except (TextError, UnicodeDecodeError) as error:
        words = str(error) if isinstance(error, TextError) else "is no UTF-8 text"
        raise IntentError(words, hint="name a JSON file", subject=str(path)) from None
    if len(data) > _FILE_MAX:
        words = f"is bigger than {_FILE_MAX} bytes"
        raise IntentError(words, hint="no runtime reads it", subject=str(path))
    if not isinstance(document, dict):
        raise IntentError("is no JSON object", hint="name a JSON file", subject=str(path))
    return document


def _write(path: Path, file: DelegateFile) -> bool:
    """Put `file` at `path`, whole or not at all; False when it is there already.

    Raises:
        IntentError: another configuration is at that place.
        HostError: it cannot be written.
    """
    from danmpy.attach.journal import write_whole

    data = (json.dumps(file.document, indent=2, ensure_ascii=False) + "\n").encode()
    try:
        if path.exists():
            if path.read_bytes() == data:
                return False
            raise IntentError(
                "another configuration is there, and is left alone",
                hint="move it away, or choose another --write-dir",
                subject=str(path),
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise HostError(
            f"cannot be written: {error.strerror}",
            hint="choose another --write-dir, or run as root",
            subject=str(path),
        ) from error
    return True


def _document(converted: Converted) -> dict[str, Any]:
    return {
        "settings": converted.settings,
        "keys": [
            {
                "key": note.key,
                "verdict": str(note.verdict),
                "setting": note.setting,
                "words": note.words,
            }
            for note in converted.notes
        ],
        "files": [{"name": each.name, "document": each.document} for each in converted.files],
        "steps": list(converted.steps),
    }


def _lines(converted: Converted, source: str) -> Iterator[str]:
    """The settings as YAML; all other words are comments, so that it is a configuration file."""
    import yaml

    yield f"# Made by danmpy convert multus from {shown(source)}."
    yield from yaml.safe_dump(dict(converted.settings), sort_keys=False).splitlines()
    yield "#"
    yield "# Key by key:"
    for note in converted.notes:
        setting = f" -> {note.setting}" if note.setting else ""
        words = f": {note.words}" if note.words else ""
        yield f"# - {shown(note.key)}{setting} ({note.verdict}){shown(words) if words else ''}"
    yield "#"
    yield "# Still to do:"
    for number, step in enumerate(converted.steps, start=1):
        yield f"# {number}. {shown(step)}"

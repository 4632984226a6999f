"""Where a delegate's configuration is: in the network itself, or in the node's folder.

A network of DANM's kinds names its file: ``<NetworkID>.conf`` (DANM 3.3), used as it is. One of the
Network Plumbing Working Group's is found by the ``name`` in the files (NPWG 1.3, section 2.1), in
the order of libcni: lists before single plugins, each by file name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from danmpy.api.specs import NetworkKind, NetworkSpec
from danmpy.attach.delegates.confs import (
    ConfFile,
    Plugin,
    broken_conf,
    conf_name,
    parse_conf,
    parse_text,
    read_flag,
)
from danmpy.errors import IntentError, NotReadyError

SUFFIXES: Final = (".conflist", ".conf", ".json")
"""In the order of preference, as libcni looks them up."""

_LIST_SUFFIX: Final = ".conflist"
_FOLDER_SUFFIX: Final = ".conf"
"""Of plugins that are loaded from the folder beside a list (CNI specification 1.1.0, section 1)."""

_MAX_FILE: Final = 2 * 1024 * 1024
"""Bytes; containerd refuses bigger files."""

_SHOWN: Final = 3
"""How many unusable files a message names."""


def read_conf_names(conf_dir: Path) -> frozenset[str]:
    """Names without suffix of all configuration files; none when the directory is missing."""
    return frozenset(path.stem for path in _listed(conf_dir))


def read_conf(conf_dir: Path, network: NetworkSpec) -> ConfFile:
    """The configuration of `network`. The disk is read only when the network has none itself.

    Raises:
        NotReadyError: there is none.
        IntentError: the file cannot be read or is no CNI configuration.
    """
    if network.conf:
        source = str(network.key)
        return parse_conf(parse_text(network.conf, source), source, name=network.network_id)
    if network.key.kind is NetworkKind.NAD:
        path, document = _find_named(conf_dir, network)
        kind = ""
    else:
        path = _find_file(conf_dir, network)
        document = _load(path)
        kind = network.backend  # DANM runs the binary called NetworkType; its files need no type
    loaded = None
    if path.suffix == _LIST_SUFFIX and ("plugins" in document or "type" not in document):
        loaded = _beside(path, document, network.network_id)
    return parse_conf(document, str(path), name=network.network_id, kind=kind, loaded=loaded)


def _listed(conf_dir: Path) -> list[Path]:
    """The configuration files, as libcni goes through them: lists first, each by name."""
    try:
        entries = list(conf_dir.iterdir())
    except OSError:
        return []
    files = [p for p in entries if p.suffix in SUFFIXES and p.name[0] != "."]
    return sorted(files, key=lambda path: (path.suffix != _LIST_SUFFIX, path.name))


def _find_file(conf_dir: Path, network: NetworkSpec) -> Path:
    # Only names that the listing shows: a NetworkID like "../x" must not leave the directory.
    if network.network_id in read_conf_names(conf_dir):
        for suffix in SUFFIXES:
            path = conf_dir / f"{network.network_id}{suffix}"
            if path.is_file():
                return path
    raise NotReadyError(
        f"NetworkType {network.backend} is a delegate, and {conf_dir} has neither "
        f"{network.network_id}.conflist nor {network.network_id}.conf",
        hint="put the delegate's configuration there, or correct NetworkID",
        subject=str(network.key),
    )


def _find_named(conf_dir: Path, network: NetworkSpec) -> tuple[Path, Mapping[str, Any]]:
    """The first file whose ``name`` is the network's; else the one called so; else, where no object
    stands for it, the first whose plugin is of that type, as CNI-Genie's pods name them.

    A malformed file on the way is passed by, unlike in libcni: one that somebody else is writing,
    or broke, must not take the networks of all pods of the node away. When nothing is found, the
    error tells of it.
    """
    name = network.network_id
    paths = _listed(conf_dir)
    read: list[tuple[Path, Mapping[str, Any]]] = []
    broken: list[IntentError] = []
    for path in paths:
        try:
            document = _load(path)
        except IntentError as error:
            broken.append(error)
            continue
        if document.get("name") == name:
            return path, document
        read.append((path, document))
    if called := next((path for path in paths if path.stem == name), None):
        return called, _load(called)
    if not network.key.namespace:
        typed = (each for each in read if _first_type(each[1]) == name)
        if found := next(typed, None):
            return found
    raise NotReadyError(
        f"no CNI configuration in {conf_dir} has the name {name}{_but(broken)}",
        hint="put one there, or write it into spec.config of the NetworkAttachmentDefinition"
        if network.key.is_object
        else "put one there, or correct the name where the pod, or npwg.default_network, says it",
        subject=str(network.key) if network.key.is_object else "",
    )


def _first_type(document: Mapping[str, Any]) -> object:
    plugins = document.get("plugins")
    first = plugins[0] if isinstance(plugins, list) and plugins else document
    return first.get("type") if isinstance(first, Mapping) else None


def _but(broken: Iterable[IntentError]) -> str:
    errors = list(broken)
    words = "; ".join(f"{error.subject} {error.message}" for error in errors[:_SHOWN])
    more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    return f" (of those that cannot be read: {words}{more})" if errors else ""


def _beside(path: Path, document: Mapping[str, Any], default_name: str) -> tuple[Plugin, ...]:
    """The plugins in the folder beside the list `path` that is called like the network."""
    source = str(path)
    name = conf_name(document, source) or default_name
    if read_flag(document, "loadOnlyInlinedPlugins", source):
        if "plugins" not in document:
            raise broken_conf(source, "loadOnlyInlinedPlugins is true, and 'plugins' is missing")
        return ()
    try:
        entries = sorted((path.parent / name).iterdir())
    except OSError:
        return ()
    files = [p for p in entries if p.suffix == _FOLDER_SUFFIX and p.name[0] != "."]
    return tuple(map(_load, files))


def _load(path: Path) -> Mapping[str, Any]:
    source = str(path)
    try:
        if path.stat().st_size > _MAX_FILE:
            raise broken_conf(source, f"the file is bigger than {_MAX_FILE} bytes")
        text = path.read_bytes()
    except OSError as error:
        raise broken_conf(source, f"cannot be read: {error.strerror}") from error
    return parse_text(text, source)

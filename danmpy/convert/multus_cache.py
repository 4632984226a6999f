"""Multus's cache of the pods that run, as values. Pure.

Two kinds of file below ``cniDir``: one called after the container id, the list of delegates that
Multus resolved before it began (pkg/multus: saveDelegates), and in ``results`` one an interface,
written by libcni when the delegate's ADD had succeeded (libcni: cachedInfo, kind ``cniCacheV1``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from danmpy.api.addresses import TextError
from danmpy.api.cni import ifname_problem
from danmpy.api.jsontext import parse_json
from danmpy.errors import IntentError

RESULTS: Final = "results"
_KIND: Final = "cniCacheV1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """One entry of a container's list. `name` is the NAD (``namespace/name``), or the CNI name of a
    network that is none; `conf_name` is the CNI name, `ifname` what the pod asked to call it.
    """

    name: str
    conf_name: str
    ifname: str = ""
    infiniband_guid: str = ""
    device_id: str = ""
    resource: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedResult:
    """One interface as libcni remembers it; `config` is the configuration that ADD was called with,
    `capability_args` what was offered to its plugins, `args` are CNI_ARGS. `netns` is empty where
    neither libcni nor the plugin says it.
    """

    path: str
    container_id: str
    ifname: str
    network: str
    netns: str
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    args: Mapping[str, str] = field(default_factory=dict)
    capability_args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedLink:
    """An interface of a pod: the result, and the delegate it is of. One that came later, by hot
    plug, is in no list (`is_listed`)."""

    cached: CachedResult
    delegate: Delegate
    is_listed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """The interfaces of one container, the runtime's first, and the networks of its list that have
    no result (`missing`)."""

    links: tuple[CachedLink, ...] = ()
    missing: tuple[str, ...] = ()


def parse_delegates(data: bytes, path: str) -> tuple[Delegate, ...]:
    """The list of delegates of one container.

    Raises:
        IntentError: the file is not what Multus writes.
    """
    entries = _json(data, path)
    if not isinstance(entries, list) or not entries:
        raise _damaged(path, "is no list of delegates")
    return tuple(_delegate(entry, path) for entry in entries)


def _delegate(entry: object, path: str) -> Delegate:
    if not isinstance(entry, dict):
        raise _damaged(path, "a delegate in it is no object")
    # Multus fills Conf for a single plugin and ConfList for a list, and reads Bytes alone.
    names = (_text(_object(entry.get(key)), "name", path) for key in ("ConfList", "Conf"))
    conf_name = next(filter(None, names), "") or _text(
        _inner(entry.get("Bytes"), path), "name", path
    )
    if not conf_name:
        raise _damaged(path, "a delegate in it has no name")
    return Delegate(
        name=_text(entry, "Name", path) or conf_name,
        conf_name=conf_name,
        ifname=_text(entry, "ifnameRequest", path),
        infiniband_guid=_text(entry, "infinibandGUIDRequest", path),
        device_id=_text(entry, "deviceID", path),
        resource=_text(entry, "resourceName", path),
    )


def parse_result_file(data: bytes, path: str) -> CachedResult:
    """One interface that libcni remembers.

    Raises:
        IntentError: the file is not what libcni writes.
    """
    entry = _json(data, path)
    if not isinstance(entry, dict):
        raise _damaged(path, "is no object")
    if entry.get("kind") != _KIND:
        raise _damaged(path, f"its kind is {entry.get('kind')!r}, and not {_KIND}")
    container_id, network = _text(entry, "containerId", path), _text(entry, "networkName", path)
    ifname = _text(entry, "ifName", path)
    for key, value in (("containerId", container_id), ("networkName", network)):
        if not value:
            raise _damaged(path, f"{key} is missing")
    if why := ifname_problem(ifname):
        raise _damaged(path, f"ifName {ifname!r} is {why}")
    result = entry.get("result")
    if not isinstance(result, dict):
        raise _damaged(path, "it has no result")
    return CachedResult(
        path=path,
        container_id=container_id,
        ifname=ifname,
        network=network,
        netns=_text(entry, "netns", path) or _sandbox_of(result),
        config=_inner(entry.get("config"), path),
        result=result,
        args=_args(entry.get("cniArgs"), path),
        capability_args=_object(entry.get("capabilityArgs")),
    )


def _sandbox_of(result: Mapping[str, Any]) -> str:
    """The namespace by the result: libcni before 1.2 does not write it into its cache."""
    interfaces = result.get("interfaces")
    for each in interfaces if isinstance(interfaces, list) else ():
        sandbox = _object(each).get("sandbox")
        if isinstance(sandbox, str) and sandbox:
            return sandbox
    return ""


def match(delegates: Sequence[Delegate], results: Iterable[CachedResult]) -> Matched:
    """Which result is which delegate's, by Multus's rule of names: the one that was asked for, else
    the runtime's for the first and ``net<position>`` for the others.
    """
    left = list(results)
    found: dict[int, CachedResult] = {}
    # The first last: its name is not in the list, unless the pod asked for one.
    for position in (*range(1, len(delegates)), 0):
        delegate = delegates[position]
        wanted = delegate.ifname or (f"net{position}" if position else "")
        fits = [
            each
            for each in left
            if each.network == delegate.conf_name and wanted in {"", each.ifname}
        ]
        if not wanted:
            fits = [each for each in fits if not each.ifname.startswith("net")] or fits
        if len(fits) == 1 or (fits and wanted):
            found[position] = fits[0]
            left.remove(fits[0])
    links = [
        CachedLink(cached=found[position], delegate=delegate)
        for position, delegate in enumerate(delegates)
        if position in found
    ]
    links += [
        CachedLink(
            cached=each,
            delegate=Delegate(name=each.network, conf_name=each.network),
            is_listed=False,
        )
        for each in sorted(left, key=lambda each: each.ifname)
    ]
    missing = tuple(
        delegate.name for position, delegate in enumerate(delegates) if position not in found
    )
    return Matched(links=tuple(links), missing=missing)


def _args(value: object, path: str) -> dict[str, str]:
    """CNI_ARGS as pairs. A later pair of the same key does not beat one that says something: Multus
    adds the runtime's own behind its own."""
    args: dict[str, str] = {}
    for pair in value if isinstance(value, list) else ():
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(w, str) for w in pair)
        ):
            raise _damaged(path, "cniArgs is no list of pairs")
        if not args.get(pair[0]):
            args[pair[0]] = pair[1]
    return args


def _inner(value: object, path: str) -> Mapping[str, Any]:
    """The JSON object inside base64, as Go writes bytes."""
    try:
        data = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        raise _damaged(path, "the configuration in it is no base64") from None
    document = _json(data, path)
    if not isinstance(document, dict):
        raise _damaged(path, "the configuration in it is no object")
    return document


def _json(data: bytes, path: str) -> Any:
    try:
        return parse_json(data.decode())
    except (TextError, UnicodeDecodeError) as error:
        raise _damaged(path, f"cannot be parsed: {error}") from None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(values: Mapping[str, Any], key: str, path: str) -> str:
    value = values.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or not value.isprintable():
        raise _damaged(path, f"{key} is no text")
    return value


def _damaged(path: str, why: str) -> IntentError:
    return IntentError(why, hint="nothing is made of it, and it is left as it is", subject=path)

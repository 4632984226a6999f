"""Taking over the pods of a Multus that ran here before: from its cache into the journal.

What is adopted is an attachment like any other: DEL, CHECK, GC and the status of the pod go by its
record, each delegate with the very configuration that Multus called it with. Nothing of the cache
is changed by adopting, so Multus can go on with it; once an adopted pod's DEL has succeeded its
files go, or a Multus that comes back would find pods that are no more.

It may be done as often as one likes: what the journal knows is left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog

from danmpy.api.cni import (
    KNOWN_VERSIONS,
    CniInterface,
    CniResult,
    parse_result,
    render_result,
    version_key,
)
from danmpy.api.specs import Dialect, NetworkKey, NetworkKind
from danmpy.attach.delegates.confs import DelegateConf, parse_conf
from danmpy.attach.delegates.rendering import with_runtime_config
from danmpy.attach.devices.info import DeviceInfoFiles
from danmpy.attach.journal import JOURNAL_VERSION, AttachmentRecord, LinkRecord, Phase
from danmpy.attach.plan import extend_result
from danmpy.cni.install import NETWORK_NAME
from danmpy.convert.multus_cache import (
    RESULTS,
    CachedLink,
    CachedResult,
    match,
    parse_delegates,
    parse_result_file,
)
from danmpy.errors import DanmpyError, HostError, IntentError, WireError
from danmpy.kernel.netns import NetnsId, netns_id_of, require_other_than_home
from danmpy.kernel.podnet import enter_pod

_log = structlog.get_logger(__name__)

_CONTAINER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*\Z")
"""CNI specification 1.1.0, section 2: CNI_CONTAINERID. Other files of the folder are none's."""

_FILE_MAX: Final = 4 * 1024 * 1024
"""Bytes; a configuration may have 2 MiB, and base64 makes it a third longer."""

_OWN_ARGS: Final = frozenset(
    {
        "IgnoreUnknown",
        "K8S_POD_NAMESPACE",
        "K8S_POD_NAME",
        "K8S_POD_INFRA_CONTAINER_ID",
        "K8S_POD_UID",
    }
)
"""CNI_ARGS that every delegate is told anyway (`delegates`)."""


_Write = Callable[[AttachmentRecord], None]


class Verdict(StrEnum):
    """What became of one container of the cache."""

    ADOPTED = "adopted"
    HELD = "held"
    HALF = "half"
    DAMAGED = "damaged"
    GONE = "gone"
    REFUSED = "refused"

    @property
    def is_finding(self) -> bool:
        """Is it left to Multus, or to a person?"""
        return self not in {Verdict.ADOPTED, Verdict.HELD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One container of the cache; `interfaces` as far as they are known."""

    verdict: Verdict
    container_id: str
    where: str
    message: str = ""
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    interfaces: tuple[str, ...] = ()


class _LeftError(Exception):
    """Why a container is left as it is."""

    def __init__(self, verdict: Verdict, message: str) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cache:
    """What is in the cache: lists by container id, results, and why some of them cannot be read."""

    lists: tuple[Path, ...]
    results: dict[str, list[CachedResult]]
    broken: tuple[IntentError, ...]


class MultusAdopter:
    """Adopts the containers of one cache folder.

    `known` are the containers that the journal has; `write` stores a record.
    """

    def __init__(
        self,
        folder: Path,
        known: Collection[str],
        write: _Write,
        device_info: DeviceInfoFiles | None = None,
    ) -> None:
        self._folder = folder
        self._known = known
        self._write = write
        self._device_info = device_info or DeviceInfoFiles()

    def adopt(self) -> tuple[Outcome, ...]:
        """Every container of the cache, adopted or left with the reason; and the files that cannot
        be read.

        Raises:
            IntentError: the folder cannot be read.
            HostError: a record cannot be written.
        """
        cache = self._read()
        outcomes = [self._outcome(path, cache) for path in cache.lists]
        listed = {path.name for path in cache.lists}
        outcomes += [
            self._of_no_list(container_id, results)
            for container_id, results in sorted(cache.results.items())
            if container_id not in listed
        ]
        outcomes += [
            Outcome(
                verdict=Verdict.DAMAGED,
                container_id="",
                where=error.subject,
                message=error.message,
            )
            for error in cache.broken
        ]
        return tuple(outcomes)

    def _read(self) -> _Cache:
        lists = [path for path in _files_of(self._folder) if _CONTAINER_ID.match(path.name)]
        results: dict[str, list[CachedResult]] = {}
        broken: list[IntentError] = []
        folder = self._folder / RESULTS
        for path in _files_of(folder) if folder.is_dir() else ():
            try:
                found = parse_result_file(_content(path), str(path))
            except FileNotFoundError:
                continue  # its pod went just now
            except IntentError as error:
                broken.append(error)
                continue
            results.setdefault(found.container_id, []).append(found)
        return _Cache(lists=tuple(lists), results=results, broken=tuple(broken))

    def _outcome(self, path: Path, cache: _Cache) -> Outcome:
        container_id = path.name
        results = cache.results.get(container_id, [])
        said = _who(container_id, str(path), results)
        if container_id in self._known:
            return replace(said, verdict=Verdict.HELD, message="the journal has it already")
        try:
            record = self._record(path, results, cache.broken)
        except _LeftError as left:
            return replace(said, verdict=left.verdict, message=left.message)
        except FileNotFoundError:
            return replace(said, verdict=Verdict.GONE, message="its pod went just now")
        except IntentError as error:
            words = f"{error.subject}: {error.message}"
            return replace(said, verdict=Verdict.DAMAGED, message=words)
        self._write(record)
        names = tuple(link.name for link in record.links)
        return replace(said, verdict=Verdict.ADOPTED, interfaces=names)

    def _of_no_list(self, container_id: str, results: list[CachedResult]) -> Outcome:
        said = _who(container_id, results[0].path, results)
        if container_id in self._known:
            return replace(said, verdict=Verdict.HELD, message="the journal has it already")
        why = f"{self._folder / container_id} is missing: Multus began to detach it"
        return replace(said, verdict=Verdict.HALF, message=why)

    def _record(
        self, path: Path, results: list[CachedResult], broken: Iterable[IntentError]
    ) -> AttachmentRecord:
        """The record of one container, whose namespace was looked into.

        Raises:
            _LeftError: it is half, gone, or cannot be looked at.
            IntentError: what Multus wrote cannot be understood.
        """
        container_id = path.name
        matched = match(parse_delegates(_content(path), str(path)), results)
        if matched.missing:
            files = [e.subject for e in broken if container_id in e.subject]
            because = f" ({', '.join(files)} cannot be read)" if files else ""
            missing = ", ".join(matched.missing)
            raise _LeftError(Verdict.HALF, f"no interface is known of {missing}{because}")
        links, first = matched.links, matched.links[0].cached
        netns = _sandbox_of(links)
        namespace, pod = first.args.get("K8S_POD_NAMESPACE"), first.args.get("K8S_POD_NAME")
        if not namespace or not pod:
            raise _LeftError(Verdict.DAMAGED, "no pod is named in cniArgs")
        parsed = [_parsed(link.cached) for link in links]
        made_in, cookie = _look(netns, links, parsed)
        whole: CniResult | None = None
        for link, each in zip(links, parsed, strict=True):
            whole = extend_result(whole, _completed(each, link.cached.ifname, netns))
        return AttachmentRecord(
            container_id=container_id,
            ifname=first.ifname,
            phase=Phase.ATTACHED,
            netns=netns,
            netns_device=made_in.device,
            netns_inode=made_in.inode,
            netns_cookie=cookie,
            namespace=namespace,
            pod=pod,
            pod_uid=first.args.get("K8S_POD_UID", ""),
            network_name=NETWORK_NAME,
            began_at=path.stat().st_mtime_ns // 1000,
            links=tuple(self._link(link) for link in links),
            result=render_result(whole or CniResult(), JOURNAL_VERSION),
            dialect=str(Dialect.NPWG),
            answer=render_result(parsed[0], JOURNAL_VERSION),
            adopted_files=(*(link.cached.path for link in links), str(path)),
        )

    def _link(self, link: CachedLink) -> LinkRecord:
        cached, delegate = link.cached, link.delegate
        namespace, _, name = delegate.name.rpartition("/")
        key = NetworkKey(kind=NetworkKind.NAD, namespace=namespace, name=name)
        told = cached.capability_args.get("CNIDeviceInfoFile")
        file = told if isinstance(told, str) else ""
        info = self._device_info.read(file, delegate.resource, delegate.device_id) if file else ""
        return LinkRecord(
            name=cached.ifname,
            network=str(key),
            backend="nad",
            delegate=_conf_of(cached).to_json(),
            delegate_result=json.dumps(cached.result, separators=(",", ":")),
            infiniband_guid=delegate.infiniband_guid,
            device_id=delegate.device_id,
            resource=delegate.resource,
            device_info=info,
            device_info_file=file,
        )


def adopt_at_start(adopter: MultusAdopter) -> bool:
    """What the node daemon does before it serves: adopt, and log what became of each container;
    False when some may still run that were not adopted. A cache that cannot be read keeps no daemon
    from starting.
    """
    try:
        outcomes = adopter.adopt()
    except DanmpyError as error:
        _log.error("cache of Multus not adopted", error=str(error))
        return False
    for each in outcomes:
        log = _log.warning if each.verdict.is_finding else _log.info
        log(
            "pod of Multus",
            verdict=str(each.verdict),
            pod=f"{each.namespace}/{each.pod}".strip("/"),
            container=each.container_id,
            interfaces=list(each.interfaces),
            file=each.where,
            why=each.message,
        )
    done = {Verdict.ADOPTED, Verdict.HELD, Verdict.GONE}
    return all(each.verdict in done for each in outcomes)


def drop_adopted(record: AttachmentRecord) -> None:
    """Take away what Multus remembers of an attachment that is no more; absent is success.

    What cannot be removed is logged: it is another tool's, and no reason to keep a record.
    """
    for file in record.adopted_files:
        try:
            Path(file).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("file of Multus not removed", file=file, problem=error.strerror)


def _files_of(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise IntentError(
            f"it cannot be read: {error.strerror}",
            hint="name the folder that Multus calls cniDir, as root",
            subject=str(folder),
        ) from error


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_MAX + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise IntentError(
            f"cannot be read: {error.strerror}", hint="it is left as it is", subject=str(path)
        ) from error
    if len(data) > _FILE_MAX:
        raise IntentError(
            f"is bigger than {_FILE_MAX} bytes", hint="it is left as it is", subject=str(path)
        )
    return data


def _who(container_id: str, where: str, results: list[CachedResult]) -> Outcome:
    """What is known of a container before it is looked at; the verdict is the caller's."""
    args = results[0].args if results else {}
    return Outcome(
        verdict=Verdict.HALF,
        container_id=container_id,
        where=where,
        namespace=args.get("K8S_POD_NAMESPACE", ""),
        pod=args.get("K8S_POD_NAME", ""),
        pod_uid=args.get("K8S_POD_UID", ""),
        interfaces=tuple(sorted(each.ifname for each in results)),
    )


def _sandbox_of(links: tuple[CachedLink, ...]) -> str:
    """The one namespace that all interfaces are in; names of interfaces are there only once."""
    paths = sorted({link.cached.netns for link in links} - {""})
    if not paths:
        raise _LeftError(Verdict.DAMAGED, "no network namespace is named")
    if len(paths) > 1:
        raise _LeftError(Verdict.DAMAGED, f"its interfaces are in {' and '.join(paths)}")
    names = [link.cached.ifname for link in links]
    if len(set(names)) < len(names):
        raise _LeftError(Verdict.DAMAGED, "two of its interfaces have one name")
    return paths[0]


def _parsed(cached: CachedResult) -> CniResult:
    """What the delegate answered."""
    try:
        return parse_result(cached.result)
    except WireError as error:
        raise _LeftError(Verdict.DAMAGED, f"{cached.path}: {error.message}") from None


def _completed(result: CniResult, ifname: str, netns: str) -> CniResult:
    """`result` with an entry for its interface, which delegates without a link leave out, and CNI
    before 0.3.0."""
    if result.interfaces:
        return result
    ips = tuple(replace(ip, interface=0) for ip in result.ips)
    return replace(result, interfaces=(CniInterface(name=ifname, sandbox=netns),), ips=ips)


def _look(
    netns: str, links: tuple[CachedLink, ...], results: list[CniResult]
) -> tuple[NetnsId, int]:
    """The namespace at `netns` and its cookie, when it is the one that the interfaces were made in:
    one of them is there, and none has another's MAC.
    """
    try:
        made_in = netns_id_of(netns)
        require_other_than_home(netns)
        with enter_pod(netns) as pod:
            there, cookie = pod.read_links(), pod.cookie
    except WireError as error:
        raise _LeftError(Verdict.GONE, error.message) from None
    except HostError as error:
        raise _LeftError(Verdict.REFUSED, error.message) from None
    told = {each.name: each.mac for each in _inside(results) if each.mac}
    other = [
        f"{name} has the MAC {there[name].mac} and not {mac}"
        for name, mac in told.items()
        if name in there and there[name].mac.lower() != mac.lower()
    ]
    if told and (other or not there.keys() & told.keys()):
        why = "; ".join(other) or f"it has none of {', '.join(told)}"
        raise _LeftError(Verdict.GONE, f"another namespace is at {netns}: {why}")
    later = {link.cached.ifname for link in links if not link.is_listed}
    if lost := sorted(later - there.keys()):
        raise _LeftError(Verdict.HALF, f"{', '.join(lost)} is in no list of delegates, nor there")
    return made_in, cookie


def _inside(results: Iterable[CniResult]) -> Iterator[CniInterface]:
    return (each for result in results for each in result.interfaces if each.sandbox)


def _conf_of(cached: CachedResult) -> DelegateConf:
    """The configuration as the delegate was called with."""
    conf = parse_conf(cached.config, cached.path, name=cached.network)
    said = cached.result.get("cniVersion")
    version = said if said in KNOWN_VERSIONS else max(conf.versions, key=version_key, default="")
    return DelegateConf(
        name=conf.name,
        version=version if version in KNOWN_VERSIONS else KNOWN_VERSIONS[0],
        plugins=with_runtime_config(conf.plugins, cached.capability_args),
        source=cached.path,
        disable_check=conf.disable_check,
        disable_gc=conf.disable_gc,
        args={key: value for key, value in cached.args.items() if key not in _OWN_ARGS},
    )

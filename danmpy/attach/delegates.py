"""Delegate CNI plugins: call them in order, read what they say, undo what they half did.

The rules of calling are the CNI specification 1.1.0, sections 2 to 4, seen from the runtime's
side: a list is walked forward for ADD and CHECK, backward for DEL, with the last result as
``prevResult``. libcni undoes nothing after a failed ADD; here that is part of ADD.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from danmpy.api.cni import CniResult, Verb, parse_result, render_result, version_key
from danmpy.api.specs import NetworkSpec
from danmpy.attach.delegate_confs import (
    STATIC_IPAM,
    DelegateConf,
    choose_version,
    ipam_type,
    read_conf,
    read_conf_names,
    with_addresses,
    with_runtime_config,
)
from danmpy.attach.processes import ProcessOutcome, Runner, run_process
from danmpy.attach.values import IPInterface, PodIdentity
from danmpy.errors import (
    DanmpyError,
    DelegateError,
    NotReadyError,
    UnavailableError,
    WireError,
)

DEFAULT_TIMEOUT_S: Final = 30.0
"""Seconds a plugin may take for one verb; kubelet's own limit for a whole sandbox is minutes."""

PROBE_TIMEOUT_S: Final = 5.0
DEFAULT_ENVIRON: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}
_STDERR_KEPT: Final = 500
"""Characters of a plugin's stderr that are quoted in an error."""

_CODE_TRY_LATER: Final = 11
_CODES_UNAVAILABLE: Final = frozenset({50, 51})
_SINCE_PREV_ON_DEL: Final = (0, 4, 0)
_SINCE_CHECK: Final = (0, 4, 0)
_SINCE_GC: Final = (1, 1, 0)

_Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegateResult:
    """The final result of an ADD: parsed, and as JSON text in the delegate's own words."""

    result: CniResult
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Whom a call is about; empty for GC."""

    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: str = ""


class Delegates:
    """Calls delegate plugins; may be used by several threads.

    `environ` is the environment that plugins inherit besides ``CNI_*``: some read more than PATH
    (danm-cni/danm #260).
    """

    def __init__(
        self,
        conf_dir: Path,
        bin_dirs: tuple[Path, ...],
        *,
        run: Runner = run_process,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        environ: Mapping[str, str] = DEFAULT_ENVIRON,
    ) -> None:
        self._conf_dir = conf_dir
        self._bin_dirs = bin_dirs
        self._run = run
        self._timeout_s = timeout_s
        self._environ = {k: v for k, v in environ.items() if not k.startswith("CNI_")}
        self._versions: dict[tuple[str, int, int, int], frozenset[str] | None] = {}

    def conf_names(self) -> frozenset[str]:
        """NetworkIDs that have a configuration file on this node now."""
        return read_conf_names(self._conf_dir)

    def render(
        self,
        network: NetworkSpec,
        *,
        addresses: tuple[IPInterface, ...] | None = None,
        mac: str | None = None,
    ) -> DelegateConf:
        """The configuration of `network` for one attachment.

        With `addresses` the file's IPAM is replaced, so that the interface gets exactly these;
        without, the file's own stays.

        Raises:
            NotReadyError: the file or a plugin binary is missing.
            IntentError: the file is wrong, or no CNI version suits it and its plugins.
        """
        conf = read_conf(self._conf_dir, network)
        plugins = conf.plugins
        if addresses:
            plugins = with_addresses(plugins, network, addresses)
            self._require_static(network)
        kinds = [str(plugin["type"]) for plugin in plugins]
        supported = {kind: self._supported(self._binary(kind)) for kind in kinds}
        for kind in filter(None, map(ipam_type, plugins)):
            # A missing IPAM plugin of the file's own is the delegate's to report.
            if binary := self._find(kind):
                supported[kind] = self._supported(binary)
        return DelegateConf(
            name=conf.name,
            version=choose_version(conf, supported),
            plugins=with_runtime_config(plugins, {"mac": mac}),
            source=str(conf.path),
            addresses=addresses or (),
            mac=mac or "",
            disable_check=conf.disable_check,
        )

    def add(self, conf: DelegateConf, identity: PodIdentity, ifname: str) -> DelegateResult:
        """Attach: all plugins of `conf` forward. When one fails, or the delegate did not take the
        addresses or MAC it was given, all that were called are undone first.

        Raises:
            DelegateError: with the plugin's own words.
            NotReadyError: a plugin said "try again later", or its binary is missing.
        """
        target = _target(conf, identity, ifname)
        last: _Document | None = None
        for position, plugin in enumerate(conf.plugins):
            try:
                stdout = self._call(Verb.ADD, conf, plugin, target, _prev(last))
                last = _read_result(conf, plugin, stdout, last)
            except DanmpyError as error:
                raise self._undone(error, conf, position, target, last) from error
        document = last or {"cniVersion": conf.version}
        try:
            result = parse_result(document)
            _require_obeyed(conf, result, ifname)
        except DanmpyError as error:
            last_position = len(conf.plugins) - 1
            raise self._undone(error, conf, last_position, target, last) from error
        return DelegateResult(result=result, text=json.dumps(document, separators=(",", ":")))

    def delete(
        self, conf: DelegateConf, identity: PodIdentity, ifname: str, prev: str = ""
    ) -> None:
        """Detach: all plugins backward, each one even if another failed. `prev` is the text of the
        ADD's result, empty when there was none.

        Raises:
            DelegateError: what failed, all in one.
        """
        # A namespace that is gone is not named: plugins then only free what is outside it.
        netns = identity.netns if identity.netns and Path(identity.netns).exists() else ""
        target = _target(conf, identity, ifname, netns=netns)
        last = _load_prev(prev)
        errors = self._delete_back(conf, len(conf.plugins) - 1, target, last)
        if errors:
            raise DelegateError(
                "; ".join(str(error) for error in errors),
                hint="the same call can be repeated",
                subject=conf.source,
            )

    def check(self, conf: DelegateConf, identity: PodIdentity, ifname: str, prev: str) -> None:
        """Is the attachment as the delegate made it? Nothing is asked of a delegate that cannot
        tell (CNI before 0.4.0) or whose file says disableCheck.

        Raises:
            DelegateError: what the first plugin that objects says.
        """
        if conf.disable_check or version_key(conf.version) < _SINCE_CHECK:
            return
        target = _target(conf, identity, ifname)
        last = _load_prev(prev)
        for plugin in conf.plugins:
            self._call(Verb.CHECK, conf, plugin, target, _prev(last))

    def collect(self, conf: DelegateConf, valid: Iterable[tuple[str, str]]) -> None:
        """GC: everything but the `valid` (container id, interface name) pairs of this
        configuration is stale. Delegates before CNI 1.1.0 are not asked.

        Raises:
            DelegateError: what failed, all in one.
        """
        if version_key(conf.version) < _SINCE_GC:
            return
        attachments = [{"containerID": cid, "ifname": name} for cid, name in sorted(valid)]
        # Under the name of the specification and the one that libcni also writes.
        keys = ("cni.dev/valid-attachments", "cni.dev/attachments")
        extra = dict.fromkeys(keys, attachments)
        errors = []
        for plugin in conf.plugins:
            try:
                self._call(Verb.GC, conf, plugin, _Target(), extra)
            except DanmpyError as error:
                errors.append(str(error))
        if errors:
            raise DelegateError("; ".join(errors), hint="GC is repeated later", subject=conf.source)

    def _undone(
        self,
        error: DanmpyError,
        conf: DelegateConf,
        position: int,
        target: _Target,
        last: _Document | None,
    ) -> DanmpyError:
        """Undo plugins 0..`position` and give back `error`, with what could not be undone."""
        left = self._delete_back(conf, position, target, last)
        if not left:
            return error
        words = "; ".join(str(problem) for problem in left)
        return DelegateError(
            f"{error.message}; and undoing it failed: {words}",
            hint=error.hint,
            subject=error.subject,
        )

    def _delete_back(
        self, conf: DelegateConf, position: int, target: _Target, last: _Document | None
    ) -> list[DanmpyError]:
        keeps_prev = version_key(conf.version) >= _SINCE_PREV_ON_DEL
        errors: list[DanmpyError] = []
        for plugin in reversed(conf.plugins[: position + 1]):
            try:
                self._call(Verb.DEL, conf, plugin, target, _prev(last) if keeps_prev else {})
            except DanmpyError as error:
                errors.append(error)
        return errors

    def _call(
        self,
        verb: Verb,
        conf: DelegateConf,
        plugin: _Document,
        target: _Target,
        extra: _Document,
    ) -> bytes:
        kind = str(plugin["type"])
        request = {**plugin, "name": conf.name, "cniVersion": conf.version, **extra}
        environ = {
            **self._environ,
            "CNI_COMMAND": verb.value,
            "CNI_CONTAINERID": target.container_id,
            "CNI_NETNS": target.netns,
            "CNI_IFNAME": target.ifname,
            "CNI_ARGS": target.args,
            "CNI_PATH": ":".join(map(str, self._bin_dirs)),
        }
        binary = self._binary(kind)
        outcome = self._run(binary, environ, json.dumps(request).encode(), self._timeout_s)
        if outcome.timed_out:
            raise DelegateError(
                f"plugin {kind} did not finish {verb} within {self._timeout_s:g} s and was "
                f"killed{_quoted(outcome.stderr)}",
                hint="see the plugin's own log",
                subject=conf.source,
            )
        if outcome.status != 0:
            raise _failure(f"plugin {kind} failed {verb}", outcome, conf.source)
        return outcome.stdout

    def _require_static(self, network: NetworkSpec) -> None:
        if self._find(STATIC_IPAM) is None:
            raise NotReadyError(
                f"the addresses are danmpy's, and the IPAM plugin {STATIC_IPAM} that hands them to "
                f"a delegate is not in {_listed(self._bin_dirs)}",
                hint="install the reference CNI plugins (Debian: containernetworking-plugins)",
                subject=str(network.key),
            )

    def _binary(self, kind: str) -> Path:
        binary = self._find(kind)
        if binary is None:
            raise NotReadyError(
                f"the CNI plugin {kind} is not in {_listed(self._bin_dirs)}",
                hint="install the plugin, or correct cni.bin_dirs",
            )
        return binary

    def _find(self, kind: str) -> Path | None:
        paths = (directory / kind for directory in self._bin_dirs)
        return next((p for p in paths if p.is_file() and os.access(p, os.X_OK)), None)

    def _supported(self, binary: Path) -> frozenset[str] | None:
        """The versions that `binary` says it knows; None when it does not answer VERSION. Asked
        again only when the file changes."""
        facts = binary.stat()
        key = (str(binary), facts.st_mtime_ns, facts.st_size, facts.st_ino)
        if key not in self._versions:
            self._versions[key] = self._probe(binary)
        return self._versions[key]

    def _probe(self, binary: Path) -> frozenset[str] | None:
        environ = {
            **self._environ,
            "CNI_COMMAND": Verb.VERSION.value,
            "CNI_PATH": ":".join(map(str, self._bin_dirs)),
        }
        outcome = self._run(binary, environ, b'{"cniVersion":"1.0.0"}', PROBE_TIMEOUT_S)
        document = _json_object(outcome.stdout) if outcome.status == 0 else None
        versions = (document or {}).get("supportedVersions")
        if not isinstance(versions, list) or not versions:
            return None
        return frozenset(map(str, versions))


def _target(
    conf: DelegateConf, identity: PodIdentity, ifname: str, *, netns: str | None = None
) -> _Target:
    """CNI_ARGS as kubelet's runtimes send them, and MAC, which the reference plugins read."""
    args = {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": identity.namespace,
        "K8S_POD_NAME": identity.pod,
        "K8S_POD_INFRA_CONTAINER_ID": identity.container_id,
        "K8S_POD_UID": identity.uid,
        "MAC": conf.mac,
    }
    return _Target(
        container_id=identity.container_id,
        netns=identity.netns if netns is None else netns,
        ifname=ifname,
        args=";".join(f"{key}={value}" for key, value in args.items() if value),
    )


def _prev(last: _Document | None) -> _Document:
    return {} if last is None else {"prevResult": last}


def _load_prev(text: str) -> _Document | None:
    return _json_object(text.encode()) if text else None


def _read_result(
    conf: DelegateConf, plugin: _Document, stdout: bytes, last: _Document | None
) -> _Document | None:
    """What the next plugin gets. A plugin that prints nothing changes nothing (as in DANM)."""
    if not stdout.strip():
        return last
    document = _json_object(stdout)
    if document is None:
        raise DelegateError(
            f"plugin {plugin['type']} printed no JSON object{_quoted(stdout)}",
            hint="a plugin may print nothing but its result on stdout",
            subject=conf.source,
        )
    try:
        result = parse_result(document)
    except WireError as error:
        raise DelegateError(
            f"plugin {plugin['type']}: {error.message}", hint=error.hint, subject=conf.source
        ) from error
    said = document.get("cniVersion", conf.version)
    if said == conf.version or version_key(conf.version) < (0, 3, 0):
        return {**document, "cniVersion": said}
    return render_result(result, conf.version)


def _require_obeyed(conf: DelegateConf, result: CniResult, ifname: str) -> None:
    """Did the delegate take the addresses and the MAC that it was given?"""
    missing = sorted(str(a) for a in set(conf.addresses) - {ip.address for ip in result.ips})
    if missing:
        raise DelegateError(
            f"the delegate did not assign {', '.join(missing)}",
            hint="its plugin ignores ipam: leave ip and ip6 out for this network",
            subject=conf.source,
        )
    macs = {i.mac for i in result.interfaces if i.name == ifname and i.sandbox and i.mac}
    if conf.mac and macs and conf.mac.lower() not in macs:
        raise DelegateError(
            f"the delegate did not set the MAC {conf.mac} but {', '.join(sorted(macs))}",
            hint='add "capabilities": {"mac": true} if its plugin can, or leave mac out',
            subject=conf.source,
        )


def _failure(what: str, outcome: ProcessOutcome, source: str) -> DanmpyError:
    """The error that a plugin's answer amounts to; its own code decides about trying again."""
    document = _json_object(outcome.stdout)
    if document is None or "msg" not in document:
        said = _quoted(outcome.stderr or outcome.stdout) or ": it said nothing"
        message = f"{what} with exit status {outcome.status}{said}"
        return DelegateError(message, hint="see the plugin's own log", subject=source)
    code, details = document.get("code"), document.get("details")
    words = f"{document['msg']}; {details}" if details else str(document["msg"])
    message = f"{what} with code {code}: {words}{_quoted(outcome.stderr)}"
    if code in _CODES_UNAVAILABLE:
        return UnavailableError(message, hint="see the plugin's own log", subject=source)
    if code == _CODE_TRY_LATER:
        return NotReadyError(message, hint="the plugin asks to try again later", subject=source)
    return DelegateError(message, hint="see the plugin's own log", subject=source)


def _quoted(output: bytes) -> str:
    text = " ".join(output.decode("utf-8", "replace").split())
    return f": {text[-_STDERR_KEPT:]}" if text else ""


def _json_object(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _listed(directories: tuple[Path, ...]) -> str:
    return ", ".join(map(str, directories)) or "cni.bin_dirs, which is empty"

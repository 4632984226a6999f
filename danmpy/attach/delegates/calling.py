"""Delegate CNI plugins: call them in order, undo what they half did.

The rules of calling are the CNI specification 1.1.0, sections 2 to 4, seen from the runtime's
side: a list is walked forward for ADD and CHECK, backward for DEL, with the last result as
``prevResult``. libcni undoes nothing after a failed ADD; here that is part of ADD.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import structlog

from danmpy.api.cni import CniResult, Verb, parse_result, version_key
from danmpy.api.specs import NetworkKind, NetworkSpec, PluginAsk
from danmpy.attach.delegates.answers import (
    Document,
    failure,
    json_object,
    overdue,
    quoted,
    read_result,
    require_obeyed,
)
from danmpy.attach.delegates.binaries import Binaries
from danmpy.attach.delegates.confs import DelegateConf, choose_version
from danmpy.attach.delegates.files import read_conf, read_conf_names
from danmpy.attach.delegates.processes import Runner, run_process
from danmpy.attach.delegates.rendering import (
    STATIC_IPAM,
    asked_capabilities,
    on_device,
    require_honoured,
    with_addresses,
    with_args,
    with_device_id,
    with_runtime_config,
    without_own_ipam,
)
from danmpy.attach.delegates.tracing import current_trace
from danmpy.attach.values import IPInterface, PodIdentity
from danmpy.errors import DanmpyError, DelegateError, NotReadyError
from danmpy.kernel.podnet import enter_pod

_log = structlog.get_logger(__name__)

DEFAULT_TIMEOUT_S: Final = 30.0
"""Seconds a plugin may take for one verb; kubelet's own limit for a whole sandbox is minutes."""

STATUS_TIMEOUT_S: Final = 2.0
"""A runtime asks STATUS every five seconds, and holds the node's health until it is answered."""

DEFAULT_ENVIRON: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

_SINCE_PREV_ON_DEL: Final = (0, 4, 0)
_SINCE_CHECK: Final = (0, 4, 0)
_SINCE_GC: Final = (1, 1, 0)
_SINCE_STATUS: Final = (1, 1, 0)

_LOGGED: Final = frozenset({Verb.ADD, Verb.DEL})
"""Verbs of which a successful plugin's stderr is logged; the others come every few seconds."""

_NOTHING: Final = PluginAsk()
_NO_RUNTIME: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegateResult:
    """The final result of an ADD: parsed, and as JSON text in the delegate's own words."""

    result: CniResult
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Whom a call is about; empty for GC and STATUS."""

    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: str = ""


class Delegates:
    """Calls delegate plugins; may be used by several threads.

    `environ` is the environment that plugins inherit besides ``CNI_*``: some read more than PATH
    (danm-cni/danm #260). `strict` refuses what is asked and no plugin declares that it can do
    (NPWG 1.3); else it is passed on as Multus does, by the older CNI_ARGS too.
    """

    def __init__(
        self,
        conf_dir: Path,
        bin_dirs: tuple[Path, ...],
        *,
        run: Runner = run_process,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        environ: Mapping[str, str] = DEFAULT_ENVIRON,
        strict: bool = True,
    ) -> None:
        self._conf_dir = conf_dir
        self._run = run
        self._timeout_s = timeout_s
        self._environ = {k: v for k, v in environ.items() if not k.startswith("CNI_")}
        self._strict = strict
        self._binaries = Binaries(bin_dirs, run, self._environ)

    def conf_names(self) -> frozenset[str]:
        """NetworkIDs that have a configuration file on this node now."""
        return read_conf_names(self._conf_dir)

    def render(  # noqa: PLR0913 - what the parts of an attachment have each to say
        self,
        network: NetworkSpec,
        *,
        addresses: tuple[IPInterface, ...] | None = None,
        mac: str | None = None,
        ask: PluginAsk = _NOTHING,
        device_id: str = "",
        device: str = "",
        runtime: Mapping[str, Any] = _NO_RUNTIME,
        device_info_file: str = "",
    ) -> DelegateConf:
        """The configuration of `network` for one attachment.

        With `addresses` its IPAM is replaced, so that the interface gets exactly these; without,
        its own stays. `mac` and `ask` are the pod's, `runtime` what the runtime offers to its
        default network. `device_id` is the device plugin's device, `device_info_file` where the
        plugin may describe it, `device` the host device that its ``master`` becomes.

        Raises:
            NotReadyError: the file or a plugin binary is missing.
            IntentError: the configuration is wrong, no plugin can do what is asked, or no CNI
                version suits it and its plugins.
        """
        conf = read_conf(self._conf_dir, network)
        asked = asked_capabilities(ask, mac)
        # DANM's networks are no NADs: a MAC may reach their plugins by CNI_ARGS alone, and it is
        # looked at afterwards whether it has.
        by_capability = network.key.kind is NetworkKind.NAD
        needed = [name for name in asked if by_capability or name != "mac"]
        require_honoured(conf.plugins, needed, network, strict=self._strict)
        plugins = conf.plugins
        if addresses:
            plugins = with_addresses(plugins, network, addresses)
            self._require_static(network)
        plugins = without_own_ipam(plugins)
        plugins = with_args(on_device(plugins, device), ask.cni_args)
        ours = {"deviceID": device_id, "CNIDeviceInfoFile": device_info_file, **asked}
        offered = {**runtime, **{name: value for name, value in ours.items() if value}}
        must = self._strict or not by_capability
        return DelegateConf(
            name=conf.name,
            version=choose_version(conf, self._binaries.versions_of(plugins)),
            plugins=with_device_id(with_runtime_config(plugins, offered), device_id),
            source=conf.source,
            addresses=addresses or (),
            mac=mac or "" if must else "",
            disable_check=conf.disable_check,
            disable_gc=conf.disable_gc,
            ips=ask.ips if self._strict else (),
            args={} if self._strict else _legacy_args(ask, mac),
        )

    def add(self, conf: DelegateConf, identity: PodIdentity, ifname: str) -> DelegateResult:
        """Attach: all plugins of `conf` forward. When one fails, or the delegate did not take the
        addresses or MAC it was given, all that were called are undone first.

        Raises:
            DelegateError: with the plugin's own words.
            NotReadyError: a plugin said "try again later", or its binary is missing.
        """
        target = _target(conf, identity, ifname)
        last: Document | None = None
        for position, plugin in enumerate(conf.plugins):
            try:
                stdout = self._call(Verb.ADD, conf, plugin, target, _prev(last))
                last = read_result(conf, str(plugin["type"]), stdout, last)
            except DanmpyError as error:
                raise self._undone(error, conf, position, target, last) from error
        document = last or {"cniVersion": conf.version}
        try:
            result = parse_result(document)
            require_obeyed(conf, result, ifname)
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
                "; ".join(error.message for error in errors),
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
        configuration is stale. Delegates before CNI 1.1.0, and those whose file says disableGC, are
        not asked.

        Raises:
            DelegateError: what failed, all in one.
        """
        if conf.disable_gc or version_key(conf.version) < _SINCE_GC:
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
                errors.append(error.message)
        if errors:
            raise DelegateError("; ".join(errors), hint="GC is repeated later", subject=conf.source)

    def status(self, conf: DelegateConf) -> None:
        """Could the delegate serve an ADD? Delegates before CNI 1.1.0 are not asked.

        Raises:
            UnavailableError: the first plugin that says no, in its own words.
            DelegateError: it failed otherwise.
        """
        if version_key(conf.version) < _SINCE_STATUS:
            return
        for plugin in conf.plugins:
            self._call(Verb.STATUS, conf, plugin, _Target(), {})

    def _undone(
        self,
        error: DanmpyError,
        conf: DelegateConf,
        position: int,
        target: _Target,
        last: Document | None,
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
        self, conf: DelegateConf, position: int, target: _Target, last: Document | None
    ) -> list[DanmpyError]:
        keeps_prev = version_key(conf.version) >= _SINCE_PREV_ON_DEL
        errors: list[DanmpyError] = []
        for plugin in reversed(conf.plugins[: position + 1]):
            try:
                self._call(Verb.DEL, conf, plugin, target, _prev(last) if keeps_prev else {})
            except DanmpyError as error:
                if _only_misses_the_link(error, target):
                    _log.info("plugin misses what is gone", plugin=plugin["type"], said=str(error))
                else:
                    errors.append(error)
        return errors

    def _call(
        self,
        verb: Verb,
        conf: DelegateConf,
        plugin: Document,
        target: _Target,
        extra: Document,
    ) -> bytes:
        kind = str(plugin["type"])
        request = {**plugin, "name": conf.name, "cniVersion": conf.version, **extra}
        environ = {
            **self._environ,
            **current_trace(),
            "CNI_COMMAND": verb.value,
            "CNI_CONTAINERID": target.container_id,
            "CNI_NETNS": target.netns,
            "CNI_IFNAME": target.ifname,
            "CNI_ARGS": target.args,
            "CNI_PATH": self._binaries.path,
        }
        binary = self._binaries.require(kind)
        seconds = min(self._timeout_s, STATUS_TIMEOUT_S) if verb is Verb.STATUS else self._timeout_s
        outcome = self._run(binary, environ, json.dumps(request).encode(), seconds)
        if outcome.timed_out:
            raise overdue(f"plugin {kind} did not finish {verb}", outcome, seconds, conf.source)
        if outcome.status != 0:
            raise failure(f"plugin {kind} failed {verb}", outcome, conf.source)
        if verb in _LOGGED and (said := quoted(outcome.stderr)):
            _log.info(
                "plugin succeeded and said",
                plugin=kind,
                verb=verb.value,
                network=conf.name,
                container=target.container_id,
                interface=target.ifname,
                stderr=said,
            )
        return outcome.stdout

    def _require_static(self, network: NetworkSpec) -> None:
        if self._binaries.find(STATIC_IPAM) is None:
            raise NotReadyError(
                f"the addresses are danmpy's, and the IPAM plugin {STATIC_IPAM} that hands them to "
                f"a delegate is not in {self._binaries.words}",
                hint="install the reference CNI plugins (Debian: containernetworking-plugins)",
                subject=str(network.key),
            )


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
        **conf.args,
    }
    return _Target(
        container_id=identity.container_id,
        netns=identity.netns if netns is None else netns,
        ifname=ifname,
        args=";".join(f"{key}={value}" for key, value in args.items() if value),
    )


def _legacy_args(ask: PluginAsk, mac: str | None) -> dict[str, str]:
    """What Multus says in CNI_ARGS besides, for plugins that know no capabilities."""
    args = {"IP": ",".join(ask.ips), "MAC": mac or ""}
    return {key: value for key, value in args.items() if value}


def _prev(last: Document | None) -> Document:
    return {} if last is None else {"prevResult": last}


def _load_prev(text: str) -> Document | None:
    return json_object(text.encode()) if text else None


def _only_misses_the_link(error: DanmpyError, target: _Target) -> bool:
    """Has a DEL failed for nothing but that the interface is gone already?

    A DEL must succeed then (CNI specification 1.1.0), and the reference plugins sbr and host-device
    of 1.1.1 fail: once detached, an attachment whose record outlived a crash could never be
    detached again. They say it in the words of their netlink library; the namespace is looked into
    as well, because a plugin may mean another link.
    """
    if not target.netns or "link not found" not in error.message.lower():
        return False
    try:
        with enter_pod(target.netns) as pod:
            return target.ifname not in pod.read_links()
    except DanmpyError:
        return False

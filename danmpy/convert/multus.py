"""From a configuration of Multus to one of danmpy. Pure.

Understood are the plugin's configuration (``multus``, alone or in a list), the shim's
(``multus-shim``) and the daemon's (``daemon-config.json``), up to Multus 4.3. No key is dropped in
silence: each is mapped, or named with the reason. Multus reads keys without regard to case, as Go's
JSON does, and so does this.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from danmpy.api.jsontext import a_json
from danmpy.api.words import is_object_name
from danmpy.convert.multus_keys import DAEMON_KEYS, FIXED, KNOWN, RUNTIME_CAPABILITIES
from danmpy.convert.values import Converted, DelegateFile, FoundConf, Note, Verdict
from danmpy.errors import IntentError

PLUGIN_TYPES: Final = frozenset({"multus", "multus-shim"})

DEFAULT_CONF_DIR: Final = "/etc/cni/multus/net.d"
DEFAULT_BIN_DIR: Final = "/opt/cni/bin"
DEFAULT_CACHE_DIR: Final = "/var/lib/cni/multus"
DEFAULT_NAMESPACE: Final = "kube-system"
_DEFAULT_RUNTIME_DIR: Final = "/etc/cni/net.d"

_MOUNT: Final = "/host/"
"""Where the daemon's container has the host's folders, in Multus's manifests."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*\Z")
"""CNI specification 1.1.0, section 1: ``name``."""


def convert_multus(
    document: Mapping[str, Any],
    source: str,
    confs: Sequence[FoundConf] = (),
    write_dir: str = "",
) -> Converted:
    """The settings that make danmpy do what Multus does by `document`, which is from `source`.

    `confs` are the configuration files that the references in it may mean, in libcni's order;
    `write_dir` is the folder that the delegates' files will be in (empty: Multus's own).

    Raises:
        IntentError: it is no configuration of Multus, or a value in it has the wrong type.
    """
    plugin, beside = _plugin_of(document, source)
    return _Conversion(plugin, source, confs, write_dir).run(beside)


def references(document: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """The paths of files and folders that `document` names networks by.

    Raises:
        IntentError: as `convert_multus`.
    """
    plugin, _ = _plugin_of(document, source)
    read = _Reader(plugin, source)
    named = (read.text("clusterNetwork"), *read.texts("defaultNetworks"))
    return tuple(_host_path(text) for text in named if text.startswith("/"))


def conf_folders(document: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """The folders in which `document` looks up names.

    Raises:
        IntentError: as `convert_multus`.
    """
    plugin, _ = _plugin_of(document, source)
    read = _Reader(plugin, source)
    named = [read.text("confDir") or DEFAULT_CONF_DIR]
    if not read.text("clusterNetwork") and not read.objects("delegates"):
        named.append(read.text("multusAutoconfigDir") or _DEFAULT_RUNTIME_DIR)
    return tuple(dict.fromkeys(map(_host_path, named)))


def _plugin_of(document: Mapping[str, Any], source: str) -> tuple[Mapping[str, Any], list[str]]:
    """Multus's own object, and the plugins that stand beside it in a list."""
    plugins = document.get("plugins")
    if plugins is None:
        kind = document.get("type", "")
        if kind not in {"", *PLUGIN_TYPES}:
            raise _foreign(source, f"its type is {kind!r}")
        if not kind and not {key.lower() for key in document} & _MARKS:
            raise _foreign(source, "it has no type and no key of Multus's daemon")
        return document, []
    if not isinstance(plugins, list) or not all(isinstance(each, dict) for each in plugins):
        raise IntentError("'plugins' is no list of objects", hint=_CORRECT, subject=source)
    own = [each for each in plugins if each.get("type") in PLUGIN_TYPES]
    if len(own) != 1:
        raise _foreign(source, f"{len(own)} of its plugins are of type multus")
    beside = [str(each.get("type")) for each in plugins if each is not own[0]]
    head = {key: value for key, value in document.items() if key != "plugins"}
    return {**head, **own[0]}, beside


_CORRECT: Final = "correct the configuration"
_MARKS: Final = frozenset(
    {key.lower() for key in DAEMON_KEYS} | {"clusternetwork", "delegates", "readinessindicatorfile"}
)
"""A configuration without a type that has one of these keys is the daemon's."""


def _foreign(source: str, why: str) -> IntentError:
    return IntentError(
        f"it is no configuration of Multus: {why}",
        hint="name the file that Multus reads: 00-multus.conf, or daemon-config.json",
        subject=source,
    )


class _Reader:
    """The keys of a configuration, found without regard to case."""

    def __init__(self, document: Mapping[str, Any], source: str) -> None:
        self._source = source
        self._values = {key.lower(): (key, value) for key, value in document.items()}

    def value(self, key: str) -> Any:
        """What stands under `key`; None when nothing does."""
        return self._values.get(key.lower(), (key, None))[1]

    def has(self, key: str) -> bool:
        return self.value(key) is not None

    def text(self, key: str) -> str:
        value = self.value(key)
        return "" if value is None else str(self._typed(key, value, str, "a text"))

    def flag(self, key: str) -> bool:
        return bool(self._typed(key, self.value(key), bool, "true or false"))

    def texts(self, key: str) -> list[str]:
        value = self.value(key)
        items = [] if value is None else self._typed(key, value, list, "a list of texts")
        return [self._typed(key, item, str, "a list of texts") for item in items]

    def objects(self, key: str) -> list[Mapping[str, Any]]:
        value = self.value(key)
        items = [] if value is None else self._typed(key, value, list, "a list of objects")
        return [self._typed(key, item, dict, "a list of objects") for item in items]

    def number(self, key: str) -> int:
        value = self._typed(key, self.value(key), int, "a number")
        if isinstance(value, bool):
            raise self._wrong(key, value, "a number")
        return int(value)

    def _typed(self, key: str, value: Any, kind: type, words: str) -> Any:
        if not isinstance(value, kind):
            raise self._wrong(key, value, words)
        return value

    def _wrong(self, key: str, value: object, words: str) -> IntentError:
        return IntentError(
            f"{key} is {a_json(value)}, and must be {words}", hint=_CORRECT, subject=self._source
        )


class _Conversion:
    """One run; its parts fill settings, notes and files."""

    def __init__(
        self,
        document: Mapping[str, Any],
        source: str,
        confs: Sequence[FoundConf],
        write_dir: str,
    ) -> None:
        self._document = document
        self._read = _Reader(document, source)
        self._confs = confs
        self._conf_dir = write_dir or _host_path(self._read.text("confDir") or DEFAULT_CONF_DIR)
        self._write_dir = write_dir
        self._settings: dict[str, dict[str, Any]] = {"intent": {}, "cni": {}, "npwg": {}}
        self._notes: dict[str, Note] = {}
        self._more_notes: list[Note] = []
        self._files: dict[str, DelegateFile] = {}
        self._is_daemon = any(self._read.has(key) for key in DAEMON_KEYS) or (
            self._read.text("type") == "multus-shim"
        )

    def run(self, beside: Iterable[str]) -> Converted:
        """Everything, in the order of the keys in the file."""
        self._intent()
        self._folders()
        self._networks()
        self._namespaces()
        self._others()
        notes = [self._note_of(key) for key in self._document]
        defaults = [
            replace(note, key=f"{key} (default)")
            for key, note in self._notes.items()
            if not self._read.has(key)
        ]
        notes += [*defaults, *self._more_notes]
        for kind in beside:
            words = "it is in the list beside Multus: add it to danmpy's list where it is wanted"
            notes.append(Note(key=f"plugin {kind}", verdict=Verdict.BY_HAND, words=words))
        return Converted(
            settings={name: group for name, group in self._settings.items() if group},
            notes=tuple(notes),
            files=tuple(self._files.values()),
            steps=tuple(self._steps()),
        )

    # The parts

    def _intent(self) -> None:
        kubeconfig = self._read.text("kubeconfig")
        in_cluster = bool(kubeconfig) or self._is_daemon
        self._set("intent.source", "kubernetes" if in_cluster else "folder")
        if not in_cluster:
            words = "Multus asks no API server then: its delegates are all that pods get"
            self._mapped("kubeconfig", "intent.source", words)
        if kubeconfig:
            words = "danmpy's own account reads the API server, as Multus's may not do all of that"
            self._mapped("kubeconfig", "intent.source", words)

    def _folders(self) -> None:
        read = self._read
        self._set("cni.conf_dir", self._conf_dir)
        why = "here names of CNI configurations are looked up"
        if self._write_dir:
            own = _host_path(read.text("confDir") or DEFAULT_CONF_DIR)
            why = f"--write-dir; NetworkAttachmentDefinitions without config find theirs in {own} "
            why += "with Multus: move those files as well"
        self._mapped("confDir", "cni.conf_dir", why)
        self._set("cni.bin_dirs", [_host_path(read.text("binDir") or DEFAULT_BIN_DIR)])
        self._mapped("binDir", "cni.bin_dirs")
        self._set("cni.multus_cache", _host_path(read.text("cniDir") or DEFAULT_CACHE_DIR))
        self._mapped("cniDir", "cni.multus_cache", "the pods that run are adopted from there")
        if ready := read.text("readinessindicatorfile"):
            self._set("cni.readiness_file", _host_path(ready))
            why = "nothing waits 45 seconds: ADD is refused with code 11 and tried again"
            self._mapped("readinessindicatorfile", "cni.readiness_file", why)
        if read.has("metricsPort"):
            self._set("metrics.listen", f"127.0.0.1:{read.number('metricsPort')}")
            why = "Multus listens on every address; write 0.0.0.0: where Prometheus needs that"
            self._mapped("metricsPort", "metrics.listen", why)

    def _networks(self) -> None:
        read = self._read
        delegates = read.objects("delegates")
        wanted = read.texts("defaultNetworks")
        more: list[str] = []
        if cluster := read.text("clusterNetwork"):
            first = self._reference("clusterNetwork", cluster)
            more = [self._reference("defaultNetworks", each) for each in wanted]
            if delegates:
                words = "Multus passes them over where clusterNetwork is set"
                self._note("delegates", Verdict.NOT_NEEDED, "", words)
        elif delegates:
            first, *more = self._inlined(delegates)
            if wanted:
                words = "Multus reads it only where clusterNetwork is set"
                self._note("defaultNetworks", Verdict.NOT_NEEDED, "", words)
        else:
            first = self._of_autoconfig()
        if read.has("multusMasterCNI") and "multusMasterCNI" not in self._notes:
            words = "the default network is named otherwise"
            self._note("multusMasterCNI", Verdict.NOT_NEEDED, "", words)
        self._set("npwg.strict", False)
        words = "Multus ignores what no plugin declares a capability for; true once none needs that"
        self._more_notes.append(
            Note(key="(leniency)", verdict=Verdict.MAPPED, setting="npwg.strict", words=words)
        )
        if first:
            self._set("npwg.default_network", first)
        if more := [each for each in more if each]:
            self._set("npwg.more_networks", more)

    def _namespaces(self) -> None:
        read = self._read
        alike = bool(read.objects("delegates")) and not read.text("clusterNetwork")
        if alike and len(read.objects("delegates")) > 1:
            self._set("npwg.system_namespaces", [])
            words = "Multus attaches the further delegates in every namespace"
            self._mapped("systemNamespaces", "npwg.system_namespaces", words)
        elif read.has("systemNamespaces"):
            self._set("npwg.system_namespaces", read.texts("systemNamespaces"))
            self._mapped("systemNamespaces", "npwg.system_namespaces")
        if read.has("multusNamespace"):
            self._set("npwg.system_namespace", read.text("multusNamespace"))
            self._mapped("multusNamespace", "npwg.system_namespace")
        if read.has("namespaceIsolation"):
            self._set("npwg.namespace_isolation", read.flag("namespaceIsolation"))
            self._mapped("namespaceIsolation", "npwg.namespace_isolation")
        if spaces := read.text("globalNamespaces"):
            listed = [word.strip() for word in spaces.split(",") if word.strip()]
            self._set("npwg.global_namespaces", listed)
            self._mapped("globalNamespaces", "npwg.global_namespaces")

    def _others(self) -> None:
        read = self._read
        if chain := read.text("auxiliaryCNIChainName"):
            self._note(
                "auxiliaryCNIChainName",
                Verdict.BY_HAND,
                "",
                f"plugins of the folder {chain} extend the default network: put its .conf files "
                f"into {self._conf_dir}/<name of the default network>/, beside its list",
            )
        declared = read.value("capabilities")
        if isinstance(declared, dict):
            wanted = sorted(name for name, wish in declared.items() if wish is True)
            if more := [name for name in wanted if name not in RUNTIME_CAPABILITIES]:
                words = f"add {', '.join(more)} to the capabilities in 00-danmpy.conflist"
                self._note("capabilities", Verdict.BY_HAND, "", words)
            else:
                words = f"danmpy's own list declares {', '.join(RUNTIME_CAPABILITIES)}"
                self._note("capabilities", Verdict.NOT_NEEDED, "", words)

    # References

    def _reference(self, key: str, text: str) -> str:
        """What npwg.default_network calls the network that `text` means to Multus."""
        if not text:
            return ""
        if text.startswith("/"):
            return self._by_path(key, text)
        namespace = self._read.text("multusNamespace") or DEFAULT_NAMESPACE
        conf = next((each for each in self._confs if each.name == text), None)
        if not _NAME.match(text) or (conf is None and not is_object_name(text)):
            words = (
                f"{text!r} is no absolute path, no object can have that name, and no usable CNI "
            )
            words += f"configuration has it: give its folder (--conf-dir) or fill {self._conf_dir}"
            self._note(key, Verdict.BY_HAND, self._setting_of(key), words)
            return ""
        if conf is None:
            words = f"taken for the NetworkAttachmentDefinition {namespace}/{text}; no CNI "
            words += "configuration of that name was given (--conf-dir)"
            self._mapped(key, self._setting_of(key), words)
            return f"{namespace}/{text}"
        self._keep(conf)
        words = f"{text} is the CNI configuration of {conf.path}"
        if is_object_name(text):
            words += f"; Multus prefers a NetworkAttachmentDefinition {namespace}/{text}: "
            words += "write that where it exists"
        self._mapped(key, self._setting_of(key), words)
        return text

    def _by_path(self, key: str, path: str) -> str:
        conf = self._found(path)
        if conf is not None and _NAME.match(conf.name):
            self._keep(conf)
            self._mapped(key, self._setting_of(key), f"{conf.path} has the name {conf.name}")
            return conf.name
        why = "could not be read" if conf is None else "has no name"
        words = f"{path} {why}: give its folder with --conf-dir, or write the name of the CNI "
        words += f"configuration in it yourself, and put the file into {self._conf_dir}"
        self._note(key, Verdict.BY_HAND, self._setting_of(key), words)
        return ""

    def _found(self, path: str) -> FoundConf | None:
        """The file at `path`, the first by name in the folder `path`, or a file of that name
        elsewhere."""
        path = posixpath.normpath(_host_path(path))

        def folder(conf: FoundConf) -> bool:
            return posixpath.dirname(conf.path) == path

        def alike(conf: FoundConf) -> bool:
            return _file_name(conf) == posixpath.basename(path)

        exact = (conf for conf in self._confs if conf.path == path)
        inside = sorted(filter(folder, self._confs), key=_file_name)
        return next(iter((*exact, *inside, *filter(alike, self._confs))), None)

    def _of_autoconfig(self) -> str:
        """The default network of a Multus that makes its own configuration (``auto``)."""
        master = self._read.text("multusMasterCNI")
        usable = [conf for conf in self._confs if _NAME.match(conf.name) and not _is_meta(conf)]
        if master:
            usable = [conf for conf in usable if _file_name(conf) == master]
        key = "multusMasterCNI" if master else "multusConfigFile"
        if not usable:
            folder = _host_path(self._read.text("multusAutoconfigDir"))
            words = f"the default network is {master or 'the first file'} in "
            words += f"{folder or _DEFAULT_RUNTIME_DIR}: give that folder with --conf-dir"
            self._note(key, Verdict.BY_HAND, "npwg.default_network", words)
            return ""
        conf = min(usable, key=_file_name)
        self._keep(conf)
        self._mapped(key, "npwg.default_network", f"{conf.path} has the name {conf.name}")
        return conf.name

    def _inlined(self, delegates: Sequence[Mapping[str, Any]]) -> list[str]:
        """The names of the delegates that stand in the configuration; they become files."""
        names = []
        for number, delegate in enumerate(delegates):
            named = delegate.get("name")
            name = named if isinstance(named, str) and _NAME.match(named) else ""
            name = name or f"multus-delegate-{number}"
            if name in self._files and self._files[name].document != _list_of(delegate, name):
                name = f"{name}-{number}"
            self._files[name] = DelegateFile(name=name, document=_list_of(delegate, name))
            names.append(name)
        self._mapped(
            "delegates",
            "npwg.default_network",
            "the first is the default network, the others are npwg.more_networks; as files: "
            + ", ".join(f"{self._conf_dir}/{name}.conflist" for name in dict.fromkeys(names)),
        )
        return names

    def _keep(self, conf: FoundConf) -> None:
        """See that the folder of the settings will have `conf`."""
        if posixpath.dirname(conf.path) != self._conf_dir:
            document = _list_of(conf.document, conf.name)
            self._files[conf.name] = DelegateFile(name=conf.name, document=document)

    # Notes

    def _note_of(self, key: str) -> Note:
        known = KNOWN.get(key.lower())
        if known is None:
            words = "no key of Multus up to 4.3: nothing is made of it"
            return Note(key=key, verdict=Verdict.UNKNOWN, words=words)
        if known in self._notes:
            return self._notes[known]
        if known in FIXED:
            verdict, words = FIXED[known]
            return Note(key=known, verdict=verdict, words=words)
        return Note(key=known, verdict=Verdict.NOT_NEEDED, words="it is empty")

    def _steps(self) -> Iterator[str]:
        """What is to do besides, in this order."""
        if not self._write_dir:
            for name in self._files:
                yield f"write {self._conf_dir}/{name}.conflist (--write-dir does, -o json shows it)"
        if self._settings["intent"]["source"] == "kubernetes":
            yield "add database_url: one PostgreSQL for all nodes (operations-database.md)"
            yield (
                "outside of a pod with danmpy's service account, add intent.kubeconfig with the "
                "rights of deploy/base/rights-of-node.yaml"
            )
        runtime = _host_path(self._read.text("cniConfigDir")) or _DEFAULT_RUNTIME_DIR
        yield "stop Multus's DaemonSet, so that it does not write its configuration anew"
        yield f"danmpy install-cni --conf-dir {runtime}"
        yield f"take Multus's own configuration out of {runtime}; danmpy's is first by name anyway"
        yield "start danmpy node: it adopts the pods that run from cni.multus_cache"

    def _mapped(self, key: str, setting: str, words: str = "") -> None:
        if key in self._notes:  # several networks under one key
            words = "; ".join(filter(None, (self._notes[key].words, words)))
            if self._notes[key].verdict.is_finding:
                self._note(key, self._notes[key].verdict, setting, words)
                return
        self._note(key, Verdict.MAPPED, setting, words)

    def _note(self, key: str, verdict: Verdict, setting: str, words: str) -> None:
        before = self._notes.get(key)
        if before is not None and words not in before.words and before.words not in words:
            words = f"{before.words}; {words}"
        self._notes[key] = Note(key=key, verdict=verdict, setting=setting, words=words)

    def _set(self, key: str, value: object) -> None:
        group, _, name = key.partition(".")
        self._settings.setdefault(group, {})[name] = value

    @staticmethod
    def _setting_of(key: str) -> str:
        return "npwg.default_network" if key == "clusterNetwork" else "npwg.more_networks"


def _host_path(path: str) -> str:
    """`path` as the host calls it, of a daemon that sees the host's folders below /host."""
    return path[len(_MOUNT) - 1 :] if path.startswith(_MOUNT) else path


def _file_name(conf: FoundConf) -> str:
    return posixpath.basename(conf.path)


def _is_meta(conf: FoundConf) -> bool:
    """Is it the configuration of Multus or danmpy itself?"""
    plugins = conf.document.get("plugins")
    each = plugins if isinstance(plugins, list) else [conf.document]
    kinds = {plugin.get("type") for plugin in each if isinstance(plugin, Mapping)}
    return bool(kinds & {*PLUGIN_TYPES, "danmpy-cni"})


def _list_of(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration as a list that has `name`."""
    if "plugins" in document:
        return {**document, "name": name}
    head = {key: document[key] for key in _HEAD if key in document}
    plugin = {key: value for key, value in document.items() if key not in {*_HEAD, "name"}}
    return {**head, "name": name, "plugins": [plugin]}


_HEAD: Final = ("cniVersion", "cniVersions", "disableCheck", "disableGC")
"""Keys of a list, which a single plugin carries itself."""

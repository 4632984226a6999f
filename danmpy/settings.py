"""One typed tree of settings, read once: defaults, then the YAML file, then the environment.

Every key of the file is also an environment variable: ``DANMPY_`` and the path in upper case with
``__`` between levels (``intent.path`` is ``DANMPY_INTENT__PATH``); the environment wins.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from danmpy.api.limits import VXLAN_PORT
from danmpy.errors import IntentError
from danmpy.settings_file import read_settings_file

DEFAULT_PATH: Final = Path("/etc/danmpy/config.yaml")
CONFIG_VARIABLE: Final = "DANMPY_CONFIG"
PREFIX: Final = "DANMPY_"

SOCKET_PATH_MAX: Final = 107
"""unix(7): sun_path has 108 bytes with the closing NUL."""

_NOT_KEYS: Final = re.compile(r"DANMPY_(CONFIG|FAULT.*|TEST_.*|BENCH_.*)")
"""Variables of ours that are no settings."""

_SERVICE_LINKS: Final = re.compile(
    r"DANMPY_(.*_)?(SERVICE_(HOST|PORT(_.*)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""Kubernetes puts these into every pod beside a Service named ``danmpy``; they are no settings."""

_SCHEMES: Final = ("sqlite", "postgresql+psycopg")


def _split_paths(value: object) -> object:
    """A list of folders may be one text with ":" between them, as in PATH."""
    if isinstance(value, str):
        return [part for part in value.split(":") if part]
    return value


def _split_words(value: object) -> object:
    """A list of words may be one text with commas between them."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


def _absolute(value: object) -> object:
    if isinstance(value, str | Path) and not Path(value).is_absolute():
        message = f"{str(value)!r} is not an absolute path"
        raise ValueError(message)
    return value


def _socket_path(value: object) -> object:
    if isinstance(value, str | Path) and len(os.fsencode(value)) > SOCKET_PATH_MAX:
        message = f"a unix socket's path has at most {SOCKET_PATH_MAX} bytes"
        raise ValueError(message)
    return value


def _database_url(value: object) -> object:
    scheme = str(value).partition("://")[0] if "://" in str(value) else ""
    if value and scheme not in _SCHEMES:
        # The value itself is not repeated: it may hold a password.
        message = "start the URL with sqlite:/// or postgresql+psycopg://"
        raise ValueError(message)
    return value


def _listen(value: object) -> object:
    if value:
        parse_listen(str(value))
    return value


def _must_listen(value: object) -> object:
    parse_listen(str(value))
    return value


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[address]:port``.

    Raises:
        ValueError: `text` has no port from 1 to 65535.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        message = f"{text!r} is not host:port with a port from 1 to 65535"
        raise ValueError(message)
    return host.strip("[]"), int(port)


AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
Folders = Annotated[tuple[AbsolutePath, ...], BeforeValidator(_split_paths)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class IntentSettings(_Group):
    """Where the wishes are read from."""

    source: Literal["folder", "kubernetes"] = Field(
        default="folder",
        description="`folder` needs nothing but files: one machine, a lab, an edge box.",
    )
    path: AbsolutePath = Field(
        default=Path("/etc/danmpy/intent"),
        description="Folder of YAML files, watched; beside the configuration, as both are written "
        "by the administrator.",
    )
    kubeconfig: str = Field(
        default="",
        description="Path of a kubeconfig; empty: the pod's service account, else the user's.",
    )


class VxlanSettings(_Group):
    """How VXLAN devices reach the other nodes."""

    flooding: Literal["unicast", "multicast"] = Field(
        default="unicast",
        description="`unicast` works on every underlay; `multicast` is DANM 4.3's group rule and "
        "needs an underlay that carries multicast.",
    )
    port: int = Field(
        default=VXLAN_PORT, ge=1, le=65_535, description="UDP port; the default is IANA's."
    )


class CniSettings(_Group):
    """Delegate plugins and interface names."""

    bin_dirs: Folders = Field(
        default=(Path("/opt/cni/bin"),),
        min_length=1,
        description="Folders with delegate plugins, searched in order; kubelet's usual one. "
        'A list, or one text with ":" between the folders.',
    )
    conf_dir: AbsolutePath = Field(
        default=Path("/etc/cni/net.d"),
        description="Folder of the delegates' configurations; containerd's and CRI-O's usual one.",
    )
    naming_scheme: Literal["", "legacy"] = Field(
        default="",
        description="`legacy` names interfaces as DANM's legacy scheme does; empty: eth0 first, "
        "then prefix and position.",
    )


class NpwgSettings(_Group):
    """Pods and networks in the words of the Network Plumbing Working Group and of Multus."""

    strict: bool = Field(
        default=True,
        description="A pod that asks what no plugin of its network declares a capability for is "
        "refused, as the standard says; `false` ignores it with a warning, as Multus does.",
    )
    default_network: str = Field(
        default="",
        description="What every pod that asks in these words gets first, and every pod that asks "
        "for nothing: the name of a CNI configuration in cni.conf_dir, or namespace/name of a "
        "NetworkAttachmentDefinition; empty: the network called default, as DANM looks it up.",
    )
    more_networks: Annotated[tuple[str, ...], BeforeValidator(_split_words)] = Field(
        default=(),
        description="Networks that every pod gets after the first one, except in system_namespaces "
        "(Multus: defaultNetworks); written as default_network is.",
    )
    system_namespaces: Annotated[tuple[str, ...], BeforeValidator(_split_words)] = Field(
        default=("kube-system",),
        description="Namespaces whose pods do not get more_networks.",
    )
    system_namespace: str = Field(
        default="kube-system",
        description="Where a bare name in v1.multus-cni.io/default-network is looked up "
        "(Multus: multusNamespace).",
    )
    namespace_isolation: bool = Field(
        default=False,
        description="`true`: pods use only NetworkAttachmentDefinitions of their own namespace "
        "and of global_namespaces.",
    )
    global_namespaces: Annotated[tuple[str, ...], BeforeValidator(_split_words)] = Field(
        default=("default",),
        description="Namespaces whose NetworkAttachmentDefinitions everybody may use in spite of "
        "namespace_isolation.",
    )


class IpamSettings(_Group):
    """The life of an address."""

    cooldown_seconds: int = Field(
        default=120,
        ge=0,
        description="Seconds before a released address is handed out again: longer than the "
        "neighbour caches and connections of peers that still mean the last holder.",
    )
    claim_seconds: int = Field(
        default=86_400,
        ge=0,
        description="Seconds for which the addresses of a pod with a claim (a StatefulSet's, or "
        "one with the annotation danm.k8s.io/claim) are kept for the next pod of that claim.",
    )
    reclaim_grace_seconds: int = Field(
        default=300,
        ge=0,
        description="Seconds for which the Node object and the pod of a lease must both be gone "
        "before the controller takes the lease back: nobody is left who could release it.",
    )
    retention_days: int = Field(
        default=400,
        ge=0,
        le=36_500,
        description="Days for which closed leases and events are kept at least, unless "
        "`danmpy retention` says otherwise for a namespace; 0: for ever. More than a year, as many "
        "rules ask for twelve months.",
    )
    segment_cooldown_seconds: int = Field(
        default=600,
        ge=0,
        description="Seconds before a released VLAN id or VNI is assigned again, besides every "
        "node having removed its device: longer than a node that lost its way keeps sending.",
    )


class MetricsSettings(_Group):
    """Prometheus and health."""

    listen: Annotated[str, BeforeValidator(_listen)] = Field(
        default="127.0.0.1:9464",
        description="host:port of /metrics, /healthz and /readyz; loopback because it answers "
        "without authentication; empty switches it off.",
    )

    @property
    def endpoint(self) -> tuple[str, int] | None:
        """Host and port, or None when switched off."""
        return parse_listen(self.listen) if self.listen else None


class ControllerSettings(_Group):
    """The cluster daemon: who leads, and what it calls itself."""

    namespace: str = Field(
        default="danmpy",
        min_length=1,
        max_length=63,
        description="Namespace of danmpy's own objects: the lease of the leader, the webhook's "
        "certificate.",
    )
    lease: str = Field(
        default="danmpy-controller",
        min_length=1,
        max_length=253,
        description="Name of the Lease (coordination.k8s.io) that the leader holds.",
    )
    identity: str = Field(
        default="",
        max_length=253,
        description="This replica's name in the lease; empty: host name, process id and a "
        "random end. "
        "Two replicas must never have the same.",
    )


class WebhookSettings(_Group):
    """The admission webhook."""

    listen: Annotated[str, BeforeValidator(_must_listen)] = Field(
        default="0.0.0.0:9443",
        description="host:port of the HTTPS listener; every address, because the API server "
        "calls from another host.",
    )
    cert_dir: str = Field(
        default="",
        description="Folder with tls.crt, tls.key and ca.crt, as cert-manager mounts them; empty: "
        "the controller makes and renews its own.",
    )
    service: str = Field(
        default="danmpy-webhook",
        min_length=1,
        max_length=63,
        description="Name of the Service in front of the replicas; the certificate is made for it.",
    )
    registration: str = Field(
        default="danmpy",
        min_length=1,
        max_length=253,
        description="Name of the ValidatingWebhookConfiguration whose caBundle is kept true.",
    )
    url: str = Field(
        default="",
        description="https://host:port instead of the Service, for a controller that runs outside "
        "of the cluster; the certificate is made for its host.",
    )
    pods: Literal["deny", "warn"] = Field(
        default="deny",
        description="Pods whose interfaces annotation cannot work: `deny` refuses them at "
        "creation, `warn` only says so.",
    )

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return parse_listen(self.listen)


class Settings(_Group):
    """All settings of one process."""

    database_url: Annotated[str, BeforeValidator(_database_url)] = Field(
        default="",
        description="SQLAlchemy URL; empty: the SQLite file danmpy.db under state_dir. "
        "postgresql+psycopg://... for clusters.",
    )
    state_dir: AbsolutePath = Field(
        default=Path("/var/lib/danmpy"),
        description="Folder of the spool, the journal and the default SQLite file; must survive "
        "a restart of the machine.",
    )
    socket: Annotated[AbsolutePath, BeforeValidator(_socket_path)] = Field(
        default=Path("/run/danmpy/cni.sock"),
        description="The node daemon's socket, mode 0600: who may open it may attach pods.",
    )
    node_name: str = Field(
        default="",
        max_length=253,
        description="This node's name in the intent; empty: the host name, as kubelet does.",
    )
    intent: IntentSettings = IntentSettings()
    vxlan: VxlanSettings = VxlanSettings()
    cni: CniSettings = CniSettings()
    npwg: NpwgSettings = NpwgSettings()
    ipam: IpamSettings = IpamSettings()
    metrics: MetricsSettings = MetricsSettings()
    controller: ControllerSettings = ControllerSettings()
    webhook: WebhookSettings = WebhookSettings()

    @model_validator(mode="before")
    @classmethod
    def _fill_derived(cls, values: dict[str, Any]) -> dict[str, Any]:
        filled = {key: value for key, value in values.items() if value is not None}
        if not filled.get("node_name"):
            filled["node_name"] = socket.gethostname()
        if not filled.get("database_url"):
            state_dir = filled.get("state_dir", cls.model_fields["state_dir"].default)
            filled["database_url"] = f"sqlite:///{state_dir}/danmpy.db"
        return filled

    @property
    def masked_database_url(self) -> str:
        """The database URL as it may be printed: without its password."""
        return mask_url(self.database_url)

    def masked(self) -> Self:
        """The same settings, fit to be printed."""
        return self.model_copy(update={"database_url": self.masked_database_url})

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What repr() and str() show: everything but the password."""
        for key, value in super().__repr_args__():
            yield key, mask_url(value) if key == "database_url" else value


def mask_url(url: str) -> str:
    """`url` with ``***`` instead of its password, in the authority and in the query."""
    hidden = re.sub(r"(?i)([?&][^=&]*password=)[^&]*", r"\1***", url)
    try:
        parts = urlsplit(hidden)
    except ValueError:
        return re.sub(r"://.*@", "://***@", hidden)
    userinfo, at, host = parts.netloc.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    return hidden.replace(f"//{parts.netloc}", f"//{user}{colon and ':***'}{at}{host}", 1)


def known_keys() -> tuple[str, ...]:
    """Every key with dots between levels: ``database_url``, ``intent.path``, ..."""
    return tuple(_keys_of(Settings, ""))


def _keys_of(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys_of(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def variable_of(key: str) -> str:
    """The environment variable of a key: ``intent.path`` -> ``DANMPY_INTENT__PATH``."""
    return PREFIX + key.upper().replace(".", "__")


def load(environ: Mapping[str, str], config_path: Path | str | None = None) -> Settings:
    """The settings of this process.

    The file is `config_path`, else ``DANMPY_CONFIG``, else /etc/danmpy/config.yaml; only the last
    may be absent.

    Raises:
        IntentError: the file is missing, unreadable or no YAML; a key is unknown or its value
            wrong. The subject is the file with its line, or the variable.
    """
    explicit = config_path or environ.get(CONFIG_VARIABLE)
    path = Path(explicit) if explicit else DEFAULT_PATH
    values, lines = read_settings_file(path, required=bool(explicit))
    origins = {key: f"{path}:{line}" for key, line in lines.items()}
    for key, variable, value in _read_environ(environ):
        group, _, name = key.rpartition(".")
        if group and values.get(group) is None:
            values[group] = {}
        target = values[group] if group else values
        if isinstance(target, dict):  # anything else is refused below, with its line
            target[name] = value
            origins[key] = variable
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _translate(error, origins, str(path)) from None


def _read_environ(environ: Mapping[str, str]) -> Iterator[tuple[str, str, object]]:
    keys = {variable_of(key): key for key in known_keys()}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        if variable in keys:
            yield keys[variable], variable, _environ_value(text)
        elif not _NOT_KEYS.fullmatch(variable) and not _SERVICE_LINKS.fullmatch(variable):
            message = "unknown setting"
            raise IntentError(message, hint=_nearest(variable, list(keys)), subject=variable)


def _environ_value(text: str) -> object:
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _nearest(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    if not close and "." in word:
        # Right name, wrong or missing group: compare the last parts alone.
        tails = {key.rpartition(".")[2]: key for key in known}
        close = [tails[tail] for tail in get_close_matches(word.rpartition(".")[2], tails, n=1)]
    return f"did you mean {close[0]}?" if close else "known are " + ", ".join(known)


def _translate(error: ValidationError, origins: Mapping[str, str], path: str) -> IntentError:
    """The first problem as ours; pydantic's own text would repeat values that may be secret."""
    problem = error.errors(include_url=False, include_context=False)[0]
    parts = [part for part in problem["loc"] if isinstance(part, str)]
    key = ".".join(parts)
    subject = origins.get(key, path)
    if problem["type"] == "extra_forbidden":
        hint = _nearest(key, list(known_keys()))
        return IntentError(f"unknown setting {key}", hint=hint, subject=subject)
    words = problem["msg"].removeprefix("Value error, ")
    words = words[:1].lower() + words[1:]
    return IntentError(f"{key}: {words}", hint=_hint_of(key), subject=subject)


def _hint_of(key: str) -> str:
    """The description of a key's field, which says meaning and unit."""
    model: type[BaseModel] = Settings
    description = ""
    for name in key.split("."):
        field = model.model_fields.get(name)
        if field is None:
            break
        description = field.description or ""
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
            description = "a group with the keys " + ", ".join(model.model_fields)
    return description.rstrip(".").replace("`", "")

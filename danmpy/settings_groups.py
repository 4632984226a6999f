"""The groups of the settings tree, and the kinds of value in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from danmpy.api.limits import VXLAN_PORT

SOCKET_PATH_MAX: Final = 107
"""unix(7): sun_path has 108 bytes with the closing NUL."""

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


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


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
OptionalPath = Annotated[Path | None, BeforeValidator(_absolute), BeforeValidator(_none_if_empty)]
SocketPath = Annotated[AbsolutePath, BeforeValidator(_socket_path)]
DatabaseUrl = Annotated[str, BeforeValidator(_database_url)]
Folders = Annotated[tuple[AbsolutePath, ...], BeforeValidator(_split_paths)]


class Group(BaseModel):
    """Keys that belong together: frozen, and nothing unknown among them."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class IntentSettings(Group):
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


class VxlanSettings(Group):
    """How VXLAN devices reach the other nodes."""

    flooding: Literal["unicast", "multicast"] = Field(
        default="unicast",
        description="`unicast` works on every underlay; `multicast` is DANM 4.3's group rule and "
        "needs an underlay that carries multicast.",
    )
    port: int = Field(
        default=VXLAN_PORT, ge=1, le=65_535, description="UDP port; the default is IANA's."
    )


class CniSettings(Group):
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
    check_seconds: int = Field(
        default=300,
        ge=0,
        description="Seconds in which every attachment is checked once, because containerd calls "
        "no CHECK; 0: never. Checks are spread, and only tell what is wrong.",
    )
    gc_seconds: int = Field(
        default=3600,
        ge=0,
        description="Seconds between two GC calls to the delegates, because containerd calls none; "
        "0: never. At least 60 pass between the two looks that must agree.",
    )
    readiness_file: OptionalPath = Field(
        default=None,
        description="No pod is attached while this file is not there, which the cluster's default "
        "network writes when it is ready (Multus: readinessindicatorfile); empty: none is waited "
        "for.",
    )
    multus_cache: OptionalPath = Field(
        default=None,
        description="Multus's cniDir, /var/lib/cni/multus unless configured otherwise: the node "
        "daemon adopts the pods in it when it starts; empty: it adopts none.",
    )


class NpwgSettings(Group):
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


class DatabaseSettings(Group):
    """How PostgreSQL is talked to; SQLite has no use for it."""

    prepare: bool = Field(
        default=True,
        description="Let the server remember statements. `false` behind a pooler that gives each "
        "transaction another connection and cannot follow that: PgBouncer before 1.21.",
    )
    pool_size: int = Field(
        default=4,
        ge=1,
        le=100,
        description="Connections that a process keeps open once it needed them; in a burst it has "
        "as many again.",
    )


class IpamSettings(Group):
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
    export_before_prune: OptionalPath = Field(
        default=None,
        description="Folder in which leases and events are written as files before they are "
        "pruned; what cannot be written is not pruned. Empty: they just go.",
    )
    segment_cooldown_seconds: int = Field(
        default=600,
        ge=0,
        description="Seconds before a released VLAN id or VNI is assigned again, besides every "
        "node having removed its device: longer than a node that lost its way keeps sending.",
    )


class MetricsSettings(Group):
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


class ControllerSettings(Group):
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


class WebhookSettings(Group):
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


class DevicesSettings(Group):
    """Devices of device plugins."""

    pod_resources_socket: SocketPath = Field(
        default=Path("/var/lib/kubelet/pod-resources/kubelet.sock"),
        description="The kubelet's socket on which it says which devices a pod was given; where "
        "every kubelet has it.",
    )
    info_dir: AbsolutePath = Field(
        default=Path("/var/run/k8s.cni.cncf.io/devinfo"),
        description="Folder in which device plugins and CNI plugins describe devices to each "
        "other; the one of the NPWG device information specification.",
    )

"""The keys of Multus's configurations, and why some have no counterpart here. Pure.

After pkg/types (plugin) and pkg/server (daemon) of Multus 4.3, and what its entrypoint reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from danmpy.convert.values import Verdict

MAPPED_KEYS: Final = (
    "auxiliaryCNIChainName",
    "binDir",
    "capabilities",
    "clusterNetwork",
    "cniDir",
    "confDir",
    "defaultNetworks",
    "delegates",
    "globalNamespaces",
    "kubeconfig",
    "metricsPort",
    "multusMasterCNI",
    "multusNamespace",
    "namespaceIsolation",
    "readinessindicatorfile",
    "systemNamespaces",
)
"""Keys that something is made of."""

DAEMON_KEYS: Final = (
    "chrootDir",
    "cniConfigDir",
    "connectionLimit",
    "daemonSocketDir",
    "enablePprof",
    "forceCNIVersion",
    "metricsPort",
    "multusAutoconfigDir",
    "multusConfigFile",
    "multusMasterCNI",
    "overrideNetworkName",
    "perNodeCertificate",
    "socketDir",
)
"""Keys that only a Multus with a daemon has, which reads the API server with its own account."""

RUNTIME_CAPABILITIES: Final = ("aliases", "bandwidth", "dns", "portMappings")
"""As `cni.install.CAPABILITIES`, which a test compares."""

_LOG: Final = (
    "danmpy logs to standard error, one line of key=value each; the runtime or journald rotates"
)
_RUNTIME: Final = "it is the runtime's, for one call"
_SOCKET: Final = "the setting socket has a default that the installed plugin knows"

FIXED: Final[Mapping[str, tuple[Verdict, str]]] = {
    "name": (Verdict.NOT_NEEDED, "install-cni writes danmpy's own list, called danmpy"),
    "type": (Verdict.NOT_NEEDED, "install-cni writes danmpy's own list"),
    "cniVersion": (Verdict.NOT_NEEDED, "every version from 0.3.0 to 1.1.0 is spoken"),
    "cniVersions": (Verdict.NOT_NEEDED, "every version from 0.3.0 to 1.1.0 is spoken"),
    "disableCheck": (Verdict.NOT_SUPPORTED, "CHECK only reads, and is answered always"),
    "disableGC": (Verdict.NOT_SUPPORTED, "GC detaches nothing that the runtime calls valid"),
    "ipam": (Verdict.NOT_NEEDED, "Multus has no addresses of its own"),
    "dns": (Verdict.NOT_NEEDED, "Multus makes nothing of it; the default network's is told"),
    "args": (Verdict.NOT_NEEDED, _RUNTIME),
    "prevResult": (Verdict.NOT_NEEDED, _RUNTIME),
    "runtimeConfig": (Verdict.NOT_NEEDED, _RUNTIME),
    "logFile": (Verdict.NOT_NEEDED, _LOG),
    "logLevel": (Verdict.NOT_NEEDED, _LOG),
    "logOptions": (Verdict.NOT_NEEDED, _LOG),
    "logToStderr": (Verdict.NOT_NEEDED, _LOG),
    "retryDeleteOnError": (
        Verdict.NOT_NEEDED,
        "an attachment stays in the journal until every plugin's DEL has succeeded, always",
    ),
    "chrootDir": (
        Verdict.NOT_SUPPORTED,
        "plugins run beside the node daemon: mind those that need the host's libraries",
    ),
    "daemonSocketDir": (Verdict.NOT_NEEDED, _SOCKET),
    "socketDir": (Verdict.NOT_NEEDED, _SOCKET),
    "connectionLimit": (Verdict.NOT_NEEDED, "calls are served by 16 threads, and wait for one"),
    "enablePprof": (Verdict.NOT_SUPPORTED, "it is Go's profiler; /metrics has the latencies"),
    "cniConfigDir": (Verdict.NOT_NEEDED, "it is install-cni's --conf-dir, see the steps"),
    "multusConfigFile": (Verdict.NOT_NEEDED, "install-cni writes danmpy's own list"),
    "multusAutoconfigDir": (
        Verdict.NOT_NEEDED,
        "nothing is generated from other plugins' files: npwg.default_network says it",
    ),
    "forceCNIVersion": (Verdict.NOT_NEEDED, "every version from 0.3.0 to 1.1.0 is spoken"),
    "overrideNetworkName": (
        Verdict.NOT_SUPPORTED,
        "the list that the runtime reads is called danmpy, whatever the default network is",
    ),
    "perNodeCertificate": (
        Verdict.NOT_SUPPORTED,
        "the node daemon uses its service account, or the kubeconfig of intent.kubeconfig",
    ),
}
"""Keys of which nothing is made, and why."""

KNOWN: Final[Mapping[str, str]] = {key.lower(): key for key in (*MAPPED_KEYS, *FIXED)}
"""Every key of Multus, by its lower-case spelling."""

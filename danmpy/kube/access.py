"""How the API server is reached, and as whom: the official client's configuration and transport.

The client is imported late: it costs 60 ms and 12 MB, which a process without a cluster never
needs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from danmpy.errors import ClusterError

if TYPE_CHECKING:
    import urllib3
    from kubernetes.client import Configuration

Load = Callable[[], "Configuration"]

_CONNECTIONS: Final = 16
"""Idle connections that are kept for the next request; more are made when they are needed."""

_CANNOT_LOAD: Final = (OSError, ValueError, TypeError, AttributeError, KeyError)
"""What the client's loaders raise for files that are not what they should be, besides their own
error and PyYAML's."""


class Access:
    """One reading of the configuration, and the connections that were made with it."""

    def __init__(self, configuration: Configuration) -> None:
        from kubernetes.client.rest import RESTClientObject  # noqa: PLC0415 - see the module

        configuration.connection_pool_maxsize = _CONNECTIONS
        self._configuration = configuration
        self.host: str = configuration.host.rstrip("/")
        self.pool: urllib3.PoolManager = RESTClientObject(configuration).pool_manager

    def headers(self) -> dict[str, str]:
        """The headers that say who we are; a token that is to be read again is read.

        Raises:
            ClusterError: it cannot be read, as while it is being replaced.
        """
        from kubernetes.config import ConfigException  # noqa: PLC0415 - see the module

        try:
            settings: Any = self._configuration.auth_settings()
        except (ConfigException, *_CANNOT_LOAD) as error:
            raise ClusterError(
                f"the credentials cannot be read: {_first_line(error)}",
                hint="check the token's file; it is tried again",
                subject="intent.kubeconfig",
            ) from error
        return {each["key"]: each["value"] for each in settings.values()}


def loader(kubeconfig: Path | None) -> Load:
    """What reads the configuration, each time anew: tokens and certificates are replaced in place.

    None: the service account of this pod, else the default kubeconfig (``KUBECONFIG``, or
    ``~/.kube/config``).
    """
    if kubeconfig is not None:
        return lambda: _load_file(kubeconfig)
    return _load_default


def _load_file(path: Path | None) -> Configuration:
    """Raises ClusterError when it cannot be read."""
    import yaml  # noqa: PLC0415 - with the client below
    from kubernetes import config  # noqa: PLC0415 - see the module
    from kubernetes.client import Configuration  # noqa: PLC0415

    configuration = Configuration()
    try:
        load: Any = config.load_kube_config  # it has no types
        load(
            config_file=None if path is None else str(path),
            client_configuration=configuration,
            persist_config=False,
        )
    except (config.ConfigException, yaml.YAMLError, *_CANNOT_LOAD) as error:
        where = "the default kubeconfig" if path is None else str(path)
        raise ClusterError(
            f"{where} cannot be used: {_first_line(error)}",
            hint="set intent.kubeconfig to a kubeconfig, or run in a pod with a service account",
            subject="intent.kubeconfig",
        ) from error
    return configuration


def _load_default() -> Configuration:
    """Raises ClusterError when there is no configuration at all."""
    from kubernetes import config  # noqa: PLC0415 - see the module
    from kubernetes.client import Configuration  # noqa: PLC0415

    configuration = Configuration()
    try:
        load: Any = config.load_incluster_config  # it has no types
        load(client_configuration=configuration)
    except (config.ConfigException, *_CANNOT_LOAD):
        return _load_file(None)
    return configuration


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

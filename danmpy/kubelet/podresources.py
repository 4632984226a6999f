"""Which devices the kubelet has given to a pod.

The kubelet answers on a unix socket of the node. `Get` asks for one pod; kubelets before 1.27 do
not know it, and many later ones have it switched off: they are asked for all pods instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from danmpy.clock import monotonic
from danmpy.errors import NotReadyError

TIMEOUT_S: Final = 2.0
"""Seconds for everything that is asked for one pod: an ADD must be answered within a few."""

_MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes, as the kubelet's own client takes (podresources.DefaultPodResourcesMaxSize)."""

Devices = Mapping[str, tuple[str, ...]]
"""Resource name -> ids of the devices, sorted, each once."""


class PodResources:
    """The kubelet of this node; may be used by several threads."""

    def __init__(self, socket: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._socket = socket
        self._timeout_s = timeout_s
        self._knows_get = True

    def read_devices(self, namespace: str, pod: str) -> Devices | None:
        """The devices of all containers of `pod`; None when the kubelet does not know the pod.

        Raises:
            NotReadyError: the kubelet does not answer, or not in time.
        """
        if not self._socket.exists():
            raise self._unanswered("there is no such socket")
        # 15 MB that a node without devices does not pay: see `messages`.
        import grpc  # noqa: PLC0415

        until = monotonic() + self._timeout_s
        # A kept channel would wait longer and longer after each restart of the kubelet.
        options = [("grpc.max_receive_message_length", _MAX_ANSWER)]
        with closing(grpc.insecure_channel(f"unix:{self._socket}", options=options)) as channel:
            try:
                found = self._find(grpc, channel, (namespace, pod), until)
            except grpc.RpcError as error:
                raise self._unanswered(f"{error.code().name}: {error.details()}") from error
        return None if found is None else _devices(found)

    def _find(self, grpc: Any, channel: Any, key: tuple[str, str], until: float) -> Any:
        from danmpy.kubelet import messages  # noqa: PLC0415

        def ask(method: str, request: Any, response: Any) -> Any:
            call = channel.unary_unary(
                f"/{messages.SERVICE}/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )
            return call(request, timeout=max(until - monotonic(), 0.001))

        namespace, name = key
        if self._knows_get:
            request = messages.GetRequest(pod_name=name, pod_namespace=namespace)
            try:
                return ask("Get", request, messages.GetResponse).pod_resources
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    return None
                # Unimplemented, or in the words of a kubelet that has it switched off: unknown.
                if error.code() not in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN}:
                    raise
                self._knows_get = error.code() is not grpc.StatusCode.UNIMPLEMENTED
        pods = ask("List", messages.ListRequest(), messages.ListResponse).pod_resources
        return next((each for each in pods if (each.namespace, each.name) == key), None)

    def _unanswered(self, why: str) -> NotReadyError:
        return NotReadyError(
            f"the kubelet does not say which devices pods were given: {why}",
            hint="see devices.pod_resources_socket, and that the node daemon has that folder",
            subject=str(self._socket),
        )


def _devices(pod: Any) -> Devices:
    found: dict[str, set[str]] = {}
    for container in pod.containers:
        for each in container.devices:
            found.setdefault(each.resource_name, set()).update(each.device_ids)
    return {resource: tuple(sorted(ids)) for resource, ids in found.items()}

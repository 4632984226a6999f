"""A kubelet's pod-resources socket: a real gRPC server that says what a test gave to pods."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from danmpy.kubelet import messages

Given = dict[tuple[str, str], list[tuple[str, list[str]]]]
"""Namespace and pod -> (resource, device ids) of each of its containers."""


@dataclass
class Kubelet:
    """What the server answers, and what it was asked. `get` is what its Get does: ``serve``,
    ``disabled`` (a gate is off) or ``missing`` (an old kubelet)."""

    socket: Path
    pods: Given = field(default_factory=dict)
    get: str = "serve"
    asked: list[str] = field(default_factory=list)
    hang: threading.Event | None = None

    def _resources(self, key: tuple[str, str]) -> Any:
        namespace, name = key
        pod = messages.PodResources(name=name, namespace=namespace)
        for at, (resource, ids) in enumerate(self.pods[key]):
            container = pod.containers.add(name=f"c{at}")
            container.devices.add(resource_name=resource, device_ids=ids)
        return pod

    def answer_list(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.asked.append("List")
        if self.hang:
            self.hang.wait(10)
        return messages.ListResponse(pod_resources=[self._resources(key) for key in self.pods])

    def answer_get(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.asked.append("Get")
        if self.get == "disabled":
            context.abort(grpc.StatusCode.UNKNOWN, "PodResources API Get method disabled")
        key = (request.pod_namespace, request.pod_name)
        if key not in self.pods:
            context.abort(grpc.StatusCode.NOT_FOUND, f"pod {key} not found")
        return messages.GetResponse(pod_resources=self._resources(key))


def _handler(
    answer: Callable[[Any, grpc.ServicerContext], Any], request: Any, response: Any
) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request.FromString,
        response_serializer=response.SerializeToString,
    )


@contextmanager
def run_kubelet(kubelet: Kubelet) -> Iterator[Kubelet]:
    """Serve on the socket until the block ends."""
    methods = {"List": _handler(kubelet.answer_list, messages.ListRequest, messages.ListResponse)}
    if kubelet.get != "missing":
        methods["Get"] = _handler(kubelet.answer_get, messages.GetRequest, messages.GetResponse)
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(messages.SERVICE, methods),)
        )
        server.add_insecure_port(f"unix:{kubelet.socket}")
        server.start()
        try:
            yield kubelet
        finally:
            if kubelet.hang:
                kubelet.hang.set()
            server.stop(0).wait()

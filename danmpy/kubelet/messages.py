"""The messages of the kubelet's pod-resources API v1, as far as they are read here.

Names and numbers are those of k8s.io/kubelet/pkg/apis/podresources/v1/api.proto after Kubernetes
1.31; protobuf forbids giving a number to another field. What is left out here is skipped when an
answer is read.

Importing this module and gRPC costs 15 MB and 30 ms: done when a device is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE: Final = "v1"
SERVICE: Final = f"{PACKAGE}.PodResourcesLister"
"""The package really is called just that."""


class _Field(NamedTuple):
    """One field; `message` is empty for a text."""

    name: str
    number: int
    message: str = ""
    repeated: bool = False


_MESSAGES: Final[Mapping[str, tuple[_Field, ...]]] = {
    "ListPodResourcesRequest": (),
    "ListPodResourcesResponse": (_Field("pod_resources", 1, "PodResources", True),),
    "GetPodResourcesRequest": (_Field("pod_name", 1), _Field("pod_namespace", 2)),
    "GetPodResourcesResponse": (_Field("pod_resources", 1, "PodResources"),),
    "PodResources": (
        _Field("name", 1),
        _Field("namespace", 2),
        _Field("containers", 3, "ContainerResources", True),
    ),
    "ContainerResources": (_Field("name", 1), _Field("devices", 2, "ContainerDevices", True)),
    "ContainerDevices": (_Field("resource_name", 1), _Field("device_ids", 2, "", True)),
}


def _described() -> FileDescriptorProto:
    file = FileDescriptorProto(name="podresources.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            kinds = FieldDescriptorProto
            message.field.add(
                name=field.name,
                number=field.number,
                type=kinds.TYPE_MESSAGE if field.message else kinds.TYPE_STRING,
                type_name=f".{PACKAGE}.{field.message}" if field.message else None,
                label=kinds.LABEL_REPEATED if field.repeated else kinds.LABEL_OPTIONAL,
            )
    return file


def _classes() -> Mapping[str, Any]:
    pool = DescriptorPool()  # one of our own: another user of a package "v1" must not clash
    pool.Add(_described())
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES: Final = _classes()
ListRequest: Final = _CLASSES["ListPodResourcesRequest"]
ListResponse: Final = _CLASSES["ListPodResourcesResponse"]
GetRequest: Final = _CLASSES["GetPodResourcesRequest"]
GetResponse: Final = _CLASSES["GetPodResourcesResponse"]
PodResources: Final = _CLASSES["PodResources"]

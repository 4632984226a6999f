"""The bytes on the kubelet's socket."""

from __future__ import annotations

from danmpy.kubelet import messages


def text(number: int, value: str) -> bytes:
    """A field of protobuf's wire type 2, by hand: key, length, bytes."""
    return bytes([number << 3 | 2, len(value)]) + value.encode()


def nested(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


DEVICES = text(1, "vendor/vf") + text(2, "0000:3b:02.1") + text(2, "0000:3b:02.0")
TOPOLOGY = nested(3, nested(1, b"\x08\x01"))
"""A node of NUMA number 1, which we have no use for."""

CONTAINER = text(1, "main") + nested(2, DEVICES + TOPOLOGY) + b"\x18\x05"
"""With a CPU (field 3) that we have no use for either."""

POD = text(1, "web") + text(2, "blue") + nested(3, CONTAINER)


def test_an_answer_is_read_by_the_numbers_that_the_kubelet_gives_its_fields() -> None:
    (pod,) = messages.ListResponse.FromString(nested(1, POD)).pod_resources
    (container,) = pod.containers
    (devices,) = container.devices
    assert (pod.namespace, pod.name, container.name) == ("blue", "web", "main")
    assert devices.resource_name == "vendor/vf"
    assert list(devices.device_ids) == ["0000:3b:02.1", "0000:3b:02.0"]
    assert messages.GetResponse.FromString(nested(1, POD)).pod_resources == pod


def test_a_question_is_written_by_the_same_numbers() -> None:
    request = messages.GetRequest(pod_name="web", pod_namespace="blue")
    assert request.SerializeToString() == text(1, "web") + text(2, "blue")
    assert messages.ListRequest().SerializeToString() == b""
    assert messages.SERVICE == "v1.PodResourcesLister"

"""Where the devices of pods are known from: the kubelet, and claims (resource.k8s.io)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from danmpy.attach.devices.assigning import Offer
from danmpy.attach.devices.info import DeviceInfoFiles
from danmpy.errors import NotReadyError
from danmpy.kernel.pcidevices import SYS, read_netdev


class Kubelet(Protocol):
    """The kubelet of this node (`kubelet.podresources.PodResources`)."""

    def read_devices(self, namespace: str, pod: str) -> Mapping[str, tuple[str, ...]] | None:
        """The ids of the pod's devices by resource; None when it does not know the pod.

        Raises:
            NotReadyError: it does not answer.
        """


class Claims(Protocol):
    """The claims of pods (`claim_reader.ClaimReader`)."""

    def read_devices(self, namespace: str, pod: str) -> Offer | None:
        """The devices of the pod's claims; None when there is no such pod.

        Raises:
            ClusterError: they cannot be read.
        """


class NodeDevices:
    """The devices of this node's pods.

    The kubelet is asked first: it is near. `claims` are asked for what is missing then, so that a
    node whose drivers use claims only need not have device plugins.
    """

    def __init__(
        self,
        kubelet: Kubelet | None,
        claims: Claims | None = None,
        *,
        info: DeviceInfoFiles | None = None,
        sys: Path = SYS,
    ) -> None:
        self.info = info or DeviceInfoFiles()
        self._kubelet = kubelet
        self._claims = claims
        self._sys = sys

    def read_offered(self, namespace: str, pod: str, wanted: Mapping[str, int]) -> Offer | None:
        """The devices of a pod that needs so many of which resource; None: nobody knows it yet.

        Raises:
            DanmpyError: they cannot be known now.
        """
        unanswered: NotReadyError | None = None
        given: Offer | None = None
        try:
            ids = self._kubelet.read_devices(namespace, pod) if self._kubelet else None
            given = None if ids is None else Offer(ids=ids)
        except NotReadyError as error:
            unanswered = error
        if self._claims is not None and not (given and given.covers(wanted)):
            claimed = self._claims.read_devices(namespace, pod)
            given = given.joined(claimed) if given and claimed else given or claimed
        if unanswered is not None and not (given and given.covers(wanted)):
            raise unanswered
        return given

    def read_netdev(self, device_id: str, resource: str) -> str:
        """The link of this host that is the device.

        Raises:
            HostError: there is none.
        """
        return read_netdev(device_id, resource, self._sys)

"""Short ways to make attachments, and to play what the mirrors read from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_interface
from typing import Any

from danmpy.api.cni import CniInterface, CniIp, CniResult, render_result
from danmpy.api.specs import (
    Condition,
    ConditionStatus,
    NetworkKey,
    NetworkSpec,
    PodSpec,
    SegmentKey,
    SegmentKind,
)
from danmpy.attach.journal import AttachmentRecord, LinkRecord, Phase
from danmpy.clock import wall_clock
from danmpy.intent.values import Intent
from danmpy.kernel.podlinks import PodLink, PodLinkConfig
from danmpy.netwatcher.values import DEVICE_READY, LookReport
from support.apiserver import ApiServer
from support.specs import cluster_key, network, tenant_key

STATUS = "k8s.v1.cni.cncf.io/network-status"
NETNS = "/run/netns/dt-none"
INTERNAL, EXT = tenant_key("internal"), cluster_key("ext")
THREE: Mapping[str, NetworkKey] = {"eth0": INTERNAL, "net1": EXT, "net2": tenant_key("side")}


def own_link(
    name: str, key: NetworkKey, addresses: Sequence[str] = (), **more: Any
) -> tuple[LinkRecord, CniInterface]:
    """A macvlan interface as the journal and the result have it."""
    mac = f"02:00:00:00:00:{int(name[-1]):02x}"
    routes = more.pop("routes", ())
    link = LinkRecord(
        name=name,
        network=str(key),
        backend="macvlan",
        link=PodLink(name=name, kind="macvlan", parent="ens4", mac=mac, mtu=1450),
        config=PodLinkConfig(alias="", ipv6=True, addresses=tuple(addresses), routes=routes),
        **more,
    )
    return link, CniInterface(name=name, mac=mac, sandbox=NETNS, mtu=1450)


def delegate_link(
    name: str, key: NetworkKey, answer: CniResult, config: PodLinkConfig | None = None
) -> LinkRecord:
    """A delegate's interface as the journal has it."""
    return LinkRecord(
        name=name,
        network=str(key),
        backend="sriov",
        config=config or PodLinkConfig(alias="", ipv6=False),
        delegate="{}",
        delegate_result=json.dumps(render_result(answer, "1.0.0")),
    )


def record(
    number: int = 1,
    interfaces: Mapping[str, NetworkKey] = THREE,
    *,
    phase: Phase = Phase.ATTACHED,
    **more: Any,
) -> AttachmentRecord:
    """An attachment of pod ``web-<number>`` whose interfaces have an address each."""
    links, made, ips = [], [], []
    for at, (name, key) in enumerate(interfaces.items()):
        address = f"10.{at}.{number // 250}.{number % 250 + 1}/24"
        link, interface = own_link(name, key, [address])
        links.append(link)
        made.append(interface)
        ips.append(CniIp(address=ip_interface(address), interface=at))
    result = CniResult(interfaces=tuple(made), ips=tuple(ips))
    values: dict[str, Any] = {
        "container_id": f"c-{number}",
        "ifname": "eth0",
        "phase": phase,
        "netns": NETNS,
        "namespace": "blue",
        "pod": f"web-{number}",
        "pod_uid": f"uid-{number}",
        "began_at": 1_800_000_000_000_000 + number,
        "links": tuple(links),
        "result": render_result(result, "1.1.0"),
    }
    return AttachmentRecord(**{**values, **more})


def with_result(shown: AttachmentRecord, result: CniResult) -> AttachmentRecord:
    """The same attachment with another answer to ADD."""
    return replace(shown, result=render_result(result, "1.1.0"))


def pod(number: int = 1, **more: Any) -> PodSpec:
    """The pod of `record(number)`."""
    values = {
        "namespace": "blue",
        "name": f"web-{number}",
        "uid": f"uid-{number}",
        "labels": {"app": "web"},
    }
    return PodSpec(**{**values, **more})


def pods(*wanted: PodSpec) -> Intent:
    return Intent(pods={(each.namespace, each.name): each for each in wanted})


@dataclass
class Records:
    """A journal without a disk."""

    records: dict[tuple[str, str], AttachmentRecord] = field(default_factory=dict)
    complete: bool = True

    def read_all(self) -> tuple[AttachmentRecord, ...]:
        return tuple(self.records.values())

    def put(self, *records: AttachmentRecord) -> None:
        self.records |= {each.key: each for each in records}


def vxlan_network(key: NetworkKey, vni: int, parent: str = "ens4") -> NetworkSpec:
    segment = SegmentKey(parent=parent, kind=SegmentKind.VXLAN, id=vni)
    return network(key, segment=segment, host_device=parent)


def look(
    *networks: NetworkSpec,
    failed: Mapping[NetworkKey, str] | None = None,
    at: int = 1_800_000_000_000_000,
    **more: Any,
) -> LookReport:
    """What a look found: every network on its device but the `failed` ones, with their words."""
    wrong = failed or {}
    conditions = {
        each.key: (
            Condition(
                type=DEVICE_READY,
                status=ConditionStatus.FALSE if each.key in wrong else ConditionStatus.TRUE,
                reason="KernelRefused" if each.key in wrong else "Ready",
                message=wrong.get(each.key, ""),
            ),
        )
        for each in networks
    }
    values: dict[str, Any] = {
        "at": at,
        "intent": Intent(),
        "networks": {each.key: each for each in networks},
        "conditions": conditions,
        "device_of": {
            each.key: f"vx{each.segment.id}" if each.segment else each.host_device
            for each in networks
            if each.key not in wrong
        },
    }
    return LookReport(**{**values, **more})


class ApiPods:
    """Pods of the API server as the source of a node would show them, and their records."""

    def __init__(self, api: ApiServer, node: str = "node-a") -> None:
        self.api = api
        self.node = node
        self.specs: dict[tuple[str, str], PodSpec] = {}
        api.make_namespace("blue")

    def make(self, number: int, **labels: str) -> AttachmentRecord:
        """A pod object bound to the node; the record of its attachment, which is nowhere yet."""
        stored = self.api.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"web-{number}",
                    "namespace": "blue",
                    "labels": {"app": "web", **labels},
                },
                "spec": {
                    "nodeName": self.node,
                    "containers": [{"name": "main", "image": "none"}],
                },
            }
        )
        metadata = stored["metadata"]
        self.specs["blue", metadata["name"]] = pod(
            number, uid=metadata["uid"], labels=metadata["labels"]
        )
        # A test may run at any time: events are told of what is fresh.
        return record(number, pod_uid=metadata["uid"], began_at=wall_clock())

    def intent(self) -> Intent:
        return Intent(pods=dict(self.specs))

    def status(self, number: int) -> list[dict[str, Any]]:
        """The network-status annotation of the pod."""
        found = self.api.get("Pod", f"web-{number}", "blue") or {"metadata": {}}
        return list(json.loads(found["metadata"].get("annotations", {}).get(STATUS, "[]")))

    def endpoints(self) -> list[dict[str, Any]]:
        return self.api.list("DanmEp", "blue")

    def events(self, reason: str, namespace: str = "blue") -> list[dict[str, Any]]:
        return [each for each in self.api.list("Event", namespace) if each["reason"] == reason]

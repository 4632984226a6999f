"""A pool smaller than the crowd: as many pods as addresses, and a clear word for the rest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from support.netns import Namespaces
from support.node import Answer, Nodes, Pod, cluster_network, pod_manifest

pytestmark = pytest.mark.system

CROWD, ROOM, AT_ONCE = 100, 80, 20


def test_eighty_of_a_hundred_pods_get_an_address_and_twenty_hear_which_pool_is_full(
    nodes: Nodes, namespaces: Namespaces, node_database_url: str
) -> None:
    namespace = namespaces.make("node")
    namespace.batch(
        "link add ens4 type veth peer name far4",
        "address add 192.0.2.1/24 dev ens4",
        "link set ens4 up",
        "link set far4 up",
    )
    node = nodes.make("node-a", namespace, database_url=node_database_url)
    node.write(
        "network.yaml",
        cluster_network(
            "small",
            host_device="ens4",
            vxlan=900,
            cidr="10.80.0.0/24",
            allocation_pool={"start": "10.80.0.10", "end": "10.80.0.89"},
        ),
    )
    pods = [nodes.pod(f"p{number}", uid=f"u{number}") for number in range(CROWD)]
    wanted = {"clusterNetwork": "small", "ip": "dynamic"}
    node.write("pods.yaml", *(pod_manifest("blue", pod.name, wanted, uid=pod.uid) for pod in pods))
    node.start()

    def attach(pod: Pod) -> Answer:
        return node.add(pod)

    with ThreadPoolExecutor(AT_ONCE) as crowd:
        answers = dict(zip((pod.name for pod in pods), crowd.map(attach, pods), strict=True))
    won = {name: answer for name, answer in answers.items() if answer.ok}
    lost = [answer for answer in answers.values() if not answer.ok]
    assert len(won) == ROOM, [answer.error for answer in lost]
    assert len({answer.addresses[0] for answer in won.values()}) == ROOM
    assert len(lost) == CROWD - ROOM
    for answer in lost:
        assert answer.document["code"] == 11
        assert "ClusterNetwork/small" in answer.error
        assert "10.80.0.10-10.80.0.89 is full" in answer.error
    usage = node.ask("audit", "usage")["items"][0]["v4"]
    assert (usage["held"], usage["free"]) == (ROOM, 0)
    for pod in pods:
        if pod.name not in won:
            assert list(pod.netns.links()) == ["lo"]

    with ThreadPoolExecutor(AT_ONCE) as crowd:
        done = list(crowd.map(node.delete, pods))
    assert all(answer.ok for answer in done)
    usage = node.ask("audit", "usage")["items"][0]["v4"]
    assert (usage["held"], usage["cooling"], usage["free"]) == (0, ROOM, 0)
    assert node.danmpy("audit", "verify").returncode == 0
    assert node.danmpy("audit", "diff").returncode == 0

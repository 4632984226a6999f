"""A SQLite file in a cluster: for one node, and only when that is known."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from danmpy.api.specs import NodeSpec
from danmpy.bootstrap.census import Census
from danmpy.errors import IntentError
from danmpy.intent.values import Intent
from danmpy.settings import Settings, load
from support.apiserver import ApiServer, free_port
from support.cluster import Cluster
from support.netns import Fabric, wait_until
from support.node import cluster_network
from support.processes import Daemons, danmpy_argv

FILE, SERVER = "sqlite:////var/lib/danmpy/danmpy.db", "postgresql+psycopg://user@host/name"
UNHEARD = Intent(complete=False)


def settings(url: str, source: str = "kubernetes") -> Settings:
    return load({"DANMPY_DATABASE_URL": url, "DANMPY_INTENT__SOURCE": source})


def nodes(*names: str) -> Intent:
    return Intent(nodes=tuple(NodeSpec(name=name) for name in names))


class Heard:
    """What was heard last, and a daemon that may be told to stop."""

    def __init__(self, intent: Intent, given: Settings) -> None:
        self.intent = intent
        self.stop = threading.Event()
        self.census = Census(given, lambda: self.intent, self.stop)


def test_one_node_may_have_a_file() -> None:
    heard = Heard(nodes("a"), settings(FILE))
    heard.census.count()
    assert heard.census.waits_for() == ""
    heard.census.require_alone(heard.intent)
    heard.census.raise_if_refused()
    assert not heard.stop.is_set()


def test_a_second_node_ends_the_daemon_whoever_sees_it_first() -> None:
    def require(heard: Heard) -> None:
        with pytest.raises(IntentError):
            heard.census.require_alone(heard.intent)

    for look in (lambda each: each.census.count(), lambda each: each.census.waits_for(), require):
        heard = Heard(nodes("a"), settings(FILE))
        look_first = heard.census.waits_for()
        heard.intent = nodes("b", "a", "d", "c")
        look(heard)
        assert look_first == ""
        assert heard.stop.is_set()
        with pytest.raises(
            IntentError, match=r"SQLite file, and the cluster has 4 nodes \(a, b, c, "
        ):
            heard.census.raise_if_refused()
        assert "4 nodes" in heard.census.waits_for()


def test_as_long_as_the_nodes_are_not_listed_nothing_is_given_out() -> None:
    heard = Heard(UNHEARD, settings(FILE))
    heard.census.count()
    assert "nodes are not listed yet" in heard.census.waits_for()
    assert not heard.stop.is_set()
    heard.intent = nodes("a")
    assert heard.census.waits_for() == ""


@pytest.mark.parametrize("given", [settings(SERVER), settings(FILE, "folder")])
@pytest.mark.parametrize("intent", [UNHEARD, nodes("a", "b")])
def test_a_server_and_a_folder_serve_any_number(given: Settings, intent: Intent) -> None:
    heard = Heard(intent, given)
    heard.census.count()
    heard.census.require_alone(intent)
    assert heard.census.waits_for() == ""
    assert not heard.stop.is_set()


@pytest.mark.system
def test_a_controller_with_a_file_ends_in_a_cluster_of_two_nodes(
    apiserver: ApiServer, daemons: Daemons, tmp_path: Path
) -> None:
    apiserver.make_namespace("danmpy")
    apiserver.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}})
    controller = daemons.make(
        *danmpy_argv("controller"),
        name="controller",
        environment={
            "DANMPY_DATABASE_URL": f"sqlite:///{tmp_path}/danmpy.db",
            "DANMPY_INTENT__SOURCE": "kubernetes",
            "DANMPY_INTENT__KUBECONFIG": str(apiserver.kubeconfig()),
            "DANMPY_METRICS__LISTEN": "",
            "DANMPY_WEBHOOK__LISTEN": f"127.0.0.1:{free_port()}",
        },
    )
    controller.start()
    wait_until(lambda: "leads" in controller.output, seconds=20, what="one node is fine")
    apiserver.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-b"}})
    wait_until(lambda: controller.process.poll() is not None, seconds=15, what="it ends")
    assert controller.process.returncode == 2
    assert "SQLite file, and the cluster has 2 nodes (node-a, node-b)" in controller.output
    assert "postgresql+psycopg://" in controller.output


@pytest.mark.system
def test_a_node_with_a_file_attaches_pods_until_there_is_a_second_node(
    cluster: Cluster, fabric: Fabric, tmp_path: Path
) -> None:
    node = cluster.add_node(
        "node-a",
        fabric.nodes[0],
        settings={"DANMPY_DATABASE_URL": f"sqlite:///{tmp_path}/danmpy.db"},
    )
    cluster.declare(cluster_network("l2", host_device="ens4", vxlan=700, cidr="10.0.0.0/24"))
    node.start()
    wish = {"clusterNetwork": "l2", "ip": "dynamic"}
    pod = cluster.pod("node-a", "blue", "web-0", wish)
    answer = node.add(pod)
    assert answer.ok, answer
    cluster.add_node("node-b", fabric.nodes[1])
    wait_until(lambda: not node.daemon.running, seconds=15, what="it ends")
    assert "SQLite file, and the cluster has 2 nodes (node-a, node-b)" in node.daemon.output

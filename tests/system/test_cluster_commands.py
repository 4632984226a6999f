"""What an operator is told in a cluster, above all while the API server cannot be asked: one line
for one cause, the way out, exit code 3, and the audit all the same."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from support.apiserver import ApiServer, ApiServers
from support.cluster import Cluster
from support.interpose import Interposer
from support.netns import wait_until
from support.node import Node, Pod, cluster_network, tenant_config, tenant_network

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

NETWORK = "TenantNetwork/blue/internal"
INTERNAL = {"tenantNetwork": "internal", "ip": "dynamic"}
NEED_THE_SERVER = (
    ("plan",),
    ("networks",),
    ("explain", "blue/web-0"),
    ("explain", "blue/nobody"),
    ("audit", "usage"),
    ("audit", "diff"),
)
SOME = (("networks",), ("audit", "diff"))
"""For outages in which each command waits for some seconds."""

NEED_NONE = (
    ("audit", "who", "10.20.0.1"),
    ("audit", "history", "--network", NETWORK),
    ("audit", "history", "--network", "internal"),
    ("audit", "events"),
    ("audit", "verify"),
)


@contextmanager
def setting(node: Node, values: Mapping[str, str]) -> Iterator[None]:
    """Other settings for the commands on this node; its daemon keeps its own."""
    before = dict(node.environment)
    node.environment.update(values)
    try:
        yield
    finally:
        node.environment.clear()
        node.environment.update(before)


def kubeconfig_of(api: ApiServer, node: Node, host: str) -> dict[str, str]:
    """A kubeconfig that leads to another host."""
    path = node.folder / f"{host}.yaml"
    path.write_text(api.kubeconfig().read_text().replace("127.0.0.1", host))
    return {"DANMPY_INTENT__KUBECONFIG": str(path)}


def looker(api: ApiServer, *rules: dict[str, list[str]]) -> str:
    """The token of an account that may do what `rules` say."""
    token = api.service_account_token("default", "looker")
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "looker"}}
    api.apply({**rbac, "kind": "ClusterRole", "rules": list(rules)})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "looker"}
    subject = {"kind": "ServiceAccount", "name": "looker", "namespace": "default"}
    api.apply({**rbac, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]})
    path = api.path("danm.k8s.io/v1", "ClusterNetwork")
    wait_until(lambda: api.request("GET", path, token=token)[0] == 200, what="allowed")
    return token


def require_one_line(
    node: Node, *words: str, commands: Sequence[Sequence[str]] = NEED_THE_SERVER
) -> None:
    """Each command that needs the server says these words, once, and that it failed."""
    __tracebackhide__ = True
    for command in commands:
        began = time.monotonic()
        done = node.danmpy(*command, check=False)
        assert done.returncode == 3, (command, done)
        assert time.monotonic() - began < 15, command
        (line,) = done.stderr.splitlines()
        assert line.startswith("danmpy: "), command
        for each in words:
            assert each in line, (command, line)
        assert "nothing to do" not in done.stdout, command
        assert "no longer in the intent" not in done.stdout, command


def require_audit(node: Node) -> None:
    """The questions about leases are answered, without a word about the server."""
    __tracebackhide__ = True
    for command in NEED_NONE:
        done = node.danmpy(*command, check=False)
        assert (done.returncode, done.stderr) == (0, ""), (command, done)
        assert done.stdout, command


@pytest.fixture
def attached(small_cluster: Cluster) -> tuple[Cluster, Node, Pod]:
    """A cluster with networks of two kinds and a pod on node-a."""
    cluster, node = small_cluster, small_cluster.nodes["node-a"]
    cluster.declare(
        tenant_config({"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}),
        tenant_network("internal", "blue", cidr="10.20.0.0/24"),
        cluster_network("storage", host_device="ens4", vxlan=900),
    )
    cluster.wait_ready("TenantNetwork", "internal", "blue")
    pod = cluster.pod("node-a", "blue", "web-0", INTERNAL)
    answer = node.add(pod)
    assert answer.ok, answer.error
    return cluster, node, pod


def test_commands_answer_from_a_cluster(attached: tuple[Cluster, Node, Pod]) -> None:
    cluster, node, _ = attached
    cluster.pod("node-b", "blue", "db-0", INTERNAL)
    assert node.ask("plan")["items"] == []
    assert {item["network"] for item in node.ask("networks")["items"]} == {
        NETWORK,
        "ClusterNetwork/storage",
    }
    assert node.ask("audit", "diff")["items"] == []
    here, there = node.ask("explain", "blue/web-0"), node.ask("explain", "blue/db-0")
    assert (here["attached"], here["declared"], here["problems"]) == (True, True, [])
    assert (there["attached"], there["declared"], there["node"]) == (False, True, "node-b")
    done = node.danmpy("explain", "blue/nobody", check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "danmpy: Pod/blue/nobody: no such pod is or was known"
        " (kubectl get pods -n blue lists those that there are)\n"
    )
    require_audit(node)


def test_an_api_server_that_cannot_be_asked_is_one_line_and_no_reason_to_stop_the_audit(
    attached: tuple[Cluster, Node, Pod],
) -> None:
    cluster, node, _ = attached
    with setting(node, {"DANMPY_INTENT__KUBECONFIG": "/nowhere/config"}):
        require_one_line(node, "/nowhere/config cannot be used", "set intent.kubeconfig to")
        require_audit(node)
    with setting(node, kubeconfig_of(cluster.api, node, "192.0.2.77")):
        words = "API server https://192.0.2.77:", "(check that it runs"
        require_one_line(node, *words, commands=SOME)
    with setting(node, kubeconfig_of(cluster.api, node, "no-such-host.invalid")):
        words = "no-such-host.invalid", "(check that it runs"
        require_one_line(node, *words, commands=SOME)
    cluster.relays["node-a"].hush()
    require_one_line(node, "the API server does not answer", "timed out", commands=SOME)
    cluster.relays["node-a"].speak()
    cluster.api.kill()
    require_one_line(node, "the API server does not answer", "(check that it runs")
    require_audit(node)


def test_a_server_without_our_kinds_is_one_line_that_says_how_to_make_them(
    attached: tuple[Cluster, Node, Pod], apiservers: ApiServers
) -> None:
    _, node, _ = attached
    bare = apiservers.make(crds=False)
    relay = Interposer(bare.port, inside=node.namespace)
    try:
        with setting(node, {"DANMPY_INTENT__KUBECONFIG": str(bare.kubeconfig())}):
            require_one_line(node, "does not know these kinds", "danmpy crds | kubectl apply -f -")
            require_audit(node)
    finally:
        relay.close()


def test_only_what_asks_about_pods_lists_pods(attached: tuple[Cluster, Node, Pod]) -> None:
    """Told by an account that may not: RBAC refuses the list, and nobody misses it."""
    cluster, node, _ = attached
    token = looker(
        cluster.api,
        {"apiGroups": ["danm.k8s.io"], "resources": ["*"], "verbs": ["list"]},
        {"apiGroups": ["k8s.cni.cncf.io"], "resources": ["*"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    )
    with setting(node, {"DANMPY_INTENT__KUBECONFIG": str(cluster.api.kubeconfig(token=token))}):
        for command in (("plan",), ("networks",), ("explain", "blue/web-0"), ("audit", "usage")):
            done = node.danmpy(*command, check=False)
            assert (done.returncode, done.stderr) == (0, ""), (command, done)
        done = node.danmpy("audit", "diff", check=False)
        assert done.returncode == 3
        (line,) = done.stderr.splitlines()
        assert 'cannot list resource "pods"' in line
        assert "(give the account this right (RBAC))" in line

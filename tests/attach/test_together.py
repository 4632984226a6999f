"""ADD, DEL, GC, repair and sweep in many threads at once: no error, and at the end nothing left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from danmpy.api.cni import Attachment, Verb
from danmpy.attach.upkeep import GRACE_S, Sweeper
from support.attaching import AttachNode, assert_empty, declare_three, request
from support.netns import Namespace, Namespaces

PODS = 4
SECONDS = 1.5


def test_all_verbs_and_jobs_at_once_leave_nothing(node: AttachNode, namespaces: Namespaces) -> None:
    declare_three(node)
    wishes = (
        {"tenantNetwork": "internal", "ip": "dynamic"},
        {"clusterNetwork": "front", "ip": "dynamic"},
    )
    pods = {f"p{number}": namespaces.make("pod") for number in range(PODS)}
    for name in pods:
        node.add_pod(name, *wishes)
    over = threading.Event()

    def often(work: Callable[[], object], pause: float = 0.0) -> None:
        while not over.is_set():
            work()
            time.sleep(pause)

    def come_and_go(name: str, sandbox: Namespace) -> None:
        result = node.attacher.add(request(Verb.ADD, name, sandbox))
        assert len({ip.address for ip in result.ips}) == 2
        node.attacher.delete(request(Verb.DEL, name, sandbox))

    valid = frozenset(Attachment(container_id=f"c-{name}", ifname="eth0") for name in pods)
    sweeper = Sweeper(journal=node.journal, source=node.view, detacher=node.attacher)
    clock = iter(range(0, 10**9, int(GRACE_S)))
    jobs = [
        lambda: often(
            lambda: node.attacher.collect(request(Verb.GC, "", "", "", valid_attachments=valid)),
            0.02,
        ),
        lambda: often(
            lambda: node.attacher.collect(
                request(Verb.GC, "", "", "", valid_attachments=frozenset())
            ),
            0.1,
        ),
        lambda: often(node.attacher.repair),
        lambda: often(lambda: sweeper.sweep(float(next(clock)))),
    ]
    with ThreadPoolExecutor(PODS + len(jobs)) as threads:
        running = [
            threads.submit(often, lambda name=name, sandbox=sandbox: come_and_go(name, sandbox))
            for name, sandbox in pods.items()
        ]
        running += [threads.submit(job) for job in jobs]
        time.sleep(SECONDS)
        over.set()
    for each in running:
        each.result()
    assert len(node.history()) > 4 * PODS, "hardly anything happened"
    for name, sandbox in pods.items():
        node.attacher.delete(request(Verb.DEL, name, sandbox))
        assert_empty(sandbox, node, f"c-{name}")

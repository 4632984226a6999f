"""The mirrors of one node as its daemon runs them, without the rest of the daemon."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from danmpy.attach.journal import Journal
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine
from danmpy.errors import StoreError
from danmpy.intent.cluster import ClusterSource
from danmpy.ipam.nodereports import NodeNetwork, NodeReports
from danmpy.kube.client import KubeClient
from danmpy.mirrors.service import MirrorPorts, Mirrors
from support.mirroring import look, vxlan_network
from support.specs import tenant_key


class Reports:
    """The real rows of nodes behind a door that a test can shut: the database is away."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)
        self.store = NodeReports(self._engine, wall_clock)
        self.away = False
        self.changes = 0

    def close(self) -> None:
        self._engine.dispose()

    def _require(self) -> None:
        if self.away:
            raise StoreError("away", hint="wait")

    def write(self, node: str, rows: Mapping[str, NodeNetwork]) -> None:
        self._require()
        before = self.store.read(node)
        self.store.write(node, rows)
        self.changes += self.store.read(node) != before

    def read(self, node: str) -> Mapping[str, NodeNetwork]:
        self._require()
        return self.store.read(node)


class MirrorNode:
    """The journal, the source and the mirrors of one daemon."""

    def __init__(self, folder: Path, client: KubeClient, url: str) -> None:
        self.client = client
        self.journal = Journal(folder)
        self.journal.open()
        self.reports = Reports(url)
        self.report = look(vxlan_network(tenant_key("internal"), 700))
        self.source = ClusterSource(client, node_name="node-a")
        self._stop = threading.Event()
        self._watch = threading.Thread(
            target=self.source.watch, args=(lambda: None, self._stop), daemon=True
        )
        self._watch.start()
        self.mirrors = Mirrors(
            MirrorPorts(
                records=self.journal,
                intent=self.source.read,
                report=lambda: self.report,
                reports=self.reports,
                cluster=client,
            ),
            "node-a",
        )
        self.journal.listen(self.mirrors.wake)
        self.mirrors.start()

    def close(self) -> None:
        self.mirrors.close()
        self._stop.set()
        self._watch.join(5)
        self.journal.close()
        self.reports.close()


@contextmanager
def running(folder: Path, client: KubeClient, url: str) -> Iterator[MirrorNode]:
    node = MirrorNode(folder, client, url)
    try:
        yield node
    finally:
        node.close()

"""What the node counts of its leases and its journal, for Prometheus. Labels are bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from danmpy.api.specs import NetworkSpec
from danmpy.attach.journal import Journal, Phase
from danmpy.attach.ports import Leases
from danmpy.clock import MICROSECONDS, Clock, monotonic
from danmpy.errors import DanmpyError
from danmpy.ipam.values import EndReason, Lease, LeaseOwner, LeaseRequest

_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class MeasuredLeases:
    """The leases, timed and counted (`attach.ports.Leases`)."""

    def __init__(self, leases: Leases, registry: CollectorRegistry) -> None:
        self._leases = leases
        self._seconds = Histogram(
            "danmpy_lease_seconds",
            "Time of a lease transaction, with all of its tries",
            ["operation"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._errors = Counter(
            "danmpy_lease_errors",
            "Lease transactions that failed, by the class of the error",
            ["operation", "error"],
            registry=registry,
        )

    @contextmanager
    def _measured(self, operation: str) -> Iterator[None]:
        began = monotonic()
        try:
            yield
        except DanmpyError as error:
            # The classes of `danmpy.errors` and few more: never a text of the error.
            self._errors.labels(operation=operation, error=type(error).__name__).inc()
            raise
        finally:
            self._seconds.labels(operation=operation).observe(monotonic() - began)

    def bind(self, owner: LeaseOwner, requests: Sequence[LeaseRequest]) -> tuple[Lease, ...]:
        """As `Leases.bind`."""
        with self._measured("bind"):
            return self._leases.bind(owner, requests)

    def release(
        self, container_id: str, *, reason: str = EndReason.RELEASED, at: int | None = None
    ) -> tuple[Lease, ...]:
        """As `Leases.release`."""
        with self._measured("release"):
            return self._leases.release(container_id, reason=reason, at=at)

    def release_interface(
        self, container_id: str, interface: str, *, reason: str = EndReason.UNPLUGGED
    ) -> tuple[Lease, ...]:
        """As `Leases.release_interface`."""
        with self._measured("release"):
            return self._leases.release_interface(container_id, interface, reason=reason)

    def held_by(self, container_id: str) -> tuple[Lease, ...]:
        """As `Leases.held_by`."""
        return self._leases.held_by(container_id)

    def record_mac(self, container_id: str, interface: str, mac: str) -> None:
        """As `Leases.record_mac`."""
        with self._measured("record_mac"):
            self._leases.record_mac(container_id, interface, mac)

    def require_open(self, networks: Iterable[NetworkSpec]) -> None:
        """As `Leases.require_open`."""
        self._leases.require_open(networks)

    def ping(self) -> None:
        """As `Leases.ping`."""
        self._leases.ping()


def show_journal(journal: Journal, clock: Clock, registry: CollectorRegistry) -> None:
    """Show how many attachments the node has, and the releases that the database has yet to hear
    of: how many, and for how long the oldest waits.
    """
    attachments = Gauge(
        "danmpy_journal_attachments", "Attachments in the node's journal", registry=registry
    )
    attachments.set_function(lambda: float(len(journal.read_all())))
    waiting = Gauge(
        "danmpy_spool_releases",
        "Releases that the database has not heard of yet",
        registry=registry,
    )
    waiting.set_function(lambda: float(len(_waiting_since(journal))))
    age = Gauge(
        "danmpy_spool_age_seconds", "Age of the oldest such release; 0: none", registry=registry
    )
    age.set_function(
        lambda: max((clock() - at for at in _waiting_since(journal)), default=0) / MICROSECONDS
    )


def _waiting_since(journal: Journal) -> Sequence[int]:
    return [record.detached_at for record in journal.read_all() if record.phase is Phase.DETACHED]

"""What the CNI server counts, for Prometheus. Labels are bounded: verb and error code."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_VERBS = frozenset({"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"})


class CniMetrics:
    """Counters and latencies of the CNI verbs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "danmpy_cni_requests",
            "CNI calls by verb and error code",
            ["verb", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "danmpy_cni_request_seconds",
            "Time to answer a CNI call",
            ["verb"],
            buckets=_BUCKETS,
            registry=registry,
        )

    def observe(self, verb: str, code: int, seconds: float) -> None:
        """One call ended with this CNI error code (0: success) after so many seconds."""
        known = verb if verb in _VERBS else "other"
        self._requests.labels(verb=known, code=str(code)).inc()
        self._seconds.labels(verb=known).observe(seconds)

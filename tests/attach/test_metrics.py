"""Counters and latencies of the CNI verbs."""

from prometheus_client import CollectorRegistry, generate_latest

from danmpy.attach.metrics import CniMetrics


def test_calls_are_counted_by_verb_and_code_and_timed_by_verb() -> None:
    registry = CollectorRegistry()
    metrics = CniMetrics(registry)
    metrics.observe("ADD", 0, 0.004)
    metrics.observe("ADD", 0, 0.2)
    metrics.observe("ADD", 11, 5.0)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("danmpy_cni_requests_total", verb="ADD", code="0") == 2
    assert value("danmpy_cni_requests_total", verb="ADD", code="11") == 1
    assert value("danmpy_cni_request_seconds_count", verb="ADD") == 3
    assert value("danmpy_cni_request_seconds_bucket", verb="ADD", le="0.005") == 1


def test_verbs_that_nobody_knows_share_one_label_so_that_callers_cannot_make_many() -> None:
    registry = CollectorRegistry()
    metrics = CniMetrics(registry)
    for number in range(50):
        metrics.observe(f"NONSENSE{number}", 4, 0.001)
    text = generate_latest(registry).decode()
    assert 'verb="other"' in text
    assert "NONSENSE" not in text

"""Health as metrics."""

from prometheus_client import REGISTRY

from process import metrics
from process.health import Health


def _waiting_for() -> dict[str, float]:
    return {
        sample.labels["part"]: sample.value for family in metrics.WAITING_FOR.collect() for sample in family.samples
    }


def test_the_gauges_follow_health() -> None:
    health = Health("test", "nats", "market")
    metrics.update(health)
    assert REGISTRY.get_sample_value("quotestream_ready") == 0
    assert _waiting_for() == {"nats": 1, "market": 1}
    health.fine("nats")
    metrics.update(health)
    assert _waiting_for() == {"market": 1}
    health.fine("market")
    metrics.update(health)
    assert REGISTRY.get_sample_value("quotestream_ready") == 1
    assert _waiting_for() == {}

"""The metrics that every service exports beside its own: whether it is ready, and what it waits for.

The Prometheus client already exports when the process started, as `process_start_time_seconds`.
"""

from prometheus_client import Gauge

from process.health import Health

READY = Gauge("quotestream_ready", "1 while the service is ready and waits for nothing, else 0.")
WAITING_FOR = Gauge("quotestream_waiting_for", "1 for each part that the service waits for now.", ["part"])


def update(health: Health) -> None:
    """Set the gauges from a service's current health."""
    waiting = health.report().waiting_for
    READY.set(not waiting)
    WAITING_FOR.clear()
    for part in waiting:
        WAITING_FOR.labels(part.name).set(1)

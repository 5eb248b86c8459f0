"""Counts and times of the API, for Prometheus.

Held by tests/serving/test_api.py.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class ServingMetrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        """All at 0."""
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("requests", "Requests for predictions, by HTTP status.", ["status"], registry=registry)
        self.images = Counter("photos", "Photos, by outcome.", ["outcome"], registry=registry)
        sizes = [1, 2, 4, 8, 16, 32]
        self.batches = Histogram("batch_photos", "Photos of a batch.", buckets=sizes, registry=registry)
        self.seconds = Histogram("batch_seconds", "Seconds of a batch, from bytes to predictions.", registry=registry)
        self.waiting = Gauge("waiting_photos", "Photos that wait or are in work.", registry=registry)

    def text(self) -> bytes:
        """Prometheus's text format."""
        return generate_latest(self.registry)

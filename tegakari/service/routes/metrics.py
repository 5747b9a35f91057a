"""Route of the metrics."""

from __future__ import annotations

import os

from litestar import Response, get
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from tegakari.service.http.problems import described
from tegakari.service.observe import METRICS_DIRECTORY


@get(
    "/metrics",
    operation_id="getMetrics",
    summary="Metrics",
    media_type="text/plain",
    responses=described(400),
    sync_to_thread=True,
)
def get_metrics() -> Response[bytes]:
    """Counters and timings in Prometheus' text format, summed over all workers."""
    registry = REGISTRY
    if os.environ.get(METRICS_DIRECTORY):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


HANDLERS = (get_metrics,)

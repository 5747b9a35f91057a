"""Metrics for Prometheus. Label values are bounded: routes are templates, methods and reasons are fixed."""

from __future__ import annotations

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "tegakari_http_requests", "Responses sent, by method, route and status.", ("method", "route", "status")
)
SECONDS = Histogram(
    "tegakari_http_request_seconds",
    "Seconds from a request to the end of its response, by route.",
    ("route",),
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_PROGRESS = Gauge("tegakari_http_requests_in_progress", "Requests in progress.", multiprocess_mode="livesum")
REFUSED = Counter("tegakari_http_refused", "Requests refused before they were routed, by kind of problem.", ("reason",))
RESPONSE_BYTES = Counter("tegakari_http_response_bytes", "Bytes of bodies sent, after compression.")

METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH")
UNROUTED = "none"
"""Route of requests that match no route."""


def record(method: str, route: str, status: int, seconds: float, size: int) -> None:
    """Count one response."""
    _requests(method if method in METHODS else "other", route, status).inc()
    _seconds(route).observe(seconds)
    RESPONSE_BYTES.inc(size)


@cache
def _requests(method: str, route: str, status: int) -> Counter:
    return REQUESTS.labels(method, route, str(status))  # looking it up costs more than counting


@cache
def _seconds(route: str) -> Histogram:
    return SECONDS.labels(route)

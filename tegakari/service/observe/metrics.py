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

MODEL_REQUESTS_WAITING = Gauge(
    "tegakari_model_requests_waiting", "Requests that wait for the models.", multiprocess_mode="livesum"
)
MODEL_LOAD_SECONDS = Histogram(
    "tegakari_model_load_seconds",
    "Seconds to load the models of a run.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
JOBS_ACTIVE = Gauge("tegakari_jobs_active", "Jobs that are queued or running.", multiprocess_mode="livesum")
JOBS_ENDED = Counter("tegakari_jobs_ended", "Jobs that ended, by state.", ("state",))
CACHE_LOOKUPS = Counter("tegakari_cache_lookups", "Look-ups of results that may exist already.", ("cache",))
CACHE_HITS = Counter("tegakari_cache_hits", "Look-ups that found the result.", ("cache",))

METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH")
UNROUTED = "none"
"""Route of requests that match no route."""


def record(method: str, route: str, status: int, seconds: float, size: int) -> None:
    """Count one response."""
    _requests(method if method in METHODS else "other", route, status).inc()
    _seconds(route).observe(seconds)
    RESPONSE_BYTES.inc(size)


def record_lookup(cache_: str, *, hit: bool) -> None:
    """Count a look-up in a cache.

    Args:
        cache_: its name.
        hit: whether the result was there.
    """
    CACHE_LOOKUPS.labels(cache_).inc()
    if hit:
        CACHE_HITS.labels(cache_).inc()


@cache
def _requests(method: str, route: str, status: int) -> Counter:
    return REQUESTS.labels(method, route, str(status))  # looking it up costs more than counting


@cache
def _seconds(route: str) -> Histogram:
    return SECONDS.labels(route)

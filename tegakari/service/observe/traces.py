"""Traces by OpenTelemetry, where its packages are installed (`pip install tegakari[telemetry]`).

OpenTelemetry's environment variables name their destination: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and others.
"""

from __future__ import annotations

from litestar.types import ASGIApp

from tegakari.schemas.errors import ConfigError


def traced(app: ASGIApp) -> ASGIApp:
    """The application with one span per request.

    Raises:
        ConfigError: the packages are not installed.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError(
            f"OpenTelemetry is not installed: {error}",
            field="service.telemetry",
            fix="pip install 'tegakari[telemetry]', or set it to false",
        ) from None
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return OpenTelemetryMiddleware(app, tracer_provider=provider)  # pyright: ignore

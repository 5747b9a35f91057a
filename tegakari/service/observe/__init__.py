"""Logs, metrics, traces."""

METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable: directory in which the workers' metrics add up. prometheus_client reads it when imported."""

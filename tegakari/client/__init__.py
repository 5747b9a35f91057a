"""The REST API from Python."""

"""Runs in a bucket of S3, or of a server that speaks its protocol: push, pull, list, delete, a cache to serve from."""

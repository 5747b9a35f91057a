"""The index of the API: where a client begins."""

from __future__ import annotations

import msgspec


class ApiOperation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation of the API."""

    operation: str
    """its name in the OpenAPI document"""
    method: str
    path: str
    """template: `{run}` stands for the name of a run, percent-encoded"""
    summary: str


class ApiIndex(msgspec.Struct, frozen=True, kw_only=True):
    """The version of the service, its documents, and all its operations."""

    version: str
    """of tegakari"""
    runs: str
    """path of the list of runs"""
    openapi: str
    """path of the OpenAPI document"""
    viewer: str
    """path of the page that shows it"""
    operations: list[ApiOperation]
    """by path and method"""

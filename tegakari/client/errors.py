"""Errors of requests to a service."""

from __future__ import annotations

from tegakari.schemas.errors import TegakariError


class ApiError(TegakariError):
    """The service refused the request or failed: its problem document."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        type: str = "about:blank",
        field: str | None = None,
        fix: str | None = None,
    ) -> None:
        """Take the members of a problem document.

        Args:
            status: HTTP status.
            title: the kind of problem in words.
            detail: this occurrence.
            type: URI of the kind; its last part is `kind`.
            field: the parameter or part of the path at fault.
            fix: what to do about it.
        """
        super().__init__(detail or title, field=field, fix=fix)
        self.status = status
        self.title = title
        self.type = type

    @property
    def kind(self) -> str:
        """The slug of the kind of problem: not-found, bad-parameter, busy, ..."""
        return self.type.rsplit("/", 1)[-1].removesuffix(".md")


class UnreachableError(TegakariError):
    """The service could not be reached, or closed the connection before the end of its response."""

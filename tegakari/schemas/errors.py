"""All errors shown to users, each with its HTTP status and its page in docs/errors.

The command line prints an error; the API sends it as a problem document (RFC 9457). An error states what is wrong,
names the field and the value at fault, and gives the fix.
"""

from __future__ import annotations

from collections.abc import Iterator


class TegakariError(Exception):
    """Base of all errors caused by the input or the machine rather than by a fault of the program.

    Args:
        message: what is wrong, including the offending value.
        field: configuration key, column, option or parameter at fault; None: none.
        fix: what the user can do about it.
    """

    slug: str = "error"
    """Kind of the error: name of its page in docs/errors, last segment of the problem's `type`."""

    status: int = 500
    """HTTP status of the response. For 500 and 507 the message goes to the server's log only: it names files."""

    title: str = "The server failed"
    """The kind in words, the same for every error of one slug."""

    retry_after: float | None = None
    """Seconds after which a retry can succeed; None: a retry does not help."""

    def __init__(self, message: str, *, field: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.fix = fix

    def __str__(self) -> str:
        head = f"{self.field}: {self.message}" if self.field else self.message
        return f"{head}\n  fix: {self.fix}" if self.fix else head

    @classmethod
    def docs_page(cls) -> str:
        """Path of the page about this kind of error, as the service serves it."""
        return f"/docs/errors/{cls.slug}"


def error_classes() -> Iterator[type[TegakariError]]:
    """`TegakariError` and all subclasses that define a slug, base first."""
    queue: list[type[TegakariError]] = [TegakariError]
    while queue:
        error = queue.pop(0)
        if "slug" in vars(error):
            yield error
        queue.extend(error.__subclasses__())


class InternalError(TegakariError):
    """A fault of the program: an exception that is not a `TegakariError`."""

    slug = "internal-error"


# Configuration, corpora, models


class ConfigError(TegakariError):
    """The configuration file cannot be read, or holds a wrong key or value."""

    slug = "bad-configuration"
    title = "A configuration key or command option is wrong"


class MissingExtraError(ConfigError):
    """A command or method needs packages of an extra that is not installed."""

    slug = "missing-extra"
    title = "An optional dependency is not installed"


class CorpusError(TegakariError):
    """The corpus cannot be read, or contains no usable document."""

    slug = "bad-corpus"
    title = "A corpus cannot be used"


class ModelError(TegakariError):
    """A model directory is missing, unsafe, or not a sequence classifier with a list of blocks."""

    slug = "bad-model"
    title = "A model cannot be used"


class ModelNotHereError(ModelError):
    """The model of a run is not on this machine, or has changed since the run was indexed."""

    slug = "model-not-here"
    status = 409
    title = "The run's model is not on this machine"


class SaeError(TegakariError):
    """A sparse autoencoder cannot be read, or does not fit the classifier."""

    slug = "bad-sae"
    title = "A sparse autoencoder cannot be used"


class LostRankError(SaeError):
    """A process that trains SAEs has lost another, with which it exchanges residuals."""


class EndpointError(TegakariError):
    """The server of the language model that explains features cannot be used, or may not get the texts."""

    slug = "endpoint-failed"
    title = "The language model's server cannot be used"


class KernelError(TegakariError):
    """Sparse encode refuses its input: a shape, a dtype, NaN or infinity."""

    slug = "bad-encode-input"
    title = "Sparse encode refused its input"


class MemoryShortError(TegakariError):
    """The estimated memory of an analysis exceeds the free memory; the analysis was not started."""

    slug = "memory-short"
    status = 503
    title = "The server has too little free memory"
    retry_after = 30


# The store


class StoreError(TegakariError):
    """The store cannot be read or written."""

    slug = "bad-store"
    title = "The store cannot be read"


class RunExistsError(StoreError):
    """A published run has this name already and was indexed from other inputs."""

    slug = "run-exists"
    status = 409
    title = "A run of this name exists"


class DiskFullError(StoreError):
    """The disk is full; finished work is stored, and the same command resumes."""

    slug = "disk-full"
    status = 507
    title = "The server's disk is full"


class ObjectStorageError(StoreError):
    """A bucket cannot be read or written: a missing right, a server that fails, a damaged object."""

    slug = "object-storage"
    title = "Object storage failed"


class BrokenTransferError(ObjectStorageError):
    """The connection ended before the whole object was received; the rest can be requested."""


class NotPulledError(TegakariError):
    """The run is in the bucket that is served, and its files are not on this machine yet."""

    slug = "run-not-pulled"
    status = 503
    title = "The run is being copied to this machine"
    retry_after = 10


class NotFoundError(TegakariError):
    """The run, label, layer, feature or document does not exist."""

    slug = "not-found"
    status = 404
    title = "Not found"


class QueryError(TegakariError):
    """A parameter of a query has a value that is not allowed."""

    slug = "bad-parameter"
    status = 400
    title = "A parameter is wrong"


class CursorError(TegakariError):
    """The cursor does not come from a page of this list."""

    slug = "bad-cursor"
    status = 400
    title = "The cursor belongs to another list"


class SqlError(TegakariError):
    """The SQL query is wrong, or is not allowed."""

    slug = "bad-sql"
    status = 400
    title = "The query cannot be run"


# Requests to the service


class BodyError(TegakariError):
    """The body of a request is not JSON, or not of the documented shape."""

    slug = "bad-request"
    status = 400
    title = "The request is wrong"


class MethodNotAllowedError(TegakariError):
    """The route exists, but not for this HTTP method."""

    slug = "method-not-allowed"
    status = 405
    title = "The method is not allowed here"


class MediaTypeError(TegakariError):
    """The body of a request is not declared as JSON."""

    slug = "wrong-media-type"
    status = 415
    title = "The body has the wrong media type"


class UnknownHostError(TegakariError):
    """The `Host` header of a request is not a name of the service."""

    slug = "unknown-host"
    status = 400
    title = "The request names another host"


class ForeignPageError(TegakariError):
    """A web page of another origin sent a request that changes or computes something."""

    slug = "foreign-page"
    status = 403
    title = "The page must not send this request"


class TooLargeError(TegakariError):
    """The body of the request exceeds the configured size."""

    slug = "too-large"
    status = 413
    title = "The request is too large"


class LongAddressError(TegakariError):
    """Path and query of the request exceed the permitted length."""

    slug = "long-address"
    status = 414
    title = "The address is too long"


class TooCostlyError(TegakariError):
    """The estimated cost of the request exceeds what the server computes for one request."""

    slug = "too-costly"
    status = 413
    title = "The request computes too much"


class TooSlowError(TegakariError):
    """The body of the request did not arrive in time."""

    slug = "too-slow"
    status = 408
    title = "The request arrived too slowly"


class NoKeyError(TegakariError):
    """The request carries no API key, or one that is unknown, revoked or expired."""

    slug = "no-key"
    status = 401
    title = "A valid API key is required"


class KeyScopeError(TegakariError):
    """The API key is valid, but its scope does not cover the request."""

    slug = "key-lacks-scope"
    status = 403
    title = "The API key does not allow this"


class RateError(TegakariError):
    """The client exceeds its requests per second."""

    slug = "too-many-requests"
    status = 429
    title = "Too many requests"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, fix="wait the number of seconds in the Retry-After header")
        self.retry_after = retry_after


class OverloadedError(TegakariError):
    """The server has reached its limit of requests in progress."""

    slug = "overloaded"
    status = 503
    title = "The server is overloaded"
    retry_after = 1


class BusyError(TegakariError):
    """The queue for live inference or SQL is full."""

    slug = "busy"
    status = 503
    title = "The server is busy"
    retry_after = 2


class DeadlineError(TegakariError):
    """The result was not ready within its deadline; the computation was stopped."""

    slug = "deadline-passed"
    status = 503
    title = "The result was not ready in time"
    retry_after = 5


class NotReadyError(TegakariError):
    """The server is running but cannot answer requests yet, or no longer can."""

    slug = "not-ready"
    status = 503
    title = "The server is not ready"


class InterruptedJobError(TegakariError):
    """The server ended the job: it stopped, or the job took longer than jobs may."""

    slug = "job-interrupted"
    status = 503
    title = "The server ended the job"
    retry_after = 5


class CancelledJobError(TegakariError):
    """The job was cancelled while a request waited for it."""

    slug = "job-cancelled"
    status = 409
    title = "The job was cancelled"

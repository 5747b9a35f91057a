"""Every error that a user can meet. The command line prints it, the API turns it into a problem document.

An error says what is wrong, names the field and the value, and says how to put it right.
"""

from __future__ import annotations

from typing import ClassVar


class TegakariError(Exception):
    """Base of all errors that are the input's or the machine's fault, not the program's.

    Args:
        message: what is wrong, with the offending value in it.
        field: the configuration key, column, option or parameter at fault, if there is one.
        fix: what the reader can do about it.
    """

    slug: ClassVar[str] = "error"

    def __init__(self, message: str, *, field: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.fix = fix

    def __str__(self) -> str:
        head = f"{self.field}: {self.message}" if self.field else self.message
        return f"{head}\n  fix: {self.fix}" if self.fix else head


class ConfigError(TegakariError):
    """The configuration file cannot be read or holds a wrong key or value."""

    slug = "bad-configuration"


class CorpusError(TegakariError):
    """The corpus cannot be read, or nothing usable is left of it."""

    slug = "bad-corpus"


class ModelError(TegakariError):
    """A model directory is missing, unsafe, or not a sequence classifier with a block list."""

    slug = "bad-model"


class ModelNotHereError(ModelError):
    """The model of a run is not on this machine, or is no longer the one that the run was made from."""

    slug = "model-not-here"


class SaeError(TegakariError):
    """A sparse autoencoder cannot be read or does not fit the classifier."""

    slug = "bad-sae"


class KernelError(TegakariError):
    """Sparse encode was given an input that it refuses: a shape, a dtype, NaN or infinity."""

    slug = "bad-encode-input"


class StoreError(TegakariError):
    """The store cannot be read or written."""

    slug = "bad-store"


class RunExistsError(StoreError):
    """A published run already has this name and was made from something else."""

    slug = "run-exists"


class NotFoundError(TegakariError):
    """A run, label, layer, feature or document that is not there."""

    slug = "not-found"


class DiskFullError(StoreError):
    """The disk filled up; what was finished is kept and the same command goes on from there."""

    slug = "disk-full"


class SqlError(TegakariError):
    """The query is wrong, or asks for what it may not have."""

    slug = "bad-sql"

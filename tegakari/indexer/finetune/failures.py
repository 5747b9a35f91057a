"""What libraries raise when the machine gives out, said in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tegakari.schemas.errors import DiskFullError, ModelError
from tegakari.store.files import disk_full_is_said

_TORCH_CANNOT_WRITE = ("PytorchStreamWriter failed", "unexpected pos")
"""torch.save drops the system's reason; a full disk is the only one that comes up in the middle of a file."""


@contextmanager
def failures_are_said(target: Path) -> Iterator[None]:
    """Turn a full disk and a lack of memory into errors that say what to do.

    Raises:
        DiskFullError: no space left for `target`.
        ModelError: the model does not fit into memory.
    """
    try:
        with disk_full_is_said(target):
            yield
    except DiskFullError as error:
        raise _disk_full(error.message) from None
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"the model does not fit into the GPU's memory ({str(error).splitlines()[0]})",
            field="classifier.batch_size",
            fix="lower it or classifier.max_length, or set classifier.gradient_checkpointing = true; "
            "the same command then goes on where it can",
        ) from None
    except RuntimeError as error:
        if not any(words in str(error) for words in _TORCH_CANNOT_WRITE):
            raise
        raise _disk_full(f"no space left on the disk of {target}") from None


def _disk_full(message: str) -> DiskFullError:
    return DiskFullError(
        message,
        field="classifier.path",
        fix="make space and run the same command again: it goes on from its last checkpoint",
    )

"""What libraries raise when the machine gives out, said in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tegakari.schemas.errors import DiskFullError, ModelError
from tegakari.store.files import disk_full_is_said

_TORCH_CANNOT_WRITE = ("PytorchStreamWriter failed", "unexpected pos")
"""torch.save drops the system's reason; a full disk is the only one that comes up in the middle of a file."""

_NO_MEMORY = ("out of memory", "DefaultCPUAllocator")


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
    except (RuntimeError, MemoryError) as error:
        said = str(error)
        if any(words in said for words in _TORCH_CANNOT_WRITE):
            raise _disk_full(f"no space left on the disk of {target}") from None
        if isinstance(error, MemoryError) or any(words in said for words in _NO_MEMORY):
            raise ModelError(
                f"training does not fit into memory: {said.partition(chr(10))[0]}",
                field="classifier.batch_size",
                fix="set classifier.gradient_checkpointing = true and run the same command again, "
                "or lower batch_size or max_length and start over",
            ) from None
        raise


def _disk_full(message: str) -> DiskFullError:
    return DiskFullError(
        message,
        field="classifier.path",
        fix="make space and run the same command again: it goes on from its last checkpoint",
    )

"""Exceptions of torch for a full disk and for too little memory, translated into errors with a fix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tegakari.schemas.errors import DiskFullError, ModelError
from tegakari.store.disk.durable import translate_disk_full

_TORCH_WRITE_FAILED = ("PytorchStreamWriter failed", "unexpected pos")
"""torch.save drops the system's reason; only a full disk fails in the middle of a file."""

_FIELD = "classifier.path"
_MAKE_SPACE = "make space and run the same command again: it resumes from its last checkpoint"

_OUT_OF_MEMORY = ("out of memory", "DefaultCPUAllocator")


@contextmanager
def translate_failures(target: Path) -> Iterator[None]:
    """Translate failures of the machine in the block into errors with a fix.

    Raises:
        DiskFullError: no space left for `target`.
        ModelError: the model does not fit into memory.
    """
    try:
        with translate_disk_full(target, field=_FIELD, fix=_MAKE_SPACE):
            yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        if any(words in text for words in _TORCH_WRITE_FAILED):
            raise DiskFullError(f"no space left on the disk of {target}", field=_FIELD, fix=_MAKE_SPACE) from None
        if isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
            raise ModelError(
                f"training does not fit into memory: {text.partition(chr(10))[0]}",
                field="classifier.batch_size",
                fix="set classifier.gradient_checkpointing = true and run the same command again, "
                "or lower batch_size or max_length and start over",
            ) from None
        raise

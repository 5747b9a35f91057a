"""What libraries raise when the machine gives out, said in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tegakari.schemas.errors import DiskFullError, ModelError
from tegakari.store.disk.durable import translate_disk_full

_TORCH_CANNOT_WRITE = ("PytorchStreamWriter failed", "unexpected pos")
"""torch.save drops the system's reason; a full disk is the only one that comes up in the middle of a file."""

_FIELD = "classifier.path"
_MAKE_SPACE = "make space and run the same command again: it goes on from its last checkpoint"

_NO_MEMORY = ("out of memory", "DefaultCPUAllocator")


@contextmanager
def translate_failures(target: Path) -> Iterator[None]:
    """Turn a full disk and a lack of memory into errors that say what to do.

    Raises:
        DiskFullError: no space left for `target`.
        ModelError: the model does not fit into memory.
    """
    try:
        with translate_disk_full(target, field=_FIELD, fix=_MAKE_SPACE):
            yield
    except (RuntimeError, MemoryError) as error:
        said = str(error)
        if any(words in said for words in _TORCH_CANNOT_WRITE):
            raise DiskFullError(f"no space left on the disk of {target}", field=_FIELD, fix=_MAKE_SPACE) from None
        if isinstance(error, MemoryError) or any(words in said for words in _NO_MEMORY):
            raise ModelError(
                f"training does not fit into memory: {said.partition(chr(10))[0]}",
                field="classifier.batch_size",
                fix="set classifier.gradient_checkpointing = true and run the same command again, "
                "or lower batch_size or max_length and start over",
            ) from None
        raise

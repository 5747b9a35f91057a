"""All formats of SAE files, and reading an SAE of any of them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

from safetensors import SafetensorError

from tegakari.models.file_sizes import check_weights_file
from tegakari.models.sae import Sae
from tegakari.models.sae_formats import dictionary_learning, gemma_scope, saelens, sparsify
from tegakari.models.sae_formats.format import SaeFormat
from tegakari.schemas.errors import SaeError

FORMATS: tuple[SaeFormat, ...] = (
    saelens.FORMAT,
    sparsify.FORMAT,
    dictionary_learning.FORMAT,
    gemma_scope.FORMAT,
)

_UNREADABLE = (
    OSError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    RuntimeError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    SafetensorError,
)
"""Exceptions of the formats' libraries for files that are cut, damaged, or of another layout than their names say."""


def format_of(directory: Path) -> SaeFormat | None:
    """Format of the SAE in a directory; None: it holds no SAE."""
    return next((sae_format for sae_format in FORMATS if sae_format.matches(directory)), None)


def load_sae(directory: Path) -> Sae:
    """Read one SAE, float32 on the CPU.

    Raises:
        SaeError: no known format, damaged files, or weights of inconsistent shapes.
    """
    sae_format = format_of(directory)
    if sae_format is None:
        *names, last = (sae_format.name for sae_format in FORMATS)
        raise SaeError(
            f"no SAE in {directory}",
            field="saes.path",
            fix=f"name a directory with the files of {', '.join(names)} or {last}",
        )
    try:
        for file in sae_format.files:
            check_weights_file(directory / file)
        return sae_format.load(directory)
    except SaeError as error:
        raise SaeError(f"{directory}: {error.message}", field=error.field, fix=error.fix) from None
    except _UNREADABLE as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise SaeError(f"{directory} cannot be read: {reason}", field="saes.path", fix="export it again") from None

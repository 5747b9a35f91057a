"""All formats of SAE files: finding SAEs among files, and reading one."""

from __future__ import annotations

import pickle
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError

from tegakari.models.file_sizes import check_weights_file
from tegakari.models.sae import Sae
from tegakari.models.sae_formats import (
    batch_topk,
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    goodfire,
    llama_scope,
    lm_saes,
    openai,
    qwen_scope,
    saelens,
    sparsify,
)
from tegakari.models.sae_formats.format import SaeFormat, read_json
from tegakari.models.sae_formats.selection import matches
from tegakari.schemas.errors import SaeError

FORMATS: tuple[SaeFormat, ...] = (
    saelens.FORMAT,
    sparsify.FORMAT,
    dictionary_learning.FORMAT,
    gemma_scope.FORMAT,
    gemma_scope_2.FORMAT,
    llama_scope.FORMAT,
    lm_saes.FORMAT,
    qwen_scope.FORMAT,
    openai.FORMAT,
    goodfire.FORMAT,
    batch_topk.FORMAT,
)

_SHARED = "config.json"
"""Name of the configuration of several formats, of models and of sets: its keys tell which it is."""

_DEPTH = max(len(PurePosixPath(file).parts) for sae_format in FORMATS for file in sae_format.files)
"""Directories from a file of an SAE up to the SAE's own, that one included."""

_UNREADABLE = (
    OSError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    ArithmeticError,
    RuntimeError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    SafetensorError,
)
"""Exceptions of the formats' libraries for files that are cut, damaged, or of another layout than their names say."""


def formats_among(files: Iterable[str]) -> dict[str, SaeFormat]:
    """The SAEs among files, with their formats.

    Args:
        files: paths relative to the directory of the set, with forward slashes.

    Returns:
        By the SAE's path relative to that directory: of its own directory (`.` for that of the set), or of its file.
    """
    contents, saes = _contents(files)
    for directory, names in contents.items():
        found = next((sae_format for sae_format in FORMATS if sae_format.matches(frozenset(names))), None)
        if found is not None:
            saes[directory] = found
    return dict(sorted(saes.items()))


def _contents(files: Iterable[str]) -> tuple[dict[str, set[str]], dict[str, SaeFormat]]:
    """Files by directory, relative to it, down to the depth of formats; and SAEs of one file."""
    contents: dict[str, set[str]] = defaultdict(set)
    saes: dict[str, SaeFormat] = {}
    for file in files:
        path = PurePosixPath(file)
        for parent in list(path.parents)[:_DEPTH]:
            contents[str(parent)].add(str(path.relative_to(parent)))
        found = next((sae_format for sae_format in FORMATS if sae_format.matches_file(path.name)), None)
        if found is not None:
            saes[file] = found
    return contents, saes


def refuse_incomplete(root: Path, files: Iterable[str], selector: str) -> None:
    """Refuse directories with a part of the files of an SAE: their layers would be missing without a word.

    Args:
        root: directory of the set.
        files: paths relative to it.
        selector: directories that it excludes are not looked at.

    Raises:
        SaeError: a configuration without weights, or weights without their configuration.
    """
    contents, _ = _contents(files)
    for directory, names in sorted(contents.items()):
        if not matches(directory, selector) or any(sae_format.matches(frozenset(names)) for sae_format in FORMATS):
            continue
        for sae_format in FORMATS:
            present = [file for file in sae_format.files if file in names and file != _SHARED]
            if not present and _SHARED in names and _is_config(root / directory / _SHARED, sae_format):
                present = [_SHARED]
            if not present:
                continue
            alike = [other for other in FORMATS if other is sae_format or set(present) & set(other.files)]
            missing = " or ".join(next(file for file in other.files if file not in names) for other in alike)
            raise SaeError(
                f"{root / directory} has {present[0]} but no {missing}",
                field="saes.path",
                fix="fetch the missing file, or leave that directory out with `saes.select`",
            )


def _is_config(file: Path, sae_format: SaeFormat) -> bool:
    """Whether a config.json is of this format, and not of a model or of the whole set."""
    try:
        config = read_json(file)
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool(sae_format.config_keys) and set(sae_format.config_keys) <= config.keys()


def load_sae(path: Path) -> Sae:
    """Read one SAE, float32 on the CPU.

    Args:
        path: directory of the SAE, or its file for a format of one file per SAE.

    Raises:
        SaeError: no known format, damaged files, a Git LFS pointer, or weights of inconsistent shapes.
    """
    sae_format = _format_of(path)
    if sae_format is None:
        *names, last = (sae_format.name for sae_format in FORMATS)
        raise SaeError(
            f"no SAE in {path}",
            field="saes.path",
            fix=f"name a directory with the files of {', '.join(names)} or {last}",
        )
    try:
        for file in (path / name for name in sae_format.files) if sae_format.files else (path,):
            check_weights_file(file)
        return sae_format.load(path)
    except SaeError as error:
        raise SaeError(f"{path}: {error.message}", field=error.field, fix=error.fix) from None
    except _UNREADABLE as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise SaeError(f"{path} cannot be read: {reason}", field="saes.path", fix="export it again") from None


def _format_of(path: Path) -> SaeFormat | None:
    """Format of the SAE in a directory, or of a file; None: it holds no SAE."""
    if path.is_file():
        return next((sae_format for sae_format in FORMATS if sae_format.matches_file(path.name)), None)
    return next(
        (
            sae_format
            for sae_format in FORMATS
            if sae_format.files and all((path / file).is_file() for file in sae_format.files)
        ),
        None,
    )

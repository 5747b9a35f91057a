"""The classifier and SAEs of a published run, checked to be those that the run was made with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from torch import Tensor

from tegakari.analyses.engine.batches import BATCH_TOKENS
from tegakari.analyses.engine.prefix_cache import PrefixCache
from tegakari.kernels import Encoded, Encoder
from tegakari.kernels.ordinary import encode_ordinary
from tegakari.kernels.types import RowSelection
from tegakari.models.classifier import Classifier
from tegakari.models.file_sizes import has_holes
from tegakari.models.fingerprint import fingerprint, model_files, size_of
from tegakari.models.loading import load_classifier
from tegakari.models.outliers import ordinary_positions
from tegakari.models.sae import Sae
from tegakari.models.sae_conditions import under_conditions
from tegakari.models.sae_formats import check_fits, load_sae, load_saes, sae_files
from tegakari.schemas.errors import ModelNotHereError
from tegakari.schemas.run import ClassifierInfo, SaeInfo
from tegakari.store import Run


@dataclass(frozen=True, eq=False)
class RunModels:
    """Classifier and SAEs of a run."""

    classifier: Classifier
    saes: Mapping[int, Sae]
    """by layer, on the classifier's device"""
    prefix_cache: PrefixCache = field(default_factory=PrefixCache)
    """unmodified forward passes, cached for knockouts"""
    max_positions: int | None = None
    """that pass a block at a time, in batches and in re-runs; None: as many as are fast on the device"""
    _encoders: dict[int, Encoder] = field(default_factory=dict)

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch, padding included."""
        return BATCH_TOKENS if self.max_positions is None else min(BATCH_TOKENS, self.max_positions)

    def encode(self, layer: int, residual: Tensor, offsets: Tensor, *, rows: RowSelection) -> Encoded:
        """Sparse encode of a layer's residual, without its norm outliers, as the run was indexed.

        Args:
            layer: of the run.
            residual: [T, d_model]
            offsets: int64 [D + 1]
            rows: as of `tegakari.kernels.encode`.

        Raises:
            KernelError: a residual is not finite.
        """
        ordinary = ordinary_positions(residual, self.saes[layer].max_norm)
        encoded = encode_ordinary(residual, self.encoder(layer), offsets, ordinary, rows=rows)
        encoded.check()
        return encoded

    def encoder(self, layer: int) -> Encoder:
        """Input of sparse encode for a layer's SAE, prepared once, in the dtype of the run."""
        if layer not in self._encoders:
            self._encoders[layer] = self.saes[layer].encoder(self.classifier.dtype)
        return self._encoders[layer]


def load_run_models(run: Run, device: str = "auto", layers: Sequence[int] | None = None) -> RunModels:
    """Load the classifier and SAEs of a run from the directories that they were in when it was made.

    Args:
        run: published.
        device: auto, cpu, cuda or cuda:N.
        layers: layers whose SAEs are loaded; default: all layers of the run.

    Raises:
        ModelNotHereError: a directory is missing, or its content has changed since the run was made.
        ModelError, SaeError: a model cannot be read.
    """
    manifest = run.manifest
    classifier_directory, saes_directory = Path(manifest.locations.classifier), Path(manifest.locations.saes)
    _check_unchanged(run, "classifier", classifier_directory, None, manifest.classifier)
    _check_unchanged(run, "SAE set", saes_directory, manifest.saes.sources, manifest.saes)
    classifier = load_classifier(
        classifier_directory,
        max_length=manifest.classifier.max_length,
        device=device,
        dtype=cast(Literal["float32", "bfloat16"], manifest.classifier.dtype),
    )
    loaded_layers = manifest.saes.layers if layers is None else layers
    saes = _saes(saes_directory, manifest.saes, loaded_layers)
    check_fits(saes, classifier)
    saes = under_conditions(saes, classifier)
    max_norms = dict(zip(manifest.saes.layers, manifest.saes.max_norms, strict=True))
    return RunModels(
        classifier,
        {layer: replace(saes[layer], max_norm=max_norms.get(layer)).to(classifier.device) for layer in loaded_layers},
    )


def _saes(directory: Path, expected: SaeInfo, layers: Sequence[int]) -> dict[int, Sae]:
    if expected.sources is None:
        return load_saes(directory)
    sources = dict(zip(expected.layers, expected.sources, strict=True))
    return {layer: replace(load_sae(directory / sources[layer]), layer=layer) for layer in layers}


def _check_unchanged(
    run: Run, model: str, directory: Path, sources: Sequence[str] | None, expected: ClassifierInfo | SaeInfo
) -> None:
    """Compare sizes first: run.json can name any directory, and live requests wait while gigabytes are hashed."""
    if not os.path.isdir(directory) or not all(os.path.exists(directory / source) for source in sources or ()):  # noqa: PTH110, PTH112 - False for names that no file system permits, where Path raises
        files, reason = [], f"the {model} of run {run.name!r} is not on this machine"
    else:
        files = model_files(directory) if sources is None else sae_files(directory, sources)
        reason = _difference(run, model, directory, files, expected)
    if reason:
        raise ModelNotHereError(
            reason,
            field="run",
            fix="restore the directories that `locations` in run.json names; queries and stored results need no model",
        )


def _difference(
    run: Run, model: str, directory: Path, files: Sequence[Path], expected: ClassifierInfo | SaeInfo
) -> str | None:
    """How the files differ from those that the run was made with; None: they are the same."""
    if expected.size is not None and (size := size_of(files)) != expected.size:
        return f"the {model} of run {run.name!r} has changed: its files have {size:,} bytes, not {expected.size:,}"
    if sparse := [file.name for file in files if has_holes(file)]:
        return f"the {model} of run {run.name!r} is incomplete: most of {sparse[0]} is not on the disk"
    if fingerprint(directory, files) != expected.sha256:
        return f"the {model} of run {run.name!r} has changed since the run was made"
    return None

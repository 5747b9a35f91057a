"""The models of a finished run, where this machine has them: the very ones the run was made from, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, cast

from tegakari.analyses.engine.prefix_cache import Prefixes
from tegakari.kernels import Encoder
from tegakari.models.classifier import Classifier, load_classifier
from tegakari.models.fingerprint import fingerprint
from tegakari.models.sae import Sae
from tegakari.models.sae_formats import check_fits, load_saes
from tegakari.schemas.errors import ModelNotHereError
from tegakari.store import Run


@dataclass(frozen=True, eq=False)
class RunModels:
    """Classifier and SAEs of a run."""

    classifier: Classifier
    saes: Mapping[int, Sae]
    """by layer, on the classifier's device"""
    prefixes: Prefixes = field(default_factory=Prefixes)
    """ordinary passes kept for knockouts"""
    _encoders: dict[int, Encoder] = field(default_factory=dict)

    def encoder(self, layer: int) -> Encoder:
        """What sparse encode needs of a layer's SAE, made once, in the dtype of the run."""
        if layer not in self._encoders:
            self._encoders[layer] = self.saes[layer].encoder(self.classifier.dtype)
        return self._encoders[layer]


ModelLoader = Callable[[], RunModels]
"""Returns the models of a run. An analysis calls it only if it has to compute, so stored results need no models."""


def model_loader(run: Run, device: str = "auto") -> ModelLoader:
    """Loader of a run's models, which reads them on the first call and returns the same ones on later calls.

    Args:
        run: published.
        device: auto, cpu, cuda or cuda:N.
    """
    return cache(lambda: load_run_models(run, device))


def load_run_models(run: Run, device: str = "auto", layers: Sequence[int] | None = None) -> RunModels:
    """Load what the run was made from, from where it was then.

    Args:
        run: published.
        device: auto, cpu, cuda or cuda:N.
        layers: whose SAEs are wanted; default: all of the run.

    Raises:
        ModelNotHereError: a model is not there, or is not the one that the run was made from.
        ModelError, SaeError: it is there and cannot be read.
    """
    manifest = run.manifest
    classifier_at, saes_at = Path(manifest.locations.classifier), Path(manifest.locations.saes)
    _check_same(run, "classifier", classifier_at, manifest.classifier.sha256)
    _check_same(run, "SAE set", saes_at, manifest.saes.sha256)
    classifier = load_classifier(
        classifier_at,
        max_length=manifest.classifier.max_length,
        device=device,
        dtype=cast(Literal["float32", "bfloat16"], manifest.classifier.dtype),
    )
    wanted = manifest.saes.layers if layers is None else layers
    found = load_saes(saes_at)
    check_fits(found, classifier)
    return RunModels(classifier, {layer: found[layer].to(classifier.device) for layer in wanted})


def _check_same(run: Run, what: str, directory: Path, sha256: str) -> None:
    if not directory.is_dir():
        reason = f"the {what} of run {run.name!r} is not on this machine"
    elif fingerprint(directory) != sha256:
        reason = f"the {what} of run {run.name!r} has changed since the run was made"
    else:
        return
    raise ModelNotHereError(
        reason, field="run", fix="put it where it was when the run was indexed; everything stored can still be asked"
    )

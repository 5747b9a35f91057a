"""Provenance: the run, models and program versions that a result was computed with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tegakari.schemas.analysis import Provenance
from tegakari.store import Run
from tegakari.store.versions import recorded_versions

if TYPE_CHECKING:
    from tegakari.analyses.engine.run_models import RunModels


def provenance_of(run: Run, models: RunModels) -> Provenance:
    """Provenance of a result that was computed with the models of a run."""
    manifest = run.manifest
    return Provenance(
        run=run.name,
        fingerprint=manifest.fingerprint,
        classifier_sha256=manifest.classifier.sha256,
        saes_sha256=manifest.saes.sha256,
        corpus_sha256=manifest.corpus.content_sha256,
        dtype=str(models.classifier.dtype).removeprefix("torch."),
        device=models.classifier.device.type,
        versions=recorded_versions(),
    )

"""Inputs and settings of a run: the recipe, their hash, and the manifest, their record in run.json."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tegakari.indexer.index_models import IndexModels
from tegakari.indexer.shard import shard_documents
from tegakari.kernels import backend
from tegakari.models.architecture import text_config
from tegakari.models.fingerprint import model_files, size_of
from tegakari.models.hub_cache import hub_revision
from tegakari.models.outliers import finite_limit
from tegakari.models.sae_conditions import grouped_doubts
from tegakari.models.sae_formats import sae_files
from tegakari.schemas.config import Config
from tegakari.schemas.corpus import CorpusManifest, Drop
from tegakari.schemas.run import FORMAT, ClassifierInfo, CorpusInfo, Locations, RunManifest, SaeInfo, Scores
from tegakari.store.versions import recorded_versions


def recipe_of(config: Config, models: IndexModels, corpus: CorpusManifest, run_format: int = FORMAT) -> str:
    """Hash of the inputs and settings that determine the tables: runs of equal recipes have equal tables."""
    settings = {
        "format": run_format,
        "classifier": models.classifier_sha256,
        "max_length": config.classifier.max_length,
        "saes": models.saes_sha256,
        "layers": sorted(models.saes),
        "corpus": corpus.content_sha256,
        "split": config.index.split,
        "pooling": config.index.pooling,
        "variety_threshold": config.index.variety_threshold,
        "top_tokens": config.index.top_tokens,
        "shard_documents": shard_documents(config.index.shard_documents, models.classifier.device.type),
        "batch_tokens": config.index.batch_tokens,
        "explained_variance_documents": config.index.explained_variance_documents,
        "dtype": str(models.classifier.dtype),
        "device": models.classifier.device.type,
    }
    return hashlib.sha256(msgspec.json.encode(settings, order="deterministic")).hexdigest()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, scores and times of an index."""

    documents: int
    positions: int
    """countable positions of the documents."""
    activations: int
    """stored pooled activations of all layers."""
    skipped: list[Drop]
    scores: Scores
    timings: dict[str, float]
    """seconds by stage."""


def manifest_of(
    config: Config,
    models: IndexModels,
    corpus: CorpusManifest,
    recipe: str,
    outcome: Outcome,
    run_format: int = FORMAT,
) -> RunManifest:
    """The content of run.json without the list of files, which publication adds."""
    saes = [sae for _, sae in sorted(models.saes.items())]
    return RunManifest(
        format=run_format,
        run=config.index.run,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        fingerprint=recipe,
        classifier=ClassifierInfo(
            sha256=models.classifier_sha256,
            size=size_of(model_files(Path(config.classifier.path))),
            hub=hub_revision(Path(config.classifier.path)),
            architecture=type(models.classifier.model).__name__,
            d_model=models.classifier.d_model,
            layers=models.classifier.layers,
            max_length=models.classifier.max_length,
            dtype=str(models.classifier.dtype).removeprefix("torch."),
            head=models.classifier.head,
        ),
        saes=SaeInfo(
            sha256=models.saes_sha256,
            size=size_of(sae_files(Path(config.saes.path), [sae.source for sae in saes])),
            layers=sorted(models.saes),
            architecture=saes[0].activation if len({sae.activation for sae in saes}) == 1 else "mixed",
            architectures=[sae.activation for sae in saes],
            sources=[sae.source for sae in saes],
            hub=hub_revision(Path(config.saes.path)),
            widths=[sae.d_sae for sae in saes],
            start_seeds=models.start_seeds,
            doubts=grouped_doubts(models.saes),
            max_norms=[finite_limit(sae.max_norm) for sae in saes],
        ),
        locations=Locations(classifier=config.classifier.path, saes=config.saes.path),
        corpus=CorpusInfo(
            source=corpus.source,
            content_sha256=corpus.content_sha256,
            split=config.index.split,
            documents=outcome.documents,
            labels=len(models.classifier.labels),
        ),
        pooling=config.index.pooling,
        variety_threshold=config.index.variety_threshold,
        top_tokens=config.index.top_tokens,
        positions=outcome.positions,
        activations=outcome.activations,
        skipped=outcome.skipped,
        scores=outcome.scores,
        kernels=backend(models.classifier.device),
        attention=text_config(models.classifier.model)._attn_implementation,
        versions=recorded_versions(),
        timings=outcome.timings,
        files=[],
    )

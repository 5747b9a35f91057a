"""Stages of SAE training (`tegakari sae train`): groups of layers, measurement, and publication of the SAE set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog
import torch

from tegakari.indexer.corpus import read_documents, read_manifest
from tegakari.indexer.local_models import with_local_classifier
from tegakari.indexer.training.checkpoint import Training, target_directory
from tegakari.indexer.training.saes.layer_group import Throughput, train_group
from tegakari.indexer.training.saes.memory_groups import layer_groups, translate_out_of_memory
from tegakari.indexer.training.saes.precision import resolve_precision
from tegakari.indexer.training.saes.schedule import FEW_STEPS
from tegakari.models.classifier import Classifier
from tegakari.models.explained_variance import LayerQuality, doubts, explained_variance
from tegakari.models.fingerprint import fingerprint
from tegakari.models.loading import load_classifier
from tegakari.models.memory import peak_bytes
from tegakari.models.outliers import finite_limit
from tegakari.models.sae import Sae
from tegakari.models.sae_formats import save_sae
from tegakari.models.tokens import Tokenized
from tegakari.schemas.config import Config, SaesConfig
from tegakari.schemas.errors import CorpusError, SaeError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.saes import REPORT_FILE, LayerReport, ResidualNorms, SaesRecipe, SaesReport
from tegakari.store.disk.durable import translate_disk_full, write_atomically
from tegakari.store.versions import recorded_versions

log = structlog.get_logger()

_GROUPS_FILE = "groups.json"
"""Groups of layers, in the work directory of the training."""


def train_saes(config: Config, *, device: str = "auto", progress: Progress = NoProgress()) -> SaesReport:
    """Train one SAE per layer on the residuals of the training documents and write them in SAELens' layout.

    A set that was trained from the same classifier, corpus and settings is not trained again. A killed training
    resumes from its last checkpoint and ends with the SAEs of an uninterrupted one.

    Args:
        config: the saes section decides the training; index.dtype and index.batch_tokens, the forward passes.
        device: auto, cpu, cuda or cuda:N.
        progress: receives the stages.

    Returns:
        the content of training.json in the directory of the SAEs.

    Raises:
        CorpusError, ModelError: the corpus or the classifier is missing or empty.
        SaeError: the target directory or its unfinished training is of other inputs; a layer does not exist; memory
            does not suffice; or training diverged.
        DiskFullError: no space; the last checkpoint is kept.
    """
    target = target_directory(config.saes.path, "saes.path")
    config = with_local_classifier(config)
    corpus = read_manifest(Path(config.corpus.path))
    classifier = load_classifier(
        config.classifier.path, max_length=config.classifier.max_length, device=device, dtype=config.index.dtype
    )
    recipe = _recipe(config, classifier, corpus.content_sha256)
    training = Training(target, recipe, REPORT_FILE, SaesReport, SaeError, "saes.path")
    if report := training.finished_report():
        return report
    documents = _documents(config, classifier)
    with translate_disk_full(target, field="saes.path"), translate_out_of_memory(), training.staged() as staged:
        report = _train_and_measure(config, classifier, documents, training, recipe, staged, progress)
        training.write_report(staged, report)
    for layer in report.layers:
        for reason in layer.doubts:
            log.warning("doubtful SAE", layer=layer.layer, reason=reason)
    for reason in report.doubts:
        log.warning("doubtful SAEs", reason=reason, fix="raise saes.epochs, or lower saes.batch_size")
    log.info(
        "trained SAEs",
        saes=target.name,
        layers=len(report.layers),
        steps=report.steps,
        seconds=report.seconds,
        positions_per_second=report.positions_per_second and round(report.positions_per_second),
        flop_per_second=report.flop_per_second and f"{report.flop_per_second:.3g}",
    )
    return report


class _Trained(NamedTuple):
    """An SAE, and what its report tells about its training."""

    sae: Sae
    l1_coefficient: float | None
    norms: ResidualNorms


class _Documents(NamedTuple):
    """Documents of the training and of the measurement."""

    train: list[Tokenized]
    """each with a countable position."""
    eval_texts: list[str]


def _recipe(config: Config, classifier: Classifier, corpus_sha256: str) -> SaesRecipe:
    settings = config.saes
    layers = sorted(set(settings.layers)) or list(range(classifier.layers))
    if layers[-1] >= classifier.layers:
        raise SaeError(
            f"the classifier has layers 0 to {classifier.layers - 1}, not {layers[-1]}",
            field="saes.layers",
            fix="choose among those, or leave it empty for all",
        )
    _check_sparsity(settings)
    return SaesRecipe(
        classifier_sha256=fingerprint(Path(config.classifier.path)),
        corpus_sha256=corpus_sha256,
        max_length=config.classifier.max_length,
        dtype="bfloat16" if classifier.dtype == torch.bfloat16 else "float32",
        layers=layers,
        architecture=settings.architecture,
        d_sae=settings.d_sae,
        l1_coefficient=settings.l1_coefficient,
        target_l0=settings.target_l0,
        k=settings.k,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        l1_warmup=settings.l1_warmup,
        learning_rate_decay=settings.learning_rate_decay,
        buffer_positions=settings.buffer_positions,
        seed=settings.seed,
        precision=resolve_precision(settings, classifier.device),
    )


def _check_sparsity(settings: SaesConfig) -> None:
    """Refuse more active features than there are, and a target beside the k that already decides their number."""
    if settings.architecture == "batch_topk" and settings.target_l0:
        raise SaeError(
            f"{settings.target_l0:g}, but the architecture is batch_topk, where saes.k decides",
            field="saes.target_l0",
            fix='set it to 0, or saes.architecture to "relu"',
        )
    key = "k" if settings.architecture == "batch_topk" else "target_l0"
    active = getattr(settings, key)
    if active >= settings.d_sae:
        raise SaeError(
            f"{active:g} active features per position, of {settings.d_sae} features",
            field=f"saes.{key}",
            fix="lower it",
        )


def _documents(config: Config, classifier: Classifier) -> _Documents:
    corpus = Path(config.corpus.path)
    texts = {split: [document.text for document in read_documents(corpus, split)] for split in ("train", "eval")}
    train = [document for document in classifier.tokenize(texts["train"]) if document.positions]
    for split, documents in (("training", train), ("evaluation", texts["eval"])):
        if not documents:
            raise CorpusError(f"the corpus has no {split} documents", field="corpus.path", fix="import one that has")
    return _Documents(train, texts["eval"])


def _train_and_measure(
    config: Config,
    classifier: Classifier,
    documents: _Documents,
    training: Training[SaesReport],
    recipe: SaesRecipe,
    staged: Path,
    progress: Progress,
) -> SaesReport:
    """Train one group of layers after the other, write its SAEs to `staged`, and measure them."""
    groups = _groups(training.work, recipe, config, classifier)
    if len(groups) > 1:
        log.info("layers do not fit into memory at the same time", groups=groups)
    reports: list[LayerReport] = []
    throughputs: list[list[Throughput]] = []
    eval_positions, steps, seconds = 0, 0, 0.0
    for number, layers in enumerate(groups):
        checkpoints = training.work / f"group-{number:02d}"
        group = train_group(
            config,
            classifier,
            recipe.classifier_sha256,
            documents.train,
            layers,
            recipe.precision,
            checkpoints,
            progress,
        )
        start = time.perf_counter()
        trained = {
            layer: _Trained(sae.finished(layer), sae.l1_coefficient, sae.residual_norms())
            for layer, sae in group.saes.items()
        }
        saes = {layer: sae.sae for layer, sae in trained.items()}
        steps, seconds = group.steps, seconds + group.seconds
        throughputs.append(group.fills)
        del group  # frees the memory of the training
        for layer, sae in saes.items():
            save_sae(staged / f"layer_{layer:02d}", sae, model_name=Path(config.classifier.path).name)
        quality = _measure(config, classifier, documents.eval_texts, saes, progress)
        reports += [_layer_report(layer, trained[layer], layer_quality) for layer, layer_quality in quality.items()]
        eval_positions = quality[layers[0]].positions + quality[layers[0]].outlier_positions
        seconds += time.perf_counter() - start
    return SaesReport(
        recipe=recipe,
        layers=reports,
        train_positions=sum(len(document.positions) for document in documents.train),
        eval_positions=eval_positions,
        steps=steps,
        doubts=_doubts(steps),
        seconds=round(seconds, 2),
        **_rates(throughputs),
        peak_memory_bytes=peak_bytes(classifier.device),
        device=str(classifier.device),
        versions=recorded_versions(),
    )


def _rates(throughputs: list[list[Throughput]]) -> dict[str, float | None]:
    """The rates of a report from the throughput of each fill, group by group; groups repeat the same positions."""
    fills = [fill for group in throughputs for fill in group]
    if not fills:
        return {"positions_per_second": None, "flop_per_second": None}
    positions = max(sum(fill.positions for fill in group) for group in throughputs)
    return {
        "positions_per_second": positions / sum(fill.seconds for fill in fills),
        "flop_per_second": sum(fill.flop for fill in fills) / sum(fill.step_seconds for fill in fills),
    }


def _groups(work: Path, recipe: SaesRecipe, config: Config, classifier: Classifier) -> list[list[int]]:
    """Groups of layers as divided at the start of the training; free memory may differ when it is resumed."""
    file = work / _GROUPS_FILE
    if not file.exists():
        write_atomically(
            file, msgspec.json.encode(layer_groups(recipe.layers, config.saes, classifier, recipe.precision))
        )
    return msgspec.json.decode(file.read_bytes(), type=list[list[int]])


def _measure(
    config: Config, classifier: Classifier, texts: list[str], saes: Mapping[int, Sae], progress: Progress
) -> dict[int, LayerQuality]:
    progress.stage("measuring on evaluation documents", len(texts))
    quality = explained_variance(
        classifier, saes, texts, batch_tokens=config.index.batch_tokens, advance=progress.advance
    )
    if not quality:
        raise CorpusError("no evaluation document has a token", field="corpus.path", fix="import one that has")
    return quality


def _doubts(steps: int) -> list[str]:
    if steps >= FEW_STEPS:
        return []
    return [f"The SAEs had {steps} optimizer steps; with fewer than {FEW_STEPS} they are unfinished."]


def _layer_report(layer: int, trained: _Trained, quality: LayerQuality) -> LayerReport:
    return LayerReport(
        layer=layer,
        explained_variance=quality.explained_variance,
        explained_variance_all=quality.explained_variance_all,
        max_norm=finite_limit(trained.sae.max_norm),
        outlier_positions=quality.outlier_positions,
        outlier_variance=quality.outlier_variance,
        doubts=doubts(quality),
        l0=quality.l0,
        dead_share=quality.dead / trained.sae.d_sae,
        input_scale=trained.sae.scale,
        l1_coefficient=trained.l1_coefficient,
        norms=trained.norms,
    )

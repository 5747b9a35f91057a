"""Stages of SAE training (`tegakari sae train`): groups of layers, measurement, and publication of the SAE set.

Each rank runs them all. The first rank holds the lock, shows progress and writes what is not of one layer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import structlog
import torch

from tegakari.indexer.corpus import read_documents, read_manifest
from tegakari.indexer.local_models import with_local_classifier
from tegakari.indexer.training.checkpoint import Training, target_directory
from tegakari.indexer.training.saes.forward_passes import ForwardPasses
from tegakari.indexer.training.saes.layer_group import Throughput, train_group
from tegakari.indexer.training.saes.measure import measure
from tegakari.indexer.training.saes.memory_groups import layer_groups, translate_out_of_memory
from tegakari.indexer.training.saes.precision import resolve_precision
from tegakari.indexer.training.saes.ranks import Ranks, joined_ranks, ranks_of_environment
from tegakari.indexer.training.saes.schedule import FEW_STEPS
from tegakari.models.classifier import Classifier
from tegakari.models.explained_variance import LayerQuality, doubts
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
    resumes from its last checkpoint and ends with the SAEs of an uninterrupted one. A process that torchrun has started
    is one of several ranks, which train together.

    Args:
        config: the saes section decides the training; index.dtype and index.batch_tokens, the forward passes.
        device: auto, cpu, cuda or cuda:N.
        progress: receives the stages, on the first rank.

    Returns:
        the content of training.json in the directory of the SAEs, on all ranks.

    Raises:
        CorpusError, ModelError: the corpus or the classifier is missing or empty.
        SaeError: the target directory or its unfinished training is of other inputs; a layer does not exist; memory
            does not suffice; there are more ranks than layers; or training diverged.
        ConfigError: ranks differ in a setting, or have no GPU of their own.
        LostRankError: another rank has ended.
        DiskFullError: no space; the last checkpoint is kept.
    """
    ranks = ranks_of_environment()
    if ranks.count == 1:
        return train_as_rank(config, ranks, device, progress)
    with joined_ranks(device, ranks, "env://") as rank_device:
        return train_as_rank(config, ranks, str(rank_device), progress)


def train_as_rank(config: Config, ranks: Ranks, device: str, progress: Progress) -> SaesReport:
    """Train as one of several ranks, which are in a group of torch.distributed; as `train_saes`."""
    target = target_directory(config.saes.path, "saes.path")
    progress = progress if ranks.is_first else NoProgress()
    config = with_local_classifier(config)
    corpus = read_manifest(Path(config.corpus.path))
    classifier = load_classifier(
        config.classifier.path, max_length=config.classifier.max_length, device=device, dtype=config.index.dtype
    )
    recipe = _recipe(config, classifier, corpus.content_sha256)
    _check_ranks(ranks, recipe, config, classifier)
    training = Training(target, recipe, REPORT_FILE, SaesReport, SaeError, "saes.path")
    if report := ranks.from_first(training.finished_report):
        return report
    documents = _documents(config, classifier)
    with (
        translate_disk_full(target, field="saes.path"),
        translate_out_of_memory(),
        _staged(training, ranks) as staged,
    ):
        report = _train_and_measure(config, classifier, documents, training, recipe, staged, ranks, progress)
        if ranks.is_first:
            training.write_report(staged, report)
    if ranks.is_first:
        _log_report(report, target.name)
    return ranks.from_first(lambda: report)  # when the set is published


def _log_report(report: SaesReport, name: str) -> None:
    for layer in report.layers:
        for reason in layer.doubts:
            log.warning("doubtful SAE", layer=layer.layer, reason=reason)
    for reason in report.doubts:
        log.warning("doubtful SAEs", reason=reason, fix="raise saes.epochs, or lower saes.batch_size")
    log.info(
        "trained SAEs",
        saes=name,
        layers=len(report.layers),
        devices=report.devices,
        steps=report.steps,
        seconds=report.seconds,
        positions_per_second=report.positions_per_second and round(report.positions_per_second),
        flop_per_second=report.flop_per_second and f"{report.flop_per_second:.3g}",
    )


def _check_ranks(ranks: Ranks, recipe: SaesRecipe, config: Config, classifier: Classifier) -> None:
    """Refuse ranks without a layer, and ranks that would not train the same SAEs."""
    versions = {f"version of {name}": version for name, version in recorded_versions().items()}
    ranks.check_same(
        {
            **versions,
            **msgspec.structs.asdict(recipe),
            "saes.path": config.saes.path,
            "saes.checkpoint_steps": config.saes.checkpoint_steps,
            "index.batch_tokens": config.index.batch_tokens,
            "device": classifier.device.type,
        }
    )
    if ranks.count > len(recipe.layers):
        raise SaeError(
            f"{ranks.count} devices for {len(recipe.layers)} layers: each trains one at least",
            field="--devices",
            fix=f"use {len(recipe.layers)} at most",
        )


@contextmanager
def _staged(training: Training[SaesReport], ranks: Ranks) -> Iterator[Path]:
    """`Training.staged` of the first rank, on all ranks; it is published once all of them have left the block.

    Raises:
        SaeError: this rank does not see the directory.
    """
    with training.staged() if ranks.is_first else nullcontext(training.work) as directory:
        staged = ranks.from_first(lambda: directory)
        if not staged.is_dir():
            raise SaeError(
                f"rank {ranks.rank} does not see {staged}, which rank 0 has created",
                field="saes.path",
                fix="name a directory on a disk that all machines share, under the same path",
            )
        yield staged
        ranks.wait()  # until all SAEs are written


class _Trained(NamedTuple):
    """An SAE, and what its report tells about its training."""

    sae: Sae
    l1_coefficient: float | None
    norms: ResidualNorms


class _Documents(NamedTuple):
    """Documents of the training and of the measurement, each with a countable position."""

    train: list[Tokenized]
    eval: list[Tokenized]


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
    def tokenized(split: Literal["train", "eval"], name: str) -> list[Tokenized]:
        texts = [document.text for document in read_documents(Path(config.corpus.path), split)]
        documents = [document for document in classifier.tokenize(texts) if document.positions]
        if not documents:
            reason = f"the corpus has no {name} documents" + (" with a token" if texts else "")
            raise CorpusError(reason, field="corpus.path", fix="import one that has")
        return documents

    return _Documents(tokenized("train", "training"), tokenized("eval", "evaluation"))


def _train_and_measure(
    config: Config,
    classifier: Classifier,
    documents: _Documents,
    training: Training[SaesReport],
    recipe: SaesRecipe,
    staged: Path,
    ranks: Ranks,
    progress: Progress,
) -> SaesReport:
    """Train one group of layers after the other, write the SAEs of this rank to `staged`, and measure them."""
    groups = _groups(training.work, recipe, config, classifier, ranks)
    if len(groups) > 1 and ranks.is_first:
        log.info("layers do not fit into memory at the same time", groups=groups)
    reports: list[LayerReport] = []
    throughputs: list[list[Throughput]] = []
    steps, seconds = 0, 0.0
    for number, layers in enumerate(groups):
        checkpoints = training.work / f"group-{number:02d}"
        passes = ForwardPasses(classifier, layers, ranks)
        group = train_group(
            config,
            passes,
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
        quality = measure(passes, saes, documents.eval, config.index.batch_tokens, progress)
        of_ranks = ranks.gather(
            [_layer_report(layer, trained[layer], layer_quality) for layer, layer_quality in quality.items()]
        )
        reports += [report for of_rank in of_ranks for report in of_rank]
        seconds += time.perf_counter() - start
    return SaesReport(
        recipe=recipe,
        layers=reports,
        train_positions=sum(len(document.positions) for document in documents.train),
        eval_positions=sum(len(document.positions) for document in documents.eval),
        steps=steps,
        doubts=_doubts(steps),
        seconds=round(seconds, 2),
        **_rates(throughputs),
        peak_memory_bytes=max(ranks.gather(peak_bytes(classifier.device))),
        device=str(classifier.device),
        devices=ranks.count,
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


def _groups(work: Path, recipe: SaesRecipe, config: Config, classifier: Classifier, ranks: Ranks) -> list[list[int]]:
    """Groups of layers as divided at the start of the training; free memory may differ when it is resumed."""
    file = work / _GROUPS_FILE
    if ranks.from_first(file.exists):
        return ranks.from_first(lambda: msgspec.json.decode(file.read_bytes(), type=list[list[int]]))
    groups = layer_groups(recipe.layers, config.saes, classifier, recipe.precision, ranks)
    if ranks.is_first:
        write_atomically(file, msgspec.json.encode(groups))
    return groups


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

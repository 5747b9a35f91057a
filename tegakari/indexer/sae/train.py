"""`tegakari sae train`: all layers from one stream of forward passes; a killed training goes on from its checkpoint."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog
import torch
from rich.progress import Progress

from tegakari.indexer.corpus import read_documents, read_manifest
from tegakari.indexer.sae.checkpoint import TrainingState, read_checkpoint, write_checkpoint
from tegakari.indexer.sae.fills import Fill, ResidualBuffer, batches_of, plan_fills
from tegakari.indexer.sae.schedule import Schedule
from tegakari.indexer.sae.trainable import TrainableSae
from tegakari.indexer.versions import recorded_versions
from tegakari.models.classifier import Classifier, fingerprint, load_classifier
from tegakari.models.explained_variance import explained_variance
from tegakari.models.sae import Sae
from tegakari.models.sae_formats import save_sae
from tegakari.models.tokens import Tokenized
from tegakari.schemas.config import Config, SaesConfig
from tegakari.schemas.errors import CorpusError, SaeError
from tegakari.schemas.saes import LayerReport, SaesReport
from tegakari.store.files import disk_full_is_said, fsync_tree, rename_into_place

log = structlog.get_logger()

REPORT = "training.json"

RESAMPLE_AT = (0.2, 0.4, 0.6)
"""Shares of all steps after which silent features get a new direction; the rest of training settles them."""

MEMORY_SHARE = 0.6
"""Share of the free memory that a group of layers may take."""

_NOT_IN_RECIPE = ("path", "checkpoint_steps")


def train_saes(config: Config, *, device: str = "auto", progress: Progress | None = None) -> SaesReport:
    """Train one SAE per layer on the residuals of the training documents and write them in SAELens' layout.

    A set that is there already and was made from the same classifier, corpus and settings is returned as it is.

    Raises:
        CorpusError, ModelError: the corpus or the classifier is missing or empty.
        SaeError: the directory holds SAEs made from something else, or a layer that does not exist was asked for.
        DiskFullError: no space; the last checkpoint is kept.
    """
    started = time.perf_counter()
    target = Path(config.saes.path)
    corpus = read_manifest(Path(config.corpus.path))
    classifier = load_classifier(
        config.classifier.path, max_length=config.classifier.max_length, device=device, dtype=config.index.dtype
    )
    layers = _layers(config.saes, classifier)
    recipe = _recipe(config, classifier, corpus.content_sha256)
    if (target / REPORT).is_file():
        return _same_or_refuse(target, recipe)
    if target.exists():
        raise SaeError(f"{target} exists and was not trained here", field="saes.path", fix="choose another directory")
    documents = _tokenized(config, classifier)
    work = target.with_name(f"{target.name}.work")
    staged = work / "staged"
    with disk_full_is_said(target):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        saes: dict[int, Sae] = {}
        resampled: dict[int, int] = {}
        steps = 0
        for group in _groups(layers, config.saes, classifier):
            trained, steps = _train_group(config, classifier, documents, group, recipe, work, progress)
            for layer, sae in trained.items():
                saes[layer] = sae.finished(layer)
                resampled[layer] = int(sae.resampled)
                save_sae(staged / f"layer_{layer:02d}", saes[layer], model_name=Path(config.classifier.path).name)
        report = _report(config, classifier, saes, resampled, recipe, progress)
        report = msgspec.structs.replace(
            report,
            train_positions=sum(len(document.positions) for document in documents),
            steps=steps,
            seconds=round(time.perf_counter() - started, 2),
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )
        (staged / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
        fsync_tree(staged)
        rename_into_place(staged, target)
        shutil.rmtree(work)
    return report


def _layers(config: SaesConfig, classifier: Classifier) -> list[int]:
    layers = sorted(set(config.layers)) or list(range(classifier.layers))
    if layers[-1] >= classifier.layers:
        raise SaeError(
            f"the classifier has layers 0 to {classifier.layers - 1}, not {layers[-1]}",
            field="saes.layers",
            fix="choose among those, or leave it empty for all",
        )
    return layers


def _recipe(config: Config, classifier: Classifier, corpus_sha256: str) -> str:
    settings = msgspec.structs.asdict(config.saes)
    parts = {
        "classifier": fingerprint(Path(config.classifier.path)),
        "max_length": config.classifier.max_length,
        "corpus": corpus_sha256,
        "dtype": str(classifier.dtype),
        "batch_tokens": config.index.batch_tokens,
        **{key: value for key, value in settings.items() if key not in _NOT_IN_RECIPE},
    }
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def _same_or_refuse(target: Path, recipe: str) -> SaesReport:
    report = msgspec.json.decode((target / REPORT).read_bytes(), type=SaesReport)
    if report.fingerprint != recipe:
        raise SaeError(
            f"{target} holds SAEs trained with another classifier, corpus or settings",
            field="saes.path",
            fix="choose another directory, or remove this one to train again",
        )
    return report


def _tokenized(config: Config, classifier: Classifier) -> list[Tokenized]:
    found = read_documents(Path(config.corpus.path), "train")
    documents = [item for item in classifier.tokenize([document.text for document in found]) if item.positions]
    if not documents:
        raise CorpusError("the corpus has no training documents", field="corpus.path", fix="import one that has")
    return documents


def _groups(layers: Sequence[int], config: SaesConfig, classifier: Classifier) -> list[list[int]]:
    """Layers that fit into memory together; each group costs a stream of forward passes of its own."""
    buffer = config.buffer_positions * classifier.d_model * classifier.dtype.itemsize
    parameters = 2 * classifier.d_model * config.d_sae * 4 * 4  # weights, gradients and Adam's two moments
    if classifier.device.type == "cuda":
        free = torch.cuda.mem_get_info(classifier.device)[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    together = max(1, int(free * MEMORY_SHARE / (buffer + parameters)))
    groups = [list(layers[start : start + together]) for start in range(0, len(layers), together)]
    if len(groups) > 1:
        log.info("layers do not fit into memory together", groups=len(groups), layers_a_group=together)
    return groups


def _train_group(
    config: Config,
    classifier: Classifier,
    documents: Sequence[Tokenized],
    layers: Sequence[int],
    recipe: str,
    work: Path,
    progress: Progress | None,
) -> tuple[dict[int, TrainableSae], int]:
    settings = config.saes
    saes = {
        layer: TrainableSae(
            classifier.d_model,
            settings.d_sae,
            architecture=settings.architecture,
            k=settings.k,
            learning_rate=settings.learning_rate,
            seed=settings.seed * 1000 + layer,
            device=classifier.device,
        )
        for layer in layers
    }
    fills = plan_fills(
        [len(document.positions) for document in documents],
        epochs=settings.epochs,
        buffer_positions=settings.buffer_positions,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    total = sum(fill.steps for fill in fills)
    checkpoints = work / f"layers-{layers[0]:02d}-{layers[-1]:02d}"
    state = read_checkpoint(checkpoints, recipe, saes)
    done, step = (state.fills, state.step) if state else (0, 0)
    if state:
        log.info("resuming", step=step, of=total)
    task = (
        progress.add_task(f"training SAEs, layers {layers[0]}-{layers[-1]}", total=total, completed=step)
        if progress
        else None
    )
    buffer = ResidualBuffer(classifier, documents, layers, config.index.batch_tokens)
    schedule = Schedule(settings, total)
    saved = step
    for number, fill in enumerate(fills[done:], start=done + 1):
        step = _train_fill(fill, buffer, saes, schedule, settings.seed, step)
        if progress and task is not None:
            progress.update(task, completed=step)
        if step - saved >= settings.checkpoint_steps or number == len(fills):
            write_checkpoint(checkpoints, TrainingState(recipe, list(layers), number, step), saes)
            saved = step
    return saes, total


def _train_fill(
    fill: Fill,
    buffer: ResidualBuffer,
    saes: dict[int, TrainableSae],
    schedule: Schedule,
    seed: int,
    step: int,
) -> int:
    """Run the steps of one fill; return the number of finished steps."""
    residuals = buffer.fill(fill)
    positions = len(next(iter(residuals.values())))
    batches = [torch.from_numpy(rows) for rows in batches_of(fill, positions, seed)]
    if step == 0:
        for layer, sae in saes.items():
            sae.start_from(residuals[layer])
    for rows in batches:
        on = rows.to(residuals[next(iter(residuals))].device)
        for layer, sae in saes.items():
            sae.step(
                residuals[layer].index_select(0, on), l1=schedule.l1(step), learning_rate=schedule.learning_rate(step)
            )
        step += 1
        if step in schedule.resample_steps(RESAMPLE_AT):
            for layer, sae in saes.items():
                drawn = residuals[layer].index_select(0, on)
                sae.resample_silent(drawn, seed=seed + step + layer)
    return step


def _report(
    config: Config,
    classifier: Classifier,
    saes: dict[int, Sae],
    resampled: dict[int, int],
    recipe: str,
    progress: Progress | None,
) -> SaesReport:
    texts = [document.text for document in read_documents(Path(config.corpus.path), "eval")]
    task = progress.add_task("measuring on evaluation documents", total=len(texts)) if progress else None

    def advance(documents: int) -> None:
        if progress and task is not None:
            progress.advance(task, documents)

    quality = explained_variance(classifier, saes, texts, batch_tokens=config.index.batch_tokens, advance=advance)
    if not quality:
        raise CorpusError("the corpus has no evaluation documents", field="corpus.path", fix="import one that has")
    return SaesReport(
        fingerprint=recipe,
        layers=[
            LayerReport(
                layer=layer,
                explained_variance=found.explained_variance,
                l0=found.l0,
                dead_share=found.dead / saes[layer].d_sae,
                resampled=resampled[layer],
            )
            for layer, found in quality.items()
        ],
        train_positions=0,
        eval_positions=next(iter(quality.values())).positions,
        steps=0,
        seconds=0,
        peak_memory_bytes=0,
        settings={key: value for key, value in msgspec.structs.asdict(config.saes).items() if key != "path"},
        versions=recorded_versions(),
    )

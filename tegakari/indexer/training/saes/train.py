"""`tegakari sae train`: all layers from one stream of forward passes; a killed training goes on from its checkpoint."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog
import torch
from rich.progress import Progress

from tegakari.indexer.corpus import read_documents, read_manifest
from tegakari.indexer.training.saes.fills import Fill, ResidualBuffer, batches_of, plan_fills
from tegakari.indexer.training.saes.memory_groups import groups_of, peak_bytes, translate_out_of_memory
from tegakari.indexer.training.saes.schedule import Schedule
from tegakari.indexer.training.saes.trainable import TrainableSae
from tegakari.indexer.training.saes.unfinished import (
    REPORT_FILE,
    State,
    begin_or_go_on,
    finished_report,
    read_checkpoint,
    training_lock,
    write_checkpoint,
)
from tegakari.models.classifier import Classifier
from tegakari.models.explained_variance import LayerQuality, explained_variance
from tegakari.models.fingerprint import fingerprint
from tegakari.models.loading import load_classifier
from tegakari.models.sae import Sae
from tegakari.models.sae_formats import save_sae
from tegakari.models.tokens import Tokenized
from tegakari.schemas.config import Config, SaesConfig
from tegakari.schemas.errors import CorpusError, SaeError
from tegakari.schemas.saes import LayerReport, SaesRecipe, SaesReport
from tegakari.store.disk.durable import fsync_tree, rename_into_place, translate_disk_full
from tegakari.store.versions import recorded_versions

log = structlog.get_logger()


def train_saes(config: Config, *, device: str = "auto", progress: Progress | None = None) -> SaesReport:
    """Train one SAE per layer on the residuals of the training documents and write them in SAELens' layout.

    A set that is there already and was made from the same classifier, corpus and settings is not trained again. A
    killed training goes on from its last checkpoint and ends with the SAEs that it would have had unbroken.

    Args:
        config: its saes section says what is trained; index.dtype and index.batch_tokens, how the classifier is run.
        device: auto, cpu, cuda or cuda:N.
        progress: shows the stages.

    Returns:
        what training.json in the directory of the SAEs holds.

    Raises:
        CorpusError, ModelError: the corpus or the classifier is missing or empty.
        SaeError: the directory or its unfinished training belongs to something else, a layer that does not exist was
            asked for, memory does not suffice, or training diverged.
        DiskFullError: no space; the last checkpoint is kept.
    """
    target = Path(config.saes.path)
    corpus = read_manifest(Path(config.corpus.path))
    classifier = load_classifier(
        config.classifier.path, max_length=config.classifier.max_length, device=device, dtype=config.index.dtype
    )
    recipe = _recipe(config, classifier, corpus.content_sha256)
    if report := finished_report(target, recipe):
        return report
    data = _data(config, classifier)
    work = target.with_name(f"{target.name}.work")
    with translate_disk_full(target, field="saes.path"), translate_out_of_memory(), training_lock(work):
        staged = work / "staged"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        plan = begin_or_go_on(work, recipe, lambda: groups_of(recipe.layers, config.saes, classifier))
        if len(plan.groups) > 1:
            log.info("layers do not fit into memory together", groups=plan.groups)
        reports: list[LayerReport] = []
        positions, steps, seconds = 0, 0, 0.0
        for number, layers in enumerate(plan.groups):
            trained, state = _train_group(config, classifier, data, layers, work / f"group-{number:02d}", progress)
            started = time.perf_counter()
            saes = {layer: sae.finished(layer) for layer, sae in trained.items()}
            del trained  # its memory is needed
            for layer, sae in saes.items():
                save_sae(staged / f"layer_{layer:02d}", sae, model_name=Path(config.classifier.path).name)
            quality = _measure(config, classifier, data, saes, progress)
            reports += [_layer_report(layer, saes[layer], found) for layer, found in quality.items()]
            positions = quality[layers[0]].positions
            steps, seconds = state.step, seconds + state.seconds + time.perf_counter() - started
        report = SaesReport(
            recipe=recipe,
            layers=reports,
            train_positions=sum(data.positions),
            eval_positions=positions,
            steps=steps,
            seconds=round(seconds, 2),
            peak_memory_bytes=peak_bytes(classifier.device),
            device=str(classifier.device),
            versions=recorded_versions(),
        )
        (staged / REPORT_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
        fsync_tree(staged)
        if target.exists():
            target.rmdir()  # empty, or finished_report would have refused
        rename_into_place(staged, target)
        shutil.rmtree(work)
    log.info("trained SAEs", saes=target.name, layers=len(reports), steps=report.steps, seconds=report.seconds)
    return report


class _Data(NamedTuple):
    """What SAEs learn from and are measured on."""

    train: list[Tokenized]
    eval: list[str]

    @property
    def positions(self) -> list[int]:
        """Countable positions of each training document."""
        return [len(document.positions) for document in self.train]


def _recipe(config: Config, classifier: Classifier, corpus_sha256: str) -> SaesRecipe:
    settings = config.saes
    layers = sorted(set(settings.layers)) or list(range(classifier.layers))
    if layers[-1] >= classifier.layers:
        raise SaeError(
            f"the classifier has layers 0 to {classifier.layers - 1}, not {layers[-1]}",
            field="saes.layers",
            fix="choose among those, or leave it empty for all",
        )
    if settings.architecture == "batch_topk" and settings.k >= settings.d_sae:
        raise SaeError(
            f"{settings.k} active features a position, of {settings.d_sae}", field="saes.k", fix="lower it"
        )  # fmt: skip
    return SaesRecipe(
        classifier_sha256=fingerprint(Path(config.classifier.path)),
        corpus_sha256=corpus_sha256,
        max_length=config.classifier.max_length,
        dtype="bfloat16" if classifier.dtype == torch.bfloat16 else "float32",
        layers=layers,
        architecture=settings.architecture,
        d_sae=settings.d_sae,
        l1_coefficient=settings.l1_coefficient,
        k=settings.k,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        l1_warmup=settings.l1_warmup,
        learning_rate_decay=settings.learning_rate_decay,
        buffer_positions=settings.buffer_positions,
        seed=settings.seed,
    )


def _data(config: Config, classifier: Classifier) -> _Data:
    corpus = Path(config.corpus.path)
    texts = {split: [document.text for document in read_documents(corpus, split)] for split in ("train", "eval")}
    train = [document for document in classifier.tokenize(texts["train"]) if document.positions]
    for split, documents in (("training", train), ("evaluation", texts["eval"])):
        if not documents:
            raise CorpusError(f"the corpus has no {split} documents", field="corpus.path", fix="import one that has")
    return _Data(train, texts["eval"])


def _train_group(
    config: Config,
    classifier: Classifier,
    data: _Data,
    layers: Sequence[int],
    checkpoints: Path,
    progress: Progress | None,
) -> tuple[dict[int, TrainableSae], State]:
    """Train layers together, from their last checkpoint on if there is one."""
    settings = config.saes
    fills = plan_fills(
        data.positions,
        epochs=settings.epochs,
        buffer_positions=settings.buffer_positions,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    total = sum(fill.steps for fill in fills)
    saes = {layer: _new_sae(layer, settings, classifier, total) for layer in layers}
    state = read_checkpoint(checkpoints, saes)
    if state:
        log.info("resuming", layers=list(layers), step=state.step, of=total)
    state = state or State(fills=0, step=0, seconds=0.0)
    advance = _stage(progress, f"training SAEs of layers {layers[0]} to {layers[-1]}", total, state.step)
    buffer = ResidualBuffer(classifier, data.train, layers, config.index.batch_tokens)
    schedule = Schedule(settings, total)
    started, step, saved = time.perf_counter() - state.seconds, state.step, state.step
    with _tensor_cores(classifier.device):
        for number, fill in enumerate(fills[state.fills :], start=state.fills + 1):
            _train_fill(fill, buffer, saes, schedule, settings.seed, step, advance)
            step += fill.steps
            if step - saved >= settings.checkpoint_steps or number == len(fills):
                _check_finite(saes, step, checkpoints.parent)
                state = State(number, step, round(time.perf_counter() - started, 2))
                write_checkpoint(checkpoints, state, saes)
                saved = step
    return saes, state


def _new_sae(layer: int, settings: SaesConfig, classifier: Classifier, steps: int) -> TrainableSae:
    return TrainableSae(
        classifier.d_model,
        settings.d_sae,
        architecture=settings.architecture,
        k=settings.k,
        silent_steps=steps // settings.epochs // 2,
        seed=settings.seed * 1000 + layer,
        device=classifier.device,
    )


def _train_fill(
    fill: Fill,
    buffer: ResidualBuffer,
    saes: Mapping[int, TrainableSae],
    schedule: Schedule,
    seed: int,
    step: int,
    advance: Callable[[int], None],
) -> None:
    """Run the steps of one fill, the first of which is number `step`."""
    residuals = buffer.fill(fill)
    any_residual = next(iter(residuals.values()))
    if step == 0:
        for layer, sae in saes.items():
            sae.start_from(residuals[layer])
    batches = [torch.from_numpy(rows).to(any_residual.device) for rows in batches_of(fill, len(any_residual), seed)]
    for number, rows in enumerate(batches, start=step):
        l1, learning_rate = schedule.l1(number), schedule.learning_rate(number)
        for layer, sae in saes.items():
            sae.step(residuals[layer].index_select(0, rows), l1=l1, learning_rate=learning_rate)
        advance(1)


def _check_finite(saes: Mapping[int, TrainableSae], step: int, work: Path) -> None:
    for layer, sae in saes.items():
        if not sae.is_finite():
            raise SaeError(
                f"training of layer {layer} diverged before step {step}",
                field="saes.learning_rate",
                fix=f"lower it, and remove {work} to start over",
            )


def _measure(
    config: Config, classifier: Classifier, data: _Data, saes: Mapping[int, Sae], progress: Progress | None
) -> dict[int, LayerQuality]:
    advance = _stage(progress, "measuring on evaluation documents", len(data.eval))
    quality = explained_variance(classifier, saes, data.eval, batch_tokens=config.index.batch_tokens, advance=advance)
    if not quality:
        raise CorpusError("no evaluation document has a token", field="corpus.path", fix="import one that has")
    return quality


def _layer_report(layer: int, sae: Sae, quality: LayerQuality) -> LayerReport:
    return LayerReport(
        layer=layer,
        explained_variance=quality.explained_variance,
        l0=quality.l0,
        dead_share=quality.dead / sae.d_sae,
        input_scale=sae.scale,
    )


def _stage(progress: Progress | None, description: str, total: int, done: int = 0) -> Callable[[int], None]:
    """Show a stage; the function returned tells it how much more is done."""
    if progress is None:
        return lambda _more: None
    task = progress.add_task(description, total=total, completed=done)
    return lambda more: progress.advance(task, more)


@contextmanager
def _tensor_cores(device: torch.device) -> Iterator[None]:
    """Let a GPU multiply float32 on its tensor cores, in TF32."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

"""From a corpus and a base model to a classifier in its place, stage by stage."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import structlog
import torch
from rich.progress import Progress
from transformers.utils import logging as transformers_logging

from tegakari.indexer.corpus import read_documents, read_manifest
from tegakari.indexer.training.classifier.base import find_base, load_base_model, load_tokenizer
from tegakari.indexer.training.classifier.baseline import predict_with_tfidf
from tegakari.indexer.training.classifier.examples import Example, check_fit, check_labels, make_examples
from tegakari.indexer.training.classifier.failures import translate_failures
from tegakari.indexer.training.classifier.prediction import predict
from tegakari.indexer.training.classifier.scores import score
from tegakari.indexer.training.classifier.trainer import Trained, train
from tegakari.indexer.training.classifier.unfinished import finished_report, last_checkpoint, training_lock
from tegakari.models.fingerprint import fingerprint
from tegakari.models.loading import load_classifier, pad_id_of, resolve_device
from tegakari.schemas.classifier import REPORT_FILE, ClassifierReport, FinetuneRecipe, ModelScores
from tegakari.schemas.config import Config
from tegakari.schemas.corpus import Document
from tegakari.schemas.errors import ModelError
from tegakari.store.disk.durable import fsync_tree, rename_into_place
from tegakari.store.versions import recorded_versions

log = structlog.get_logger()


def finetune(config: Config, *, device: str = "auto", progress: Progress | None = None) -> ClassifierReport:
    """Fine-tune a classifier on the training documents and score it on the evaluation documents.

    A classifier that is there already and was made from the same base, corpus and settings is not trained again. A
    killed training goes on from its last checkpoint and ends with the weights that it would have had unbroken.

    Args:
        config: its corpus and classifier sections say what is trained; index.dtype and index.batch_tokens, how the
            evaluation documents are run.
        device: auto, cpu or cuda; one GPU, the first that is visible.
        progress: shows the stages.

    Returns:
        what report.json in the classifier's directory holds.

    Raises:
        CorpusError: the corpus is missing, or a label has too few documents.
        ModelError: the base is missing or unsafe, the directory or its unfinished training belongs to something else,
            the model does not fit into memory, or training diverged.
        DiskFullError: no space; the last checkpoint is kept.
    """
    target = Path(config.classifier.path)
    with translate_failures(target), _silent_transformers():
        inputs = _inputs(config, device, progress)
        if report := finished_report(target, inputs.recipe):
            return report
        work = target.with_name(f"{target.name}.work")
        with training_lock(work):
            staged = work / "staged"
            shutil.rmtree(staged, ignore_errors=True)
            report = _make(config, inputs, work, staged, progress)
            (staged / REPORT_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
            fsync_tree(staged)
            rename_into_place(staged, target)
            shutil.rmtree(work)
    log.info(
        "fine-tuned", classifier=target.name, macro_f1=round(report.classifier.macro_f1, 4), seconds=report.seconds
    )
    return report


class _Inputs(NamedTuple):
    """What a classifier is made from."""

    documents: list[Document]
    labels: list[str]
    base: Path
    device: torch.device
    recipe: FinetuneRecipe


def _inputs(config: Config, device: str, progress: Progress | None) -> _Inputs:
    corpus = read_manifest(Path(config.corpus.path))
    documents = read_documents(Path(config.corpus.path), "all")
    check_labels(documents, corpus.labels)
    on = _training_device(device)
    settings = config.classifier
    advance = _stage(progress, f"finding {settings.base}", 1)
    base = find_base(settings.base)
    recipe = FinetuneRecipe(
        base_sha256=fingerprint(base),
        corpus_sha256=corpus.content_sha256,
        max_length=settings.max_length,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        precision="bfloat16" if on.type == "cuda" and torch.cuda.is_bf16_supported() else "float32",
    )
    advance(1)
    return _Inputs(documents, corpus.labels, base, on, recipe)


def _training_device(device: str) -> torch.device:
    on = resolve_device(device)
    if on.type not in ("cpu", "cuda") or on.index:
        raise ModelError(
            f"cannot train on {device!r}: fine-tuning runs on the CPU or the first visible GPU",
            field="--device",
            fix="use cpu or cuda; CUDA_VISIBLE_DEVICES chooses the GPU",
        )
    return on


def _make(config: Config, inputs: _Inputs, work: Path, staged: Path, progress: Progress | None) -> ClassifierReport:
    """Train, write the classifier to `staged`, and score what was written."""
    settings = config.classifier
    advance = _stage(progress, "tokenizing documents", len(inputs.documents))
    examples, skipped = make_examples(
        load_tokenizer(inputs.base), inputs.documents, inputs.labels, settings.max_length, advance
    )
    check_labels([example.document for example in examples], inputs.labels)
    train_set = [example for example in examples if example.document.split == "train"]
    eval_set = [example for example in examples if example.document.split == "eval"]
    trained = _train_and_save(config, inputs, examples, train_set, work, staged, progress)
    own = _score(config, inputs, staged, eval_set, progress)
    baseline = _score_baseline(inputs, train_set, eval_set, settings.seed, progress)
    return ClassifierReport(
        classifier=own,
        baseline=baseline,
        base=settings.base,
        recipe=inputs.recipe,
        gradient_checkpointing=settings.gradient_checkpointing,
        train_documents=len(train_set),
        eval_documents=len(eval_set),
        skipped=skipped,
        steps=trained.steps,
        seconds=trained.seconds,
        peak_memory_bytes=trained.peak_memory_bytes,
        device=torch.cuda.get_device_name(inputs.device) if inputs.device.type == "cuda" else "cpu",
        versions=recorded_versions(),
    )


def _train_and_save(
    config: Config,
    inputs: _Inputs,
    examples: Sequence[Example],
    train_set: Sequence[Example],
    work: Path,
    staged: Path,
    progress: Progress | None,
) -> Trained:
    checkpoint = last_checkpoint(work, inputs.recipe)
    if checkpoint:
        log.info("resuming", checkpoint=checkpoint.path.name)
    tokenizer = load_tokenizer(inputs.base)
    model = load_base_model(inputs.base, inputs.labels, pad_id_of(tokenizer), config.classifier.seed)
    check_fit(model, examples, config.classifier.max_length)
    trained = train(
        model,
        train_set,
        config.classifier,
        device=inputs.device,
        bfloat16=inputs.recipe.precision == "bfloat16",
        work=work,
        checkpoint=checkpoint,
        progress=progress,
    )
    model.save_pretrained(staged)
    tokenizer.save_pretrained(staged)
    mode = (staged / "config.json").stat().st_mode
    for weights in staged.glob("*.safetensors"):
        weights.chmod(mode)  # safetensors leaves them readable by their owner alone
    return trained


def _score(
    config: Config, inputs: _Inputs, staged: Path, eval_set: Sequence[Example], progress: Progress | None
) -> ModelScores:
    """Run the classifier as it was written, the way an index runs it."""
    _free_memory()
    classifier = load_classifier(
        staged, max_length=config.classifier.max_length, device=str(inputs.device), dtype=config.index.dtype
    )
    advance = _stage(progress, "evaluating", len(eval_set))
    texts = [example.document.text for example in eval_set]
    predicted = predict(classifier, texts, batch_tokens=config.index.batch_tokens, advance=advance)
    return score(inputs.labels, _classes(eval_set), predicted)


def _score_baseline(
    inputs: _Inputs, train_set: Sequence[Example], eval_set: Sequence[Example], seed: int, progress: Progress | None
) -> ModelScores:
    advance = _stage(progress, "TF-IDF + linear SVC", 1)
    predicted = predict_with_tfidf(
        [example.document.text for example in train_set],
        _classes(train_set),
        [example.document.text for example in eval_set],
        seed,
    )
    advance(1)
    return score(inputs.labels, _classes(eval_set), predicted)


def _classes(examples: Sequence[Example]) -> np.ndarray:
    return np.array([example.label for example in examples])


def _free_memory() -> None:
    """Let go of what training held: Trainer's objects point at each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _stage(progress: Progress | None, description: str, total: int) -> Callable[[int], None]:
    """Show one more stage; the result is told how much more of it is done."""
    if progress is None:
        return lambda _: None
    task = progress.add_task(description, total=total)
    return lambda done: progress.advance(task, done)


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Only our own words and bars reach the terminal; what matters of transformers' is checked and said as an error."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()

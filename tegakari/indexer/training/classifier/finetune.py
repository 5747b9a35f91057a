"""Stages of a fine-tuning: base model, tokens, training, scores, and publication of the classifier's directory."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import structlog
import torch

from tegakari.indexer.corpus import read_documents, read_manifest
from tegakari.indexer.training.checkpoint import Training, newest_checkpoint, target_directory
from tegakari.indexer.training.classifier.base import find_base, load_base_model, load_base_tokenizer
from tegakari.indexer.training.classifier.baseline import predict_with_tfidf
from tegakari.indexer.training.classifier.examples import Example, check_fit, check_labels, make_examples
from tegakari.indexer.training.classifier.failures import translate_failures
from tegakari.indexer.training.classifier.prediction import predict
from tegakari.indexer.training.classifier.scores import score
from tegakari.indexer.training.classifier.trainer import TrainingCost, train
from tegakari.models.fingerprint import fingerprint
from tegakari.models.loading import load_classifier, pad_id_of, resolve_device
from tegakari.models.quiet import silent_transformers
from tegakari.schemas.classifier import REPORT_FILE, ClassifierReport, FinetuneRecipe, ModelScores
from tegakari.schemas.config import Config
from tegakari.schemas.corpus import Document
from tegakari.schemas.errors import ModelError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store.versions import recorded_versions

log = structlog.get_logger()


def finetune(config: Config, *, device: str = "auto", progress: Progress = NoProgress()) -> ClassifierReport:
    """Fine-tune a classifier on the training documents and score it on the evaluation documents.

    A classifier that was trained from the same base, corpus and settings is not trained again. A killed training
    resumes from its last checkpoint and ends with the weights of an uninterrupted one.

    Args:
        config: the corpus and classifier sections decide the training; index.dtype and index.batch_tokens, the forward
            passes over the evaluation documents.
        device: auto, cpu or cuda; one GPU, the first that is visible.
        progress: receives the stages.

    Returns:
        the content of report.json in the classifier's directory.

    Raises:
        CorpusError: the corpus is missing, or a label has too few documents.
        ModelError: the base is missing or unsafe; the target directory or its unfinished training is of other inputs;
            the model does not fit into memory; or training diverged.
        DiskFullError: no space; the last checkpoint is kept.
    """
    target = target_directory(config.classifier.path, "classifier.path")
    with translate_failures(target), silent_transformers():
        inputs = _inputs(config, device, progress)
        training = Training(target, inputs.recipe, REPORT_FILE, ClassifierReport, ModelError, "classifier.path")
        if report := training.finished_report():
            return report
        with training.staged() as staged:
            report = _train_and_score(config, inputs, training.work, staged, progress)
            training.write_report(staged, report)
    log.info(
        "fine-tuned", classifier=target.name, macro_f1=round(report.classifier.macro_f1, 4), seconds=report.seconds
    )
    return report


class _Inputs(NamedTuple):
    """Inputs of a fine-tuning."""

    documents: list[Document]
    labels: list[str]
    """by class index."""
    base: Path
    """directory of the base model."""
    device: torch.device
    recipe: FinetuneRecipe


def _inputs(config: Config, device_name: str, progress: Progress) -> _Inputs:
    corpus = read_manifest(Path(config.corpus.path))
    documents = read_documents(Path(config.corpus.path), "all")
    check_labels(documents, corpus.labels)
    device = _training_device(device_name)
    settings = config.classifier
    progress.stage(f"loading {settings.base}", 1)
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
        packed=settings.packed,
        precision="bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32",
    )
    progress.advance()
    return _Inputs(documents, corpus.labels, base, device, recipe)


def _training_device(name: str) -> torch.device:
    device = resolve_device(name)
    if device.type not in ("cpu", "cuda") or device.index:
        raise ModelError(
            f"cannot train on {name!r}: fine-tuning runs on the CPU or the first visible GPU",
            field="--device",
            fix="use cpu or cuda; CUDA_VISIBLE_DEVICES chooses the GPU",
        )
    return device


def _train_and_score(config: Config, inputs: _Inputs, work: Path, staged: Path, progress: Progress) -> ClassifierReport:
    """Train, write the classifier to `staged`, and score the classifier as written."""
    settings = config.classifier
    examples, skipped = make_examples(
        load_base_tokenizer(inputs.base), inputs.documents, inputs.labels, settings.max_length, progress
    )
    check_labels([example.document for example in examples], inputs.labels)
    train_set = [example for example in examples if example.document.split == "train"]
    eval_set = [example for example in examples if example.document.split == "eval"]
    cost = _train_and_save(config, inputs, examples, train_set, work, staged, progress)
    scores = _score(config, inputs, staged, eval_set, progress)
    baseline_scores = _score_baseline(inputs, train_set, eval_set, settings.seed, progress)
    return ClassifierReport(
        classifier=scores,
        baseline=baseline_scores,
        base=settings.base,
        recipe=inputs.recipe,
        gradient_checkpointing=settings.gradient_checkpointing,
        train_documents=len(train_set),
        eval_documents=len(eval_set),
        skipped=skipped,
        steps=cost.steps,
        seconds=cost.seconds,
        peak_memory_bytes=cost.peak_memory_bytes,
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
    progress: Progress,
) -> TrainingCost:
    checkpoint = newest_checkpoint(work)
    if checkpoint:
        log.info("resuming", checkpoint=checkpoint.path.name)
    tokenizer = load_base_tokenizer(inputs.base)
    model = load_base_model(inputs.base, inputs.labels, pad_id_of(tokenizer), config.classifier.seed)
    check_fit(model, tokenizer, config.classifier.max_length)
    cost = train(
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
        weights.chmod(mode)  # safetensors creates files that only their owner may read
    return cost


def _score(
    config: Config, inputs: _Inputs, staged: Path, eval_set: Sequence[Example], progress: Progress
) -> ModelScores:
    """Load the classifier as written and run it with the settings of an index."""
    _free_memory()
    classifier = load_classifier(
        staged, max_length=config.classifier.max_length, device=str(inputs.device), dtype=config.index.dtype
    )
    texts = [example.document.text for example in eval_set]
    predicted = predict(classifier, texts, batch_tokens=config.index.batch_tokens, progress=progress)
    return score(inputs.labels, _classes(eval_set), predicted)


def _score_baseline(
    inputs: _Inputs, train_set: Sequence[Example], eval_set: Sequence[Example], seed: int, progress: Progress
) -> ModelScores:
    progress.stage("TF-IDF + linear SVC", 1)
    predicted = predict_with_tfidf(
        [example.document.text for example in train_set],
        _classes(train_set),
        [example.document.text for example in eval_set],
        seed,
    )
    progress.advance()
    return score(inputs.labels, _classes(eval_set), predicted)


def _classes(examples: Sequence[Example]) -> np.ndarray:
    return np.array([example.label for example in examples])


def _free_memory() -> None:
    """Free the memory of the training; the garbage collector must run, since Trainer's objects form cycles."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

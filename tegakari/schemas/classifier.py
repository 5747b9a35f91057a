"""What fine-tuning reports: what the classifier was made from and how well it does."""

from __future__ import annotations

from typing import Literal

import msgspec

from tegakari.schemas.corpus import Drop


class LabelScore(msgspec.Struct, frozen=True, kw_only=True):
    """How well documents of one label are told from the others."""

    label: str
    precision: float
    """0 where no document is predicted as this label."""
    recall: float
    f1: float
    support: int
    """evaluation documents with this label."""


class ConfusionCount(msgspec.Struct, frozen=True, kw_only=True):
    """Evaluation documents of a label that are given a label, the same or another; pairs without any are left out."""

    label: str
    predicted: str
    documents: int


class ModelScores(msgspec.Struct, frozen=True, kw_only=True):
    """A model on the evaluation documents."""

    macro_f1: float
    """mean of the labels' F1"""
    accuracy: float
    labels: list[LabelScore]
    """in the order of the classifier's classes"""
    confusion: list[ConfusionCount]
    """by label, then predicted label, in the order of the classes"""
    macro_f1_by_prefix: dict[str, float]
    """mean F1 of the labels that share what stands before their first "-"; empty where no two labels do"""


class FinetuneRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides what the trained weights are, the machine and the library versions apart."""

    base_sha256: str
    """hash of the files of the base model"""
    corpus_sha256: str
    """content hash of the corpus"""
    max_length: int
    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int
    seed: int
    precision: Literal["float32", "bfloat16"]
    """of the matrix products; weights and optimizer state are float32 either way"""


REPORT_FILE = "report.json"
"""in the directory of a fine-tuned classifier"""


class ClassifierReport(msgspec.Struct, frozen=True, kw_only=True):
    """report.json of a fine-tuned classifier."""

    classifier: ModelScores
    baseline: ModelScores
    """TF-IDF of character n-grams with a linear support vector classifier, on the same documents"""
    base: str
    """classifier.base as it was written"""
    recipe: FinetuneRecipe
    gradient_checkpointing: bool
    train_documents: int
    eval_documents: int
    skipped: list[Drop]
    """documents that could be neither trained nor evaluated on, by reason"""
    steps: int
    seconds: float
    """of training, over all the attempts that a killed run took, as far as their work was kept"""
    peak_memory_bytes: int
    """of training: GPU memory allocated, or on a CPU the largest resident size of the process"""
    device: str
    versions: dict[str, str]

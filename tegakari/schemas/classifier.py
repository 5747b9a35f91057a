"""Report of a fine-tuning: inputs and settings of the classifier, and its scores."""

from __future__ import annotations

from typing import Literal

import msgspec

from tegakari.schemas.corpus import Drop


class LabelScore(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of one label."""

    label: str
    precision: float
    """share of the documents predicted as this label that have it; 0 without predictions."""
    recall: float
    """share of the documents of this label that are predicted as it."""
    f1: float
    support: int
    """number of evaluation documents with this label."""


class ConfusionCount(msgspec.Struct, frozen=True, kw_only=True):
    """Number of evaluation documents by true and predicted label; pairs without documents are omitted."""

    label: str
    predicted: str
    documents: int


class ModelScores(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of a model on the evaluation documents."""

    macro_f1: float
    """mean F1 of the labels."""
    accuracy: float
    """share of the documents whose predicted label is the true one."""
    labels: list[LabelScore]
    """by class index."""
    confusion: list[ConfusionCount]
    """by class index of the label, then of the predicted label."""
    macro_f1_by_prefix: dict[str, float]
    """mean F1 of labels with the same text before their first "-", for each such prefix of at least two labels."""


class FinetuneRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs and settings that determine the trained weights, up to the machine and the library versions."""

    base_sha256: str
    """hash of the base model's files."""
    corpus_sha256: str
    """content hash of the corpus."""
    max_length: int
    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int
    seed: int
    precision: Literal["float32", "bfloat16"]
    """precision of matrix products; weights and optimizer state are always float32."""
    packed: bool = False
    """whether the documents of a step stand in one row."""


REPORT_FILE = "report.json"
"""name of the report in the directory of a classifier."""


class ClassifierReport(msgspec.Struct, frozen=True, kw_only=True):
    """Content of report.json, the report of a classifier."""

    classifier: ModelScores
    baseline: ModelScores
    """TF-IDF of character n-grams with a linear support vector classifier, on the same documents."""
    base: str
    """classifier.base of the configuration."""
    recipe: FinetuneRecipe
    gradient_checkpointing: bool
    train_documents: int
    eval_documents: int
    skipped: list[Drop]
    """documents used neither for training nor for evaluation, by reason."""
    steps: int
    """optimizer steps."""
    seconds: float
    """training time; of interrupted attempts, the time up to their last checkpoint."""
    peak_memory_bytes: int
    """maximum in training of allocated GPU memory, or on a CPU the largest resident size of the process."""
    device: str
    versions: dict[str, str]

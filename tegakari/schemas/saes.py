"""What SAE training reports: what the SAEs were made from and how well they do."""

from __future__ import annotations

from typing import Literal

import msgspec


class SaesRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides what the trained SAEs are, the machine and the library versions apart."""

    classifier_sha256: str
    """hash of the files of the classifier"""
    corpus_sha256: str
    """content hash of the corpus"""
    max_length: int
    dtype: Literal["float32", "bfloat16"]
    """of the classifier and its residuals; the SAEs are float32 either way"""
    layers: list[int]
    architecture: Literal["relu", "batch_topk"]
    d_sae: int
    l1_coefficient: float
    k: int
    learning_rate: float
    batch_size: int
    epochs: int
    l1_warmup: float
    learning_rate_decay: float
    buffer_positions: int
    seed: int


class LayerReport(msgspec.Struct, frozen=True, kw_only=True):
    """The SAE of one layer, measured on the evaluation documents."""

    layer: int
    explained_variance: float | None
    """null where the residual does not vary."""
    l0: float
    """active features a position."""
    dead_share: float
    """share of features active on none of the evaluation positions."""
    input_scale: float
    """what residuals were multiplied with in training; it is folded into the weights."""


class SaesReport(msgspec.Struct, frozen=True, kw_only=True):
    """training.json of an SAE set."""

    recipe: SaesRecipe
    layers: list[LayerReport]
    train_positions: int
    """non-special positions of the training documents; an epoch sees each once."""
    eval_positions: int
    steps: int
    """of each layer."""
    seconds: float
    """of training and measuring, over all the attempts that a killed run took, as far as their work was kept."""
    peak_memory_bytes: int
    """GPU memory allocated, or on a CPU the largest resident size of the process."""
    device: str
    versions: dict[str, str]

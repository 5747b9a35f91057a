"""Report of an SAE training: its inputs and settings, and the quality of the SAEs."""

from __future__ import annotations

from typing import Literal

import msgspec

Precision = Literal["float32", "tf32", "bfloat16"]
"""How the operands of matrix products are rounded in training."""

REPORT_FILE = "training.json"
"""name of the report in the directory of an SAE set."""


class SaesRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs and settings that determine the trained SAEs, up to the machine and the library versions."""

    classifier_sha256: str
    """hash of the classifier's files."""
    corpus_sha256: str
    """content hash of the corpus."""
    max_length: int
    dtype: Literal["float32", "bfloat16"]
    """dtype of the classifier and its residuals; the SAEs are always float32."""
    layers: list[int]
    architecture: Literal["relu", "batch_topk"]
    d_sae: int
    l1_coefficient: float
    target_l0: float
    k: int
    learning_rate: float
    batch_size: int
    epochs: int
    l1_warmup: float
    learning_rate_decay: float
    buffer_positions: int
    seed: int
    precision: Precision = "float32"
    """precision of matrix products; weights and Adam's moments are always float32."""


class ResidualNorms(msgspec.Struct, frozen=True, kw_only=True):
    """Norms of the residuals that scale and initial decoder bias were computed from: those of the first fill."""

    mean: float
    median: float
    max: float


class LayerReport(msgspec.Struct, frozen=True, kw_only=True):
    """Quality of one layer's SAE on the evaluation documents."""

    layer: int
    explained_variance: float | None
    """over ordinary positions; null where the residual does not vary."""
    explained_variance_all: float | None
    """over ordinary positions and norm outliers."""
    max_norm: float | None
    """norm of the residual above which a position is an outlier, which is not trained on; null: no limit."""
    outlier_positions: int
    """evaluation positions that are outliers."""
    outlier_variance: float | None
    """share of the residual's variance over all positions that the outliers add."""
    doubts: list[str]
    """reasons to doubt the SAE, as sentences; empty: none."""
    l0: float
    """mean number of active features per ordinary position."""
    dead_share: float
    """share of features active on none of the evaluation positions."""
    input_scale: float
    """factor on the residuals in training; it is folded into the weights."""
    l1_coefficient: float | None
    """weight of the L1 penalty at the last step; null for batch_topk."""
    norms: ResidualNorms


class SaesReport(msgspec.Struct, frozen=True, kw_only=True):
    """Content of training.json, the report of an SAE set."""

    recipe: SaesRecipe
    layers: list[LayerReport]
    train_positions: int
    """countable positions of the training documents; each occurs once per epoch."""
    eval_positions: int
    """countable positions of the evaluation documents, norm outliers included."""
    steps: int
    """steps per layer."""
    doubts: list[str]
    """reasons to doubt all of the SAEs, as sentences; empty: none."""
    seconds: float
    """time of training and measurement; of interrupted attempts, the time up to their last checkpoint."""
    positions_per_second: float | None = None
    """positions of the optimizer steps per second of the last attempt, forward passes included; null without steps."""
    flop_per_second: float | None = None
    """matrix products of the optimizer steps of all layers, in operations per second of the steps; null as above."""
    peak_memory_bytes: int
    """maximum of allocated GPU memory, or on a CPU the largest resident size of the process."""
    device: str
    """of the first rank."""
    devices: int = 1
    """processes that trained together, each on a device of its own (on a CPU: each with its share of the cores)."""
    versions: dict[str, str]

"""What SAE training reports."""

from __future__ import annotations

import msgspec


class LayerReport(msgspec.Struct, frozen=True, kw_only=True):
    """The SAE of one layer, measured on the evaluation documents."""

    layer: int
    explained_variance: float | None
    """null where the residual does not vary."""
    l0: float
    """active features a position."""
    dead_share: float
    """share of features active on none of the evaluation positions."""
    resampled: int
    """features that were silent in training and given a new direction."""


class SaesReport(msgspec.Struct, frozen=True, kw_only=True):
    """training.json of an SAE set."""

    fingerprint: str
    """hash of classifier, corpus and settings: what the SAEs were made from."""
    layers: list[LayerReport]
    train_positions: int
    eval_positions: int
    steps: int
    seconds: float
    peak_memory_bytes: int
    settings: dict[str, int | float | str | list[int]]
    versions: dict[str, str]

"""Circuits: settings and results of activation patching of attention and MLP blocks."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tegakari.schemas.analysis import Interval, Provenance
from tegakari.schemas.config import Natural, Seed


class CircuitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How pairs of documents are drawn, and which components are in the circuit."""

    pairs: Annotated[Natural, Meta(description="pairs of documents to draw")] = 1000
    min_cosine: Annotated[float, Meta(ge=-1, le=1, description="minimum cosine of the embeddings of a pair")] = 0.8
    threshold: Annotated[float, Meta(description="minimum mean effect of a component in the circuit")] = 0.01
    documents: Annotated[Natural, Meta(description="evaluation documents for sufficiency and necessity")] = 1000
    seed: Annotated[Seed, Meta(description="of the draws and the intervals")] = 0


class ComponentEffect(msgspec.Struct, frozen=True, kw_only=True):
    """Mean effect of a component over the pairs."""

    layer: int
    component: Literal["attention", "mlp"]
    effect: Interval
    in_circuit: bool


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A third of the layers, and its share of the circuit."""

    band: Literal["early", "middle", "late"]
    first: int
    last: int
    components: int
    """in the circuit"""
    share: Interval | None
    """of the circuit's total effect; null for an empty circuit"""


class Ablated(msgspec.Struct, frozen=True, kw_only=True):
    """The classifier with components ablated at the last position."""

    by: Literal["mean", "zero"]
    """what an ablated component gives: its mean over the evaluation documents, or zero."""
    accuracy_kept: float
    """with all components ablated except the circuit"""
    accuracy_removed: float
    """with the circuit ablated"""
    sufficiency: Interval | None
    """accuracy with only the circuit kept / full accuracy; null if the full accuracy is 0."""
    necessity: Interval
    """full accuracy - accuracy with the circuit ablated"""


class CircuitResult(msgspec.Struct, frozen=True, kw_only=True):
    """Circuit of a run (the study, Figure 1)."""

    run: str
    settings: CircuitSettings
    layers: int
    pairs: int
    """pairs drawn; fewer than in the settings if fewer qualify"""
    qualifying: int
    """pairs of correctly predicted documents with different labels and at least the minimum cosine"""
    correct: int
    """correctly predicted evaluation documents"""
    labels_without: list[str]
    """labels without a correctly predicted document, which are in no pair"""
    no_gain: int
    """pairs whose clean logit exceeds the corrupted one by less than 1e-6: their effects count as 0"""
    components: list[ComponentEffect]
    """all components, by layer, attention before MLP"""
    total: Interval
    """sum of the circuit's mean effects"""
    bands: list[Band]
    documents: int
    """documents of sufficiency and necessity"""
    accuracy: float
    """of the whole classifier on these documents"""
    ablated: list[Ablated]
    seconds: float
    provenance: Provenance

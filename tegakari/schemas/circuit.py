"""Circuits: which attention and MLP blocks predictions hang on."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tegakari.schemas.analysis import Interval, Provenance
from tegakari.schemas.config import Natural, Seed


def _about(description: str) -> Meta:
    return Meta(description=description)


class CircuitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How pairs are found and what counts."""

    pairs: Annotated[Natural, _about("pairs of documents that are drawn")] = 1000
    min_cosine: Annotated[float, Meta(ge=-1, le=1, description="least cosine of a pair's embeddings")] = 0.8
    threshold: Annotated[float, _about("least mean effect of a component in the circuit")] = 0.01
    documents: Annotated[Natural, _about("evaluation documents that sufficiency and necessity are measured on")] = 1000
    seed: Annotated[Seed, _about("of the draws and the intervals")] = 0


class ComponentEffect(msgspec.Struct, frozen=True, kw_only=True):
    """Mean effect of a component over the pairs."""

    layer: int
    component: Literal["attention", "mlp"]
    effect: Interval
    in_circuit: bool


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A third of the layers."""

    band: Literal["early", "middle", "late"]
    first: int
    last: int
    components: int
    """of the circuit"""
    share: Interval | None
    """of the circuit's total effect; null for an empty circuit"""


class Ablated(msgspec.Struct, frozen=True, kw_only=True):
    """The classifier with components ablated at the last position."""

    by: Literal["mean", "zero"]
    """what they give instead: their mean over the evaluation documents, or nothing."""
    accuracy_kept: float
    """with only the circuit kept"""
    accuracy_removed: float
    """with the circuit removed"""
    sufficiency: Interval | None
    """accuracy with only the circuit kept / full accuracy; null where the full accuracy is 0."""
    necessity: Interval
    """full accuracy - accuracy with the circuit removed"""


class CircuitResult(msgspec.Struct, frozen=True, kw_only=True):
    """Figure 1 of the study, for one run."""

    run: str
    settings: CircuitSettings
    layers: int
    pairs: int
    """drawn; fewer than asked for where fewer qualify"""
    qualifying: int
    """pairs of correctly predicted documents with different labels that are near enough"""
    correct: int
    """evaluation documents that are predicted correctly"""
    labels_without: list[str]
    """labels with no correctly predicted document, which are in no pair"""
    no_gain: int
    """pairs whose clean logit is not above the corrupted one by 1e-6: their effects count as 0"""
    components: list[ComponentEffect]
    """all of them, by layer, attention before MLP"""
    total: Interval
    """sum of the circuit's mean effects"""
    bands: list[Band]
    documents: int
    """that sufficiency and necessity were measured on"""
    accuracy: float
    """of all of the classifier on them"""
    ablated: list[Ablated]
    seconds: float
    provenance: Provenance

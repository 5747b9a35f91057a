"""Circuits: settings and results of activation patching of attention and MLP blocks."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tegakari.schemas.analysis import Interval, Provenance
from tegakari.schemas.config import Natural, Seed

Membership = Literal["robust", "study"]
"""Which estimator decides about membership in the circuit, and gives the total effect and the figure."""


class CircuitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How pairs of documents are drawn, and which components are in the circuit."""

    pairs: Annotated[Natural, Meta(description="pairs of documents to draw")] = 1000
    min_cosine: Annotated[float, Meta(ge=-1, le=1, description="minimum cosine of the embeddings of a pair")] = 0.8
    threshold: Annotated[float, Meta(description="minimum effect of a component in the circuit")] = 0.01
    membership: Annotated[
        Membership,
        Meta(
            description="definition of the circuit: ratio of means at least the threshold at the lower end of its 95 % "
            "interval, or mean of ratios at least the threshold"
        ),
    ] = "robust"
    min_gain: Annotated[
        float,
        Meta(ge=0, description="minimum gain of a pair in the ratio of means, in standard deviations of the logits"),
    ] = 0.25
    documents: Annotated[Natural, Meta(description="evaluation documents for sufficiency and necessity")] = 1000
    seed: Annotated[Seed, Meta(description="of the draws and the intervals")] = 0


class ComponentEffect(msgspec.Struct, frozen=True, kw_only=True):
    """Effect of a component over the pairs. Change = patched - corrupted logit, gain = clean - corrupted logit."""

    layer: int
    component: Literal["attention", "mlp"]
    effect: Interval
    """ratio of means: sum of changes / sum of gains, over the pairs that reach the minimum gain"""
    study_effect: Interval
    """mean of ratios change / gain over all pairs, as in the study; 0 for a gain below 1e-6, negative gains included"""
    median_effect: float
    """median of change / gain over the pairs that reach the minimum gain"""
    in_circuit: bool
    """by the membership of the settings: one of the next two"""
    in_robust_circuit: bool
    """the lower end of the interval of `effect` is at least the threshold"""
    in_study_circuit: bool
    """`study_effect` is at least the threshold"""


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
    pair_documents: int
    """documents in these pairs, which the intervals resample"""
    qualifying: int
    """pairs of correctly predicted documents with different labels and at least the minimum cosine"""
    correct: int
    """correctly predicted evaluation documents"""
    labels_without: list[str]
    """labels without a correctly predicted document, which are in no pair"""
    spread: float
    """standard deviation of a label's logit over the clean documents, the unit of the minimum gain"""
    no_gain: int
    """pairs with a gain below 1e-6, or a negative one: their effect counts as 0 in the mean of ratios"""
    small_gain: int
    """pairs with a gain below 0.05 in absolute value"""
    below_min_gain: int
    """pairs left out of the ratio of means"""
    largest_shift: float
    """by how much one of the pairs left out moves the mean of ratios of a component, at most"""
    warning: str | None
    """sentence that says why the mean of ratios is unstable: `largest_shift` is at least the threshold; else null"""
    components: list[ComponentEffect]
    """all components, by layer, attention before MLP"""
    total: Interval
    """sum of the effects of the circuit's components, by the estimator of the membership"""
    bands: list[Band]
    documents: int
    """documents of sufficiency and necessity"""
    accuracy: float
    """of the whole classifier on these documents"""
    ablated: list[Ablated]
    rounding: float
    """largest effect of a component that is replaced by its own output, for a pair of median gain: 0 but for rounding.
    In float32, in which all passes are run."""
    run_dtype_rounding: float | None
    """largest difference of effects in the dtype of the run from those in float32, for a pair of median gain; null if
    both are the same"""
    seconds: float
    provenance: Provenance

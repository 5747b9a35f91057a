"""Knockouts and smallest sets: settings and results."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tegakari.schemas.analysis import Provenance
from tegakari.schemas.config import Pooling, Seed
from tegakari.schemas.inference import Index, Text

MAX_KNOCKOUT_TEXTS = 256
MAX_DOCUMENTS = 20_000
MAX_FEATURES = 1000

Details = Literal["none", "predictions", "logits"]


class LayerFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """A feature of a layer."""

    layer: Index
    feature: Index


LayerFeatures = Annotated[list[LayerFeature], Meta(max_length=MAX_FEATURES)]
DocumentIds = Annotated[list[str], Meta(min_length=1, max_length=MAX_DOCUMENTS)]
KnockoutTexts = Annotated[list[Text], Meta(min_length=1, max_length=MAX_KNOCKOUT_TEXTS)]


class KnockoutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which features are ablated in which documents.

    The features are those with the largest d for `label` in `layer`, or those of `features`. The documents are the
    evaluation documents of `documents_of`, by default of `label`; or those of `documents`; or `texts`.
    """

    label: Annotated[
        str | None, Meta(description="ablate the features with the largest d for this label; or give `features`")
    ] = None
    layer: Annotated[Index | None, Meta(description="layer of the label's features; with `label`")] = None
    k: Annotated[int, Meta(ge=0, le=MAX_FEATURES, description="number of the label's features; with `label`")] = 20
    pooling: Annotated[
        Pooling | None, Meta(description="of the d that selects the features; default: the run's; with `label`")
    ] = None
    features: Annotated[
        LayerFeatures | None, Meta(description="ablate these features, of one or more layers; instead of `label`")
    ] = None
    documents_of: Annotated[
        str | None,
        Meta(description="evaluation documents of this label; default: of `label`, without `documents` and `texts`"),
    ] = None
    documents: Annotated[DocumentIds | None, Meta(description="documents of the run, by id")] = None
    texts: Annotated[KnockoutTexts | None, Meta(description="texts instead of documents: title, newline, body")] = None
    mode: Annotated[
        Literal["error_preserving", "reconstruction"],
        Meta(
            description="subtract the features' contribution from the residual, or replace the residual by its "
            "reconstruction without them"
        ),
    ] = "error_preserving"
    positions: Annotated[
        Literal["all", "head"],
        Meta(description="edit all countable positions of a document, or those that the head reads"),
    ] = "all"
    draws: Annotated[int, Meta(ge=0, le=100, description="sets of other features in each of the two controls")] = 5
    seed: Annotated[Seed, Meta(description="of the controls and the intervals")] = 0
    details: Annotated[Details, Meta(description="what `outcomes` has of each document")] = "none"


class RemovedFeature(msgspec.Struct, frozen=True, kw_only=True):
    """An ablated feature."""

    layer: int
    feature: int
    d: float | None
    """Cohen's d for the label; null without a label, or if the feature has none."""
    density: float
    """share of positions on which it is active."""


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of ablating as many other features of the same layers, over the draws."""

    recalls: list[float]
    """of each draw"""
    delta_mean: float
    """points"""
    delta_sd: float
    """points, ddof 1; 0 for a single draw."""
    macro_f1_mean: float | None
    macro_f1_sd: float | None
    density_mean: float
    """mean density of the features drawn."""


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A label predicted after the ablation, for documents that were predicted as expected before."""

    label: str
    documents: int


class DocumentOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions of one document before and after the ablation."""

    document: str
    """its id; of a text, its number in the request."""
    expected: str
    before: str
    """predicted label"""
    after: str
    probability_before: float
    """of the expected label"""
    probability_after: float
    logits_before: list[float] | None = None
    """of all labels, in class order; null unless `details` is logits."""
    logits_after: list[float] | None = None


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that the parts of a knockout took."""

    before: float
    """forward passes with all features; near 0 if they were cached."""
    after: float
    """passes with ablated features, controls included."""
    total: float
    together: int
    """knockouts that shared these passes."""
    kept: bool
    """whether the passes with all features were cached by an earlier knockout."""


class KnockoutResult(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of a knockout.

    Recall is the share of the documents that are predicted as expected. A document is expected to have its own label; a
    text the label of the settings, or without one the label predicted with all features.
    """

    run: str
    settings: KnockoutSettings
    """with defaults filled in."""
    features: list[RemovedFeature]
    documents: int
    truncated: int
    """documents cut at the classifier's max_length."""
    recall_before: float
    recall_after: float
    delta: float
    """points of recall: 100 * (after - before)"""
    delta_low: float
    """lower end of its 95 % interval: 2,000 paired bootstrap samples of the documents."""
    delta_high: float
    macro_f1_before: float | None
    """over all documents of the run, the others with their stored predictions; null for texts."""
    macro_f1_after: float | None
    control: Control | None
    """random features that are active in the corpus and not ablated; null without draws or features."""
    density_control: Control | None
    """the same, with one of about the same density per ablated feature: drawn from the 10 features nearest in it."""
    recall_reconstructed: float | None
    """in reconstruction mode, with no feature ablated: the cost of reconstruction alone; null in the other mode."""
    lost: list[Destination]
    """most documents first"""
    gained: int
    """documents predicted as expected after and not before."""
    survived: list[str]
    """documents predicted as expected before and after."""
    outcomes: list[DocumentOutcome] | None
    """of each document, in their order; null if `details` is none."""
    provenance: Provenance
    timings: Timings


class SmallestSetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A greedy search: features are ablated one after the other, each time the one that lowers recall most."""

    label: Annotated[str, Meta(description="label of the features and of the evaluation documents")]
    layer: Annotated[Index, Meta(description="layer of the features")]
    candidates: Annotated[
        int, Meta(ge=1, le=MAX_FEATURES, description="features with the largest d to choose from")
    ] = 50
    share: Annotated[float, Meta(ge=0, lt=1, description="target: this share of the recall with all features")] = 0.5
    pooling: Annotated[Pooling | None, Meta(description="of d; default: the run's")] = None
    mode: Literal["error_preserving", "reconstruction"] = "error_preserving"
    positions: Literal["all", "head"] = "all"


class SmallestSetStep(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that was ablated in addition to those of the steps before."""

    layer: int
    feature: int
    d: float
    recall: float
    """with it and those before it ablated"""


class SmallestSetResult(msgspec.Struct, frozen=True, kw_only=True):
    """Set of features that a greedy search found; there may be smaller ones."""

    run: str
    settings: SmallestSetSettings
    documents: int
    recall_before: float
    target: float
    """recall to reach: the share of `recall_before` in the settings"""
    reached: bool
    """whether the target was reached; the search ends after 10 features in a row that do not lower the recall."""
    steps: list[SmallestSetStep]
    """up to the last one that lowered the recall"""
    by_d: int | None
    """features needed if they are ablated by d, largest first; null: all candidates do not reach the target."""
    recalls_by_d: list[float]
    """with the first 1, 2, ... candidates by d ablated"""

"""Knockouts and smallest sets: settings and results."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tegakari.schemas.analysis import Interval, Provenance
from tegakari.schemas.config import Pooling, Seed
from tegakari.schemas.inference import Index, Text

MAX_KNOCKOUT_TEXTS = 256
MAX_DOCUMENTS = 20_000
MAX_FEATURES = 1000

Details = Literal["none", "predictions", "logits"]

PER_LABEL: Literal["per-label"] = "per-label"
LayerSelection = Index | dict[str, Index] | Literal["per-label"] | None
"""Layer of a table of knockouts: one for all runs, one by run, one per run and label, or (None) one chosen per run."""


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
    evaluation documents of `documents_of`, by default of `label`; or those of `documents`; or `texts`. With `holdout`,
    d is over one half of the evaluation documents, and of those of `documents_of` the other half is measured.
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
    seed: Annotated[Seed, Meta(description="of the controls and the halves of a holdout")] = 0
    holdout: Annotated[
        bool,
        Meta(
            description="choose the label's features by d over one half of the evaluation documents of each label, "
            "drawn with the seed, and measure on the other half"
        ),
    ] = False
    details: Annotated[Details, Meta(description="what `outcomes` has of each document")] = "none"


class RemovedFeature(msgspec.Struct, frozen=True, kw_only=True):
    """An ablated feature."""

    layer: int
    feature: int
    cohens_d: float | None
    """Cohen's d for the label, over the choice half in a holdout; null without a label, or if the feature has none."""
    documents_active: int | None
    """documents of the label in which it is active; null without a label."""
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
    macro_f1_partial_ablation_mean: float | None
    macro_f1_partial_ablation_sd: float | None
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


class SaeQuality(msgspec.Struct, frozen=True, kw_only=True):
    """Quality of the SAE of a layer, over the run's documents: what a knockout can ablate depends on it."""

    layer: int
    features: int
    dead_share: float
    """share of the features that are active on no position"""
    l0: float
    """active features per position"""
    explained_variance: float | None
    """share of the variance of ordinary positions that the SAE reconstructs; null where it was not measured, or the
    residual does not vary"""
    explained_variance_all: float | None
    """the same over all positions, norm outliers included"""


class Margin(msgspec.Struct, frozen=True, kw_only=True):
    """Logit of the expected label minus the largest other one, mean over the documents.

    A label that is predicted where the classifier reads nothing keeps its recall without its features, and its margin
    falls.
    """

    before: float
    after: float
    net: Interval | None
    """change minus that of the density-matched control, with an interval over documents and draws; null with fewer than
    2 draws or documents"""
    told_apart: bool | None
    """whether the classifier predicts the label more often in its documents than in those of other labels (95 %
    intervals of both shares, over all documents of the run); null unless the documents are of one label of the run"""
    beyond_control: bool | None
    """whether the label is told apart and the upper end of `net` is below 0; null where one of them is"""


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
    """lower end of its 95 % interval over documents: Tango's score interval."""
    delta_high: float
    net: Interval | None
    """points: `delta` minus the mean of the density-matched control. The interval is over documents and draws, and the
    ablated set counts as one more draw; null with fewer than 2 draws."""
    beyond_control: bool | None
    """whether the upper end of `net` is below 0; null where `net` is."""
    margin: Margin
    """for labels whose recall does not show the effect"""
    macro_f1_before: float | None
    """over all documents of the run, the others with their stored predictions; null for texts."""
    macro_f1_partial_ablation: float | None
    """the same after the ablation in the documents of this knockout: the others keep their predictions with all
    features, so that it is not the macro-F1 of a classifier without the features."""
    control: Control | None
    """random features that are active in the corpus and not ablated; null without draws or features."""
    density_control: Control | None
    """the same, with one of about the same density per ablated feature: drawn from the 10 features nearest in it."""
    recall_reconstructed: float | None
    """in reconstruction mode, with no feature ablated: the cost of reconstruction alone; null in the other mode."""
    saes: list[SaeQuality]
    """of the edited layers"""
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

    @property
    def by_margin_alone(self) -> bool:
        """Whether the margin is beyond its control and recall is not."""
        return self.beyond_control is False and self.margin.beyond_control is True


class LayerEffect(msgspec.Struct, frozen=True, kw_only=True):
    """Mean effect of knockouts in a layer."""

    layer: int
    net: float | None
    """points: mean over the labels of `delta` minus the control of the same density; null for a layer left out"""
    left_out: str | None
    """why the layer cannot be chosen; null if it can"""


class LayerChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The layer of a run in which knockouts cost most recall, net of controls and averaged over labels."""

    run: str
    layer: int
    labels: int
    """labels that the effect is averaged over"""
    draws: int
    """control sets per label and layer"""
    holdout: bool
    """whether features and layer were chosen on other documents than those that the knockouts are measured on"""
    effects: list[LayerEffect]
    """of every layer, ascending"""


class KnockoutMean(msgspec.Struct, frozen=True, kw_only=True):
    """Mean effects over labels, and over those alone whose knockout is beyond its control."""

    labels: int
    """labels with a knockout"""
    beyond_control: int
    """labels whose knockout is beyond its control"""
    by_margin_alone: int
    """further labels, of which the margin is beyond its control and recall is not; they take no part in the means of
    labels beyond their control"""
    shown: bool
    """whether more labels are beyond their control than chance makes (binomial distribution, 6 % per label), and the
    upper end of `net_of_all` is below 0"""
    points: Interval | None
    """mean `delta` of the labels beyond their control; null unless shown"""
    net: Interval | None
    """mean net effect of the labels beyond their control; null unless shown. Of the labels with a small effect those
    that are lucky are beyond their control, so that this mean overstates the effect where some labels are not."""
    net_of_all: Interval | None
    """mean net effect of all labels; null where one has none, and for a single label"""


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
    cohens_d: float
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

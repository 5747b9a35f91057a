"""Knockouts: what is asked, and what came of it."""

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


def _about(description: str) -> Meta:
    return Meta(description=description)


class LayerFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """A feature of a layer."""

    layer: Index
    feature: Index


LayerFeatures = Annotated[list[LayerFeature], Meta(max_length=MAX_FEATURES)]
DocumentIds = Annotated[list[str], Meta(min_length=1, max_length=MAX_DOCUMENTS)]
KnockoutTexts = Annotated[list[Text], Meta(min_length=1, max_length=MAX_KNOCKOUT_TEXTS)]


class KnockoutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which features are taken out of which documents.

    The features are either those of largest d for `label` in `layer`, or the ones named. The documents are those of
    `documents_of`, or those of the label, or the ones named, or texts of the moment.
    """

    label: Annotated[str | None, _about("take out the features that carry this label; or give `features`")] = None
    layer: Annotated[Index | None, _about("of which layer; with `label`")] = None
    k: Annotated[int, Meta(ge=0, le=MAX_FEATURES, description="features with the largest d; with `label`")] = 20
    pooling: Annotated[Pooling | None, _about("of the d that chooses them; default: the run's; with `label`")] = None
    features: Annotated[LayerFeatures | None, _about("these features, of one or more layers")] = None
    documents_of: Annotated[
        str | None, _about("evaluation documents of this label; default: of `label`, if nothing else is given")
    ] = None
    documents: Annotated[DocumentIds | None, _about("ids of documents of the run")] = None
    texts: Annotated[KnockoutTexts | None, _about("read as title, newline, body")] = None
    mode: Annotated[
        Literal["error_preserving", "reconstruction"],
        _about("subtract the features' part of the residual, or decode what is left without them"),
    ] = "error_preserving"
    positions: Annotated[Literal["all", "last"], _about("all non-special positions, or the last one")] = "all"
    draws: Annotated[int, Meta(ge=0, le=100, description="sets of other features in each of the two controls")] = 5
    seed: Annotated[Seed, _about("of the controls and the intervals")] = 0
    details: Annotated[Details, _about("what is said of each document")] = "none"


class RemovedFeature(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that was taken out."""

    layer: int
    feature: int
    d: float | None
    """for the label; null where features were named without one, or it has none."""
    density: float
    """share of positions on which it is active."""


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The same with as many other features of the same layers, drawn at random; of each draw."""

    recalls: list[float]
    delta_mean: float
    """points"""
    delta_sd: float
    """points, ddof 1; 0 for a single draw."""
    macro_f1_mean: float | None
    macro_f1_sd: float | None
    density_mean: float
    """mean density of the features drawn."""


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """Where documents go that were predicted as expected before and are not after."""

    label: str
    documents: int


class DocumentOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one document."""

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
    """of all labels, in class order; null unless asked for."""
    logits_after: list[float] | None = None


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time went, in seconds."""

    before: float
    """ordinary passes, of which the residuals are kept; near 0 if they were kept already."""
    after: float
    """passes without the features, controls included."""
    total: float
    together: int
    """knockouts that shared these passes."""
    kept: bool
    """whether the residuals were kept from a question before."""


class KnockoutResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the documents without the features.

    Recall is the share of the documents that are predicted as expected: as their own label; a text, as the label asked
    for, or else as what it is predicted with all features.
    """

    run: str
    settings: KnockoutSettings
    """as asked, defaults filled in."""
    features: list[RemovedFeature]
    documents: int
    truncated: int
    """documents whose end was cut at the classifier's max_length."""
    recall_before: float
    recall_after: float
    delta: float
    """points of recall: 100 * (after - before)"""
    delta_low: float
    """lower end of its 95 % interval: 2,000 paired bootstrap samples of the documents."""
    delta_high: float
    macro_f1_before: float | None
    """over all documents of the run, the others as they are predicted; null for texts."""
    macro_f1_after: float | None
    control: Control | None
    """random features that are active in the corpus and were not taken out; null without draws or features."""
    density_control: Control | None
    """the same, but each as active as one of those taken out: drawn from the 10 features nearest in density."""
    recall_reconstructed: float | None
    """in reconstruction mode, with nothing taken out: what reconstruction alone costs; null in the other."""
    lost: list[Destination]
    """most documents first"""
    gained: int
    """documents predicted as expected after and not before."""
    survived: list[str]
    """documents predicted as expected before and after."""
    outcomes: list[DocumentOutcome] | None
    """of each document, in the order asked; null unless asked for."""
    provenance: Provenance
    timings: Timings


class SmallestSetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How few features hang a label: taken out one after the other, each time the one that costs most."""

    label: Annotated[str, _about("whose evaluation documents are read")]
    layer: Annotated[Index, _about("of the features")]
    candidates: Annotated[int, Meta(ge=1, le=MAX_FEATURES, description="features of largest d to choose from")] = 50
    share: Annotated[float, Meta(ge=0, lt=1, description="of the recall with all features, to come down to")] = 0.5
    pooling: Annotated[Pooling | None, _about("of the d; default: the run's")] = None
    mode: Literal["error_preserving", "reconstruction"] = "error_preserving"
    positions: Literal["all", "last"] = "all"


class SmallestSetStep(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that was taken out, with those before it."""

    layer: int
    feature: int
    d: float
    recall: float
    """without it and those before it"""


class SmallestSetResult(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest set found; a greedy search, so there may be smaller ones."""

    run: str
    settings: SmallestSetSettings
    documents: int
    recall_before: float
    target: float
    """share of recall_before that was asked for"""
    reached: bool
    """whether the search came down to it; it gives up after 10 features in vain."""
    steps: list[SmallestSetStep]
    """up to the last one that lowered the recall"""
    by_d: int | None
    """features needed if they are taken out by d, largest first; null: all candidates do not suffice."""
    recalls_by_d: list[float]
    """without the first 1, 2, ... candidates by d"""

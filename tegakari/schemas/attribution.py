"""Attributions: why a classifier gives a document its label."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tegakari.schemas.analysis import Provenance
from tegakari.schemas.config import Seed
from tegakari.schemas.inference import Index, LabelScore, Text

MAX_CANDIDATES = 200
MAX_SET = 20

Layers = Annotated[list[Index], Meta(min_length=1)]


class AttributionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A document or a text, and the features that are ablated in it. Exactly one of `document` and `text` is given."""

    document: Annotated[str | None, Meta(description="id of a document of the run")] = None
    text: Annotated[Text | None, Meta(description="text instead of a document: title, newline, body")] = None
    label: Annotated[str | None, Meta(description="label whose margin is attributed; default: the predicted one")] = (
        None
    )
    layers: Annotated[Layers | None, Meta(description="layers of the features; default: all layers of the run")] = None
    candidates: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_CANDIDATES,
            description="features to ablate: those whose ablation is estimated to cost most margin",
        ),
    ] = 20
    max_set: Annotated[
        int, Meta(ge=0, le=MAX_SET, description="features that the greedy search ablates together at most")
    ] = 5
    draws: Annotated[int, Meta(ge=0, le=100, description="sets of other active features in the random control")] = 10
    seed: Annotated[Seed, Meta(description="of the random control")] = 0


class TokenAttribution(msgspec.Struct, frozen=True, kw_only=True):
    """One position of the text."""

    position: int
    token: str
    """characters that the token covers; a token of a part of a character has the whole character."""
    start: int
    """first character of the text that the token covers; equal to that of the token before for the next part of one
    character."""
    end: int
    """first character after the token."""
    special: bool
    """BOS, EOS and other special tokens."""
    strength: float
    """share of the margin that the features lose, by where their activations rise; all tokens together have 1."""


class FeatureAttribution(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that is active in the text, and what its ablation costs."""

    layer: int
    feature: int
    margin_lost: float
    """margin minus the margin with this feature alone ablated."""
    logit_lost: float
    """the same of the label's logit."""
    estimate: float
    """of `margin_lost`, by the gradient of the margin; the candidates are those with the largest."""
    activation: float
    """largest activation in the text."""
    onset: int
    """position at which the activation rises most."""
    onset_token: str
    best_label: str | None
    """label for which its d is largest; null if it has no d."""
    top_tokens: list[str]
    """distinct tokens of its strongest positions in the run, strongest first."""


class AttributionStep(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that is ablated in addition to those of the steps before."""

    layer: int
    feature: int
    margin: float
    """with it and those before it ablated."""
    predicted: str
    """label predicted without them."""


class AttributionControl(msgspec.Struct, frozen=True, kw_only=True):
    """Margin lost when other features that are active in the text are ablated.

    Per draw, each feature of the greedy set is replaced by one of its layer, drawn from the 10 of most similar largest
    activation; in the last layer, where the head reads one position, of most similar activation there.
    """

    k: int
    """features of a set: those of the greedy set."""
    draws: int
    seed: int
    single_lost: list[float]
    """per draw, with the substitute of the first feature alone ablated."""
    set_lost: list[float]
    """per draw, with the whole set ablated."""
    single_mean: float
    set_mean: float


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """Why a classifier gives a text its label: the features and tokens that the margin depends on.

    The margin is the logit of the label minus the largest other one.
    """

    run: str
    settings: AttributionSettings
    """with defaults filled in."""
    label: str
    """label whose margin is attributed."""
    predicted: str
    runner_up: str
    """other label with the largest logit."""
    margin: float
    """negative if another label is predicted."""
    truncated: bool
    """whether the end of the text was cut at the classifier's max_length."""
    labels: list[LabelScore]
    """logit and probability of each label, in class order."""
    text: str
    tokens: list[TokenAttribution]
    active_features: int
    """features of the layers that are active in the text."""
    features: list[FeatureAttribution]
    """the candidates, largest `margin_lost` first."""
    steps: list[AttributionStep]
    """the greedy set: per step the feature whose ablation costs most margin beside those before it."""
    flipped: bool
    """whether the label is predicted, and no longer with the set ablated."""
    control: AttributionControl | None
    """null without draws or set, or if a layer has too few other active features."""
    provenance: Provenance

"""Requests that run the models of a run on texts, and their results."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_TEXTS = 64
MAX_CHARACTERS = 100_000
MAX_TOP = 1000
MAX_ACTIVATIONS = 500_000
"""Maximum number of activations in one result."""

Text = Annotated[str, Meta(min_length=1, max_length=MAX_CHARACTERS)]
Texts = Annotated[list[Text], Meta(min_length=1, max_length=MAX_TEXTS, description="read as title, newline, body")]
Index = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class ClassifyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Texts for the classifier of a run."""

    texts: Texts


class LabelScore(msgspec.Struct, frozen=True, kw_only=True):
    """Score of one label."""

    label: str
    logit: float
    probability: float
    """softmax over the labels."""


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """Prediction of the classifier for a text."""

    predicted: str
    """label with the largest logit."""
    probability: float
    """of the predicted label."""
    tokens: int
    """tokens read, special ones included."""
    truncated: bool
    """whether the end of the text was cut at the classifier's max_length."""
    labels: list[LabelScore]
    """in class order."""


class EncodeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Texts for the classifier and SAEs of a run."""

    texts: Texts
    layers: Annotated[list[Index] | None, Meta(description="layers to encode; default: all layers of the run")] = None
    features: Annotated[
        list[Index] | None, Meta(description="only these features, of the only layer in `layers`; default: all")
    ] = None
    pooling: Annotated[
        Literal["head", "max", "mean", "none"] | None,
        Meta(description="over the positions of each text; `none`: position by position; default: the run's pooling"),
    ] = None
    top: Annotated[int, Meta(ge=1, le=MAX_TOP, description="number of strongest features per layer")] = 20


class Active(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An active feature."""

    layer: int
    feature: int
    activation: float


class EncodedToken(msgspec.Struct, frozen=True, kw_only=True):
    """One position of a text."""

    position: int
    token_id: int
    token: str
    """characters that the token covers; a token of a part of a character has the whole character."""
    start: int
    """first character of the text that the token covers; equal to that of the token before for the next part of one
    character."""
    end: int
    """first character after the token."""
    special: bool
    """BOS, EOS and other special tokens, which are never encoded."""
    features: list[Active]
    """by layer, strongest first; empty if features are pooled over the text."""


class EncodedText(msgspec.Struct, frozen=True, kw_only=True):
    """Active features of a text."""

    predicted: str
    """label that the classifier predicts."""
    truncated: bool
    """whether the end of the text was cut at the classifier's max_length."""
    pooling: str
    """head, max, mean, or none."""
    features: list[Active]
    """pooled over the text: by layer, strongest first; empty for pooling none."""
    tokens: list[EncodedToken]

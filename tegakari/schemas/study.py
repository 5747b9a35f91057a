"""Results of the study's tables that need the store alone: classification, sparsity, cues."""

from __future__ import annotations

import msgspec

from tegakari.schemas.analysis import Interval
from tegakari.schemas.config import Pooling


class ClassificationResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run's classifier does on its evaluation documents (the study, Table 1)."""

    run: str
    documents: int
    labels: int
    """labels with evaluation documents"""
    macro_f1: Interval
    accuracy: Interval
    baseline_macro_f1: float | None
    """of TF-IDF and a linear SVC, from the report beside the classifier; null where it is not on this machine, is not
    the run's, or was trained on other documents."""


class LayerSparsity(msgspec.Struct, frozen=True, kw_only=True):
    """Of one layer."""

    layer: int
    active: Interval
    """features that are not zero in a document's pooled activations, mean over documents"""
    per_position: float
    """L0: active features per position"""
    top20_ratio: Interval | None
    """share of the 20 strongest in the sum of a document's activations, mean over documents with any; null if none"""
    silent: int
    """documents without an active feature, which have no ratio"""


class SparsityResult(msgspec.Struct, frozen=True, kw_only=True):
    """How many features are active, and how much the strongest of them carry (the study, Table 7)."""

    run: str
    pooling: Pooling
    """of the run; the study's is `last`"""
    documents: int
    active: Interval
    """mean over layers"""
    active_of_all_layers: float
    """sum over layers"""
    per_position: float
    """mean over layers"""
    top20_ratio: Interval | None
    """mean over layers"""
    layers: list[LayerSparsity]


class CueToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token on which a feature fires strongly."""

    token: str
    """as it is written most often; pieces of a character show the whole one"""
    positions: int


class CueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How various the tokens are on which a feature fires strongly."""

    top_token_share: float
    """share of the most frequent one"""
    unique_tokens: int
    """different ones"""


class FeatureCues(msgspec.Struct, frozen=True, kw_only=True):
    """What a feature hangs on: its positions with at least half its maximum."""

    layer: int
    feature: int
    d: float | None
    """for the label asked about"""
    positions: int
    """strong ones, of those that the run keeps"""
    cut: bool
    """whether the last position that the run keeps is strong too: there may be more."""
    by_token: CueCounts
    """counted on ids of the tokenizer"""
    by_form: CueCounts
    """counted on written forms, normalised: NFKC, case, without the mark or space in front"""
    tokens: list[CueToken]
    """by form, most frequent first, up to 10"""


class LabelCues(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the strongest features of a label (the study, Figure 2)."""

    run: str
    label: str
    layer: int | None
    """null: of all layers"""
    top_token_share: Interval
    """by form, over features"""
    unique_tokens: Interval
    """by form, over features"""
    top_token_share_by_id: float
    unique_tokens_by_id: float
    cut: int
    """features whose strong positions are more than the run keeps"""
    features: list[FeatureCues]
    """by d; features that never fire have no cues and are left out"""

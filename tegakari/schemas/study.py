"""The study's tables: of one run each, and all of them for one or two runs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tegakari.schemas.analysis import Interval
from tegakari.schemas.api import HighD, LayerSpecificity
from tegakari.schemas.circuit import CircuitResult, CircuitSettings
from tegakari.schemas.config import Pooling, Seed
from tegakari.schemas.knockout import KnockoutResult
from tegakari.schemas.matching import MatchingResult
from tegakari.schemas.variants import VariantsResult


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


class SpecificityResult(msgspec.Struct, frozen=True, kw_only=True):
    """How many labels features carry (the study, Table 2)."""

    run: str
    pooling: Pooling
    threshold: float
    """Cohen's d above which a feature carries a label"""
    features: int
    """of all layers"""
    mean_variety: Interval
    """labels a feature carries, mean over features; the interval is over features, which are not independent"""
    weak: int
    """features that carry none"""
    specific: int
    """exactly one"""
    shared: int
    """two or more"""
    high_d: list[HighD]
    """at several cut-offs: the study does not say which d is high"""
    layers: list[LayerSpecificity]


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


class StudySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the study's tables are made with; what is not said is as in each analysis alone."""

    labels: list[str] | None = None
    """of the tables of knockouts and cues; default: all that the runs share"""
    layer: Annotated[int, Meta(ge=0)] | None = None
    """of knockouts and cues; default: of each run and label the layer that costs most recall"""
    k: Annotated[int, Meta(ge=1, le=1000)] = 20
    """features with the largest d"""
    draws: Annotated[int, Meta(ge=0, le=100)] = 5
    ks: list[Annotated[int, Meta(ge=1)]] = msgspec.field(default_factory=lambda: [20, 50, 100])
    """sizes of the feature sets of written variants"""
    circuit: CircuitSettings = msgspec.field(default_factory=CircuitSettings)
    seed: Seed = 0


class RunStudy(msgspec.Struct, frozen=True, kw_only=True):
    """All tables of one run."""

    run: str
    classification: ClassificationResult
    specificity: SpecificityResult
    sparsity: SparsityResult
    knockouts: list[KnockoutResult]
    """a label each"""
    cues: list[LabelCues]
    """of the same labels, in the layer of the knockout; labels without cues are left out"""
    variants: VariantsResult
    """of the concepts that come with the package"""
    circuit: CircuitResult | None
    no_circuit: str | None
    """why there is none"""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of two runs."""

    figure: str
    a: float
    b: float
    difference: Interval
    """b - a"""
    over: str
    """what is drawn again for the interval, and whether both runs draw the same"""
    n: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs side by side."""

    runs: list[str]
    labels: list[str]
    """of the figures of knockouts and cues"""
    left_out: list[str]
    """labels that one of the runs does not have"""
    shared_documents: int
    """documents, by id, that both runs have"""
    differences: list[Difference]


class StudyResult(msgspec.Struct, frozen=True, kw_only=True):
    """The study of one or two runs."""

    settings: StudySettings
    labels: list[str]
    """of the tables of knockouts and cues"""
    left_out: list[str]
    """labels that one of the runs does not have"""
    shared_documents: int
    """documents, by id, that all runs have"""
    same_tokens: bool
    """whether all runs read the documents that they share in the same tokens"""
    runs: list[RunStudy]
    differences: list[Difference]
    """of two runs; none of one"""
    matching: MatchingResult | None
    """features of two runs; null of one, or where the runs share no document"""
    seconds: float

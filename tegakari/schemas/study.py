"""Tables of the study: single tables of one run, and all tables of one group of runs or of two."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tegakari.schemas.analysis import Interval
from tegakari.schemas.circuit import CircuitResult, CircuitSettings
from tegakari.schemas.config import Pooling, Seed
from tegakari.schemas.knockout import KnockoutMean, KnockoutResult, LayerChoice, LayerSelection, SaeQuality
from tegakari.schemas.matching import MatchingResult
from tegakari.schemas.specificity import SpecificityResult
from tegakari.schemas.variants import VariantsResult


class ClassificationResult(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of a run's classifier on the evaluation documents (the study, Table 1)."""

    run: str
    documents: int
    labels: int
    """labels with evaluation documents"""
    macro_f1: Interval
    accuracy: Interval
    baseline_macro_f1: float | None
    """of TF-IDF with a linear SVC, from the report beside the classifier; null if the report is not on this machine, or
    is of another classifier or of other documents."""


class LayerSparsity(msgspec.Struct, frozen=True, kw_only=True):
    """Sparsity of one layer."""

    layer: int
    active: Interval
    """features with a non-zero pooled activation, mean over documents"""
    per_position: float
    """L0: active features per position"""
    top20_ratio: Interval | None
    """share of the 20 strongest in the sum of a document's activations, mean over documents with an active feature;
    null without such a document"""
    silent: int
    """documents without an active feature, which have no ratio."""


class SparsityResult(msgspec.Struct, frozen=True, kw_only=True):
    """Number of active features, and share of the strongest of them (the study, Table 7)."""

    run: str
    pooling: Pooling
    """of the run; the study does not name its own"""
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
    """A token on which a feature has a strong activation."""

    token: str
    """in its most frequent spelling; a part of a character is shown as the whole character"""
    positions: int
    """number of strong positions with this token"""


class CueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Diversity of the tokens on which a feature has a strong activation."""

    top_token_share: float
    """share of positions with the most frequent token"""
    unique_tokens: int
    """number of different tokens"""


class FeatureCues(msgspec.Struct, frozen=True, kw_only=True):
    """Strong positions of a feature, those with at least half its maximum activation, and their tokens."""

    layer: int
    feature: int
    cohens_d: float | None
    """Cohen's d for the label; null without a label"""
    positions: int
    """strong positions, among those that the run stores"""
    cut: bool
    """whether all positions that the run stores are strong, so that there may be more."""
    by_token: CueCounts
    """counted on token ids"""
    by_form: CueCounts
    """counted on normalised written forms: NFKC, case-folded, without leading space"""
    tokens: list[CueToken]
    """by form, most frequent first, up to 10"""
    onset_tokens: list[str] = []
    """tokens on which it sets in, those of most documents first"""
    lift_tokens: list[str] = []
    """tokens at or before its onset, largest lift over the corpus first"""


class LabelToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token in more documents of a label than chance gives, on which features of the label are strong."""

    token: str
    """a part of a character is shown as the whole character"""
    features: int
    """features of which it is the most frequent token of the label"""
    label_share: float
    """share of the label's documents that contain it"""
    other_share: float
    """share of the documents of other labels that contain it"""


class LabelCues(msgspec.Struct, frozen=True, kw_only=True):
    """Cue diversity of a label: means over its features with the largest d (the study, Figure 2)."""

    run: str
    label: str
    layer: int | None
    """null: all layers"""
    top_token_share: Interval
    """by form, over features"""
    unique_tokens: Interval
    """by form, over features"""
    top_token_share_by_id: float
    unique_tokens_by_id: float
    cut: int
    """features that may have more strong positions than the run stores"""
    label_tokens: list[LabelToken]
    """by the number of features; at most one token per feature"""
    on_label_tokens: int
    """features whose most frequent token is a token of the label. The top token of the others does not
    distinguish the label: it is no clue."""
    features: list[FeatureCues]
    """by d; features that are never active are left out"""


StudyPart = Literal["circuit", "knockouts", "variants", "matching"]
"""Parts of a study that can be skipped. Cues are of the features of knockouts, and are skipped with them."""


class StudySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the study's tables; other settings have the defaults of each analysis."""

    labels: list[str] | None = None
    """of the tables of knockouts and cues; default: all labels that the runs share"""
    layer: LayerSelection = None
    """of knockouts and cues: one for all runs, one by run, or "per-label"; default: one per run, that of the largest
    mean net effect over labels"""
    holdout: bool = True
    """whether knockouts are measured on other documents than those that their layer and features are chosen on"""
    k: Annotated[int, Meta(ge=1, le=1000)] = 20
    """number of features with the largest d, in knockouts and cues"""
    draws: Annotated[int, Meta(ge=0, le=100)] = 5
    """sets of other features in each control of a knockout"""
    ks: list[Annotated[int, Meta(ge=1)]] | None = None
    """sizes of the feature sets of written variants; default: those of 20, 50 and 100 that every layer has"""
    circuit: CircuitSettings = msgspec.field(default_factory=CircuitSettings)
    seed: Seed = 0
    pooling: Pooling | None = None
    """of d, in the tables of knockouts and cues; default: each run's own. Label variety, sparsity and matching are of
    the activations that a run stores, by its own pooling"""
    skip: list[StudyPart] = []
    concepts_sha256: str | None = None
    """of the concepts of written variants as JSON; filled in by the study"""
    groups: list[Annotated[int, Meta(ge=1)]] = []
    """numbers of runs in the two groups of replicates, filled in by the study; empty: every run is a group"""


class RunStudy(msgspec.Struct, frozen=True, kw_only=True):
    """All tables of one run."""

    run: str
    classification: ClassificationResult
    specificity: SpecificityResult
    sparsity: SparsityResult
    saes: list[SaeQuality]
    """by layer"""
    documents: int
    """indexed documents"""
    truncated: int
    """indexed documents cut at the classifier's max_length"""
    fewest_documents: int
    """documents of the label that has fewest"""
    largest_share: float
    """share of the label that has most documents: the accuracy of predicting it for all documents"""
    head: Literal["last", "first", "all"]
    """positions that the classification head reads"""
    knockouts: list[KnockoutResult]
    """one per label; empty if they are skipped"""
    knockout_mean: KnockoutMean
    layer_choice: LayerChoice | None
    """how the layer of the knockouts was chosen; null if it was given, chosen per label, or if they are skipped"""
    cues: list[LabelCues]
    """one per label, in the layer of its knockout; labels without cues are left out"""
    variants: VariantsResult | None
    no_variants: str | None
    """why there are no written variants; null if there are"""
    circuit: CircuitResult | None
    no_circuit: str | None
    """why there is no circuit; null if there is one"""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of two runs, or of two groups of replicates, and the difference."""

    name: str
    """for programs: macro_f1, mean_variety, active_features, top20_ratio, points_lost, net_points_lost,
    top_token_share, unique_tokens, survival_KIND_K"""
    figure: str
    """in words"""
    a: float
    """of the first run, or mean of the first group"""
    b: float
    difference: Interval
    """b - a"""
    values: list[list[float]]
    """of each run, by group"""
    covers_training: bool
    """whether the interval covers other seeds of the training; false with one run on each side"""
    over: str
    """what the interval is over besides training: items that all runs have, or items of each run"""
    n: int
    """number of these items"""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of two runs and their differences."""

    runs: list[str]
    labels: list[str]
    """labels of the figures of knockouts and cues"""
    left_out: list[str]
    """labels that one of the runs does not have"""
    shared_documents: int
    """documents that both runs have, by id"""
    differences: list[Difference]


class StudyResult(msgspec.Struct, frozen=True, kw_only=True):
    """The study of one run, of two, or of two groups of replicates."""

    settings: StudySettings
    """with defaults filled in"""
    groups: list[list[str]]
    """names of the runs of each group: replicates of one model"""
    limits: list[str]
    """what is skipped or doubtful, a sentence each"""
    labels: list[str]
    """labels of the tables of knockouts and cues"""
    left_out: list[str]
    """labels that one of the runs does not have"""
    shared_documents: int
    """documents that all runs have, by id"""
    same_tokens: bool
    """whether all runs read the documents that they share as the same tokens"""
    runs: list[RunStudy]
    """group after group"""
    differences: list[Difference]
    """second group minus first; empty for one group"""
    matching: MatchingResult | None
    """features of the first run of each group; null for one group, if skipped, and if the runs share no document"""
    baselines: list[MatchingResult]
    """features of the first two replicates of each group: what runs of one model share"""
    seconds: float

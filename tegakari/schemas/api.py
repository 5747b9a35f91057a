"""Results of queries, in the store, the API, the client and the command line: one type per kind of row."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

import msgspec

from tegakari.schemas.analysis import Interval
from tegakari.schemas.run import ClassifierInfo, CorpusInfo, SaeInfo, Scores

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list; every list has this shape."""

    items: list[T]
    next: str | None = None
    """cursor of the next page; null at the end."""


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A published run."""

    run: str
    created: str
    fingerprint: str
    classifier: ClassifierInfo
    saes: SaeInfo
    corpus: CorpusInfo
    pooling: str
    variety_threshold: float
    positions: int
    scores: Scores
    synthetic: bool
    state: Literal["ready", "remote"] = "ready"
    """`remote`: the run is in the bucket that is served, and the first request for it copies it to the server."""


class LabelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A label of a run."""

    label: str
    documents: int
    precision: float
    recall: float
    f1: float
    f1_low: float | None
    """lower end of its 95 % interval over documents: Wilson's indirect method; null if the label has no documents and
    is never predicted."""
    f1_high: float | None
    specific_features: int
    """features with d above the run's threshold for this label and no other."""
    shared_features: int
    """features with d above the threshold for this label and at least one other."""


class Confusion(msgspec.Struct, frozen=True):
    """Number of a label's documents that the classifier gives one label."""

    predicted: str
    documents: int


class LabelDetail(LabelRow, frozen=True, kw_only=True):
    """A label, with the predictions of its documents."""

    predictions: list[Confusion]
    """predicted labels of its documents, most frequent first, itself included."""


class TokenLift(msgspec.Struct, frozen=True, kw_only=True):
    """A token in documents in which a feature is strongest."""

    token: str
    documents: int
    """documents of the feature that have the token."""
    share: float
    """of the feature's documents."""
    lift: float
    """share divided by the share of all documents of the run that have the token."""


class FeatureOnset(msgspec.Struct, frozen=True, kw_only=True):
    """Where a feature sets in: in each document, the first of its stored strongest positions."""

    documents: int
    """documents with such a position."""
    onset_tokens: list[TokenLift]
    """tokens at the onset, those of most documents first, up to 5."""
    lift_tokens: list[TokenLift]
    """tokens at or before the onset, largest lift first, up to 5; in a tenth of the documents at least, and in 2."""


class LabelFeature(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A feature with its statistics for one label."""

    layer: int
    feature: int
    cohens_d: float
    """Cohen's d of the label's documents against all others."""
    mean: float
    """mean pooled activation over the label's documents."""
    sd: float
    cohens_d_unweighted: float | None
    """d with the unweighted mean of the variances of the label's documents and all others; null without variance."""
    documents_active: int
    """documents of the label in which the feature is active"""
    variety: int
    """labels with d above the run's threshold."""
    density: float
    """share of positions on which the feature is active."""
    max_activation: float
    top_tokens: list[str]
    """distinct tokens of the strongest positions, strongest first."""
    onset_tokens: list[str] | None = None
    """tokens at the onset, those of most documents first; null unless `onset` is requested."""
    lift_tokens: list[str] | None = None
    """tokens at or before the onset, largest lift first; null unless `onset` is requested."""


class FeatureStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Activations of a feature over all positions of a run."""

    layer: int
    feature: int
    density: float
    """share of positions on which the feature is active."""
    active_positions: int
    mean_activation: float
    """over the positions on which it is active; 0 if there are none."""
    max_activation: float


class FeatureRow(FeatureStatistics, frozen=True, kw_only=True):
    """A feature of a run."""

    variety: int
    """labels with d above the run's threshold, by the run's pooling."""
    best_label: str | None
    """label for which its d is largest; null if it has no d."""
    best_d: float | None
    """largest d of the feature."""
    best_documents_active: int | None
    """documents of that label in which the feature is active."""
    top_tokens: list[str]
    """distinct tokens of the strongest positions, strongest first."""
    onset_tokens: list[str] | None = None
    """tokens at the onset, those of most documents first; null unless `onset` is requested."""
    lift_tokens: list[str] | None = None
    """tokens at or before the onset, largest lift first; null unless `onset` is requested."""


class ActivationHistogram(msgspec.Struct, frozen=True, kw_only=True):
    """Histogram of a feature's pooled activations over the documents in which it is active."""

    layer: int
    feature: int
    pooling: str
    """that of the run, by which activations are pooled over a document."""
    documents: int
    """documents in which it is active."""
    edges: list[float]
    """edges of the bins, from 0 to the largest activation; one more than bins."""
    counts: list[int]
    """documents per bin."""


class FeatureLabel(msgspec.Struct, frozen=True, kw_only=True):
    """A label with its statistics for one feature."""

    label: str
    cohens_d: float | None
    """null if it is not defined."""
    mean: float | None
    """null for a label without indexed documents."""
    sd: float | None
    """null for a label with fewer than 2."""
    cohens_d_unweighted: float | None
    """d with the unweighted mean of both variances; null if it is not defined."""
    documents_active: int
    """documents of the label in which the feature is active"""
    documents: int


class FeatureEffect(msgspec.Struct, frozen=True, kw_only=True):
    """Effect of a feature on a label."""

    label: str
    effect: float
    """change of the label's logit per unit of activation, directly through the classifier's final norm and head."""


class LabelEffect(msgspec.Struct, frozen=True, kw_only=True):
    """A feature with its effect on a label."""

    layer: int
    feature: int
    effect: float
    """change of the label's logit per unit of activation, directly through the classifier's final norm and head."""
    cohens_d: float | None
    """d of the label, by the run's pooling; null if it is not defined."""
    variety: int
    """labels with d above the run's threshold."""
    density: float
    """share of positions on which the feature is active."""
    max_activation: float
    top_tokens: list[str]
    """distinct tokens of the strongest positions, strongest first."""


class TopToken(msgspec.Struct, frozen=True, kw_only=True):
    """One of the strongest positions of a feature."""

    rank: int
    activation: float
    document: str
    """id of the document."""
    label: str
    position: int
    token_id: int
    token: str
    before: str
    """text before the token, limited to a window."""
    after: str
    """text after the token, limited to a window."""


class FeatureContext(msgspec.Struct, frozen=True, kw_only=True):
    """A window of tokens around a position at which a feature is active, with its activation at every token."""

    quantile: int
    """0: one of the strongest positions of the corpus; 1 (weakest) to 10: tenth of a sample of all strengths."""
    rank: int
    """from 1: among the strongest positions by activation, within a tenth in random order."""
    activation: float
    """at the position; stored with 11 significant bits."""
    document: str
    """id of the document."""
    label: str
    position: int
    """token index in the document."""
    start: int
    """token index of the first token of the window."""
    tokens: list[str]
    """texts of the tokens of the window, up to 8 on each side; joined, they are its text."""
    activations: list[float]
    """activation at each token; 0 where the feature is not active."""


class TopDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One of the documents in which a feature is strongest, by the run's pooling."""

    rank: int
    activation: float
    """pooled; stored with 11 significant bits."""
    document: str
    """id of the document."""
    label: str
    predicted: str
    """label that the classifier predicts."""
    text: str
    """beginning of the document."""


class DocumentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A document of a run."""

    document: str
    """id in the corpus."""
    label: str
    predicted: str
    """label that the classifier predicts."""
    correct: bool
    tokens: int
    """tokens read, special ones included."""
    text: str
    """beginning of the document."""


class DocumentFeature(msgspec.Struct, frozen=True, kw_only=True):
    """One of the strongest features of a document in a layer, by the run's pooling."""

    layer: int
    feature: int
    rank: int
    """1 = the strongest of the layer."""
    activation: float
    """pooled; stored with 11 significant bits."""
    variety: int
    """labels with d above the run's threshold."""
    top_tokens: list[str]
    """distinct tokens of the feature's strongest positions, strongest first."""


class DocumentDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A document with its text, its prediction, and its strongest features."""

    document: str
    """id in the corpus."""
    label: str
    predicted: str
    """label that the classifier predicts."""
    correct: bool
    split: str
    """train or eval."""
    label_logit: float
    """logit of its label."""
    predicted_logit: float
    """logit of the predicted label."""
    tokens: int
    """tokens read, special ones included."""
    truncated: bool
    """whether the text was cut at the classifier's max_length."""
    text: str
    """title, newline, body."""
    features: list[DocumentFeature]
    """by layer, strongest first."""


class FeatureNeighbour(FeatureRow, frozen=True, kw_only=True):
    """A feature whose decoder direction is close to that of another."""

    run: str
    cosine: float
    """of the two decoder directions."""


class DocumentMatch(DocumentRow, frozen=True, kw_only=True):
    """A document that a search returned."""

    score: float
    """cosine of the embeddings, or BM25 of the words; larger is more similar."""


class FeatureDetail(FeatureStatistics, frozen=True, kw_only=True):
    """One feature with its statistics, its labels by d, and its strongest positions in context."""

    pooling: str
    variety: int
    labels: list[FeatureLabel]
    tokens: list[TopToken]
    onset: FeatureOnset | None = None
    """null unless it is requested."""


class HighD(msgspec.Struct, frozen=True, kw_only=True):
    """Number of features of a layer with d above a cut-off for at least one label."""

    cutoff: float
    features: int
    single_label: int
    """label-specific features among them: d above the run's threshold, not the cut-off, for exactly one label"""
    single_label_share: float | None
    """null if no feature is above the cut-off."""
    single_label_at_cutoff: int
    """features with d above the cut-off itself for exactly one label"""


class HighDChance(msgspec.Struct, frozen=True, kw_only=True):
    """`HighD` under permuted labels: mean and 95 % range over permutations."""

    cutoff: float
    features: Interval
    single_label: Interval


class Chance(msgspec.Struct, frozen=True, kw_only=True):
    """Specificity under labels that are permuted over the documents, and what is beyond it.

    An interval is the mean over permutations with their 95 % range.
    """

    specific: Interval
    """label-specific features under permuted labels"""
    shared: Interval
    """shared features under permuted labels"""
    mean_variety: Interval
    """mean label variety under permuted labels"""
    high_d: list[HighDChance]
    """parallel to `high_d` of the layer"""
    supported: int
    """label-specific features that are active in at least `min_active` documents of their label"""
    supported_by_chance: Interval
    """the same under permuted labels"""
    significant: int
    """features with d above the run's threshold beyond chance: a share of at most `fdr` of them is false"""
    significant_specific: int
    """label-specific features among them"""


class LayerSpecificity(msgspec.Struct, frozen=True, kw_only=True):
    """How specific the features of a layer are."""

    layer: int
    features: int
    l0: float
    """active features per ordinary position"""
    explained_variance: float | None
    """over ordinary positions; null where it was not measured"""
    explained_variance_all: float | None
    """over ordinary positions and norm outliers"""
    outlier_positions: int
    """positions that are norm outliers, which no other figure includes"""
    weak: int
    """label variety 0"""
    specific: int
    """label variety 1"""
    shared: int
    """label variety 2 or more"""
    mean_variety: float
    high_d: list[HighD]
    chance: Chance | None = None
    """of the stored analysis of `tegakari specificity` with the default settings, or of the selected one; null if there
    is none, or for a pooling that is not the run's"""

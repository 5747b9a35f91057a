"""Explanations of features: sentences that say what a feature is active on, with scores and votes."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, TypedDict

import msgspec
from msgspec import Meta

from tegakari.schemas.analysis import Interval
from tegakari.schemas.notes import MAX_AUTHOR, Author

MAX_EXPLANATION = 1000
MAX_TERMS = 50
MAX_TERM = 200
MAX_MODEL = 200
"""Characters of a text, terms of an explanation, characters of a term and of a model's name."""

Method = Literal["terms", "model", "person"]
METHODS: tuple[Method, ...] = ("terms", "model", "person")
"""Where an explanation comes from: the words around strong positions, a language model, a person."""

Protocol = Literal["detection", "fuzzing"]
"""What a judge is shown: a context as it is, or a context with marked tokens."""

Negatives = Literal["random", "neighbour", "silent"]
"""Contexts in which the feature is not active: of any document, of features with a similar decoder direction, or of
documents of the feature's labels."""

LANGUAGE_PATTERN = "^[a-z]{2,3}$"
Language = Annotated[str, Meta(pattern=LANGUAGE_PATTERN, description="of the text, by ISO 639, as ja and en")]
ExplanationId = Annotated[
    str, Meta(pattern="^[0-9a-f]{16}$", description="of the explanation: hash of feature, method, author and text")
]
VoteValue = Annotated[int, Meta(ge=-1, le=1)]
ExplanationSentence = Annotated[
    str, Meta(min_length=1, max_length=MAX_EXPLANATION, description="one sentence that says what the feature is")
]


Script = Literal["kanji", "hiragana", "katakana", "latin", "digits", "punctuation", "symbols", "space", "other"]
"""Script of a token's characters; symbols include emoji."""

Place = Literal["head", "first", "last", "after-punctuation"]
"""Place of a position in its document: the one that the classification head reads, the first or the last with
characters, or behind punctuation."""

Trait = Literal["never", "always", "single-token", "label-wide", "positional"]
"""What a feature is active on beside words: no position, nearly all positions, one token, nearly all documents of a
label, one place in a document."""


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """A word that stands around a feature's strong positions more often than in the corpus."""

    word: Annotated[str, Meta(max_length=MAX_TERM)]
    z: float
    """log-odds ratio of the word, contexts against corpus, with a Dirichlet prior, over its standard deviation"""
    contexts: Annotated[int, Meta(ge=0)]
    """contexts of the feature that contain the word, one per document"""
    on: Annotated[int, Meta(ge=0)] = 0
    """contexts whose strongest token is a part of the word"""
    before: Annotated[int, Meta(ge=0)] = 0
    """contexts in which the word stands before the strongest token only"""
    corpus_share: float | None = None
    """expected share of the corpus's windows of the same length that contain the word"""


class LabelEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """A label that a feature is more active in than in others."""

    label: str
    cohens_d: float
    """of the run's pooling"""
    active_share: float
    """share of the label's documents in which the feature is active anywhere"""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What the contexts of a feature have in common beside their terms."""

    contexts: Annotated[int, Meta(ge=0)]
    """contexts that the explanation was made from, one per document"""
    covered: Annotated[int, Meta(ge=0)]
    """of them, contexts with at least one term"""
    traits: list[Trait] = []
    token: str | None = None
    """the most frequent strongest token"""
    token_share: float = 0.0
    """share of the contexts with this strongest token"""
    place: Place | None = None
    """place of the strongest token in most contexts; null: no common place"""
    place_share: float = 0.0
    script: Script | None = None
    """script of the strongest token in most contexts; null: no common script, or that of the corpus"""
    script_share: float = 0.0
    labels: list[LabelEvidence] = []
    """of the largest d above the run's threshold, largest first"""


class QuantileScore(msgspec.Struct, frozen=True, kw_only=True):
    """Contexts of one tenth of a feature's activations, and how many of them a judge recognises."""

    quantile: Annotated[int, Meta(ge=0, le=10)]
    """0: the strongest positions; 1 (weakest tenth) to 10"""
    contexts: Annotated[int, Meta(ge=0)]
    """for which the judge has an answer"""
    recognised: Annotated[int, Meta(ge=0)]
    """that fit the explanation, as the judge says"""


class ExplanationScore(msgspec.Struct, frozen=True, kw_only=True):
    """How well a judge tells contexts in which a feature is active from others, by the explanation alone."""

    protocol: Protocol
    negatives: Negatives
    judge: Annotated[str, Meta(min_length=1, max_length=MAX_MODEL)]
    """terms: the context contains a term; or the name of a language model"""
    balanced_accuracy: Interval
    """mean of the shares of active and of other contexts that are told rightly: 0.5 by chance, 1 at best. The active
    contexts are a sample of all strengths of the activation"""
    strongest: Interval | None = None
    """the same with the strongest contexts of the corpus as active ones; null: too few of them are held out"""
    active_contexts: Annotated[int, Meta(ge=0)]
    other_contexts: Annotated[int, Meta(ge=0)]
    """for which the judge has an answer"""
    unanswered: Annotated[int, Meta(ge=0)]
    """contexts without an answer, which do not count"""
    quantiles: Annotated[list[QuantileScore], Meta(max_length=11)] = []
    """of the active contexts"""
    created: str
    """ISO 8601, UTC"""


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """What an author thinks of an explanation."""

    author: Author
    value: VoteValue
    """1: it is right; -1: it is wrong"""
    created: str
    """ISO 8601, UTC"""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence that says what a feature is active on."""

    id: ExplanationId
    layer: Annotated[int, Meta(ge=0)]
    feature: Annotated[int, Meta(ge=0)]
    text: ExplanationSentence
    language: Language
    method: Method
    """terms: made from the words around its strong positions; model: by a language model; person: written"""
    author: Annotated[str, Meta(min_length=1, max_length=max(MAX_AUTHOR, MAX_MODEL))]
    """tegakari, the name of the language model, or of the person"""
    model: Annotated[str, Meta(max_length=MAX_MODEL)] | None = None
    """name of the language model, as its server has it"""
    prompt_version: Annotated[str, Meta(max_length=MAX_TERM)] | None = None
    """of the prompt that the model answered"""
    created: str
    """ISO 8601, UTC"""
    terms: Annotated[list[Term], Meta(max_length=MAX_TERMS)] = []
    """of the method terms: the words that the sentence names, in the order in which they add most contexts"""
    evidence: Evidence | None = None
    """of the method terms: what the sentence says beside them"""
    scores: list[ExplanationScore] = []
    """the last one per protocol, negatives and judge"""
    votes: list[Vote] = []
    """one per author, by author"""

    @property
    def score(self) -> float | None:
        """Balanced accuracy of detection, mean over scores; None: not scored."""
        values = [score.balanced_accuracy.value for score in self.scores if score.protocol == "detection"]
        return sum(values) / len(values) if values else None


def explanation_id(layer: int, feature: int, method: Method, author: str, text: str) -> str:
    """Id of an explanation: the same sentence about a feature by the same author has the same id."""
    content = "\0".join((str(layer), str(feature), method, author, text))
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class NewExplanation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An explanation that a person writes."""

    text: ExplanationSentence
    language: Language | None = None
    """null = ja if the text has Japanese letters, else en"""
    author: Author | None = None
    """null = the name of the API key, where the service has keys"""


class VoteChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The vote of an author on an explanation; it replaces the vote before."""

    value: VoteValue
    """1: it is right; -1: it is wrong; 0: no vote"""
    author: Author | None = None
    """null = the name of the API key, where the service has keys"""


class ExplanationFilters(TypedDict, total=False):
    """Which explanations of a run are listed; None: no filter."""

    layer: int | None
    """only explanations of features of this layer"""
    feature: int | None
    """only explanations of features of this number"""
    method: Method | None
    """only explanations of this method"""
    author: str | None
    """only explanations of this author"""
    language: str | None
    """only explanations in this language"""
    min_score: float | None
    """minimum balanced accuracy of detection, mean over scores"""
    q: str | None
    """only explanations with all these words in their text, whatever their case and width"""

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

Language = Annotated[str, Meta(pattern="^[a-z]{2,3}$", description="of the text, by ISO 639, as ja and en")]
ExplanationId = Annotated[
    str, Meta(pattern="^[0-9a-f]{16}$", description="of the explanation: hash of feature, method, author and text")
]
ExplanationSentence = Annotated[
    str, Meta(min_length=1, max_length=MAX_EXPLANATION, description="one sentence that says what the feature is")
]


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """A word that stands around a feature's strong positions more often than in the corpus."""

    word: Annotated[str, Meta(max_length=MAX_TERM)]
    z: float
    """log-odds ratio of the word, contexts against corpus, with a Dirichlet prior, over its standard deviation"""
    contexts: Annotated[int, Meta(ge=0)]
    """contexts of the feature that contain the word"""


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
    """mean of the shares of active and of other contexts that are told rightly: 0.5 by chance, 1 at best"""
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
    value: Literal[-1, 1]
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
    """of the method terms: the words that the sentence names, strongest first"""
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

    value: Literal[-1, 0, 1]
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

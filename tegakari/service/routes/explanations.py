"""Routes of explanations of features: lists, the caller's own explanation, and votes."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.params import JSONBody

from tegakari.schemas.api import Page
from tegakari.schemas.explanations import Explanation, NewExplanation, VoteChange
from tegakari.service.admission.authors import author_of
from tegakari.service.http.operations import read, write
from tegakari.service.http.parameters import (
    FEATURE_PATH,
    Cursor,
    ExplanationAuthorFilter,
    ExplanationAuthorName,
    ExplanationIdName,
    ExplanationWords,
    FeatureFilter,
    FeatureNumber,
    LanguageFilter,
    LayerFilter,
    LayerNumber,
    MethodFilter,
    MinimumScore,
    OpenRun,
    PageSize,
)
from tegakari.store import explanations

EXPLANATIONS_PATH = f"{FEATURE_PATH}/explanations"
EXPLANATION_PATH = f"{EXPLANATIONS_PATH}/{{explanation:str}}"


# Explanations are written while the run stays as it is.
@read("/explanations", "listExplanations", "Explanations of features of a run", changes=True)
def list_explanations(
    run: OpenRun,
    layer: LayerFilter = None,
    feature: FeatureFilter = None,
    method: MethodFilter = None,
    author: ExplanationAuthorFilter = None,
    language: LanguageFilter = None,
    min_score: MinimumScore = None,
    q: ExplanationWords = None,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[Explanation]:
    """Explanations that pass every filter given, by layer and feature; of a feature the deterministic ones first."""
    return explanations.explanations(
        run,
        layer=layer,
        feature=feature,
        method=method,
        author=author,
        language=language,
        min_score=min_score,
        q=q,
        limit=limit,
        cursor=cursor,
    )


@read(EXPLANATIONS_PATH, "listFeatureExplanations", "Explanations of a feature", changes=True)
def list_feature_explanations(run: OpenRun, layer: LayerNumber, feature: FeatureNumber) -> Page[Explanation]:
    """All explanations of a feature, the best first: by votes, then those of people, then by score."""
    return Page(explanations.feature_explanations(run, layer, feature))


@write("POST", EXPLANATIONS_PATH, "writeExplanation", "Write an explanation of a feature")
def write_explanation(
    run: OpenRun,
    layer: LayerNumber,
    feature: FeatureNumber,
    data: JSONBody[NewExplanation],
    request: Request[Any, Any, Any],
) -> Explanation:
    """Add the caller's explanation of a feature; the same text twice is one explanation.

    Where the service has keys, the author is the name of the key; a key of scope `admin` may name another.
    """
    return explanations.write_explanation(run, layer, feature, author_of(request, data.author), data)


@write("POST", f"{EXPLANATION_PATH}/vote", "voteOnExplanation", "Vote on an explanation")
def vote_on_explanation(
    run: OpenRun,
    layer: LayerNumber,
    feature: FeatureNumber,
    explanation: ExplanationIdName,
    data: JSONBody[VoteChange],
    request: Request[Any, Any, Any],
) -> Explanation:
    """Give an explanation the caller's vote, which replaces the one before, and return the explanation."""
    return explanations.vote(run, layer, feature, explanation, author_of(request, data.author), data)


@write("DELETE", EXPLANATION_PATH, "deleteExplanation", "Delete an explanation")
def delete_explanation(
    run: OpenRun,
    layer: LayerNumber,
    feature: FeatureNumber,
    explanation: ExplanationIdName,
    request: Request[Any, Any, Any],
    author: ExplanationAuthorName = None,
) -> Explanation:
    """Delete the caller's explanation, and return it.

    A key of scope `admin` may name another author, such as a language model. Deterministic explanations are a part of
    the run and stay.
    """
    return explanations.delete_explanation(run, layer, feature, explanation, author_of(request, author))


RUN_HANDLERS = (
    list_explanations,
    list_feature_explanations,
    write_explanation,
    vote_on_explanation,
    delete_explanation,
)

"""Cues: the tokens on which features have strong activations (the study, section 5.1)."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.analyses.label_tokens import token_documents
from tegakari.analyses.statistics import interval_of_mean
from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.study import CueCounts, CueToken, FeatureCues, LabelCues, LabelToken
from tegakari.store import Run, queries
from tegakari.store.queries.onset import feature_onset

STRONG = 0.5
"""Share of a feature's maximum activation from which a position is strong."""

MAX_TOKENS = 10
"""Tokens listed per feature."""

_SPACE_MARKS = " \t\n\u3000\u2581\u0120"
"""Spaces, and the marks that SentencePiece and byte-level BPE write for a space."""


def label_cues(
    run: Run, label: str, *, layer: int | None = None, k: int = 20, pooling: Pooling | None = None
) -> LabelCues:
    """Cues of the k features with the largest d for a label, and means over these features.

    Args:
        run: published.
        label: of the run.
        layer: of the features; None: all layers.
        k: number of features.
        pooling: of d; default: the run's.

    Raises:
        NotFoundError: no such label or layer, or no feature has a d for the label.
        QueryError: k out of range.
    """
    page = queries.label_features(run, label, layer=layer, pooling=pooling, limit=k)
    cues_of_rows = [feature_cues(run, row.layer, row.feature, d=row.cohens_d) for row in page.items]
    features = [cues for cues in cues_of_rows if cues is not None]
    if not features:
        raise NotFoundError(
            f"run {run.name!r} has no feature with a d for {label!r}", field="label", fix="choose another label"
        )
    return mean_cues(run, label, layer, features)


def mean_cues(run: Run, label: str, layer: int | None, features: Sequence[FeatureCues]) -> LabelCues:
    """Means of the cues of a label's features.

    Args:
        run: published.
        label: of the run.
        layer: of the features; None: several.
        features: at least one.
    """
    top_token_shares = np.array([cues.by_form.top_token_share for cues in features], np.float64)
    unique_tokens = np.array([cues.by_form.unique_tokens for cues in features], np.float64)
    label_tokens, on_label_tokens = _label_tokens(run, label, features)
    return LabelCues(
        run=run.name,
        label=label,
        layer=layer,
        top_token_share=interval_of_mean(top_token_shares, 0),
        unique_tokens=interval_of_mean(unique_tokens, 0),
        top_token_share_by_id=float(np.mean([cues.by_token.top_token_share for cues in features])),
        unique_tokens_by_id=float(np.mean([cues.by_token.unique_tokens for cues in features])),
        cut=sum(cues.cut for cues in features),
        label_tokens=label_tokens,
        on_label_tokens=on_label_tokens,
        features=list(features),
    )


def feature_cues(
    run: Run, layer: int, feature: int, *, d: float | None = None, strong_share: float = STRONG
) -> FeatureCues | None:
    """Cues of one feature; None if it is never active.

    Args:
        run: published.
        layer: of the run.
        feature: of the layer.
        d: of the feature for a label, copied to the result.
        strong_share: share of the maximum activation from which a position is strong.

    Raises:
        NotFoundError: no such layer or feature.
    """
    strong = _strong_tokens(run, layer, feature, strong_share)
    if not len(strong.token):
        return None
    onset = feature_onset(run, queries.feature_place(run, layer, feature))
    written = _written(run, strong)
    forms = [normalised(token) for token in written]
    return FeatureCues(
        layer=layer,
        feature=feature,
        cohens_d=d,
        positions=len(strong.token),
        cut=len(strong.token) == run.manifest.top_tokens,
        by_token=_counts(run.blocks.documents.token_ids[strong.token].tolist()),
        by_form=_counts(forms),
        tokens=_tokens(written, forms),
        onset_tokens=[token.token for token in onset.onset_tokens],
        lift_tokens=[token.token for token in onset.lift_tokens],
    )


def normalised(token: str) -> str:
    """Form of a token without differences in width (NFKC), case, and leading space."""
    bare = token.lstrip(_SPACE_MARKS)
    return unicodedata.normalize("NFKC", bare).casefold().lstrip(_SPACE_MARKS) or token


class _Strong(NamedTuple):
    """Strong positions of a feature."""

    document: np.ndarray
    """int [n]"""
    token: np.ndarray
    """int [n], numbers of their tokens in the run"""


def _strong_tokens(run: Run, layer: int, feature: int, strong_share: float) -> _Strong:
    top, documents = run.blocks.top_positions, run.blocks.documents
    place = queries.feature_place(run, layer, feature)
    activation = top.activation[place]
    strong = np.flatnonzero((activation > 0) & (activation >= strong_share * activation[0]))
    document = top.document[place, strong]
    return _Strong(document, documents.first_token[document] + top.position[place, strong])


def _written(run: Run, strong: _Strong) -> list[str]:
    documents = run.blocks.documents
    starts, ends = documents.token_starts[strong.token], documents.token_ends[strong.token]
    return [
        documents.text[number].as_py()[start:end]
        for number, start, end in zip(strong.document.tolist(), starts.tolist(), ends.tolist(), strict=True)
    ]


def _label_tokens(run: Run, label: str, features: Sequence[FeatureCues]) -> tuple[list[LabelToken], int]:
    """Tokens of the label on which its features are strong; and features whose most frequent token is one of them."""
    label_id, occurrences = run.label_id(label), token_documents(run)
    feature_counts: Counter[int] = Counter()
    spellings: dict[int, str] = {}
    on_label_tokens = 0
    for cues in features:
        strong = _strong_tokens(run, cues.layer, cues.feature, STRONG)
        ids = run.blocks.documents.token_ids[strong.token].tolist()
        by_frequency = [token for token, _ in Counter(ids).most_common()]
        of_label = occurrences.are_of_label(by_frequency, label_id)
        on_label_tokens += of_label[0]
        if any(of_label):
            token = by_frequency[of_label.index(True)]
            feature_counts[token] += 1
            if token not in spellings:
                first = ids.index(token)
                (spelling,) = _written(run, _Strong(strong.document[[first]], strong.token[[first]]))
                spellings[token] = spelling.strip() or spelling
    tokens = []
    for token, number in feature_counts.most_common():
        shares = occurrences.shares(token, label_id)
        tokens.append(
            LabelToken(token=spellings[token], features=number, label_share=shares.label, other_share=shares.others)
        )
    return tokens, on_label_tokens


def _counts(tokens: Sequence[object]) -> CueCounts:
    counts = Counter(tokens)
    return CueCounts(top_token_share=max(counts.values()) / len(tokens), unique_tokens=len(counts))


def _tokens(written: Sequence[str], forms: Sequence[str]) -> list[CueToken]:
    """Most frequent forms, each in its most frequent spelling."""
    counts = Counter(forms)
    spellings: dict[str, Counter[str]] = {}
    for form, token in zip(forms, written, strict=True):
        spellings.setdefault(form, Counter())[token.strip() or token] += 1
    order = sorted(counts, key=lambda form: (-counts[form], form))
    return [CueToken(token=spellings[form].most_common(1)[0][0], positions=counts[form]) for form in order[:MAX_TOKENS]]

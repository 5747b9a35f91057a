"""Which tokens features fire on strongly (the study, section 5.1)."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tegakari.analyses.statistics import mean_interval
from tegakari.schemas.analysis import Interval
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.study import CueCounts, CueToken, FeatureCues, LabelCues
from tegakari.store import Run, queries

STRONG = 0.5
"""Share of a feature's maximum from which a position is strong."""

SHOWN_TOKENS = 10

_SPACE_MARKS = " \t\n\u3000\u2581\u0120"
"""Spaces, and what SentencePiece and byte-level BPE write for one."""


def label_cues(run: Run, label: str, *, layer: int | None = None, k: int = 20) -> LabelCues:
    """Cues of the k features with the largest d for a label, in one layer or in all.

    Raises:
        NotFoundError: no such label or layer, or no feature with a d for the label.
        QueryError: k out of range.
    """
    page = queries.label_features(run, label, layer=layer, limit=k)
    every = [feature_cues(run, row.layer, row.feature, d=row.d) for row in page.items]
    features = [found for found in every if found is not None]
    if not features:
        raise NotFoundError(
            f"run {run.name!r} has no feature with a d for {label!r}", field="label", fix="choose another label"
        )
    return LabelCues(
        run=run.name,
        label=label,
        layer=layer,
        top_token_share=_mean([each.by_form.top_token_share for each in features]),
        unique_tokens=_mean([each.by_form.unique_tokens for each in features]),
        top_token_share_by_id=float(np.mean([each.by_token.top_token_share for each in features])),
        unique_tokens_by_id=float(np.mean([each.by_token.unique_tokens for each in features])),
        cut=sum(each.cut for each in features),
        features=features,
    )


def feature_cues(run: Run, layer: int, feature: int, *, d: float | None = None) -> FeatureCues | None:
    """Cues of one feature; None for one that never fires.

    Raises:
        NotFoundError: no such layer or feature.
    """
    top, documents = run.blocks.top_positions, run.blocks.documents
    place = queries.feature_place(run, layer, feature)
    activation = top.activation[place]
    strong = np.flatnonzero((activation > 0) & (activation >= STRONG * activation[0]))
    if not len(strong):
        return None
    document = top.document[place, strong]
    token = documents.first_token[document] + top.position[place, strong]
    texts = documents.text
    written = [
        texts[number].as_py()[start:end]
        for number, start, end in zip(
            document.tolist(), documents.token_starts[token].tolist(), documents.token_ends[token].tolist(), strict=True
        )
    ]
    forms = [normalised(each) for each in written]
    return FeatureCues(
        layer=layer,
        feature=feature,
        d=d,
        positions=len(strong),
        cut=len(strong) == run.manifest.top_tokens,
        by_token=_counts(documents.token_ids[token].tolist()),
        by_form=_counts(forms),
        tokens=_tokens(written, forms),
    )


def normalised(token: str) -> str:
    """A written form without what does not make it another cue: width, case, the space in front."""
    bare = token.lstrip(_SPACE_MARKS)
    return unicodedata.normalize("NFKC", bare).casefold().lstrip(_SPACE_MARKS) or token


def _counts(members: Sequence[object]) -> CueCounts:
    counted = Counter(members)
    return CueCounts(top_token_share=max(counted.values()) / len(members), unique_tokens=len(counted))


def _tokens(written: Sequence[str], forms: Sequence[str]) -> list[CueToken]:
    counted = Counter(forms)
    spellings: dict[str, Counter[str]] = {}
    for form, token in zip(forms, written, strict=True):
        spellings.setdefault(form, Counter())[token.strip() or token] += 1
    order = sorted(counted, key=lambda form: (-counted[form], form))
    return [
        CueToken(token=spellings[form].most_common(1)[0][0], positions=counted[form]) for form in order[:SHOWN_TOKENS]
    ]


def _mean(values: Sequence[float]) -> Interval:
    low, high = mean_interval(np.asarray(values, np.float64), 0)
    return Interval(value=float(np.mean(values)), low=low, high=high)

"""Section with examples: the strongest positions of each label's best features, in their context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tegakari.analyses.study.pages import feature_link, label_link
from tegakari.analyses.study.sections.layout import Column, Excerpt, Grid, Section, Value, plain, with_decimals
from tegakari.analyses.visible_text import visible_text
from tegakari.schemas.study import LabelCues, StudyResult
from tegakari.store import Run, queries

FEATURES = 3
"""Features of a label that are shown."""

CONTEXTS = 3
"""Contexts of a feature that are shown, each of another document."""

_CANDIDATES = 20
"""Strongest positions that the contexts are taken from."""

_CHARACTERS = 24
"""Characters of the context on each side of a token."""


def examples_section(result: StudyResult, runs: Sequence[Run]) -> Section:
    cues_by_run = [{cues.label: cues for cues in study.cues} for study in result.runs]
    rows = [
        row
        for label in result.labels
        for run, cues in zip(runs, cues_by_run, strict=True)
        if label in cues
        for row in _rows(run, cues[label])
    ]
    return Section(
        "Examples",
        f"Up to {FEATURES} features of each label's knockout, those of largest d first, and for each the strongest "
        f"position of up to {CONTEXTS} documents, with the token marked. A feature can read what stands before the "
        "token. Where the label of the document is another one, this shows a feature that is not of this label "
        "alone.",
        "" if rows else "No feature of the knockouts is ever active.",
        [
            Grid(
                "examples",
                (
                    Column("label", once=True),
                    Column("run", once=True),
                    Column("feature", once=True),
                    Column("d", text=with_decimals(2), once=True),
                    *plain("context", "its label", "document"),
                    Column("activation", text=with_decimals(2)),
                ),
                rows,
            )
        ]
        if rows
        else [],
        [],
    )


def _rows(run: Run, cues: LabelCues) -> Iterator[tuple[Value, ...]]:
    for feature in cues.features[:FEATURES]:
        documents = set()
        limit = min(_CANDIDATES, run.manifest.top_tokens)
        for position in queries.feature(run, feature.layer, feature.feature, tokens=limit).tokens:
            if position.document in documents or len(documents) == CONTEXTS:
                continue
            documents.add(position.document)
            yield (
                label_link(run.name, cues.label),
                run.name,
                feature_link(run.name, feature.layer, feature.feature),
                feature.cohens_d,
                Excerpt(
                    visible_text(position.before)[-_CHARACTERS:],
                    visible_text(position.token),
                    visible_text(position.after)[:_CHARACTERS],
                ),
                position.label,
                position.document,
                position.activation,
            )

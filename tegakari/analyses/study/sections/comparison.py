"""Sections about two sides: findings, limits, differences of figures, and features that the runs share."""

from __future__ import annotations

from tegakari.analyses.formatting import left_out_cosines, percent
from tegakari.analyses.study.findings import findings_of
from tegakari.analyses.study.pages import comparison_link, label_link
from tegakari.analyses.study.sections.layout import Column, Grid, Section, Value, of_run, plain, with_decimals
from tegakari.schemas.matching import (
    CUTOFFS,
    NEAR_START,
    NO_MATCH_BELOW,
    NULL_PERCENTILE,
    LayerMatching,
    MatchingResult,
)
from tegakari.schemas.study import StudyResult


def findings_section(result: StudyResult) -> Section:
    return Section("Findings", " ".join(findings_of(result)), "", [], [])


def limits_section(result: StudyResult) -> Section:
    return Section(
        "Limits",
        "What is skipped or doubtful in this report.",
        "" if result.limits else "Nothing was found.",
        [],
        [],
        result.limits,
    )


def differences_section(result: StudyResult) -> Section:
    a, b = (" and ".join(group) for group in result.groups)
    replicates = bool(result.settings.groups)
    covers = (
        "Each side is the mean of its replicates. The interval covers documents, labels or concepts, and training: the "
        "seeds by which the replicates differ (t interval with the degrees of freedom of Welch and Satterthwaite)."
        if replicates
        else "The interval is over documents, labels or concepts. It does not "
        "cover training: other seeds of the same models differ as well, so it shows a difference between these two "
        "runs and not between models. Held fixed: classifier and SAE training seeds, corpus, labels."
    )
    columns = [run for group in result.groups for run in group] if replicates else []
    return Section(
        f"{a} and {b}",
        f"Every figure of both sides, and the difference with its 95 % interval: {b} minus {a}. {covers} Where the "
        "interval contains 0, no difference is shown.",
        f"{result.shared_documents} documents are in all runs."
        + ("" if result.same_tokens else " The runs read them as different tokens: do not compare counts of token ids.")
        + (f" Labels left out, which one run does not have: {', '.join(result.left_out)}." if result.left_out else ""),
        [
            Grid(
                "differences",
                (
                    *plain("figure", *columns, a, b),
                    Column("difference (95 %)", text=with_decimals(3, signed=True)),
                    *plain("over", "n"),
                ),
                [
                    (
                        row.figure,
                        *(value for group in row.values for value in group if replicates),
                        row.a,
                        row.b,
                        row.difference,
                        f"{row.over}, training" if row.covers_training and row.n else row.over,
                        row.n,
                    )
                    for row in result.differences
                ],
            )
        ],
        [],
        page=comparison_link(result.groups[0][0], result.groups[1][0]),
    )


def matching_section(matching: MatchingResult, title: str, name: str) -> Section:
    """Features that two runs share.

    Args:
        matching: of the runs.
        title: of the section.
        name: start of the names of its tables.
    """
    return Section(
        title,
        "Pairs of features of the same layer that are each other's best match by the correlation of their activations "
        "over the documents of both runs; by chance is the number of such pairs with the documents of one run "
        "permuted. By the cosine of decoder directions a pair counts if it also exceeds the null, the "
        f"{NULL_PERCENTILE:g}th percentile of the best cosines of independent directions; cosines have a meaning only "
        "if both classifiers were fine-tuned from one model. The last columns are the mean cosine of all directions to "
        f"those that the training began with, and the share above {NEAR_START}. A label-specific feature is only in "
        f"one run if its best match has a correlation below {NO_MATCH_BELOW}.",
        " ".join([f"{matching.shared_documents} documents.", *left_out_cosines(matching)]),
        [
            Grid(
                f"{name}_layers",
                (
                    Column("layer"),
                    *(Column("active features", run) for run in matching.runs),
                    *(
                        column
                        for cutoff in CUTOFFS
                        for column in of_run(f"correlation ≥ {cutoff}", ("pairs", "by chance"))
                    ),
                    *of_run("pairs by cosine", (f"≥ {cutoff}" for cutoff in CUTOFFS)),
                    Column("null", "pairs by cosine", with_decimals(2)),
                    *(
                        column
                        for run in matching.runs
                        for column in of_run(
                            f"cosine to start, {run}",
                            (Column("mean", text=with_decimals(2)), Column(f"above {NEAR_START}", text=percent)),
                        )
                    ),
                ),
                [_layer_row(layer) for layer in matching.layers],
            ),
            Grid(
                f"{name}_labels",
                (
                    Column("label", once=True),
                    *plain("run", "label-specific features", "only in this run"),
                    Column("examples: layer:feature tokens", prose=True),
                ),
                [
                    (label_link(row.run, row.label), row.run, row.specific, row.only, "; ".join(row.examples))
                    for row in matching.only
                ],
            ),
        ],
        [],
    )


def _layer_row(layer: LayerMatching) -> tuple[Value, ...]:
    cosines = [shared.pairs for shared in layer.by_cosine] if layer.by_cosine else [None] * len(CUTOFFS)
    return (
        layer.layer,
        *layer.active,
        *(count for shared in layer.by_correlation for count in (shared.pairs, shared.by_chance)),
        *cosines,
        layer.cosine_null,
        *(
            value
            for moved in layer.moved
            for value in ((moved.mean_cosine, moved.near_start) if moved else (None, None))
        ),
    )

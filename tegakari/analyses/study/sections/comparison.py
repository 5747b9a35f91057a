"""Sections about two sides: limits, differences of figures, and features that the runs share."""

from __future__ import annotations

from tegakari.analyses.formatting import MISSING, difference, left_out_cosines
from tegakari.analyses.study.sections.layout import Grid, Section
from tegakari.schemas.matching import (
    CUTOFFS,
    NEAR_START,
    NO_MATCH_BELOW,
    NULL_PERCENTILE,
    LayerMatching,
    MatchingResult,
)
from tegakari.schemas.study import StudyResult


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
        f"Every figure of both sides, and the difference with its 95 % interval. {covers} Where the interval contains "
        "0, no difference is shown.",
        f"{result.shared_documents} documents are in all runs."
        + ("" if result.same_tokens else " The runs read them as different tokens: do not compare counts of token ids.")
        + (f" Labels left out, which one run does not have: {', '.join(result.left_out)}." if result.left_out else ""),
        [
            Grid(
                ("figure", *columns, a, b, "difference (95 %)", "over", "n"),
                [
                    (
                        row.figure,
                        *(f"{value:.3f}" for group in row.values for value in group if replicates),
                        f"{row.a:.3f}",
                        f"{row.b:.3f}",
                        difference(row.difference),
                        f"{row.over}, training" if row.covers_training and row.n else row.over,
                        str(row.n),
                    )
                    for row in result.differences
                ],
            )
        ],
        [],
    )


def matching_section(matching: MatchingResult, title: str) -> Section:
    a, b = matching.runs
    return Section(
        title,
        "Pairs of features of the same layer that are each other's best match by the correlation of their activations "
        "over the documents of both runs; in parentheses the number of such pairs with the documents of one run "
        "permuted, which is chance. By the cosine of decoder directions a pair counts if it also exceeds the null, the "
        f"{NULL_PERCENTILE:g}th percentile of the best cosines of independent directions; cosines have a meaning only "
        "if both classifiers were fine-tuned from one model. The last columns are the mean cosine of all directions to "
        f"those that the training began with, and the share above {NEAR_START}. A label-specific feature is only in "
        f"one run if its best match has a correlation below {NO_MATCH_BELOW}.",
        " ".join([f"{matching.shared_documents} documents.", *left_out_cosines(matching)]),
        [
            Grid(
                (
                    "layer",
                    f"active features, {a}",
                    f"active features, {b}",
                    *(f"pairs with correlation ≥ {cutoff} (chance)" for cutoff in CUTOFFS),
                    *(f"pairs with cosine ≥ {cutoff}" for cutoff in CUTOFFS),
                    "null of cosines",
                    f"cosine to start, {a}",
                    f"cosine to start, {b}",
                ),
                [_layer_row(layer) for layer in matching.layers],
            ),
            Grid(
                ("label", "run", "label-specific features", "only in this run", "examples: layer:feature tokens"),
                [
                    (row.label, row.run, str(row.specific), str(row.only), "; ".join(row.examples))
                    for row in matching.only
                ],
            ),
        ],
        [],
    )


def _layer_row(layer: LayerMatching) -> tuple[str, ...]:
    cosines = [str(shared.pairs) for shared in layer.by_cosine] if layer.by_cosine else [MISSING] * len(CUTOFFS)
    return (
        str(layer.layer),
        *map(str, layer.active),
        *(f"{shared.pairs} ({shared.by_chance})" for shared in layer.by_correlation),
        *cosines,
        MISSING if layer.cosine_null is None else f"{layer.cosine_null:.2f}",
        *(f"{moved.mean_cosine:.2f}, {moved.near_start:.0%}" if moved else MISSING for moved in layer.moved),
    )

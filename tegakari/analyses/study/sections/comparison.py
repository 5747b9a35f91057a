"""Sections about two runs: differences of figures, and features that the runs share."""

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


def differences_section(result: StudyResult) -> Section:
    a, b = (run.run for run in result.runs)
    return Section(
        f"{a} and {b}",
        "Every figure of both runs, and the difference with its 95 % interval (2,000 bootstrap samples). Where the "
        "interval contains 0, no difference is shown.",
        f"{result.shared_documents} documents are in both runs."
        + ("" if result.same_tokens else " The runs read them as different tokens: do not compare counts of token ids.")
        + (f" Labels left out, which one run does not have: {', '.join(result.left_out)}." if result.left_out else ""),
        [
            Grid(
                ("figure", a, b, "difference (95 %)", "resampled", "n"),
                [
                    (row.figure, f"{row.a:.3f}", f"{row.b:.3f}", difference(row.difference), row.over, str(row.n))
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

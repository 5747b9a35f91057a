"""Sections about two runs: differences of figures, and features that the runs share."""

from __future__ import annotations

from tegakari.analyses.formatting import difference
from tegakari.analyses.study.sections.layout import Grid, Section
from tegakari.schemas.matching import NO_MATCH_BELOW, MatchingResult
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


def matching_section(matching: MatchingResult) -> Section:
    a, b = matching.runs
    first_layer = matching.layers[0] if matching.layers else None
    correlations = [shared.cutoff for shared in first_layer.by_correlation] if first_layer else []
    cosines = [shared.cutoff for shared in first_layer.by_cosine or ()] if first_layer else []
    return Section(
        "Shared features",
        "Pairs of features of the same layer that are each other's best match: by the correlation of their activations "
        "over the documents of both runs, and by the cosine of their decoder directions, which has a meaning only if "
        "both classifiers were fine-tuned from one model. A label-specific feature is only in one run if its best "
        f"match has a correlation below {NO_MATCH_BELOW}.",
        f"{matching.shared_documents} documents."
        + (f" Directions are not compared: {matching.no_cosine}." if matching.no_cosine else ""),
        [
            Grid(
                (
                    "layer",
                    f"active features, {a}",
                    f"active features, {b}",
                    *(f"pairs with correlation ≥ {cutoff}" for cutoff in correlations),
                    *(f"pairs with cosine ≥ {cutoff}" for cutoff in cosines),
                ),
                [
                    (
                        str(layer.layer),
                        *map(str, layer.active),
                        *(str(shared.pairs) for shared in layer.by_correlation),
                        *(str(shared.pairs) for shared in layer.by_cosine or ()),
                    )
                    for layer in matching.layers
                ],
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

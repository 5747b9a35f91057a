"""The study as sections of a report: what each table is, how it was made, its rows, its pictures."""

from __future__ import annotations

from typing import NamedTuple

from tegakari.analyses.circuit.heat_map import figure as circuit_figure
from tegakari.analyses.knockout.bars import bars
from tegakari.analyses.plots import svg
from tegakari.analyses.study import scatter as pictures
from tegakari.schemas.analysis import Interval
from tegakari.schemas.api import LayerSpecificity
from tegakari.schemas.matching import LONELY, MatchingResult
from tegakari.schemas.study import StudyResult
from tegakari.schemas.variants import VariantsResult


class Grid(NamedTuple):
    """A table of a report."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


class Picture(NamedTuple):
    """A figure of a report."""

    caption: str
    svg: str


class Section(NamedTuple):
    """One table or figure of the study, with what a reader needs to judge it."""

    title: str
    definition: str
    made: str
    """settings and n"""
    grids: list[Grid]
    pictures: list[Picture]


def sections(result: StudyResult) -> list[Section]:
    """In the study's order."""
    found = [
        _classification(result),
        _circuits(result),
        _specificity(result),
        _knockouts(result),
        _cues(result),
        _variants(result),
        _sparsity(result),
    ]
    if result.matching:
        found.append(_matching(result.matching))
    return [_differences(result), *found] if result.differences else found


def _differences(result: StudyResult) -> Section:
    a, b = (run.run for run in result.runs)
    return Section(
        f"{a} and {b}",
        "Every figure that both runs have, and the difference with its 95 % interval (2,000 bootstrap samples). Where "
        "the interval holds 0, the runs are not shown to differ.",
        f"{result.shared_documents} documents are in both runs."
        + ("" if result.same_tokens else " The runs read them in different tokens: do not compare counts of token ids.")
        + (f" Labels left out, which one run does not have: {', '.join(result.left_out)}." if result.left_out else ""),
        [
            Grid(
                ("figure", a, b, "difference (95 %)", "drawn again", "n"),
                [
                    (row.figure, _number(row.a), _number(row.b), _signed(row.difference), row.over, str(row.n))
                    for row in result.differences
                ],
            )
        ],
        [],
    )


def _matching(found: MatchingResult) -> Section:
    cosines = [each.cutoff for each in found.layers[0].by_cosine or ()] if found.layers else []
    correlations = [each.cutoff for each in found.layers[0].by_correlation] if found.layers else []
    a, b = found.runs
    return Section(
        "Shared features",
        "Features of the same layer that are each other's best match, by the correlation of their activations over the "
        "documents of both runs, and by the cosine of their decoder directions, which says something only between near "
        "relatives of one model. A label-specific feature is only in one run where its best match correlates below "
        f"{LONELY}.",
        f"{found.shared_documents} documents."
        + (f" Directions are not compared: {found.no_cosine}." if found.no_cosine else ""),
        [
            Grid(
                (
                    "layer",
                    f"active, {a}",
                    f"active, {b}",
                    *(f"correlation at least {cutoff}" for cutoff in correlations),
                    *(f"cosine at least {cutoff}" for cutoff in cosines),
                ),
                [
                    (
                        str(row.layer),
                        *map(str, row.active),
                        *(str(each.pairs) for each in row.by_correlation),
                        *(str(each.pairs) for each in row.by_cosine or ()),
                    )
                    for row in found.layers
                ],
            ),
            Grid(
                ("label", "run", "label-specific features", "only in this run", "for example"),
                [(row.label, row.run, str(row.specific), str(row.only), "; ".join(row.examples)) for row in found.only],
            ),
        ],
        [],
    )


def _classification(result: StudyResult) -> Section:
    found = [run.classification for run in result.runs]
    return Section(
        "Classification (Table 1)",
        "Macro-F1 is the mean of the labels' F1. The baseline is TF-IDF of character n-grams with a linear support "
        "vector classifier on the same documents.",
        "; ".join(f"{each.run}: {each.documents} evaluation documents of {each.labels} labels" for each in found) + ".",
        [
            Grid(
                ("run", "macro-F1 (95 %)", "accuracy (95 %)", "baseline macro-F1"),
                [
                    (
                        each.run,
                        _interval(each.macro_f1),
                        _interval(each.accuracy),
                        "-" if each.baseline_macro_f1 is None else f"{each.baseline_macro_f1:.3f}",
                    )
                    for each in found
                ],
            )
        ],
        [],
    )


def _circuits(result: StudyResult) -> Section:
    found = [run.circuit for run in result.runs if run.circuit]
    asked = result.settings.circuit
    made = [
        f"{each.run}: {each.pairs} pairs of {asked.pairs} asked for, {each.no_gain} with nothing to restore; "
        f"sufficiency and necessity on {each.documents} documents"
        + (
            f"; labels without a correctly predicted document: {', '.join(each.labels_without)}"
            if each.labels_without
            else ""
        )
        for each in found
    ] + [f"{run.run}: none: {run.no_circuit}" for run in result.runs if run.no_circuit]
    return Section(
        "Circuits (Figure 1)",
        "Effect of attention and MLP of each layer at the last position, by activation patching between documents of "
        f"different labels with cosine of at least {asked.min_cosine}; components with a mean effect of at least "
        f"{asked.threshold} are the circuit. Sufficiency is accuracy with the circuit alone over full accuracy, "
        "necessity the accuracy lost without it; the other components give their mean, or nothing (zero).",
        "; ".join(made) + ".",
        [
            Grid(
                (
                    "run",
                    "components",
                    "total effect (95 %)",
                    "early / middle / late",
                    "sufficiency (95 %)",
                    "necessity (95 %)",
                ),
                [
                    (
                        f"{each.run}, {by.by}",
                        f"{sum(one.in_circuit for one in each.components)} of {len(each.components)}",
                        _interval(each.total),
                        " / ".join(f"{band.share.value:.0%}" if band.share else "-" for band in each.bands),
                        _interval(by.sufficiency),
                        _interval(by.necessity),
                    )
                    for each in found
                    for by in each.ablated
                ],
            )
        ],
        [Picture("Mean effect by layer and component; dots mark the circuit.", svg(circuit_figure(found)))]
        if found
        else [],
    )


def _specificity(result: StudyResult) -> Section:
    found = [run.specificity for run in result.runs]
    cutoffs = [high.cutoff for high in found[0].high_d]
    return Section(
        "Label-specific features (Table 2)",
        "A feature carries the labels for which its activation has Cohen's d above "
        f"{found[0].threshold:g} against all other documents: none (weak), one (specific), or more (shared). Label "
        "variety is their number. The study does not say which d is high, so several cut-offs are given.",
        "; ".join(f"{each.run}: {each.features} features, pooling {each.pooling}" for each in found) + ".",
        [
            Grid(
                ("run", "mean variety (95 %)", "weak", "specific", "shared"),
                [
                    (each.run, _interval(each.mean_variety), str(each.weak), str(each.specific), str(each.shared))
                    for each in found
                ],
            ),
            Grid(
                ("run", *(f"d > {cutoff:g}: features, for one label alone" for cutoff in cutoffs)),
                [
                    (
                        each.run,
                        *(
                            f"{high.features}, {high.single_label_share:.1%}" if high.features else "0"
                            for high in each.high_d
                        ),
                    )
                    for each in found
                ],
            ),
            Grid(
                (
                    "layer",
                    *(f"{each.run}: {name}" for each in found for name in ("specific", "shared", "mean variety")),
                ),
                [
                    (str(number), *(cell for each in found for cell in _layer(each.layers, number)))
                    for number in sorted({layer.layer for each in found for layer in each.layers})
                ],
            ),
        ],
        [],
    )


def _layer(layers: list[LayerSpecificity], number: int) -> tuple[str, str, str]:
    for layer in layers:
        if layer.layer == number:
            return str(layer.specific), str(layer.shared), f"{layer.mean_variety:.3f}"
    return "-", "-", "-"


def _knockouts(result: StudyResult) -> Section:
    where = (
        "the layer of largest effect of each run and label (Table 3); chosen for its effect, it overstates it"
        if result.settings.layer is None
        else f"layer {result.settings.layer} (Table 8)"
    )
    columns = ("layer", "recall", "points (95 %)", "random", "as dense")
    return Section(
        "Feature knockout (Tables 3 and 8)",
        f"The {result.settings.k} features with the largest d for a label are taken out of a layer's residual, and the "
        "label's evaluation documents are read again. Points are the change of recall. The controls are as many other "
        "active features, drawn at random, or drawn to be about as dense.",
        f"In {where}; {result.settings.draws} draws of each control.",
        [
            Grid(
                ("label", "documents", *(f"{run.run}: {name}" for run in result.runs for name in columns)),
                [
                    (
                        label,
                        str(rows[0].documents),
                        *(
                            cell
                            for row in rows
                            for cell in (
                                str(row.settings.layer),
                                f"{row.recall_before:.2f} → {row.recall_after:.2f}",
                                f"{row.delta:+.1f} ({row.delta_low:+.1f} to {row.delta_high:+.1f})",
                                *(
                                    f"{each.delta_mean:+.1f} ± {each.delta_sd:.1f}" if each else "-"
                                    for each in (row.control, row.density_control)
                                ),
                            )
                        ),
                    )
                    for label, rows in zip(
                        result.labels, zip(*(run.knockouts for run in result.runs), strict=True), strict=True
                    )
                ],
            )
        ],
        [
            Picture(
                "Points of recall; crosses are random features, circles those as dense.",
                svg(bars({run.run: run.knockouts for run in result.runs})),
            )
        ],
    )


def _cues(result: StudyResult) -> Section:
    rows = []
    for label in result.labels:
        found = [next((each for each in run.cues if each.label == label), None) for run in result.runs]
        cells = [
            (
                _interval(each.top_token_share),
                f"{each.unique_tokens.value:.1f} ({each.unique_tokens.low:.1f} to {each.unique_tokens.high:.1f})",
                f"{each.top_token_share_by_id:.2f}, {each.unique_tokens_by_id:.1f}",
                " ".join(token.token for token in each.features[0].tokens[:5]),
            )
            if each
            else ("-", "-", "-", "-")
            for each in found
        ]
        rows.append((label, *(cell for one in cells for cell in one)))
    names = ("top token share", "unique tokens", "by token id", "strongest feature fires on")
    cut = sum(each.cut for run in result.runs for each in run.cues)
    return Section(
        "Cue diversity (Figure 2)",
        "The tokens on which a label's features fire with at least half their maximum: the share of the most frequent "
        "one and the number of different ones, mean over the features of the knockout. Counted on written forms (NFKC, "
        "case, no space in front), and on token ids.",
        f"Of the strongest positions that a run keeps of each feature; {cut} features have more strong ones than that.",
        [Grid(("label", *(f"{run.run}: {name}" for run in result.runs for name in names)), rows)],
        [Picture("A point a label and run.", svg(pictures.cues(result.runs)))],
    )


def _variants(result: StudyResult) -> Section:
    found = [run.variants for run in result.runs]
    made = [
        f"{each.run}: {len(each.concepts)} concepts, {each.forms} forms; "
        f"{sum(row.empty for row in each.rows)} pairs left out because a sentence has no active feature, "
        f"{sum(row.small for row in each.rows if row.kind == 'sentences')} sets smaller than their k"
        for each in found
    ]
    return Section(
        "Written variants (Tables 4 and 9)",
        "The k features of a layer with the largest activation in the sentence of a written form, without those of "
        "another form of the concept: the share that remains, mean over ordered pairs, concepts and layers. Two "
        "controls that the study lacks: all forms in one sentence (frames), which leaves the form alone to differ, "
        "and forms of different concepts (unrelated), which share no meaning. Where sentences survive like unrelated "
        "ones, the figure speaks of the sentences and not of the forms.",
        "; ".join(made) + ".",
        [
            Grid(
                ("pairs of", "k", *(f"{each.run}: survival (95 %)" for each in found)),
                [
                    (rows[0].kind, str(rows[0].k), *(_interval(row.survival) for row in rows))
                    for rows in zip(*(each.rows for each in found), strict=True)
                ],
            ),
            Grid(
                (
                    "layer",
                    *(f"{each.run}: k = {row.k}" for each in found for row in each.rows if row.kind == "sentences"),
                ),
                _survival_by_layer(found),
            ),
        ],
        [],
    )


def _survival_by_layer(found: list[VariantsResult]) -> list[tuple[str, ...]]:
    columns = [
        {each.layer: each.survival for each in row.layers}
        for result in found
        for row in result.rows
        if row.kind == "sentences"
    ]
    layers = sorted({layer for column in columns for layer in column})
    cells = [[column.get(layer) for column in columns] for layer in layers]
    return [
        (str(layer), *("-" if value is None else f"{value:.3f}" for value in row))
        for layer, row in zip(layers, cells, strict=True)
    ]


def _sparsity(result: StudyResult) -> Section:
    found = [run.sparsity for run in result.runs]
    return Section(
        "Activation sparsity (Table 7)",
        "Active features of a document, its activations pooled; the top-20 ratio is the share of the 20 strongest in "
        "their sum. Means over documents, then over layers.",
        "; ".join(f"{each.run}: {each.documents} documents, pooling {each.pooling}" for each in found) + ".",
        [
            Grid(
                (
                    "run",
                    "active features a layer (95 %)",
                    "of all layers",
                    "a position and layer",
                    "top-20 ratio (95 %)",
                ),
                [
                    (
                        each.run,
                        f"{each.active.value:.1f} ({each.active.low:.1f} to {each.active.high:.1f})",
                        f"{each.active_of_all_layers:.0f}",
                        f"{each.per_position:.1f}",
                        _interval(each.top20_ratio),
                    )
                    for each in found
                ],
            )
        ],
        [],
    )


def _interval(figure: Interval | None) -> str:
    return "-" if figure is None else f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _signed(figure: Interval) -> str:
    return f"{figure.value:+.3f} ({figure.low:+.3f} to {figure.high:+.3f})"


def _number(value: float) -> str:
    return f"{value:.3f}"

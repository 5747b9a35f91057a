"""Sections about predictions: classification, circuits, and knockouts."""

from __future__ import annotations

from tegakari.analyses.circuit.plots import effect_maps
from tegakari.analyses.formatting import (
    KNOCKOUT_COLUMNS,
    MISSING,
    interval,
    knockout_cells,
    knockout_mean_sentence,
    sae_quality,
)
from tegakari.analyses.knockout.plots import label_bars
from tegakari.analyses.study.sections.layout import Grid, Picture, Section, per_run
from tegakari.analyses.svg import to_svg
from tegakari.schemas.circuit import CircuitResult
from tegakari.schemas.knockout import PER_LABEL, LayerEffect
from tegakari.schemas.study import StudyResult


def classification_section(result: StudyResult) -> Section:
    tables = [run.classification for run in result.runs]
    return Section(
        "Classification (Table 1)",
        "Macro-F1 is the mean of the labels' F1. The baseline is TF-IDF of character n-grams with a linear support "
        "vector classifier on the same documents.",
        per_run([f"{table.run}: {table.documents} evaluation documents of {table.labels} labels" for table in tables]),
        [
            Grid(
                ("run", "macro-F1 (95 %)", "accuracy (95 %)", "baseline macro-F1"),
                [
                    (
                        table.run,
                        interval(table.macro_f1),
                        interval(table.accuracy),
                        MISSING if table.baseline_macro_f1 is None else f"{table.baseline_macro_f1:.3f}",
                    )
                    for table in tables
                ],
            )
        ],
        [],
    )


def circuits_section(result: StudyResult) -> Section:
    circuits = [run.circuit for run in result.runs if run.circuit]
    settings = result.settings.circuit
    robust = settings.membership == "robust"
    caption = "Effect by layer and component, relative to the largest; dots mark the circuit."
    return Section(
        "Circuits (Figure 1)",
        "Effect of the attention and the MLP of each layer at the last position, by activation patching between "
        f"documents of different labels with a cosine of at least {settings.min_cosine}. The effect is the sum of the "
        "logits' changes divided by the sum of the gains (ratio of means), over the pairs with a gain of at least "
        f"{settings.min_gain} standard deviations of the logits; the robust circuit are the components for which the "
        f"lower end of its interval is at least {settings.threshold}. The study takes the mean of the pairs' ratios, "
        f"and the components for which it is at least {settings.threshold}. Dots, total, shares, sufficiency and "
        f"necessity are those of the {'robust circuit' if robust else 'circuit of the study'}. Intervals resample "
        "documents. Sufficiency is the accuracy with only the circuit kept divided by full accuracy, necessity the "
        "accuracy lost without the circuit; ablated components give their mean, or zero. Stars mark the members "
        "of a circuit by each definition.",
        per_run(
            [_circuit_basis(circuit) for circuit in circuits]
            + [f"{run.run}: no circuit: {run.no_circuit}" for run in result.runs if run.no_circuit]
        )
        + "".join(f" {circuit.run}: {circuit.warning}" for circuit in circuits if circuit.warning),
        [
            Grid(
                (
                    "run, ablation",
                    "components: robust, study",
                    "total effect (95 %)",
                    "share of early / middle / late layers",
                    "sufficiency (95 %)",
                    "necessity (95 %)",
                ),
                [
                    (
                        f"{circuit.run}, {ablated.by}",
                        f"{sum(row.in_robust_circuit for row in circuit.components)}, "
                        f"{sum(row.in_study_circuit for row in circuit.components)} of {len(circuit.components)}",
                        interval(circuit.total),
                        " / ".join(f"{band.share.value:.0%}" if band.share else MISSING for band in circuit.bands),
                        interval(ablated.sufficiency),
                        interval(ablated.necessity),
                    )
                    for circuit in circuits
                    for ablated in circuit.ablated
                ],
            ),
            Grid(
                (
                    "layer",
                    "component",
                    *(
                        f"{circuit.run}: {name}"
                        for circuit in circuits
                        for name in ("ratio of means (95 %)", "mean of ratios (95 %)", "median")
                    ),
                ),
                _component_rows(circuits),
            ),
        ]
        if circuits
        else [],
        [Picture(caption, to_svg(effect_maps(circuits)))] if circuits else [],
    )


def _component_rows(circuits: list[CircuitResult]) -> list[tuple[str, ...]]:
    """A row per component of a circuit by either definition; stars mark the members."""
    columns = [
        {
            (row.layer, row.component): (
                interval(row.effect) + (" *" if row.in_robust_circuit else ""),
                interval(row.study_effect) + (" *" if row.in_study_circuit else ""),
                f"{row.median_effect:.3f}",
            )
            for row in circuit.components
        }
        for circuit in circuits
    ]
    places = sorted(
        {
            (row.layer, row.component)
            for circuit in circuits
            for row in circuit.components
            if row.in_robust_circuit or row.in_study_circuit
        }
    )
    return [
        (str(place[0]), place[1], *(cell for column in columns for cell in column.get(place, (MISSING,) * 3)))
        for place in places
    ]


def _circuit_basis(circuit: CircuitResult) -> str:
    text = (
        f"{circuit.run}: {circuit.pairs} pairs of {circuit.settings.pairs} requested, of {circuit.pair_documents} "
        f"documents; {circuit.no_gain} without a gain, {circuit.small_gain} with a gain below 0.05, "
        f"{circuit.below_min_gain} below the minimum gain; sufficiency and necessity on {circuit.documents} documents"
    )
    if circuit.labels_without:
        text += f"; labels without a correctly predicted document: {', '.join(circuit.labels_without)}"
    return text


def knockouts_section(result: StudyResult) -> Section:
    results_by_label = zip(*(run.knockouts for run in result.runs), strict=True)
    return Section(
        "Feature knockout (Tables 3 and 8)",
        f"The {result.settings.k} features with the largest d for a label are ablated in a layer's residual, and the "
        "classifier is run again on evaluation documents of the label. Points are the change of recall times 100. The "
        "controls ablate as many other active features, drawn at random, or drawn with about the same density: mean "
        "and standard deviation of their points. The net effect is the points minus the mean of the control of the "
        "same density; where its interval reaches 0, recall is not beyond its control and the label takes no part in "
        "means. The margin is the logit of the label minus the largest other one; it falls also where recall cannot, "
        "as of a label that is predicted where nothing is read. It counts for labels that the classifier tells apart: "
        "predicted more often in their documents than in others.",
        f"{_layers(result)} {_documents(result)} {result.settings.draws} draws of each control. "
        + per_run([f"{run.run}: {knockout_mean_sentence(run.knockout_mean)}" for run in result.runs]),
        [
            Grid(
                ("label", "documents", *(f"{run.run}: {name}" for run in result.runs for name in KNOCKOUT_COLUMNS)),
                [
                    (label, str(results[0].documents), *(cell for row in results for cell in knockout_cells(row)))
                    for label, results in zip(result.labels, results_by_label, strict=True)
                ],
            ),
            _layer_grid(result),
        ],
        [
            Picture(
                "Points with 95 % intervals, pale where recall is not beyond the control; crosses: random features; "
                "circles: random features of the same density.",
                to_svg(label_bars({run.run: run.knockouts for run in result.runs})),
            )
        ],
    )


def _layers(result: StudyResult) -> str:
    selection = result.settings.layer
    if selection is None:
        layers = per_run([f"{run.run}: layer {run.layer_choice.layer}" for run in result.runs if run.layer_choice])
        return f"In the layer of each run whose mean net effect over labels is largest (Table 3): {layers}"
    if selection == PER_LABEL:
        return "In the layer of each run and label whose net effect is largest."
    if isinstance(selection, dict):
        return f"In given layers: {per_run([f'{run}: layer {layer}' for run, layer in selection.items()])}"
    return f"In layer {selection} (Table 8)."


def _documents(result: StudyResult) -> str:
    chosen = "Features were" if isinstance(result.settings.layer, int | dict) else "Features and layer were"
    if result.settings.holdout:
        return f"{chosen} chosen on one half of each label's evaluation documents and measured on the other."
    return f"{chosen} chosen on the documents that they are measured on, which overstates the effect."


def _layer_grid(result: StudyResult) -> Grid:
    """Quality of the SAEs of all layers, and the mean net effect that the layer of the knockouts was chosen by."""
    saes = {(run.run, sae.layer): sae for run in result.runs for sae in run.saes}
    effects = {
        (run.run, effect.layer): effect
        for run in result.runs
        if run.layer_choice
        for effect in run.layer_choice.effects
    }
    return Grid(
        ("run, layer", "SAE", "mean net points, choice of layer"),
        [
            (
                f"{run}, {layer}",
                sae_quality(saes[run, layer]) if (run, layer) in saes else MISSING,
                _effect(effects.get((run, layer))),
            )
            for run in (run.run for run in result.runs)
            for layer in sorted(layer for name, layer in saes.keys() | effects.keys() if name == run)
        ],
    )


def _effect(effect: LayerEffect | None) -> str:
    if effect is None:
        return MISSING
    return f"left out: {effect.left_out}" if effect.net is None else f"{effect.net:+.1f}"

"""Sections about predictions: classification, circuits, and knockouts."""

from __future__ import annotations

from tegakari.analyses.circuit.plots import effect_maps
from tegakari.analyses.formatting import (
    beyond_control,
    knockout_mean_sentence,
    percent,
    recall_points,
)
from tegakari.analyses.knockout.plots import label_bars
from tegakari.analyses.study.pages import label_link, run_link
from tegakari.analyses.study.sections.layout import (
    Column,
    Grid,
    Picture,
    Section,
    Value,
    of_run,
    per_run,
    plain,
    with_decimals,
)
from tegakari.analyses.svg import to_svg
from tegakari.schemas.circuit import CircuitResult
from tegakari.schemas.knockout import PER_LABEL, KnockoutResult, LayerEffect, SaeQuality
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
                "classification",
                plain("run", "macro-F1 (95 %)", "accuracy (95 %)", "baseline macro-F1"),
                [(run_link(table.run), table.macro_f1, table.accuracy, table.baseline_macro_f1) for table in tables],
            )
        ],
        [],
    )


def circuits_section(result: StudyResult, *, own_scale: bool) -> Section:
    circuits = [run.circuit for run in result.runs if run.circuit]
    settings = result.settings.circuit
    robust = settings.membership == "robust"
    scale = "in units of the run's largest, as in the study" if own_scale else "on one scale for all runs"
    caption = f"Effect by layer and component, {scale}; stars and bold figures mark the circuit."
    return Section(
        "Circuits (Figure 1)",
        "Effect of the attention and the MLP of each layer at the last position, by activation patching between "
        f"documents of different labels with a cosine of at least {settings.min_cosine}. The effect is the sum of the "
        "logits' changes divided by the sum of the gains (ratio of means), over the pairs with a gain of at least "
        f"{settings.min_gain} standard deviations of the logits; the robust circuit are the components for which the "
        f"lower end of its interval is at least {settings.threshold}. The study takes the mean of the pairs' ratios, "
        f"and the components for which it is at least {settings.threshold}. Total, shares, sufficiency and "
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
                "circuits",
                plain(
                    "run",
                    "ablated by",
                    "robust components",
                    "components of the study",
                    "of",
                    "total effect (95 %)",
                    "sufficiency (95 %)",
                    "necessity (95 %)",
                ),
                [
                    (
                        run_link(circuit.run),
                        ablated.by,
                        sum(row.in_robust_circuit for row in circuit.components),
                        sum(row.in_study_circuit for row in circuit.components),
                        len(circuit.components),
                        circuit.total,
                        ablated.sufficiency,
                        ablated.necessity,
                    )
                    for circuit in circuits
                    for ablated in circuit.ablated
                ],
            ),
            Grid(
                "circuit_bands",
                plain("run", "layers", "first", "last", "components", "share of the effect (95 %)"),
                [
                    (run_link(circuit.run), band.band, band.first, band.last, band.components, band.share)
                    for circuit in circuits
                    for band in circuit.bands
                ],
            ),
            _component_grid(circuits),
        ]
        if circuits
        else [],
        [Picture(caption, to_svg(effect_maps(circuits, own_scale=own_scale)))] if circuits else [],
    )


def _component_grid(circuits: list[CircuitResult]) -> Grid:
    """A row per component of any run; a star marks the members of a circuit."""
    columns = [
        {
            (row.layer, row.component): (
                row.effect,
                _star(row.in_robust_circuit),
                row.study_effect,
                _star(row.in_study_circuit),
                row.median_effect,
            )
            for row in circuit.components
        }
        for circuit in circuits
    ]
    headings = ("ratio of means (95 %)", "robust", "mean of ratios (95 %)", "study", "median")
    return Grid(
        "components",
        (
            *plain("layer", "component"),
            *(column for circuit in circuits for column in of_run(circuit.run, headings)),
        ),
        [
            (layer, component, *(cell for column in columns for cell in column.get((layer, component), (None,) * 5)))
            for layer, component in sorted(set().union(*columns))
        ],
    )


def _star(member: bool) -> str:
    return "*" if member else ""


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
        "of their points. The net effect is the points minus the mean of the control of the "
        "same density; where its interval reaches 0, recall is not beyond its control and the label takes no part in "
        "means. The margin is the logit of the label minus the largest other one; it falls also where recall cannot, "
        "as of a label that is predicted where nothing is read. It counts for labels that the classifier tells apart: "
        "predicted more often in their documents than in others.",
        f"{_layers(result)} {_documents(result)} {result.settings.draws} draws of each control. "
        + per_run([f"{run.run}: {knockout_mean_sentence(run.knockout_mean)}" for run in result.runs]),
        [
            Grid(
                "knockout_labels",
                (
                    *plain("label", "documents"),
                    *(column for run in result.runs for column in of_run(run.run, _KNOCKOUT_COLUMNS)),
                ),
                [
                    (
                        label_link(result.runs[0].run, label),
                        results[0].documents,
                        *(cell for row in results for cell in _knockout_values(row)),
                    )
                    for label, results in zip(result.labels, results_by_label, strict=True)
                ],
            ),
            _layer_grid(result),
        ],
        [
            Picture(
                "Change of recall with 95 % intervals, pale where recall is not beyond the control.",
                to_svg(label_bars({run.run: run.knockouts for run in result.runs})),
            )
        ],
    )


_POINTS = with_decimals(1, signed=True)
_KNOCKOUT_COLUMNS = (
    Column("layer"),
    Column("recall before", text=with_decimals(2)),
    Column("after", text=with_decimals(2)),
    Column("points (95 %)", text=_POINTS),
    Column("net (95 %)", text=_POINTS),
    Column("margin, net (95 %)", text=with_decimals(2, signed=True)),
    Column("beyond control"),
    Column("random", text=_POINTS),
    Column("same density", text=_POINTS),
)


def _knockout_values(result: KnockoutResult) -> tuple[Value, ...]:
    layers = sorted({feature.layer for feature in result.features})
    return (
        ", ".join(map(str, layers)) or str(result.settings.layer),
        result.recall_before,
        result.recall_after,
        recall_points(result),
        result.net,
        result.margin.net,
        beyond_control(result),
        result.control.delta_mean if result.control else None,
        result.density_control.delta_mean if result.density_control else None,
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
        "knockout_layers",
        (
            *plain("run", "layer"),
            *of_run(
                "SAE",
                (
                    "features",
                    Column("never active", text=percent),
                    Column("active per position", text=with_decimals(1)),
                    "explained variance",
                    "all positions",
                ),
            ),
            Column("mean net points, choice of layer", text=_layer_effect),
        ),
        [
            (run_link(run), layer, *_sae_values(saes.get((run, layer))), _effect(effects.get((run, layer))))
            for run in (run.run for run in result.runs)
            for layer in sorted(layer for name, layer in saes.keys() | effects.keys() if name == run)
        ],
    )


def _sae_values(sae: SaeQuality | None) -> tuple[Value, ...]:
    if sae is None:
        return (None,) * 5
    return sae.features, sae.dead_share, sae.l0, sae.explained_variance, sae.explained_variance_all


def _effect(effect: LayerEffect | None) -> Value:
    if effect is None:
        return None
    return f"left out: {effect.left_out}" if effect.net is None else effect.net


def _layer_effect(value: float | str | None) -> str:
    return value if isinstance(value, str) else _POINTS(value)

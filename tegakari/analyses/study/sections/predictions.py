"""Sections about predictions: classification, circuits, and knockouts."""

from __future__ import annotations

from tegakari.analyses.circuit.plots import effect_maps
from tegakari.analyses.formatting import KNOCKOUT_COLUMNS, MISSING, interval, knockout_cells
from tegakari.analyses.knockout.plots import label_bars
from tegakari.analyses.study.sections.layout import Grid, Picture, Section, per_run
from tegakari.analyses.svg import to_svg
from tegakari.schemas.circuit import CircuitResult
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
    caption = "Mean effect by layer and component, relative to the largest; dots mark the circuit."
    return Section(
        "Circuits (Figure 1)",
        "Effect of the attention and the MLP of each layer at the last position, by activation patching between "
        f"documents of different labels with a cosine of at least {settings.min_cosine}; the components with a mean "
        f"effect of at least {settings.threshold} are the circuit. Sufficiency is the accuracy with only the circuit "
        "kept divided by full accuracy, necessity the accuracy lost without the circuit; ablated components give "
        "their mean, or zero.",
        per_run(
            [_circuit_basis(circuit) for circuit in circuits]
            + [f"{run.run}: no circuit: {run.no_circuit}" for run in result.runs if run.no_circuit]
        ),
        [
            Grid(
                (
                    "run, ablation",
                    "components",
                    "total effect (95 %)",
                    "share of early / middle / late layers",
                    "sufficiency (95 %)",
                    "necessity (95 %)",
                ),
                [
                    (
                        f"{circuit.run}, {ablated.by}",
                        f"{sum(row.in_circuit for row in circuit.components)} of {len(circuit.components)}",
                        interval(circuit.total),
                        " / ".join(f"{band.share.value:.0%}" if band.share else MISSING for band in circuit.bands),
                        interval(ablated.sufficiency),
                        interval(ablated.necessity),
                    )
                    for circuit in circuits
                    for ablated in circuit.ablated
                ],
            )
        ],
        [Picture(caption, to_svg(effect_maps(circuits)))] if circuits else [],
    )


def _circuit_basis(circuit: CircuitResult) -> str:
    text = (
        f"{circuit.run}: {circuit.pairs} pairs of {circuit.settings.pairs} requested, {circuit.no_gain} of them "
        f"without a difference to restore; sufficiency and necessity on {circuit.documents} documents"
    )
    if circuit.labels_without:
        text += f"; labels without a correctly predicted document: {', '.join(circuit.labels_without)}"
    return text


def knockouts_section(result: StudyResult) -> Section:
    layer = (
        "the layer of largest effect of each run and label (Table 3), whose choice overstates the effect"
        if result.settings.layer is None
        else f"layer {result.settings.layer} (Table 8)"
    )
    results_by_label = zip(*(run.knockouts for run in result.runs), strict=True)
    return Section(
        "Feature knockout (Tables 3 and 8)",
        f"The {result.settings.k} features with the largest d for a label are ablated in a layer's residual, and the "
        "classifier is run again on the label's evaluation documents. Points are the change of recall times 100. The "
        "controls ablate as many other active features, drawn at random, or drawn with about the same density: mean "
        "and standard deviation of their points.",
        f"In {layer}; {result.settings.draws} draws of each control.",
        [
            Grid(
                ("label", "documents", *(f"{run.run}: {name}" for run in result.runs for name in KNOCKOUT_COLUMNS)),
                [
                    (label, str(results[0].documents), *(cell for row in results for cell in knockout_cells(row)))
                    for label, results in zip(result.labels, results_by_label, strict=True)
                ],
            )
        ],
        [
            Picture(
                "Points with 95 % intervals; crosses: random features; circles: random features of the same density.",
                to_svg(label_bars({run.run: run.knockouts for run in result.runs})),
            )
        ],
    )

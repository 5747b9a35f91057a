"""Section about written variants of concepts."""

from __future__ import annotations

from collections.abc import Sequence

from tegakari.analyses.study.sections.layout import Column, Grid, Section, Value, per_run, plain
from tegakari.schemas.study import StudyResult
from tegakari.schemas.variants import VariantsResult


def variants_section(result: StudyResult) -> Section:
    tables = [run.variants for run in result.runs if run.variants]
    return Section(
        "Written variants (Tables 4 and 9)",
        "The k features of a layer with the largest activation in the sentence of a written form, without those of "
        "another form of the concept: the share that remains, mean over ordered pairs, concepts and layers. Two "
        "controls are not in the study: frames, in which all forms of a concept are in the same sentence, so that only "
        "the form differs; and unrelated, pairs of forms of different concepts, which share no meaning. Where "
        "sentences survive like unrelated ones, the figure measures the sentences and not the forms.",
        per_run(
            [_basis(table) for table in tables]
            + [f"{run.run}: no written variants: {run.no_variants}" for run in result.runs if run.no_variants]
        ),
        []
        if not tables
        else [
            Grid(
                "survival",
                (*plain("pairs of", "k"), *(Column("survival (95 %)", table.run) for table in tables)),
                [
                    (rows[0].kind, rows[0].k, *(row.survival for row in rows))
                    for rows in zip(*(table.rows for table in tables), strict=True)
                ],
            ),
            Grid(
                "survival_layers",
                (
                    Column("layer"),
                    *(
                        Column(f"k = {row.k}", table.run)
                        for table in tables
                        for row in table.rows
                        if row.kind == "sentences"
                    ),
                ),
                _survival_by_layer(tables),
            ),
        ],
        [],
    )


def _basis(table: VariantsResult) -> str:
    empty = sum(row.empty for row in table.rows)
    small = sum(row.small for row in table.rows if row.kind == "sentences")
    return (
        f"{table.run}: {len(table.concepts)} concepts, {table.forms} forms; {empty} pairs left out because a sentence "
        f"has no active feature, {small} sets with fewer than k features"
    )


def _survival_by_layer(tables: Sequence[VariantsResult]) -> list[tuple[Value, ...]]:
    """Survival of sentences: a row per layer, a column per run and k."""
    columns = [
        {of_layer.layer: of_layer.survival for of_layer in row.layers}
        for table in tables
        for row in table.rows
        if row.kind == "sentences"
    ]
    layers = sorted({layer for column in columns for layer in column})
    return [(layer, *(column.get(layer) for column in columns)) for layer in layers]

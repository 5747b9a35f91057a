"""Sections about features: specificity, cues, and sparsity."""

from __future__ import annotations

from collections.abc import Sequence

from tegakari.analyses.formatting import (
    MISSING,
    beyond_control,
    interval,
    label_tokens,
)
from tegakari.analyses.study.plots import cue_scatter
from tegakari.analyses.study.sections.layout import Grid, Picture, Section, per_run
from tegakari.analyses.svg import to_svg
from tegakari.analyses.visible_text import visible_tokens
from tegakari.schemas.api import LayerSpecificity
from tegakari.schemas.specificity import SpecificityResult
from tegakari.schemas.study import LabelCues, StudyResult


def specificity_section(result: StudyResult) -> Section:
    tables = [run.specificity for run in result.runs]
    layers = sorted({layer.layer for table in tables for layer in table.layers})
    settings = tables[0].settings
    warnings = "".join(f" {table.run}: {warning}" for table in tables for warning in table.warnings)
    return Section(
        "Label-specific features (Table 2)",
        "A feature carries the labels for which its activation has Cohen's d above "
        f"{tables[0].threshold:g} against all other documents: none (weak), one (specific), or more (shared). Label "
        "variety is their number; it falls as documents are added, and its interval is that of the value which other "
        "documents, as many per label, would give. By chance: the same counts with the labels permuted over the "
        f"documents, mean and 95 % range of {settings.permutations} permutations. Supported: active in at least "
        f"{settings.min_active} documents of the label. Significant: beyond what permuted labels give, with at most a "
        f"share of {settings.fdr:g} of false ones. The study does not define a high d, so several cut-offs are given; "
        f"a feature with high d has a single label if it is specific, at d > {tables[0].threshold:g}.",
        per_run([f"{table.run}: {table.features} features, pooling {table.pooling}" for table in tables]) + warnings,
        [
            Grid(
                (
                    "run",
                    "mean variety (95 %)",
                    "half the documents",
                    "by chance",
                    "weak",
                    "specific",
                    "by chance",
                    "shared",
                    "by chance",
                ),
                [_count_cells(table) for table in tables],
            ),
            Grid(
                (
                    "run",
                    "supported specific",
                    "by chance",
                    "significant",
                    "significant specific",
                    "unweighted d: mean variety",
                    "specific",
                    "shared",
                ),
                [_chance_cells(table) for table in tables],
            ),
            Grid(
                ("run", *(f"d > {high.cutoff:g}: {name}" for high in tables[0].high_d for name in _HIGH_D_COLUMNS)),
                [(table.run, *(cell for cells in _high_d_cells(table) for cell in cells)) for table in tables],
            ),
            Grid(
                (
                    "layer",
                    *(
                        f"{table.run}: {name}"
                        for table in tables
                        for name in ("specific (by chance)", "significant specific", "shared", "mean variety")
                    ),
                ),
                [
                    (str(number), *(cell for table in tables for cell in _layer_cells(table.layers, number)))
                    for number in layers
                ],
            ),
        ],
        [],
    )


_HIGH_D_COLUMNS = ("features", "by chance", "single label")


def _count_cells(table: SpecificityResult) -> tuple[str, ...]:
    return (
        table.run,
        interval(table.mean_variety),
        f"{table.mean_variety_of_half:.3f}",
        interval(table.chance.mean_variety),
        str(table.weak),
        str(table.specific),
        interval(table.chance.specific, 0),
        str(table.shared),
        interval(table.chance.shared, 0),
    )


def _chance_cells(table: SpecificityResult) -> tuple[str, ...]:
    chance = table.chance
    return (
        table.run,
        str(chance.supported),
        interval(chance.supported_by_chance, 0),
        str(chance.significant),
        str(chance.significant_specific),
        f"{table.unweighted.mean_variety:.3f}",
        str(table.unweighted.specific),
        str(table.unweighted.shared),
    )


def _high_d_cells(table: SpecificityResult) -> list[tuple[str, ...]]:
    return [
        (
            str(high.features),
            interval(chance.features, 0),
            f"{high.single_label_share:.1%}" if high.single_label_share is not None else MISSING,
        )
        for high, chance in zip(table.high_d, table.chance.high_d, strict=True)
    ]


def _layer_cells(layers: Sequence[LayerSpecificity], number: int) -> tuple[str, ...]:
    for layer in layers:
        if layer.layer == number and layer.chance:
            return (
                f"{layer.specific} ({layer.chance.specific.value:.1f})",
                str(layer.chance.significant_specific),
                str(layer.shared),
                f"{layer.mean_variety:.3f}",
            )
    return (MISSING,) * 4


def cues_section(result: StudyResult) -> Section:
    cues_by_run = [{cues.label: cues for cues in run.cues} for run in result.runs]
    names = (
        "top token share",
        "unique tokens",
        "the same by token id",
        "tokens of the label (features)",
        "features on such a token",
        "tokens of the first feature",
        "tokens up to its onset by lift",
        "knockout beyond control",
    )
    beyond_by_run = [{row.settings.label: beyond_control(row) for row in run.knockouts} for run in result.runs]
    cut = sum(cues.cut for run in result.runs for cues in run.cues)
    return Section(
        "Cue diversity (Figure 2)",
        "Tokens on which a label's features have at least half their maximum activation: the share of the most "
        "frequent token and the number of different tokens, mean over the features of the knockout. Counted on written "
        "forms (NFKC, lower case, no leading space), and on token ids. A token of the label is in more of its "
        "documents than chance gives (hypergeometric distribution, Bonferroni's bound over all tokens); features are "
        "counted by the one that is most frequent among their strong positions. A feature whose most frequent token is "
        "none of these depends on what surrounds the token, and its share measures no clue: its clue is among the "
        "tokens at or before its onset, by lift over the corpus. The last column says whether the knockout of the "
        "features is beyond its control.",
        "Counted on the strongest positions that a run stores per feature; for "
        f"{cut} features all stored positions count, so there may be more.",
        [
            Grid(
                ("label", *(f"{run.run}: {name}" for run in result.runs for name in names)),
                [
                    (
                        label,
                        *(
                            cell
                            for cues, beyond in zip(cues_by_run, beyond_by_run, strict=True)
                            for cell in (*_cue_cells(cues.get(label)), beyond.get(label, MISSING))
                        ),
                    )
                    for label in result.labels
                ],
            )
        ],
        [Picture("A point per label and run.", to_svg(cue_scatter(result.runs)))],
    )


def _cue_cells(cues: LabelCues | None) -> tuple[str, ...]:
    if cues is None:
        return (MISSING,) * 7
    return (
        interval(cues.top_token_share),
        interval(cues.unique_tokens, 1),
        f"{cues.top_token_share_by_id:.2f}, {cues.unique_tokens_by_id:.1f}",
        label_tokens(cues.label_tokens),
        f"{cues.on_label_tokens} of {len(cues.features)}",
        visible_tokens(token.token for token in cues.features[0].tokens[:5]),
        visible_tokens(cues.features[0].lift_tokens) or MISSING,
    )


def sparsity_section(result: StudyResult) -> Section:
    tables = [run.sparsity for run in result.runs]
    return Section(
        "Activation sparsity (Table 7)",
        "Active features of a document, whose activations are pooled; the top-20 ratio is the share of the 20 "
        "strongest activations in the sum of all. Means over documents, then over layers.",
        per_run([f"{table.run}: {table.documents} documents, pooling {table.pooling}" for table in tables]),
        [
            Grid(
                (
                    "run",
                    "active features per layer (95 %)",
                    "of all layers",
                    "per position and layer",
                    "top-20 ratio (95 %)",
                ),
                [
                    (
                        table.run,
                        interval(table.active, 1),
                        f"{table.active_of_all_layers:.0f}",
                        f"{table.per_position:.1f}",
                        interval(table.top20_ratio),
                    )
                    for table in tables
                ],
            )
        ],
        [],
    )

"""Sections about features: specificity, cues, and sparsity."""

from __future__ import annotations

from collections.abc import Sequence

from tegakari.analyses.formatting import beyond_control, label_tokens, percent
from tegakari.analyses.study.pages import label_link, run_link
from tegakari.analyses.study.plots import cue_scatter
from tegakari.analyses.study.sections.layout import (
    Column,
    Grid,
    Picture,
    Section,
    Value,
    of_run,
    per_run,
    with_decimals,
)
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
                "variety",
                (
                    Column("run"),
                    *of_run("mean label variety", ("all documents (95 %)", "half of them", "by chance")),
                    Column("weak"),
                    *of_run("specific", ("features", Column("by chance", text=_COUNT))),
                    *of_run("shared", ("features", Column("by chance", text=_COUNT))),
                ),
                [_count_values(table) for table in tables],
            ),
            Grid(
                "variety_chance",
                (
                    Column("run"),
                    *of_run("supported specific", ("features", Column("by chance", text=_COUNT))),
                    *of_run("significant", ("features", "specific")),
                    *of_run("by unweighted d", ("mean variety", "specific", "shared")),
                ),
                [_chance_values(table) for table in tables],
            ),
            Grid(
                "high_d",
                (
                    Column("run"),
                    *(
                        column
                        for high in tables[0].high_d
                        for column in of_run(f"d > {high.cutoff:g}", _HIGH_D_COLUMNS)
                    ),
                ),
                [
                    (run_link(table.run), *(value for values in _high_d_values(table) for value in values))
                    for table in tables
                ],
            ),
            Grid(
                "variety_layers",
                (Column("layer"), *(column for table in tables for column in of_run(table.run, _LAYER_COLUMNS))),
                [
                    (number, *(value for table in tables for value in _layer_values(table.layers, number)))
                    for number in layers
                ],
            ),
        ],
        [],
    )


_COUNT = with_decimals(0)
_HIGH_D_COLUMNS = (
    Column("features"),
    Column("by chance", text=_COUNT),
    Column("single label", text=lambda share: percent(share, 1)),
)
_LAYER_COLUMNS = (
    Column("specific"),
    Column("by chance", text=with_decimals(1)),
    Column("significant specific"),
    Column("shared"),
    Column("mean variety"),
)


def _count_values(table: SpecificityResult) -> tuple[Value, ...]:
    return (
        run_link(table.run),
        table.mean_variety,
        table.mean_variety_of_half,
        table.chance.mean_variety,
        table.weak,
        table.specific,
        table.chance.specific,
        table.shared,
        table.chance.shared,
    )


def _chance_values(table: SpecificityResult) -> tuple[Value, ...]:
    chance = table.chance
    return (
        run_link(table.run),
        chance.supported,
        chance.supported_by_chance,
        chance.significant,
        chance.significant_specific,
        table.unweighted.mean_variety,
        table.unweighted.specific,
        table.unweighted.shared,
    )


def _high_d_values(table: SpecificityResult) -> list[tuple[Value, ...]]:
    return [
        (high.features, chance.features, high.single_label_share)
        for high, chance in zip(table.high_d, table.chance.high_d, strict=True)
    ]


def _layer_values(layers: Sequence[LayerSpecificity], number: int) -> tuple[Value, ...]:
    for layer in layers:
        if layer.layer == number and layer.chance:
            return (
                layer.specific,
                layer.chance.specific.value,
                layer.chance.significant_specific,
                layer.shared,
                layer.mean_variety,
            )
    return (None,) * len(_LAYER_COLUMNS)


def cues_section(result: StudyResult) -> Section:
    cues_by_run = [{cues.label: cues for cues in run.cues} for run in result.runs]
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
                "cues",
                (Column("label"), *(column for run in result.runs for column in of_run(run.run, _CUE_COLUMNS))),
                [
                    (
                        label_link(result.runs[0].run, label),
                        *(
                            value
                            for cues, beyond in zip(cues_by_run, beyond_by_run, strict=True)
                            for value in (*_cue_values(cues.get(label)), beyond.get(label))
                        ),
                    )
                    for label in result.labels
                ],
            )
        ],
        [Picture("A point per label and run.", to_svg(cue_scatter(result.runs)))],
    )


_CUE_COLUMNS = (
    Column("top token share (95 %)"),
    Column("unique tokens (95 %)", text=with_decimals(1)),
    Column("top token share by id", text=with_decimals(2)),
    Column("unique token ids", text=with_decimals(1)),
    Column("tokens of the label (features)"),
    Column("features on such a token"),
    Column("of"),
    Column("tokens of the first feature"),
    Column("tokens up to its onset by lift"),
    Column("knockout beyond control"),
)


def _cue_values(cues: LabelCues | None) -> tuple[Value, ...]:
    if cues is None:
        return (None,) * (len(_CUE_COLUMNS) - 1)
    return (
        cues.top_token_share,
        cues.unique_tokens,
        cues.top_token_share_by_id,
        cues.unique_tokens_by_id,
        label_tokens(cues.label_tokens),
        cues.on_label_tokens,
        len(cues.features),
        visible_tokens(token.token for token in cues.features[0].tokens[:5]),
        visible_tokens(cues.features[0].lift_tokens) or None,
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
                "sparsity",
                (
                    Column("run"),
                    *of_run(
                        "active features",
                        (
                            Column("per layer (95 %)", text=with_decimals(1)),
                            Column("of all layers", text=_COUNT),
                            Column("per position and layer", text=with_decimals(1)),
                        ),
                    ),
                    Column("top-20 ratio (95 %)"),
                ),
                [
                    (
                        run_link(table.run),
                        table.active,
                        table.active_of_all_layers,
                        table.per_position,
                        table.top20_ratio,
                    )
                    for table in tables
                ],
            )
        ],
        [],
    )

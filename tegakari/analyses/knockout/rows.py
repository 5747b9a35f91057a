"""Rows of knockouts, for the table KNOCKOUTS."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tegakari.schemas.knockout import KnockoutResult
from tegakari.schemas.tables import KNOCKOUTS
from tegakari.store.column_types import arrow_schema


def knockout_rows(results: Sequence[KnockoutResult]) -> pa.Table:
    """The table KNOCKOUTS: a row per result, in their order."""
    return pa.Table.from_pylist([_row(result) for result in results], schema=arrow_schema(KNOCKOUTS))


def _row(result: KnockoutResult) -> dict[str, object]:
    layers = {feature.layer for feature in result.features} or {result.settings.layer}
    random, matched = result.control, result.density_control
    return {
        "run": result.run,
        "label": result.settings.label or result.settings.documents_of,
        "layer": layers.pop() if len(layers) == 1 else None,
        "k": len(result.features),
        "documents": result.documents,
        "recall_before": result.recall_before,
        "recall_after": result.recall_after,
        "delta": result.delta,
        "delta_low": result.delta_low,
        "delta_high": result.delta_high,
        "net": result.net.value if result.net else None,
        "net_low": result.net.low if result.net else None,
        "net_high": result.net.high if result.net else None,
        "beyond_control": result.beyond_control,
        "margin_before": result.margin.before,
        "margin_after": result.margin.after,
        "margin_net": result.margin.net.value if result.margin.net else None,
        "margin_net_low": result.margin.net.low if result.margin.net else None,
        "margin_net_high": result.margin.net.high if result.margin.net else None,
        "margin_beyond_control": result.margin.beyond_control,
        "holdout": result.settings.holdout,
        "random_mean": random.delta_mean if random else None,
        "random_sd": random.delta_sd if random else None,
        "matched_mean": matched.delta_mean if matched else None,
        "matched_sd": matched.delta_sd if matched else None,
        "macro_f1_before": result.macro_f1_before,
        "macro_f1_partial_ablation": result.macro_f1_partial_ablation,
        "lost_to": result.lost[0].label if result.lost else None,
    }

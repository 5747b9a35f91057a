"""`tegakari specificity`."""

from __future__ import annotations

from tegakari.cli.options import JsonOption, PoolingOption, RunOption, StoreOption, open_source
from tegakari.cli.output import print_json, print_table
from tegakari.cli.values import checked_pooling


def specificity(
    run: RunOption, pooling: PoolingOption = None, store: StoreOption = None, json: JsonOption = False
) -> None:
    """Show, layer by layer, how many features are weak, label-specific and shared.

    Example: [bold]tegakari specificity --run demo-jpn[/]
    """
    rows = list(open_source(store).specificity(run, pooling=checked_pooling(pooling)))
    if json:
        print_json(rows)
        return
    cutoffs = [high.cutoff for high in rows[0].high_d] if rows else []
    print_table(
        f"Label specificity of {run}",
        (
            "layer",
            "expl. var.",
            "L0",
            "weak",
            "specific",
            "shared",
            "mean variety",
            *(f"d > {cutoff}" for cutoff in cutoffs),
        ),
        [
            (
                str(row.layer),
                row.explained_variance,
                row.l0,
                row.weak,
                row.specific,
                row.shared,
                row.mean_variety,
                *(high.features for high in row.high_d),
            )
            for row in rows
        ],
    )

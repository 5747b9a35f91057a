"""`tegakari specificity`."""

from __future__ import annotations

from tegakari.cli.options import JsonOption, PoolingOption, RunOption, StoreOption, open_run
from tegakari.cli.output import print_json, print_table


def specificity(
    run: RunOption, pooling: PoolingOption = None, store: StoreOption = None, json: JsonOption = False
) -> None:
    """Show, layer by layer, how many features are weak, label-specific and shared.

    Example: [bold]tegakari specificity --run demo-jpn[/]
    """
    from tegakari.store import queries

    opened = open_run(run, store)
    found = queries.specificity(opened, pooling=queries.check_pooling(opened, pooling))
    if json:
        print_json(found)
        return
    cutoffs = [high.cutoff for high in found[0].high_d] if found else []
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
            *(f"d > {c}" for c in cutoffs),
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
            for row in found
        ],
    )

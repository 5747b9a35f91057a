"""`tegakari specificity`."""

from __future__ import annotations

from functools import partial

from tegakari.cli.options import JsonOption, PoolingOption, RunOption, StoreOption, open_source
from tegakari.cli.output import print_list
from tegakari.schemas.api import LayerSpecificity


def specificity(
    run: RunOption, pooling: PoolingOption = None, store: StoreOption = None, json: JsonOption = False
) -> None:
    """Show, layer by layer, how many features are weak, label-specific and shared.

    Example: [bold]tegakari specificity --run demo-jpn[/]
    """
    rows = list(open_source(store).specificity(run, pooling=pooling))
    columns = {
        "layer": lambda row: str(row.layer),
        "expl. var.": "explained_variance",
        "L0": "l0",
        "weak": "weak",
        "specific": "specific",
        "shared": "shared",
        "mean variety": "mean_variety",
    }
    for place, high in enumerate(rows[0].high_d if rows else []):
        columns[f"d > {high.cutoff}"] = partial(_high_d, place)
    print_list(rows, columns, title=f"Label specificity of {run}", json=json)


def _high_d(place: int, row: LayerSpecificity) -> int:
    return row.high_d[place].features

"""`tegakari compare`: which features two runs share, and which only one has."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.analyses.formatting import left_out_cosines
from tegakari.cli.options import JsonOption, StoreOption, open_source, split_names
from tegakari.cli.output import out, print_json, print_table
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.matching import CUTOFFS


def compare(
    runs: Annotated[str, typer.Option("--runs", help="Two runs, separated by a comma.")],
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Match the features of two runs by what activates them, and by their decoder directions.

    For a baseline, compare a run with another of the same classifier whose SAEs have another saes.seed.
    `tegakari study` compares their figures.

    Example: [bold]tegakari compare --runs demo-jpn,demo-base[/]
    """
    names = split_names(runs)
    if len(names) != 2:
        raise ConfigError(f"{len(names)} runs are given", field="--runs", fix="give two, separated by a comma")
    result = open_source(store).compare_features(names[0], names[1])
    if json:
        print_json(result)
        return
    print_table(
        f"Features that {' and '.join(names)} share, {result.shared_documents} documents",
        (
            "layer",
            *(f"active, {name}" for name in names),
            *(f"correlation ≥ {cutoff} (chance)" for cutoff in CUTOFFS),
            *(f"cosine ≥ {cutoff}" for cutoff in CUTOFFS),
            *(f"cosine to start, {name}" for name in names),
        ),
        [
            (
                str(row.layer),
                *row.active,
                *(f"{shared.pairs} ({shared.by_chance})" for shared in row.by_correlation),
                *(shared.pairs for shared in row.by_cosine or ()),
                *((None,) * (0 if row.by_cosine else len(CUTOFFS))),
                *(f"{moved.mean_cosine:.2f}" if moved else None for moved in row.moved),
            )
            for row in result.layers
        ],
    )
    for reason in left_out_cosines(result):
        out.print(reason, soft_wrap=True)
    print_table(
        "Label-specific features, and those that only one run has",
        ("run", "label", "specific", "only here", "for example"),
        [(row.run, row.label, row.specific, row.only, "; ".join(row.examples)) for row in result.only],
    )

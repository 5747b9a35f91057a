"""`tegakari compare`: which features two runs share, and which only one has."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, StoreOption, store_directory
from tegakari.cli.output import out, print_json, print_table
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.matching import CUTOFFS


def compare(
    runs: Annotated[str, typer.Option("--runs", help="Two runs, separated by a comma.")],
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Match the features of two runs by what they react to, and by their decoder directions.

    `tegakari study` compares their figures.

    Example: [bold]tegakari compare --runs demo-jpn,demo-base[/]
    """
    from tegakari.analyses.matching import match_features
    from tegakari.store import Store

    names = runs.split(",")
    if len(names) != 2:
        raise ConfigError(f"{len(names)} runs are given", field="--runs", fix="give two, separated by a comma")
    opened = Store(store_directory(store))
    found = match_features(*(opened.run(name) for name in names))
    if json:
        print_json(found)
        return
    print_table(
        f"Features that {' and '.join(names)} share, {found.shared_documents} documents",
        (
            "layer",
            *(f"active, {name}" for name in names),
            *(f"correlation ≥ {cutoff}" for cutoff in CUTOFFS),
            *(f"cosine ≥ {cutoff}" for cutoff in CUTOFFS),
        ),
        [
            (
                str(row.layer),
                *row.active,
                *(each.pairs for each in row.by_correlation),
                *(each.pairs for each in row.by_cosine or ()),
                *((None,) * (0 if row.by_cosine else len(CUTOFFS))),
            )
            for row in found.layers
        ],
    )
    if found.no_cosine:
        out.print(f"directions are not compared: {found.no_cosine}", soft_wrap=True)
    print_table(
        "Label-specific features, and those that only one run has",
        ("run", "label", "specific", "only here", "for example"),
        [(row.run, row.label, row.specific, row.only, "; ".join(row.examples)) for row in found.only],
    )

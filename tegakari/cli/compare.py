"""`tegakari compare`: which features two runs share, and which only one has."""

from __future__ import annotations

from tegakari.analyses.formatting import left_out_cosines
from tegakari.cli.options import CsvOption, JsonOption, RunsOption, StoreOption, open_source
from tegakari.cli.output import print_json, print_table, print_text, write_csv
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.matching import CUTOFFS


def compare(
    runs: RunsOption,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Match the features of two runs by what activates them, and by their decoder directions.

    For a baseline, compare a run with another of the same classifier whose SAEs have another saes.seed.
    `tegakari study` compares their figures.

    Example: [bold]tegakari compare --run demo-jpn --run demo-base[/]
    """
    if len(runs) != 2:
        raise ConfigError(f"{len(runs)} runs are given", field="--run", fix="give two: --run A --run B")
    result = open_source(store).compare_features(runs[0], runs[1])
    if csv:
        write_csv(csv, result.layers)
    if json:
        print_json(result)
        return
    print_table(
        f"Features that {' and '.join(runs)} share, {result.shared_documents} documents",
        (
            "layer",
            *(f"active, {name}" for name in runs),
            *(f"correlation ≥ {cutoff} (chance)" for cutoff in CUTOFFS),
            *(f"cosine ≥ {cutoff}" for cutoff in CUTOFFS),
            *(f"cosine to start, {name}" for name in runs),
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
        print_text(reason)
    print_table(
        "Label-specific features, and those that only one run has",
        ("run", "label", "specific", "only here", "for example"),
        [(row.run, row.label, row.specific, row.only, "; ".join(row.examples)) for row in result.only],
    )

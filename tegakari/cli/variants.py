"""`tegakari variants`: survival of a concept's features over the ways it is written."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.analyses.formatting import interval
from tegakari.cli.options import (
    ConceptsOption,
    CsvOption,
    DeviceOption,
    JsonOption,
    RunsOption,
    StoreDirectoryOption,
    open_runs,
    store_directory,
)
from tegakari.cli.output import page_of, print_json, print_list, progress, write_csv
from tegakari.extras import needs_extra
from tegakari.schemas.variants import VariantsResult


@needs_extra("study")
def variants(
    runs: RunsOption,
    concepts: ConceptsOption = None,
    k: Annotated[list[int] | None, typer.Option("-k", min=1, help="Size of the feature sets; repeatable.")] = None,
    unrelated: Annotated[int, typer.Option(min=1, help="Pairs of forms of different concepts, for comparison.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of these pairs and the intervals.")] = 0,
    device: DeviceOption = "auto",
    csv: CsvOption = None,
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Measure how many of a written form's features remain once those of another form are excluded.

    A result is stored, and read when the same is requested again.

    Example: [bold]tegakari variants --run demo-jpn --run demo-base -k 20 -k 50[/]
    """
    from tegakari.analyses.engine.model_loader import model_loader
    from tegakari.analyses.variants import read_concepts
    from tegakari.analyses.variants import variants as measure
    from tegakari.analyses.variants.settings import variant_sizes

    directory, opened = store_directory(store), open_runs(runs, store)
    concept_list = read_concepts(concepts)
    for run in opened:  # no run is computed if another one refuses the settings
        variant_sizes([run], k or None)
    with progress() as bars:
        results = [
            measure(
                directory,
                run,
                model_loader(run, device),
                concept_list,
                k or None,
                unrelated=unrelated,
                seed=seed,
                progress=bars,
            )
            for run in opened
        ]
    if csv:
        write_csv(csv, [row for result in results for row in result.rows])
    if json:
        print_json(page_of(results))
        return
    for result in results:
        _print(result)


def _print(result: VariantsResult) -> None:
    print_list(
        result.rows,
        {
            "pairs of": "kind",
            "k": "k",
            "survival (95 %)": lambda row: interval(row.survival),
            "pairs": "pairs",
            "sets smaller than k": "small",
            "left out": "empty",
        },
        title=f"Survival in {result.run}: {len(result.concepts)} concepts, {result.forms} forms",
        json=False,
    )

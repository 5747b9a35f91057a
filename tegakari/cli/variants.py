"""`tegakari variants`: how much of a concept's features hangs on the way it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tegakari.analyses.formatting import interval
from tegakari.cli.options import DeviceOption, JsonOption, StoreDirectoryOption, store_directory
from tegakari.cli.output import print_json, print_table, progress
from tegakari.extras import needs_extra
from tegakari.schemas.variants import VariantsResult


@needs_extra("study")
def variants(
    runs: Annotated[str, typer.Option("--runs", help="Runs, separated by commas.")],
    concepts: Annotated[
        Path | None, typer.Option(help="JSON file of concepts and their forms; default: 50 in Japanese.")
    ] = None,
    k: Annotated[list[int] | None, typer.Option("-k", min=1, help="Size of the feature sets; repeatable.")] = None,
    unrelated: Annotated[int, typer.Option(min=1, help="Pairs of forms of different concepts, for comparison.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of these pairs and the intervals.")] = 0,
    device: DeviceOption = "auto",
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Show how much of a written form's features remains once those of another form are excluded.

    A result is stored; asked again, it is read.

    Example: [bold]tegakari variants --runs demo-jpn,demo-base -k 20 -k 50[/]
    """
    from tegakari.analyses.engine.run_models import model_loader
    from tegakari.analyses.variants import read_concepts
    from tegakari.analyses.variants import variants as measure
    from tegakari.analyses.variants.settings import KS
    from tegakari.store import Store

    directory, found = store_directory(store), read_concepts(concepts)
    opened = [Store(directory).run(name) for name in runs.split(",")]
    with progress() as bars:
        results = [
            measure(
                directory,
                run,
                model_loader(run, device),
                found,
                k or KS,
                unrelated=unrelated,
                seed=seed,
                progress=bars,
            )
            for run in opened
        ]
    if json:
        print_json(results)
        return
    for result in results:
        _show(result)


def _show(result: VariantsResult) -> None:
    print_table(
        f"Survival in {result.run}: {len(result.concepts)} concepts, {result.forms} forms",
        ("pairs of", "k", "survival (95 %)", "pairs", "sets smaller than k", "left out"),
        [
            (
                row.kind,
                row.k,
                interval(row.survival),
                row.pairs,
                row.small,
                row.empty,
            )
            for row in result.rows
        ],
    )

"""`tegakari index`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from tegakari.cli.output import print_json, print_text, progress
from tegakari.extras import needs_extra
from tegakari.schemas.config import load_config

WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers", "-w", min=1, max=64, help="Processes; each loads the models. Same tables for any number."
    ),
]


@needs_extra("index")
def index(config: ConfigOption = DEFAULT_CONFIG, workers: WorkersOption = 1, json: JsonOption = False) -> None:
    """Index the corpus and publish a run. An interrupted index resumes with the next shard.

    Example: [bold]tegakari index --workers 2[/]
    """
    from tegakari.indexer.pipeline import index as run

    with progress() as bars:
        result = run(load_config(config), bars, workers=workers)
    manifest = result.manifest
    if json:
        print_json(manifest)
        return
    state = "was published already, from the same inputs" if result.already_published else "published"
    print_text(
        f"run {manifest.run} {state}: {manifest.corpus.documents:,} documents, {manifest.positions:,} positions, "
        f"{len(manifest.saes.layers)} layers, macro-F1 {manifest.scores.macro_f1:.3f}"
    )
    for drop in manifest.skipped:
        print_text(f"  left out: {drop.count:,} documents, {drop.reason} (such as {', '.join(drop.examples)})")
    for doubt in manifest.saes.doubts:
        print_text(f"  doubtful SAEs: {doubt}")

"""`tegakari corpus`: import a corpus and show it."""

from __future__ import annotations

from pathlib import Path

import typer

from tegakari.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from tegakari.cli.output import print_json, print_table, print_text, progress
from tegakari.extras import needs_extra
from tegakari.schemas.config import load_config
from tegakari.schemas.corpus import CorpusManifest

app = typer.Typer(help="Import a labelled corpus, and account for every row of it.", no_args_is_help=True)


@app.command("import")
@needs_extra("index")
def import_(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Import the source: sample the splits, drop unusable rows, and report every drop with its reason.

    Example: [bold]tegakari corpus import[/]
    """
    from tegakari.indexer.corpus import import_corpus

    with progress() as bars:
        manifest = import_corpus(load_config(config).corpus, bars)
    _show(manifest, json)


@app.command("show")
@needs_extra("index")
def show(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Show the counts of the imported corpus.

    Example: [bold]tegakari corpus show --json[/]
    """
    from tegakari.indexer.corpus import read_manifest

    _show(read_manifest(Path(load_config(config).corpus.path)), json)


def _show(manifest: CorpusManifest, json: bool) -> None:
    if json:
        print_json(manifest)
        return
    print_text(
        f"{manifest.rows:,} rows of {manifest.source}: {manifest.documents:,} documents "
        f"({manifest.train:,} train, {manifest.eval:,} eval), {len(manifest.labels):,} labels"
    )
    notes = [("dropped", drop) for drop in manifest.dropped] + [("changed", drop) for drop in manifest.changed]
    if notes:
        print_table(
            "Not taken as they were",
            ("what", "reason", "count", "for example"),
            [(kind, drop.reason, drop.count, ", ".join(drop.examples)) for kind, drop in notes],
        )

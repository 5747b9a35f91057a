"""`tegakari finetune`, `tegakari sae train`, `tegakari index`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import DEFAULT_CONFIG, ConfigOption, DeviceOption, JsonOption, read
from tegakari.cli.output import out, print_json, print_table, progress

sae_app = typer.Typer(help="Train sparse autoencoders, one a layer.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.command("finetune")(finetune)
    app.command("index")(index)


def finetune(config: ConfigOption = DEFAULT_CONFIG, device: DeviceOption = "auto", json: JsonOption = False) -> None:
    """Fine-tune the classifier and score it beside TF-IDF + linear SVC. A killed run resumes.

    Example: [bold]tegakari finetune --config tegakari.toml[/]
    """
    from tegakari.indexer.finetune import finetune as run

    with progress() as bars:
        report = run(read(config), device=device, progress=bars)
    if json:
        print_json(report)
        return
    print_table(
        "Evaluation documents",
        ("model", "macro-F1", "accuracy"),
        [
            ("classifier", report.classifier.macro_f1, report.classifier.accuracy),
            ("TF-IDF + SVC", report.baseline.macro_f1, report.baseline.accuracy),
        ],
    )
    worst = sorted(report.classifier.labels, key=lambda score: score.recall)[:10]
    print_table(
        "Labels of lowest recall",
        ("label", "recall", "precision", "F1", "documents"),
        [(score.label, score.recall, score.precision, score.f1, score.support) for score in worst],
    )


@sae_app.command("train")
def train(config: ConfigOption = DEFAULT_CONFIG, device: DeviceOption = "auto", json: JsonOption = False) -> None:
    """Train one SAE per layer on the residuals of the training documents. A killed run resumes.

    Example: [bold]tegakari sae train[/]
    """
    from tegakari.indexer.sae import train_saes

    with progress() as bars:
        report = train_saes(read(config), device=device, progress=bars)
    if json:
        print_json(report)
        return
    print_table(
        "SAEs on held-out documents",
        ("layer", "explained variance", "L0", "dead share"),
        [(layer.layer, layer.explained_variance, layer.l0, layer.dead_share) for layer in report.layers],
    )


WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers", "-w", min=1, max=64, help="Processes; each loads the models. Same tables for any number."
    ),
]


def index(config: ConfigOption = DEFAULT_CONFIG, workers: WorkersOption = 1, json: JsonOption = False) -> None:
    """Index the corpus and publish a run. A killed index goes on with the next shard.

    Example: [bold]tegakari index --workers 2[/]
    """
    from tegakari.indexer.index import index as run

    with progress() as bars:
        result = run(read(config), bars, workers=workers)
    manifest = result.manifest
    if json:
        print_json(manifest)
        return
    state = "was published already, from the same inputs" if result.already_published else "published"
    out.print(
        f"run {manifest.run} {state}: {manifest.corpus.documents:,} documents, {manifest.positions:,} positions, "
        f"{len(manifest.saes.layers)} layers, macro-F1 {manifest.scores.macro_f1:.3f}"
    )
    for drop in manifest.skipped:
        out.print(f"  left out: {drop.count:,} documents, {drop.reason} (such as {', '.join(drop.examples)})")

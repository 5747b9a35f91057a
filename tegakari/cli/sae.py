"""`tegakari sae`: train sparse autoencoders."""

from __future__ import annotations

import typer

from tegakari.cli.options import DEFAULT_CONFIG, ConfigOption, DeviceOption, JsonOption, read
from tegakari.cli.output import print_json, print_table, progress
from tegakari.extras import needs_extra

app = typer.Typer(help="Train sparse autoencoders, one per layer.", no_args_is_help=True)


@app.command("train")
@needs_extra("index")
def train(config: ConfigOption = DEFAULT_CONFIG, device: DeviceOption = "auto", json: JsonOption = False) -> None:
    """Train one SAE per layer on the residuals of the training documents. A killed run resumes.

    Example: [bold]tegakari sae train[/]
    """
    from tegakari.indexer.training.saes import train_saes

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

"""`tegakari sae`: train sparse autoencoders."""

from __future__ import annotations

import typer

from tegakari.cli.options import DEFAULT_CONFIG, ConfigOption, DeviceOption, JsonOption
from tegakari.cli.output import print_list, progress
from tegakari.extras import needs_extra
from tegakari.schemas.config import load_config

app = typer.Typer(help="Train sparse autoencoders, one per layer.", no_args_is_help=True)


@app.command("train")
@needs_extra("index")
def train(config: ConfigOption = DEFAULT_CONFIG, device: DeviceOption = "auto", json: JsonOption = False) -> None:
    """Train one SAE per layer on the residuals of the training documents. An interrupted run resumes.

    Example: [bold]tegakari sae train[/]
    """
    from tegakari.indexer.training.saes import train_saes

    with progress() as bars:
        report = train_saes(load_config(config), device=device, progress=bars)
    columns = ("layer", "explained_variance", "explained_variance_all", "outlier_positions", "l0", "dead_share")
    print_list(report.layers, columns, title="SAEs on held-out documents", json=json, document=report)

"""`tegakari sae`: train sparse autoencoders."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from tegakari.cli.options import DEFAULT_CONFIG, ConfigOption, DeviceOption, JsonOption
from tegakari.cli.output import print_list, progress
from tegakari.extras import needs_extra
from tegakari.schemas.config import load_config
from tegakari.schemas.progress import NoProgress

DevicesOption = Annotated[
    int,
    typer.Option(
        "--devices",
        min=1,
        max=1024,
        help="Devices that train together: GPUs of this machine, or as many processes on its CPU. Same SAEs for any "
        "number.",
    ),
]

app = typer.Typer(help="Train sparse autoencoders, one per layer.", no_args_is_help=True)


@app.command("train")
@needs_extra("index")
def train(
    config: ConfigOption = DEFAULT_CONFIG,
    device: DeviceOption = "auto",
    devices: DevicesOption = 1,
    json: JsonOption = False,
) -> None:
    """Train one SAE per layer on the residuals of the training documents. An interrupted run resumes.

    Example: [bold]tegakari sae train --devices 8[/]; on several machines, torchrun starts the command.
    """
    from tegakari.indexer.training.saes import ranks_of_environment, train_saes_on_devices

    is_first = ranks_of_environment().is_first
    with progress() if is_first else nullcontext(NoProgress()) as bars:
        report = train_saes_on_devices(load_config(config), devices=devices, device=device, progress=bars)
    if not is_first:  # one of several processes that torchrun has started
        return
    columns = ("layer", "explained_variance", "explained_variance_all", "outlier_positions", "l0", "dead_share")
    print_list(report.layers, columns, title="SAEs on held-out documents", json=json, document=report)

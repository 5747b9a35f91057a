"""`tegakari knockout`: what breaks without a label's features."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from tegakari.cli.options import DeviceOption, JsonOption, PoolingOption, RunOption, StoreOption, store_directory
from tegakari.cli.output import out, print_json, print_table, progress
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings


def register(app: typer.Typer) -> None:
    app.command("knockout")(knockout)


def knockout(
    run: RunOption,
    label: Annotated[list[str], typer.Option("--label", "-l", help="Label; may be given more than once.")],
    layer: Annotated[list[int], typer.Option(help="Layer; may be given more than once.")],
    k: Annotated[int, typer.Option("-k", help="Features with the largest d that are taken out.")] = 20,
    pooling: PoolingOption = None,
    mode: Annotated[str, typer.Option(help="error_preserving or reconstruction.")] = "error_preserving",
    positions: Annotated[str, typer.Option(help="all, or last: only the last position.")] = "all",
    draws: Annotated[int, typer.Option(help="Random sets of as many features, for comparison.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the random sets and of the interval.")] = 0,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Take the features of a label out of a layer, and see what the classifier makes of the label's documents.

    An answer is stored; asked again, it is read.

    Example: [bold]tegakari knockout --run demo-jpn --label 自動車 --layer 2 -k 20[/]
    """
    from tegakari.analyses.knockout import knock_out_all
    from tegakari.analyses.run_models import load_run_models
    from tegakari.store import Store

    directory = store_directory(store)
    opened = Store(directory).run(run)
    asked = [
        _settings(
            label=name, layer=number, k=k, pooling=pooling, mode=mode, positions=positions, draws=draws, seed=seed
        )
        for name in label
        for number in layer
    ]
    with progress() as bars:
        task = bars.add_task("knocking out", total=None)
        results = knock_out_all(
            directory,
            opened,
            lambda: load_run_models(opened, device),
            asked,
            report=lambda done, total: bars.update(task, completed=done, total=total),
        )
    if json:
        print_json(results)
        return
    _show(results)


def _settings(**asked: object) -> KnockoutSettings:
    try:
        return msgspec.convert(asked, KnockoutSettings)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$.")
        raise ConfigError(reason, field=f"--{where.rstrip('`')}", fix="see `tegakari knockout --help`") from None


def _show(results: list[KnockoutResult]) -> None:
    print_table(
        f"Recall without the label's features, {results[0].run}",
        ("label", "layer", "k", "documents", "before", "after", "points", "95 % interval", "random features", "go to"),
        [
            (
                row.settings.label,
                row.settings.layer,
                len(row.features),
                row.documents,
                row.recall_before,
                row.recall_after,
                f"{row.delta:+.1f}",
                f"{row.delta_low:+.1f} to {row.delta_high:+.1f}",
                f"{row.control.delta_mean:+.1f} ± {row.control.delta_sd:.1f}" if row.control else "-",
                ", ".join(f"{place.label} {place.documents}" for place in row.lost[:3]),
            )
            for row in results
        ],
    )
    for row in results:
        if row.recall_reconstructed is not None:
            out.print(f"{row.settings.label}: reconstruction with nothing taken out: {row.recall_reconstructed:.3f}")

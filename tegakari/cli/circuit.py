"""`tegakari circuit`: which attention and MLP blocks a classifier's predictions hang on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tegakari.analyses.formatting import interval
from tegakari.cli.knockout import converted
from tegakari.cli.options import DeviceOption, JsonOption, StoreDirectoryOption, store_directory
from tegakari.cli.output import out, print_json, print_table, progress
from tegakari.extras import needs_extra
from tegakari.schemas.circuit import CircuitResult, CircuitSettings


@needs_extra("study")
def circuit(
    runs: Annotated[str, typer.Option(help="Runs, separated by commas.")],
    pairs: Annotated[int, typer.Option(help="Pairs of documents that are drawn.")] = 1000,
    min_cosine: Annotated[float, typer.Option(help="Least cosine of a pair's embeddings.")] = 0.8,
    threshold: Annotated[float, typer.Option(help="Least mean effect of a component in the circuit.")] = 0.01,
    documents: Annotated[int, typer.Option(help="Documents for sufficiency and necessity.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the draws and the intervals.")] = 0,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write the study's Figure 1, SVG, to this file.")] = None,
    device: DeviceOption = "auto",
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Find the components that carry predictions, by activation patching at the last position, as the study does.

    A result is stored; asked again, it is read.

    Example: [bold]tegakari circuit --runs demo-jpn,demo-base --plot circuit.svg[/]
    """
    from tegakari.analyses.circuit import circuit as find_circuit
    from tegakari.analyses.engine.run_models import model_loader
    from tegakari.store import Store

    directory = store_directory(store)
    opened = [Store(directory).run(name) for name in runs.split(",")]
    asked = converted(
        CircuitSettings,
        pairs=pairs,
        min_cosine=min_cosine,
        threshold=threshold,
        documents=documents,
        seed=seed,
    )
    with progress() as bars:
        results = [find_circuit(directory, run, model_loader(run, device), asked, progress=bars) for run in opened]
    if plot:
        from tegakari.analyses.circuit.plots import effect_maps
        from tegakari.analyses.svg import save_svg

        save_svg(effect_maps(results), plot)
    if json:
        print_json(results)
        return
    for result in results:
        _show(result)
    if plot:
        out.print(f"wrote {plot}", soft_wrap=True)


def _show(result: CircuitResult) -> None:
    inside = [each for each in result.components if each.in_circuit]
    print_table(
        f"Circuit of {result.run}: {len(inside)} of {len(result.components)} components",
        ("layer", "component", "effect (95 %)"),
        [(str(each.layer), each.component, interval(each.effect)) for each in inside],
    )
    asked = "" if result.pairs == result.settings.pairs else f" ({result.settings.pairs} asked for, no more qualify)"
    shares = ", ".join(
        f"{band.band} {band.first}-{band.last}: {band.share.value:.0%}" for band in result.bands if band.share
    )
    lines = [
        f"{result.pairs} pairs{asked}, {result.no_gain} of them without a difference to restore; "
        f"total {interval(result.total)}",
        f"share of layers: {shares}" if shares else "",
        f"labels without a correctly predicted document: {', '.join(result.labels_without)}"
        if result.labels_without
        else "",
    ]
    for each in result.ablated:
        lines.append(
            f"ablated by {each.by}, {result.documents} documents: sufficiency {interval(each.sufficiency)}, "
            f"necessity {interval(each.necessity)}"
        )
    for line in filter(None, lines):
        out.print(line, soft_wrap=True)

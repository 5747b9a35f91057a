"""Knockouts on the screen and in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tegakari.analyses.formatting import KNOCKOUT_COLUMNS, knockout_cells, sae_quality
from tegakari.cli.output import print_table, print_text, print_written
from tegakari.schemas.knockout import KnockoutResult, LayerChoice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DROP = ("same density", "random", "margin, net (95 %)", "documents", "go to", "points (95 %)")
"""Columns that a narrow terminal leaves out first."""


def destinations(result: KnockoutResult, n: int) -> str:
    """The n labels that most of the lost documents are predicted as."""
    return ", ".join(f"{place.label} {place.documents}" for place in result.lost[:n])


def print_knockouts(title: str, results: Sequence[KnockoutResult]) -> None:
    """Knockouts as a table, one row each."""
    print_table(
        title,
        ("label", "layer", "k", "documents", *KNOCKOUT_COLUMNS[1:], "go to"),
        [
            (
                result.settings.label or result.settings.documents_of or "-",
                cells.layer,
                len(result.features),
                result.documents,
                *cells[1:],
                destinations(result, 1),
            )
            for result, cells in zip(results, map(knockout_cells, results), strict=True)
        ],
        drop=DROP,
    )
    for result in results:
        if result.recall_reconstructed is not None:
            print_text(
                f"{result.settings.label or 'these features'}: recall with the reconstruction of all features: "
                f"{result.recall_reconstructed:.3f}"
            )
    print_saes(results)


def print_saes(results: Sequence[KnockoutResult]) -> None:
    """Quality of the SAEs whose features were ablated, a line per run and layer."""
    saes = {(result.run, sae.layer): sae for result in results for sae in result.saes}
    for (run, layer), sae in sorted(saes.items()):
        print_text(f"{run}, SAE of layer {layer}: {sae_quality(sae)}")


def print_choice(choice: LayerChoice) -> None:
    """The layer of a table, and the effects that it was chosen by."""
    effects = ", ".join(
        f"{effect.layer}: {'left out' if effect.net is None else format(effect.net, '+.1f')}"
        for effect in choice.effects
    )
    print_text(f"{choice.run}: layer {choice.layer} of largest mean net effect, by layer {effects}")


def print_side_by_side(results: Mapping[str, Sequence[KnockoutResult]]) -> None:
    """Knockouts of the same labels in several runs, the runs of a label one below the other."""
    print_table(
        f"Recall without a label's features: {' | '.join(results)}",
        ("label", "run", *KNOCKOUT_COLUMNS),
        [
            (result.settings.label, result.run, *knockout_cells(result))
            for of_label in zip(*results.values(), strict=True)
            for result in of_label
        ],
        drop=DROP,
    )
    print_saes([result for of_run in results.values() for result in of_run])


def write_knockouts(path: Path | None, results: Sequence[KnockoutResult]) -> None:
    """Write the table of knockouts to the file of a `--csv` option, if it is given."""
    if path is None:
        return
    from tegakari.analyses.knockout.rows import knockout_rows
    from tegakari.store.export.formats import format_of, write

    with path.open("wb") as sink:
        write(sink, knockout_rows(results).to_reader(), format_of(path))
    print_written(path)


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure to the file of a `--plot` option."""
    from tegakari.analyses.svg import save_svg

    save_svg(figure, path)
    print_written(path)

"""What the reports state, checked where the truth is known: coverage of 95 % intervals, and false statements by chance.

    python -m benchmarks.truth [--seeds 1000] [NAME ...]

Every simulation draws samples from a known truth, calls the functions that the reports use, and counts. A row is marked
where its share is outside its bounds. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.truth.row import Row

NOT_SIMULATIONS = {"__init__", "__main__", "row"}


def simulations() -> list[str]:
    """Names of the modules that have a simulation."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem not in NOT_SIMULATIONS)


def within(row: Row) -> bool:
    """Whether a share is within its bounds."""
    return (row.at_least is None or row.value >= row.at_least) and (row.at_most is None or row.value <= row.at_most)


def bounds(row: Row) -> str:
    """The bounds of a row as text."""
    low, high = (None if bound is None else f"{bound:.1%}" for bound in (row.at_least, row.at_most))
    return f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}" if high else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(simulations())}; default: all")
    parser.add_argument("--seeds", type=int, default=1000, help="samples per case; simulations that train draw fewer")
    arguments = parser.parse_args()
    console = Console(width=130)
    figures: dict[str, list[dict[str, object]]] = {}
    for name in arguments.names or simulations():
        started = time.perf_counter()
        rows: list[Row] = import_module(f"benchmarks.truth.{name}").simulate(arguments.seeds)
        table = Table(
            "figure", "case", "share", "bounds", "samples", title=f"{name}: {time.perf_counter() - started:.0f} s"
        )
        for row in rows:
            share = f"{row.value:.1%}" if within(row) else f"[bold red]{row.value:.1%}[/]"
            table.add_row(row.figure, row.case, share, bounds(row), f"{row.n:,}")
        console.print(table)
        figures[name] = [{**row._asdict(), "within": within(row)} for row in rows]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""The merge of a run of the study's shape, against the merge of commit d8cd02c.

    python -m benchmarks.merge [--layers 3] [--repeats 3] [--threads N]

Synthetic partials of 9,216 features, 107 labels and 12,650 documents per layer (`benchmarks/study_scale.py`). A round
merges them with the code of d8cd02c, which git has, and with this code, each in a new process and from partials that it
wrote itself; a figure is the median over rounds of the ratio of the two. Time runs from the first read of a partial to
closed tables. Without git there is no ratio. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, rounded
from benchmarks.study_scale import Size

WORK = Path(__file__).parent / "work"
ROOT = Path(__file__).parent.parent
BEFORE = "d8cd02c"
"""The last commit whose merge sorts every layer as a whole, with one layer at a time."""

console = Console(width=120)


class Side(NamedTuple):
    """One version of the merge."""

    name: str
    tree: Path
    """directory of its `tegakari` and `benchmarks`"""
    directory: Path
    """of its partials"""

    def run(self, action: str, size: Size, *options: str) -> str:
        command = [sys.executable, "-P", str(ROOT / "benchmarks" / "merge_process.py"), action, str(self.directory)]
        environment = os.environ | {"PYTHONPATH": str(self.tree)}
        self.directory.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [*command, json.dumps(size._asdict()), *options], stdout=subprocess.PIPE, check=True, env=environment
        )
        return done.stdout.decode()

    def merge(self, size: Size, *options: str) -> dict[str, float]:
        return json.loads(self.run("merge", size, *options).splitlines()[-1])


def code_before(work: Path) -> Path | None:
    """The tree of BEFORE, taken from git; None without it."""
    tree = work / f"merge-{BEFORE}"
    if not tree.is_dir():
        command = ["git", "-C", str(ROOT), "archive", BEFORE, "tegakari", "benchmarks"]
        try:
            archive = subprocess.run(command, capture_output=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return None
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(tree, filter="data")
    return tree


def measure(sides: Sequence[Side], size: Size, repeats: int, threads: str) -> dict[str, list[dict[str, float]]]:
    """Figures of each side, by its name: one per round."""
    for side in sides:
        console.print(f"partials of {side.name}")
        side.run("generate", size)
    figures: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
    for _ in range(repeats):
        for side in sides:
            options = (threads,) if side.name == "now" and threads else ()
            figures[side.name].append(side.merge(size, *options))
            console.print(f"{side.name}: {rounded(figures[side.name][-1])}")
    return figures


def show(figures: dict[str, list[dict[str, float]]], size: Size) -> None:
    title = (
        f"Merge of {size.layers} layers of {size.d_sae:,} features, {size.labels} labels, {size.documents:,} documents"
    )
    table = Table(title=title, title_justify="left")
    for column in ("", "median s", "median processor s", "peak MB", "activations"):
        table.add_column(column, justify="right" if column else "left")
    for name, rounds in figures.items():
        columns = ("seconds", "processor_seconds", "peak_megabytes", "activations")
        seconds, processor, peak, activations = (statistics.median(row[column] for row in rounds) for column in columns)
        table.add_row(name, f"{seconds:.2f}", f"{processor:.2f}", f"{peak:,.0f}", f"{activations:,.0f}")
    console.print(table)


def ratio(figures: dict[str, list[dict[str, float]]], column: str) -> float | None:
    """Median over rounds of this code's figure over the one before; None if only this code was run."""
    if "before" not in figures:
        return None
    return statistics.median(
        now[column] / before[column] for now, before in zip(figures["now"], figures["before"], strict=True)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The merge of a run against that of an earlier commit.")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--documents", type=int, default=Size().documents)
    parser.add_argument("--d-sae", type=int, default=Size().d_sae)
    parser.add_argument("--active", type=int, default=Size().active, help="active features of a document and layer")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--threads", default="", help="layers merged at a time; default: as cores and memory allow")
    parser.add_argument("--no-before", action="store_true", help="measure this code alone")
    parser.add_argument("--work", type=Path, default=WORK, help="directory for partials")
    options = parser.parse_args(arguments)
    size = Size(layers=options.layers, documents=options.documents, d_sae=options.d_sae, active=options.active)
    root = options.work.resolve() / f"merge-{size.layers}x{size.d_sae}-{size.documents}"
    tree = None if options.no_before else code_before(options.work.resolve())
    sides = [Side("before", tree, root / "before")] if tree else []
    figures = measure([*sides, Side("now", ROOT, root / "now")], size, options.repeats, options.threads)
    show(figures, size)
    result = {
        "merge_over_before": ratio(figures, "seconds"),
        "merge_over_before_processor": ratio(figures, "processor_seconds"),
        "merge_seconds": statistics.median(row["seconds"] for row in figures["now"]),
        "merge_peak_megabytes": statistics.median(row["peak_megabytes"] for row in figures["now"]),
        "layers": size.layers,
        "documents": size.documents,
        "cores": os.cpu_count(),
    }
    sys.stdout.write(json.dumps(rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()

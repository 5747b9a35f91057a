"""Figures of the demo with their spread over seeds, as the page docs/demo.md.

    python -m benchmarks.demo_figures [--seeds 3] [--directory demo-figures] [--write docs/demo.md]

Each seed draws another corpus, trains other models and SAEs, and gets its own study. The page has the median of each
figure and its lowest and highest value; the last line of the output is one JSON object with all values. Demos and
studies that exist in the directory are not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tegakari.demo.communities import COMMUNITIES

RUNS = ("demo-jpn", "demo-base")
Study = dict[str, Any]
"""Content of `tegakari study --format json`."""

DEPENDENCES = {"single": "one clue", "redundant": "three to five clues", "mixed": "one or two clues"}


class Figure(NamedTuple):
    """A figure of one run of a study."""

    name: str
    section: str
    value: Callable[[Study, int], float | None]
    """of a study and the number of its run; None where the study has no such figure"""
    digits: int


def high_d(cutoff: float, name: str) -> Callable[[Study, int], float | None]:
    """Figure of the features above a cut-off of Cohen's d."""

    def value(study: Study, number: int) -> float | None:
        rows = study["runs"][number]["specificity"]["high_d"]
        return next(row[name] for row in rows if row["cutoff"] == cutoff)

    return value


def of_labels(dependence: str) -> Callable[[Study, int], float | None]:
    """Mean points of the labels whose clues have a dependence."""
    labels = {community.label for community in COMMUNITIES if community.dependence == dependence}

    def value(study: Study, number: int) -> float | None:
        knockouts = study["runs"][number]["knockouts"]
        return fmean(row["delta"] for row in knockouts if row["settings"]["label"] in labels)

    return value


def survival(kind: str, k: int) -> Callable[[Study, int], float | None]:
    """Survival of written variants."""

    def value(study: Study, number: int) -> float | None:
        rows = study["runs"][number]["variants"]["rows"]
        (row,) = (row for row in rows if (row["kind"], row["k"]) == (kind, k))
        return row["survival"]["value"] if row["survival"] else None

    return value


def run_value(*path: str | int) -> Callable[[Study, int], float | None]:
    """Figure of a run by its path in the JSON."""

    def value(study: Study, number: int) -> float | None:
        node = study["runs"][number]
        for part in path:
            node = node[part] if node is not None else None
        return node

    return value


def circuit_share(band: str) -> Callable[[Study, int], float | None]:
    """Share of a third of the layers in the circuit's total effect, in percent."""

    def value(study: Study, number: int) -> float | None:
        (row,) = (row for row in study["runs"][number]["circuit"]["bands"] if row["band"] == band)
        return 100 * row["share"]["value"] if row["share"] else None

    return value


def circuit_components(study: Study, number: int) -> float:
    """Number of components in the circuit."""
    return sum(row["in_circuit"] for row in study["runs"][number]["circuit"]["components"])


FIGURES = (
    Figure("macro-F1", "Classification", run_value("classification", "macro_f1", "value"), 3),
    Figure("macro-F1 of the baseline", "Classification", run_value("classification", "baseline_macro_f1"), 3),
    Figure("mean label variety", "Features", run_value("specificity", "mean_variety", "value"), 3),
    Figure("label-specific features", "Features", run_value("specificity", "specific"), 0),
    Figure("features with d > 1.5", "Features", high_d(1.5, "features"), 0),
    Figure("of them with a single label, share", "Features", high_d(1.5, "single_label_share"), 3),
    Figure("active features of a document and layer", "Features", run_value("sparsity", "active", "value"), 1),
    Figure("top-20 ratio", "Features", run_value("sparsity", "top20_ratio", "value"), 3),
    Figure("layer of the knockouts", "Knockouts", run_value("knockouts", 0, "settings", "layer"), 0),
    Figure("labels beyond their control, of 16", "Knockouts", run_value("knockout_mean", "beyond_control"), 0),
    Figure("net points, mean of all labels", "Knockouts", run_value("knockout_mean", "net_of_all", "value"), 1),
    *(Figure(f"points, labels of {text}", "Knockouts", of_labels(name), 1) for name, text in DEPENDENCES.items()),
    Figure("components in the circuit, of 8", "Circuit", circuit_components, 0),
    Figure("total effect", "Circuit", run_value("circuit", "total", "value"), 2),
    *(Figure(f"share of {band} layers, %", "Circuit", circuit_share(band), 0) for band in ("early", "middle", "late")),
    Figure(
        "sufficiency, ablation by the mean", "Circuit", run_value("circuit", "ablated", 0, "sufficiency", "value"), 2
    ),
    Figure("necessity, ablation by the mean", "Circuit", run_value("circuit", "ablated", 0, "necessity", "value"), 2),
    *(
        Figure(f"survival, k = {k}, {kind}", "Written variants", survival(kind, k), 3)
        for k in (20, 100)
        for kind in ("sentences", "frames", "unrelated")
    ),
)


def study_of(directory: Path, seed: int) -> Study:
    """The study of the demo of a seed, made if the directory lacks it."""
    work = directory / f"seed-{seed}"
    report = work / "study.json"
    if not report.is_file():
        _tegakari("demo", str(work), "--no-serve", "--seed", str(seed))
        _tegakari(
            "study",
            *(part for run in RUNS for part in ("--run", run)),
            "--store",
            str(work / "store"),
            "--format",
            "json",
            "-o",
            str(report),
        )
    return json.loads(report.read_bytes())


def _tegakari(*arguments: str) -> None:
    subprocess.run([sys.executable, "-c", "from tegakari.cli import main; main()", *arguments], check=True)


def spread(values: Sequence[float | None], digits: int) -> str:
    """Median of values with the lowest and the highest: `0.91 (0.88 to 0.93)`."""
    present = [value for value in values if value is not None]
    if not present:
        return "-"
    middle, low, high = (f"{value:.{digits}f}" for value in (median(present), min(present), max(present)))
    return f"{middle} ({low} to {high})" if low != high else middle


def page(studies: Sequence[Study], commit: str) -> str:
    """The page docs/demo.md."""
    lines = [
        "# The demo in figures",
        "",
        f"Figures of `tegakari demo` and `tegakari study` over {len(studies)} seeds: the median, and the lowest and",
        "highest value. Every seed draws another corpus and trains other models and SAEs, so a difference that changes",
        "its sign between seeds is none.",
        "",
        f"`make bench-demo-figures` wrote this page on {datetime.now(UTC):%Y-%m-%d} at commit {commit}.",
    ]
    section = ""
    for figure in FIGURES:
        if figure.section != section:
            section = figure.section
            lines += [
                "",
                f"## {section}",
                "",
                f"| figure | {' | '.join(RUNS)} | second minus first |",
                "|---|---|---|---|",
            ]
        a, b = values_of(studies, figure)
        change = [y - x if x is not None and y is not None else None for x, y in zip(a, b, strict=True)]
        cells = " | ".join(spread(values, figure.digits) for values in (a, b, change))
        lines.append(f"| {figure.name} | {cells} |")
    return "\n".join(lines) + "\n"


def values_of(studies: Sequence[Study], figure: Figure) -> list[list[float | None]]:
    """Values of a figure by run, one per study."""
    return [[figure.value(study, number) for study in studies] for number in range(len(RUNS))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path("demo-figures"))
    parser.add_argument("--write", type=Path, default=Path("docs/demo.md"))
    arguments = parser.parse_args()
    studies = [study_of(arguments.directory, seed) for seed in range(arguments.seeds)]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    arguments.write.write_text(page(studies, commit.strip() or "unknown"), encoding="utf-8")
    table = Table("figure", *RUNS, title=f"median (lowest to highest) over {len(studies)} seeds")
    for figure in FIGURES:
        table.add_row(figure.name, *(spread(values, figure.digits) for values in values_of(studies, figure)))
    Console(width=120).print(table)
    print(json.dumps({figure.name: values_of(studies, figure) for figure in FIGURES}, ensure_ascii=False))


if __name__ == "__main__":
    main()

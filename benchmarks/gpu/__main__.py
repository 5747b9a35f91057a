"""All measurements of a GPU, in one command.

    python -m benchmarks.gpu [--part encode --part index ...] [--all] [--documents 2560] [--smoke]

Parts: `parity` (whether the card computes what a CPU does; if not, nothing else is measured), `encode` (sparse encode
as the indexer calls it), `attention` (eager and in one kernel), `index` (all stages against the best forward pass of
the same documents), `rerun` (knockouts and patching), `train` (SAE training and fine-tuning), `sae_steps` (a step of
SAE training by piece). With --all also `kernels` (where the time of each goes), `settings` (launch settings of encode's
kernels) and `tests` (those of the kernels). Shapes of gemma-2-2b and of the study's SAEs with random weights, bfloat16.
--smoke runs all of it but `tests` at tiny shapes on a CPU. Writes benchmarks/gpu/CARD-DATE.json part by part; the last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
import transformers
import triton

from benchmarks.case import SMALL, Shape, make_case
from benchmarks.gpu import (
    attention,
    encode,
    index,
    kernel_tests,
    kernel_times,
    parity,
    rerun,
    sae_steps,
    settings,
    train,
)
from benchmarks.gpu.parts import figures_of
from benchmarks.machine import machine, rounded

LABELS = 12

MEASUREMENTS = ("parity", "encode", "attention", "index", "rerun", "train", "sae_steps")
"""Parts without --all."""


def index_figures(documents: int, *, smoke: bool) -> dict[str, float]:
    """Figures of `index` on a case in a temporary directory."""
    with tempfile.TemporaryDirectory() as directory:
        shape = SMALL if smoke else Shape()
        return index.measure(make_case(Path(directory), shape, documents, labels=LABELS), smoke)


def main(arguments: Sequence[str] | None = None) -> None:
    parts: dict[str, Callable[[bool, int], dict[str, float]]] = {
        "parity": lambda smoke, _documents: parity.measure(smoke),
        "encode": lambda smoke, _documents: encode.measure(smoke),
        "attention": lambda smoke, _documents: attention.measure(smoke),
        "index": lambda smoke, documents: index_figures(documents, smoke=smoke),
        "rerun": lambda smoke, _documents: rerun.measure(smoke),
        "train": lambda smoke, _documents: train.measure(smoke),
        "sae_steps": lambda smoke, _documents: sae_steps.measure(smoke),
        "kernels": lambda smoke, _documents: kernel_times.measure(smoke),
        "settings": lambda smoke, _documents: settings.measure(smoke),
        "tests": lambda smoke, _documents: kernel_tests.measure(smoke),
    }
    parser = argparse.ArgumentParser(description="All measurements of a GPU.")
    parser.add_argument("--part", action="append", choices=list(parts), help="only this one; repeatable")
    parser.add_argument("--all", action="store_true", help="all parts")
    parser.add_argument("--documents", type=int, help="of the index; default 2560, with --smoke 24")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--output", type=Path, help="file of the figures; default benchmarks/gpu/CARD-DATE.json")
    options = parser.parse_args(arguments)
    if not options.smoke and not torch.cuda.is_available():
        parser.error("there is no GPU; --smoke runs everything at tiny shapes on a CPU")
    documents = options.documents or (24 if options.smoke else 2560)
    card = "smoke" if options.smoke else torch.cuda.get_device_name()
    facts = {
        "card": card,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "transformers": transformers.__version__,
        "documents": documents,
    } | machine()
    output = options.output or Path(__file__).parent / f"{card.replace(' ', '-').lower()}-{facts['date']}.json"
    figures: dict[str, float] = {}
    for name in options.part or (parts if options.all else MEASUREMENTS):
        work = partial(parts[name], options.smoke, documents)
        figures |= figures_of({name: work}, strict=options.smoke)
        if not options.smoke or options.output:  # part by part: a run that is stopped keeps what it has
            output.write_text(json.dumps(facts | rounded(figures), indent=1) + "\n", encoding="utf-8")
        if name == "parity" and "parity_files_that_differ" not in figures:
            sys.exit("the device does not compute what a CPU does: nothing else was measured")
    sys.stdout.write(json.dumps(facts | rounded(figures)) + "\n")


if __name__ == "__main__":
    main()

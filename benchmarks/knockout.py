"""Knockouts against re-running the whole model with a hook.

    python -m benchmarks.knockout [--layers 26] [--d-model 2304] [--documents 4] [--repeats 3]

gemma-2-2b's shapes with random weights (all widths follow --d-model), 20 features of layer 24 ablated. Both ways make
the same edit from the same 20 columns of the encoder; the naive one makes it in a hook of an ordinary pass. All run in
turn in every round; figures are medians of ratios over rounds:

    warm         one knockout at all positions, with the residuals of an earlier pass / one hooked pass
    warm, last   the same at the last position, with keys and values as well
    cold         only the documents, one knockout and 5 controls / 7 passes
    16 at once   16 knockouts of the same documents with 2 x 5 controls, without earlier results / one of them

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.case import Shape, classifier_of, make_case, scaled, texts
from benchmarks.environments import WORK
from benchmarks.machine import machine, rounded
from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout.forward import FeatureAblation, run_feature_ablations
from tegakari.models.architecture import block_output
from tegakari.models.classifier import Classifier
from tegakari.models.rerun.ablate_features import rerun
from tegakari.models.rerun.edits import Edit, edited_rows
from tegakari.models.rerun.prefix import run_model, run_prefix
from tegakari.models.sae import Sae
from tegakari.models.sae_formats import load_saes
from tegakari.models.tokens import Batch
from tegakari.schemas.knockout import LayerFeature
from tegakari.schemas.progress import NoProgress

FEATURES = 20
DRAWS = 5
CONCURRENT = 16
WARM_REPEATS = 5

console = Console(width=120)


class Round(NamedTuple):
    """Seconds of one round."""

    plain: float
    """one ordinary pass"""
    hooked: float
    """one pass with a hook at all positions"""
    hooked_last: float
    naive_cold: float
    warm: float
    warm_last: float
    cold: float
    one: float
    at_once: float


def naive(classifier: Classifier, sae: Sae, batch: Batch, edit: Edit) -> Tensor:
    """Logits of the whole model with a hook that makes the edit, float32 [B, labels]."""
    rows = batch.positions if edit.positions == "all" else batch.positions[batch.offsets[1:] - 1]

    def hook(_module: nn.Module, _inputs: object, output: object) -> Tensor:
        hidden = block_output(output).clone()
        flat = hidden.view(-1, hidden.shape[-1])
        flat[rows] = edited_rows(flat[rows], sae, edit, classifier.dtype).rows
        return hidden

    handle = classifier.blocks[edit.layer].register_forward_hook(hook)
    try:
        with torch.inference_mode():
            return run_model(classifier, batch.input_ids, batch.attention_mask)
    finally:
        handle.remove()


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Median seconds of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


class Bench:
    """A classifier, the SAE of one layer, and documents as one batch."""

    def __init__(self, classifier: Classifier, sae: Sae, layer: int, documents: list[str]) -> None:
        self.classifier, self.sae, self.layer, self.texts = classifier, sae, layer, documents
        self.batch = classifier.batch(classifier.tokenize(documents))
        active = torch.arange(sae.d_sae)
        generator = torch.Generator().manual_seed(0)
        self.sets = [
            tuple(active[torch.randperm(sae.d_sae, generator=generator)[:FEATURES]].tolist())
            for _ in range(CONCURRENT * (1 + 2 * DRAWS))
        ]

    def edit(self, number: int, positions: str = "all") -> Edit:
        return Edit(self.layer, self.sets[number], positions="head" if positions == "head" else "all")

    def naive_cold(self) -> None:
        with torch.inference_mode():
            run_model(self.classifier, self.batch.input_ids, self.batch.attention_mask)
        for number in range(1 + DRAWS):
            naive(self.classifier, self.sae, self.batch, self.edit(number))

    def cold(self) -> None:
        prefix = run_prefix(self.classifier, self.batch, [self.layer])
        rerun(self.classifier, {self.layer: self.sae}, prefix, [[self.edit(number)] for number in range(1 + DRAWS)])

    def removals(self, first: int, count: int) -> None:
        """Run knockouts without results of earlier passes."""
        sets = [
            FeatureAblation(
                tuple(LayerFeature(self.layer, feature) for feature in features),
                "error_preserving",
                "all",
                (self.layer,),
            )
            for features in self.sets[first : first + count]
        ]
        run_feature_ablations(RunModels(self.classifier, {self.layer: self.sae}), self.texts, sets, NoProgress())

    def round(self) -> Round:
        saes = {self.layer: self.sae}
        prefix = run_prefix(self.classifier, self.batch, [self.layer], keys_above=self.layer)
        run = self.classifier, saes, prefix
        removals = 1 + 2 * DRAWS
        with torch.inference_mode():
            plain = seconds(lambda: run_model(self.classifier, self.batch.input_ids, self.batch.attention_mask))
        return Round(
            plain=plain,
            hooked=seconds(lambda: naive(self.classifier, self.sae, self.batch, self.edit(0))),
            warm=seconds(lambda: rerun(*run, [[self.edit(0)]]), WARM_REPEATS),
            hooked_last=seconds(lambda: naive(self.classifier, self.sae, self.batch, self.edit(0, "head"))),
            warm_last=seconds(lambda: rerun(*run, [[self.edit(0, "head")]]), WARM_REPEATS),
            naive_cold=seconds(self.naive_cold),
            cold=seconds(self.cold),
            one=seconds(lambda: self.removals(0, removals)),
            at_once=seconds(lambda: self.removals(0, CONCURRENT * removals)),
        )

    def largest_difference(self) -> float:
        """Largest difference of logits from those of the hooked pass, for both kinds of positions."""
        prefix = run_prefix(self.classifier, self.batch, [self.layer], keys_above=self.layer)
        differences = []
        for positions in ("all", "head"):
            edit = self.edit(0, positions)
            logits = rerun(self.classifier, {self.layer: self.sae}, prefix, [[edit]])[0]
            differences.append(float((logits - naive(self.classifier, self.sae, self.batch, edit)).abs().max()))
        return max(differences)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Knockouts against re-running the whole model with a hook.")
    parser.add_argument("--layers", type=int, default=Shape().layers)
    parser.add_argument("--d-model", type=int, default=Shape().d_model, help="all widths follow")
    parser.add_argument("--documents", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="keep the models for the next run")
    parser.add_argument("--work", type=Path, default=WORK, help="directory for the models")
    options = parser.parse_args(arguments)
    shape = scaled(options.layers, options.d_model)
    layer = max(0, options.layers - 2)
    root = options.work.resolve() / f"knockout-{options.layers}x{options.d_model}-{options.documents}"
    config = make_case(root, shape, options.documents, labels=2, layers=[layer])
    classifier = classifier_of(config)
    sae = load_saes(Path(config.saes.path))[layer].to(classifier.device)
    bench = Bench(classifier, sae, layer, texts(config))
    difference = bench.largest_difference()
    rounds = [bench.round() for _ in range(options.repeats)]

    def ratio(top: str, bottom: str) -> float:
        return statistics.median(getattr(round_, top) / getattr(round_, bottom) for round_ in rounds)

    figures = {
        "naive_over_warm": ratio("hooked", "warm"),
        "naive_over_cold": ratio("naive_cold", "cold"),
        "naive_over_warm_last": ratio("hooked_last", "warm_last"),
        "max_logit_difference": difference,
        "concurrent16_over_one": ratio("at_once", "one"),
    }
    table = Table("figure", "value", title=f"Knockout at layer {layer} of {options.layers}, {FEATURES} features")
    for name, value in figures.items():
        table.add_row(name, f"{value:.3g}")
    for name in Round._fields:
        table.add_row(f"{name}, s", f"{statistics.median(getattr(round_, name) for round_ in rounds):.3f}")
    console.print(table)
    if not options.keep:
        shutil.rmtree(root)
    result = {**rounded(figures), "max_logit_difference": difference}
    details = {
        "layers": options.layers,
        "d_model": options.d_model,
        "tokens": int(bench.batch.attention_mask.sum()),
        "dtype": str(classifier.dtype).removeprefix("torch."),
        "plain_s": statistics.median(round_.plain for round_ in rounds),
    }
    print(json.dumps({**result, **rounded(details), **machine()}))


if __name__ == "__main__":
    sys.exit(main())
